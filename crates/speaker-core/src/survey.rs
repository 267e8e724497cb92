//! Whether the kernels of other nodes answer at all under each of their hardware addresses, found out while their speakers live.
//!
//! A link that never answered (nothing configured there is answered for, or a firewall forbids it) is no evidence
//! against its node when it is silent later.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_sansio::Instant;

use crate::ask::{Question, Reach};
use crate::talk::LinkFacts;

/// How often a link is asked of which nothing is known yet.
const FIRST: Duration = Duration::from_millis(200);
/// So often without an answer it counts as one that gives none; with 30 % loss an answer to one of two questions gets through.
const UNANSWERED: u8 = 8;
/// After how long such a link is asked all the same; each time after twice as long. One that has answered is asked no more.
const LATER: Duration = Duration::from_secs(10);
const LATEST: Duration = Duration::from_secs(300);

/// A hardware address of a node, and its links as they were when it was asked: after a change it is asked anew.
#[derive(Clone, Debug)]
struct Found {
    links: Vec<LinkFacts>,
    answered: bool,
    asked: u8,
    due: Instant,
}

/// What was found out of whom.
#[derive(Default)]
pub(crate) struct Survey {
    asked: BTreeSet<NodeName>,
    found: BTreeMap<NodeName, BTreeMap<MacAddr, Found>>,
    next: Option<Instant>,
}

impl Found {
    /// Asks it now; when it is asked next.
    fn ask(&mut self, now: Instant) -> Instant {
        self.asked = self.asked.saturating_add(1);
        let wait = match self.asked.checked_sub(UNANSWERED) {
            None => FIRST,
            Some(over) => LATER.saturating_mul(1 << over.min(16)).min(LATEST),
        };
        self.due = now + wait;
        self.due
    }
}

/// The links of one hardware address.
fn of_mac(links: &[LinkFacts], mac: MacAddr) -> impl Iterator<Item = &LinkFacts> {
    links.iter().filter(move |link| link.mac == mac)
}

impl Survey {
    /// Asks exactly these from now on, whose speakers live; what they have or how we reach them may have changed. What others
    /// answered is kept while they are members, as their speakers may be away for a moment.
    pub(crate) fn want(
        &mut self,
        now: Instant,
        nodes: BTreeSet<NodeName>,
        is_member: impl Fn(&NodeName) -> bool,
    ) {
        self.found
            .retain(|node, _| nodes.contains(node) || is_member(node));
        self.asked = nodes;
        self.next = (!self.asked.is_empty()).then_some(now);
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether an answer may be news.
    pub(crate) fn is_asking(&self) -> bool {
        self.next.is_some()
    }

    /// The nodes to look at now: [`Survey::due`] tells which of their links to ask.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<NodeName> {
        if self.next.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        self.asked.iter().cloned().collect()
    }

    /// Whether there is nothing to ask: all links of a node have answered, or there is but one hardware address, whose silence
    /// is the node's.
    pub(crate) fn is_over(&self, node: &str, links: &[LinkFacts]) -> bool {
        links.windows(2).all(|pair| pair[0].mac == pair[1].mac)
            || links.iter().all(|link| {
                let found = self.of(node, link.mac);
                found.is_some_and(|found| found.answered && of_mac(links, link.mac).eq(&found.links))
            })
    }

