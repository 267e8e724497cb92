//! Metrics, under `MetalLB`'s names and labels.

use std::net::IpAddr;

use metallb_speaker_core::ServiceKey;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::wire::{Counts, Reporter};

/// Handles to what this thread sets itself.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Registry,
    node: String,
    announced: IntGaugeVec,
    updates: IntCounter,
    update_errors: IntCounter,
    config_loaded: IntGauge,
    config_stale: IntGauge,
}

impl Metrics {
    /// All metrics of a speaker, registered.
    pub(super) fn new(node: &str, reporter: Reporter) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            node: node.to_owned(),
            announced: IntGaugeVec::new(
                Opts::new(
                    "metallb_speaker_announced",
                    "Services being announced from this node. This is desired state, it does not guarantee that the \
                     routing protocols have converged.",
                ),
                &["service", "protocol", "node", "ip"],
            )?,
            updates: IntCounter::new(
                "metallb_k8s_client_updates_total",
                "Number of k8s object updates that have been processed.",
            )?,
            update_errors: IntCounter::new(
                "metallb_k8s_client_update_errors_total",
                "Number of k8s object updates that failed for some reason.",
            )?,
            config_loaded: IntGauge::new(
                "metallb_k8s_client_config_loaded_bool",
                "1 if the configuration was loaded at least once.",
            )?,
            config_stale: IntGauge::new(
                "metallb_k8s_client_config_stale_bool",
                "1 if an object of the configuration is not in force as written.",
            )?,
        };
        let own: [Box<dyn Collector>; 5] = [
            Box::new(metrics.announced.clone()),
            Box::new(metrics.updates.clone()),
            Box::new(metrics.update_errors.clone()),
            Box::new(metrics.config_loaded.clone()),
            Box::new(metrics.config_stale.clone()),
        ];
        for collector in own {
            metrics.registry.register(collector)?;
        }
        metrics
            .registry
            .register(Box::new(WireCollector::new(reporter)?))?;
        Ok(metrics)
    }

    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    fn labels<'a>(&'a self, service: &'a ServiceKey, address: &'a str) -> [&'a str; 4] {
        [service.as_str(), "layer2", &self.node, address]
    }

    /// This node answers for the address.
    pub(super) fn announced(&self, service: &ServiceKey, address: IpAddr) {
        self.announced
            .with_label_values(&self.labels(service, &address.to_string()))
            .set(1);
    }

    /// This node does not, or no longer.
    pub(super) fn not_announced(&self, service: &ServiceKey, address: IpAddr) {
        if self
            .announced
            .remove_label_values(&self.labels(service, &address.to_string()))
            .is_err()
        {
            tracing::trace!(service = service.as_str(), %address, "was not announced before");
        }
    }

    /// So many objects were taken in.
    pub(super) fn updates(&self, count: usize) {
        self.updates.inc_by(count as u64);
    }

    /// The configuration was read; `stale`: something is not in force as written.
    pub(super) fn configuration(&self, stale: bool) {
        if stale {
            self.update_errors.inc();
        }
        self.config_loaded.set(1);
        self.config_stale.set(stale.into());
    }
}

const LAYER2: [(&str, &str); 3] = [
    (
        "metallb_layer2_requests_received",
        "ARP requests and neighbour solicitations received for addresses of ours",
    ),
    (
        "metallb_layer2_responses_sent",
        "Answers sent to ARP requests and neighbour solicitations",
    ),
    (
        "metallb_layer2_gratuitous_sent",
        "Gratuitous ARP packets and unsolicited neighbour advertisements sent",
    ),
];

/// Ours, beside those of `MetalLB`.
const CONFLICT: (&str, &str) = (
    "metallb_layer2_conflict",
    "1 for each station outside the cluster that claimed an address of ours within the last minute",
);

const MEMBERSHIP: [(&str, &str); 5] = [
    (
        "metallb_speaker_membership_received",
        "Membership datagrams received and understood",
    ),
    ("metallb_speaker_membership_sent", "Membership datagrams sent"),
    (
        "metallb_speaker_membership_dropped",
        "Membership datagrams dropped: another key, replayed or malformed",
    ),
    (
        "metallb_speaker_membership_stalls",
        "Times that this process was found not to have been scheduled",
    ),
    (
        "metallb_speaker_membership_suspicions",
        "Times that this speaker suspected another one",
    ),
];

/// What the other thread counts, fetched at each scrape.
struct WireCollector {
    reporter: Reporter,
    descriptions: Vec<Desc>,
}

impl WireCollector {
    fn new(reporter: Reporter) -> Result<Self, prometheus::Error> {
        let empty = families(&Counts::default())?;
        Ok(Self {
            reporter,
            descriptions: empty.iter().flat_map(|c| c.desc()).cloned().collect(),
        })
    }
}

impl Collector for WireCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(counts) = self.reporter.counts() else {
            tracing::warn!("the wire thread does not answer; its metrics are left out");
            return Vec::new();
        };
        match families(&counts) {
            Ok(collectors) => collectors
                .iter()
                .flat_map(|collector| collector.collect())
                .collect(),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be made");
                Vec::new()
            }
        }
    }
}

fn families(counts: &Counts) -> Result<Vec<Box<dyn Collector>>, prometheus::Error> {
    let mut all: Vec<Box<dyn Collector>> = Vec::new();
    for (at, (name, help)) in LAYER2.into_iter().enumerate() {
        let family = IntCounterVec::new(Opts::new(name, help), &["ip"])?;
        for (address, counters) in &counts.addresses {
            let values = [
                counters.requests_received,
                counters.responses_sent,
                counters.gratuitous_sent,
            ];
            family
                .with_label_values(&[address.to_string()])
                .inc_by(values[at]);
        }
        all.push(Box::new(family));
    }
    let family = IntGaugeVec::new(Opts::new(CONFLICT.0, CONFLICT.1), &["ip", "mac"])?;
    for (address, macs) in &counts.conflicts {
        for mac in macs {
            family
                .with_label_values(&[address.to_string(), mac.to_string()])
                .set(1);
        }
    }
    all.push(Box::new(family));
    let membership = counts.membership;
    let values = [
        membership.received,
        membership.sent,
        membership.wrong_key + membership.replayed + membership.malformed,
        membership.stalls,
        membership.suspicions,
    ];
    for ((name, help), value) in MEMBERSHIP.into_iter().zip(values) {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        all.push(Box::new(counter));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_as_metallb_has_them() {
        let mut counts = Counts::default();
        let counters = metallb_l2::Counters {
            requests_received: 3,
            responses_sent: 2,
            gratuitous_sent: 10,
        };
        counts
            .addresses
            .insert("192.0.2.10".parse().expect("address"), counters);
        let stranger = metallb_l2::MacAddr([2, 0, 0, 0, 0, 9]);
        counts
            .conflicts
            .insert("192.0.2.11".parse().expect("address"), vec![stranger]);
        let collectors = families(&counts).expect("valid names");
        let gathered: Vec<MetricFamily> = collectors
            .iter()
            .flat_map(|collector| collector.collect())
            .collect();
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&gathered)
            .expect("text");
        for line in [
            "metallb_layer2_requests_received{ip=\"192.0.2.10\"} 3",
            "metallb_layer2_responses_sent{ip=\"192.0.2.10\"} 2",
            "metallb_layer2_gratuitous_sent{ip=\"192.0.2.10\"} 10",
            "metallb_layer2_conflict{ip=\"192.0.2.11\",mac=\"02:00:00:00:00:09\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
