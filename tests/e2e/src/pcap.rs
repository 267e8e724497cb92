//! What a capture says about owners: who answered for which address and when, and for how long two did. Pure but for reading
//! the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::frames::{self, Mac, Word};

/// A frame about neighbours and when it was seen, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Duration,
    /// What.
    pub word: Word,
}

/// Reads what tcpdump wrote (classic format, Ethernet); only frames about neighbours and membership are kept. A file that
/// ends within a record is read up to there.
pub fn read(file: &Path) -> Result<Vec<Seen>> {
    let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    parse(&bytes).with_context(|| format!("capture {}", file.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Seen>> {
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let nanoseconds = match number(0).context("the file is empty")? {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => bail!("{other:#x} is no capture of this machine"),
    };
    let mut all = Vec::new();
    let mut at = 24;
    while let (Some(seconds), Some(fraction), Some(length)) = (number(at), number(at + 4), number(at + 8)) {
        let Some(frame) = bytes.get(at + 16..at + 16 + length as usize) else {
            break;
        };
        at += 16 + length as usize;
        if let Some(word) = frames::read(frame) {
            let at = Duration::new(seconds.into(), fraction * nanoseconds);
            all.push(Seen { at, word });
        }
    }
    Ok(all)
}

/// Who answered for each address with which hardware address, in order of time. Announcements count as well: a neighbour
/// believes them as it believes answers.
pub fn claims(seen: &[Seen]) -> BTreeMap<IpAddr, Vec<(Duration, Mac)>> {
    let mut all: BTreeMap<IpAddr, Vec<(Duration, Mac)>> = BTreeMap::new();
    for Seen { at, word } in seen {
        if let Word::Answers(address, mac) | Word::Announces(address, mac) = word {
            all.entry(*address).or_default().push((*at, *mac));
        }
    }
    all
}

/// The longest time during which two answered for one address: from the first claim of the one after the other had begun, to
/// the last claim of whoever ended first. Somebody who says nothing for `quiet` has ended; so the address must be asked for
/// more often than that.
pub fn longest_overlap(claims: &[(Duration, Mac)], quiet: Duration) -> Duration {
    let mut stretches: Vec<(Mac, Duration, Duration)> = Vec::new();
    for (at, mac) in claims {
        match stretches.iter_mut().rev().find(|(of, ..)| of == mac) {
            Some((_, _, end)) if *at <= *end + quiet => *end = *at,
            _ => stretches.push((*mac, *at, *at)),
        }
    }
    let mut longest = Duration::ZERO;
    for (index, (one, from, to)) in stretches.iter().enumerate() {
        for (other, other_from, other_to) in &stretches[index + 1..] {
            if one != other {
                let both = (*to).min(*other_to).saturating_sub((*from).max(*other_from));
                longest = longest.max(both);
            }
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    /// Claims in milliseconds, and the longest overlap.
    type Case = (&'static [(u64, Mac)], u64);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn overlaps() {
        let cases: [Case; 6] = [
            (&[], 0),
            (&[(0, A), (100, A)], 0),
            // A hands over to B.
            (&[(0, A), (100, A), (150, B), (300, B)], 0),
            // Both, for a while.
            (
                &[(0, A), (100, A), (150, B), (200, A), (250, B), (340, A), (400, B)],
                190,
            ),
            // B, silence of A, and A again: no overlap while A was silent.
            (&[(0, A), (100, A), (150, B), (700, B), (1200, A), (1250, A)], 0),
            // The one within the other.
            (&[(0, A), (400, A), (420, B), (480, B), (500, A), (900, A)], 60),
        ];
        for (claims, expected) in cases {
            let claims: Vec<_> = claims.iter().map(|(at, mac)| (ms(*at), *mac)).collect();
            assert_eq!(longest_overlap(&claims, ms(500)), ms(expected), "{claims:?}");
        }
    }

    #[test]
    fn a_capture_is_read_up_to_its_end() {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1];
        bytes.extend([0; 20]);
        let question = frames::question(
            A,
            ([192, 168, 124, 100].into(), [0; 16].into()),
            "192.168.124.200".parse().unwrap(),
            None,
        );
        for seconds in [1_u32, 2] {
            for number in [seconds, 500_000, question.len() as u32, question.len() as u32] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(&question);
        }
        let all = parse(&bytes).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].at, ms(1500));
        assert_eq!(parse(&bytes[..bytes.len() - 1]).unwrap().len(), 1);
        assert!(parse(b"not a capture at all").is_err());
        assert!(parse(b"").is_err());
    }
}
