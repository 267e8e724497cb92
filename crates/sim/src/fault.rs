//! What goes wrong, and what is changed on purpose.

use std::collections::BTreeSet;

use metallb_sansio::{Duration, SeededRng};

use crate::host::{INTERFACE, SECOND_INTERFACE};
use crate::lan::CLIENT_ISLANDS;
use crate::{Cluster, NodeNumber, ServiceNumber};

/// One disturbance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A speaker is killed.
    Kill(NodeNumber),
    /// A whole node is switched off.
    PowerOff(NodeNumber),
    /// A speaker stops cleanly.
    Stop(NodeNumber),
    /// A speaker stops cleanly and starts again after a while, as in an upgrade.
    Roll(NodeNumber, Duration),
    /// A speaker starts.
    Start(NodeNumber),
    /// A speaker is killed and starts again after a while.
    Restart(NodeNumber, Duration),
    /// A speaker is not scheduled for a while.
    Pause(NodeNumber, Duration),
    /// A speaker is scheduled again.
    Resume(NodeNumber),
    /// A cable is pulled from an interface; the node sees its carrier go.
    Unplug(NodeNumber, u32),
    /// A cable is plugged in.
    Plug(NodeNumber, u32),
    /// An interface loses its carrier for a moment.
    Flap(NodeNumber, u32, Duration),
    /// A whole node is suspended for a while; its monotonic clock stands still.
    Suspend(NodeNumber, Duration),
    /// It goes on.
    WakeUp(NodeNumber),
    /// The monotonic clock of a node jumps ahead.
    Jump(NodeNumber, Duration),
    /// A node is cut off behind its switch; its carrier stays.
    Isolate(NodeNumber),
    /// The LAN falls apart: these nodes are on the other island.
    Split(BTreeSet<NodeNumber>),
    /// The LAN is whole again.
    Heal,
    /// Two nodes no longer hear each other; the others hear both.
    Deafen(NodeNumber, NodeNumber),
    /// A node loses the API server.
    CutApi(NodeNumber),
    /// Everybody reaches the API server again.
    RestoreApi,
    /// A node gets or loses the label that excludes it.
    Exclude(NodeNumber, bool),
    /// A node gets or loses the label that the advertisement selects.
    Label(NodeNumber, bool),
    /// The endpoints of a service move.
    Place(ServiceNumber, BTreeSet<NodeNumber>),
    /// A service is created or deleted.
    Offer(ServiceNumber, bool),
    /// Everything that is broken is repaired.
    RepairAll,
}

impl Fault {
    /// One that fits the state of the cluster.
    pub(crate) fn draw(rng: &mut SeededRng, cluster: &Cluster) -> Self {
        let size = cluster.size();
        let mut some = |bound: usize| rng.below(bound as u64) as usize;
        let node = some(size);
        let service = some(cluster.facts().services());
        let runs = cluster.host(node).runs();
        let interface = if cluster.lan().has_second() && some(2) == 0 {
            SECOND_INTERFACE
        } else {
            INTERFACE
        };
        let mut some = |bound: usize| rng.below(bound as u64) as usize;
        match some(32) {
            26 | 27 if runs => Self::Flap(
                node,
                interface,
                Duration::from_millis([5, 60, 400, 2_000][some(4)]),
            ),
            28 if runs => {
                let longest = [300, 2_000, 20_000][some(3)];
                Self::Suspend(node, Duration::from_millis(longest))
            }
            29 => Self::Jump(node, Duration::from_millis([50, 500, 5_000, 3_600_000][some(4)])),
            24 if runs => Self::PowerOff(node),
            25 if runs => Self::Roll(node, Duration::from_millis([600, 1_000, 4_000, 40_000][some(4)])),
            0 | 1 if runs => Self::Kill(node),
            2 if runs => Self::Stop(node),
            3 if runs => Self::Restart(node, Duration::from_millis([50, 300, 1_000, 4_000][some(4)])),
            0..=3 => Self::Start(node),
            4..=6 if runs => {
                let longest = [100, 300, 1_000, 5_000][some(4)];
                Self::Pause(
                    node,
                    rng.up_to(Duration::from_millis(longest)) + Duration::from_millis(5),
                )
            }
            4..=7 => Self::Unplug(node, interface),
            8 => Self::Plug(node, interface),
            9 | 10 => Self::Isolate(node),
            11 | 12 => Self::Split((0..size).filter(|_| rng.percent(50)).collect()),
            13 | 14 => Self::Heal,
            // With many losses besides, an indirect probe (four hops) is no way round.
            15 if cluster.loss() <= 1 => Self::Deafen(node, some(size)),
            16 => Self::CutApi(node),
            17 => Self::RestoreApi,
            18 => Self::Exclude(node, !cluster.facts().is_excluded(node)),
            19 => Self::Label(node, !cluster.facts().is_labelled(node)),
            20 => Self::Place(service, (0..size).filter(|_| rng.percent(60)).collect()),
            21 => Self::Offer(service, !cluster.facts().is_present(service)),
            _ => Self::RepairAll,
        }
    }

