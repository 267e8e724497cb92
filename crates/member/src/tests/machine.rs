use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metallb_sansio::{Instant, Machine as _};

use super::lan::{Lan, address, name};
use crate::machine::Wake;
use crate::{Input, Output, PeerState, Secret};

const SECOND: Duration = Duration::from_secs(1);

fn set(nodes: &[usize]) -> BTreeSet<usize> {
    nodes.iter().copied().collect()
}

/// A settled LAN.
fn settled(count: usize, seed: u64) -> Lan {
    let mut lan = Lan::new(count, seed);
    lan.run(3 * SECOND);
    let all: BTreeSet<usize> = (1..=count).collect();
    for node in 1..=count {
        assert_eq!(lan.live(node), all, "seed {seed}, node {node}");
    }
    assert_eq!(lan.losses(), 0, "seed {seed}");
    lan
}

#[test]
fn peers_are_presumed_alive_at_the_start_and_found_missing_later() {
    let mut lan = Lan::new(1, 1);
    let peers: BTreeMap<_, _> = [2, 3].map(|n| (name(n), address(n))).into();
    lan.members.clear();
    lan.start(1, "secret");
    lan.tell(1, Input::Peers(peers));
    assert_eq!(lan.live(1), set(&[1, 2, 3]));
    lan.run(Duration::from_millis(1_400));
    assert_eq!(lan.live(1), set(&[1, 2, 3]));
    lan.run(Duration::from_millis(200));
    assert_eq!(lan.live(1), set(&[1]));
    assert_eq!(lan.members[&1].state("n2"), Some(PeerState::Unheard));
}

#[test]
fn a_peer_listed_later_counts_only_once_it_is_heard() {
    let mut lan = settled(2, 2);
    lan.list(1, 3);
    assert_eq!(lan.live(1), set(&[1, 2]));
    lan.start(3, "secret");
    lan.list(3, 3);
    lan.run(SECOND);
    assert_eq!(lan.live(1), set(&[1, 2, 3]));
    assert_eq!(lan.live(2), set(&[1, 2, 3]), "although not listed there");
}

#[test]
fn a_dead_node_is_noticed_by_all_within_the_bound() {
    for (count, bound_ms) in [(2, 700), (3, 800), (5, 900), (30, 1_100)] {
        let mut worst = Duration::ZERO;
        for seed in 0..20 {
            let mut lan = settled(count, seed);
            lan.run(Duration::from_millis(seed * 13));
            let start = lan.now;
            lan.members.remove(&count);
            lan.run(3 * SECOND);
            for node in 1..count {
                let after = lan.lost_at(node, count, start).expect("noticed");
                worst = worst.max(after);
            }
            assert_eq!(lan.losses(), count - 1, "nobody else was lost");
        }
        println!("{count} nodes: a dead one noticed by all within {worst:?}");
        assert!(
            worst <= Duration::from_millis(bound_ms),
            "{count} nodes: {worst:?}"
        );
    }
}

#[test]
fn loss_of_datagrams_kills_nobody() {
    for seed in 0..20 {
        let mut lan = settled(4, seed);
        lan.loss_percent = 10;
        lan.run(30 * SECOND);
        assert_eq!(lan.losses(), 0, "seed {seed}");
    }
}

#[test]
fn a_cut_node_sees_all_others_go_and_comes_back_when_the_cut_heals() {
    let mut lan = settled(4, 3);
    lan.cut.insert(1);
    lan.run(2 * SECOND);
    assert_eq!(lan.live(1), set(&[1]));
    assert_eq!(lan.live(2), set(&[2, 3, 4]));
    lan.run(10 * SECOND);
    lan.cut.clear();
    let healed = lan.now;
    lan.run(Duration::from_millis(600));
    for node in 1..=4 {
        assert_eq!(lan.live(node), set(&[1, 2, 3, 4]), "node {node}");
    }
    let rejoined = lan
        .events
        .iter()
        .any(|(at, _, output)| *at >= healed && *output == Output::Rejoined);
    assert!(rejoined, "one side had to take a new life");
}