    /// The hardware addresses of a node that are to be asked now, and where. The caller hands the questions that follow from
    /// that to [`Survey::asks`].
    ///
    /// The first questions go where a link is by all likelihood. Only the later ones, which are few, look for it anywhere.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        node: &NodeName,
        links: &[LinkFacts],
    ) -> BTreeMap<MacAddr, Reach> {
        let mut due = BTreeMap::new();
        if self.is_over(node, links) {
            return due;
        }
        let found = self.found.entry(Arc::clone(node)).or_default();
        found.retain(|mac, found| of_mac(links, *mac).eq(&found.links));
        for link in links {
            match found.get(&link.mac) {
                None => {
                    due.insert(link.mac, Reach::Likely);
                }
                Some(found) if found.answered => {}
                Some(found) if found.due <= now => {
                    let reach = if found.asked < UNANSWERED {
                        Reach::Likely
                    } else {
                        Reach::Anywhere
                    };
                    due.insert(link.mac, reach);
                }
                Some(found) => self.next = Some(self.next.map_or(found.due, |next| next.min(found.due))),
            }
        }
        due
    }

    /// These questions go out to a node. A link that can be asked nowhere waits for a change of the links.
    pub(crate) fn asks(
        &mut self,
        now: Instant,
        node: &NodeName,
        links: &[LinkFacts],
        questions: &[Question],
    ) {
        let found = self.found.entry(Arc::clone(node)).or_default();
        let asked: BTreeSet<MacAddr> = questions.iter().map(|question| question.mac).collect();
        for mac in asked {
            let found = found.entry(mac).or_insert_with(|| Found {
                links: of_mac(links, mac).cloned().collect(),
                answered: false,
                asked: 0,
                due: now,
            });
            let again = found.ask(now);
            self.next = Some(self.next.map_or(again, |next| next.min(again)));
        }
    }

    /// The kernel of a node answered from this hardware address.
    pub(crate) fn answered(&mut self, node: &str, mac: MacAddr) {
        if let Some(found) = self.found.get_mut(node).and_then(|found| found.get_mut(&mac)) {
            found.answered = true;
        }
    }

    fn of(&self, node: &str, mac: MacAddr) -> Option<&Found> {
        self.found.get(node)?.get(&mac)
    }

    /// Whether the silence of a link says something: it has answered before, or it was never asked for long and is
    /// `promising`, that is, has an address of its own.
    pub(crate) fn answers(&self, node: &str, mac: MacAddr, promising: bool) -> bool {
        match self.of(node, mac) {
            Some(found) if found.answered => true,
            Some(found) if found.asked >= UNANSWERED => false,
            _ => promising,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(last: u8) -> LinkFacts {
        LinkFacts {
            name: format!("eth{last}").into(),
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            arp: true,
            link_local: None,
            addresses: Vec::new(),
        }
    }

    fn question(mac: MacAddr) -> Question {
        Question {
            interface: 1,
            mac,
            own: false,
            frame: Vec::new(),
        }
    }

    /// When which links were asked until then, in milliseconds.
    fn run(survey: &mut Survey, node: &NodeName, links: &[LinkFacts], until: u64) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(at) = survey
            .poll_timeout()
            .filter(|at| *at <= Instant::from_millis(until))
        {
            assert_eq!(survey.tick(at), [Arc::clone(node)]);
            let due = survey.due(at, node, links);
            let asked: Vec<Question> = due.keys().map(|mac| question(*mac)).collect();
            survey.asks(at, node, links, &asked);
            all.push((
                at.as_millis(),
                asked.iter().map(|question| question.mac.0[5]).collect(),
            ));
        }
        all
    }

    #[test]
    fn links_are_asked_until_they_answer_and_seldom_when_they_do_not() {
        let node: NodeName = "n1".into();
        let mut survey = Survey::default();
        let links = [link(1), link(2)];
        let [one, two] = [links[0].mac, links[1].mac];
        survey.want(Instant::from_millis(1_000), [Arc::clone(&node)].into(), |_| true);
        assert_eq!(run(&mut survey, &node, &links, 1_000), [(1_000, vec![1, 2])]);
        let say = |survey: &Survey, mac| [false, true].map(|promising| survey.answers("n1", mac, promising));
        assert_eq!(say(&survey, one), [false, true], "not known yet");
        survey.answered("n1", one);
        assert_eq!(say(&survey, one), [true, true]);
        let asked = run(&mut survey, &node, &links, 30_000);
        let expected: Vec<u64> = (1..8).map(|n| 1_000 + n * 200).chain([12_400]).collect();
        assert_eq!(
            asked,
            expected.iter().map(|at| (*at, vec![2])).collect::<Vec<_>>()
        );
        assert_eq!(say(&survey, two), [false, false], "it gives none");
        assert!(!survey.is_over("n1", &links) && survey.is_over("n1", &links[1..]));
        survey.answered("n1", two);
        assert!(survey.is_over("n1", &links));
        assert_eq!(run(&mut survey, &node, &links, 60_000).len(), 1);
        assert_eq!(survey.poll_timeout(), None, "nothing is left to find out");

        let changed = [
            link(1),
            LinkFacts {
                addresses: vec![[198, 51, 100, 1].into()],
                ..link(2)
            },
        ];
        survey.want(Instant::from_millis(70_000), [Arc::clone(&node)].into(), |_| true);
        assert_eq!(run(&mut survey, &node, &changed, 70_000), [(70_000, vec![2])]);
        assert_eq!(say(&survey, two), [false, true], "known anew");
        assert_eq!(say(&survey, one), [true, true]);
        survey.want(Instant::from_millis(70_100), BTreeSet::new(), |_| true);
        assert_eq!(survey.poll_timeout(), None);
        assert_eq!(say(&survey, one), [true, true], "its speaker is away now");
        survey.want(Instant::from_millis(70_200), BTreeSet::new(), |name| {
            **name != *"n1"
        });
        assert!(survey.found.is_empty(), "it left for good");
    }

    #[test]
    fn a_change_of_any_link_of_a_hardware_address_starts_anew() {
        let node: NodeName = "n1".into();
        let mut survey = Survey::default();
        let vlan = |name: &str| LinkFacts {
            name: name.into(),
            ..link(1)
        };
        let links = [vlan("eth0.10"), vlan("eth0.20"), link(2)];
        let start = Instant::from_millis(1_000);
        survey.want(start, [Arc::clone(&node)].into(), |_| true);
        assert_eq!(run(&mut survey, &node, &links, 1_000), [(1_000, vec![1, 2])]);
        for link in &links {
            survey.answered("n1", link.mac);
        }
        assert!(survey.is_over("n1", &links) && survey.is_over("n1", &links[..2]));

        let changed = [vlan("eth0.10"), vlan("eth0.30"), link(2)];
        assert!(!survey.is_over("n1", &changed));
        survey.want(start, [Arc::clone(&node)].into(), |_| true);
        assert_eq!(run(&mut survey, &node, &changed, 1_000), [(1_000, vec![1])]);
    }
}
