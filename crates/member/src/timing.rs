use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;

/// The times of membership. All positive; [`Timing::default`] is what the binaries use, chosen by simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a peer (in turn, in random order) is probed, and how long it has to answer, directly or indirectly.
    pub probe_period: Duration,
    /// How often a peer is probed while nothing depends on how soon a failure is noticed ([`Input::Rest`](crate::Input::Rest)), no
    /// peer is in doubt and there is no news to be told. A probe that is not answered in time ends it.
    pub rest_period: Duration,
    /// How long a direct answer may take before others are asked to probe; less than half of `probe_period`.
    pub probe_rtt: Duration,
    /// How long a suspect may take to answer before it is dead.
    pub suspicion: Duration,
    /// How often a suspect is told that it is one.
    pub accuse_every: Duration,
    /// How often peers that are known but not alive are called.
    pub call_every: Duration,
    /// How long peers known at the start are presumed alive without having been heard.
    pub presumption: Duration,
    /// The same once any peer was heard: the LAN works, so whoever is alive answers at once. Until then nobody may answer
    /// for addresses of a dead node that rank us next.
    pub presumption_once_heard: Duration,
    /// How often peers presumed alive are called during that time.
    pub call_presumed_every: Duration,
    /// How long a peer that others call dead, and that we had no reason to suspect, has to contradict: a node that was
    /// cut off comes back with the belief that everybody else died.
    pub doubt: Duration,
    /// By how much a timer may be late before it counts as our own stall.
    pub stall: Duration,
    /// How long after an own stall suspicion takes `suspicion_after_stall` instead.
    pub recovery: Duration,
    /// How often a peer that is watched closely says that it is there.
    pub watch_every: Duration,
    /// After how long of silence a peer that is watched closely is suspected.
    pub watch_silence: Duration,
    /// How often a peer that is watched closely is told so.
    pub watch_renewed: Duration,
    /// How long it believes it.
    pub watch_lasts: Duration,
    /// How often a speaker that stops says so to those who have not answered.
    pub farewell_every: Duration,
    /// How long it waits for their answers at most.
    pub farewell: Duration,
    /// Suspicion while recovering from an own stall.
    pub suspicion_after_stall: Duration,
}

impl Default for Timing {
    /// An owner is missed by its beats, which whoever is next by rank gets, and is dead after the suspicion; any other node is
    /// missed at the first or second probe that is due to it. Simulated with 2 to 20 nodes and no losses, the successor
    /// announces within 0.6 s in 99 of 100 cases (`crates/sim/tests/takeover.rs`).
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(80),
            rest_period: Duration::from_millis(400),
            probe_rtt: Duration::from_millis(35),
            suspicion: Duration::from_millis(360),
            accuse_every: Duration::from_millis(40),
            call_every: Duration::from_millis(120),
            presumption: Duration::from_millis(1_500),
            presumption_once_heard: Duration::from_millis(100),
            call_presumed_every: Duration::from_millis(25),
            doubt: Duration::from_millis(100),
            stall: Duration::from_millis(40),
            watch_every: Duration::from_millis(50),
            watch_silence: Duration::from_millis(120),
            watch_renewed: Duration::from_millis(600),
            watch_lasts: Duration::from_millis(1_500),
            farewell_every: Duration::from_millis(25),
            farewell: Duration::from_millis(400),
            recovery: Duration::from_secs(5),
            suspicion_after_stall: Duration::from_millis(800),
        }
    }
}

impl Timing {
    /// The parameters for `foca`. `recovering` lengthens the suspicion.
    pub(crate) fn foca(&self, recovering: bool) -> foca::Config {
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: const { NonZeroUsize::new(3).expect("positive") },
            max_transmissions: const { NonZeroU8::new(10).expect("positive") },
            suspect_to_down_after: if recovering {
                self.suspicion_after_stall
            } else {
                self.suspicion
            },
            // A dead identity never returns (it renews itself), so it is remembered long enough that no late gossip
            // brings it back.
            remove_down_after: Some(Duration::from_secs(3_600)),
            max_packet_size: const { NonZeroUsize::new(1_300).expect("positive") },
            notify_down_members: true,
            // Peers come from outside and are called by the machine, which also works with nobody alive.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams {
                frequency: self.probe_period,
                num_members: const { NonZeroUsize::new(3).expect("positive") },
            }),
        }
    }
}
