//! The part of the engine that follows who is there: members, those away for a moment, and those gone for good.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_member::PeerState;
use metallb_sansio::{Instant, Machine as _};

use crate::ask::{Question, Reach, broadcast_questions, is_answer, questions, sender};
use crate::service::Holding;
use crate::talk::Talk;
use crate::{Cause, Engine, Output, ServiceKey};

/// How long the speaker of a node that is up may be away before its addresses move.
pub const GRACE: Duration = Duration::from_secs(30);

/// What a peer found about a node is believed so long when our own membership comes to the same.
const FOUND_LATELY: Duration = Duration::from_secs(3);
/// How often that a node is gone is told, and how long after each other.
const GONE_TOLD: u8 = 3;
const GONE_AGAIN: Duration = Duration::from_millis(70);
/// How often peers of which no hardware address is known are asked for at most.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What is still to be told to the peers of a node that does not answer, and how often.
#[derive(Clone, Debug)]
pub(crate) struct News {
    node: NodeName,
    /// One of its links only, and whether it was heard there before.
    link: Option<(MacAddr, bool)>,
    times: u8,
}

impl Engine {
    pub(crate) fn drain_member(&mut self, now: Instant) {
        while let Some(output) = self.member.poll_output() {
            match output {
                metallb_member::Output::Send { to, datagram } => {
                    self.outputs.push_back(Output::Datagram { to, datagram });
                }
                metallb_member::Output::Joined(node) => self.joined(now, node),
                metallb_member::Output::Lost(node) => self.lost(now, node),
                metallb_member::Output::Suspected(node) => self.suspected(now, &node),
                metallb_member::Output::Unsuspected(node) => self.unsuspected(now, &node),
                metallb_member::Output::Heard { from, body } => self.heard(now, &from, &body),
                metallb_member::Output::Rejoined => self.rejoined(now),
                metallb_member::Output::Left => self.stops_at = Some(now + self.options.linger),
            }
        }
        self.follow_watch(now);
    }

    fn joined(&mut self, now: Instant, node: NodeName) {
        self.watch_again = true;
        self.away.remove(&node);
        self.found_gone.remove(&node);
        self.absent.remove(&node);
        self.suspects.remove(&node);
        self.neighbours.forget_gone_links(&node, now);
        self.neighbours.joined(now);
        let returned = self.once_lost.remove(&node);
        self.await_claimant(now, &node);
        let cause = Cause::NodeJoined(Arc::clone(&node));
        for key in self.concerned(&node) {
            let owned_before = self.owner(&key) == Some(self.member.node());
            self.decide(now, &key, &cause);
            if returned && owned_before && self.owner(&key) == Some(self.member.node()) {
                // It may have announced what is ours meanwhile.
                let addresses = self.services[&key].addresses();
                for address in addresses.iter() {
                    self.announcer
                        .handle(now, metallb_l2::Input::Reannounce(*address));
                }
            }
        }
        self.tell_joined(now, &node);
        self.tell_absences(now, &node);
        self.outputs.push_back(Output::Liveness { node, live: true });
    }

    fn lost(&mut self, now: Instant, node: NodeName) {
        self.watch_again = true;
        self.suspects.remove(&node);
        self.once_lost.insert(Arc::clone(&node));
        let spoke = matches!(self.member.state(&node), Some(PeerState::Dead | PeerState::Left));
        let said = self.member.state(&node) == Some(PeerState::Left);
        let found = self.found_gone.get(&node);
        let found = found.is_some_and(|at| now - *at <= FOUND_LATELY);
        let lately = Instant::from_nanos(now.as_nanos().saturating_sub(FOUND_LATELY.as_nanos() as u64));
        self.neighbours.forget_gone_links(&node, lately);
        if spoke && !said && self.probe.gone_at_verdict(now, &node) {
            self.say_gone(now, &node);
        } else if spoke && !found {
            self.away.insert(Arc::clone(&node), now + self.options.grace);
            self.tell_newcomers(now);
            self.say_silent_links(now, &node, !said);
        } else if !spoke {
            self.away_by_hearsay(now, &node);
        }
        let cause = Cause::NodeLost(Arc::clone(&node));
        for key in self.concerned(&node) {
            self.decide(now, &key, &cause);
        }
        self.outputs.push_back(Output::Liveness { node, live: false });
    }

    /// Those who may become the deputy of somebody because this one is suspected look at that one now.
    fn suspected(&mut self, now: Instant, node: &NodeName) {
        self.watch_again = true;
        let troubled = !self.away.is_empty() || !self.suspects.is_empty();
        if self.suspects.insert(Arc::clone(node)) && troubled {
            self.decide_troubled(now, node);
        }
    }

    fn unsuspected(&mut self, now: Instant, node: &NodeName) {
        self.watch_again = true;
        if self.suspects.remove(node) && (!self.away.is_empty() || !self.suspects.is_empty()) {
            self.decide_troubled(now, node);
        }
    }

