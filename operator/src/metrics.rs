//! Counters of what the operator does.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The operator's metrics.
pub(crate) struct Metrics {
    /// Passes over the whole state.
    pub(crate) reconciles: IntCounter,
    /// Objects applied, by kind.
    pub(crate) applied: IntCounterVec,
    /// Objects deleted, by kind.
    pub(crate) deleted: IntCounterVec,
    /// Writes that failed, by kind.
    pub(crate) errors: IntCounterVec,
    /// Status writes.
    pub(crate) status_writes: IntCounter,
    /// 1 while the installation is available.
    pub(crate) available: IntGauge,
    /// 1 while the installation is degraded.
    pub(crate) degraded: IntGauge,
    /// Speakers that are ready.
    pub(crate) speakers_ready: IntGauge,
    /// Speakers that are wanted.
    pub(crate) speakers_desired: IntGauge,
    /// 1 while this replica leads.
    pub(crate) leading: IntGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by_kind = |name, help| IntCounterVec::new(Opts::new(name, help), &["kind"]);
        let metrics = Metrics {
            reconciles: IntCounter::new("metallb_operator_reconciles_total", "Passes over the whole state")?,
            applied: by_kind("metallb_operator_objects_applied_total", "Objects applied")?,
            deleted: by_kind("metallb_operator_objects_deleted_total", "Objects deleted")?,
            errors: by_kind("metallb_operator_write_errors_total", "Writes that failed")?,
            status_writes: IntCounter::new(
                "metallb_operator_status_writes_total",
                "Status writes of MetalLB",
            )?,
            available: IntGauge::new(
                "metallb_operator_available",
                "1 while the installation is available",
            )?,
            degraded: IntGauge::new(
                "metallb_operator_degraded",
                "1 while the installation is degraded",
            )?,
            speakers_ready: IntGauge::new("metallb_operator_speakers_ready", "Speakers that are ready")?,
            speakers_desired: IntGauge::new("metallb_operator_speakers_desired", "Speakers that are wanted")?,
            leading: IntGauge::new("metallb_operator_leading", "1 while this replica leads")?,
        };
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.applied.clone()))?;
        registry.register(Box::new(metrics.deleted.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.status_writes.clone()))?;
        for gauge in [
            &metrics.available,
            &metrics.degraded,
            &metrics.speakers_ready,
            &metrics.speakers_desired,
            &metrics.leading,
        ] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }
}
