//! Stations outside the cluster that have an address of ours while a listed node was never heard.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use metallb_l2::wire::arp::{Operation, Repr};
use metallb_l2::wire::ethernet::Frame;
use metallb_l2::{ConflictPolicy, MacAddr};
use metallb_sansio::{Instant, Machine};

use super::engine::{address, engine_with, key, plan, ranked};
use crate::{Directive, Engine, Input, Options, Output};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
/// The addresses of all peers in these tests.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The address that an ARP request asks for.
fn asked(frame: &[u8]) -> Option<Ipv4Addr> {
    let packet = Repr::parse(Frame::new_checked(frame).expect("frame").payload()).expect("ARP");
    (packet.operation == Operation::Request && packet.sender_ip != packet.target_ip)
        .then_some(packet.target_ip)
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

/// Lets the engine, which owns the address and probes for it, live until `end`; `answer`: who answers which questions with
/// what hardware address, by time in ms. What it made known, and when it asked for the nodes.
fn live(
    engine: &mut Engine,
    end: Instant,
    mut answer: impl FnMut(u64, Ipv4Addr) -> Option<MacAddr>,
) -> (Vec<(u64, Output)>, Vec<u64>) {
    let (mut made_known, mut nodes_asked) = (Vec::new(), Vec::new());
    loop {
        let Some(now) = engine.poll_timeout().filter(|at| *at <= end) else {
            return (made_known, nodes_asked);
        };
        engine.handle_timeout(now);
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Frame { frame, .. } => {
                    let Some(target) = asked(&frame) else { continue };
                    if target == NODE {
                        nodes_asked.push(now.as_millis());
                    }
                    if let Some(mac) = answer(now.as_millis(), target) {
                        let reply = Repr::announcement_reply(target, mac).emit(MacAddr([2, 0, 0, 0, 0, 1]));
                        engine.handle_frame(now, 1, &reply);
                    }
                }
                Output::ForeignClaim(_) | Output::Probed { .. } => {
                    made_known.push((now.as_millis(), output));
                }
                _ => {}
            }
        }
    }
}

fn owner() -> Engine {
    let options = Options {
        conflicts: ConflictPolicy::Block,
        listen_before_probing: Duration::ZERO,
        ..Options::default()
    };
    let mut engine = engine_with(ranked()[0], options);
    let directive = Directive {
        service: key("web"),
        plan: Some(plan(&[ranked()[0]], None)),
        version: 0,
    };
    engine.handle(Instant::ZERO, Input::Directive(directive));
    engine
}

/// The nodes are down and say nothing, and the stranger answers one question only.
#[test]
fn the_only_answer_of_a_stranger_is_heeded_although_a_node_was_never_heard() {
    let mut engine = owner();
    let mut answered = false;
    let (made_known, nodes_asked) = live(&mut engine, Instant::from_millis(3_000), |_, target| {
        let first = target == v4(address()) && !std::mem::replace(&mut answered, true);
        first.then_some(STRANGER)
    });
    let [
        (claimed, Output::ForeignClaim(claim)),
        (ended, Output::Probed { taken_by, .. }),
    ] = &made_known[..]
    else {
        panic!("{made_known:?}")
    };
    assert_eq!((claim.mac, *taken_by), (STRANGER, Some(STRANGER)));
    assert_eq!(claimed, ended);
    assert!((1_000..=1_400).contains(claimed), "{claimed} ms");
    let while_in_doubt = nodes_asked.iter().filter(|at| *at < claimed).count();
    assert!(while_in_doubt >= 3, "{nodes_asked:?}");
    assert!(
        nodes_asked.windows(2).all(|two| two[1] - two[0] >= 200),
        "{nodes_asked:?}"
    );
}

/// It was a node after all: its kernel says so, and the address is announced.
#[test]
fn a_node_that_was_never_heard_is_known_by_its_kernels_answer() {
    let mut engine = owner();
    let (made_known, _) = live(&mut engine, Instant::from_millis(3_000), |now, target| {
        let of_ours = target == v4(address());
        (of_ours || (target == NODE && now >= 600)).then_some(STRANGER)
    });
    let [(ended, Output::Probed { taken_by: None, .. })] = &made_known[..] else {
        panic!("{made_known:?}")
    };
    assert!((600..=900).contains(ended), "{ended} ms");
    assert_eq!(
        engine.announcer().conflicts(Instant::from_millis(3_000)).count(),
        0
    );
}