    /// Decides again about services of which `node` is a candidate and whose owner is away or suspected too.
    fn decide_troubled(&mut self, now: Instant, node: &NodeName) {
        let troubled = |owner: &NodeName| self.away.contains_key(owner) || self.suspects.contains(owner);
        let keys: Vec<ServiceKey> = self
            .services
            .iter()
            .filter(|(_, service)| service.owner.as_ref().is_some_and(troubled) && service.concerns(node))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.decide(now, &key, &Cause::NodeLost(Arc::clone(node)));
        }
    }

    fn rejoined(&mut self, now: Instant) {
        for address in self.held.keys() {
            self.announcer
                .handle(now, metallb_l2::Input::Reannounce(*address));
        }
        self.outputs.push_back(Output::Rejoined);
    }

    /// The node is up, but some of its links may not answer: for what is announced there it is gone.
    fn say_silent_links(&mut self, now: Instant, node: &NodeName, at_verdict: bool) {
        let answers = |mac, own| self.survey.answers(node, mac, own);
        for mac in self.probe.silent(now, node, at_verdict, answers) {
            let heard = self.neighbours.was_heard(node, mac);
            if self.neighbours.link_gone(now, node, mac, heard) {
                let news = News {
                    node: Arc::clone(node),
                    link: Some((mac, heard)),
                    times: GONE_TOLD,
                };
                self.gone_news.set(now, news);
                self.decide_about_away(now, node);
            }
        }
    }

    /// A peer found that a link of a node whose speaker is silent does not answer; we may not have missed it yet.
    pub(crate) fn link_gone(&mut self, now: Instant, node: &NodeName, mac: MacAddr, heard: bool) {
        if *node != *self.node() && self.neighbours.link_gone(now, node, mac, heard) {
            self.decide_about_away(now, node);
        }
    }

    pub(crate) fn decide_about_away(&mut self, now: Instant, node: &NodeName) {
        if self.away.contains_key(node) {
            for key in self.concerned(node) {
                self.decide(now, &key, &Cause::NodeLost(Arc::clone(node)));
            }
            self.refresh_stand_ins(now, node);
        }
    }

    /// The node does not answer on the LAN: it is not away but gone, and everybody may know.
    fn say_gone(&mut self, now: Instant, node: &NodeName) {
        self.found_gone.insert(Arc::clone(node), now);
        let news = News {
            node: Arc::clone(node),
            link: None,
            times: GONE_TOLD,
        };
        self.gone_news.set(now, news);
    }

    /// Tells what is due of those found gone. A few times, because nobody confirms it.
    fn tell_gone(&mut self, now: Instant) {
        while let Some(News { node, link, times }) = self.gone_news.pop_due(now) {
            let stands = link.is_some() || self.found_gone.contains_key(&node);
            if self.member.is_live(&node) || !stands {
                continue;
            }
            let words = match link {
                None => Talk::NodeGone(Arc::clone(&node)).encode(),
                Some((mac, heard)) => {
                    let node = Arc::clone(&node);
                    Talk::LinkGone { node, mac, heard }.encode()
                }
            };
            for peer in self.live_peers() {
                let body = words.clone();
                self.member
                    .handle(now, metallb_member::Input::Talk { to: peer, body });
            }
            if times > 1 {
                let times = times - 1;
                self.gone_news.set(now + GONE_AGAIN, News { node, link, times });
            }
        }
    }

    /// A peer found a node gone; we may not even have missed its speaker yet.
    pub(crate) fn heard_gone(&mut self, now: Instant, node: &NodeName) {
        if *node != *self.node() {
            self.found_gone.insert(Arc::clone(node), now);
            self.gone(now, node);
        }
    }

    /// A node that was away is gone.
    pub(crate) fn gone(&mut self, now: Instant, node: &NodeName) {
        if self.away.remove(node).is_none() {
            return;
        }
        self.watch_again = true;
        for key in self.concerned(node) {
            self.decide(now, &key, &Cause::NodeLost(Arc::clone(node)));
        }
    }

    pub(crate) fn live_peers(&self) -> Vec<NodeName> {
        let live = self.member.peers().filter(|(_, state)| state.is_live());
        live.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Has membership watch, and the LAN asked for, whom this node is the deputy of; where nobody could take anything over, membership rests.
    pub(crate) fn follow_watch(&mut self, now: Instant) {
        if !core::mem::take(&mut self.watch_again) {
            return;
        }
        let rests = self.movable == 0;
        if core::mem::replace(&mut self.rests, rests) != rests {
            self.member.handle(now, metallb_member::Input::Rest(rests));
        }
        let watched: BTreeSet<NodeName> = self
            .deputies
            .keys()
            .filter(|node| self.member.is_live(node))
            .cloned()
            .collect();
        let troubled = |node: &&NodeName| self.suspects.contains(*node) || self.away.contains_key(*node);
        let asked: BTreeSet<NodeName> = self.deputies.keys().filter(troubled).cloned().collect();
        self.probe.want(now, &asked);
        let surveyed = watched.difference(&asked).cloned().collect();
        let is_member = |node: &NodeName| self.member.state(node).is_some();
        self.survey.want(now, surveyed, is_member);
        if watched != self.watched {
            self.watched.clone_from(&watched);
            self.member.handle(now, metallb_member::Input::Watch(watched));
        }
    }

    fn ip_of(&self, node: &str) -> Option<IpAddr> {
        self.member.address(node).map(|address| address.ip())
    }

    fn questions_for(&self, node: &str, reach: impl Fn(MacAddr) -> Option<Reach>) -> Vec<Question> {
        let heard_on = self.neighbours.heard_on(node);
        let links = self.neighbours.links_of(node);
        questions(self.ip_of(node), links, &heard_on, self.announcer.links(), reach)
    }

    fn ask(&mut self, questions: Vec<Question>) {
        for Question { interface, frame, .. } in questions {
            self.outputs.push_back(Output::Frame { interface, frame });
        }
    }

    /// Finds out whether the links of those answer at all whose place this node will take.
    pub(crate) fn survey_links(&mut self, now: Instant) {
        for node in self.survey.tick(now) {
            let due = self.survey.due(now, &node, self.neighbours.links_of(&node));
            if !due.is_empty() {
                let questions = self.questions_for(&node, |mac| due.get(&mac).copied());
                let links = self.neighbours.links_of(&node);
                self.survey.asks(now, &node, links, &questions);
                self.ask(questions);
            }
        }
    }

    /// Asks those that are asked for, and judges those that have been silent for too long.
    pub(crate) fn probe_nodes(&mut self, now: Instant) {
        for node in self.probe.tick(now) {
            let reach = self.probe.reach(&node);
            let questions = self.questions_for(&node, |_| Some(reach));
            self.probe.asks(now, &node, &questions);
            self.ask(questions);
        }
        let gone = self.probe.gone(now);
        let asked: Vec<NodeName> = self.away.keys().cloned().collect();
        for node in asked {
            if gone.contains(&node) {
                self.say_gone(now, &node);
                self.gone(now, &node);
            } else {
                self.say_silent_links(now, &node, false);
            }
        }
        self.tell_gone(now);
        let over: Vec<NodeName> = self
            .away
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(node, _)| Arc::clone(node))
            .collect();
        for node in over {
            self.gone(now, &node);
        }
    }

    /// A frame tells where a node is and that it is up.
    pub(crate) fn overhear(&mut self, now: Instant, interface: u32, bytes: &[u8]) {
        let fresh = self.neighbours.heard(interface, bytes);
        self.resolution.hear(interface, bytes);
        if (self.probe.is_asking() || self.survey.is_asking())
            && let Ok(frame) = metallb_l2::wire::ethernet::Frame::new_checked(bytes)
            && let Some(node) = self.neighbours.node_of(frame.source()).cloned()
        {
            let mac = frame.source();
            let answers = is_answer(self.ip_of(&node), self.neighbours.links_of(&node), frame);
            self.probe.hear(now, &node, mac, answers);
            if answers {
                self.survey.answered(&node, mac);
            }
        }
        if !self.unknown.is_empty()
            && let Some((ip, mac)) = sender(bytes)
            && let Some(node) = self.unknown.get(&ip).cloned()
            && self.neighbours.answered(&node, interface, mac)
        {
            self.befriend(now);
        }
        if let Some(node) = fresh {
            self.refresh_stand_ins(now, &node);
        }
    }

    /// Asks for the hardware addresses of peers of which none is known.
    pub(crate) fn ask_for_unknown(&mut self, now: Instant) {
        if self.unknown_asked.is_some_and(|at| now - at < ASK_AGAIN) {
            return;
        }
        self.unknown_asked = Some(now);
        for ip in self.unknown.keys() {
            for (interface, frame) in broadcast_questions(*ip, self.announcer.links()) {
                self.outputs.push_back(Output::Frame { interface, frame });
            }
        }
    }

    /// The hardware addresses of a node whose place is taken became known or changed.
    pub(crate) fn refresh_stand_ins(&mut self, now: Instant, node: &NodeName) {
        self.watch_again = true;
        let Some(keys) = self.deputies.get(node).cloned() else {
            return;
        };
        for key in keys {
            let Some(service) = self.services.remove(&key) else {
                continue;
            };
            if service.holding == Holding::StandIn(Arc::clone(node)) {
                self.hold(now, &key, &service);
            }
            self.services.insert(key, service);
        }
    }
}
