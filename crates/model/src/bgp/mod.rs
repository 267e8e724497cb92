//! BGP and BFD as configured: peers, advertisements, profiles, communities.

mod advertisement;
mod community;
mod duration;
mod password;
mod peer;
mod profile;

pub(crate) use advertisement::{Advertised, ParsedBgp, may_share_node};
pub use advertisement::{BgpAdvertisement, BgpAdvertisementSpec};
pub(crate) use community::Aliases;
pub use community::{Community, CommunityAliasSpec, CommunityError, CommunitySpec};
pub use duration::nanoseconds;
pub use password::Password;
pub use peer::{BgpPeer, BgpPeerSpec, PeerEndpoint, PeerPassword, RemoteAsn, SecretRefSpec};
pub use profile::{BfdProfile, BfdProfileSpec};
