//! Whether a node is up although its speaker is silent: its kernel answers for its own address.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::wire::arp::{self, Operation};
use metallb_l2::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Frame};
use metallb_l2::wire::ndp::{self, Message};
use metallb_l2::{InterfaceIndex, Link, MacAddr};
use metallb_sansio::Instant;

use crate::talk::LinkFacts;

/// How often a node is asked.
const EVERY: Duration = Duration::from_millis(30);
/// A node that has not answered once for so long, while it was asked, is gone.
const NEVER_ANSWERED: Duration = Duration::from_millis(200);
/// One that has answered before is gone after so long.
const NO_LONGER_ANSWERS: Duration = Duration::from_millis(400);
/// Evidence of so long ago counts when the speaker is found dead: probing begins with suspicion, so there has been time.
const AT_VERDICT: Duration = Duration::from_millis(150);
/// By how much our own timer may be late before it is our own stall, and no evidence.
const STALL: Duration = Duration::from_millis(40);

#[derive(Clone, Debug)]
struct Probed {
    since: Instant,
    /// When each hardware address of it last answered.
    answered: BTreeMap<MacAddr, Instant>,
}

impl Probed {
    fn silent_for(&self, now: Instant) -> Duration {
        let last = self.answered.values().max().copied();
        now - last.unwrap_or(self.since).max(self.since)
    }

    fn is_silent(&self, now: Instant, mac: MacAddr, at_verdict: bool) -> bool {
        let last = self.answered.get(&mac).copied();
        let silent = now - last.unwrap_or(self.since).max(self.since);
        silent >= patience(last.is_some(), at_verdict)
    }
}

/// How long silence is borne.
const fn patience(answered: bool, at_verdict: bool) -> Duration {
    match (at_verdict, answered) {
        (true, _) => AT_VERDICT,
        (false, true) => NO_LONGER_ANSWERS,
        (false, false) => NEVER_ANSWERED,
    }
}

/// The nodes that are asked, and what they answered.
///
/// IPv4: an ARP probe (RFC 5227 1.1, sender address zero) for the node's own address, sent to its hardware address: the kernel
/// answers whatever process hangs, and nobody learns anything wrong. IPv6: a unicast solicitation for the node's own or its
/// link-local address.
#[derive(Default)]
pub(crate) struct NodeProbe {
    asked: BTreeMap<NodeName, Probed>,
    next: Option<Instant>,
}

