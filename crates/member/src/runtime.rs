//! What `foca` asks for, collected.

use core::time::Duration;
use std::collections::VecDeque;

use foca::{Notification, Timer};

use crate::Identity;

/// Collects `foca`'s requests for the machine to act on after each call.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) sends: VecDeque<(Identity, Vec<u8>)>,
    pub(crate) timers: VecDeque<(Duration, Timer<Identity>)>,
    /// Whether the set of active members may have changed.
    pub(crate) members_changed: bool,
    /// Whether we had been declared dead and are back under a new identity.
    pub(crate) rejoined: bool,
}

impl foca::Runtime<Identity> for Collected {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(_) | Notification::MemberDown(_) | Notification::Rename(..) => {
                self.members_changed = true;
            }
            Notification::Rejoin(_) => self.rejoined = true,
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sends.push_back((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push_back((after, event));
    }
}
