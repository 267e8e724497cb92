//! Command lines of the operands: what both have in common.

/// Go's flag package takes `-flag` for `--flag`; manifests use both.
pub fn with_two_dashes(args: impl Iterator<Item = String>) -> Vec<String> {
    let long = |arg: &str| arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 2;
    args.map(|arg| if long(&arg) { format!("-{arg}") } else { arg })
        .collect()
}

/// Names of the flags, of all that are given here with their values, that somebody set.
pub fn given<'a>(all: impl IntoIterator<Item = (&'static str, &'a String)>) -> Vec<&'static str> {
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(flag, _)| flag)
        .collect()
}
