//! What is wrong with a configuration object, in words its owner can act on.

use std::fmt;

use crate::{Kind, ObjectRef};

/// Machine-readable cause of an [`Issue`]; the text is the `reason` of conditions and Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The spec has the wrong shape.
    InvalidSpec,
    /// An entry of `spec.addresses` is no address range.
    InvalidAddress,
    /// Addresses belong to two pools, or twice to one.
    AddressOverlap,
    /// A label selector is malformed.
    InvalidSelector,
    /// A list holds the same entry twice.
    DuplicateEntry,
    /// A number is outside its bounds.
    OutOfRange,
    /// The object is in a namespace that `MetalLB` does not read.
    WrongNamespace,
    /// The object names a pool that does not exist.
    UnknownPool,
    /// The object names a peer that does not exist.
    UnknownPeer,
    /// A key of the `ConfigMap` that no version knew.
    UnknownField,
    /// A field that must be there is missing.
    MissingField,
    /// Fields exclude one another, or one is not for this kind of object.
    ConflictingFields,
    /// Another source defines something of the same name.
    NameClash,
    /// A text is no IP address, duration, interface name and so on.
    InvalidValue,
    /// A text is no BGP community.
    InvalidCommunity,
    /// An aggregation length is shorter than the prefix of a pool.
    InvalidAggregation,
    /// Two advertisements of the same prefixes to the same peers want different `LOCAL_PREF`.
    ConflictingLocalPref,
    /// BFD echo on a peer to which IPv6 addresses are advertised.
    EchoOnIpv6,
    /// Two peers are the same session on the same nodes.
    DuplicatePeer,
    /// The Secret of a peer is of the wrong type or holds no password.
    InvalidSecret,
    /// The Secret that the object names does not exist yet.
    WaitingForSecret,
    /// The `BFDProfile` that the object names does not exist yet.
    WaitingForBfdProfile,
    /// The community alias that the object names does not exist yet.
    WaitingForCommunity,
    /// The object works, but its kind is superseded.
    DeprecatedSource,
    /// The object is validated, but this version does not act on it yet.
    NotImplemented,
}

impl Reason {
    /// `CamelCase` text for a condition or an Event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::InvalidAddress => "InvalidAddress",
            Self::AddressOverlap => "AddressOverlap",
            Self::InvalidSelector => "InvalidSelector",
            Self::DuplicateEntry => "DuplicateEntry",
            Self::OutOfRange => "OutOfRange",
            Self::WrongNamespace => "WrongNamespace",
            Self::UnknownPool => "UnknownPool",
            Self::UnknownPeer => "UnknownPeer",
            Self::UnknownField => "UnknownField",
            Self::MissingField => "MissingField",
            Self::ConflictingFields => "ConflictingFields",
            Self::NameClash => "NameClash",
            Self::InvalidValue => "InvalidValue",
            Self::InvalidCommunity => "InvalidCommunity",
            Self::InvalidAggregation => "InvalidAggregation",
            Self::ConflictingLocalPref => "ConflictingLocalPref",
            Self::EchoOnIpv6 => "EchoOnIPv6",
            Self::DuplicatePeer => "DuplicatePeer",
            Self::InvalidSecret => "InvalidSecret",
            Self::WaitingForSecret => "WaitingForSecret",
            Self::WaitingForBfdProfile => "WaitingForBFDProfile",
            Self::WaitingForCommunity => "WaitingForCommunity",
            Self::DeprecatedSource => "DeprecatedSource",
            Self::NotImplemented => "NotImplemented",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an issue does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The object works as written; this is a hint.
    Warning,
    /// What the issue names is left out; the rest of the object is in force as written.
    Partly,
    /// The object's last valid spec stays in force; of the `ConfigMap`, the entry as it was last valid.
    LastValid,
    /// Nothing of the object is in force; of the `ConfigMap`, nothing of the entry.
    LeftOut,
}

/// One finding about one object. The message names the object, the field and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// The object to change.
    pub object: ObjectRef,
    /// Path of the field, such as `spec.addresses[1]`.
    pub field: String,
    /// Cause.
    pub reason: Reason,
    /// Sentence for a person, without the object's name and the effect: [`fmt::Display`] adds both.
    pub message: String,
    /// What follows from it.
    pub effect: Effect,
}

impl Issue {
    /// Whether the object is `Valid=False`.
    pub fn is_error(&self) -> bool {
        self.effect != Effect::Warning
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.message)?;
        let whole = self.object.kind != Kind::ConfigMap;
        f.write_str(match (self.effect, whole) {
            (Effect::Warning, _) => "",
            (Effect::Partly, _) => "; until it is corrected this part is not used",
            (Effect::LastValid, true) => "; until it is corrected its last valid spec stays in force",
            (Effect::LastValid, false) => "; until it is corrected what it last validly said stays in force",
            (Effect::LeftOut, true) => "; until it is corrected the object is not used",
            (Effect::LeftOut, false) => "; until it is corrected this entry is not used",
        })
    }
}

/// A finding before the object and the effect are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) field: String,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(field: impl Into<String>, reason: Reason, message: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            reason,
            message: presentable(message.to_string()),
        }
    }

    pub(crate) fn into_issue(self, object: ObjectRef, effect: Effect) -> Issue {
        Issue {
            object,
            field: self.field,
            reason: self.reason,
            message: self.message,
            effect,
        }
    }
}

/// Messages quote what somebody wrote: no control characters, and of a very long one the beginning and the end.
fn presentable(message: String) -> String {
    const HEAD: usize = 300;
    const TAIL: usize = 150;
    let mut message = message;
    if message.contains(char::is_control) {
        message = message.replace(char::is_control, "\u{fffd}");
    }
    if message.chars().nth(HEAD + TAIL).is_none() {
        return message;
    }
    let length = message.chars().count();
    let head = message.chars().take(HEAD);
    let tail = message.chars().skip(length - TAIL);
    head.chain(std::iter::once('…')).chain(tail).collect()
}
