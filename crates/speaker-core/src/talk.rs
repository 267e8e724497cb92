//! What speakers say to each other besides membership, and its bytes: big endian, lengths before contents.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use metallb_election::NodeName;
use metallb_l2::MacAddr;
use metallb_member::TALK_MAX;

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
const FLAG_ADDRESS: u8 = 4;
const FLAG_HOLDS: u8 = 1;
const FLAG_SETTLED: u8 = 2;
const FLAG_REPLY: u8 = 4;
const FLAG_OWNER: u8 = 8;
const FLAG_RESTRICTED: u8 = 16;
const FLAG_CLAIM: u8 = 32;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// What only the sender knows of itself.
    Facts(Facts),
    /// How the sender sees some services.
    Views(Vec<View>),
    /// The sender found this node unreachable on the LAN after its speaker had gone silent.
    NodeGone(NodeName),
    /// The node is up, but does not answer under this hardware address; `heard`: the sender heard it under that before.
    LinkGone {
        node: NodeName,
        mac: MacAddr,
        heard: bool,
    },
    /// A speaker that the addressee may never have heard is away.
    Away(Absence),
    /// "This node does not answer me: tell it how you see these services."
    Tell(NodeName, Vec<ServiceKey>),
}

/// A node is up, but its speaker is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) node: NodeName,
    /// How much longer that is borne, in whole milliseconds.
    pub(crate) left: Duration,
    /// What that node last said of itself; nothing if its number is 0.
    pub(crate) facts: Facts,
}

/// What only one node knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Which facts these are: greater with every change, also over lives.
    pub(crate) number: u64,
    /// Which facts of the addressee the sender has.
    pub(crate) have: u64,
    /// The sender does not know whether the addressee has these facts and wants to hear.
    pub(crate) asks: bool,
    /// There are more links than fit: what is not named may exist all the same.
    pub(crate) partial: bool,
    /// The sender must not answer for any address at present, whatever links it has.
    pub(crate) unable: bool,
    /// The usable links.
    pub(crate) links: Vec<LinkFacts>,
}

/// A usable link of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) name: Arc<str>,
    pub(crate) mac: MacAddr,
    pub(crate) arp: bool,
    pub(crate) link_local: Option<Ipv6Addr>,
    /// Some IPv4 addresses of its own. Speakers before this field tell none.
    pub(crate) addresses: Vec<Ipv4Addr>,
}

impl LinkFacts {
    /// The addresses of the link itself, for which its kernel answers there.
    pub(crate) fn own(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let ipv4 = self.addresses.iter().map(|ip| IpAddr::V4(*ip));
        self.link_local.map(IpAddr::V6).into_iter().chain(ipv4)
    }
}

