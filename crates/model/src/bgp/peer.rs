//! BGP sessions.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Password;
use super::duration::nanoseconds;
use super::profile::bounded;
use crate::issue::{Finding, Reason};
use crate::settle::{Contender, Origin};
use crate::{Labels, Selector, SelectorSpec};

/// `spec` of a `BGPPeer`, v1beta1 or v1beta2, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// Our AS number, 1 to 4294967295.
    #[serde(rename = "myASN", skip_serializing_if = "Option::is_none")]
    pub my_asn: Option<i64>,
    /// The peer's AS number; this or `dynamicASN`.
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<i64>,
    /// `internal` or `external`: any AS number of that side.
    #[serde(rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    pub dynamic_asn: Option<String>,
    /// AS number to show this peer in place of `myASN`.
    #[serde(rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<i64>,
    /// Address to dial; this or `interface`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Interface of an unnumbered session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Local address to dial from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// TCP port to dial; 0 and unset mean 179.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<i64>,
    /// Hold time such as `90s`: 0 or 3 s to 65535 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    /// Keepalive time such as `30s`, at most the hold time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// Time between attempts to connect: whole seconds, 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<String>,
    /// BGP identifier, written as an IPv4 address.
    #[serde(rename = "routerID", skip_serializing_if = "Option::is_none")]
    pub router_id: Option<String>,
    /// Nodes that run the session; any selector; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selectors: Option<Vec<SelectorSpec>>,
    /// TCP MD5 password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Secret of type `kubernetes.io/basic-auth` that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretRefSpec>,
    /// Name of a `BFDProfile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd_profile: Option<String>,
    /// Graceful restart (RFC 4724).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_graceful_restart: Option<bool>,
    /// The eBGP peer is more than one hop away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,
    /// VRF of the host that the session runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
    /// Deprecated and without effect.
    #[serde(rename = "disableMP", skip_serializing_if = "Option::is_none")]
    pub disable_mp: Option<bool>,
    /// Both address families on the one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual_stack_address_family: Option<bool>,
}

/// `spec.passwordSecret` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretRefSpec {
    /// Name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Not used: the Secret is looked up in our namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl BgpPeerSpec {
    /// Name of the Secret that holds the password, if one does.
    pub(crate) fn secret_name(&self) -> Option<&str> {
        self.password_secret
            .as_ref()
            .and_then(|secret| secret.name.as_deref())
            .filter(|name| !name.is_empty())
    }
}

/// A validated BGP session as configured; which nodes run it is for the speakers to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPeer {
    /// `metadata.name`; a peer of the `ConfigMap` is `ConfigMap/` and its address.
    pub name: String,
    /// Our AS number.
    pub my_asn: u32,
    /// AS number of the peer.
    pub remote_asn: RemoteAsn,
    /// AS number to show this peer in place of `my_asn`.
    pub local_asn: Option<u32>,
    /// Whom to dial.
    pub endpoint: PeerEndpoint,
    /// Local address to dial from.
    pub source_address: Option<IpAddr>,
    /// TCP port to dial.
    pub port: u16,
    /// Hold time in seconds: 0 (never expires) or at least 3. Unset is the engine's default.
    pub hold_time: Option<u16>,
    /// Keepalive time in seconds, at most the hold time. Set whenever the hold time is.
    pub keepalive_time: Option<u16>,
    /// Seconds between attempts to connect, at least 1. Unset is the engine's default.
    pub connect_time: Option<u16>,
    /// BGP identifier; unset is for the speaker to choose.
    pub router_id: Option<Ipv4Addr>,
    /// Nodes that run the session; empty means all.
    pub node_selectors: Vec<Selector>,
    /// Where the TCP MD5 password is.
    pub password: PeerPassword,
    /// Name of the BFD profile. It may be gone, if the peer was valid before: then there is no BFD.
    pub bfd_profile: Option<String>,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: bool,
    /// Whether an eBGP peer may be more than one hop away.
    pub ebgp_multi_hop: bool,
    /// VRF of the host that the session runs in.
    pub vrf: Option<String>,
    /// Both address families on the one session.
    pub dual_stack: bool,
}

/// AS number that a peer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteAsn {
    /// Exactly this one.
    Number(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerEndpoint {
    /// An address.
    Address(IpAddr),
    /// Whoever is at the other end of the interface (unnumbered).
    Interface(String),
}

impl fmt::Display for PeerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Interface(interface) => f.write_str(interface),
        }
    }
}

/// Where a TCP MD5 password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPassword {
    /// There is none.
    None,
    /// In the object itself.
    Text(Password),
    /// Under the key `password` of the Secret with this name in our namespace. It may be gone, if the peer was valid before.
    Secret(String),
}

