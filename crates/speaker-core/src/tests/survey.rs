//! What the LAN bears of the questions to nodes whose kernels answer nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use metallb_l2::wire::ethernet::Frame;
use metallb_l2::{Link, MacAddr};
use metallb_sansio::{Instant, Machine as _};

use super::engine::{drain, engine, plan, ranked, tell};
use crate::talk::{Facts, LinkFacts};
use crate::{Engine, Input, Output};

const LINKS: u8 = 10;
/// Each link is asked for its own address and for the node's.
const TARGETS: usize = 2;

fn their_mac(of: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, of])
}

/// An engine with ten links that takes the place of a node with ten links, which have not been heard.
fn deputy() -> Engine {
    let mut engine = engine(ranked()[1]);
    for n in 1..LINKS {
        let link = Link {
            name: format!("eth{n}").into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1 + n]),
            arp: true,
            link_local: None,
        };
        engine.handle(Instant::ZERO, Input::LinkUp(1 + u32::from(n), link));
    }
    tell(&mut engine, "web", Some(plan(&["n1", "n2", "n3"], None)));
    let links = (0..LINKS).map(|n| LinkFacts {
        name: format!("eth{n}").into(),
        mac: their_mac(n),
        arp: true,
        link_local: None,
        addresses: vec![[198, 51, 100, n].into()],
    });
    let facts = Facts {
        number: 1,
        links: links.collect(),
        ..Facts::default()
    };
    assert!(engine.neighbours.learn_of(&ranked()[0].into(), facts));
    drain(&mut engine);
    engine.watch_again = true;
    engine.follow_watch(Instant::ZERO);
    engine
}

/// What is asked until then: when, on which interface, and under which hardware address.
fn asked(engine: &mut Engine, until: Duration) -> Vec<(Duration, u32, MacAddr)> {
    let mut all = Vec::new();
    while let Some(at) = engine
        .survey
        .poll_timeout()
        .filter(|at| *at - Instant::ZERO <= until)
    {
        engine.survey_links(at);
        while let Some(output) = engine.poll_output() {
            if let Output::Frame { interface, frame } = output {
                let to = Frame::new_checked(&frame).expect("a frame").destination();
                all.push((at - Instant::ZERO, interface, to));
            }
        }
    }
    all
}

#[test]
fn links_that_never_answer_cost_little() {
    let mut engine = deputy();
    let asked = asked(&mut engine, Duration::from_secs(3_600));
    let links = usize::from(LINKS);
    let burst = asked.iter().filter(|(at, ..)| *at < Duration::from_secs(2));
    assert_eq!(
        burst.count(),
        8 * links * TARGETS,
        "eight times, where the names say"
    );
    let times: BTreeSet<Duration> = asked.iter().map(|(at, ..)| *at).collect();
    let pauses: Vec<u64> = times
        .iter()
        .zip(times.iter().skip(1))
        .map(|(before, after)| after.saturating_sub(*before).as_secs())
        .filter(|seconds| *seconds > 0)
        .collect();
    assert_eq!(pauses[..7], [10, 20, 40, 80, 160, 300, 300]);
    assert!(pauses[7..].iter().all(|seconds| *seconds == 300), "{pauses:?}");
}

#[test]
fn a_link_that_is_not_where_its_name_says_is_looked_for() {
    let mut engine = deputy();
    let asked = asked(&mut engine, Duration::from_secs(60));
    for n in 0..LINKS {
        let on = asked.iter().filter(|(_, _, to)| *to == their_mac(n));
        let on: BTreeSet<u32> = on.map(|(_, interface, _)| *interface).collect();
        assert_eq!(on, (1..=u32::from(LINKS)).collect(), "eth{n}");
    }
}
