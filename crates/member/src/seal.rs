//! Sealing of datagrams, and keys that change without a gap.
//!
//! The cluster's secret (the `secretkey` of the memberlist Secret, any bytes) gives a main key by HKDF-SHA-256. Each life
//! of each speaker draws a random 128-bit session number and seals with a key derived from the main key and that
//! number, so that nonces can be plain counters and never repeat under one key. A sealed datagram is
//!
//! ```text
//! 1 byte: 1 | 16 bytes: session | 8 bytes: counter | AES-256-GCM of the content, 16-byte tag
//! ```
//!
//! and the header is authenticated too. Replays are refused by a sliding window of 64 per session. Without a secret a
//! datagram is one zero byte and the content in the clear.
//!
//! Speakers see a changed Secret at different times (the kubelet takes up to about 90 s). So a new key is accepted at
//! once but used for sending only after [`SWITCH_AFTER`], and the old one is accepted until [`RETIRE_AFTER`]. In between,
//! a peer that spoke in the new key is answered in it: one that started after the change knows no other.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use metallb_sansio::Instant;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};

/// How long after a change of the secret the old key is still used for sending.
pub const SWITCH_AFTER: Duration = Duration::from_secs(120);
/// How long after a change of the secret the old key is still accepted.
pub const RETIRE_AFTER: Duration = Duration::from_secs(300);

const FORMAT_CLEAR: u8 = 0;
const FORMAT_SEALED: u8 = 1;
const SESSION_LEN: usize = 16;
const HEADER_LEN: usize = 1 + SESSION_LEN + 8;
const TAG_LEN: usize = 16;
/// Sessions whose keys and replay windows are kept; lives of speakers, so a small multiple of the nodes.
const SESSIONS_MAX: usize = 4_096;

/// A random number for one life of one speaker.
pub type Session = [u8; SESSION_LEN];

/// The shared secret; `None` inside means that there is none and datagrams go in the clear.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Option<Vec<u8>>);

impl Secret {
    /// The content of the `secretkey` file; surrounding white space does not count, and nothing means no secret.
    pub fn new(bytes: &[u8]) -> Self {
        let trimmed = bytes.trim_ascii();
        Self((!trimmed.is_empty()).then(|| trimmed.to_vec()))
    }

    /// No secret: datagrams in the clear.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether datagrams go in the clear.
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() {
            "Secret(none)"
        } else {
            "Secret(***)"
        })
    }
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Not the format: too short, or an unknown first byte.
    Malformed,
    /// In the clear although there is a secret, sealed although there is none, or sealed with another key.
    WrongKey,
    /// Seen before, or too old to tell.
    Replayed,
}

/// One way to seal: a key, or the clear.
struct Keying {
    /// Number of this keying, in the order in which they came.
    number: u64,
    secret: Secret,
    main: Option<Prk>,
    own: Option<LessSafeKey>,
}

impl Keying {
    fn new(number: u64, secret: Secret, session: &Session) -> Self {
        let main = secret
            .0
            .as_ref()
            .map(|bytes| Salt::new(HKDF_SHA256, b"metallb membership 1").extract(bytes));
        let own = main.as_ref().map(|main| session_key(main, session));
        Self {
            number,
            secret,
            main,
            own,
        }
    }
}

fn session_key(main: &Prk, session: &Session) -> LessSafeKey {
    let unbound: UnboundKey = main
        .expand(&[session], &AES_256_GCM)
        .map(UnboundKey::from)
        .expect("a key's length is a valid HKDF output length");
    LessSafeKey::new(unbound)
}

/// What was heard of one session of a peer.
#[derive(Clone, Copy, Default)]
struct Window {
    /// Highest counter seen.
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
    /// When it was last heard, for eviction.
    used: u64,
}