#[test]
fn two_nodes_that_lost_each_other_meet_again() {
    let mut lan = settled(2, 4);
    lan.cut.insert(1);
    lan.run(60 * SECOND);
    lan.cut.clear();
    lan.run(SECOND);
    assert_eq!((lan.live(1), lan.live(2)), (set(&[1, 2]), set(&[1, 2])));
}

/// What an idle speaker costs: each turn is a wake-up of its thread.
#[test]
fn members_at_rest_have_little_to_do() {
    for (resting, watching, bound) in [(true, false, 9), (false, false, 34), (false, true, 90)] {
        let mut lan = settled(3, 15);
        for node in 1..=3 {
            lan.tell(node, Input::Rest(resting));
            // Another time for gossip than for probes does not last.
            let soon = lan.now + Duration::from_millis(20);
            let member = lan.members.get_mut(&node).expect("member");
            let gossips = |wake: &Wake| matches!(wake, Wake::Foca(foca::Timer::PeriodicGossip(_)));
            member.timers.bring_forward(soon, gossips);
        }
        if watching {
            for node in 1..=3 {
                let others = (1..=3).filter(|other| *other != node).map(name);
                lan.tell(node, Input::Watch(others.collect()));
            }
        }
        lan.run(SECOND);
        lan.turns.clear();
        lan.run(10 * SECOND);
        println!(
            "resting: {resting}, watching: {watching}, turns in 10 s: {:?}",
            lan.turns
        );
        assert!(
            lan.turns.values().all(|turns| *turns <= bound * 10),
            "{:?}",
            lan.turns
        );
        assert_eq!(lan.losses(), 0);
    }
}

/// Whoever rests probes seldom, but once a probe is not answered as fast as ever.
#[test]
fn members_at_rest_still_find_the_dead() {
    let timing = crate::Timing::default();
    for seed in 0..40 {
        let mut lan = settled(2, seed);
        for node in 1..=2 {
            lan.tell(node, Input::Rest(true));
        }
        lan.run(Duration::from_millis(1_000 + seed * 13));
        let start = lan.now;
        lan.members.remove(&1);
        lan.run(2 * SECOND);
        let lost = lan.lost_at(2, 1, start).expect("lost");
        // It may have spoken a period before it died, which spares it the next probe, and died after that.
        let spared = timing.rest_period + timing.probe_period;
        let bound = spared + timing.probe_period + timing.suspicion;
        assert!(lost <= bound + Duration::from_millis(5), "seed {seed}: {lost:?}");
    }
}

#[test]
fn who_rests_hurries_when_others_suspect_somebody_or_tell_news() {
    let timing = crate::Timing::default();
    for seed in 0..20 {
        let mut lan = settled(5, seed);
        for node in 2..=5 {
            lan.tell(node, Input::Rest(true));
        }
        lan.tell(1, Input::Watch([name(2)].into()));
        lan.run(Duration::from_millis(1_000 + seed * 23));
        lan.members.remove(&2);
        // Noticed by its watcher, and told round.
        lan.run(timing.watch_silence + timing.watch_every + timing.probe_period);
        for _ in 0..12 {
            lan.run(Duration::from_millis(20));
            for node in 3..=5 {
                let probe_at = lan.members[&node].rest.probe_at.expect("it probes");
                let next = probe_at - lan.now;
                assert!(next <= timing.probe_period, "seed {seed}, node {node}: {next:?}");
            }
        }
    }
}

#[test]
fn whoever_no_longer_rests_probes_when_it_would_have_without() {
    let timing = crate::Timing::default();
    let mut lan = settled(3, 15);
    for node in 1..=3 {
        lan.tell(node, Input::Rest(true));
    }
    lan.run(2 * SECOND);
    let next = |lan: &Lan| lan.members[&1].poll_timeout().expect("it probes") - lan.now;
    // It has just probed, and was answered.
    for _ in 0..500 {
        if next(&lan) + Duration::from_millis(20) > timing.rest_period {
            break;
        }
        lan.run(Duration::from_millis(1));
    }
    assert!(
        next(&lan) + Duration::from_millis(20) > timing.rest_period,
        "{:?}",
        next(&lan)
    );
    lan.run(Duration::from_millis(100));
    let without = next(&lan).saturating_sub(timing.probe_period * 3);
    assert!(
        without > Duration::ZERO && without < timing.probe_period,
        "{without:?}"
    );
    lan.tell(1, Input::Rest(false));
    assert_eq!(next(&lan), without);
}

