use std::net::IpAddr;

use proptest::prelude::*;

use crate::{Family, IpRange};

#[test]
fn reads_what_pools_may_list() {
    for (text, printed, size) in [
        ("192.0.2.0/24", "192.0.2.0/24", 256),
        (" 192.0.2.77/24 ", "192.0.2.0/24", 256),
        ("192.0.2.7/32", "192.0.2.7", 1),
        ("192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20", 11),
        ("192.0.2.10 - 192.0.2.20", "192.0.2.10-192.0.2.20", 11),
        ("10.220.2.214-10.220.2.214", "10.220.2.214", 1),
        ("192.0.2.0-192.0.2.255", "192.0.2.0/24", 256),
        ("0.0.0.0/0", "0.0.0.0/0", 1 << 32),
        ("2001:db8::/64", "2001:db8::/64", 1 << 64),
        ("2001:DB8::1-2001:db8::ff", "2001:db8::1-2001:db8::ff", 255),
        ("::/0", "::/0", u128::MAX),
        // Go reads IPv4-mapped addresses as IPv4.
        ("::ffff:192.0.2.1-::ffff:192.0.2.9", "192.0.2.1-192.0.2.9", 9),
        ("192.0.2.1-::ffff:192.0.2.9", "192.0.2.1-192.0.2.9", 9),
        ("::ffff:192.0.2.77/120", "192.0.2.0/24", 256),
        ("::ffff:0:0/96", "0.0.0.0/0", 1 << 32),
    ] {
        let range: IpRange = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (range.to_string().as_str(), range.size()),
            (printed, size),
            "{text}"
        );
    }
}

#[test]
fn refuses_with_a_sentence_that_says_what_is_wrong() {
    for (text, hint) in [
        ("", "is empty"),
        ("   ", "is empty"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::1", "/128"),
        ("192.0.2.0/33", "is not a CIDR"),
        ("192.0.2.0/", "is not a CIDR"),
        ("192.0.2.0/+24", "is not a CIDR"),
        ("192.0.2/24", "is not a CIDR"),
        ("fe80::1%eth0/64", "is not a CIDR"),
        ("010.0.0.0/8", "is not a CIDR"),
        ("example", "is not a CIDR"),
        ("192.0.2.20-192.0.2.10", "reversed"),
        ("192.0.2.20-", "\"\" in"),
        ("192.0.2.20-25", "\"25\" in"),
        ("192.0.2.1-192.0.2.2-192.0.2.3", "is not an IP address"),
        ("192.0.2.1-2001:db8::1", "other"),
        ("::1-::ffff:192.0.2.9", "other"),
        ("::ffff:0:0/95", "IPv4-mapped"),
    ] {
        let error = text.parse::<IpRange>().expect_err(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
}

fn range(family: Family, a: u128, b: u128) -> IpRange {
    let (a, b) = (family.address(a.min(b)), family.address(a.max(b)));
    IpRange::new(a.expect("in family"), b.expect("in family")).expect("ordered")
}

fn any_range() -> impl Strategy<Value = IpRange> {
    let v4 = (any::<u32>(), any::<u32>()).prop_map(|(a, b)| range(Family::V4, a.into(), b.into()));
    // The upper half only, clear of the IPv4-mapped block.
    let v6 = (any::<u128>(), any::<u128>()).prop_map(|(a, b)| range(Family::V6, a | 1 << 127, b | 1 << 127));
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn cidrs_hold_exactly_the_range(range in any_range()) {
        let cidrs = range.to_cidrs();
        let ranges: Vec<IpRange> = cidrs.into_iter().map(IpRange::from).collect();
        prop_assert_eq!(ranges[0].start(), range.start());
        prop_assert_eq!(ranges[ranges.len() - 1].end(), range.end());
        for pair in ranges.windows(2) {
            prop_assert_eq!(Family::number(pair[0].end()) + 1, Family::number(pair[1].start()));
        }
    }

    #[test]
    fn what_is_printed_is_read_back(range in any_range()) {
        let text = if range.size() == 1 { format!("{range}-{range}") } else { range.to_string() };
        prop_assert_eq!(text.parse::<IpRange>(), Ok(range));
    }

    #[test]
    fn overlap_is_symmetric_and_inside_both(a in any_range(), b in any_range()) {
        prop_assert_eq!(a.overlap(&b), b.overlap(&a));
        if let Some(both) = a.overlap(&b) {
            for ip in [both.start(), both.end()] {
                prop_assert!(a.contains(ip) && b.contains(ip));
            }
        } else {
            prop_assert!(!a.contains(b.start()) && !b.contains(a.start()));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "[0-9a-f:./ -]{0,48}") {
        if let Ok(range) = text.parse::<IpRange>() {
            let _: Vec<IpAddr> = vec![range.start(), range.end()];
            prop_assert!(range.size() >= 1);
        }
    }
}
