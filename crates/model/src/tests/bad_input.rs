//! Bad input: what is said, about what, and that nothing else is affected. The tables are in `bad_input/`, one a kind.

use serde_json::{Value, json};

use super::{OWN, add, add_with_last, build, errors, labels, object, with_secrets};
use crate::{Config, Effect, Issue, Kind, Labels, ServiceFacts, Sources};

struct Case {
    spec: Value,
    field: String,
    reason: String,
    hint: String,
    line: String,
}

fn table(text: &str) -> Vec<Case> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let case = |line: &str| {
        let (spec, expected) = line.rsplit_once(" => ").expect("an arrow");
        let parts: Vec<&str> = expected.splitn(3, " | ").map(str::trim).collect();
        Case {
            spec: serde_json::from_str(spec).unwrap_or_else(|error| panic!("{line}: {error}")),
            field: parts[0].to_owned(),
            reason: parts[1].to_owned(),
            hint: parts[2].to_owned(),
            line: line.to_owned(),
        }
    };
    lines.map(case).collect()
}

/// The table of a kind, and a valid spec of it.
fn tables() -> Vec<(Kind, &'static str, Value)> {
    let peer = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "198.51.100.9"});
    let alias = json!({"communities": [{"name": "before", "value": "1:9"}]});
    vec![
        (
            Kind::IpAddressPool,
            include_str!("bad_input/ip_address_pool.txt"),
            json!({"addresses": ["198.51.100.0/28"]}),
        ),
        (
            Kind::L2Advertisement,
            include_str!("bad_input/l2_advertisement.txt"),
            json!({"ipAddressPools": ["good"], "interfaces": ["before"]}),
        ),
        (
            Kind::BgpAdvertisement,
            include_str!("bad_input/bgp_advertisement.txt"),
            json!({"ipAddressPools": ["good"], "communities": ["7:7"]}),
        ),
        (Kind::BgpPeer, include_str!("bad_input/bgp_peer.txt"), peer),
        (
            Kind::BfdProfile,
            include_str!("bad_input/bfd_profile.txt"),
            json!({"detectMultiplier": 9}),
        ),
        (Kind::Community, include_str!("bad_input/community.txt"), alias),
        (
            Kind::AddressPool,
            include_str!("bad_input/address_pool.txt"),
            json!({"protocol": "layer2", "addresses": ["198.51.100.0/28"]}),
        ),
    ]
}

/// One good object of every kind.
pub(super) fn good() -> Sources {
    let mut sources = with_secrets();
    let mut put = |kind, name, spec| add(&mut sources, kind, name, 50, spec);
    put(
        Kind::IpAddressPool,
        "good",
        json!({"addresses": ["203.0.113.0/26"]}),
    );
    put(
        Kind::IpAddressPool,
        "six",
        json!({"addresses": ["2001:db8:f::/112"]}),
    );
    put(Kind::L2Advertisement, "good", json!({"ipAddressPools": ["good"]}));
    put(
        Kind::BgpAdvertisement,
        "good",
        json!({"ipAddressPools": ["good"], "communities": ["alias"]}),
    );
    put(
        Kind::BgpPeer,
        "good",
        json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "203.0.113.254", "bfdProfile": "good",
               "passwordSecret": {"name": "good"}}),
    );
    put(Kind::BfdProfile, "good", json!({"detectMultiplier": 3}));
    put(
        Kind::Community,
        "good",
        json!({"communities": [{"name": "alias", "value": "64512:1"}]}),
    );
    put(
        Kind::AddressPool,
        "old",
        json!({"protocol": "layer2", "addresses": ["203.0.113.64/26"]}),
    );
    sources
}

/// That everything of `good` is in force in `config`.
fn assert_unaffected(good: &Config, config: &Config, line: &str) {
    for pool in good.pools() {
        assert_eq!(config.pool(&pool.name), Some(pool), "{line}");
    }
    for advertisement in good.l2_advertisements() {
        assert!(config.l2_advertisements().contains(advertisement), "{line}");
    }
    for advertisement in good.bgp_advertisements() {
        assert!(config.bgp_advertisements().contains(advertisement), "{line}");
    }
    for peer in good.bgp_peers() {
        assert_eq!(config.bgp_peer(&peer.name), Some(peer), "{line}");
    }
    for profile in good.bfd_profiles() {
        assert_eq!(config.bfd_profile(&profile.name), Some(profile), "{line}");
    }
    for (alias, community) in good.communities() {
        assert_eq!(config.communities().get(alias), Some(community), "{line}");
    }
    let none = Labels::new();
    let facts = |pool| ServiceFacts {
        namespace: "default",
        name: "web",
        labels: &none,
        pool,
    };
    let announced = |pool| config.l2_for(&facts(pool)).len();
    assert!(announced("good") >= 1 && announced("old") >= 1, "{line}");
}

/// What is wrong with what was said, if anything.
fn wrong(issues: &[Issue], object: &str, field: &str, case: &Case, effect: Effect) -> Option<String> {
    let errors = errors(issues);
    let [told] = errors.as_slice() else {
        return Some(format!("{}\n  one issue expected: {issues:#?}", case.line));
    };
    let sentence = told.to_string();
    let parts = [object, field, &case.hint, "until it is corrected"];
    let right = (told.field.as_str(), told.reason.as_str(), told.effect)
        == (field, case.reason.as_str(), effect)
        && parts.iter().all(|part| sentence.contains(part));
    let secret = sentence.contains("hush") || sentence.contains("12345678");
    (!right || secret).then(|| format!("{}\n  {:?} {}: {sentence}", case.line, told.effect, told.reason))
}

