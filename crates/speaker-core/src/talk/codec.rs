//! The bytes of what is said: big endian, lengths before contents.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_member::TALK_MAX;

use super::{Absence, Facts, LinkFacts, Talk, View};
use crate::ServiceKey;

const KIND_FACTS: u8 = 1;
const KIND_VIEWS: u8 = 2;
const KIND_NODE_GONE: u8 = 3;
const KIND_LINK_GONE: u8 = 4;
const KIND_AWAY: u8 = 5;
const KIND_TELL: u8 = 6;

const FLAG_ASKS: u8 = 1;
const FLAG_PARTIAL: u8 = 2;
const FLAG_UNABLE: u8 = 4;
const FLAG_ARP: u8 = 1;
const FLAG_LINK_LOCAL: u8 = 2;
pub(super) const FLAG_ADDRESS: u8 = 4;
const FLAG_HOLDS: u8 = 1;
const FLAG_SETTLED: u8 = 2;
const FLAG_REPLY: u8 = 4;
const FLAG_OWNER: u8 = 8;
const FLAG_RESTRICTED: u8 = 16;
const FLAG_CLAIM: u8 = 32;

impl Talk {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Facts(facts) => {
                out.push(KIND_FACTS);
                facts.put(&mut out);
            }
            Self::Views(views) => {
                out.push(KIND_VIEWS);
                for view in views {
                    view.put(&mut out);
                }
            }
            Self::NodeGone(node) => {
                out.push(KIND_NODE_GONE);
                put_text(&mut out, node);
            }
            Self::LinkGone { node, mac, heard } => {
                out.push(KIND_LINK_GONE);
                put_text(&mut out, node);
                out.extend_from_slice(&mac.0);
                out.push(u8::from(*heard));
            }
            Self::Away(absence) => {
                out.push(KIND_AWAY);
                put_text(&mut out, &absence.node);
                let left = u64::try_from(absence.left.as_millis()).unwrap_or(u64::MAX);
                out.extend_from_slice(&left.to_be_bytes());
                absence.facts.put(&mut out);
            }
            Self::Tell(node, services) => {
                out.push(KIND_TELL);
                put_text(&mut out, node);
                for service in services {
                    put_text(&mut out, service.as_str());
                }
            }
        }
        out
    }

    /// Views in as few things said as possible.
    pub(crate) fn pack(views: Vec<View>) -> Vec<Vec<u8>> {
        packed(&Self::Views(Vec::new()), views, View::put)
    }

    /// Requests to tell a node about services, each of a size that can be sent.
    pub(crate) fn pack_requests(node: &NodeName, services: Vec<ServiceKey>) -> Vec<Vec<u8>> {
        let head = Self::Tell(Arc::clone(node), Vec::new());
        packed(&head, services, |service, out| put_text(out, service.as_str()))
    }

    /// What was said; nothing when the bytes mean nothing.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let talk = match reader.byte()? {
            KIND_FACTS => Self::Facts(reader.facts()?),
            KIND_VIEWS => {
                let mut views = Vec::new();
                while !reader.0.is_empty() {
                    views.push(reader.view()?);
                }
                Self::Views(views)
            }
            KIND_NODE_GONE => Self::NodeGone(reader.text()?.into()),
            KIND_LINK_GONE => Self::LinkGone {
                node: reader.text()?.into(),
                mac: MacAddr(reader.array()?),
                heard: reader.byte()? != 0,
            },
            KIND_TELL => {
                let node = reader.text()?.into();
                let mut services = vec![reader.key()?];
                while !reader.0.is_empty() {
                    services.push(reader.key()?);
                }
                Self::Tell(node, services)
            }
            KIND_AWAY => Self::Away(Absence {
                node: reader.text()?.into(),
                left: Duration::from_millis(reader.number()?),
                facts: reader.facts()?,
            }),
            _ => return None,
        };
        reader.0.is_empty().then_some(talk)
    }
}

/// The items, each behind others or, where they do not fit, behind a `head` of its own.
fn packed<T>(head: &Talk, items: Vec<T>, put: impl Fn(&T, &mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for item in items {
        let mut bytes = Vec::new();
        put(&item, &mut bytes);
        match all.last_mut() {
            Some(last) if last.len() + bytes.len() <= TALK_MAX => last.extend_from_slice(&bytes),
            _ => all.push([head.encode(), bytes].concat()),
        }
    }
    all
}

impl Facts {
    /// As many links as fit into one datagram, and then as many of their addresses. An address is told as a link of its name and
    /// of the same hardware address that carries nothing: speakers that do not know the flag see no more than that in it.
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.have.to_be_bytes());
        let flags_at = out.len();
        out.extend_from_slice(&[0, 0]);
        let mut told = 0;
        for link in &self.links {
            let flags = flag(link.arp, FLAG_ARP) | flag(link.link_local.is_some(), FLAG_LINK_LOCAL);
            let octets = link.link_local.map(|address| address.octets());
            if told == usize::from(u8::MAX)
                || !put_link(
                    out,
                    &link.name,
                    link.mac,
                    flags,
                    octets.as_ref().map_or(&[], |all| all),
                )
            {
                break;
            }
            told += 1;
        }
        let mut count = told;
        let addresses = self.links[..told]
            .iter()
            .flat_map(|link| link.addresses.iter().map(|ip| (link.mac, ip.to_string())));
        for (mac, name) in addresses {
            if count == usize::from(u8::MAX) || !put_link(out, &name, mac, FLAG_ADDRESS, &[]) {
                break;
            }
            count += 1;
        }
        let partial = self.partial || told < self.links.len();
        out[flags_at] =
            flag(self.asks, FLAG_ASKS) | flag(partial, FLAG_PARTIAL) | flag(self.unable, FLAG_UNABLE);
        out[flags_at + 1] = count as u8;
    }
}

