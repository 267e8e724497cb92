//! From what the API server says to plans.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::{Eligibility, Endpoints, NodeFacts, NodeName, Nodes, Refusal, Rules, ServiceFacts};
use metallb_model::Config;

use crate::sharing::{self, Sharing};
use crate::{Directive, Plan, ServiceKey};

/// What a service would be planned as if it shared no address.
type Alone = (Arc<[IpAddr]>, Arc<Eligibility>);

struct Service {
    facts: ServiceFacts,
    /// How fresh the facts are.
    version: u64,
    /// How fresh what is known of those is with which it shares addresses, or did.
    shared_version: u64,
    alone: Option<Alone>,
    outcome: Option<Result<Plan, Refusal>>,
}

/// Keeps what the API server says about services and works out a plan for each.
///
/// Every method takes the present truth about one thing; saying the same again changes nothing. Plans are worked out by
/// [`Planner::settle`], for what was touched only, so that a burst of changes costs one pass.
#[derive(Default)]
pub struct Planner {
    rules: Rules,
    config: Arc<Config>,
    nodes: Nodes,
    services: BTreeMap<ServiceKey, Service>,
    endpoints: BTreeMap<ServiceKey, Endpoints>,
    /// What changed since the last pass.
    touched: BTreeSet<ServiceKey>,
    all_touched: bool,
    /// How fresh what is being told is.
    version: u64,
    /// How fresh the freshest of what concerns all services is.
    common_version: u64,
    /// Gone since the last pass, with a plan handed out.
    removed: BTreeMap<ServiceKey, u64>,
    known: BTreeSet<Arc<Eligibility>>,
    sharing: Sharing,
}

impl Planner {
    /// One that knows nothing yet. `ignore_exclude_label` is the flag `--ignore-exclude-lb`.
    pub fn new(ignore_exclude_label: bool) -> Self {
        Self {
            rules: Rules {
                ignore_exclude_label,
                ..Rules::default()
            },
            ..Self::default()
        }
    }

    /// The same with all that can be chosen.
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// What is told from now on is as fresh as this: the `resourceVersion` of the object, or of the list, as a number.
    ///
    /// All speakers of a cluster see the same numbers, so that of two views of a service the fresher can be told. Without
    /// it all views count as equally old, and every speaker believes its own.
    pub const fn at(&mut self, version: u64) {
        self.version = version;
    }

    /// The service is there with these facts, or gone.
    pub fn service(&mut self, key: ServiceKey, facts: Option<ServiceFacts>) {
        if let Some(facts) = facts {
            match self.services.get_mut(&key) {
                Some(service) if service.facts == facts => return,
                Some(service) => {
                    service.facts = facts;
                    service.version = self.version;
                }
                None => {
                    let service = Service {
                        facts,
                        version: self.version,
                        shared_version: 0,
                        alone: None,
                        outcome: None,
                    };
                    self.services.insert(key.clone(), service);
                }
            }
            self.touched.insert(key);
        } else if let Some(service) = self.services.remove(&key) {
            self.touched.remove(&key);
            if let Some((addresses, _)) = &service.alone {
                self.sharing.leave(&key, addresses, self.version);
            }
            if matches!(service.outcome, Some(Ok(_))) {
                self.removed.insert(key, self.version.max(service.shared_version));
            }
        }
    }

    /// The usable endpoints of a service, which need not be known yet.
    ///
    /// They come by a watch of their own, which may be ahead of that of services: how fresh they are says nothing of whether the
    /// service is still there. So a plan is as fresh as its service, and a service that is gone is not brought back by a
    /// peer that has heard of its last endpoints but not of its end.
    pub fn endpoints(&mut self, key: &ServiceKey, endpoints: Endpoints) {
        let before = self.endpoints.get(key);
        if before == Some(&endpoints) || (before.is_none() && endpoints == Endpoints::default()) {
            return;
        }
        if endpoints == Endpoints::default() {
            self.endpoints.remove(key);
        } else {
            self.endpoints.insert(key.clone(), endpoints);
        }
        if self.services.contains_key(key) {
            self.touched.insert(key.clone());
        }
    }

    /// The node is there with these facts, or gone.
    pub fn node(&mut self, name: NodeName, facts: Option<NodeFacts>) {
        let changed = match facts {
            Some(facts) => {
                let changed = self.nodes.get(&name) != Some(&facts);
                if changed {
                    self.nodes.insert(name, facts);
                }
                changed
            }
            None => self.nodes.remove(&name).is_some(),
        };
        self.touch_all(changed);
    }

    /// Whether a ready speaker of Go `MetalLB` runs on a node that is known; see [`NodeFacts::foreign_speaker`].
    pub fn foreign_speaker(&mut self, node: &str, there: bool) {
        let facts = self.nodes.get_mut(node);
        let changed =
            facts.is_some_and(|facts| core::mem::replace(&mut facts.foreign_speaker, there) != there);
        self.touch_all(changed);
    }

    /// The configuration in force.
    pub fn config(&mut self, config: Arc<Config>) {
        if self.config != config {
            self.config = config;
            self.touch_all(true);
        }
    }

    fn touch_all(&mut self, changed: bool) {
        if changed {
            self.all_touched = true;
            self.common_version = self.common_version.max(self.version);
        }
    }

