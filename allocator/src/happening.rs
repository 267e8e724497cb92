//! Everything that wakes the process.

use metallb_alloc::ServiceId;
use metallb_api::{ConfigurationState, Raw};
use metallb_kubeio::ConfigEvent;
use metallb_kubeio::{Event, thin};
use metallb_model::SecretFacts;
use serde_json::Value;

use crate::objects::ObjectKey;

/// One thing that happened.
pub(crate) enum Happening {
    /// A service changed.
    Service(Event<thin::Service>),
    /// A namespace changed.
    Namespace(Event<thin::Namespace>),
    /// A node changed.
    Node(Event<thin::Node>),
    /// A configuration object changed.
    Config(ConfigEvent),
    /// A Secret was read; `None`: it does not exist.
    Secret(String, Result<Option<SecretFacts>, String>),
    /// It is time to look at Secrets again.
    LookAtSecrets,
    /// The `ConfigurationState` of this component changed.
    Report(Event<Raw<ConfigurationState>>),
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
    /// A write of the `ConfigurationState` ended; `None`: nothing was sent.
    ReportWritten(Result<Option<Raw<ConfigurationState>>, String>),
    /// It is time to try the `ConfigurationState` again.
    ReportAgain,
    /// The writer of Events may have room again.
    Tell,
    /// The lists should be complete by now.
    StillWaiting,
    /// Services that wait for an address are looked at once more.
    LookAgain,
    /// Look whether something can be done that could not be done before.
    Nudge,
    /// The process was asked to stop.
    Stop,
}

/// What became of a write to a service.
pub(crate) enum ServiceAnswer {
    /// It went through, and this is the service now.
    Written(Box<thin::Service>),
    /// There was a conflict; the service as it is now, read.
    Is(Box<thin::Service>),
    /// The service is gone.
    Gone,
    /// Nothing is known; try again later.
    Failed(String),
}

/// What became of a write to a configuration object's status.
pub(crate) enum StatusAnswer {
    /// It went through, and this is the object now.
    Written {
        /// UID of the object that was meant.
        uid: String,
        /// Its `metadata.resourceVersion`.
        version: String,
        /// Its status.
        status: Value,
        /// What it records as last valid.
        last_valid: Option<Value>,
    },
    /// Superseded by a change that the watch brings, or the object is gone.
    Superseded,
    /// Nothing is known; try again later.
    Failed(String),
}
