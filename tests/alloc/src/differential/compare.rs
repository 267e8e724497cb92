//! The two worlds side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::drive::{MARKERS, World};
use super::known::{self, Case, Known};
use super::steps::{PoolSpec, ServiceSpec, Step};

/// A service as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its addresses.
    pub ips: BTreeSet<IpAddr>,
    /// Their pool.
    pub pool: Option<String>,
    /// Anything in the ingress that is no address.
    pub strange: Vec<String>,
    /// Reasons of all Events that it ever had.
    pub reasons: BTreeSet<String>,
}

impl View {
    /// Same addresses from the same pool.
    pub fn same_addresses(&self, other: &Self) -> bool {
        self.ips == other.ips && self.pool == other.pool && self.strange == other.strange
    }
}

/// All services of one world.
pub type Views = BTreeMap<String, View>;

/// What the users of a world see.
pub fn views(world: &World) -> Views {
    let services = world.observer.services();
    let tested = services.into_iter().filter(|(key, _)| {
        let namespace = key.split('/').next().unwrap_or_default();
        namespace != MARKERS && namespace != "default"
    });
    tested
        .map(|(key, seen)| {
            let view = View {
                reasons: world.observer.reasons(&seen.uid),
                ips: seen.ips,
                pool: seen.pool,
                strange: seen.strange,
            };
            (key, view)
        })
        .collect()
}

/// What is known about the moment of a comparison.
pub struct Moment<'a> {
    /// The step that was carried out last.
    pub step: &'a Step,
    /// Services as users want them, each with what it was before: the last is what they want now.
    pub specs: &'a BTreeMap<String, Vec<ServiceSpec>>,
    /// Pools in force before the step.
    pub pools_before: &'a BTreeMap<String, PoolSpec>,
    /// Pools in force now.
    pub pools: &'a BTreeMap<String, PoolSpec>,
    /// Label `team` of the namespaces that have it.
    pub teams: &'a BTreeMap<String, String>,
    /// What both agreed on before the step.
    pub before: &'a Views,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Nobody may overlook these: the service and what differs.
    pub differences: Vec<(String, String)>,
    /// Entries of the list that explain something.
    pub known: BTreeSet<&'static str>,
    /// Services whose addresses differ for a reason: both worlds delete them, or they would differ for ever after.
    pub part: BTreeSet<String>,
    /// Differences that only say that the order of several services is nobody's promise.
    pub by_order: usize,
}

/// Compares, and explains what differs as far as it can be.
pub fn compare(moment: &Moment<'_>, ours: &Views, go: &Views) -> Outcome {
    let mut outcome = Outcome::default();
    let keys: BTreeSet<&String> = ours.keys().chain(go.keys()).collect();
    let mut unexplained = Vec::new();
    for key in keys {
        let (Some(our), Some(their)) = (ours.get(key), go.get(key)) else {
            outcome
                .differences
                .push((key.clone(), "exists in one world only".to_owned()));
            continue;
        };
        let case = Case {
            moment,
            specs: moment.specs.get(key).map_or(&[], Vec::as_slice),
            before: moment.before.get(key),
            ours: our,
            go: their,
        };
        if !our.same_addresses(their) {
            match known::addresses(&case) {
                Some(Known { id, .. }) => {
                    outcome.known.insert(id);
                    outcome.part.insert(key.clone());
                }
                None => unexplained.push(key.clone()),
            }
            continue;
        }
        let mut odd: BTreeSet<&String> = our.reasons.symmetric_difference(&their.reasons).collect();
        for (entry, reasons) in known::reasons(&case) {
            let explained = odd.len();
            odd.retain(|reason| !reasons.contains(&reason.as_str()));
            if odd.len() < explained {
                outcome.known.insert(entry.id);
            }
        }
        if !odd.is_empty() {
            let text = format!("Events differ: ours {:?}, Go {:?}", our.reasons, their.reasons);
            outcome.differences.push((key.clone(), text));
        }
    }
    if explained_by_order(moment, ours, go, &unexplained) {
        outcome.by_order = unexplained.len();
        outcome.part.extend(unexplained);
    } else {
        for key in unexplained {
            let text = contrast(&ours[&key], &go[&key]);
            outcome.differences.push((key, text));
        }
    }
    outcome
}

fn contrast(ours: &View, go: &View) -> String {
    let one = |view: &View| {
        let ips: Vec<String> = view.ips.iter().map(ToString::to_string).collect();
        let pool = view.pool.as_deref().unwrap_or("no pool");
        format!(
            "[{}] of {pool} {:?} {:?}",
            ips.join(" "),
            view.strange,
            view.reasons
        )
    };
    format!("ours {}, Go {}", one(ours), one(go))
}

/// Pools among which the choice is free: Go takes them in the order of a map.
fn rank(pools: &BTreeMap<String, PoolSpec>, name: Option<&String>) -> String {
    match name.and_then(|name| pools.get(name)) {
        None => name.cloned().unwrap_or_default(),
        Some(PoolSpec {
            allocation: Some(allocation),
            ..
        }) => format!("reserved {}", allocation.priority),
        Some(_) => "open".to_owned(),
    }
}

/// Whether what differs is a matter of who came first, or of pools of the same rank: of those that changed in this step, as many
/// hold addresses of the same kind here as there.
fn explained_by_order(moment: &Moment<'_>, ours: &Views, go: &Views, differing: &[String]) -> bool {
    let changed = |key: &String| {
        let before = moment.before.get(key);
        let same = |now: &View| before.is_some_and(|before| before.same_addresses(now));
        !same(&ours[key]) || !same(&go[key])
    };
    let kinds = |views: &Views| {
        let mut all: Vec<(String, Vec<bool>)> = views
            .iter()
            .filter(|(key, _)| ours.contains_key(*key) && go.contains_key(*key) && changed(key))
            .map(|(key, view)| {
                let asked = moment
                    .specs
                    .get(key)
                    .and_then(|specs| specs.last())
                    .is_some_and(|spec| spec.annotations.keys().any(|key| key.ends_with("/address-pool")));
                let pool = if asked {
                    view.pool.clone().unwrap_or_default()
                } else {
                    rank(moment.pools, view.pool.as_ref())
                };
                (pool, view.ips.iter().map(IpAddr::is_ipv4).collect())
            })
            .collect();
        all.sort();
        all
    };
    !differing.is_empty() && differing.iter().all(changed) && kinds(ours) == kinds(go) && {
        // One service alone differs only where the choice between pools is free.
        let in_one_pool = |key: &String| ours[key].pool == go[key].pool;
        differing.len() > 1 || !differing.iter().all(in_one_pool)
    }
}