/// How the sender sees one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) service: ServiceKey,
    /// Age of the view: the greater, the fresher. 0 is unknown.
    pub(crate) version: u64,
    /// Digest of what the view was worked out from, so that who sees the same is not told better: views that differ all
    /// the same differ about who is alive.
    pub(crate) digest: u64,
    /// Who owns it; nobody when it is not announced.
    pub(crate) owner: Option<NodeName>,
    /// Who has it for good, where nobody preempts, and in which term.
    pub(crate) claim: Option<(NodeName, u64)>,
    /// The sender answers for it at present.
    pub(crate) holds: bool,
    /// The sender sees it so by itself, and not because it was told.
    pub(crate) settled: bool,
    /// This is an answer and wants none.
    pub(crate) reply: bool,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where the owner may announce it; everywhere when absent.
    pub(crate) interfaces: Option<Vec<Arc<str>>>,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str) -> View {
        View {
            service: ServiceKey::new("default", name),
            version: 77,
            digest: 88,
            owner: Some("n1".into()),
            claim: Some(("n2".into(), 5)),
            holds: true,
            settled: false,
            reply: true,
            addresses: vec![
                "192.0.2.1".parse().expect("v4"),
                "2001:db8::1".parse().expect("v6"),
            ],
            interfaces: Some(vec!["eth0".into()]),
        }
    }

    #[test]
    fn what_is_said_is_heard_and_no_cut_is() {
        let facts = Facts {
            number: 3,
            have: 4,
            asks: true,
            partial: false,
            unable: true,
            links: vec![
                LinkFacts {
                    name: "eth0".into(),
                    mac: MacAddr([2, 0, 0, 0, 0, 1]),
                    arp: true,
                    link_local: Some("fe80::1".parse().expect("v6")),
                    addresses: vec![[198, 51, 100, 1].into(), [203, 0, 113, 1].into()],
                },
                LinkFacts {
                    name: "eth1".into(),
                    mac: MacAddr([2, 0, 0, 0, 0, 2]),
                    arp: false,
                    link_local: None,
                    addresses: vec![[198, 51, 100, 2].into()],
                },
            ],
        };
        let nobody = View {
            owner: None,
            claim: None,
            interfaces: None,
            ..view("none")
        };
        let absence = Absence {
            node: "n3".into(),
            left: Duration::from_millis(29_500),
            facts: facts.clone(),
        };
        for talk in [
            Talk::Facts(facts),
            Talk::Away(absence),
            Talk::NodeGone("n2".into()),
            Talk::Tell(
                "n2".into(),
                ["a", "b"].map(|name| ServiceKey::new("default", name)).into(),
            ),
            Talk::LinkGone {
                node: "n2".into(),
                mac: MacAddr([2, 0, 0, 0, 0, 3]),
                heard: true,
            },
            Talk::Views(vec![view("web"), nobody]),
        ] {
            let bytes = talk.encode();
            assert_eq!(Talk::decode(&bytes), Some(talk.clone()));
            for length in 0..bytes.len() {
                assert_ne!(Talk::decode(&bytes[..length]), Some(talk.clone()), "{length}");
            }
        }
    }

    #[test]
    fn many_views_fit_into_few_datagrams_and_many_links_are_cut() {
        let views: Vec<View> = (0..100).map(|n| view(&format!("service-{n}"))).collect();
        let packed = Talk::pack(views.clone());
        assert!(packed.iter().all(|bytes| bytes.len() <= TALK_MAX));
        let heard: Vec<View> = packed
            .iter()
            .flat_map(|bytes| match Talk::decode(bytes) {
                Some(Talk::Views(views)) => views,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(heard, views);

        let services: Vec<ServiceKey> = views.iter().map(|view| view.service.clone()).collect();
        let packed = Talk::pack_requests(&"n2".into(), services.clone());
        assert!(packed.len() > 1 && packed.iter().all(|bytes| bytes.len() <= TALK_MAX));
        let heard = packed.iter().flat_map(|bytes| match Talk::decode(bytes) {
            Some(Talk::Tell(_, services)) => services,
            other => panic!("{other:?}"),
        });
        assert_eq!(heard.collect::<Vec<_>>(), services);

        let links = (0..100).map(|n| LinkFacts {
            name: format!("veth{n}").into(),
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            arp: true,
            link_local: None,
            addresses: vec![[192, 0, 2, n].into()],
        });
        let facts = Facts {
            links: links.collect(),
            ..Facts::default()
        };
        let bytes = Talk::Facts(facts).encode();
        assert!(bytes.len() <= TALK_MAX);
        let Some(Talk::Facts(heard)) = Talk::decode(&bytes) else {
            panic!("facts")
        };
        assert!(heard.partial && heard.links.len() < 100);
    }

    /// Speakers of before have not heard of addresses: they take them for links that carry nothing.
    #[test]
    fn addresses_are_told_so_that_former_speakers_take_no_harm() {
        let link = LinkFacts {
            name: "eth1".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            arp: true,
            link_local: None,
            addresses: Vec::new(),
        };
        let facts = |addresses: Vec<Ipv4Addr>| Facts {
            number: 3,
            links: vec![LinkFacts {
                addresses,
                ..link.clone()
            }],
            ..Facts::default()
        };
        let mut bytes = Talk::Facts(facts(vec![[198, 51, 100, 1].into()])).encode();
        let known = Talk::decode(&bytes);
        assert_eq!(known, Some(Talk::Facts(facts(vec![[198, 51, 100, 1].into()]))));

        let flags = bytes.last_mut().expect("the flags of the last link");
        assert_eq!(core::mem::take(flags), FLAG_ADDRESS);
        let Some(Talk::Facts(former)) = Talk::decode(&bytes) else {
            panic!("facts")
        };
        let alias = LinkFacts {
            name: "198.51.100.1".into(),
            arp: false,
            ..link.clone()
        };
        assert_eq!((former.partial, former.links), (false, vec![link.clone(), alias]));

        let few = facts((0..200).map(|n| [198, 51, 100, n].into()).collect());
        let bytes = Talk::Facts(few).encode();
        let Some(Talk::Facts(heard)) = Talk::decode(&bytes) else {
            panic!("facts")
        };
        assert!(bytes.len() <= TALK_MAX && !heard.partial && heard.links.len() == 1);
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut rng = metallb_sansio::SeededRng::new(1);
        let good = Talk::Views(vec![view("web")]).encode();
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.below(256) as u8;
            }
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            Talk::decode(&bytes);
        }
    }
}
