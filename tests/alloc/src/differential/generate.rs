//! Sequences from a seed. The universe is small on purpose: a handful of addresses, names and keys meet often.

use std::collections::BTreeMap;

use metallb_sansio::SeededRng;

use super::steps::{AllocationSpec, PREFIXES, PoolSpec, ServiceSpec, Step};

const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const TEAMS: [&str; 2] = ["alpha", "beta"];
const TIERS: [&str; 2] = ["gold", "silver"];
const POOLS: [&str; 4] = ["pool-a", "pool-b", "pool-c", "pool-d"];
const SERVICES: u64 = 8;
/// A class that neither controller serves unless told to.
pub const CLASS: &str = "lab.example/lb";
const RANGES: [&str; 16] = [
    "192.0.2.0/31",
    "192.0.2.2-192.0.2.4",
    "192.0.2.4/30",
    "192.0.2.8/32",
    "192.0.2.9 - 192.0.2.10",
    "192.0.2.254-192.0.3.1",
    "192.0.2.255/32",
    "192.0.2.0-192.0.2.7",
    "2001:db8::/127",
    "2001:db8::2-2001:db8::4",
    "2001:db8::4/126",
    "2001:db8::10/128",
    "2001:db8::ff-2001:db8::100",
    "2001:db8::10/126",
    "192.0.2.12/30",
    "2001:db8::20/128",
];
const BAD_RANGES: [&str; 4] = [
    "192.0.2.300/32",
    "192.0.2.9-192.0.2.1",
    "192.0.2.1/33",
    "2001:db8::g/128",
];
const IPS: [&str; 10] = [
    "192.0.2.0",
    "192.0.2.1",
    "192.0.2.4",
    "192.0.2.8",
    "192.0.2.255",
    "2001:db8::1",
    "2001:db8::4",
    "2001:db8::10",
    "198.51.100.7",
    "not-an-address",
];

/// What exists, as far as the generator knows.
#[derive(Clone, Debug)]
pub struct Generator {
    random: SeededRng,
    pools: BTreeMap<String, PoolSpec>,
    /// A pool that Go's webhook would refuse waits to be put right: no other pool is touched meanwhile, or it would come into
    /// force in an instant that Go's user cannot have.
    refused: Option<String>,
    services: BTreeMap<String, ServiceSpec>,
    served_class: Option<String>,
}

