//! From all sources to the one configuration.
//!
//! What others refer to comes first: profiles and communities, pools, advertisements, peers.

mod candidates;
mod hints;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::address_pool::{Announce, PoolEntry};
use crate::advertisement::ParsedL2;
use crate::bgp::{Advertised, Aliases, ParsedBgp};
use crate::issue::{Effect, Finding, Reason};
use crate::select::{Reach, Selectable};
use crate::settle::{Candidate, Origin, settle};
use crate::{
    BfdProfile, BgpAdvertisement, BgpAdvertisementSpec, BgpPeer, Community, Config, Family, Issue, Kind,
    L2Advertisement, PeerPassword, Pool, Sources,
};
use candidates::{Legacy, from_entries, from_objects, own};

/// See [`Config::from_sources`].
pub(crate) fn assemble(sources: &Sources, own_namespace: &str) -> (Config, Vec<Issue>) {
    let mut issues = Vec::new();
    let own_sources = own(sources, own_namespace, &mut issues);
    let legacy = Legacy::read(&own_sources, &mut issues);
    let building = Building {
        sources: &own_sources,
        secrets: sources.secrets_known.then_some(&sources.secrets),
        legacy: legacy.as_ref(),
    };

    let bfd_profiles = building.bfd_profiles(&mut issues);
    let communities = building.communities(&mut issues);
    let pools = building.pools(&mut issues);
    let carries_protocol = |entry: &PoolEntry| entry.announce != Announce::ByObjects;
    let selectable = Selectable::new(
        pools
            .iter()
            .filter(|(_, entry)| !carries_protocol(entry))
            .map(|(_, entry)| &entry.pool),
        pools
            .iter()
            .filter(|(_, entry)| carries_protocol(entry))
            .map(|(origin, entry)| (entry.pool.name.as_str(), &origin.object)),
    );
    let l2_advertisements = building.l2_advertisements(&selectable, &pools, &mut issues);
    let (bgp_advertisements, named_peers) =
        building.bgp_advertisements(&selectable, &communities, &pools, &mut issues);
    let bgp_peers = building.bgp_peers(
        &bfd_profiles,
        &SixReach::new(&bgp_advertisements, &pools),
        &mut issues,
    );

    hints::unknown_peers(&named_peers, &bgp_peers, &mut issues);
    hints::duplicate_peers(&bgp_peers, &mut issues);
    hints::secrets_elsewhere(&own_sources.bgp_peers, own_namespace, &mut issues);
    hints::deprecated(&own_sources, &mut issues);
    hints::not_implemented(&own_sources, legacy.as_ref(), &mut issues);
    issues.sort();

    let l2_reach = Reach::new(
        &selectable.all,
        l2_advertisements.iter().map(|advertisement| &advertisement.pools),
    );
    let bgp_reach = Reach::new(
        &selectable.all,
        bgp_advertisements
            .iter()
            .map(|advertisement| &advertisement.pools),
    );
    drop(selectable);
    let mut pools: Vec<Pool> = pools.into_iter().map(|(_, entry)| entry.pool).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let config = Config {
        l2_advertisements,
        l2_reach,
        bgp_advertisements,
        bgp_reach,
        bgp_peers: bgp_peers
            .into_iter()
            .map(|(_, peer)| (peer.name.clone(), peer))
            .collect(),
        bfd_profiles,
        communities,
        ..Config::with_pools(pools)
    };
    (config, issues)
}

struct Building<'a> {
    sources: &'a candidates::Own<'a>,
    /// `None`: nobody looked.
    secrets: Option<&'a BTreeMap<String, crate::SecretFacts>>,
    legacy: Option<&'a Legacy<'a>>,
}

