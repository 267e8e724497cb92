//! Participants and an API server in virtual time.

use std::time::Duration;

use metallb_sansio::{Instant, Machine};

use crate::{Input, LeaseMachine, Output, Record, Timing};

const TICK: Duration = Duration::from_millis(50);

/// A Lease with compare-and-swap, as the API server keeps it.
#[derive(Default)]
struct Server {
    stored: Option<Record>,
    version: u64,
}

impl Server {
    fn write(&mut self, record: &Record) -> Input {
        let expected = self
            .stored
            .as_ref()
            .map(|stored| stored.version.as_str())
            .unwrap_or_default();
        if record.version != expected {
            return Input::Conflict;
        }
        self.version += 1;
        let stored = Record {
            version: self.version.to_string(),
            ..record.clone()
        };
        self.stored = Some(stored.clone());
        Input::Written(stored)
    }
}

struct Node {
    machine: LeaseMachine,
    leads: bool,
    stopped: bool,
    /// Cut off from the server: requests fail.
    cut: bool,
    /// Not scheduled: nothing happens at all.
    frozen: bool,
    /// Answers on their way.
    answers: Vec<Input>,
}

struct Lan {
    now: Instant,
    server: Server,
    nodes: Vec<Node>,
}

impl Lan {
    fn new(identities: &[&str]) -> Self {
        let mut lan = Self {
            now: Instant::from_millis(1000),
            server: Server::default(),
            nodes: Vec::new(),
        };
        for identity in identities {
            lan.join(identity);
        }
        lan
    }

    fn join(&mut self, identity: &str) {
        self.nodes.push(Node {
            machine: LeaseMachine::new(identity, Timing::default(), self.now),
            leads: false,
            stopped: false,
            cut: false,
            frozen: false,
            answers: Vec::new(),
        });
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += TICK;
            for node in self.nodes.iter_mut().filter(|node| !node.frozen) {
                // An answer takes one tick; requests of frozen nodes were answered in the meantime.
                for answer in std::mem::take(&mut node.answers) {
                    node.machine.handle(self.now, answer);
                }
                if node.machine.poll_timeout().is_some_and(|due| due <= self.now) {
                    node.machine.handle_timeout(self.now);
                }
                while let Some(output) = node.machine.poll_output() {
                    match output {
                        Output::Leading => node.leads = true,
                        Output::Lost => node.leads = false,
                        Output::Stopped => node.stopped = true,
                        Output::Read | Output::Write(_) if node.cut => node.answers.push(Input::Failed),
                        Output::Read => node.answers.push(Input::Read(self.server.stored.clone())),
                        Output::Write(record) => node.answers.push(self.server.write(&record)),
                    }
                }
                assert_eq!(
                    node.leads,
                    node.machine.leading_until().is_some_and(|until| until > self.now)
                );
            }
            let awake = self
                .nodes
                .iter()
                .filter(|node| !node.frozen && node.leads)
                .count();
            assert!(awake <= 1, "{awake} leaders at {}", self.now);
        }
    }

    /// Runs until the condition holds; returns how long that took.
    fn until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !condition(self) {
            self.run(TICK);
            assert!(self.now - start <= limit, "not within {limit:?}");
        }
        self.now - start
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_leads_at_once_and_stays() {
    let mut lan = Lan::new(&["a", "b"]);
    let took = lan.until(secs(1), |lan| lan.nodes[0].leads || lan.nodes[1].leads);
    assert!(took < Duration::from_millis(300), "{took:?}");
    let leader = usize::from(lan.nodes[1].leads);
    let writes = lan.server.version;
    lan.run(secs(120));
    assert!(lan.nodes[leader].leads);
    let renewals = lan.server.version - writes;
    assert!(
        (55..=62).contains(&renewals),
        "one write every two seconds, not {renewals}"
    );
    let transitions = lan.server.stored.as_ref().map(|record| record.transitions);
    assert_eq!(transitions, Some(0), "the first holder is no transition");
}

#[test]
fn a_released_lease_is_taken_within_a_retry() {
    let mut lan = Lan::new(&["a"]);
    lan.run(secs(5));
    lan.join("b");
    lan.run(secs(5));
    lan.nodes[0].machine.handle(lan.now, Input::Stop);
    lan.until(secs(1), |lan| lan.nodes[0].stopped);
    assert_eq!(
        lan.server.stored.as_ref().map(|record| record.holder.as_str()),
        Some("")
    );
    let took = lan.until(secs(10), |lan| lan.nodes[1].leads);
    assert!(took <= Duration::from_millis(2200), "{took:?}");
}