#[test]
fn a_dead_peer_under_watch_is_suspected_at_once_by_who_watches() {
    for seed in 0..20 {
        let mut lan = settled(5, seed);
        lan.tell(2, Input::Watch([name(1)].into()));
        lan.run(Duration::from_millis(1_000 + seed * 7));
        let start = lan.now;
        lan.members.remove(&1);
        lan.run(Duration::from_millis(130));
        let suspected = |(at, node, output): &(Instant, usize, Output)| {
            *at >= start && *node == 2 && *output == Output::Suspected(name(1))
        };
        assert!(lan.events.iter().any(suspected), "seed {seed}");
        lan.run(Duration::from_millis(370));
        assert!(lan.lost_at(2, 1, start).is_some(), "seed {seed}");
    }
}

/// It does not know any more who watches it, and is told before it is missed.
#[test]
fn a_peer_under_watch_that_restarts_is_not_suspected() {
    for away in [10, 30, 60] {
        let mut lan = settled(3, away);
        lan.tell(1, Input::Watch([name(2)].into()));
        lan.run(SECOND);
        let start = lan.now;
        lan.members.remove(&2);
        lan.run(Duration::from_millis(away));
        lan.start(2, "secret");
        lan.list(2, 3);
        lan.run(2 * SECOND);
        let suspected = |(at, node, output): &(Instant, usize, Output)| {
            *at >= start && *node == 1 && matches!(output, Output::Suspected(_))
        };
        assert!(!lan.events.iter().any(suspected), "back after {away} ms");
        assert_eq!(lan.losses(), 0, "back after {away} ms");
    }
}

#[test]
fn leaving_is_noticed_at_once() {
    let mut lan = settled(3, 5);
    let start = lan.now;
    lan.tell(1, Input::Leave);
    lan.run(Duration::from_millis(5));
    for node in [2, 3] {
        assert_eq!(lan.live(node), set(&[2, 3]));
        assert_eq!(lan.members[&node].state("n1"), Some(PeerState::Left));
    }
    lan.run(2 * SECOND);
    assert_eq!(lan.live(2), set(&[2, 3]));
    assert!(lan.lost_at(2, 1, start).expect("lost") < Duration::from_millis(5));
}

#[test]
fn a_speaker_restarted_at_once_is_never_lost_and_one_restarted_late_comes_back() {
    let mut lan = settled(3, 6);
    lan.members.remove(&2);
    lan.run(Duration::from_millis(150));
    lan.start(2, "secret");
    lan.list(2, 3);
    lan.run(3 * SECOND);
    assert_eq!(lan.losses(), 0);
    lan.members.remove(&2);
    lan.run(5 * SECOND);
    assert_eq!(lan.live(1), set(&[1, 3]));
    lan.start(2, "secret");
    lan.list(2, 3);
    lan.run(Duration::from_millis(300));
    for node in 1..=3 {
        assert_eq!(lan.live(node), set(&[1, 2, 3]), "node {node}");
    }
}

#[test]
fn a_stalled_speaker_declares_nobody_dead_when_it_wakes() {
    for pause_ms in [100, 300, 1_000, 10_000] {
        let mut lan = settled(3, 7);
        lan.paused.insert(1);
        lan.run(Duration::from_millis(pause_ms));
        lan.paused.clear();
        let woken = lan.now;
        lan.run(3 * SECOND);
        for lost in [2, 3] {
            assert_eq!(lan.lost_at(1, lost, woken), None, "pause of {pause_ms} ms");
        }
        assert_eq!(lan.live(2), set(&[1, 2, 3]), "pause of {pause_ms} ms");
    }
}