impl Building<'_> {
    fn bfd_profiles(&self, issues: &mut Vec<Issue>) -> BTreeMap<String, BfdProfile> {
        let mut candidates = from_objects(
            &self.sources.bfd_profiles,
            |source, spec| BfdProfile::parse(&source.object.name, spec),
            |_| Ok(()),
        );
        candidates.extend(from_entries(
            self.legacy,
            |text| &text.bfd_profiles,
            BfdProfile::parse,
            |_| Ok(()),
            issues,
        ));
        let settled = settle(candidates, issues).into_iter();
        settled
            .map(|(_, profile)| (profile.name.clone(), profile))
            .collect()
    }

    fn communities(&self, issues: &mut Vec<Issue>) -> BTreeMap<String, Community> {
        let mut candidates = from_objects(
            &self.sources.communities,
            |_, spec| Aliases::parse(spec),
            |_| Ok(()),
        );
        candidates.extend(from_entries(
            self.legacy,
            |text| &text.communities,
            |_, spec| Aliases::parse(spec),
            |_| Ok(()),
            issues,
        ));
        settle(candidates, issues)
            .into_iter()
            .flat_map(|(_, aliases)| aliases.0)
            .collect()
    }

    fn pools(&self, issues: &mut Vec<Issue>) -> Vec<(Origin, PoolEntry)> {
        let mut candidates = from_objects(
            &self.sources.pools,
            |source, spec| PoolEntry::parse(&source.object.name, &source.labels, spec),
            |_| Ok(()),
        );
        candidates.extend(from_objects(
            &self.sources.address_pools,
            |source, spec| {
                let origin = Kind::AddressPool.as_str();
                PoolEntry::parse_with_protocol(&source.object.name, &source.labels, origin, spec)
            },
            |_| Ok(()),
        ));
        candidates.extend(from_entries(
            self.legacy,
            |text| &text.pools,
            |key, spec| {
                let labels = crate::Labels::new();
                PoolEntry::parse_with_protocol(key, &labels, Kind::ConfigMap.as_str(), spec)
            },
            |_| Ok(()),
            issues,
        ));
        settle(candidates, issues)
    }

    fn l2_advertisements(
        &self,
        selectable: &Selectable<'_>,
        pools: &[(Origin, PoolEntry)],
        issues: &mut Vec<Issue>,
    ) -> Vec<L2Advertisement> {
        let candidates = from_objects(
            &self.sources.l2_advertisements,
            |source, spec| ParsedL2::parse(&source.object.name, spec),
            |_| Ok(()),
        );
        let mut advertisements = Vec::new();
        let mut gists = BTreeSet::new();
        for (origin, parsed) in settle(candidates, issues) {
            let (resolved, hint) = parsed.resolve(selectable);
            issues.extend(hint.map(|finding| origin.issue(finding, Effect::Warning)));
            if resolved.gist().is_none_or(|gist| gists.insert(gist)) {
                advertisements.push(resolved);
            }
        }
        for (origin, entry) in pools {
            if entry.announce == Announce::Layer2 {
                let kind = origin.object.kind.as_str();
                advertisements.push(L2Advertisement::of_pool(kind, &entry.pool.name));
            }
        }
        advertisements
    }

    /// The advertisements, and which peers their objects name.
    fn bgp_advertisements(
        &self,
        selectable: &Selectable<'_>,
        communities: &BTreeMap<String, Community>,
        pools: &[(Origin, PoolEntry)],
        issues: &mut Vec<Issue>,
    ) -> (Vec<BgpAdvertisement>, Vec<(Origin, BTreeSet<String>)>) {
        let resolve = |parsed: ParsedBgp, strict| {
            let resolved = parsed.resolve(selectable, communities, strict)?;
            Ok(Advertised {
                parsed,
                resolved,
                pools: selectable,
            })
        };
        let mut candidates = Vec::new();
        for source in &self.sources.bgp_advertisements {
            let parse = |spec: &BgpAdvertisementSpec| ParsedBgp::parse(&source.object.name, spec);
            let present = candidates::present(source, |spec| {
                parse(spec).and_then(|parsed| resolve(parsed, true))
            });
            let earlier = source
                .last_valid
                .as_ref()
                .and_then(|spec| parse(spec).and_then(|parsed| resolve(parsed, false)).ok());
            candidates.push(Candidate::new(Origin::object(&source.object), present, earlier));
        }
        let mut advertisements = Vec::new();
        let mut named_peers = Vec::new();
        for (origin, advertised) in settle(candidates, issues) {
            let hint = selectable.unknown(advertised.parsed.pool_names());
            issues.extend(hint.map(|finding| origin.issue(finding, Effect::Warning)));
            named_peers.push((origin, advertised.parsed.peers().clone()));
            advertisements.push(advertised.resolved);
        }
        for (origin, entry) in pools {
            let Announce::Bgp(parsed) = &entry.announce else {
                continue;
            };
            for parsed in parsed {
                match parsed.resolve_of_pool(communities) {
                    Ok(resolved) => advertisements.push(resolved),
                    Err(finding) => {
                        issues.push(origin.issue(origin.place.locate(finding), Effect::Partly));
                    }
                }
            }
        }
        (advertisements, named_peers)
    }

    fn bgp_peers(
        &self,
        profiles: &BTreeMap<String, BfdProfile>,
        six: &SixReach,
        issues: &mut Vec<Issue>,
    ) -> Vec<(Origin, BgpPeer)> {
        let check = |peer: &BgpPeer| {
            self.check_secret(peer)?;
            let Some(name) = &peer.bfd_profile else {
                return Ok(());
            };
            let Some(profile) = profiles.get(name) else {
                let message = format!("no valid BFDProfile is named {name}; it is waited for");
                return Err(Finding::new(
                    "spec.bfdProfile",
                    Reason::WaitingForBfdProfile,
                    message,
                ));
            };
            match six.pool_of(&peer.name).filter(|_| profile.echo_mode) {
                None => Ok(()),
                Some(pool) => {
                    let message = format!(
                        "profile {name} has echoMode, but pool {pool} advertises IPv6 addresses to this peer; use a profile \
                         without echoMode"
                    );
                    Err(Finding::new("spec.bfdProfile", Reason::EchoOnIpv6, message))
                }
            }
        };
        let mut candidates = from_objects(
            &self.sources.bgp_peers,
            |source, spec| BgpPeer::parse(&source.object.name, spec, 16_384),
            check,
        );
        candidates.extend(from_entries(
            self.legacy,
            |text| &text.peers,
            |key, spec| BgpPeer::parse(&format!("{}/{key}", Kind::ConfigMap), spec, u16::MAX),
            check,
            issues,
        ));
        settle(candidates, issues)
    }

    fn check_secret(&self, peer: &BgpPeer) -> Result<(), Finding> {
        let (Some(secrets), PeerPassword::Secret(name)) = (self.secrets, &peer.password) else {
            return Ok(());
        };
        let finding = |reason, message| Err(Finding::new("spec.passwordSecret", reason, message));
        match secrets.get(name) {
            None => finding(
                Reason::WaitingForSecret,
                format!("there is no Secret {name} in this namespace; it is waited for"),
            ),
            Some(secret) if secret.type_ != BASIC_AUTH => finding(
                Reason::InvalidSecret,
                format!(
                    "Secret {name} is of type \"{}\"; make it one of type {BASIC_AUTH}",
                    secret.type_
                ),
            ),
            Some(secret) if !secret.has_password => finding(
                Reason::InvalidSecret,
                format!("Secret {name} has no key password; add it"),
            ),
            Some(_) => Ok(()),
        }
    }
}

