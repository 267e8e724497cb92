//! Candidates from objects and from entries of the `ConfigMap`.

use serde_json::Value;

use crate::bgp::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec};
use crate::issue::{Effect, Finding, Issue, Reason};
use crate::legacy::{Section, Text, not_readable, pair};
use crate::settle::{Candidate, Contender, Origin};
use crate::{AddressPoolSpec, L2AdvertisementSpec, ObjectRef, PoolSpec, Source, Sources};

/// The sources of our namespace.
pub(super) struct Own<'a> {
    pub(super) pools: Vec<&'a Source<PoolSpec>>,
    pub(super) l2_advertisements: Vec<&'a Source<L2AdvertisementSpec>>,
    pub(super) bgp_advertisements: Vec<&'a Source<BgpAdvertisementSpec>>,
    pub(super) bgp_peers: Vec<&'a Source<BgpPeerSpec>>,
    pub(super) bfd_profiles: Vec<&'a Source<BfdProfileSpec>>,
    pub(super) communities: Vec<&'a Source<CommunitySpec>>,
    pub(super) address_pools: Vec<&'a Source<AddressPoolSpec>>,
    pub(super) config_map: Option<&'a Source<Value>>,
}

/// Drops objects of other namespaces, each with an issue: they look configured to whoever made them.
pub(super) fn own<'a>(sources: &'a Sources, namespace: &str, issues: &mut Vec<Issue>) -> Own<'a> {
    Own {
        pools: of_namespace(&sources.pools, namespace, issues),
        l2_advertisements: of_namespace(&sources.l2_advertisements, namespace, issues),
        bgp_advertisements: of_namespace(&sources.bgp_advertisements, namespace, issues),
        bgp_peers: of_namespace(&sources.bgp_peers, namespace, issues),
        bfd_profiles: of_namespace(&sources.bfd_profiles, namespace, issues),
        communities: of_namespace(&sources.communities, namespace, issues),
        address_pools: of_namespace(&sources.address_pools, namespace, issues),
        // A ConfigMap elsewhere, or of another name, belongs to somebody else.
        config_map: sources
            .config_maps
            .iter()
            .find(|source| source.object.namespace == namespace && source.object.name == CONFIG_MAP),
    }
}

/// Name of the `ConfigMap`.
const CONFIG_MAP: &str = "config";

fn of_namespace<'a, T>(
    sources: &'a [Source<T>],
    own_namespace: &str,
    issues: &mut Vec<Issue>,
) -> Vec<&'a Source<T>> {
    let (own, foreign): (Vec<_>, Vec<_>) = sources
        .iter()
        .partition(|source| source.object.namespace == own_namespace);
    issues.extend(foreign.into_iter().map(|source| {
        let message = format!("only objects in namespace {own_namespace} are used; create it there");
        Finding::new("metadata.namespace", Reason::WrongNamespace, message)
            .into_issue(source.object.clone(), Effect::LeftOut)
    }));
    own
}

/// What the present spec of an object says.
pub(super) fn present<T, V>(
    source: &Source<T>,
    parse: impl FnOnce(&T) -> Result<V, Finding>,
) -> Result<V, Option<Finding>> {
    match &source.spec {
        Ok(spec) => parse(spec).map_err(Some),
        Err(unreadable) => Err(Some(not_readable(unreadable))),
    }
}

/// A candidate for each object. `check` is for the present spec only: what was valid before stays so.
pub(super) fn from_objects<T, V: Contender>(
    sources: &[&Source<T>],
    parse: impl Fn(&Source<T>, &T) -> Result<V, Finding>,
    check: impl Fn(&V) -> Result<(), Finding>,
) -> Vec<Candidate<V>> {
    let candidate = |source: &&Source<T>| {
        let present = present(source, |spec| {
            let value = parse(source, spec)?;
            check(&value)?;
            Ok(value)
        });
        let earlier = source
            .last_valid
            .as_ref()
            .and_then(|spec| parse(source, spec).ok());
        Candidate::new(Origin::object(&source.object), present, earlier)
    };
    sources.iter().map(candidate).collect()
}

