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
use crate::priority::prefer_process;

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
    patient: Arc<AtomicBool>,
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
        // `ip` looks for more until it finds nothing. Were it to wait for the processor between two looks, it would drop an entry
        // in the moment in which the packets that have waited for it are sent.
        prefer_process(i32::try_from(ip.id()).context("a process id")?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let patient = Arc::new(AtomicBool::new(false));
        let [until, waits] = [&stop, &patient].map(Arc::clone);
        let thread = std::thread::spawn(move || forget(ip, words, &until, &waits));
        Ok(Flusher {
            stop,
            patient,
            thread: Some(thread),
        })
    }
}

impl Flusher {
    /// A patient client forgets answers only, and waits for an outstanding one as a kernel does: it asks again after a second
    /// (`retrans_time_ms`), and until then what it wants to send waits too. So it loses nothing to an answer that is late because
    /// the machine is busy; a question that *nobody* answers costs it a second, see [`ASKS_AGAIN`]. An impatient one, which it is
    /// at first, asks anew every 100 ms: it measures how long nobody answers.
    pub fn patient(&self, yes: bool) {
        self.patient.store(yes, Ordering::Relaxed);
    }
}

/// A time without answers that is nearly that between two questions of a kernel: a patient client's question stayed unanswered.
pub const ASKS_AGAIN: Duration = Duration::from_millis(900);

/// A question that has waited for its answer since the last time, with the packets that wait for it.
const QUESTIONS: &str = "neigh flush dev eth0 nud incomplete nud failed\n";
/// Every answer.
const ANSWERS: &str = "neigh flush dev eth0 nud reachable nud stale nud delay nud probe\n";

fn forget(mut ip: Child, mut words: ChildStdin, stop: &AtomicBool, patient: &AtomicBool) {
    let start = Instant::now();
    let mut outcome = Ok(());
    for round in 1_u32.. {
        if stop.load(Ordering::Relaxed) || outcome.is_err() {
            break;
        }
        // Questions first: in this order none is forgotten that has just been asked because its answer was.
        let what = if patient.load(Ordering::Relaxed) {
            ANSWERS.to_owned()
        } else {
            [QUESTIONS, ANSWERS].concat()
        };
        outcome = words.write_all(what.as_bytes());
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