impl BgpPeer {
    /// Validates what one object alone can tell. Ports above `max_port` are refused: the custom resource has a smaller
    /// limit than the `ConfigMap` had.
    pub(crate) fn parse(name: &str, spec: &BgpPeerSpec, max_port: u16) -> Result<Self, Finding> {
        let asn = |value, field| bounded::<u32>(value, field, 0, i64::from(u32::MAX));
        let my_asn = asn(spec.my_asn, "myASN")?
            .filter(|asn| *asn != 0)
            .ok_or_else(|| {
                let message = "is missing; give the AS number of this cluster, 1 to 4294967295";
                Finding::new("spec.myASN", Reason::MissingField, message)
            })?;
        let remote_asn = remote_asn(
            asn(spec.peer_asn, "peerASN")?.unwrap_or(0),
            text(spec.dynamic_asn.as_ref()),
        )?;
        let ebgp_multi_hop = spec.ebgp_multi_hop.unwrap_or(false);
        if ebgp_multi_hop && remote_asn == RemoteAsn::Number(my_asn) {
            let message = "is for eBGP, but peerASN equals myASN; remove it";
            return Err(Finding::new(
                "spec.ebgpMultiHop",
                Reason::ConflictingFields,
                message,
            ));
        }
        let endpoint = endpoint(spec)?;
        let (hold_time, keepalive_time) = timers(spec)?;
        let router_id = match ip(spec.router_id.as_ref(), "routerID")? {
            Some(IpAddr::V6(_)) => {
                let message = "is an IPv6 address; a BGP identifier is written as an IPv4 address";
                return Err(Finding::new("spec.routerID", Reason::InvalidValue, message));
            }
            Some(IpAddr::V4(id)) => Some(id).filter(|id| !id.is_unspecified()),
            None => None,
        };
        Ok(Self {
            name: name.to_owned(),
            my_asn,
            remote_asn,
            local_asn: asn(spec.local_asn, "localASN")?.filter(|asn| *asn != 0),
            endpoint,
            source_address: ip(spec.source_address.as_ref(), "sourceAddress")?,
            port: bounded(spec.peer_port, "peerPort", 0, i64::from(max_port))?
                .filter(|port| *port != 0)
                .unwrap_or(179),
            hold_time,
            keepalive_time,
            connect_time: connect_time(spec)?,
            router_id,
            node_selectors: Selector::list(spec.node_selectors.as_ref(), "spec.nodeSelectors")?,
            password: password(spec)?,
            bfd_profile: text(spec.bfd_profile.as_ref()).map(str::to_owned),
            graceful_restart: spec.enable_graceful_restart.unwrap_or(false),
            ebgp_multi_hop,
            vrf: text(spec.vrf.as_ref()).map(str::to_owned),
            dual_stack: spec.dual_stack_address_family.unwrap_or(false),
        })
    }

    /// Whether a node with these labels runs the session.
    pub fn selects_node(&self, node_labels: &Labels) -> bool {
        self.node_selectors.is_empty()
            || self
                .node_selectors
                .iter()
                .any(|selector| selector.matches(node_labels))
    }

    /// What makes two sessions of one node the same: the TCP connections could not be told apart.
    pub(crate) fn session(&self) -> (&PeerEndpoint, u16, Option<&str>) {
        (&self.endpoint, self.port, self.vrf.as_deref())
    }
}

/// The empty text means unset.
fn text(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|text| !text.is_empty())
}

fn remote_asn(number: u32, dynamic: Option<&str>) -> Result<RemoteAsn, Finding> {
    match (number, dynamic) {
        (0, None) => {
            let message = "is missing; give the peer's AS number, or dynamicASN internal or external";
            Err(Finding::new("spec.peerASN", Reason::MissingField, message))
        }
        (0, Some("internal")) => Ok(RemoteAsn::Internal),
        (0, Some("external")) => Ok(RemoteAsn::External),
        (0, Some(other)) => {
            let message = format!("is \"{other}\"; write internal or external");
            Err(Finding::new("spec.dynamicASN", Reason::InvalidValue, message))
        }
        (_, Some(_)) => {
            let message = "excludes peerASN; remove one of them";
            Err(Finding::new(
                "spec.dynamicASN",
                Reason::ConflictingFields,
                message,
            ))
        }
        (number, None) => Ok(RemoteAsn::Number(number)),
    }
}

fn endpoint(spec: &BgpPeerSpec) -> Result<PeerEndpoint, Finding> {
    let address = ip(spec.peer_address.as_ref(), "peerAddress")?;
    match (address, text(spec.interface.as_ref())) {
        (Some(address), None) => Ok(PeerEndpoint::Address(address)),
        (None, Some(interface))
            if interface
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == '/') =>
        {
            let message = "is no interface name: it holds a space, a slash or a control character";
            Err(Finding::new("spec.interface", Reason::InvalidValue, message))
        }
        (None, Some(interface)) => Ok(PeerEndpoint::Interface(interface.to_owned())),
        (None, None) => {
            let message = "is missing; give the peer's address, or the interface of an unnumbered session";
            Err(Finding::new("spec.peerAddress", Reason::MissingField, message))
        }
        (Some(_), Some(_)) => {
            let message = "excludes peerAddress; remove one of them";
            Err(Finding::new("spec.interface", Reason::ConflictingFields, message))
        }
    }
}

