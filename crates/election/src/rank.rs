//! The order of candidates.

use std::cmp::Reverse;
use std::net::IpAddr;

use ring::digest;

/// The place of a node among the candidates for an address; the smallest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    behind: u32,
    shunned: bool,
    score: Reverse<u64>,
    hash: [u8; 32],
}

impl Rank {
    /// The rank of `node` for `address` with the given sum of preference weights.
    ///
    /// The hash is SHA-256 over the node's name, `#` and the address as text (IPv6 in the form of RFC 5952, as Go
    /// prints it).
    pub fn new(node: &str, score: u64, address: IpAddr) -> Self {
        Subject::new(address).rank(node, score)
    }

    /// The same, after all that are not shunned when `shunned` is set.
    #[must_use]
    pub const fn shunned(self, shunned: bool) -> Self {
        Self { shunned, ..self }
    }

    /// The same, after all with a smaller number, whatever else they have.
    #[must_use]
    pub const fn behind(self, behind: u32) -> Self {
        Self { behind, ..self }
    }
}

/// What nodes are ranked for: an address, written down once for all of them.
pub(crate) struct Subject {
    /// `#` and the address.
    text: String,
    buffer: Vec<u8>,
}

impl Subject {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self {
            text: format!("#{address}"),
            buffer: Vec::new(),
        }
    }

    /// As [`Rank::new`].
    pub(crate) fn rank(&mut self, node: &str, score: u64) -> Rank {
        self.buffer.clear();
        self.buffer.extend_from_slice(node.as_bytes());
        self.buffer.extend_from_slice(self.text.as_bytes());
        let digest = digest::digest(&digest::SHA256, &self.buffer);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Rank {
            behind: 0,
            shunned: false,
            score: Reverse(score),
            hash,
        }
    }
}

/// The candidates (name and score) in the order in which they own `address`, best first.
pub fn rank<'a>(candidates: impl IntoIterator<Item = (&'a str, u64)>, address: IpAddr) -> Vec<&'a str> {
    let mut subject = Subject::new(address);
    let mut ranked: Vec<(Rank, &str)> = candidates
        .into_iter()
        .map(|(node, score)| (subject.rank(node, score), node))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order that `printf '%s' 'node#address' | sha256sum` gives.
    #[test]
    fn order_is_metallbs() {
        for (address, expected) in GOLDEN {
            let address: IpAddr = address.parse().expect("address");
            let nodes = ["n1", "n2", "n3"];
            assert_eq!(rank(nodes.map(|n| (n, 0)), address), expected, "{address}");
            let mut reversed = nodes;
            reversed.reverse();
            assert_eq!(
                rank(reversed.map(|n| (n, 7)), address),
                expected,
                "input order does not matter"
            );
        }
    }

    #[test]
    fn hash_is_of_node_hash_sign_address() {
        let rank = Rank::new("n1", 0, "192.0.2.10".parse().expect("address"));
        assert_eq!(rank.hash[..8], FIRST_BYTES);
    }

    #[test]
    fn a_higher_score_beats_any_hash() {
        let address = "192.0.2.10".parse().expect("address");
        for favourite in ["n1", "n2", "n3"] {
            let scores = ["n1", "n2", "n3"].map(|node| (node, u64::from(node == favourite)));
            assert_eq!(rank(scores, address)[0], favourite);
        }
    }

    const GOLDEN: [(&str, [&str; 3]); 6] = [
        ("192.0.2.10", ["n2", "n3", "n1"]),
        ("192.0.2.11", ["n1", "n3", "n2"]),
        ("192.0.2.12", ["n2", "n1", "n3"]),
        ("198.51.100.200", ["n1", "n2", "n3"]),
        ("2001:db8::10", ["n1", "n2", "n3"]),
        ("2001:db8::1:0:0:11", ["n2", "n1", "n3"]),
    ];

    /// `printf '%s' 'n1#192.0.2.10' | sha256sum`
    const FIRST_BYTES: [u8; 8] = [0x98, 0x70, 0xca, 0x2e, 0x99, 0x56, 0x2e, 0x20];
}
