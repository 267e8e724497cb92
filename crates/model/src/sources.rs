//! Everything that configures `MetalLB`, as stored.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::bgp::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec};
use crate::{AddressPoolSpec, Kind, L2AdvertisementSpec, Labels, ObjectRef, PoolSpec, Source, Unreadable};

/// What must be known of a Secret to judge a reference to it. The password itself stays in the shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// `type` of the Secret.
    pub type_: String,
    /// Whether it holds the key `password`.
    pub has_password: bool,
}

/// Everything that configures `MetalLB`, as stored. Order does not matter. Filled by [`Sources::add`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// `IPAddressPool` objects.
    pub pools: Vec<Source<PoolSpec>>,
    /// `L2Advertisement` objects.
    pub l2_advertisements: Vec<Source<L2AdvertisementSpec>>,
    /// `BGPAdvertisement` objects.
    pub bgp_advertisements: Vec<Source<BgpAdvertisementSpec>>,
    /// `BGPPeer` objects, v1beta1 and v1beta2 alike: both are one schema.
    pub bgp_peers: Vec<Source<BgpPeerSpec>>,
    /// `BFDProfile` objects.
    pub bfd_profiles: Vec<Source<BfdProfileSpec>>,
    /// `Community` objects.
    pub communities: Vec<Source<CommunitySpec>>,
    /// `AddressPool` objects, v1alpha1 and v1beta1 alike.
    pub address_pools: Vec<Source<AddressPoolSpec>>,
    /// The `ConfigMap` `config`: JSON of the YAML text under `data.config`.
    pub config_maps: Vec<Source<Value>>,
    /// Secrets of our namespace by name; one that is not here does not exist.
    pub secrets: BTreeMap<String, SecretFacts>,
    /// Whether anybody looked for Secrets. False: references to them are not judged.
    pub secrets_known: bool,
}

impl Sources {
    /// Adds one object; `object.kind` says how to read it.
    ///
    /// `spec` is the object's `spec`; for the `ConfigMap` it is the JSON of the YAML under `data.config`, and so is
    /// `last_valid`. A `last_valid` that cannot be read counts as none.
    pub fn add(
        &mut self,
        object: ObjectRef,
        labels: Labels,
        spec: Result<Value, Unreadable>,
        last_valid: Option<Value>,
    ) {
        match object.kind {
            Kind::IpAddressPool => self
                .pools
                .push(Source::from_result(object, labels, spec, last_valid)),
            Kind::L2Advertisement => {
                self.l2_advertisements
                    .push(Source::from_result(object, labels, spec, last_valid));
            }
            Kind::BgpAdvertisement => {
                self.bgp_advertisements
                    .push(Source::from_result(object, labels, spec, last_valid));
            }
            Kind::BgpPeer => self
                .bgp_peers
                .push(Source::from_result(object, labels, spec, last_valid)),
            Kind::BfdProfile => {
                self.bfd_profiles
                    .push(Source::from_result(object, labels, spec, last_valid));
            }
            Kind::Community => self
                .communities
                .push(Source::from_result(object, labels, spec, last_valid)),
            Kind::AddressPool => {
                self.address_pools
                    .push(Source::from_result(object, labels, spec, last_valid));
            }
            Kind::ConfigMap => self.config_maps.push(Source {
                object,
                labels,
                spec,
                last_valid,
            }),
        }
    }

    /// Names of the Secrets that `BGPPeer` objects refer to, in their present or their last valid spec.
    pub fn secret_refs(&self) -> BTreeSet<&str> {
        self.bgp_peers
            .iter()
            .flat_map(|peer| peer.spec.as_ref().ok().into_iter().chain(&peer.last_valid))
            .filter_map(BgpPeerSpec::secret_name)
            .collect()
    }
}