/// One link, if it fits.
fn put_link(out: &mut Vec<u8>, name: &str, mac: MacAddr, flags: u8, link_local: &[u8]) -> bool {
    let fits = out.len() + 2 + name.len() + 6 + 1 + link_local.len() <= TALK_MAX;
    if fits {
        put_text(out, name);
        out.extend_from_slice(&mac.0);
        out.push(flags);
        out.extend_from_slice(link_local);
    }
    fits
}

impl View {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, self.service.as_str());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.digest.to_be_bytes());
        out.push(
            flag(self.holds, FLAG_HOLDS)
                | flag(self.settled, FLAG_SETTLED)
                | flag(self.reply, FLAG_REPLY)
                | flag(self.owner.is_some(), FLAG_OWNER)
                | flag(self.interfaces.is_some(), FLAG_RESTRICTED)
                | flag(self.claim.is_some(), FLAG_CLAIM),
        );
        if let Some(owner) = &self.owner {
            put_text(out, owner);
        }
        if let Some((owner, term)) = &self.claim {
            put_text(out, owner);
            out.extend_from_slice(&term.to_be_bytes());
        }
        out.push(self.addresses.len().min(8) as u8);
        for address in self.addresses.iter().take(8) {
            match address {
                IpAddr::V4(ip) => {
                    out.push(4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(6);
                    out.extend_from_slice(&ip.octets());
                }
            }
        }
        if let Some(names) = &self.interfaces {
            out.push(names.len().min(16) as u8);
            for name in names.iter().take(16) {
                put_text(out, name);
            }
        }
    }
}

const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// At most 65,535 bytes, of which names of services, the longest, use 317.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.array()?);
        core::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    fn key(&mut self) -> Option<ServiceKey> {
        let (namespace, name) = self.text()?.split_once('/')?;
        Some(ServiceKey::new(namespace, name))
    }

    fn facts(&mut self) -> Option<Facts> {
        let (number, have) = (self.number()?, self.number()?);
        let (flags, count) = (self.byte()?, self.byte()?);
        let mut links: Vec<LinkFacts> = Vec::new();
        for _ in 0..count {
            let (link, is_address) = self.link()?;
            if !is_address {
                links.push(link);
            } else if let Some(of) = links.iter_mut().find(|known| known.mac == link.mac)
                && let Ok(ip) = link.name.parse()
            {
                of.addresses.push(ip);
            }
        }
        Some(Facts {
            number,
            have,
            asks: flags & FLAG_ASKS != 0,
            partial: flags & FLAG_PARTIAL != 0,
            unable: flags & FLAG_UNABLE != 0,
            links,
        })
    }

    /// A link, and whether it is but the address of another.
    fn link(&mut self) -> Option<(LinkFacts, bool)> {
        let (name, mac, flags) = (self.text()?.into(), MacAddr(self.array()?), self.byte()?);
        let link_local = if flags & FLAG_LINK_LOCAL == 0 {
            None
        } else {
            Some(self.array::<16>()?.into())
        };
        let link = LinkFacts {
            name,
            mac,
            arp: flags & FLAG_ARP != 0,
            link_local,
            addresses: Vec::new(),
        };
        Some((link, flags & FLAG_ADDRESS != 0))
    }

    fn view(&mut self) -> Option<View> {
        let service = self.key()?;
        let (version, digest, flags) = (self.number()?, self.number()?, self.byte()?);
        let owner = if flags & FLAG_OWNER == 0 {
            None
        } else {
            Some(self.text()?.into())
        };
        let claim = if flags & FLAG_CLAIM == 0 {
            None
        } else {
            Some((self.text()?.into(), self.number()?))
        };
        let count = self.byte()?;
        let addresses = (0..count).map(|_| self.address()).collect::<Option<_>>()?;
        let interfaces = if flags & FLAG_RESTRICTED == 0 {
            None
        } else {
            let count = self.byte()?;
            Some(
                (0..count)
                    .map(|_| self.text().map(Arc::from))
                    .collect::<Option<_>>()?,
            )
        };
        Some(View {
            service,
            version,
            digest,
            owner,
            claim,
            holds: flags & FLAG_HOLDS != 0,
            settled: flags & FLAG_SETTLED != 0,
            reply: flags & FLAG_REPLY != 0,
            addresses,
            interfaces,
        })
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => self.array::<4>().map(IpAddr::from),
            6 => self.array::<16>().map(IpAddr::from),
            _ => None,
        }
    }
}
