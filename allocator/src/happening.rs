//! Everything that wakes the process.

use metallb_alloc::ServiceId;
use metallb_api::{IPAddressPool, L2Advertisement, Raw};
use metallb_kubeio::{Event, thin};

use crate::objects::{ObjectKey, Snapshot};

/// One thing that happened.
pub(crate) enum Happening {
    /// A service changed.
    Service(Event<thin::Service>),
    /// A namespace changed.
    Namespace(Event<thin::Namespace>),
    /// A node changed.
    Node(Event<thin::Node>),
    /// A pool changed.
    Pool(Event<Raw<IPAddressPool>>),
    /// A layer-2 advertisement changed.
    L2(Event<Raw<L2Advertisement>>),
    /// Leadership was won or lost.
    Leading(bool),
    /// A write of a service's status ended.
    ServiceWritten(ServiceId, ServiceAnswer),
    /// It is time to try a service's status again.
    RetryService(ServiceId),
    /// It is time to write the statuses of configuration objects.
    FlushStatuses,
    /// A write of a configuration object's status ended.
    StatusWritten(ObjectKey, StatusAnswer),
    /// It is time to try a configuration object's status again.
    RetryStatus(ObjectKey),
    /// A write of the `ConfigurationState` ended.
    ReportWritten(Result<(), String>),
    /// Look whether something can be done that could not be done before.
    Nudge,
    /// The process was asked to stop.
    Stop,
}

/// What became of a write to a service.
pub(crate) enum ServiceAnswer {
    /// The service as it is now, written or (after a conflict) read.
    Is(Box<thin::Service>),
    /// The service is gone.
    Gone,
    /// Nothing is known; try again later.
    Failed(String),
}

/// What became of a write to a configuration object's status.
pub(crate) enum StatusAnswer {
    /// The object as it is now.
    Is(Box<Snapshot>),
    /// Superseded by a change that the watch brings, or the object is gone.
    Superseded,
    /// Nothing is known; try again later.
    Failed(String),
}
