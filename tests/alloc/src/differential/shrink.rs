//! Fewer steps that still fail in the same way.

use anyhow::Result;
use metallb_e2e::Progress;

use super::run::{Failure, Pair};
use super::steps::Step;

/// A search under way.
pub struct Shrinking<'a> {
    /// Where sequences are played.
    pub pair: &'a mut Pair,
    /// The class that the controllers serve.
    pub class: Option<&'a str>,
    /// What the failure looks like.
    pub looks_like: String,
    /// Plays that may still be spent.
    pub left: usize,
}

/// What a failure says without the names and addresses that change from play to play.
pub fn looks_like(failure: &Failure) -> String {
    let words = failure.text.split_whitespace();
    let plain: Vec<&str> = words
        .filter(|word| !word.contains(['.', '/']) && !word.contains("::"))
        .collect();
    plain.join(" ")
}

impl Shrinking<'_> {
    /// Leaves out steps, in ever smaller pieces.
    ///
    /// # Errors
    /// The worlds themselves fail.
    pub async fn run(&mut self, mut steps: Vec<Step>, progress: &Progress) -> Result<Vec<Step>> {
        let mut piece = steps.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < steps.len() {
                if self.left == 0 {
                    return Ok(steps);
                }
                self.left -= 1;
                let mut fewer = steps.clone();
                fewer.drain(at..(at + piece).min(steps.len()));
                let report = self.pair.play(self.class, &fewer, false).await?;
                let same = report
                    .failures
                    .iter()
                    .find(|failure| looks_like(failure) == self.looks_like);
                if let Some(failure) = same {
                    fewer.truncate(failure.step + 1);
                    steps = fewer;
                    progress.line(&format!("  {} steps fail alike", steps.len()));
                } else {
                    at += piece;
                }
            }
            piece /= 2;
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_make_another_failure() {
        let failure = |text: &str| {
            looks_like(&Failure {
                step: 0,
                key: String::new(),
                text: text.into(),
            })
        };
        assert_eq!(
            failure("ours [192.0.2.1] of pool-a"),
            failure("ours [2001:db8::1] of pool-a")
        );
        assert_ne!(failure("ours [] of pool-a"), failure("ours [] of pool-b"));
    }
}
