//! Owner changes on their way from `wire` to `ctl`: a set that never blocks the sender and is as large as the number of
//! services at most.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metallb_election::NodeName;
use metallb_speaker_core::{Change, ServiceKey};
use tokio::sync::Notify;

/// What happened to one service since `ctl` last looked.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Owner when `ctl` last looked.
    pub(crate) from: Option<NodeName>,
    /// The last change.
    pub(crate) last: Change,
}

/// The set.
#[derive(Default)]
pub(crate) struct Changes {
    pending: Mutex<BTreeMap<ServiceKey, Pending>>,
    notify: Notify,
}

impl Changes {
    /// Notes a change.
    pub(super) fn owner(&self, change: Change) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let from = pending
            .get(&change.service)
            .map_or_else(|| change.from.clone(), |known| known.from.clone());
        pending.insert(change.service.clone(), Pending { from, last: change });
        self.notify.notify_one();
    }

    /// Something else changed that a look at the state may show.
    pub(super) fn touch(&self) {
        self.notify.notify_one();
    }

    /// Waits until there is something and takes it.
    pub(crate) async fn take(&self) -> BTreeMap<ServiceKey, Pending> {
        self.notify.notified().await;
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
