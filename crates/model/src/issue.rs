//! What is wrong with a configuration object, in words its owner can act on.

use std::fmt;

use crate::ObjectRef;

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
    /// The object's last valid spec stays in force.
    LastValid,
    /// Nothing of the object is in force.
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
        match self.effect {
            Effect::Warning => Ok(()),
            Effect::LastValid => f.write_str("; until it is corrected its last valid spec stays in force"),
            Effect::LeftOut => f.write_str("; until it is corrected the object is not used"),
        }
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
            message: message.to_string(),
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
