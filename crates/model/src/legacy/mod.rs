//! The `ConfigMap` `config` of v0.3 to v0.12: the whole configuration as one text.
//!
//! Every entry is rewritten as the spec of the custom resource that replaced it and judged by the same rules, each
//! alone. Keys are strict, as they were: an unknown one is refused by name, but only its entry is lost.

mod pair;
mod place;
mod shape;

pub(crate) use pair::pair;
pub(crate) use place::Place;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::bgp::{BfdProfileSpec, BgpPeerSpec, CommunityAliasSpec, CommunitySpec};
use crate::issue::{Finding, Reason};
use crate::{AddressPoolSpec, Unreadable};
use shape::{BFD_PROFILE, Field, PEER, POOL};

/// One entry of a section.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    /// What tells it from the others: the name, of a peer its address. `None`: it has none, or it cannot be read.
    pub(crate) key: Option<String>,
    pub(crate) place: Place,
    pub(crate) spec: Result<T, Finding>,
}

/// The entries of a section, or why the section is none.
pub(crate) type Section<T> = Result<Vec<Entry<T>>, Finding>;

/// A `ConfigMap` taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) pools: Section<AddressPoolSpec>,
    pub(crate) peers: Section<BgpPeerSpec>,
    pub(crate) bfd_profiles: Section<BfdProfileSpec>,
    pub(crate) communities: Section<CommunitySpec>,
    /// What is wrong beside the entries.
    pub(crate) findings: Vec<Finding>,
}

/// The key of the `ConfigMap` that holds the text.
const TEXT: &str = "data.config";

impl Text {
    /// Takes the JSON of the YAML apart. `Err`: nothing of it is usable.
    pub(crate) fn read(text: &Value) -> Result<Self, Finding> {
        let empty = Map::new();
        let sections = match text {
            Value::Object(sections) => sections,
            Value::Null => &empty,
            _ => {
                let message = "is not a mapping; write address-pools: and so on at the left margin";
                return Err(Finding::new(TEXT, Reason::InvalidSpec, message));
            }
        };
        let mut findings = Vec::new();
        for key in sections.keys() {
            if !SECTIONS.iter().flatten().any(|known| known == key) {
                let known = SECTIONS.map(|names| names[0]).join(", ");
                let message = format!("is no key of this text; known are {known}");
                findings.push(Finding::new(
                    format!("{TEXT}: {}", shape::shown(key)),
                    Reason::UnknownField,
                    message,
                ));
            }
        }
        for [name, old] in SECTIONS {
            if name != old && sections.contains_key(name) && sections.contains_key(old) {
                let message = format!("says the same as {name}, which is used; remove one of them");
                findings.push(Finding::new(
                    format!("{TEXT}: {old}"),
                    Reason::DuplicateEntry,
                    message,
                ));
            }
        }
        let section = |names: [&'static str; 2]| {
            let name = names.into_iter().find(|name| sections.contains_key(*name))?;
            sections.get(name).map(|value| (name, value))
        };
        Ok(Self {
            pools: list(section(SECTIONS[0]), &POOL, |entry| string(entry, "name")),
            peers: list(section(SECTIONS[1]), &PEER, peer_key).map(finish_peers),
            bfd_profiles: list(section(SECTIONS[2]), &BFD_PROFILE, |entry| string(entry, "name")),
            communities: communities(section(SECTIONS[3])),
            findings,
        })
    }
}

impl Text {
    /// Whether anything of it needs BGP.
    pub(crate) fn has_bgp(&self) -> bool {
        let any = |pools: &Vec<Entry<AddressPoolSpec>>| {
            pools.iter().any(|entry| {
                entry
                    .spec
                    .as_ref()
                    .is_ok_and(|spec| spec.protocol.as_deref() == Some("bgp"))
            })
        };
        self.pools.as_ref().is_ok_and(any) || self.peers.as_ref().is_ok_and(|peers| !peers.is_empty())
    }
}

/// Sections; the second spelling is that of v0.2.
const SECTIONS: [[&str; 2]; 4] = [
    ["address-pools", "address-pools"],
    ["peers", "peers"],
    ["bfd-profiles", "bfd-profiles"],
    ["bgp-communities", "communities"],
];

