//! Domain values and the one validated configuration.
//!
//! Every component builds the same [`Config`] from the same [`Sources`] and so reaches the same conclusions: the
//! allocator takes pools from it, the speakers take advertisements. Nothing here knows Kubernetes' client, a clock or
//! a socket. What is wrong with an object comes back as an [`Issue`] beside the configuration, never instead of it.
//!
//! ```text
//! objects and ConfigMap --Sources::add--> Sources --Config::from_sources--> (Config, Vec<Issue>)
//! ```

mod address_pool;
mod advertisement;
mod assemble;
mod bgp;
mod claims;
mod config;
mod interfaces;
mod issue;
mod labels;
mod legacy;
mod object;
mod pool;
mod range;
mod select;
mod settle;
mod sources;

#[cfg(test)]
mod tests;

pub use address_pool::{AddressPoolSpec, PoolBgpSpec};
pub use advertisement::{
    L2Advertisement, L2AdvertisementSpec, PreferredNode, PreferredNodeSpec, ServiceFacts,
};
pub use bgp::{
    BfdProfile, BfdProfileSpec, BgpAdvertisement, BgpAdvertisementSpec, BgpPeer, BgpPeerSpec, Community,
    CommunityAliasSpec, CommunityError, CommunitySpec, Password, PeerEndpoint, PeerPassword, RemoteAsn,
    SecretRefSpec, nanoseconds,
};
pub use config::Config;
pub use interfaces::DEFAULT_EXCLUDED_INTERFACES;
pub use issue::{Effect, Issue, Reason};
pub use labels::{ExpressionSpec, Labels, Selector, SelectorError, SelectorSpec};
pub use object::{Kind, ObjectRef, Source, Unreadable};
pub use pool::{Pool, PoolSpec, ServiceAllocation, ServiceAllocationSpec};
pub use range::{Family, IpRange, RangeError};
pub use sources::{SecretFacts, Sources};
