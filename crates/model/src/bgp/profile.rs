//! BFD profiles.

use serde::{Deserialize, Serialize};

use crate::claims::Names;
use crate::issue::{Finding, Reason};
use crate::settle::{Contender, Origin};

/// `spec` of a `BFDProfile` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BfdProfileSpec {
    /// Required minimum receive interval, 10 to 60000 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_interval: Option<i64>,
    /// Desired minimum transmit interval, 10 to 60000 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transmit_interval: Option<i64>,
    /// Detection time multiplier, 2 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_multiplier: Option<i64>,
    /// Echo interval, 10 to 60000 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_interval: Option<i64>,
    /// Echo packets, IPv4 only. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,
    /// Wait for the peer to begin. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,
    /// Smallest TTL accepted on multi-hop sessions, 1 to 254.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_ttl: Option<i64>,
}

/// A validated BFD profile (RFC 5880). Unset values are the engine's to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// Name that peers use; unique.
    pub name: String,
    /// Required minimum receive interval in milliseconds, 10 to 60000.
    pub receive_interval: Option<u32>,
    /// Desired minimum transmit interval in milliseconds, 10 to 60000.
    pub transmit_interval: Option<u32>,
    /// Detection time multiplier, 2 to 255.
    pub detect_multiplier: Option<u8>,
    /// Echo interval in milliseconds, 10 to 60000.
    pub echo_interval: Option<u32>,
    /// Whether echo packets are used.
    pub echo_mode: bool,
    /// Whether to wait for the peer to begin.
    pub passive_mode: bool,
    /// Smallest TTL accepted on multi-hop sessions, 1 to 254.
    pub minimum_ttl: Option<u8>,
}

impl BfdProfile {
    pub(crate) fn parse(name: &str, spec: &BfdProfileSpec) -> Result<Self, Finding> {
        if name.is_empty() {
            let message = "is missing; give the profile a name";
            return Err(Finding::new("metadata.name", Reason::MissingField, message));
        }
        let milliseconds = |value, field| bounded::<u32>(value, field, 10, 60_000);
        Ok(Self {
            name: name.to_owned(),
            detect_multiplier: bounded(spec.detect_multiplier, "detectMultiplier", 2, 255)?,
            receive_interval: milliseconds(spec.receive_interval, "receiveInterval")?,
            transmit_interval: milliseconds(spec.transmit_interval, "transmitInterval")?,
            minimum_ttl: bounded(spec.minimum_ttl, "minimumTtl", 1, 254)?,
            echo_interval: milliseconds(spec.echo_interval, "echoInterval")?,
            echo_mode: spec.echo_mode.unwrap_or(false),
            passive_mode: spec.passive_mode.unwrap_or(false),
        })
    }
}

/// A number of `spec.<field>` within bounds, both inside.
pub(super) fn bounded<T: TryFrom<i64>>(
    value: Option<i64>,
    field: &str,
    min: i64,
    max: i64,
) -> Result<Option<T>, Finding> {
    let Some(value) = value else { return Ok(None) };
    let inside = (min..=max)
        .contains(&value)
        .then(|| T::try_from(value).ok())
        .flatten();
    inside.map(Some).ok_or_else(|| {
        let message = format!("is {value}; it must be {min} to {max}");
        Finding::new(format!("spec.{field}"), Reason::OutOfRange, message)
    })
}

impl Contender for BfdProfile {
    type Ledger = Names;
    type Clash = ();

    fn clash(&self, ledger: &Names) -> Option<(usize, ())> {
        ledger.get(&self.name).map(|owner| (*owner, ()))
    }

    fn take(&self, ledger: &mut Names, index: usize) {
        ledger.insert(self.name.clone(), index);
    }

    fn release(&self, ledger: &mut Names, _index: usize) {
        ledger.remove(&self.name);
    }

    fn same_claims(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn explain(&self, (): &(), _winner: &Self, winner_origin: &Origin) -> Finding {
        let message = format!(
            "{} has a BFD profile named {} too; rename or remove one of them",
            winner_origin.object, self.name
        );
        Finding::new("metadata.name", Reason::NameClash, message)
    }
}