fn list<T: DeserializeOwned>(
    section: Option<(&'static str, &Value)>,
    fields: &[Field],
    key: impl Fn(&Map<String, Value>) -> Option<String>,
) -> Section<T> {
    let Some((name, value)) = section else {
        return Ok(Vec::new());
    };
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(entries) => entries,
        _ => {
            let message = "is not a list; begin each entry with a dash";
            return Err(Finding::new(
                format!("{TEXT}: {name}"),
                Reason::InvalidSpec,
                message,
            ));
        }
    };
    let read = |(index, entry): (usize, &Value)| {
        let place = Place::entry(format!("{TEXT}: {name}[{index}]"));
        let spec = shape::rewrite(entry, fields, place.path()).and_then(|spec| {
            crate::object::read(Value::Object(spec))
                .map_err(|unreadable| place.locate(not_readable(&unreadable)))
        });
        let key = entry.as_object().and_then(&key);
        Entry { key, place, spec }
    };
    Ok(entries.iter().enumerate().map(read).collect())
}

/// A spec that does not have the shape of its kind.
pub(crate) fn not_readable(unreadable: &Unreadable) -> Finding {
    let message = format!("cannot be read ({}); correct it", unreadable.message);
    Finding::new(&unreadable.field, Reason::InvalidSpec, message)
}

/// The text that YAML has there.
fn string(entry: &Map<String, Value>, key: &str) -> Option<String> {
    entry
        .get(key)
        .and_then(shape::text)
        .filter(|text| !text.is_empty())
}

fn peer_key(entry: &Map<String, Value>) -> Option<String> {
    let address = string(entry, "peer-address")?;
    Some(match string(entry, "peer-port") {
        None => address,
        Some(port) if port == "0" || port == "179" => address,
        Some(port) => format!("{address} port {port}"),
    })
}

/// Makes the keys of peers unique, refuses exact repetitions and fills in the hold time that this source always had.
fn finish_peers(mut peers: Vec<Entry<BgpPeerSpec>>) -> Vec<Entry<BgpPeerSpec>> {
    let mut seen: std::collections::BTreeMap<String, Vec<usize>> = std::collections::BTreeMap::new();
    for index in 0..peers.len() {
        if let Ok(spec) = &mut peers[index].spec {
            spec.hold_time.get_or_insert_with(|| "90s".to_owned());
        }
        let Some(key) = peers[index].key.clone() else {
            continue;
        };
        let same = seen.entry(key.clone()).or_default();
        let repeats = same
            .iter()
            .find(|first| peers[index].spec.is_ok() && peers[**first].spec == peers[index].spec);
        if let Some(first) = repeats {
            let message = format!("repeats the peer at index {first}; remove one of them");
            let path = peers[index].place.path().to_owned();
            peers[index].spec = Err(Finding::new(path, Reason::DuplicateEntry, message));
        }
        if !same.is_empty() {
            peers[index].key = Some(format!("{key}#{}", same.len() + 1));
        }
        same.push(index);
    }
    peers
}

/// Each alias is an entry of its own.
fn communities(section: Option<(&'static str, &Value)>) -> Section<CommunitySpec> {
    let Some((name, value)) = section else {
        return Ok(Vec::new());
    };
    let aliases = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(aliases) => aliases,
        _ => {
            let message = "is not a mapping; write each alias as name: 65000:1";
            return Err(Finding::new(
                format!("{TEXT}: {name}"),
                Reason::InvalidSpec,
                message,
            ));
        }
    };
    let read = |(alias, value): (&String, &Value)| {
        let place = Place::alias(format!("{TEXT}: {name}.{}", shape::shown(alias)));
        let spec = shape::text(value).ok_or_else(|| {
            let message = "is not a text; write the community as 65000:1";
            Finding::new(place.path(), Reason::InvalidCommunity, message)
        });
        let spec = spec.map(|value| CommunitySpec {
            communities: Some(vec![CommunityAliasSpec {
                name: Some(alias.clone()),
                value: Some(value),
            }]),
        });
        let key = Some(alias.clone());
        Entry { key, place, spec }
    };
    Ok(aliases.iter().map(read).collect())
}
