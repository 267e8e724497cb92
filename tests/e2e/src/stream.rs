//! What a stream of numbered messages and their answers says about an outage. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// A time without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the last answer before it came (or the stream began), since the start of the stream.
    pub from: Duration,
    /// How long it took until the next answer (or the end of the stream).
    pub length: Duration,
}

/// What came of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Messages that were handed to the kernel.
    pub sent: u64,
    /// Messages that the kernel refused (no route, no neighbour, connection refused).
    pub send_errors: u64,
    /// Different messages that were answered.
    pub answered: u64,
    /// The most messages in a row without an answer.
    pub lost_in_a_row: u64,
    /// The longest time without an answer.
    pub longest: Gap,
    /// All times without an answer of at least four sending intervals, in order.
    pub gaps: Vec<Gap>,
    /// Wall-clock time at the start of the stream, in milliseconds since 1970; adding [`Gap::from`] gives the time to look
    /// for in logs and captures.
    pub started_unix_ms: u64,
    /// Why a TCP stream ended early; `None` for one that lived, and for UDP.
    pub broken: Option<String>,
}

impl StreamReport {
    /// Messages without an answer, refused ones included.
    pub fn lost(&self) -> u64 {
        (self.sent + self.send_errors).saturating_sub(self.answered)
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.started_unix_ms + u64::try_from(self.longest.from.as_millis()).unwrap_or(u64::MAX);
        write!(
            f,
            "{} sent, {} answered, {} lost ({} refused locally, {} in a row at most); longest time without answer {} ms, from {}.{:03} (unix)",
            self.sent + self.send_errors,
            self.answered,
            self.lost(),
            self.send_errors,
            self.lost_in_a_row,
            self.longest.length.as_millis(),
            at / 1000,
            at % 1000,
        )?;
        if let Some(why) = &self.broken {
            write!(f, "; connection broken: {why}")?;
        }
        Ok(())
    }
}

/// The most numbers in a row below `end` that are not among these.
pub fn longest_run_missing(answered: &BTreeSet<u64>, end: u64) -> u64 {
    let mut next = 0;
    let mut longest = 0;
    for number in answered
        .iter()
        .copied()
        .take_while(|number| *number < end)
        .chain([end])
    {
        longest = longest.max(number - next);
        next = number + 1;
    }
    longest
}

/// The longest gap, and all that last at least `threshold`. `answers` are the arrival times in order, since the start of
/// the stream; `end` is when the last message was sent.
pub fn gaps(answers: &[Duration], end: Duration, threshold: Duration) -> (Gap, Vec<Gap>) {
    let mut longest = Gap {
        from: Duration::ZERO,
        length: Duration::ZERO,
    };
    let mut all = Vec::new();
    let mut last = Duration::ZERO;
    for at in answers
        .iter()
        .copied()
        .chain([end.max(answers.last().copied().unwrap_or_default())])
    {
        let gap = Gap {
            from: last,
            length: at.saturating_sub(last),
        };
        if gap.length > longest.length {
            longest = gap;
        }
        if gap.length >= threshold {
            all.push(gap);
        }
        last = at;
    }
    (longest, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn gaps_at_both_ends_and_in_the_middle() {
        let gap = |from, length| Gap {
            from: ms(from),
            length: ms(length),
        };
        // (answers, end, longest, all of 20 ms and more)
        let cases: [(&[u64], u64, Gap, Vec<Gap>); 5] = [
            (&[1, 6, 11], 10, gap(1, 5), vec![]),
            (&[1, 6, 906, 911], 910, gap(6, 900), vec![gap(6, 900)]),
            (&[500, 505], 505, gap(0, 500), vec![gap(0, 500)]),
            (&[1, 6], 1006, gap(6, 1000), vec![gap(6, 1000)]),
            (&[], 300, gap(0, 300), vec![gap(0, 300)]),
        ];
        for (answers, end, longest, all) in cases {
            let answers: Vec<_> = answers.iter().copied().map(ms).collect();
            assert_eq!(gaps(&answers, ms(end), ms(20)), (longest, all), "{answers:?}");
        }
    }

    #[test]
    fn runs_at_both_ends_and_in_the_middle() {
        let run = |answered: &[u64], end| longest_run_missing(&answered.iter().copied().collect(), end);
        assert_eq!(run(&[], 0), 0);
        assert_eq!(run(&[], 3), 3);
        assert_eq!(run(&[0, 1, 2], 3), 0);
        assert_eq!(run(&[2, 4], 5), 2);
        assert_eq!(run(&[0, 2, 6], 8), 3);
        assert_eq!(run(&[0, 1], 5), 3);
        // An answer to what nobody has sent.
        assert_eq!(run(&[0, 9], 2), 1);
    }

    #[test]
    fn report_reads_well() {
        let report = StreamReport {
            sent: 400,
            send_errors: 2,
            answered: 390,
            lost_in_a_row: 12,
            longest: Gap {
                from: ms(1500),
                length: ms(60),
            },
            gaps: vec![],
            started_unix_ms: 1_000_000,
            broken: None,
        };
        assert_eq!(
            report.to_string(),
            "402 sent, 390 answered, 12 lost (2 refused locally, 12 in a row at most); longest time without answer 60 ms, from 1001.500 (unix)"
        );
    }
}
