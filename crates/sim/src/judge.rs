//! What must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use metallb_sansio::{Duration, Instant};
use metallb_speaker_core::election::rank;
use metallb_speaker_core::{Cause as Because, Change, GRACE, TOLD_LASTS};

use crate::facts::{AddressNumber, Facts, node_name, node_number};
use crate::lan::{CLIENTS, Island, SECOND_LAN};
use crate::{Cluster, Fault, NodeNumber, Notice, ServiceNumber};

/// How often the clients ask: the resolution of what they see.
pub const ASK_EVERY: Duration = Duration::from_millis(25);

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Longest time without an answer after the one who answered failed or went.
    pub takeover: Duration,
    /// Longest time without an answer while the one who answered could go on: a hand-over between two live nodes.
    pub handover: Duration,
    /// Longest time with answers from two nodes of one part of the LAN whose views are of the same age.
    pub double: Duration,
    /// After this long without a disturbance everything is as it should be.
    pub converged: Duration,
    /// Whether an ownership that changes without a reason is a failure, or only counted.
    pub causes: bool,
}

impl Bounds {
    /// The bounds for a LAN of `nodes` nodes that loses `loss` per cent of all datagrams.
    ///
    /// * Take-over: a failed node is missed within a few probe periods of 80 ms and dead after a suspicion of 360 ms, or
    ///   800 ms in the eyes of a speaker that was itself stalled. A speaker that starts and hears nobody at all presumes
    ///   for 1.5 s that its peers live; that is the longest, and with 400 ms for the rest it is the bound. Each node adds
    ///   20 ms for the news to get round, each per cent of loss 60 ms for what has to be said again.
    /// * Hand-over: a speaker that starts presumes its peers alive for 100 ms after it has heard the first; the bound adds
    ///   the resolution of what clients see and, again, what gets lost.
    /// * Convergence: a take-over, and then the healing of a partition: the silent are called every 120 to 150 ms, eight
    ///   at a time, take a new life and are called again.
    /// * Two owners: at most as long as it takes the two to hear of each other again, by such a call.
    pub fn of(nodes: usize, loss: u8) -> Self {
        let (nodes, loss) = (nodes as u64, u64::from(loss));
        let takeover = Duration::from_millis(1_900 + 20 * nodes + 60 * loss);
        Self {
            takeover,
            double: Duration::from_millis(300 + 25 * loss),
            handover: Duration::from_millis(200 + 30 * loss),
            converged: takeover + Duration::from_millis(800 + 20 * nodes + 60 * loss),
            causes: loss <= 5,
        }
    }
}

/// A reason for changes.
struct Cause {
    at: Instant,
    nodes: BTreeSet<NodeNumber>,
    /// A fact arrived there: others may be told of it.
    fact: bool,
}

/// What one client is owed for one address.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Who should answer, and since when it has been that one; nobody when no node is able to.
    expected: Option<NodeNumber>,
    /// Who answered last.
    last: Option<NodeNumber>,
    /// When a request was last answered, or nobody was able to.
    answered: Instant,
    /// When the one who answered last, or the one who was to take over, stopped being able to, or when an able one
    /// first appeared.
    excused: Instant,
    /// When the one who answered last was last found unable to.
    unable: Instant,
    /// Since when more than one has answered.
    several: Option<Instant>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Lengths of times without an answer, after which one came from another node that could give it.
    pub gaps: Vec<Duration>,
    /// Lengths of times with more than one answer.
    pub doubles: Vec<Duration>,
    /// Owner changes, over all nodes' views.
    pub changes: usize,
    /// Of these, without a reason.
    pub groundless: usize,
}

/// Watches a cluster.
pub(crate) struct Judge {
    bounds: Bounds,
    /// For each address, all nodes in the order in which they own what it decides.
    ranks: Vec<Vec<NodeNumber>>,
    causes: Vec<Cause>,
    disturbed: Instant,
    /// At some time, some heard others only through a third.
    relayed: bool,
    /// Some do at present.
    deaf: bool,
    /// When some last did.
    deaf_until: Instant,
    /// When somebody was last taken away from somebody else.
    failed: Instant,
    /// Since when each node has been paused, while it is, and whether it then still had a failure to find out.
    paused: BTreeMap<NodeNumber, (Instant, bool)>,
    /// Since when each node whose speaker does not take part has been so, and whether the end of its grace was noted.
    away: BTreeMap<NodeNumber, (Instant, bool)>,
    watches: Vec<[Watch; CLIENTS]>,
    /// Whether addresses stay with whoever has them.
    non_preempt: bool,
    pub(crate) seen: Seen,
}

