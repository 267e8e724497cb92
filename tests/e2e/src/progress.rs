//! Progress lines with the elapsed time: plain lines, so that they read the same in a terminal and in a CI log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A clock that prints lines on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self::start()
    }
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints one line with the elapsed time.
    pub fn line(&self, text: &str) {
        eprintln!("[{:>6.1}s] {text}", self.start.elapsed().as_secs_f64());
    }

    /// Runs a long step: its name first, then `status()` every ten seconds until it ends.
    pub fn long<T>(
        &self,
        what: &str,
        status: impl Fn() -> String + Send + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        self.line(what);
        let done = Arc::new(AtomicBool::new(false));
        let ticker = self.ticker(what.to_owned(), status, Arc::clone(&done));
        let out = work();
        done.store(true, Ordering::Relaxed);
        ticker.thread().unpark();
        if ticker.join().is_err() {
            self.line("the progress printer panicked");
        }
        out
    }

    fn ticker(
        self,
        what: String,
        status: impl Fn() -> String + Send + 'static,
        done: Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut next = Instant::now() + Duration::from_secs(10);
            while !done.load(Ordering::Relaxed) {
                let now = Instant::now();
                if now >= next {
                    self.line(&format!("  {what}: still at it; {}", status()));
                    next = now + Duration::from_secs(10);
                }
                std::thread::park_timeout(next.saturating_duration_since(now));
            }
        })
    }
}
