//! Whatever Go `MetalLB` accepts is accepted: one spec a line, each seen to be accepted by `config.For` of v0.16.1 (with
//! the defaults of the CRD where the line relies on them), beside the same good objects.

use serde_json::Value;

use super::{OWN, add, build, errors};
use crate::{Issue, Kind};

#[test]
fn what_go_accepts() {
    let mut cases = 0;
    for (kind, text) in [
        (Kind::IpAddressPool, include_str!("accepted/ip_address_pool.txt")),
        (
            Kind::L2Advertisement,
            include_str!("accepted/l2_advertisement.txt"),
        ),
        (
            Kind::BgpAdvertisement,
            include_str!("accepted/bgp_advertisement.txt"),
        ),
        (Kind::BgpPeer, include_str!("accepted/bgp_peer.txt")),
        (Kind::BfdProfile, include_str!("accepted/bfd_profile.txt")),
        (Kind::Community, include_str!("accepted/community.txt")),
    ] {
        for line in text.lines() {
            cases += 1;
            let spec: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let mut sources = if kind == Kind::IpAddressPool {
                super::with_secrets()
            } else {
                super::bad_input::good()
            };
            add(&mut sources, kind, "tried", 1, spec);
            let (_, issues) = build(&sources);
            assert_eq!(errors(&issues), Vec::<&Issue>::new(), "{kind} {OWN}: {line}");
        }
    }
    assert!(cases >= 100, "{cases}");
}
