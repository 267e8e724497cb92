//! A client that trusts its neighbour table for no longer than a tenth of a second, in a place of its own: the table
//! belongs to the place, and others there want to keep theirs.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::lan::LAN_BRIDGE;
use crate::netns;
use crate::plan::{gateway, lan_host};

/// The place.
pub const FLUSHING: &str = "flush";
/// Last number of its addresses.
const NUMBER: u8 = 101;
/// How often it forgets.
const PERIOD: Duration = Duration::from_millis(100);

/// Forgetting under way, until dropped.
#[derive(Debug)]
pub struct Flusher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// The place of the flushing client, made if it is not there yet; it forgets its neighbours every 100 ms until what is
    /// returned is dropped.
    pub fn flushing_client(&self) -> Result<Flusher> {
        let namespace = self.plan().netns(FLUSHING);
        if !netns::path(&namespace).exists() {
            self.add_host(
                FLUSHING,
                &[(LAN_BRIDGE, lan_host(NUMBER))],
                false,
                Some(gateway()),
            )?;
        }
        let mut ip = Command::new("ip")
            .args(["-n", &namespace, "-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start ip")?;
        let words = ip.stdin.take().context("standard input is piped")?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || forget(ip, words, &until));
        Ok(Flusher {
            stop,
            thread: Some(thread),
        })
    }
}

/// What is forgotten: first a question that has waited for its answer since the last time, then every answer. In this order
/// no question is forgotten that has just been asked, which would lose the packets that wait for it.
const FORGET: &str = "neigh flush dev eth0 nud incomplete nud failed\n\
                      neigh flush dev eth0 nud reachable nud stale nud delay nud probe\n";

fn forget(mut ip: Child, mut words: ChildStdin, stop: &AtomicBool) {
    let start = Instant::now();
    let mut outcome = Ok(());
    for round in 1_u32.. {
        if stop.load(Ordering::Relaxed) || outcome.is_err() {
            break;
        }
        outcome = words.write_all(FORGET.as_bytes());
        std::thread::sleep((PERIOD * round).saturating_sub(start.elapsed()));
    }
    drop(words);
    if let Err(error) = outcome.and_then(|()| ip.wait().map(drop)) {
        eprintln!("flushing the neighbours of {FLUSHING}: {error}");
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the thread that flushes neighbours panicked");
        }
    }
}
