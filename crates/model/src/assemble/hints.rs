//! Warnings: what works as written but should be looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::{Legacy, Own};
use crate::bgp::{BgpPeerSpec, may_share_node};
use crate::issue::{Effect, Finding, Reason};
use crate::settle::Origin;
use crate::{BgpPeer, Issue, ObjectRef, Source};

/// Advertisements that name peers which do not exist. They may be created later, as Go allows.
pub(super) fn unknown_peers(
    named: &[(Origin, BTreeSet<String>)],
    peers: &[(Origin, BgpPeer)],
    issues: &mut Vec<Issue>,
) {
    let known: BTreeSet<&str> = peers.iter().map(|(_, peer)| peer.name.as_str()).collect();
    for (origin, names) in named {
        let unknown: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !known.contains(name))
            .collect();
        if !unknown.is_empty() {
            let message = format!("no valid BGPPeer is named {}", unknown.join(", "));
            let finding = Finding::new("spec.peers", Reason::UnknownPeer, message);
            issues.push(origin.issue(finding, Effect::Warning));
        }
    }
}

/// Peers that are the same session on the same nodes. Native `MetalLB` takes them, so they are not refused: which nodes
/// both really select is for the speakers to see.
pub(super) fn duplicate_peers(peers: &[(Origin, BgpPeer)], issues: &mut Vec<Issue>) {
    let mut sessions: BTreeMap<_, Vec<&(Origin, BgpPeer)>> = BTreeMap::new();
    for known in peers {
        sessions.entry(known.1.session()).or_default().push(known);
    }
    for same in sessions.values() {
        for (index, (origin, peer)) in same.iter().enumerate().skip(1) {
            let Some((_, first)) = same[..index]
                .iter()
                .find(|(_, first)| may_share_node(&first.node_selectors, &peer.node_selectors))
            else {
                continue;
            };
            let message = format!(
                "{} port {} is also dialled for peer {}, perhaps from the same nodes; use one peer, or nodeSelectors that \
                 exclude each other",
                peer.endpoint, peer.port, first.name
            );
            let finding = Finding::new("spec.peerAddress", Reason::DuplicatePeer, message);
            issues.push(origin.issue(origin.place.locate(finding), Effect::Warning));
        }
    }
}

/// References to Secrets of other namespaces, which are looked up in ours, as Go does.
pub(super) fn secrets_elsewhere(
    peers: &[&Source<BgpPeerSpec>],
    own_namespace: &str,
    issues: &mut Vec<Issue>,
) {
    for source in peers {
        let secret = source
            .spec
            .as_ref()
            .ok()
            .and_then(|spec| spec.password_secret.as_ref());
        let namespace = secret
            .and_then(|secret| secret.namespace.as_deref())
            .unwrap_or_default();
        if !namespace.is_empty() && namespace != own_namespace {
            let message =
                format!("is {namespace}, but the Secret is looked up in {own_namespace}; remove the field");
            warn(
                &source.object,
                "spec.passwordSecret.namespace",
                Reason::InvalidSecret,
                message,
                issues,
            );
        }
    }
}

/// Sources that have a successor.
pub(super) fn deprecated(sources: &Own<'_>, issues: &mut Vec<Issue>) {
    for source in &sources.address_pools {
        let message = "AddressPool works, but is deprecated; replace it by an IPAddressPool with an L2Advertisement or a \
                       BGPAdvertisement";
        warn(&source.object, "kind", Reason::DeprecatedSource, message, issues);
    }
    if let Some(source) = sources.config_map {
        let message = "the ConfigMap works, but is deprecated; replace its entries by IPAddressPool, L2Advertisement, \
                       BGPAdvertisement, BGPPeer, BFDProfile and Community objects";
        warn(
            &source.object,
            "data.config",
            Reason::DeprecatedSource,
            message,
            issues,
        );
    }
}

/// BGP is validated, but this version does not speak it. The one place that says so.
pub(super) fn not_implemented(sources: &Own<'_>, legacy: Option<&Legacy<'_>>, issues: &mut Vec<Issue>) {
    let mut say = |object: &ObjectRef, field: &str| {
        let message = "is validated, but this version does not speak BGP yet: nothing is advertised by it";
        warn(object, field, Reason::NotImplemented, message, issues);
    };
    for source in &sources.bgp_advertisements {
        say(&source.object, "spec");
    }
    for source in &sources.bgp_peers {
        say(&source.object, "spec");
    }
    for source in &sources.bfd_profiles {
        say(&source.object, "spec");
    }
    for source in &sources.communities {
        say(&source.object, "spec");
    }
    for source in &sources.address_pools {
        let protocol = source
            .spec
            .as_ref()
            .ok()
            .and_then(|spec| spec.protocol.as_deref());
        if protocol == Some("bgp") {
            say(&source.object, "spec.protocol");
        }
    }
    if let (Some(source), Some(text)) = (
        sources.config_map,
        legacy.and_then(|legacy| legacy.present.as_ref()),
    ) && text.has_bgp()
    {
        say(&source.object, "data.config: peers");
    }
}

fn warn(
    object: &ObjectRef,
    field: &str,
    reason: Reason,
    message: impl std::fmt::Display,
    issues: &mut Vec<Issue>,
) {
    issues.push(Finding::new(field, reason, message).into_issue(object.clone(), Effect::Warning));
}
