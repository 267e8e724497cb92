//! The custom resources of the group `metallb.io`, and every name that the outside world sees.
//!
//! * one module per kind ([`metallb`], [`ip_address_pool`], [`l2_advertisement`], ...): Rust types whose doc comments are
//!   what `kubectl explain` prints, with the CEL rules that one object alone can be judged by;
//! * [`raw`]: the lenient view of the same kinds, for watches that must survive a stored object they cannot read;
//! * [`names`]: annotation keys, labels, event reasons, object names, ports, field managers;
//! * [`condition`]: conditions whose transition times are stable;
//! * [`memberlist`]: the membership key as a Secret;
//! * [`crd`]: the CustomResourceDefinitions, ready to be written out or applied;
//! * [`yaml`]: the only place that knows which YAML library is in use.

// Doc comments of the kinds are what `kubectl explain` prints, where backticks are only noise.
#![allow(clippy::doc_markdown)]
// Printer columns repeat `type_ = "string"`; the lint takes them for one attribute.
#![allow(clippy::duplicated_attributes)]

pub mod address_pool;
pub mod bfd_profile;
pub mod bgp_advertisement;
pub mod bgp_peer;
pub mod community;
pub mod condition;
pub mod configuration_state;
pub mod crd;
pub mod ip_address_pool;
pub mod l2_advertisement;
pub mod memberlist;
pub mod metallb;
pub mod names;
pub mod raw;
mod schema;
pub mod service_bgp_status;
pub mod service_l2_status;
pub mod yaml;

pub use address_pool::{AddressPool, AddressPoolSpec};
pub use bfd_profile::{BFDProfile, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec};
pub use bgp_peer::{BGPPeer, BGPPeerSpec};
pub use community::{Community, CommunitySpec};
pub use configuration_state::{ConfigurationState, ConfigurationStateStatus};
pub use ip_address_pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec};
pub use metallb::{MetalLB, MetalLBSpec, MetalLBStatus};
pub use raw::Raw;
pub use schema::ConfigStatus;
pub use service_bgp_status::{ServiceBGPStatus, ServiceBGPStatusStatus};
pub use service_l2_status::{AddressConflict, ServiceL2Status, ServiceL2StatusStatus};
