//! Conditions in the Kubernetes sense, with transition times that mean something.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message that the API server's condition schema admits, in characters.
pub const MAX_MESSAGE: usize = 32_768;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl Status {
    /// The word that goes into the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::True => "True",
            Status::False => "False",
            Status::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Status::True } else { Status::False }
    }
}

/// What a condition should say; when it began to say so is found by [`set_condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// Type, CamelCase.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// Reason, CamelCase: `^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`. Never empty, no spaces: the API server refuses both.
    pub reason: &'static str,
    /// Sentence for a person: the object, the field, what to do. May be empty.
    pub message: String,
    /// `metadata.generation` that was looked at.
    pub observed_generation: Option<i64>,
}

/// Puts `new` into `list`, in place of one of the same type. `lastTransitionTime` changes only with the status.
/// Returns whether anything changed, that is whether a write is due.
pub fn set_condition(list: &mut Vec<Condition>, new: NewCondition, now: &Time) -> bool {
    debug_assert!(
        is_reason(new.reason),
        "the API server refuses the reason {:?}",
        new.reason
    );
    let mut condition = Condition {
        type_: new.type_.to_owned(),
        status: new.status.as_str().to_owned(),
        reason: new.reason.to_owned(),
        message: shortened(new.message),
        observed_generation: new.observed_generation,
        last_transition_time: now.clone(),
    };
    match list.iter_mut().find(|old| old.type_ == condition.type_) {
        None => {
            list.push(condition);
            true
        }
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            let changed = *old != condition;
            *old = condition;
            changed
        }
    }
}

/// The condition of that type.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is there and `True`.
pub fn is_true(list: &[Condition], type_: &str) -> bool {
    find(list, type_).is_some_and(|condition| condition.status == "True")
}

fn is_reason(reason: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(word)
        && reason.chars().all(|c| word(c) || c == ',' || c == ':')
}

fn shortened(message: String) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message;
    }
    let mut short: String = message.chars().take(MAX_MESSAGE - 4).collect();
    short.push_str(" ...");
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn valid(status: Status, reason: &'static str, message: &str, generation: i64) -> NewCondition {
        NewCondition {
            type_: "Valid",
            status,
            reason,
            message: message.into(),
            observed_generation: Some(generation),
        }
    }

    #[test]
    fn the_transition_time_follows_the_status_alone() {
        let mut list = Vec::new();
        assert!(set_condition(
            &mut list,
            valid(Status::True, "Accepted", "", 1),
            &at(10)
        ));
        assert!(
            !set_condition(&mut list, valid(Status::True, "Accepted", "", 1), &at(20)),
            "nothing changed"
        );
        assert!(
            set_condition(&mut list, valid(Status::True, "Accepted", "", 2), &at(30)),
            "generation"
        );
        assert_eq!(list[0].last_transition_time, at(10));
        assert!(set_condition(
            &mut list,
            valid(Status::False, "Invalid", "bad", 3),
            &at(40)
        ));
        assert_eq!(list[0].last_transition_time, at(40));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn reasons_that_the_api_server_refuses_are_known() {
        for reason in ["internal error", "", "9Lives", "Trailing,", "Ünicode"] {
            assert!(!is_reason(reason), "{reason}");
        }
        for reason in ["A", "IncorrectMetalLBResourceName", "a:b_c"] {
            assert!(is_reason(reason), "{reason}");
        }
    }

    #[test]
    fn a_message_fits_the_schema() {
        let mut list = Vec::new();
        let long = "ä".repeat(MAX_MESSAGE + 1);
        set_condition(&mut list, valid(Status::False, "Invalid", &long, 1), &at(1));
        assert_eq!(list[0].message.chars().count(), MAX_MESSAGE);
    }
}
