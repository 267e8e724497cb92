//! When frames are sent: probing at its full length, and the refresh.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use super::announcer::{ADDRESS, drain, frames, link};
use crate::wire::ethernet::Frame;
use crate::{Announcer, Entry, Input, Interfaces, Output, Probing};

fn own(a: &mut Announcer, now: Instant, address: Ipv4Addr, entry: Entry) {
    let own = Input::Own {
        address: address.into(),
        interfaces: Interfaces::All,
        entry,
    };
    a.handle(now, own);
}

fn linked(mut a: Announcer, last: u8) -> Announcer {
    a.handle(Instant::ZERO, Input::LinkUp(1, link(last)));
    a
}

/// RFC 5227 2.1.1: a wait of up to 1 s, three probes 1 to 2 s apart, 2 s of silence, then the announcement.
#[test]
fn full_probing_takes_the_times_of_the_standard_and_no_two_nodes_the_same() {
    let mut first = Vec::new();
    for node in 1..=20 {
        let mut a = linked(Announcer::new().with_probing(Probing::Full), node);
        own(&mut a, Instant::ZERO, ADDRESS, Entry::Probe);
        let (mut probes, mut done) = (Vec::new(), None);
        while done.is_none() {
            let at = a.poll_timeout().expect("not done yet");
            a.handle_timeout(at);
            for output in drain(&mut a) {
                match output {
                    Output::Send { .. } if done.is_none() => probes.push(at.as_millis()),
                    Output::Probed { taken_by: None, .. } => done = Some(at.as_millis()),
                    _ => {}
                }
            }
        }
        let [one, two, three] = probes[..] else {
            panic!("{probes:?}")
        };
        assert!(one <= 1_000, "{probes:?}");
        for gap in [two - one, three - two] {
            assert!((1_000..=2_000).contains(&gap), "{probes:?}");
        }
        assert_eq!(done, Some(three + 2_000));
        first.push(one);
    }
    first.sort_unstable();
    first.dedup();
    assert!(first.len() > 10, "{first:?}");
}

#[test]
fn without_probing_it_is_announced_at_once() {
    let mut a = linked(Announcer::new().with_probing(Probing::None), 1);
    own(&mut a, Instant::ZERO, ADDRESS, Entry::Probe);
    assert_eq!(frames(&drain(&mut a)).len(), 2);
}

/// Every address has its turn once in the interval, and no moment sees them all.
#[test]
fn the_refresh_goes_round_evenly() {
    const COUNT: u32 = 500;
    let every = Duration::from_secs(30);
    let mut a = linked(Announcer::new().with_refresh(every), 1);
    for n in 0..COUNT {
        let address = Ipv4Addr::from(u32::from(ADDRESS) + n);
        own(&mut a, Instant::ZERO, address, Entry::Announce);
    }
    // The announcements of the take-over are long over when the first turn comes.
    let start = Instant::ZERO + every;
    while a.poll_timeout().is_some_and(|at| at < start) {
        let at = a.poll_timeout().expect("set");
        a.handle_timeout(at);
        drain(&mut a);
    }
    let mut turns: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let mut most = 0;
    while let Some(at) = a.poll_timeout().filter(|at| *at < start + every * 2) {
        a.handle_timeout(at);
        let sent = drain(&mut a);
        most = most.max(sent.len());
        for output in sent {
            let Output::Send { frame, .. } = output else {
                panic!("{output:?}")
            };
            let packet = Frame::new_checked(&frame).expect("a frame").payload();
            let packet = crate::wire::arp::Repr::parse(packet).expect("ARP");
            *turns.entry(packet.sender_ip.into()).or_default() += 1;
        }
    }
    assert_eq!(turns.len(), COUNT as usize);
    // Request and reply, two rounds; one turn more or less at the edges.
    assert!(turns.values().all(|frames| (2..=6).contains(frames)), "{turns:?}");
    assert!(most <= 4, "{most} frames at once");

    for n in 0..COUNT {
        a.handle(
            start,
            Input::Disown(Ipv4Addr::from(u32::from(ADDRESS) + n).into()),
        );
    }
    while let Some(at) = a.poll_timeout() {
        a.handle_timeout(at);
    }
    assert_eq!(drain(&mut a), vec![], "nothing owned, nothing to do");
}