#[test]
fn good_objects_are_good() {
    let (config, issues) = build(&good());
    assert_eq!(errors(&issues), Vec::<&Issue>::new());
    assert_unaffected(&config, &config, "itself");
}

#[test]
fn objects() {
    let (unaffected, _) = build(&good());
    let mut cases = 0;
    let mut bad = Vec::new();
    for (kind, text, valid) in tables() {
        for case in table(text) {
            cases += 1;
            let name = format!("{kind} {OWN}/bad");
            // It never was valid.
            let mut sources = good();
            add(&mut sources, kind, "bad", 1, case.spec.clone());
            let (config, issues) = build(&sources);
            bad.extend(wrong(&issues, &name, &case.field, &case, Effect::LeftOut));
            assert_unaffected(&unaffected, &config, &case.line);
            assert_eq!(config, unaffected, "{}: nothing of it is in force", case.line);
            // It was valid before: that stays.
            let mut sources = good();
            add_with_last(&mut sources, kind, "bad", 1, case.spec.clone(), valid.clone());
            let (config, issues) = build(&sources);
            bad.extend(wrong(&issues, &name, &case.field, &case, Effect::LastValid));
            assert_unaffected(&unaffected, &config, &case.line);
            let mut before = good();
            add(&mut before, kind, "bad", 1, valid.clone());
            assert_eq!(
                config,
                build(&before).0,
                "{}: what it last validly said",
                case.line
            );
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(cases >= 300, "{cases}");
}

/// A text with a good entry of each section after what the case has there.
fn with_good_entries(text: &Value) -> Value {
    let mut text = text.clone();
    let Value::Object(sections) = &mut text else {
        return text;
    };
    let entry = json!({"name": "cm", "protocol": "layer2", "addresses": ["203.0.113.128/26"]});
    let mut put = |section: &str, entry: Value| {
        let section = sections.entry(section).or_insert_with(|| json!([]));
        if let Value::Array(entries) = section {
            entries.push(entry);
        }
    };
    put("address-pools", entry);
    put(
        "peers",
        json!({"my-asn": 64512, "peer-asn": 64513, "peer-address": "203.0.113.253"}),
    );
    put("bfd-profiles", json!({"name": "cm"}));
    if let Value::Object(aliases) = sections.entry("bgp-communities").or_insert_with(|| json!({})) {
        aliases.insert("cm".to_owned(), json!("64512:2"));
    }
    text
}

#[test]
fn config_map() {
    let (unaffected, _) = build(&good());
    let name = format!("ConfigMap {OWN}/config");
    let cases = table(include_str!("bad_input/config_map.txt"));
    assert!(cases.len() >= 80);
    let mut bad = Vec::new();
    for case in cases {
        let (field, effect) = match case.field.strip_prefix('~') {
            Some(field) => (field, Effect::Partly),
            None => (case.field.as_str(), Effect::LeftOut),
        };
        let field = format!("data.config{field}");
        let text = with_good_entries(&case.spec);
        let mut sources = good();
        add(&mut sources, Kind::ConfigMap, "config", 1, text.clone());
        let (config, issues) = build(&sources);
        bad.extend(wrong(&issues, &name, &field, &case, effect));
        assert_unaffected(&unaffected, &config, &case.line);
        let expected = |section: &str| {
            text.get(section)
                .is_some_and(|s| s.is_array() || s.is_object() && section == ALIASES)
        };
        for (section, present) in [
            ("address-pools", config.pool("cm").is_some()),
            ("peers", config.bgp_peer("ConfigMap/203.0.113.253").is_some()),
            ("bfd-profiles", config.bfd_profile("cm").is_some()),
            (
                ALIASES,
                config.communities().contains_key("cm") || text[ALIASES].is_array(),
            ),
        ] {
            assert_eq!(present, expected(section), "{section} of {}", case.line);
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

const ALIASES: &str = "bgp-communities";

#[test]
fn text_that_is_no_yaml_keeps_what_was_last_valid() {
    let good = json!({"address-pools": [{"name": "a", "protocol": "layer2", "addresses": ["192.0.2.0/24"]}]});
    for (last_valid, effect, pools) in [(Some(good), Effect::LastValid, 1), (None, Effect::LeftOut, 0)] {
        let mut sources = Sources::default();
        let unreadable = crate::Unreadable {
            field: "data.config".to_owned(),
            message: "did not find expected key at line 3 column 2".to_owned(),
        };
        sources.add(
            object(Kind::ConfigMap, OWN, "config", 1),
            labels([]),
            Err(unreadable),
            last_valid,
        );
        let (config, issues) = build(&sources);
        assert_eq!(config.pools().count(), pools);
        assert_eq!(config.l2_advertisements().len(), pools);
        let told = errors(&issues);
        assert_eq!(
            (told.len(), told[0].field.as_str(), told[0].effect),
            (1, "data.config", effect)
        );
        assert!(told[0].to_string().contains("line 3"), "{}", told[0]);
    }
}
