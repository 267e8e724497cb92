//! Conflicts that last: the other station does not speak by itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use super::announcer::{drain, link, mac};
use crate::wire::arp::{self, Repr};
use crate::wire::ethernet::Frame;
use crate::wire::ndp::{self, Message};
use crate::{Announcer, ConflictPolicy, Entry, Input, Interfaces, MacAddr, Output};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const START: Instant = Instant::from_millis(10_000);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));

/// What the stranger answers when it has the address.
fn answer(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => Repr::announcement_reply(ip, STRANGER).emit(mac(1)),
        IpAddr::V6(target) => {
            let to = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            let message = Message::Advertisement {
                target,
                target_mac: Some(STRANGER),
                solicited: true,
                overrides: true,
            };
            ndp::Repr {
                source: target,
                destination: to,
                message,
            }
            .emit(mac(1), STRANGER)
        }
    }
}

/// The address that a frame asks for, when it is a question that undoes no announcement: an ARP probe, or a solicitation by a
/// link itself.
fn asked(frame: &[u8]) -> Option<IpAddr> {
    let frame = Frame::new_checked(frame).expect("a frame");
    if let Ok(packet) = Repr::parse(frame.payload()) {
        let probe = packet.operation == arp::Operation::Request && packet.sender_ip.is_unspecified();
        return probe.then_some(packet.target_ip.into());
    }
    let packet = ndp::Repr::parse(frame.payload()).expect("ARP or neighbour discovery");
    match packet.message {
        Message::Solicitation { target, .. } if packet.source.is_unicast_link_local() => Some(target.into()),
        _ => None,
    }
}

/// An announcer with one link that owns these addresses, its announcing over.
fn owner(policy: ConflictPolicy, addresses: &[IpAddr]) -> Announcer {
    let mut a = Announcer::with_policy(policy);
    a.handle(Instant::ZERO, Input::LinkUp(1, link(1)));
    for address in addresses {
        let own = Input::Own {
            address: *address,
            interfaces: Interfaces::All,
            entry: Entry::Announce,
        };
        a.handle(Instant::ZERO, own);
    }
    super::announcer::run_out(&mut a);
    a
}

/// What an announcer did until `end`, when the stranger answers for everything until `gone`.
#[derive(Default)]
struct Seen {
    /// When each address was asked for.
    asked: BTreeMap<IpAddr, Vec<Instant>>,
    /// When each claim was told.
    told: BTreeMap<IpAddr, Vec<Instant>>,
    /// Frames that were no questions.
    others: usize,
}

fn live(a: &mut Announcer, gone: Instant, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut note = |a: &mut Announcer, now: Instant| {
        let mut answers = Vec::new();
        while let Some(output) = a.poll_output() {
            match output {
                Output::Send { frame, .. } => match asked(&frame) {
                    Some(address) => {
                        seen.asked.entry(address).or_default().push(now);
                        answers.push(answer(address));
                    }
                    None => seen.others += 1,
                },
                Output::ForeignClaim(claim) => seen.told.entry(claim.address).or_default().push(now),
                other => panic!("{other:?}"),
            }
        }
        answers
    };
    let mut now = a.now;
    loop {
        for answer in note(a, now) {
            if now < gone {
                a.handle_frame(1, &answer);
            }
        }
        note(a, now);
        let Some(at) = a.poll_timeout().filter(|at| *at <= end) else {
            break;
        };
        now = at;
        a.handle_timeout(at);
    }
    seen
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_conflict_is_known_as_long_as_the_other_has_the_address() {
    for policy in [ConflictPolicy::Warn, ConflictPolicy::Defend] {
        for address in [V4, V6] {
            let mut a = owner(policy, &[address]);
            a.set_now(START);
            a.handle_frame(1, &answer(address));
            let gone = START + seconds(600);
            let seen = live(&mut a, gone, gone);
            let asked = &seen.asked[&address];
            let pauses = asked.windows(2).map(|two| two[1] - two[0]);
            for pause in pauses.chain([asked[0] - START]) {
                assert!(pause >= seconds(15) && pause <= seconds(20), "{pause:?}");
            }
            assert_eq!(a.conflicts(gone).collect::<Vec<_>>(), [(address, STRANGER)]);
            assert!(seen.told[&address].len() > 30, "whoever tells it is told");
            if policy == ConflictPolicy::Warn {
                assert_eq!(seen.others, 0, "{address}: nothing but questions");
            }

            // The stranger goes: nobody answers.
            let over = gone + seconds(61);
            let seen = live(&mut a, gone, over);
            assert_eq!((seen.told.len(), seen.others), (0, 0));
            assert_eq!(a.conflicts(over).count(), 0);
            let seen = live(&mut a, gone, over + seconds(100));
            assert!(
                seen.asked.is_empty() && a.poll_timeout().is_none(),
                "nobody is asked for ever"
            );
        }
    }
}

#[test]
fn an_address_that_is_given_up_is_not_asked_for() {
    let mut a = owner(ConflictPolicy::Warn, &[V4]);
    a.set_now(START);
    a.handle_frame(1, &answer(V4));
    drain(&mut a);
    a.handle(START + seconds(1), Input::Disown(V4));
    assert_eq!(a.poll_timeout(), None);
}

/// The questions about many are spread, and there are not more than needed.
#[test]
fn many_conflicts_cost_little() {
    let addresses: Vec<IpAddr> = (0..1_000_u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            Ipv4Addr::new(198, 51, high, low).into()
        })
        .collect();
    let mut a = owner(ConflictPolicy::Warn, &addresses);
    a.set_now(START);
    for address in &addresses {
        a.handle_frame(1, &answer(*address));
    }
    let end = START + seconds(300);
    let seen = live(&mut a, end, end);
    assert_eq!(a.conflicts(end).count(), 1_000, "all are known");
    let all: Vec<Instant> = seen.asked.values().flatten().copied().collect();
    assert!(all.len() <= 1_000 * 300 / 15, "{}", all.len());
    let mut by_time: BTreeMap<u64, usize> = BTreeMap::new();
    for at in all {
        *by_time.entry(at.as_millis() / 100).or_default() += 1;
    }
    let most = by_time.values().max().copied().unwrap_or_default();
    assert!(most <= 50, "{most} questions within a tenth of a second");
}