/// Type of the Secrets that hold passwords.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

/// To which peers IPv6 addresses are advertised.
struct SixReach {
    /// A pool that goes to every peer.
    everybody: Option<String>,
    /// A pool by peer.
    named: BTreeMap<String, String>,
}

impl SixReach {
    fn new(advertisements: &[BgpAdvertisement], pools: &[(Origin, PoolEntry)]) -> Self {
        let six: BTreeSet<&String> = pools
            .iter()
            .filter(|(_, entry)| entry.pool.has_family(Family::V6))
            .map(|(_, entry)| &entry.pool.name)
            .collect();
        let mut reach = Self {
            everybody: None,
            named: BTreeMap::new(),
        };
        // Advertisements for all pools share one set: it is searched once.
        let mut last: Option<(&Arc<BTreeSet<String>>, Option<&String>)> = None;
        for advertisement in advertisements {
            let pool = match last {
                Some((pools, pool)) if Arc::ptr_eq(pools, &advertisement.pools) => pool,
                _ => advertisement.pools.iter().find(|pool| six.contains(pool)),
            };
            last = Some((&advertisement.pools, pool));
            let Some(pool) = pool else { continue };
            if advertisement.peers.is_empty() {
                reach.everybody.get_or_insert_with(|| pool.clone());
            }
            for peer in &advertisement.peers {
                reach.named.entry(peer.clone()).or_insert_with(|| pool.clone());
            }
        }
        reach
    }

    fn pool_of(&self, peer: &str) -> Option<&String> {
        self.everybody.as_ref().or_else(|| self.named.get(peer))
    }
}