    /// Works out what was touched; the changes against what was last handed out.
    ///
    /// Services that share addresses are worked out together, so that all that change with one are told at once.
    pub fn settle(&mut self) -> Vec<Directive> {
        let touched = core::mem::take(&mut self.touched);
        let keys: Vec<ServiceKey> = if core::mem::take(&mut self.all_touched) {
            self.services.keys().cloned().collect()
        } else {
            touched.into_iter().collect()
        };
        let mut directives = Vec::new();
        let removed = core::mem::take(&mut self.removed);
        for (key, version) in &removed {
            if !self.services.contains_key(key) {
                directives.push(Directive {
                    service: key.clone(),
                    plan: None,
                    version: (*version).max(self.common_version),
                });
            }
        }
        let mut changed = BTreeMap::new();
        for key in keys {
            let refusal = self.plan_alone(&key);
            let directive = refusal.and_then(|refusal| self.conclude(&key, Err(refusal), &removed));
            changed.extend(directive.map(|directive| (key, directive)));
        }
        let addresses = |key: &ServiceKey| {
            let alone = self.services.get(key).and_then(|service| service.alone.as_ref());
            alone.map_or(&[][..], |(addresses, _)| addresses)
        };
        for (keys, version) in self.sharing.take_groups(addresses) {
            for (key, plan) in self.plan_together(keys, version) {
                let directive = self.conclude(&key, Ok(plan), &removed);
                changed.extend(directive.map(|directive| (key, directive)));
            }
        }
        directives.extend(changed.into_values());
        self.known
            .retain(|eligibility| Arc::strong_count(eligibility) > 1);
        directives
    }

    /// Works out who may own a service were it alone; why nobody may.
    fn plan_alone(&mut self, key: &ServiceKey) -> Option<Refusal> {
        let facts = &self.services.get(key)?.facts;
        let none = Endpoints::default();
        let endpoints = self.endpoints.get(key).unwrap_or(&none);
        let found = Eligibility::of(facts, endpoints, &self.nodes, &self.config, self.rules);
        let found = match found {
            Ok(eligibility) if eligibility.candidates.is_empty() => Err(Refusal::NoCandidate),
            found => found,
        };
        let (alone, refusal) = match found {
            Ok(eligibility) => (Some(self.share(eligibility)), None),
            Err(refusal) => (None, Some(refusal)),
        };
        let service = self.services.get_mut(key)?;
        let same = match (&service.alone, &alone) {
            (Some((addresses, before)), Some(now)) => {
                **addresses == *service.facts.addresses && Arc::ptr_eq(before, now)
            }
            _ => false,
        };
        if !same {
            if let Some((addresses, _)) = service.alone.take() {
                self.sharing.leave(key, &addresses, service.version);
            }
            if let Some(eligibility) = alone {
                let addresses: Arc<[IpAddr]> = service.facts.addresses.as_slice().into();
                self.sharing.enter(key, &addresses, service.version);
                service.alone = Some((addresses, eligibility));
            }
        }
        refusal
    }

    /// The plans of services that share addresses, as fresh as the freshest of them.
    fn plan_together(&mut self, keys: Vec<ServiceKey>, mut version: u64) -> Vec<(ServiceKey, Plan)> {
        let mut alone = Vec::with_capacity(keys.len());
        for key in &keys {
            let Some(service) = self.services.get(key) else {
                continue;
            };
            version = version.max(service.version).max(service.shared_version);
            alone.extend(service.alone.clone());
        }
        for key in &keys {
            if let Some(service) = self.services.get_mut(key) {
                service.shared_version = version;
            }
        }
        let known = keys.iter().find_map(|key| {
            let outcome = self.services.get(key)?.outcome.as_ref()?;
            outcome.as_ref().ok()?.group.clone()
        });
        let plans = sharing::plans(&alone, known, |eligibility| self.share(eligibility));
        keys.into_iter().zip(plans).collect()
    }

    /// Takes what a service came to; what is to be told of it.
    fn conclude(
        &mut self,
        key: &ServiceKey,
        outcome: Result<Plan, Refusal>,
        removed: &BTreeMap<ServiceKey, u64>,
    ) -> Option<Directive> {
        let service = self.services.get_mut(key)?;
        let plan = outcome.as_ref().ok().cloned();
        let before = service.outcome.replace(outcome);
        // That it is refused is told too, once: others may have an older view of it.
        let refused = before.is_none() && plan.is_none();
        let plan_before = before.and_then(Result::ok);
        // Made again since the last pass, it may still be announced for its former self.
        let lingers = plan.is_none() && removed.contains_key(key);
        let version = service
            .version
            .max(service.shared_version)
            .max(self.common_version);
        (plan != plan_before || lingers || refused).then(|| Directive {
            service: key.clone(),
            plan,
            version,
        })
    }

    /// One allocation for all equal eligibilities: most services of a cluster have the same.
    fn share(&mut self, eligibility: Eligibility) -> Arc<Eligibility> {
        if let Some(known) = self.known.get(&eligibility) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(eligibility);
        self.known.insert(Arc::clone(&fresh));
        fresh
    }

    /// Every service and why it is announced by nobody, or `None` when it has a plan.
    pub fn outcomes(&self) -> impl Iterator<Item = (&ServiceKey, Option<&Refusal>)> {
        self.services.iter().map(|(key, service)| {
            let refusal = service
                .outcome
                .as_ref()
                .and_then(|outcome| outcome.as_ref().err());
            (key, refusal)
        })
    }

    /// The facts of a service.
    pub fn facts(&self, key: &ServiceKey) -> Option<&ServiceFacts> {
        self.services.get(key).map(|service| &service.facts)
    }
}
