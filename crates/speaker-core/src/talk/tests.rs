//! Everything said is heard, in datagrams of a size that can be sent, also by speakers of before.

use core::time::Duration;
use std::net::Ipv4Addr;

use metallb_l2::MacAddr;
use metallb_member::TALK_MAX;

use super::codec::FLAG_ADDRESS;
use super::{Absence, Facts, LinkFacts, Talk, View};
use crate::ServiceKey;

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
        let bytes = rng.damaged(&good);
        Talk::decode(&bytes);
    }
}