impl Window {
    /// Whether `counter` is new; notes it.
    fn admit(&mut self, counter: u64) -> bool {
        if self.seen == 0 || counter > self.highest {
            let shift = counter - self.highest;
            self.seen = if self.seen == 0 || shift >= 64 {
                1
            } else {
                self.seen << shift | 1
            };
            self.highest = counter;
            return true;
        }
        let age = self.highest - counter;
        let bit = 1_u64.checked_shl(u32::try_from(age).unwrap_or(64)).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// Seals and opens datagrams with the keys in force.
pub struct Sealer {
    session: Session,
    counter: u64,
    active: Keying,
    /// A newer secret, accepted, and from when it is used for sending.
    staged: Option<(Keying, Instant)>,
    /// An older secret and until when it is accepted.
    retired: Option<(Keying, Instant)>,
    windows: BTreeMap<Session, Window>,
    clock: u64,
    keyings: u64,
    /// In which keying each peer spoke last.
    heard: BTreeMap<SocketAddr, u64>,
}

impl Sealer {
    /// A sealer for one life of one speaker. `session` must be random and never used before.
    pub fn new(session: Session, secret: Secret) -> Self {
        Self {
            session,
            counter: 0,
            active: Keying::new(0, secret, &session),
            staged: None,
            retired: None,
            windows: BTreeMap::new(),
            clock: 0,
            keyings: 0,
            heard: BTreeMap::new(),
        }
    }

    /// Takes a changed secret. The same secret again changes nothing.
    pub fn change(&mut self, now: Instant, secret: Secret) {
        self.advance(now);
        if secret == self.active.secret {
            self.staged = None;
            return;
        }
        if self
            .staged
            .as_ref()
            .is_some_and(|(staged, _)| staged.secret == secret)
        {
            return;
        }
        self.keyings += 1;
        let fresh = Keying::new(self.keyings, secret, &self.session);
        self.staged = Some((fresh, now + SWITCH_AFTER));
    }

    /// Whether sending goes in the clear at present.
    pub const fn is_clear(&self) -> bool {
        self.active.main.is_none()
    }

    /// When [`Sealer::advance`] changes something next.
    pub fn next_change(&self) -> Option<Instant> {
        let staged = self.staged.as_ref().map(|(_, at)| *at);
        let retired = self.retired.as_ref().map(|(_, at)| *at);
        staged.into_iter().chain(retired).min()
    }

    /// Lets time pass: switches to a staged key, forgets a retired one.
    pub fn advance(&mut self, now: Instant) {
        if let Some((staged, _)) = self.staged.take_if(|(_, at)| *at <= now) {
            let old = core::mem::replace(&mut self.active, staged);
            self.retired = Some((old, now + RETIRE_AFTER.saturating_sub(SWITCH_AFTER)));
        }
        self.retired.take_if(|(_, at)| *at <= now);
    }

    /// The keyings in force, that for sending first.
    fn in_force(&self) -> impl Iterator<Item = &Keying> {
        let staged = self.staged.as_ref().map(|(keying, _)| keying);
        let retired = self.retired.as_ref().map(|(keying, _)| keying);
        core::iter::once(&self.active).chain(staged).chain(retired)
    }

    /// The datagram for a content to a peer.
    pub fn seal(&mut self, to: SocketAddr, content: &[u8]) -> Vec<u8> {
        // Only ever forward: two that waited for each other would speak the old key until it is refused.
        let heard = self.heard.get(&to).copied().unwrap_or(0).max(self.active.number);
        let spoken = self.in_force().find(|keying| keying.number == heard);
        let Some(key) = &spoken.unwrap_or(&self.active).own else {
            let mut datagram = Vec::with_capacity(1 + content.len());
            datagram.push(FORMAT_CLEAR);
            datagram.extend_from_slice(content);
            return datagram;
        };
        let counter = self.counter + 1;
        let mut datagram = Vec::with_capacity(HEADER_LEN + content.len() + TAG_LEN);
        datagram.push(FORMAT_SEALED);
        datagram.extend_from_slice(&self.session);
        datagram.extend_from_slice(&counter.to_be_bytes());
        let header: [u8; HEADER_LEN] = core::array::from_fn(|i| datagram[i]);
        datagram.extend_from_slice(content);
        let tag = key
            .seal_in_place_separate_tag(nonce(counter), Aad::from(header), &mut datagram[HEADER_LEN..])
            .expect("a datagram is far below the limit of AES-GCM");
        datagram.extend_from_slice(tag.as_ref());
        self.counter = counter;
        datagram
    }

    /// The content of a datagram from a peer.
    ///
    /// # Errors
    /// Why it has to be dropped; nothing about it can be trusted.
    pub fn open(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (content, keying) = match datagram.split_first() {
            Some((&FORMAT_CLEAR, content)) => {
                let clear = self.in_force().find(|keying| keying.main.is_none());
                let keying = clear.ok_or(OpenError::WrongKey)?;
                (content.to_vec(), keying.number)
            }
            Some((&FORMAT_SEALED, _)) if datagram.len() >= HEADER_LEN + TAG_LEN => {
                let (header, sealed) = datagram.split_at(HEADER_LEN);
                let session: Session = core::array::from_fn(|i| header[1 + i]);
                let counter = u64::from_be_bytes(core::array::from_fn(|i| header[1 + SESSION_LEN + i]));
                let opened = self.in_force().find_map(|keying| {
                    let mut content = sealed.to_vec();
                    let length = session_key(keying.main.as_ref()?, &session)
                        .open_in_place(nonce(counter), Aad::from(header), &mut content)
                        .ok()?
                        .len();
                    content.truncate(length);
                    Some((content, keying.number))
                });
                let opened = opened.ok_or(OpenError::WrongKey)?;
                if !self.admit(session, counter) {
                    return Err(OpenError::Replayed);
                }
                opened
            }
            _ => return Err(OpenError::Malformed),
        };
        if self.heard.len() < SESSIONS_MAX || self.heard.contains_key(&from) {
            self.heard.insert(from, keying);
        }
        Ok(content)
    }

    fn admit(&mut self, session: Session, counter: u64) -> bool {
        self.clock += 1;
        if self.windows.len() >= SESSIONS_MAX && !self.windows.contains_key(&session) {
            let oldest = self
                .windows
                .iter()
                .min_by_key(|(_, window)| window.used)
                .map(|(session, _)| *session);
            if let Some(oldest) = oldest {
                self.windows.remove(&oldest);
            }
        }
        let window = self.windows.entry(session).or_default();
        window.used = self.clock;
        window.admit(counter)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(session: u8, secret: &str) -> Sealer {
        Sealer::new([session; SESSION_LEN], Secret::new(secret.as_bytes()))
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 7946))
    }

    #[test]
    fn opens_what_the_same_secret_sealed_and_nothing_else() {
        for (ours, theirs, expected) in [
            ("k", "k", Ok(b"hello".to_vec())),
            ("k", " k\n", Ok(b"hello".to_vec())),
            ("", "", Ok(b"hello".to_vec())),
            ("k", "other", Err(OpenError::WrongKey)),
            ("k", "", Err(OpenError::WrongKey)),
            ("", "k", Err(OpenError::WrongKey)),
        ] {
            let datagram = sealer(1, theirs).seal(peer(), b"hello");
            assert_eq!(
                sealer(2, ours).open(peer(), &datagram),
                expected,
                "{ours:?} {theirs:?}"
            );
        }
    }

    #[test]
    fn any_changed_byte_or_length_is_refused() {
        let datagram = sealer(1, "k").seal(peer(), b"hello");
        for at in 0..datagram.len() {
            let mut bytes = datagram.clone();
            bytes[at] ^= 1;
            assert!(sealer(2, "k").open(peer(), &bytes).is_err(), "byte {at}");
            assert!(
                sealer(2, "k").open(peer(), &datagram[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn replays_are_refused_and_reordering_is_not() {
        let (mut a, mut b) = (sealer(1, "k"), sealer(2, "k"));
        let datagrams: Vec<_> = (0..100).map(|_| a.seal(peer(), b"x")).collect();
        assert!(b.open(peer(), &datagrams[1]).is_ok());
        assert!(b.open(peer(), &datagrams[0]).is_ok(), "reordered");
        assert_eq!(b.open(peer(), &datagrams[1]), Err(OpenError::Replayed));
        assert!(b.open(peer(), &datagrams[99]).is_ok());
        assert_eq!(b.open(peer(), &datagrams[99]), Err(OpenError::Replayed));
        assert!(b.open(peer(), &datagrams[50]).is_ok(), "inside the window");
        assert_eq!(
            b.open(peer(), &datagrams[2]),
            Err(OpenError::Replayed),
            "older than the window"
        );
    }

    #[test]
    fn a_secret_changes_without_a_gap_even_when_seen_at_different_times() {
        for (before, after) in [("old", "new"), ("", "new"), ("old", "")] {
            let (mut a, mut b) = (sealer(1, before), sealer(2, before));
            let seen_by_b = Duration::from_secs(90);
            for second in 0..600 {
                let now = Instant::ZERO + Duration::from_secs(second);
                a.advance(now);
                b.advance(now);
                a.change(now, Secret::new(after.as_bytes()));
                if now - Instant::ZERO >= seen_by_b {
                    b.change(now, Secret::new(after.as_bytes()));
                }
                let (from_a, from_b) = (a.seal(peer(), b"x"), b.seal(peer(), b"x"));
                assert!(
                    b.open(peer(), &from_a).is_ok() && a.open(peer(), &from_b).is_ok(),
                    "{before}->{after} {second}"
                );
            }
            let stranger = sealer(3, before).seal(peer(), b"x");
            assert_eq!(
                a.open(peer(), &stranger),
                Err(OpenError::WrongKey),
                "the old secret is over"
            );
            assert_eq!(a.next_change(), None);
        }
    }

    #[test]
    fn a_peer_that_never_knew_the_old_secret_is_spoken_to_in_the_new_one() {
        for before in ["old", ""] {
            let mut a = sealer(1, before);
            let mut late = sealer(2, "new");
            a.change(Instant::ZERO, Secret::new(b"new"));
            let refused = a.seal(peer(), b"x");
            assert_eq!(
                late.open(peer(), &refused),
                Err(OpenError::WrongKey),
                "not heard yet"
            );
            let call = late.seal(peer(), b"x");
            assert!(a.open(peer(), &call).is_ok());
            let answer = a.seal(peer(), b"x");
            assert!(late.open(peer(), &answer).is_ok());
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(
            format!("{:?} {:?}", Secret::new(b"k"), Secret::none()),
            "Secret(***) Secret(none)"
        );
    }
}
