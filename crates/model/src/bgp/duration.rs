//! Durations as Go writes them.

/// Nanoseconds of a text that Go's `time.ParseDuration` reads: `90s`, `1m30s`, `1.5h`, `-2ms`, `0`. `None` for others,
/// and for more than 292 years.
pub fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = &rest[..digits(rest)];
        rest = &rest[whole.len()..];
        let fraction = rest.strip_prefix('.').map(|rest| &rest[..digits(rest)]);
        if let Some(fraction) = fraction {
            rest = &rest[1 + fraction.len()..];
        }
        if whole.is_empty() && fraction.is_none_or(str::is_empty) {
            return None;
        }
        let unit_length = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit: i128 = match &rest[..unit_length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_length..];
        // More than 19 digits are out of range anyway, and of a fraction below a nanosecond.
        let number = |digits: &str| -> Option<i128> {
            if digits.len() > 19 {
                None
            } else if digits.is_empty() {
                Some(0)
            } else {
                digits.parse().ok()
            }
        };
        total += number(whole.trim_start_matches('0'))? * unit;
        if let Some(fraction) = fraction {
            let fraction = &fraction[..fraction.len().min(18)];
            total += number(fraction)? * unit / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}
