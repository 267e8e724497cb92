//! What users do: services come, change and go.

use std::sync::Arc;

use metallb_alloc::{FamilyPolicy, Port, Protocol, Request, Service, ServiceId, Sharing, wanted_ips};
use metallb_model::{Config, Kind, Labels, ObjectRef, Sources};
use serde_json::json;

use crate::sim::Sim;

/// Names that users give to services.
const NAMES: u64 = 24;
/// IPv4 addresses in the pool: fewer than services, so that some wait.
pub(crate) const ADDRESSES: u64 = 14;

impl Sim {
    pub(crate) fn act_as_user(&mut self) {
        let id = ServiceId::new("d", &format!("s{:02}", self.rng.below(NAMES)));
        self.made += 1;
        let known = self.api.services.get(&id).cloned();
        match known {
            Some(known) if self.rng.percent(45) => {
                self.say(|| format!("a user deletes {id}"));
                self.judge.edited(&known);
                self.api.delete(&id);
            }
            Some(known) => {
                let mut edited = self.service(&id);
                edited.uid.clone_from(&known.uid);
                edited.created = known.created;
                if self.rng.percent(10) {
                    edited.load_balancer = false;
                }
                self.say(|| format!("a user edits {id}"));
                self.judge.edited(&known);
                self.api.put(edited);
            }
            None => {
                self.say(|| format!("a user makes {id}"));
                let service = self.service(&id);
                self.api.put(service);
            }
        }
        self.changed();
    }

    /// A service as a user may write it.
    fn service(&mut self, id: &ServiceId) -> Service {
        let dual = self.rng.percent(25);
        let mut cluster_ips = vec!["10.96.0.1".parse().expect("an address")];
        if dual {
            cluster_ips.push("fd00::1".parse().expect("an address"));
        }
        let wish = format!("10.0.0.{}", self.rng.below(ADDRESSES));
        let wishes = !dual && self.rng.percent(12);
        let shares = self.rng.percent(30);
        Service {
            uid: format!("uid-{}", self.made).into(),
            created: self.made,
            resource_version: "".into(),
            load_balancer: true,
            class: None,
            request: Request {
                id: id.clone(),
                labels: Labels::new(),
                cluster_ips,
                policy: if dual {
                    FamilyPolicy::PreferDualStack
                } else {
                    FamilyPolicy::SingleStack
                },
                prefers_v6: false,
                wanted_ips: wanted_ips(wishes.then_some(wish.as_str()), None),
                wanted_pool: None,
                sharing: Sharing {
                    key: if shares { "k".into() } else { "".into() },
                    backend: "".into(),
                    ports: vec![Port {
                        protocol: Protocol::Tcp,
                        number: 80 + u16::try_from(self.rng.below(3)).expect("few"),
                    }],
                },
            },
            ingress: Vec::new(),
            other_ingress: false,
            recorded_pool: None,
            deprecated_record: false,
            deprecated_annotations: String::new(),
        }
    }
}

/// One pool, of both families.
pub(crate) fn configuration() -> Arc<Config> {
    let object = ObjectRef {
        kind: Kind::IpAddressPool,
        namespace: "metallb-system".to_owned(),
        name: "p".to_owned(),
        uid: String::new(),
        created: 0,
        generation: 1,
    };
    let spec = json!({"addresses": [format!("10.0.0.0-10.0.0.{}", ADDRESSES - 1), "2001:db8::/126"]});
    let mut sources = Sources::default();
    sources.add(object, Labels::new(), Ok(spec), None);
    let (config, issues) = Config::from_sources(&sources, "metallb-system");
    assert_eq!(issues, [], "the pool is valid");
    Arc::new(config)
}
