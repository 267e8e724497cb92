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

use crate::ask::Question;
use crate::talk::LinkFacts;

/// How often a link is asked of which nothing is known yet.
const FIRST: Duration = Duration::from_millis(200);
/// So often without an answer it counts as one that gives none; with 30 % loss an answer to one of two questions gets through.
const UNANSWERED: u8 = 8;
/// How often such a link is asked all the same. One that has answered is asked no more.
const LATER: Duration = Duration::from_secs(10);

/// One link of a node as it was when it was asked: after a change it is asked anew.
#[derive(Clone, Debug)]
struct Found {
    link: LinkFacts,
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

impl Survey {
    /// Asks exactly these from now on, whose speakers live; what they have or how we reach them may have changed.
    pub(crate) fn want(&mut self, now: Instant, nodes: BTreeSet<NodeName>) {
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

    /// The nodes to ask now. The caller hands the questions for each to [`Survey::choose`].
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<NodeName> {
        if self.next.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        self.asked.iter().cloned().collect()
    }

    /// Whether there is nothing to ask: all links of a node have answered, or there is but one, whose silence is the node's.
    pub(crate) fn is_over(&self, node: &str, links: &[LinkFacts]) -> bool {
        links.len() < 2
            || links.iter().all(|link| {
                let found = self.of(node, link.mac);
                found.is_some_and(|found| found.answered && found.link == *link)
            })
    }

    /// Those of the questions that are to be asked now.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        node: &NodeName,
        links: &[LinkFacts],
        mut questions: Vec<Question>,
    ) -> Vec<Question> {
        let found = self.found.entry(Arc::clone(node)).or_default();
        found.retain(|_, found| links.contains(&found.link));
        let mut due = BTreeSet::new();
        for question in &questions {
            let Some(link) = links.iter().find(|link| link.mac == question.mac) else {
                continue;
            };
            let found = found.entry(link.mac).or_insert_with(|| Found {
                link: link.clone(),
                answered: false,
                asked: 0,
                due: now,
            });
            if !found.answered && found.due <= now {
                found.asked = found.asked.saturating_add(1);
                found.due = now + if found.asked < UNANSWERED { FIRST } else { LATER };
                due.insert(link.mac);
            }
            if !found.answered {
                self.next = Some(self.next.map_or(found.due, |next| next.min(found.due)));
            }
        }
        questions.retain(|question| due.contains(&question.mac));
        questions
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
            let questions = links.iter().map(|link| question(link.mac)).collect();
            let asked = survey.choose(at, node, links, questions);
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
        survey.want(Instant::from_millis(1_000), [Arc::clone(&node)].into());
        assert_eq!(run(&mut survey, &node, &links, 1_000), [(1_000, vec![1, 2])]);
        let say = |survey: &Survey, mac| [false, true].map(|promising| survey.answers("n1", mac, promising));
        assert_eq!(say(&survey, one), [false, true], "not known yet");
        survey.answered("n1", one);
        assert_eq!(say(&survey, one), [true, true]);
        let asked = run(&mut survey, &node, &links, 30_000);
        let expected: Vec<u64> = (1..8).map(|n| 1_000 + n * 200).chain([12_400, 22_400]).collect();
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
        survey.want(Instant::from_millis(70_000), [Arc::clone(&node)].into());
        assert_eq!(run(&mut survey, &node, &changed, 70_000), [(70_000, vec![2])]);
        assert_eq!(say(&survey, two), [false, true], "known anew");
        assert_eq!(say(&survey, one), [true, true]);
        survey.want(Instant::from_millis(70_100), BTreeSet::new());
        assert_eq!(survey.poll_timeout(), None);
        assert_eq!(say(&survey, one), [true, true], "its speaker is away now");
    }
}
