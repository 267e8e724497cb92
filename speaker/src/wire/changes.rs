//! What `wire` has to tell `ctl`: a collection that never blocks the sender and is bounded by the number of services, and of
//! conflicts by [`CONFLICTS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_speaker_core::{Change, ServiceKey};
use tokio::sync::Notify;

/// Conflicts that may wait: a hostile station can make up hardware addresses faster than anybody could be told.
const CONFLICTS_MAX: usize = 64;

/// What happened to one service since `ctl` last looked.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Owner when `ctl` last looked.
    pub(crate) from: Option<NodeName>,
    /// The last change.
    pub(crate) last: Change,
}

/// A station outside the cluster that has an address of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Its hardware address.
    pub(crate) mac: MacAddr,
    /// Where it was heard.
    pub(crate) interface: Arc<str>,
}

/// All that happened.
#[derive(Default)]
pub(crate) struct News {
    /// Something changed that a look at the state may show.
    pub(crate) touched: bool,
    /// Changes of owners.
    pub(crate) owners: BTreeMap<ServiceKey, Pending>,
    /// Addresses of ours for which answers began or ended by what probes or other stations said.
    pub(crate) turned: BTreeSet<IpAddr>,
    /// The last conflict about each address.
    pub(crate) conflicts: BTreeMap<IpAddr, Conflict>,
}

/// The collection.
#[derive(Default)]
pub(crate) struct Changes {
    news: Mutex<News>,
    notify: Notify,
}

impl Changes {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change.
    pub(super) fn owner(&self, change: Change) {
        let mut news = self.news();
        let from = news
            .owners
            .get(&change.service)
            .map_or_else(|| change.from.clone(), |known| known.from.clone());
        news.owners
            .insert(change.service.clone(), Pending { from, last: change });
        self.notify.notify_one();
    }

    /// Notes that a station outside the cluster has an address of ours.
    pub(super) fn conflict(&self, address: IpAddr, conflict: Conflict) {
        let mut news = self.news();
        if news.conflicts.len() < CONFLICTS_MAX || news.conflicts.contains_key(&address) {
            news.conflicts.insert(address, conflict);
            self.notify.notify_one();
        }
    }

    /// Notes addresses for which answers began or ended.
    pub(super) fn turned(&self, addresses: BTreeSet<IpAddr>) {
        if !addresses.is_empty() {
            self.news().turned.extend(addresses);
            self.notify.notify_one();
        }
    }

    /// Something else changed that a look at the state may show.
    pub(super) fn touch(&self) {
        self.news().touched = true;
        self.notify.notify_one();
    }

    /// Waits until there is something and takes it.
    pub(crate) async fn take(&self) -> News {
        self.notify.notified().await;
        std::mem::take(&mut *self.news())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Addresses that turned wake whoever waits, and are told once.
    #[test]
    fn what_turned_is_told_once() {
        let changes = Changes::default();
        let mut context = Context::from_waker(Waker::noop());
        changes.turned(BTreeSet::new());
        assert!(
            pin!(changes.take()).poll(&mut context).is_pending(),
            "none is no news"
        );
        let address = IpAddr::from([192, 0, 2, 10]);
        changes.turned([address].into());
        let Poll::Ready(news) = pin!(changes.take()).poll(&mut context) else {
            panic!("nobody was woken");
        };
        assert_eq!(news.turned, [address].into());
        assert!(pin!(changes.take()).poll(&mut context).is_pending(), "once");
    }
}