/// A probe that our own stall fell into has its time all the same: nobody is suspected early, and none is lost.
#[test]
fn a_stall_at_rest_does_not_cut_short_the_probe_under_way() {
    let millisecond = Duration::from_millis(1);
    for (pause_ms, goes_on_resting) in (200..300).flat_map(|pause| [(pause, true), (pause, false)]) {
        let mut lan = settled(3, 15);
        for node in 1..=3 {
            lan.tell(node, Input::Rest(true));
        }
        lan.run(2 * SECOND);
        let probe_at = lan.members[&1].rest.probe_at.expect("it probes");
        lan.run((probe_at - lan.now).saturating_sub(millisecond));
        lan.cut = set(&[2, 3]);
        lan.run(millisecond);
        lan.cut.clear();
        let next = lan.members[&1].poll_timeout().expect("it waits for an answer");
        assert_eq!(next - lan.now, crate::Timing::default().probe_rtt);
        lan.paused.insert(1);
        lan.run(Duration::from_millis(pause_ms));
        lan.paused.clear();
        lan.run(millisecond);
        lan.tell(1, Input::Rest(goes_on_resting));
        for _ in 0..150 {
            lan.run(millisecond);
            let member = &lan.members[&1];
            let suspect = |member: &foca::Member<_>| member.state() == foca::State::Suspect;
            assert!(!member.foca.iter_members().any(suspect), "pause of {pause_ms} ms");
            assert_eq!(member.counters.rejected, 0, "pause of {pause_ms} ms");
        }
    }
}

#[test]
fn a_short_stall_of_a_peer_does_not_kill_it() {
    for seed in 0..20 {
        let mut lan = settled(3, seed);
        lan.paused.insert(1);
        lan.run(Duration::from_millis(300));
        lan.paused.clear();
        lan.run(2 * SECOND);
        assert_eq!(lan.losses(), 0, "seed {seed}");
    }
}

#[test]
fn all_stalled_at_once_lose_nobody() {
    for seed in 0..10 {
        let mut lan = settled(4, seed);
        lan.paused = set(&[1, 2, 3, 4]);
        lan.run(10 * SECOND);
        lan.paused.clear();
        lan.run(3 * SECOND);
        assert_eq!(lan.losses(), 0, "seed {seed}");
    }
}

#[test]
fn another_secret_is_another_world_and_counted() {
    let mut lan = settled(2, 8);
    lan.start(3, "other");
    lan.list(3, 3);
    lan.run(3 * SECOND);
    assert_eq!(lan.live(1), set(&[1, 2]));
    assert_eq!(lan.live(3), set(&[3]));
    assert!(lan.members[&1].counters().wrong_key > 0);
    assert!(
        lan.members[&3].counters().wrong_key == 0,
        "nobody there calls a peer that is not listed"
    );
}

#[test]
fn a_secret_that_changes_at_different_times_loses_nobody() {
    let mut lan = settled(3, 9);
    for node in 1..=3 {
        lan.tell(node, Input::Secret(Secret::new(b"new")));
        lan.run(40 * SECOND);
    }
    lan.run(300 * SECOND);
    assert_eq!(lan.losses(), 0);
    lan.start(4, "new");
    lan.list(4, 4);
    lan.run(SECOND);
    assert_eq!(lan.live(1), set(&[1, 2, 3, 4]));
}

#[test]
fn nonsense_is_counted_and_survived() {
    let mut lan = settled(2, 10);
    let before = lan.members[&1].counters();
    let mut rng = metallb_sansio::SeededRng::new(1);
    for _ in 0..1_000 {
        let datagram = (0..rng.below(80)).map(|_| rng.below(256) as u8).collect();
        lan.tell(
            1,
            Input::Datagram {
                from: address(2),
                datagram,
            },
        );
    }
    let after = lan.members[&1].counters();
    assert_eq!(
        after.malformed + after.wrong_key - before.malformed - before.wrong_key,
        1_000
    );
    assert_eq!(after.received, before.received);
    lan.run(SECOND);
    assert_eq!(lan.live(1), set(&[1, 2]));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| -> Vec<(Instant, usize, Output)> {
        let mut lan = settled(4, seed);
        lan.loss_percent = 30;
        lan.run(20 * SECOND);
        lan.members.remove(&2);
        lan.run(5 * SECOND);
        lan.events
    };
    assert_eq!(history(11), history(11));
}