#[test]
fn a_dead_holder_is_followed_after_lease_and_request() {
    let mut lan = Lan::new(&["a"]);
    lan.run(secs(5));
    lan.join("b");
    lan.run(secs(7));
    lan.nodes[0].frozen = true;
    let took = lan.until(secs(30), |lan| lan.nodes[1].leads);
    assert!(took > secs(17) && took < secs(23), "{took:?}");
    // The dead one comes back to life: it knows at once that its time is over, before it writes anything.
    lan.nodes[0].frozen = false;
    lan.run(TICK);
    assert!(!lan.nodes[0].leads);
    lan.run(secs(60));
    assert!(lan.nodes[1].leads);
}

#[test]
fn a_restarted_container_re_acquires_at_once() {
    let mut lan = Lan::new(&["pod-uid"]);
    lan.run(secs(5));
    lan.nodes.clear();
    lan.join("pod-uid");
    let took = lan.until(secs(5), |lan| lan.nodes[0].leads);
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_holder_that_cannot_renew_stops_before_others_start() {
    let mut lan = Lan::new(&["a"]);
    lan.run(secs(5));
    lan.join("b");
    lan.run(secs(5));
    lan.nodes[0].cut = true;
    let gave_up = lan.until(secs(20), |lan| !lan.nodes[0].leads);
    assert!(gave_up <= secs(11), "{gave_up:?}");
    let took = lan.until(secs(20), |lan| lan.nodes[1].leads);
    assert!(took >= secs(5), "{took:?}");
    lan.nodes[0].cut = false;
    lan.run(secs(30));
    assert!(lan.nodes[1].leads && !lan.nodes[0].leads);
}

#[test]
fn an_outage_of_the_server_costs_leadership_and_gives_it_back() {
    let mut lan = Lan::new(&["a"]);
    lan.run(secs(5));
    lan.nodes[0].cut = true;
    lan.run(secs(60));
    assert!(!lan.nodes[0].leads);
    lan.nodes[0].cut = false;
    let took = lan.until(secs(5), |lan| lan.nodes[0].leads);
    assert!(took < secs(3), "its own record needs no waiting: {took:?}");
}

#[test]
fn a_record_deleted_by_hand_is_made_anew() {
    let mut lan = Lan::new(&["a"]);
    lan.run(secs(5));
    lan.server.stored = None;
    lan.run(secs(5));
    assert!(lan.nodes[0].leads);
    assert!(lan.server.stored.is_some());
}

#[test]
fn the_time_stamps_and_durations_of_others_are_respected() {
    let now = Instant::from_millis(1000);
    let mut machine = LeaseMachine::new("me", Timing::default(), now);
    machine.handle_timeout(now);
    assert_eq!(machine.poll_output(), Some(Output::Read));
    let theirs = Record {
        version: "7".into(),
        holder: "other".into(),
        seconds: 60,
        transitions: 3,
    };
    machine.handle(now, Input::Read(Some(theirs.clone())));
    assert_eq!(machine.holder(), Some("other"));
    for step in 1..30_u64 {
        let now = now + secs(2 * step);
        machine.handle_timeout(now);
        assert_eq!(
            machine.poll_output(),
            Some(Output::Read),
            "still theirs after {} s",
            2 * step
        );
        machine.handle(now, Input::Read(Some(theirs.clone())));
        assert_eq!(machine.poll_output(), None);
    }
    let now = now + secs(60);
    machine.handle_timeout(now);
    assert_eq!(machine.poll_output(), Some(Output::Read));
    machine.handle(now, Input::Read(Some(theirs)));
    let expected = Record {
        version: "7".into(),
        holder: "me".into(),
        seconds: 15,
        transitions: 4,
    };
    assert_eq!(machine.poll_output(), Some(Output::Write(expected)));
}

#[test]
fn stop_during_a_request_releases_what_the_answer_brings() {
    let now = Instant::from_millis(1000);
    let mut machine = LeaseMachine::new("me", Timing::default(), now);
    machine.handle_timeout(now);
    assert_eq!(machine.poll_output(), Some(Output::Read));
    machine.handle(now, Input::Read(None));
    let Some(Output::Write(record)) = machine.poll_output() else {
        panic!("it claims")
    };
    machine.handle(now, Input::Stop);
    assert_eq!(machine.poll_output(), None);
    machine.handle(
        now,
        Input::Written(Record {
            version: "1".into(),
            ..record
        }),
    );
    let Some(Output::Write(release)) = machine.poll_output() else {
        panic!("it releases")
    };
    assert_eq!((release.holder.as_str(), release.version.as_str()), ("", "1"));
    machine.handle(
        now,
        Input::Written(Record {
            version: "2".into(),
            ..release
        }),
    );
    assert_eq!(machine.poll_output(), Some(Output::Stopped));
    assert_eq!(machine.poll_timeout(), None);
}