/// The `ConfigMap` as it is and as it was last valid.
pub(super) struct Legacy<'a> {
    object: &'a ObjectRef,
    /// `None`: unusable as a whole, which is reported.
    pub(super) present: Option<Text>,
    last_valid: Option<Text>,
}

impl<'a> Legacy<'a> {
    /// Takes the `ConfigMap` apart, if there is one, and reports what concerns no single entry.
    pub(super) fn read(sources: &Own<'a>, issues: &mut Vec<Issue>) -> Option<Self> {
        let source = sources.config_map?;
        let last_valid = source.last_valid.as_ref().and_then(|text| Text::read(text).ok());
        let present = match &source.spec {
            Ok(text) => Text::read(text),
            Err(unreadable) => Err(not_readable(unreadable)),
        };
        let origin = Origin::object(&source.object);
        let present = match present {
            Ok(text) => {
                let findings = text.findings.iter().cloned();
                issues.extend(findings.map(|finding| origin.issue(finding, Effect::Partly)));
                Some(text)
            }
            Err(finding) => {
                issues.push(origin.issue(finding, effect(last_valid.is_some())));
                None
            }
        };
        Some(Self {
            object: &source.object,
            present,
            last_valid,
        })
    }

    fn origin(&self, place: &crate::legacy::Place, index: usize) -> Origin {
        Origin {
            object: self.object.clone(),
            place: place.clone(),
            index,
        }
    }
}

fn effect(last_valid: bool) -> Effect {
    if last_valid {
        Effect::LastValid
    } else {
        Effect::LeftOut
    }
}

/// A candidate for each entry of a section. `parse` gets the key of the entry, or the empty text.
pub(super) fn from_entries<T, V: Contender>(
    legacy: Option<&Legacy<'_>>,
    section: impl Fn(&Text) -> &Section<T>,
    parse: impl Fn(&str, &T) -> Result<V, Finding>,
    check: impl Fn(&V) -> Result<(), Finding>,
    issues: &mut Vec<Issue>,
) -> Vec<Candidate<V>> {
    let Some(legacy) = legacy else { return Vec::new() };
    let last = legacy
        .last_valid
        .as_ref()
        .and_then(|text| section(text).as_ref().ok())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let key = |key: &Option<String>| key.clone().unwrap_or_default();
    let earlier = |index: usize| {
        let entry = &last[index];
        let spec = entry.spec.as_ref().ok()?;
        parse(&key(&entry.key), spec).ok()
    };
    let entries = match legacy.present.as_ref().map(&section) {
        Some(Ok(entries)) => entries,
        unusable => {
            if let Some(Err(finding)) = unusable {
                let origin = Origin::object(legacy.object);
                issues.push(origin.issue(finding.clone(), effect(!last.is_empty())));
            }
            let stays = |index: usize| {
                Candidate::new(
                    legacy.origin(&last[index].place, index),
                    Err(None),
                    earlier(index),
                )
            };
            return (0..last.len()).map(stays).collect();
        }
    };
    let values: Vec<Result<V, Finding>> = entries
        .iter()
        .map(|entry| {
            let spec = entry.spec.as_ref().map_err(Clone::clone)?;
            let checked = parse(&key(&entry.key), spec).and_then(|value| check(&value).map(|()| value));
            checked.map_err(|finding| entry.place.locate(finding))
        })
        .collect();
    let usable: Vec<bool> = values.iter().map(Result::is_ok).collect();
    let pairs = pair(entries, &usable, last);
    let numbered = entries.iter().zip(values).zip(pairs).enumerate();
    numbered
        .map(|(index, ((entry, value), pair))| {
            Candidate::new(
                legacy.origin(&entry.place, index),
                value.map_err(Some),
                pair.and_then(earlier),
            )
        })
        .collect()
}