impl Judge {
    pub(crate) fn new(cluster: &Cluster, bounds: Bounds) -> Self {
        let now = cluster.now();
        let names: Vec<_> = (0..cluster.size()).map(node_name).collect();
        let order = |service| {
            let ranked = rank(names.iter().map(|name| (&**name, 0)), Facts::address(service));
            ranked.into_iter().filter_map(node_number).collect()
        };
        let services = cluster.facts().services();
        let watch = Watch {
            expected: None,
            last: None,
            answered: now,
            excused: now,
            unable: now,
            several: None,
        };
        Self {
            bounds,
            ranks: (0..services).map(order).collect(),
            causes: Vec::new(),
            disturbed: now,
            relayed: false,
            deaf: false,
            deaf_until: now,
            failed: now,
            paused: BTreeMap::new(),
            away: BTreeMap::new(),
            watches: vec![[watch; CLIENTS]; services],
            non_preempt: cluster.setup.options.non_preempt,
            seen: Seen::default(),
        }
    }

    /// A fault was made, the cluster is as it is with it.
    pub(crate) fn disturb(&mut self, cluster: &Cluster, fault: &Fault) {
        let touched = fault.touches(cluster);
        let now = cluster.now();
        let unnoticed = now - self.failed <= self.bounds.takeover;
        if fault.takes_away() {
            self.failed = now;
        }
        match fault {
            Fault::Pause(node, _) | Fault::Suspend(node, _) => {
                self.paused.insert(*node, (now, unnoticed));
            }
            // It still believes in whoever failed meanwhile or just before, and finds out only now.
            Fault::Resume(node) | Fault::WakeUp(node) => {
                let pause = self.paused.remove(node);
                if pause.is_some_and(|(since, unnoticed)| unnoticed || self.failed > since) {
                    self.failed = now;
                }
            }
            Fault::RepairAll if !self.paused.is_empty() => {
                self.paused.clear();
                self.failed = now;
            }
            _ => {}
        }
        // Where some hear others only through a third, whatever becomes of that one concerns all.
        let relayed = cluster.lan().has_deaf_pairs() && !touched.is_empty();
        self.relayed |= cluster.lan().has_deaf_pairs();
        self.follow_deafness(cluster);
        self.because(
            now,
            if relayed {
                (0..cluster.size()).collect()
            } else {
                touched
            },
        );
    }

    fn follow_deafness(&mut self, cluster: &Cluster) {
        let before = std::mem::replace(&mut self.deaf, cluster.lan().has_deaf_pairs());
        if before || self.deaf {
            self.deaf_until = cluster.now();
        }
    }

    fn because(&mut self, now: Instant, nodes: BTreeSet<NodeNumber>) {
        self.disturbed = now;
        self.causes
            .retain(|cause| now - cause.at <= self.bounds.converged + TOLD_LASTS);
        if !nodes.is_empty() {
            let fact = false;
            self.causes.push(Cause { at: now, nodes, fact });
        }
    }

    /// A speaker made something known.
    ///
    /// # Errors
    /// An owner changed without a reason.
    pub(crate) fn notice(
        &mut self,
        cluster: &Cluster,
        at: Instant,
        node: NodeNumber,
        notice: &Notice,
    ) -> Result<(), String> {
        match notice {
            Notice::Informed(_) => {
                self.because(at, [node].into());
                if let Some(cause) = self.causes.last_mut() {
                    cause.fact = true;
                }
            }
            Notice::Change(change) => return self.change(cluster, at, node, change),
            // Somebody stands in for one whom this node cannot hear, or not often enough: who that is it cannot know.
            Notice::Foreign(_) if self.relayed || !self.bounds.causes => {}
            // An interface just plugged in may be heard before its node has told of it.
            Notice::Foreign(claim) if cluster.node_of(claim.mac).is_some_and(|n| self.is_touched(at, n)) => {}
            Notice::Foreign(claim) => return Err(format!("no strangers: n{node} holds {claim:?} for one")),
            Notice::Liveness(..) | Notice::Rejoined => {}
        }
        Ok(())
    }

    /// Whether something was done to the node a moment ago.
    fn is_touched(&self, at: Instant, node: NodeNumber) -> bool {
        let moment = Duration::from_millis(20);
        let mut recent = self.causes.iter().filter(|cause| at - cause.at <= moment);
        recent.any(|cause| cause.nodes.contains(&node))
    }

