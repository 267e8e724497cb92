//! What a component waits for before it is ready.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Named things that must hold before `/readyz` says so. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Health {
    /// All of `names` start as not ready.
    pub fn waiting_for(names: &[&'static str]) -> Self {
        let health = Self::default();
        for name in names {
            health.not_ready(name, "not done yet");
        }
        health
    }

    /// `name` holds from now on.
    pub fn ready(&self, name: &'static str) {
        self.set(name, Ok(()));
    }

    /// `name` does not hold; `why` is printed by `/readyz`.
    pub fn not_ready(&self, name: &'static str, why: impl Into<String>) {
        self.set(name, Err(why.into()));
    }

    fn set(&self, name: &'static str, state: Result<(), String>) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, state);
    }

    /// `Ok` when all hold, else one line for each that does not.
    ///
    /// # Errors
    /// The lines, `name: why`.
    pub fn check(&self) -> Result<(), String> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let failing: Vec<String> = checks
            .iter()
            .filter_map(|(name, state)| state.as_ref().err().map(|why| format!("{name}: {why}")))
            .collect();
        if failing.is_empty() {
            Ok(())
        } else {
            Err(failing.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn ready_when_all_are() {
        let health = Health::waiting_for(&["services", "pools"]);
        assert_eq!(
            health.check().unwrap_err(),
            "pools: not done yet\nservices: not done yet"
        );
        health.ready("services");
        health.ready("pools");
        assert_eq!(health.check(), Ok(()));
        health.not_ready("pools", "the watch is broken");
        assert_eq!(health.check().unwrap_err(), "pools: the watch is broken");
    }
}