#[test]
fn a_short_cut_between_two_gives_nobody_a_new_life() {
    for cut_ms in (50..400).step_by(10) {
        let mut lan = settled(2, cut_ms);
        lan.cut.insert(1);
        lan.run(Duration::from_millis(cut_ms));
        lan.cut.clear();
        lan.run(2 * SECOND);
        assert_eq!(lan.losses(), 0, "cut of {cut_ms} ms");
        assert!(
            !lan.events
                .iter()
                .any(|(_, _, output)| *output == Output::Rejoined),
            "cut of {cut_ms} ms"
        );
    }
}

#[test]
fn a_peer_that_dies_while_lives_change_is_still_noticed() {
    for cut_ms in (300..900).step_by(10) {
        let mut lan = settled(2, cut_ms);
        lan.cut.insert(1);
        lan.run(Duration::from_millis(cut_ms));
        lan.cut.clear();
        lan.run(Duration::from_millis(cut_ms % 90));
        lan.members.remove(&1);
        lan.run(3 * SECOND);
        assert_eq!(lan.live(2), set(&[2]), "cut of {cut_ms} ms");
    }
}

#[test]
fn a_speaker_that_saw_the_secret_late_meets_those_that_started_with_it() {
    let mut lan = Lan::new(3, 12);
    lan.members.clear();
    lan.start(1, "");
    lan.start(2, "new");
    lan.start(3, "new");
    for node in 1..=3 {
        lan.list(node, 3);
    }
    lan.run(3 * SECOND);
    assert_eq!(lan.live(1), set(&[1]));
    lan.tell(1, Input::Secret(Secret::new(b"new")));
    lan.run(SECOND);
    for node in 1..=3 {
        assert_eq!(lan.live(node), set(&[1, 2, 3]), "node {node}");
    }
}

#[test]
fn a_speaker_that_knows_no_peers_yet_answers_nobody() {
    let mut lan = settled(3, 12);
    lan.members.remove(&2);
    lan.run(2 * SECOND);
    lan.start(2, "secret");
    lan.run(2 * SECOND);
    assert_eq!(lan.live(1), set(&[1, 3]), "it is called and does not answer");
    lan.list(2, 3);
    lan.run(Duration::from_millis(300));
    assert_eq!(lan.live(1), set(&[1, 2, 3]));
}

#[test]
fn a_dead_peer_is_presumed_alive_only_until_the_others_are_heard() {
    let mut lan = settled(3, 13);
    lan.members.remove(&2);
    lan.members.remove(&3);
    lan.run(2 * SECOND);
    lan.start(2, "secret");
    lan.list(2, 3);
    assert_eq!(lan.live(2), set(&[1, 2, 3]));
    lan.run(Duration::from_millis(120));
    assert_eq!(lan.live(2), set(&[1, 2]));
}

#[test]
fn a_node_that_comes_back_makes_nobody_believe_that_the_others_died() {
    for seed in 0..50 {
        let mut lan = settled(5, seed);
        lan.cut.insert(1);
        lan.run(5 * SECOND);
        lan.cut.clear();
        let healed = lan.now;
        lan.run(2 * SECOND);
        for node in 2..=5 {
            for other in 2..=5 {
                assert_eq!(
                    lan.lost_at(node, other, healed),
                    None,
                    "seed {seed}: {node} lost {other}"
                );
            }
            assert_eq!(lan.live(node), set(&[1, 2, 3, 4, 5]), "seed {seed}");
        }
    }
}

/// One of them told a third of it that has gone since, so its gossip is spent when somebody comes who hears both.
#[test]
fn two_that_do_not_hear_each_other_meet_again_through_a_third() {
    for seed in 0..20 {
        let mut lan = settled(3, seed);
        lan.deaf.extend([(1, 2), (1, 3)]);
        lan.run(3 * SECOND);
        lan.members.remove(&3);
        lan.run(3 * SECOND);
        assert_eq!((lan.live(1), lan.live(2)), (set(&[1]), set(&[2])), "seed {seed}");
        lan.deaf.remove(&(1, 3));
        lan.start(3, "secret");
        lan.list(3, 3);
        lan.run(SECOND);
        for node in 1..=3 {
            assert_eq!(lan.live(node), set(&[1, 2, 3]), "seed {seed}, node {node}");
        }
    }
}