    fn change(
        &mut self,
        cluster: &Cluster,
        at: Instant,
        node: NodeNumber,
        change: &Change,
    ) -> Result<(), String> {
        self.seen.changes += 1;
        let involved = [&change.from, &change.to].map(|name| name.as_deref().and_then(node_number));
        let involved: BTreeSet<NodeNumber> = involved.into_iter().flatten().chain([node]).collect();
        // Whoever stood in for one that is away may have known more than it could tell.
        let absent = change.from.as_deref().and_then(node_number);
        let absent =
            absent.is_some_and(|from| self.away.contains_key(&from) || !cluster.lan().hears(node, from));
        if absent {
            return Ok(());
        }
        // Of a new fact, or of what another made of it, a node may be told.
        let told = matches!(change.cause, Because::Plan | Because::Claim(_));
        let behind = told && !cluster.host(node).is_informed(cluster.facts());
        let mut informed = Self::informed(cluster, node).peekable();
        // Whoever lost all who told it what it does not know itself goes by that for a while longer.
        let lost = behind && informed.peek().is_none();
        let lasts = if lost { TOLD_LASTS } else { Duration::ZERO };
        // Only those to whom a fact matters are told of it at once, the others when it comes to matter.
        let catches_up = behind
            && informed.any(|other| cluster.host(other).owner(&change.service) == change.to.as_deref());
        let recent = |cause: &&Cause| at - cause.at <= self.bounds.converged;
        let lately = |cause: &&Cause| at - cause.at <= self.bounds.converged + lasts;
        let touched = |cause: &Cause| !cause.nodes.is_disjoint(&involved);
        if self.causes.iter().filter(lately).any(touched)
            || (told && self.causes.iter().filter(recent).any(|cause| cause.fact))
            || catches_up
        {
            return Ok(());
        }
        self.seen.groundless += 1;
        self.disturbed = at;
        if !self.bounds.causes {
            return Ok(());
        }
        let Change {
            service,
            from,
            to,
            cause,
            ..
        } = change;
        Err(format!(
            "no change without cause: n{node} saw {service} go from {from:?} to {to:?} ({cause:?})"
        ))
    }

    /// Those whom a node hears and who know the present truth.
    fn informed(cluster: &Cluster, node: NodeNumber) -> impl Iterator<Item = NodeNumber> {
        (0..cluster.size()).filter(move |other| {
            let host = cluster.host(*other);
            *other != node
                && host.takes_part()
                && host.is_informed(cluster.facts())
                && cluster.lan().hears(node, *other)
        })
    }

