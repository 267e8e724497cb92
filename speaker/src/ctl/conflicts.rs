//! Stations outside the cluster that have addresses of ours: told to the user by Events on the services, without a flood.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use metallb_api::names::events;
use metallb_kubeio::{EventKind, EventSink};
use metallb_l2::{ConflictPolicy, MacAddr};
use metallb_speaker_core::ServiceKey;

use crate::wire::Conflict;

/// How often the same conflict is told.
const AGAIN: Duration = Duration::from_secs(600);
/// How often any conflict about one address is told.
const PACE: Duration = Duration::from_secs(10);
/// A conflict of which nothing was heard for so long is over.
const OVER: Duration = Duration::from_secs(60);

/// Tells conflicts.
pub(super) struct Conflicts {
    node: String,
    policy: ConflictPolicy,
    /// When each conflict was last told, as long as it is not told again: [`PACE`] leaves few of one address.
    told: BTreeMap<(IpAddr, MacAddr), Instant>,
    heard: BTreeMap<IpAddr, Heard>,
}

/// What was heard about one address.
struct Heard {
    /// The station that statuses name, and when it was heard last.
    named: (MacAddr, Instant),
    /// When any station was.
    last: Instant,
}

impl Conflicts {
    pub(super) fn new(node: &str, policy: ConflictPolicy) -> Self {
        Self {
            node: node.to_owned(),
            policy,
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Whether it is time to tell of this one.
    fn due(&mut self, now: Instant, address: IpAddr, mac: MacAddr) -> bool {
        self.told.retain(|_, at| now.duration_since(*at) < AGAIN);
        let stations = (address, MacAddr::ZERO)..=(address, MacAddr::BROADCAST);
        let mut others = self.told.range(stations);
        let due = others.all(|((_, known), at)| *known != mac && now.duration_since(*at) >= PACE);
        if due {
            self.told.insert((address, mac), now);
        }
        due
    }

    /// Tells it on every service that has the address.
    pub(super) fn tell<'a>(
        &mut self,
        sink: &EventSink,
        address: IpAddr,
        conflict: &Conflict,
        services: impl Iterator<Item = (&'a ServiceKey, &'a str)>,
    ) {
        let now = Instant::now();
        if !self.due(now, address, conflict.mac) {
            return;
        }
        let message = self.message(address, conflict);
        tracing::warn!(%address, mac = %conflict.mac, interface = &*conflict.interface, "{message}");
        for (key, uid) in services {
            let about = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Service".into()),
                namespace: Some(key.namespace().into()),
                name: Some(key.name().into()),
                uid: Some(uid.into()),
                ..Default::default()
            };
            sink.publish(
                about,
                EventKind::Warning,
                events::ADDRESS_CONFLICT,
                message.clone(),
            );
        }
    }

    /// Whether statuses are to name this station. Of several with one address, the one that is named stays as long as it is
    /// heard: they take turns in what is heard last.
    pub(super) fn names(&mut self, now: Instant, address: IpAddr, mac: MacAddr) -> bool {
        let first = Heard {
            named: (mac, now),
            last: now,
        };
        let heard = self.heard.entry(address).or_insert(first);
        heard.last = now;
        let (named, at) = heard.named;
        let names = named == mac || now.duration_since(at) >= OVER;
        if names {
            heard.named = (mac, now);
        }
        names
    }

    /// The addresses of which nothing was heard any more.
    pub(super) fn over(&mut self) -> Vec<IpAddr> {
        let over = |heard: &Heard| heard.last.elapsed() >= OVER;
        let gone: Vec<IpAddr> = self
            .heard
            .iter()
            .filter(|(_, heard)| over(heard))
            .map(|(address, _)| *address)
            .collect();
        self.heard.retain(|_, heard| !over(heard));
        gone
    }

    fn message(&self, address: IpAddr, conflict: &Conflict) -> String {
        let Conflict { mac, interface } = conflict;
        let node = &self.node;
        let what = match self.policy {
            ConflictPolicy::Warn => "announces it all the same",
            ConflictPolicy::Block => "leaves it alone as long as that station has it",
            ConflictPolicy::Defend => "announces it again when that station does, at most every 10 s",
        };
        format!(
            "address {address} is also at the station {mac}, seen on interface {interface} of node \"{node}\", which {what}: \
             take the address from that station, or out of the IPAddressPool"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are heard whenever it is asked whether the conflict lasts.
    #[test]
    fn two_stations_with_one_address_are_told_once_each() {
        let mut conflicts = Conflicts::new("n1", ConflictPolicy::Warn);
        let (start, address) = (Instant::now(), IpAddr::from([192, 0, 2, 10]));
        let macs = [1, 2].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
        let mut told = [0, 0];
        for second in (0..600).step_by(17) {
            let now = start + Duration::from_secs(second);
            for (mac, told) in macs.iter().zip(&mut told) {
                *told += usize::from(conflicts.due(now, address, *mac));
            }
        }
        assert_eq!(told, [1, 1]);
    }

    #[test]
    fn statuses_name_one_station_as_long_as_it_is_heard() {
        let mut conflicts = Conflicts::new("n1", ConflictPolicy::Warn);
        let (start, address) = (Instant::now(), IpAddr::from([192, 0, 2, 10]));
        let (one, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        for (second, mac, expected) in [
            (0, one, true),
            (1, other, false),
            (30, other, false),
            (50, one, true),
            (109, other, false),
            (110, other, true),
            (111, one, false),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(conflicts.names(now, address, mac), expected, "{second} s, {mac}");
        }
    }

    #[test]
    fn nobody_is_flooded() {
        let mut conflicts = Conflicts::new("n1", ConflictPolicy::Warn);
        let (start, address) = (Instant::now(), IpAddr::from([192, 0, 2, 10]));
        let (one, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        for (second, mac, expected) in [
            (0, one, true),
            (1, one, false),
            (2, other, false),
            (11, other, true),
            (300, other, false),
            (612, other, true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(conflicts.due(now, address, mac), expected, "{second} s, {mac}");
        }
        let interface = "eth0".into();
        let message = conflicts.message(address, &Conflict { mac: one, interface });
        assert!(
            message.contains("192.0.2.10") && message.contains("02:00:00:00:00:01"),
            "{message}"
        );
    }
}