/// An IPv4-mapped IPv6 address is the IPv4 address, as in Go.
fn ip(value: Option<&String>, field: &str) -> Result<Option<IpAddr>, Finding> {
    let Some(value) = text(value) else { return Ok(None) };
    let address: IpAddr = value.parse().map_err(|_| {
        let message = format!("\"{value}\" is not an IP address");
        Finding::new(format!("spec.{field}"), Reason::InvalidValue, message)
    })?;
    Ok(Some(address.to_canonical()))
}

/// Hold and keepalive time in seconds. One of them implies the other; fractions are dropped.
fn timers(spec: &BgpPeerSpec) -> Result<(Option<u16>, Option<u16>), Finding> {
    let hold = duration(spec.hold_time.as_ref(), "holdTime")?;
    let keepalive = duration(spec.keepalive_time.as_ref(), "keepaliveTime")?;
    let (hold, keepalive, field) = match (hold, keepalive) {
        (None, None) => return Ok((None, None)),
        (Some(hold), keepalive) => (hold, keepalive.unwrap_or(hold / 3), "spec.holdTime"),
        (None, Some(keepalive)) => (keepalive.saturating_mul(3), keepalive, "spec.keepaliveTime"),
    };
    let seconds = hold / SECOND;
    if seconds != 0 && !(3..=65_535).contains(&seconds) {
        let message = format!("makes a hold time of {seconds} s; it must be 0 or 3 s to 65535 s");
        return Err(Finding::new(field, Reason::OutOfRange, message));
    }
    if keepalive < 0 || hold < 0 {
        return Err(Finding::new(
            field,
            Reason::OutOfRange,
            "is negative; use 0 or more",
        ));
    }
    if keepalive > hold {
        let message = format!("is above the hold time of {seconds} s; a third of it is usual");
        return Err(Finding::new("spec.keepaliveTime", Reason::OutOfRange, message));
    }
    let u16 = |seconds: i64| u16::try_from(seconds).ok();
    Ok((u16(seconds), u16(keepalive / SECOND)))
}

const SECOND: i64 = 1_000_000_000;

fn connect_time(spec: &BgpPeerSpec) -> Result<Option<u16>, Finding> {
    let Some(time) = duration(spec.connect_time.as_ref(), "connectTime")? else {
        return Ok(None);
    };
    let seconds = u16::try_from(time / SECOND)
        .ok()
        .filter(|seconds| *seconds > 0 && time % SECOND == 0);
    seconds.map(Some).ok_or_else(|| {
        let message = "must be whole seconds, 1s to 65535s";
        Finding::new("spec.connectTime", Reason::OutOfRange, message)
    })
}

/// Nanoseconds.
fn duration(value: Option<&String>, field: &str) -> Result<Option<i64>, Finding> {
    let Some(value) = value else { return Ok(None) };
    nanoseconds(value).map(Some).ok_or_else(|| {
        let message =
            format!("\"{value}\" is not a duration; write a number with a unit, such as 90s or 1m30s");
        Finding::new(format!("spec.{field}"), Reason::InvalidValue, message)
    })
}

fn password(spec: &BgpPeerSpec) -> Result<PeerPassword, Finding> {
    let text = spec.password.as_ref().filter(|password| !password.is_empty());
    match (text, spec.secret_name()) {
        (None, None) => Ok(PeerPassword::None),
        (None, Some(secret)) => Ok(PeerPassword::Secret(secret.to_owned())),
        (Some(_), Some(_)) => {
            let message = "excludes password; remove one of them";
            Err(Finding::new(
                "spec.passwordSecret",
                Reason::ConflictingFields,
                message,
            ))
        }
        (Some(password), None) if password.reveal().len() > MAX_PASSWORD => {
            let message = format!("is longer than {MAX_PASSWORD} bytes, which is what TCP MD5 takes");
            Err(Finding::new("spec.password", Reason::OutOfRange, message))
        }
        (Some(password), None) => Ok(PeerPassword::Text(password.clone())),
    }
}

/// `TCP_MD5SIG_MAXKEYLEN` of Linux.
const MAX_PASSWORD: usize = 80;

/// Peers are not in conflict with one another: their names are unique, and native `MetalLB` takes any combination.
impl Contender for BgpPeer {
    type Ledger = ();
    type Clash = Infallible;

    fn clash(&self, (): &()) -> Option<(usize, Infallible)> {
        None
    }

    fn take(&self, (): &mut (), _index: usize) {}

    fn release(&self, (): &mut (), _index: usize) {}

    fn same_claims(&self, _other: &Self) -> bool {
        true
    }

    fn explain(&self, clash: &Infallible, _winner: &Self, _winner_origin: &Origin) -> Finding {
        match *clash {}
    }
}