    /// Looks at what the requests of [`ASK_EVERY`] ago brought.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn look(&mut self, cluster: &Cluster) -> Result<(), String> {
        let now = cluster.now();
        self.follow_away(cluster);
        self.follow_deafness(cluster);
        for service in 0..self.watches.len() {
            for island in cluster.islands_of(service) {
                self.look_at(cluster, island, service)?;
            }
        }
        if now - self.disturbed > self.bounds.converged {
            self.look_at_views(cluster)?;
        }
        Ok(())
    }

    /// Keeps whose speakers do not take part. At the end of its grace a node's addresses move, which is a reason for changes.
    fn follow_away(&mut self, cluster: &Cluster) {
        let now = cluster.now();
        for node in 0..cluster.size() {
            if cluster.host(node).takes_part() {
                self.away.remove(&node);
                continue;
            }
            let (since, noted) = self.away.entry(node).or_insert((now, false));
            if !*noted && now - *since >= GRACE {
                *noted = true;
                self.because(now, [node].into());
            }
        }
    }

    /// Nodes whose speakers are away, but which go on forwarding for that island: they may go on owning what they own.
    fn absent(&self, cluster: &Cluster, island: Island) -> BTreeSet<NodeNumber> {
        let bound = GRACE + self.bounds.converged;
        let recent = self
            .away
            .iter()
            .filter(|(_, (since, _))| cluster.now() - *since <= bound);
        recent
            .map(|(node, _)| *node)
            .filter(|node| cluster.forwards(*node, island))
            .collect()
    }

    /// Whether the node could answer for the service, by what is true and what it knows.
    fn able(cluster: &Cluster, island: Island, service: ServiceNumber, node: NodeNumber) -> bool {
        let host = cluster.host(node);
        host.runs()
            && cluster.lan().is_on(node, island)
            && host.is_informed(cluster.facts())
            && cluster.facts().eligible(service, node)
    }

    /// All nodes in the order in which they own the address.
    fn order(&self, facts: &Facts, address: AddressNumber) -> Vec<NodeNumber> {
        let mut order = self.ranks[facts.ranked_by(address)].clone();
        order.sort_by_cached_key(|node| Reverse(facts.worth(address, *node)));
        order
    }

    /// Never nobody, and one at most, as a client sees it.
    fn look_at(&mut self, cluster: &Cluster, island: Island, service: ServiceNumber) -> Result<(), String> {
        let now = cluster.now();
        let bounds = self.bounds;
        let able = |node: NodeNumber| Self::able(cluster, island, service, node);
        let ranks = &self.order(cluster.facts(), service);
        let expected = ranks.iter().copied().find(|node| able(*node));
        let running = (0..cluster.size()).filter(|node| cluster.host(*node).takes_part());
        let here: Vec<NodeNumber> = running
            .filter(|node| cluster.lan().is_on(*node, island))
            .collect();
        // Those who know the present truth hold a node for the owner that does not know yet that it is, until they have
        // told it. A node that has just started is no excuse.
        let recent = now - self.disturbed <= bounds.takeover;
        let stale = recent
            && here.iter().any(|node| {
                let host = cluster.host(*node);
                host.is_synced() && !host.is_informed(cluster.facts())
            });
        // An answer that leads nowhere is none.
        let answerers: BTreeSet<NodeNumber> = cluster
            .neighbour(island, service)
            .answered_by
            .iter()
            .filter_map(|mac| cluster.node_of(*mac))
            .filter(|node| cluster.forwards(*node, island))
            .collect();
        let absent = self.absent(cluster, island);
        let watch = &mut self.watches[service][island];
        let unable = stale || watch.last.is_none_or(|last| !able(last));
        if unable {
            watch.unable = now;
        }
        // Whoever was to take over may fail too before it has; then it is the next one's turn, with time of its own.
        if stale
            || watch.expected.is_none_or(|expected| !able(expected))
            || (unable && watch.excused <= watch.answered)
        {
            watch.excused = now;
        }
        watch.expected = expected;
        if let Some(first) = answerers.first() {
            let gap = now - watch.answered;
            if gap > ASK_EVERY * 2 && watch.last.is_some() {
                self.seen.gaps.push(gap);
            }
            watch.last = Some(*first);
            watch.answered = now;
        } else if expected.is_none() || stale {
            watch.answered = now;
            watch.last = None;
        } else {
            let (gap, excused) = (now - watch.answered, now - watch.excused.max(watch.answered));
            // Not when the one to whom it was handed over may have failed in between.
            let failures = now - self.failed <= bounds.takeover;
            if !failures && watch.unable <= watch.answered && gap > bounds.handover {
                let last = watch.last;
                return Err(format!(
                    "never nobody: service {service} on island {island} has had no answer for {gap:?}, although \
                     {last:?} was able to go on until {expected:?} takes over"
                ));
            }
            if excused > bounds.takeover {
                return Err(format!(
                    "never nobody: service {service} on island {island} has had no answer for {gap:?}, {expected:?} \
                     has been able to for {excused:?}"
                ));
            }
        }
        let informed = here
            .iter()
            .all(|node| cluster.host(*node).is_informed(cluster.facts()));
        // One for each group of nodes that hear each other: the client may hear more.
        let components = cluster.lan().components(here);
        // On the second LAN those hear each other that membership, which is on the first, may have lost.
        let whole = components.len() == 1;
        let judged = whole || island != SECOND_LAN;
        match (answerers.len() > 1 && informed && whole, watch.several) {
            (true, None) => watch.several = Some(now),
            (false, Some(since)) => {
                let double = now - since;
                self.seen.doubles.push(double);
                watch.several = None;
                // Where some do not hear each other, whoever yields to one that it does not hear waits for a while; what
                // began then is judged from the time on when all hear each other.
                let judged = now - since.max(self.deaf_until);
                if judged > bounds.double {
                    return Err(format!(
                        "never two for long: service {service} on island {island} had several answers for {double:?}, at last \
                         {answerers:?}"
                    ));
                }
            }
            _ => {}
        }
        if informed && judged && now - self.disturbed > bounds.converged {
            let keeps = self.non_preempt;
            let first = |of: &BTreeSet<_>| {
                let first = ranks.iter().copied().find(|n| of.contains(n) && able(*n));
                // Whoever has it keeps it; that all agree who that is, the views tell. Not from one that may announce more.
                let worth = |node| cluster.facts().worth(service, node);
                let as_good = |n: NodeNumber| first.is_some_and(|first| worth(n) >= worth(first));
                let one = answerers.iter().copied();
                let mut one = one.filter(|n| keeps && of.contains(n) && able(*n) && as_good(*n));
                one.next().or(first)
            };
            let expected: BTreeSet<NodeNumber> = components.iter().filter_map(first).collect();
            let cached = cluster
                .neighbour(island, service)
                .cached
                .and_then(|(mac, _)| cluster.node_of(mac));
            // A node whose speaker is away keeps what it owned, unless somebody better is there: in each group by itself, so
            // of several the one counts whose best is the worst.
            let last = ranks.iter().rposition(|node| expected.contains(node));
            let kept = ranks.iter().take(last.unwrap_or(ranks.len())).copied();
            let kept = kept.filter(|node| !expected.contains(node) && absent.contains(node));
            let kept = kept.filter(|node| cluster.facts().eligible(service, *node));
            let mut kept: BTreeSet<NodeNumber> = kept.collect();
            if keeps {
                let worth = |node: &NodeNumber| cluster.facts().worth(service, *node);
                let least = expected.iter().map(worth).min().unwrap_or_default();
                let good = |node: &NodeNumber| worth(node) > 0 && worth(node) >= least;
                kept = absent.iter().copied().filter(good).collect();
            }
            let right = |node: &NodeNumber| expected.contains(node) || kept.contains(node);
            if !expected.is_empty() && !cached.is_some_and(|cached| right(&cached)) {
                return Err(format!(
                    "announced: a neighbour cache on island {island} names {cached:?} for service {service}, not \
                     {expected:?}"
                ));
            }
            let one_each = answerers.len() == expected.len() || (!kept.is_empty() && !answerers.is_empty());
            if !one_each || answerers.len() > expected.len() || !answerers.iter().all(right) {
                return Err(format!(
                    "one owner: {answerers:?} answer for service {service} on island {island}, not {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// By when one that hears nobody has found out by itself that all the others are gone: it probes one in each period, and
    /// nobody shares the work.
    fn alone(cluster: &Cluster) -> Duration {
        let periods = u32::try_from(cluster.size()).unwrap_or(u32::MAX);
        cluster.setup.timing.probe_period * periods + Bounds::of(1, cluster.loss()).converged
    }

    /// One owner in the views of each connected component, those without clients too.
    fn look_at_views(&self, cluster: &Cluster) -> Result<(), String> {
        let running = (0..cluster.size()).filter(|node| cluster.host(*node).takes_part());
        for component in cluster.lan().components(running) {
            if !component
                .iter()
                .all(|node| cluster.host(*node).is_informed(cluster.facts()))
                || (component.len() == 1 && cluster.now() - self.disturbed <= Self::alone(cluster))
            {
                continue;
            }
            let facts = cluster.facts();
            for service in 0..facts.services() {
                let address = facts.addresses(service)[0];
                let ranks = &self.order(facts, address);
                let announced = facts.is_announced(service);
                let eligible = |node: &&NodeNumber| {
                    announced && component.contains(*node) && facts.eligible(address, **node)
                };
                let interface = facts.interface(address);
                let usable = |node: &&NodeNumber| cluster.lan().is_plugged(**node, interface);
                let candidates = || ranks.iter().filter(eligible);
                let first = candidates().find(usable).or_else(|| candidates().next());
                let mut expected: BTreeSet<NodeNumber> = first.copied().into_iter().collect();
                let holders: BTreeSet<NodeNumber> = component
                    .iter()
                    .copied()
                    .filter(|node| cluster.host(*node).acts(service))
                    .collect();
                let worth = |node: &NodeNumber| facts.worth(address, *node);
                let least = first.map_or(0, worth);
                let mut good = candidates().filter(|node| worth(node) >= least);
                if self.non_preempt && holders.len() == 1 && good.any(|node| holders.contains(node)) {
                    expected.clone_from(&holders);
                }
                let views: BTreeSet<Option<&str>> = component
                    .iter()
                    .map(|node| cluster.host(*node).acting(service))
                    .collect();
                if views.len() > 1 && !expected.is_empty() {
                    return Err(format!(
                        "all agree: who answers for service {service} in {component:?}: {views:?}"
                    ));
                }
                if holders != expected {
                    return Err(format!(
                        "one owner: of service {service} in {component:?}: {holders:?}, not {expected:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}