impl Generator {
    /// The sequence of a seed. `served_class`: the class that the controllers serve.
    pub fn new(seed: u64, served_class: Option<&str>) -> Self {
        Self {
            random: SeededRng::new(seed ^ 0x5eed_0000_0000_0000),
            pools: BTreeMap::new(),
            refused: None,
            services: BTreeMap::new(),
            served_class: served_class.map(str::to_owned),
        }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let wish = self.random.below(100);
        match wish {
            0..=2 => Step::Restart,
            3..=6 => self.namespace(),
            7..=22 => self.pool(),
            23..=27 if !self.pools.is_empty() => self.delete_pool(),
            28..=35 if !self.services.is_empty() => self.delete_service(),
            // Most services shall get something most of the time.
            _ if self.pools.len() < 2 && self.refused.is_none() => self.pool(),
            _ => self.service(),
        }
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn maybe<'a>(&mut self, percent: u8, from: &[&'a str]) -> Option<&'a str> {
        self.random.percent(percent).then(|| self.pick(from))
    }

    fn namespace(&mut self) -> Step {
        Step::Namespace {
            name: self.pick(&NAMESPACES).to_owned(),
            team: self.maybe(70, &TEAMS).map(str::to_owned),
        }
    }

    fn pool(&mut self) -> Step {
        let name = self
            .refused
            .clone()
            .unwrap_or_else(|| self.pick(&POOLS).to_owned());
        let mut spec = match self.pools.get(&name).cloned() {
            Some(spec) if self.random.percent(70) => spec,
            _ => PoolSpec {
                name: name.clone(),
                addresses: Vec::new(),
                auto_assign: self.random.percent(85),
                avoid_buggy: self.random.percent(20),
                allocation: None,
            },
        };
        match self.random.below(6) {
            _ if spec.addresses.is_empty() || self.refused.is_some() => spec.addresses = self.addresses(),
            0 | 1 => spec.addresses = self.addresses(),
            2 => spec.auto_assign = !spec.auto_assign,
            3 => spec.avoid_buggy = !spec.avoid_buggy,
            _ => spec.allocation = self.allocation(),
        }
        if spec.allocation.is_none() && self.random.percent(20) {
            spec.allocation = self.allocation();
        }
        let admitted = spec.admitted_beside(self.pools.values());
        self.refused = (!admitted).then(|| name.clone());
        if admitted {
            self.pools.insert(name, spec.clone());
        }
        Step::Pool(spec)
    }

    fn addresses(&mut self) -> Vec<String> {
        if self.random.percent(4) {
            return vec![self.pick(&BAD_RANGES).to_owned()];
        }
        // Several draws, so that most pools do not overlap others.
        let count = 2 + self.random.below(3);
        let mut all = Vec::new();
        for _ in 0..count {
            let range = self.pick(&RANGES).to_owned();
            let with = PoolSpec {
                name: String::new(),
                addresses: [all.clone(), vec![range.clone()]].concat(),
                auto_assign: true,
                avoid_buggy: false,
                allocation: None,
            };
            if self.random.percent(8) || with.admitted_beside(self.pools.values()) {
                all.push(range);
            }
        }
        if all.is_empty() {
            all.push(self.pick(&RANGES).to_owned());
        }
        all
    }

    fn allocation(&mut self) -> Option<AllocationSpec> {
        let list = |random: &mut SeededRng, percent, from: &[&str]| -> Vec<String> {
            let mut from = from.to_vec();
            from.retain(|_| random.percent(percent));
            from.into_iter().map(str::to_owned).collect()
        };
        self.random.percent(70).then(|| AllocationSpec {
            priority: self.random.below(4) as u32 * 10,
            namespaces: list(&mut self.random, 30, &NAMESPACES),
            teams: list(&mut self.random, 20, &TEAMS),
            tiers: list(&mut self.random, 20, &TIERS),
        })
    }

    fn delete_pool(&mut self) -> Step {
        let name = if let Some(name) = self.refused.take() {
            name
        } else {
            let names: Vec<&String> = self.pools.keys().collect();
            names[self.random.below(names.len() as u64) as usize].clone()
        };
        self.pools.remove(&name);
        Step::DeletePool(name)
    }

    fn delete_service(&mut self) -> Step {
        let names: Vec<&String> = self.services.keys().collect();
        let key = names[self.random.below(names.len() as u64) as usize].clone();
        let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
        let step = Step::DeleteService {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.services.remove(&key);
        step
    }

    fn service(&mut self) -> Step {
        let name = format!("s{}", self.random.below(SERVICES));
        // A name lives in one namespace.
        let namespace = NAMESPACES[usize::from(name.as_bytes()[1] - b'0') % NAMESPACES.len()];
        let key = format!("{namespace}/{name}");
        let spec = if let Some(mut spec) = self.services.get(&key).cloned() {
            self.edit(&mut spec);
            spec
        } else {
            let mut spec = ServiceSpec {
                namespace: namespace.to_owned(),
                name,
                kind: if self.random.percent(90) {
                    "LoadBalancer"
                } else {
                    "ClusterIP"
                }
                .to_owned(),
                class: self.class(),
                policy: self.policy(),
                v6_first: self.random.percent(30),
                local: self.random.percent(25),
                app: self.pick(&["web", "mail"]).to_owned(),
                ports: self.ports(),
                tier: self.maybe(40, &TIERS).map(str::to_owned),
                annotations: BTreeMap::new(),
                ip: None,
            };
            for _ in 0..3 {
                if self.random.percent(20) {
                    self.annotate(&mut spec);
                }
            }
            spec
        };
        self.services.insert(key, spec.clone());
        Step::Service(spec)
    }

    fn class(&mut self) -> Option<String> {
        match self.served_class.clone() {
            Some(class) => self.random.percent(80).then_some(class),
            None => self.random.percent(8).then(|| CLASS.to_owned()),
        }
    }

    fn policy(&mut self) -> String {
        self.pick(&[
            "SingleStack",
            "SingleStack",
            "PreferDualStack",
            "RequireDualStack",
        ])
        .to_owned()
    }

    fn ports(&mut self) -> Vec<String> {
        let sets: [&[&str]; 5] = [
            &["TCP/80"],
            &["TCP/443"],
            &["UDP/53"],
            &["TCP/53"],
            &["TCP/80", "TCP/443"],
        ];
        self.pick(&sets).iter().map(|port| (*port).to_owned()).collect()
    }

    fn edit(&mut self, spec: &mut ServiceSpec) {
        match self.random.below(11) {
            0 => {
                spec.kind = self
                    .pick(&["LoadBalancer", "LoadBalancer", "ClusterIP", "NodePort"])
                    .to_owned();
                spec.class = self.class();
            }
            1 => spec.policy = self.policy(),
            2 => spec.local = !spec.local,
            3 => spec.app = self.pick(&["web", "mail"]).to_owned(),
            4 => spec.ports = self.ports(),
            5 => spec.tier = self.maybe(60, &TIERS).map(str::to_owned),
            6 => spec.ip = self.maybe(60, &IPS[..9]).map(str::to_owned),
            7 => spec.annotations.clear(),
            _ => self.annotate(spec),
        }
    }

    fn annotate(&mut self, spec: &mut ServiceSpec) {
        let prefix = if self.random.percent(75) {
            PREFIXES[0]
        } else {
            PREFIXES[1]
        };
        let (name, value) = match self.random.below(3) {
            0 => {
                let unknown = self.random.percent(6);
                (
                    "address-pool",
                    if unknown { "nowhere" } else { self.pick(&POOLS) }.to_owned(),
                )
            }
            1 => {
                let mut ips = vec![self.pick(&IPS)];
                if self.random.percent(40) {
                    ips.push(self.pick(&IPS));
                }
                ("loadBalancerIPs", ips.join(","))
            }
            _ => (
                "allow-shared-ip",
                self.pick(&["key-1", "key-1", "key-2", ""]).to_owned(),
            ),
        };
        spec.annotations.insert(format!("{prefix}/{name}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_sequences_reach_everything() {
        let run = |seed| {
            let mut generator = Generator::new(seed, None);
            (0..400).map(|_| generator.step()).collect::<Vec<_>>()
        };
        let steps = run(3);
        assert_eq!(steps, run(3));
        assert_ne!(steps, run(4));
        let services = steps
            .iter()
            .filter(|step| matches!(step, Step::Service(_)))
            .count();
        let pools = steps.iter().filter(|step| matches!(step, Step::Pool(_))).count();
        assert!(services > 150 && pools > 30, "{services} services, {pools} pools");
        let text = serde_json::to_string(&steps).unwrap();
        for word in [
            "RequireDualStack",
            "PreferDualStack",
            "metallb.universe.tf/",
            "restart",
            "delete-pool",
            "NodePort",
        ] {
            assert!(text.contains(word), "{word} never comes");
        }
    }
}
