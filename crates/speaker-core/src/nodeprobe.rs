//! Whether a node is up although its speaker is silent: its kernel answers for its own address.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_sansio::Instant;

use crate::ask::{Question, Reach};

/// How often a node is asked.
const EVERY: Duration = Duration::from_millis(30);
/// One in so many questions goes to a link that was never heard wherever it may be, and the others where it is likely to be. Two of
/// them fit into the time after which a node is gone that has not answered once.
const ANYWHERE: u8 = 4;
/// A node that has not answered once for so long, while it was asked, is gone.
const NEVER_ANSWERED: Duration = Duration::from_millis(200);
/// One that has answered before is gone after so long.
const NO_LONGER_ANSWERS: Duration = Duration::from_millis(400);
/// Evidence of so long ago counts when the speaker is found dead: probing begins with suspicion, so there has been time.
const AT_VERDICT: Duration = Duration::from_millis(150);
/// By how much our own timer may be late before it is our own stall, and no evidence.
const STALL: Duration = Duration::from_millis(40);

/// A hardware address under which a node is asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Instant,
    /// Among other things for an address of that very link.
    own: bool,
}

#[derive(Clone, Debug)]
struct Probed {
    since: Instant,
    /// How often it was asked, modulo [`ANYWHERE`].
    round: u8,
    asked: BTreeMap<MacAddr, Asked>,
    /// Those under which its kernel answered.
    answered: BTreeSet<MacAddr>,
    /// When any frame of each was last heard: somebody up there sends.
    heard: BTreeMap<MacAddr, Instant>,
}

impl Probed {
    fn silent_for(&self, now: Instant) -> Duration {
        let last = self.heard.values().max().copied();
        now - last.unwrap_or(self.since).max(self.since)
    }

    fn is_silent(&self, now: Instant, mac: MacAddr, asked: Asked, at_verdict: bool) -> bool {
        let last = self.heard.get(&mac).copied();
        let silent = now - last.unwrap_or(asked.since).max(asked.since);
        silent >= patience(self.answered.contains(&mac), at_verdict)
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
                    round: 0,
                    asked: BTreeMap::new(),
                    answered: BTreeSet::new(),
                    heard: BTreeMap::new(),
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
                for asked in probed.asked.values_mut() {
                    asked.since = now;
                }
            }
        }
        self.next = (!self.asked.is_empty()).then_some(now + EVERY);
        self.asked.keys().cloned().collect()
    }

    /// Where the node is to be asked now.
    pub(crate) fn reach(&self, node: &str) -> Reach {
        match self.asked.get(node) {
            Some(probed) if probed.round > 0 => Reach::Likely,
            _ => Reach::Anywhere,
        }
    }

    /// These questions go out to a node. What was not asked is not silent.
    pub(crate) fn asks(&mut self, now: Instant, node: &str, questions: &[Question]) {
        let Some(probed) = self.asked.get_mut(node) else {
            return;
        };
        let mut asked = BTreeMap::new();
        for question in questions {
            let since = probed.asked.get(&question.mac).map_or(now, |asked| asked.since);
            let entry = asked.entry(question.mac).or_insert(Asked { since, own: false });
            entry.own |= question.own;
        }
        probed.asked = asked;
        probed.round = (probed.round + 1) % ANYWHERE;
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

    /// The hardware addresses of a node under which it is asked and does not answer. `at_verdict`: its speaker was found
    /// dead just now. `answers` says of an address, and of whether it is asked for one of its own, whether it answers at all.
    pub(crate) fn silent(
        &self,
        now: Instant,
        node: &str,
        at_verdict: bool,
        answers: impl Fn(MacAddr, bool) -> bool,
    ) -> Vec<MacAddr> {
        let Some(probed) = self.asked.get(node) else {
            return Vec::new();
        };
        let silent = probed.asked.iter().filter(|(mac, asked)| {
            probed.is_silent(now, **mac, **asked, at_verdict) && answers(**mac, asked.own)
        });
        silent.map(|(mac, _)| *mac).collect()
    }

    pub(crate) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// A frame of this node was heard, perhaps an answer of its kernel.
    pub(crate) fn hear(&mut self, now: Instant, node: &str, mac: MacAddr, answers: bool) {
        if let Some(probed) = self.asked.get_mut(node) {
            probed.heard.insert(mac, now);
            if answers {
                probed.answered.insert(mac);
            }
        }
    }
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
        let macs = [1, 2].map(|n| MacAddr([2, 0, 0, 0, 0, n]));
        let questions = macs.map(|mac| Question {
            interface: 1,
            mac,
            own: mac == macs[0],
            frame: Vec::new(),
        });
        assert_eq!(probe.reach("n1"), Reach::Anywhere);
        probe.asks(at(1_000), "n1", &questions);
        assert_eq!(probe.reach("n1"), Reach::Likely);
        assert!(!probe.gone_at_verdict(at(1_140), "n1") && probe.gone_at_verdict(at(1_150), "n1"));
        assert!(probe.gone(at(1_190)).is_empty() && probe.gone(at(1_200)).len() == 1);

        probe.hear(at(1_300), "n1", macs[0], true);
        assert!(probe.gone(at(1_690)).is_empty() && probe.gone(at(1_700)).len() == 1);
        assert!(!probe.gone_at_verdict(at(1_440), "n1") && probe.gone_at_verdict(at(1_450), "n1"));

        assert_eq!(probe.silent(at(1_440), "n1", true, |_, _| true), [macs[1]]);
        assert_eq!(probe.silent(at(1_700), "n1", false, |_, _| true), macs);
        assert_eq!(
            probe.silent(at(1_700), "n1", false, |_, own| own),
            [macs[0]],
            "the other answers nobody"
        );
        probe.hear(at(1_710), "n1", macs[0], false);
        assert_eq!(
            probe.silent(at(1_720), "n1", false, |_, _| true),
            [macs[1]],
            "it sends"
        );
        assert!(probe.gone(at(2_100)).is_empty() && probe.gone(at(2_110)).len() == 1);
        probe.asks(at(1_730), "n1", &questions[..1]);
        assert_eq!(
            probe.silent(at(2_400), "n1", false, |_, _| true),
            [macs[0]],
            "no longer asked"
        );
        probe.tick(at(2_500));
        assert!(probe.gone(at(2_600)).is_empty(), "we slept");
        probe.want(at(2_600), &BTreeSet::new());
        assert_eq!((probe.poll_timeout(), probe.is_asking()), (None, false));
    }
}