    /// Does it. What has to follow later is returned with its delay.
    pub fn apply(&self, cluster: &mut Cluster) -> Option<(Duration, Self)> {
        let all = 0..cluster.size();
        match self {
            Self::Kill(node) => cluster.kill(*node),
            Self::PowerOff(node) => cluster.power_off(*node),
            Self::Stop(node) => cluster.stop(*node),
            Self::Roll(node, after) => {
                cluster.stop(*node);
                return Some((*after, Self::Start(*node)));
            }
            Self::Start(node) => cluster.start(*node),
            Self::Restart(node, after) => {
                cluster.kill(*node);
                return Some((*after, Self::Start(*node)));
            }
            Self::Pause(node, length) => {
                cluster.pause(*node);
                return Some((*length, Self::Resume(*node)));
            }
            Self::Resume(node) => cluster.resume(*node),
            Self::Unplug(node, interface) => cluster.plug(*node, *interface, false),
            Self::Plug(node, interface) => cluster.plug(*node, *interface, true),
            Self::Flap(node, interface, length) => {
                cluster.plug(*node, *interface, false);
                return Some((*length, Self::Plug(*node, *interface)));
            }
            Self::Suspend(node, length) => {
                cluster.suspend(*node);
                return Some((*length, Self::WakeUp(*node)));
            }
            Self::WakeUp(node) => cluster.wake_up(*node),
            Self::Jump(node, by) => cluster.jump(*node, *by),
            Self::Isolate(node) => cluster.isolate(*node),
            Self::Split(nodes) => nodes
                .iter()
                .for_each(|node| cluster.drift(*node, CLIENT_ISLANDS - 1)),
            Self::Heal => {
                all.for_each(|node| cluster.drift(node, 0));
                cluster.clear_deafness();
            }
            Self::Deafen(a, b) => cluster.deafen(*a, *b),
            Self::CutApi(node) => cluster.connect_api(*node, false),
            Self::RestoreApi => all.for_each(|node| cluster.connect_api(node, true)),
            Self::Exclude(node, excluded) => cluster.change(|facts| facts.exclude(*node, *excluded)),
            Self::Label(node, edge) => cluster.change(|facts| facts.label(*node, *edge)),
            Self::Place(service, nodes) => cluster.change(|facts| facts.place(*service, nodes.clone())),
            Self::Offer(service, present) => cluster.change(|facts| facts.offer(*service, *present)),
            Self::RepairAll => {
                cluster.clear_deafness();
                for node in all {
                    cluster.wake_up(node);
                    cluster.resume(node);
                    cluster.plug(node, INTERFACE, true);
                    cluster.plug(node, SECOND_INTERFACE, true);
                    cluster.drift(node, 0);
                    cluster.connect_api(node, true);
                    cluster.start(node);
                }
            }
        }
        None
    }

    /// Whether it takes somebody away from somebody else. Others come back or tell.
    pub(crate) fn takes_away(&self) -> bool {
        matches!(
            self,
            Self::Kill(_)
                | Self::PowerOff(_)
                | Self::Stop(_)
                | Self::Roll(..)
                | Self::Restart(..)
                | Self::Pause(..)
                | Self::Unplug(..)
                | Self::Flap(..)
                | Self::Suspend(..)
                | Self::Isolate(_)
                | Self::Split(_)
                | Self::Deafen(..)
        )
    }

    /// The nodes whose liveness or view it touches. An ownership may change only from, to or in the view of such a node,
    /// or when a fact arrives.
    pub(crate) fn touches(&self, cluster: &Cluster) -> BTreeSet<NodeNumber> {
        match self {
            Self::Kill(node)
            | Self::PowerOff(node)
            | Self::Stop(node)
            | Self::Roll(node, _)
            | Self::Start(node)
            | Self::Restart(node, _)
            | Self::Pause(node, _)
            | Self::Resume(node)
            | Self::Unplug(node, _)
            | Self::Plug(node, _)
            | Self::Flap(node, ..)
            | Self::Suspend(node, _)
            | Self::WakeUp(node)
            | Self::Isolate(node) => [*node].into(),
            // Whoever changes islands brings along what it believed on the other.
            Self::Split(_) | Self::Heal | Self::RepairAll => (0..cluster.size()).collect(),
            // Nobody loses an address as long as there is a way round.
            Self::Deafen(a, b) => {
                let running = (0..cluster.size()).filter(|node| cluster.host(*node).takes_part());
                let components = cluster.lan().components(running);
                let around = components
                    .iter()
                    .any(|component| component.contains(a) && component.contains(b));
                if around {
                    BTreeSet::new()
                } else {
                    (0..cluster.size()).collect()
                }
            }
            // That a clock jumps is no reason. Nor are these; a new fact is one where and when it arrives.
            Self::Jump(..)
            | Self::CutApi(_)
            | Self::RestoreApi
            | Self::Exclude(..)
            | Self::Label(..)
            | Self::Place(..)
            | Self::Offer(..) => BTreeSet::new(),
        }
    }
}
