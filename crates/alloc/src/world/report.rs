//! What is told about pools.

use std::net::IpAddr;

use super::{Output, World};
use crate::space::Counters;

/// What was last told about a pool.
#[derive(Debug)]
pub(super) struct Reported {
    counters: Counters,
    warnings: Vec<String>,
}

/// Addresses that a pool's warnings spell out.
const SPELLED_OUT: usize = 8;

impl World {
    /// Tells what changed about pools.
    pub(super) fn report(&mut self) {
        for pool in self.allocator.take_touched() {
            let Some(counters) = self.allocator.counters(&pool) else {
                if self.reported.remove(&pool).is_some() {
                    self.outputs.push(Output::Counters(pool.to_string(), None));
                }
                continue;
            };
            let warnings = self.warnings(&pool);
            let known = self.reported.get(&pool);
            if known.is_none_or(|known| known.counters != counters) {
                self.outputs
                    .push(Output::Counters(pool.to_string(), Some(counters)));
            }
            let said: &[String] = known.map_or(&[], |known| &known.warnings);
            if said != warnings {
                self.outputs
                    .push(Output::PoolWarnings(pool.to_string(), warnings.clone()));
            }
            self.reported.insert(pool, Reported { counters, warnings });
        }
    }

    /// Addresses of nodes that services hold.
    fn warnings(&self, pool: &str) -> Vec<String> {
        let doubtful: Vec<IpAddr> = self.allocator.doubtful(pool).collect();
        let spelled_out = doubtful.iter().take(SPELLED_OUT);
        let mut warnings: Vec<String> = spelled_out
            .map(|ip| {
                let holders: Vec<&str> = self.allocator.holders(*ip).iter().map(AsRef::as_ref).collect();
                format!(
                    "{ip} is the address of a node and is held by service {}: give the service another address, or take \
                     this one out of the pool",
                    holders.join(", ")
                )
            })
            .collect();
        match doubtful.len().saturating_sub(SPELLED_OUT) {
            0 => {}
            more => warnings.push(format!("so are {more} more addresses of this pool")),
        }
        warnings
    }
}