impl NodeProbe {
    /// Asks exactly these from now on.
    pub(crate) fn want(&mut self, now: Instant, nodes: &BTreeSet<NodeName>) {
        self.asked.retain(|name, _| nodes.contains(name));
        for name in nodes {
            if !self.asked.contains_key(name) {
                let fresh = Probed {
                    since: now,
                    answered: BTreeMap::new(),
                };
                self.asked.insert(Arc::clone(name), fresh);
                self.next = Some(now);
            }
        }
        if self.asked.is_empty() {
            self.next = None;
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The nodes to ask now. A stall of ours is no evidence against anybody.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<NodeName> {
        let Some(due) = self.next.filter(|due| *due <= now) else {
            return Vec::new();
        };
        let late = now - due;
        if late > STALL {
            for probed in self.asked.values_mut() {
                probed.since = now;
            }
        }
        self.next = (!self.asked.is_empty()).then_some(now + EVERY);
        self.asked.keys().cloned().collect()
    }

    /// Whether the node, whose speaker was found dead just now, is to be held for gone at once.
    pub(crate) fn gone_at_verdict(&self, now: Instant, node: &str) -> bool {
        self.asked
            .get(node)
            .is_some_and(|probed| probed.silent_for(now) >= AT_VERDICT)
    }

    /// The nodes that have been silent for so long that they are gone.
    pub(crate) fn gone(&self, now: Instant) -> Vec<NodeName> {
        let gone = self
            .asked
            .iter()
            .filter(|(_, probed)| probed.silent_for(now) >= patience(!probed.answered.is_empty(), false));
        gone.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Those of the hardware addresses of a node under which it does not answer, while it is asked. `at_verdict`: its speaker
    /// was found dead just now.
    pub(crate) fn silent(
        &self,
        now: Instant,
        node: &str,
        macs: &[MacAddr],
        at_verdict: bool,
    ) -> Vec<MacAddr> {
        let Some(probed) = self.asked.get(node) else {
            return Vec::new();
        };
        let silent = macs.iter().filter(|mac| probed.is_silent(now, **mac, at_verdict));
        silent.copied().collect()
    }

    pub(crate) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// A frame of this node was heard: is it an answer of its kernel?
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        node: &str,
        ip: Option<IpAddr>,
        links: &[LinkFacts],
        bytes: &[u8],
    ) {
        let Some(probed) = self.asked.get_mut(node) else {
            return;
        };
        let Ok(frame) = Frame::new_checked(bytes) else {
            return;
        };
        let answers = match frame.ethertype() {
            ETHERTYPE_ARP => {
                arp::Repr::parse(frame.payload()).is_ok_and(|packet| Some(IpAddr::V4(packet.sender_ip)) == ip)
            }
            ETHERTYPE_IPV6 => match ndp::Repr::parse(frame.payload()).map(|packet| packet.message) {
                Ok(Message::Advertisement { target, .. }) => {
                    Some(IpAddr::V6(target)) == ip || links.iter().any(|link| link.link_local == Some(target))
                }
                _ => false,
            },
            _ => false,
        };
        if answers {
            probed.answered.insert(frame.source(), now);
        }
    }
}

/// The frames that ask a node of which nothing but its address is known.
pub(crate) fn broadcast_questions(
    ip: IpAddr,
    ours: &BTreeMap<InterfaceIndex, Link>,
) -> Vec<(InterfaceIndex, Vec<u8>)> {
    let carrying = ours.iter().filter(|(_, link)| link.carries(ip));
    carrying
        .map(|(index, link)| (*index, metallb_l2::question(ip, link)))
        .collect()
}

/// The address that a frame says its sender has, and the hardware address.
pub(crate) fn sender(bytes: &[u8]) -> Option<(IpAddr, MacAddr)> {
    let frame = Frame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        ETHERTYPE_ARP => {
            let packet = arp::Repr::parse(frame.payload()).ok()?;
            Some((packet.sender_ip.into(), packet.sender_mac))
        }
        ETHERTYPE_IPV6 => match ndp::Repr::parse(frame.payload()).ok()?.message {
            Message::Advertisement {
                target, target_mac, ..
            } => Some((target.into(), target_mac.unwrap_or(frame.source()))),
            Message::Solicitation { .. } => None,
        },
        _ => None,
    }
}

/// The frames that ask a node, whose links are `theirs` and that is believed to have `ip`, over our links.
///
/// On each of our links it is asked under the hardware address heard there, or under each that it has.
pub(crate) fn questions(
    ip: Option<IpAddr>,
    theirs: &[LinkFacts],
    heard_on: &BTreeMap<InterfaceIndex, MacAddr>,
    ours: &BTreeMap<InterfaceIndex, Link>,
) -> Vec<(InterfaceIndex, Vec<u8>)> {
    let mut frames = Vec::new();
    for (index, link) in ours {
        let heard = heard_on.get(index);
        for their in theirs
            .iter()
            .filter(|their| heard.is_none_or(|mac| *mac == their.mac))
        {
            if let (true, Some(IpAddr::V4(target_ip))) = (link.arp, ip) {
                let probe = arp::Repr {
                    operation: Operation::Request,
                    sender_mac: link.mac,
                    sender_ip: Ipv4Addr::UNSPECIFIED,
                    target_mac: MacAddr::ZERO,
                    target_ip,
                };
                frames.push((*index, probe.emit(their.mac)));
            }
            let target = match ip {
                Some(IpAddr::V6(ip)) => Some(ip),
                _ => their.link_local,
            };
            if let (Some(source), Some(target)) = (link.link_local, target) {
                let solicitation = ndp::Repr {
                    source,
                    destination: target,
                    message: Message::Solicitation {
                        target,
                        source_mac: Some(link.mac),
                    },
                };
                frames.push((*index, solicitation.emit(their.mac, link.mac)));
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_what_was_heard_before_and_not_by_our_own_sleep() {
        let node: NodeName = "n1".into();
        let mut probe = NodeProbe::default();
        let at = Instant::from_millis;
        probe.want(at(1_000), &[Arc::clone(&node)].into());
        assert_eq!(probe.tick(at(1_000)), [Arc::clone(&node)]);
        assert!(!probe.gone_at_verdict(at(1_140), "n1") && probe.gone_at_verdict(at(1_150), "n1"));
        assert!(probe.gone(at(1_190)).is_empty() && probe.gone(at(1_200)).len() == 1);

        let ip = IpAddr::from([192, 0, 2, 1]);
        let reply = arp::Repr {
            operation: Operation::Reply,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            target_ip: Ipv4Addr::UNSPECIFIED,
        };
        probe.hear(
            at(1_300),
            "n1",
            Some(ip),
            &[],
            &reply.emit(MacAddr([2, 0, 0, 0, 0, 2])),
        );
        assert!(probe.gone(at(1_690)).is_empty() && probe.gone(at(1_700)).len() == 1);
        assert!(!probe.gone_at_verdict(at(1_440), "n1") && probe.gone_at_verdict(at(1_450), "n1"));

        let macs = [1, 2].map(|n| MacAddr([2, 0, 0, 0, 0, n]));
        assert_eq!(probe.silent(at(1_440), "n1", &macs, true), [macs[1]]);
        assert_eq!(probe.silent(at(1_700), "n1", &macs, false), macs);
        probe.tick(at(2_500));
        assert!(probe.gone(at(2_600)).is_empty(), "we slept");
        probe.want(at(2_600), &BTreeSet::new());
        assert_eq!((probe.poll_timeout(), probe.is_asking()), (None, false));
    }
}
