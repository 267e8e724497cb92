//! Waiting for a condition with a deadline and a sentence that says what was waited for.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` every 100 ms until it returns a value; an error of the probe counts as "not yet" and is shown if the
/// deadline passes. At least one probe is made.
pub fn wait_for<T>(desc: &str, deadline: Duration, probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_every(desc, Duration::from_millis(100), deadline, probe)
}

/// As [`wait_for`] with the pause between two probes given.
pub fn wait_every<T>(
    desc: &str,
    pause: Duration,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() >= deadline {
            match last {
                Some(error) => return Err(error.context(format!("waited {deadline:?} for {desc}"))),
                None => bail!("waited {deadline:?} in vain for {desc}"),
            }
        }
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_as_soon_as_it_is_there() {
        let mut calls = 0;
        let got = wait_every("a third call", Duration::ZERO, Duration::from_secs(5), || {
            calls += 1;
            Ok((calls == 3).then_some(calls))
        });
        assert_eq!(got.unwrap(), 3);
    }

    #[test]
    fn says_what_it_waited_for_and_the_last_error() {
        let none = wait_every::<()>("nothing", Duration::ZERO, Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(format!("{none:#}").contains("nothing"));
        let error =
            wait_every::<()>("a page", Duration::ZERO, Duration::ZERO, || bail!("refused")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("a page") && text.contains("refused"), "{text}");
    }
}
