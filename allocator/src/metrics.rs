//! Metrics under the names that `MetalLB`'s dashboards and alerts use.

use metallb_alloc::Counters;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// A gauge with label `pool`, and which of the counters it shows.
type PoolGauge = (IntGaugeVec, fn(&Counters) -> i64);

/// The allocator's metrics. The `_total` of the gauges is `MetalLB`'s.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pools: [PoolGauge; 7],
    /// Kubernetes objects processed.
    pub(crate) updates: IntCounter,
    /// Writes that failed, and objects that could not be processed.
    pub(crate) update_errors: IntCounter,
    /// 1 once a configuration is in force.
    pub(crate) config_loaded: IntGauge,
    /// 1 while some object is not in force as written.
    pub(crate) config_stale: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let pool = |name: &str, help: &str, value: fn(&Counters) -> i64| {
            let opts = Opts::new(format!("metallb_allocator_{name}"), help);
            let gauge = IntGaugeVec::new(opts, &["pool"])?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok((gauge, value))
        };
        let pools = [
            pool("addresses_in_use_total", "Addresses in use, per pool", |c| {
                c.assigned_v4.saturating_add(c.assigned_v6)
            })?,
            pool(
                "addresses_total",
                "Addresses that may be assigned, per pool",
                |c| c.total_v4.saturating_add(c.total_v6),
            )?,
            pool(
                "ipv4_addresses_in_use_total",
                "IPv4 addresses in use, per pool",
                |c| c.assigned_v4,
            )?,
            pool(
                "ipv4_addresses_total",
                "IPv4 addresses that may be assigned, per pool",
                |c| c.total_v4,
            )?,
            pool(
                "ipv6_addresses_in_use_total",
                "IPv6 addresses in use, per pool",
                |c| c.assigned_v6,
            )?,
            pool(
                "ipv6_addresses_total",
                "IPv6 addresses that may be assigned, per pool",
                |c| c.total_v6,
            )?,
            pool(
                "services_allocated_total",
                "Services with addresses, per pool",
                |c| c.services,
            )?,
        ];
        let updates = IntCounter::new(
            "metallb_k8s_client_updates_total",
            "Kubernetes objects that were processed",
        )?;
        let update_errors = IntCounter::new(
            "metallb_k8s_client_update_errors_total",
            "Writes to Kubernetes that failed",
        )?;
        let config_loaded = IntGauge::new(
            "metallb_k8s_client_config_loaded_bool",
            "1 once a configuration is in force",
        )?;
        let config_stale = IntGauge::new(
            "metallb_k8s_client_config_stale_bool",
            "1 while some configuration object is not in force as written",
        )?;
        registry.register(Box::new(updates.clone()))?;
        registry.register(Box::new(update_errors.clone()))?;
        registry.register(Box::new(config_loaded.clone()))?;
        registry.register(Box::new(config_stale.clone()))?;
        Ok(Self {
            registry,
            pools,
            updates,
            update_errors,
            config_loaded,
            config_stale,
        })
    }

    /// Shows the counters of a pool; `None` takes the pool away.
    pub(crate) fn set_pool(&self, pool: &str, counters: Option<Counters>) {
        for (gauge, value) in &self.pools {
            match counters {
                Some(counters) => gauge.with_label_values(&[pool]).set(value(&counters)),
                None => {
                    // An error says that the pool was never shown.
                    if gauge.remove_label_values(&[pool]).is_err() {
                        tracing::debug!(pool, "the pool had no metrics");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn names_and_values_are_metallbs() {
        let metrics = Metrics::new().expect("unique names");
        let counters = Counters {
            assigned_v4: 2,
            total_v4: 51,
            total_v6: i64::MAX,
            assigned_v6: 1,
            services: 4,
        };
        metrics.set_pool("gold", Some(counters));
        metrics.set_pool("gone", Some(counters));
        metrics.set_pool("gone", None);
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&metrics.registry.gather(), &mut text)
            .expect("text");
        let text = String::from_utf8(text).expect("UTF-8");
        for line in [
            "metallb_allocator_addresses_in_use_total{pool=\"gold\"} 3",
            "metallb_allocator_addresses_total{pool=\"gold\"} 9223372036854776000",
            "metallb_allocator_ipv4_addresses_in_use_total{pool=\"gold\"} 2",
            "metallb_allocator_ipv4_addresses_total{pool=\"gold\"} 51",
            "metallb_allocator_ipv6_addresses_in_use_total{pool=\"gold\"} 1",
            "metallb_allocator_services_allocated_total{pool=\"gold\"} 4",
            "metallb_k8s_client_updates_total 0",
            "metallb_k8s_client_update_errors_total 0",
            "metallb_k8s_client_config_loaded_bool 0",
            "metallb_k8s_client_config_stale_bool 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("gone"));
    }
}
