//! Hardware addresses of nodes that are in no membership of ours, because no speaker runs there or Go's does: what they say
//! on the LAN is no conflict. The kernel's neighbour table has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use metallb_l2::MacAddr;

/// How often the kernel is made to find a node that it does not know.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Nodes asked for at once.
const AT_ONCE: usize = 16;

/// What is known of them.
#[derive(Default)]
pub(super) struct Friends {
    known: BTreeMap<IpAddr, MacAddr>,
    asked: Option<Instant>,
}

impl Friends {
    /// Looks for these nodes; all their hardware addresses when that is news.
    pub(super) fn look(&mut self, nodes: &BTreeSet<IpAddr>) -> Option<BTreeSet<MacAddr>> {
        if nodes.is_empty() && self.known.is_empty() {
            return None;
        }
        let table = metallb_net::neighbours().unwrap_or_else(|error| {
            tracing::debug!(%error, "the neighbour table cannot be read");
            Vec::new()
        });
        let before = self.macs();
        // What was known once stays: the table forgets.
        self.known.retain(|ip, _| nodes.contains(ip));
        let found = table.into_iter().filter(|(ip, _)| nodes.contains(ip));
        self.known.extend(found.map(|(ip, mac)| (ip, MacAddr(mac))));
        if self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.asked = Some(Instant::now());
            for ip in nodes
                .iter()
                .filter(|ip| !self.known.contains_key(ip))
                .take(AT_ONCE)
            {
                if let Err(error) = metallb_net::resolve(*ip) {
                    tracing::debug!(%ip, %error, "a node without a speaker of ours cannot be reached");
                }
            }
        }
        let after = self.macs();
        (before != after).then_some(after)
    }

    fn macs(&self) -> BTreeSet<MacAddr> {
        self.known.values().copied().collect()
    }
}
