//! Random sources: whatever is stored, nothing panics, what is good stays, and no two pools overlap.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{OWN, bad_input, build, labels, object};
use crate::{Config, Kind, Sources};

/// Keys and scalars that mean something somewhere.
fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "addresses",
        "protocol",
        "layer2",
        "bgp",
        "name",
        "a",
        "10.0.0.0/24",
        "10.0.0.1-10.0.0.9",
        "2001:db8::/64",
        "0s",
        "90s",
        "matchLabels",
        "matchExpressions",
        "nodeSelectors",
        "In",
        "key",
        "operator",
        "values",
        "1:2",
        "address-pools",
        "peers",
        "my-asn",
        "myASN",
        "peerASN",
        "peer-address",
        "peerAddress",
        "communities",
        "aggregationLength",
        "192.0.2.1",
        "bfd-profiles",
        "bgp-communities",
        "serviceAllocation",
        "password",
        "",
        "\u{0}",
        "é",
    ]);
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect::<Map<_, _>>())
            }),
        ]
    })
}

fn assert_disjoint(config: &Config) {
    let mut ranges: Vec<_> = config.pools().flat_map(|pool| pool.ranges.clone()).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].overlap(&pair[1]), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_json_anywhere(kind in prop::sample::select(Kind::ALL.to_vec()), spec in json_value(), last in json_value()) {
        let (unaffected, _) = build(&bad_input::good());
        let mut sources = bad_input::good();
        sources.add(object(kind, OWN, "config", 99), labels([]), Ok(spec), Some(last));
        let (config, issues) = build(&sources);
        for pool in unaffected.pools() {
            // An object that was valid before may stand in the way of one that never was recorded as valid.
            let taken = issues.iter().any(|issue| issue.object.name == pool.name && issue.is_error());
            prop_assert!(taken || config.pool(&pool.name) == Some(pool), "{:?}", issues);
        }
        assert_disjoint(&config);
        prop_assert_eq!(build(&sources), (config, issues));
    }

    #[test]
    fn pools_in_force_never_overlap_and_whoever_loses_is_told(
        pools in prop::collection::vec((0..60_u8, 0..12_u8, prop::option::of((0..60_u8, 0..12_u8)), 0..3_i64), 1..12)
    ) {
        let range = |(start, more): (u8, u8)| json!({"addresses": [format!("10.0.0.{start}-10.0.0.{}", start + more)]});
        let mut now = Sources::default();
        for (index, (start, more, last, created)) in pools.iter().enumerate() {
            let reference = object(Kind::IpAddressPool, OWN, &format!("p{index}"), *created);
            now.add(reference, labels([]), Ok(range((*start, *more))), last.map(range));
        }
        let (config, issues) = build(&now);
        assert_disjoint(&config);
        for pool in config.pools() {
            let told = issues.iter().any(|issue| issue.is_error() && issue.object.name == pool.name);
            let index: usize = pool.name[1..].parse().expect("a number");
            let present = range((pools[index].0, pools[index].1));
            let is_present = json!({"addresses": [written(&pool.ranges[0])]}) == present;
            prop_assert!(told || is_present, "{}: in force as written, or told", pool.name);
        }
        // Nobody is left out without being told why.
        let out = pools.len() - config.pools().count();
        prop_assert!(issues.iter().filter(|issue| issue.is_error()).count() >= out);
    }
}

/// A range as the test writes it.
fn written(range: &crate::IpRange) -> String {
    format!("{}-{}", range.start(), range.end())
}
