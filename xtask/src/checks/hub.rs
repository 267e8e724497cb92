//! The static checks of the pipelines of the community's catalogs, by their names there; `checks::catalog` has those that
//! look at several versions, `checks::submission` those of the file beside them.

use super::{Check, check, is_empty, text, unless};
use crate::bundle::{Contents, OPENSHIFT_VERSIONS, list, openshift_with};
use semver::Version;
use serde_json::Value;
use std::ops::RangeInclusive;

pub(super) const CHECKS: &[Check] = &[
    check("check_required_fields", required_fields),
    check("check_operator_name", operator_name),
    check("check_operator_version_directory_name", directory_name),
    check("check_network_policy_presence", network_policy_presence),
    check("check_api_version_constraints", api_version_constraints),
];

/// Shortest and longest text of what every page of a catalog shows.
fn required_fields(bundle: &Contents) -> Vec<String> {
    const MANY: usize = usize::MAX;
    let csv = &bundle.csv;
    let of_spec = |field: &str| text(&csv["spec"][field]);
    let texts = [
        (
            "metadata.annotations.alm-examples",
            bundle.annotation("alm-examples"),
            30,
            MANY,
        ),
        (
            "metadata.annotations.description",
            bundle.annotation("description"),
            10,
            MANY,
        ),
        (
            "metadata.annotations.support",
            bundle.annotation("support"),
            3,
            MANY,
        ),
        ("spec.displayName", of_spec("displayName"), 3, 50),
        ("spec.description", of_spec("description"), 20, MANY),
        (
            "spec.provider.name",
            text(&csv["spec"]["provider"]["name"]),
            3,
            MANY,
        ),
    ];
    let lengths = texts
        .into_iter()
        .filter(|(_, text, least, most)| !(*least..=*most).contains(&text.chars().count()))
        .map(|(field, _, least, most)| {
            let most = if most == MANY {
                String::new()
            } else {
                format!(" and at most {most}")
            };
            format!("{field} must have at least {least}{most} characters")
        });
    let keywords = list(&csv["spec"]["keywords"]);
    let rules = [
        (
            "metadata.annotations.capabilities",
            !bundle.annotation("capabilities").is_empty(),
        ),
        (
            "metadata.annotations.categories",
            !bundle.annotation("categories").is_empty(),
        ),
        (
            "metadata.annotations.containerImage",
            is_full_image(bundle.annotation("containerImage")),
        ),
        (
            "metadata.annotations.createdAt",
            is_time(bundle.annotation("createdAt")),
        ),
        (
            "metadata.annotations.repository",
            bundle.annotation("repository").starts_with("https://"),
        ),
        ("spec.icon", !is_empty(&csv["spec"]["icon"])),
        ("spec.version", Version::parse(of_spec("version")).is_ok()),
        ("spec.maintainers", !is_empty(&csv["spec"]["maintainers"])),
        ("spec.links", !is_empty(&csv["spec"]["links"])),
        (
            "spec.keywords",
            !keywords.is_empty() && keywords.iter().all(Value::is_string),
        ),
    ];
    let wrong = rules
        .into_iter()
        .filter(|(_, good)| !good)
        .map(|(field, _)| format!("{field} is missing or malformed"));
    lengths.chain(wrong).collect()
}

/// `HOST/TEAM/NAME` with a tag or digest.
fn is_full_image(reference: &str) -> bool {
    let parts: Vec<&str> = reference.splitn(3, '/').collect();
    parts.len() == 3
        && parts.iter().all(|part| !part.is_empty())
        && parts[2]
            .split_once(':')
            .is_some_and(|(name, tag)| !name.is_empty() && !tag.is_empty())
}

/// RFC 3339 to the second, as far as its shape tells.
fn is_time(time: &str) -> bool {
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00T00:00:00Z"
}

/// The package is the directory's name, the CSV's prefix and what the metadata says.
fn operator_name(bundle: &Contents) -> Vec<String> {
    let package = text(&bundle.annotations["operators.operatorframework.io.bundle.package.v1"]);
    let prefix = bundle.name().split_once('.').map_or("", |(prefix, _)| prefix);
    unless(
        !package.is_empty() && package == prefix,
        format!(
            "the package is {package:?} and the CSV is named {:?}",
            bundle.name()
        ),
    )
}

/// A bundle lies in a directory of its version's name.
fn directory_name(bundle: &Contents) -> Vec<String> {
    let version = text(&bundle.csv["spec"]["version"]);
    unless(
        bundle.name().ends_with(&format!(".v{version}")),
        format!("{} does not end in its version {version:?}", bundle.name()),
    )
}

/// A policy in the bundle would act on whatever else is in the namespace.
fn network_policy_presence(bundle: &Contents) -> Vec<String> {
    bundle
        .objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
        .map(|object| {
            format!(
                "NetworkPolicy {} is no part of a bundle",
                object["metadata"]["name"]
            )
        })
        .collect()
}

/// A bundle with minKubeVersion says which versions of `OpenShift` it is for, and none of them has an older Kubernetes.
fn api_version_constraints(bundle: &Contents) -> Vec<String> {
    let oldest = &bundle.csv["spec"]["minKubeVersion"];
    if is_empty(oldest) {
        return Vec::new();
    }
    let Ok(oldest) = Version::parse(text(oldest)) else {
        return vec![format!("spec.minKubeVersion {oldest} is no semantic version")];
    };
    let (range, needed) = (
        text(&bundle.annotations[OPENSHIFT_VERSIONS]),
        openshift_with(&oldest),
    );
    unless(
        openshift_versions(range).is_some_and(|versions| *versions.start() >= needed),
        format!(
            "metadata/annotations.yaml: {OPENSHIFT_VERSIONS} {range:?} must be like v4.{needed} and not begin earlier, \
             for minKubeVersion is {oldest}"
        ),
    )
}

/// The minor versions of `OpenShift` 4 in `vFIRST`, `=vONLY` or `vFIRST-vLAST`; all of them where nothing is said. Lists with commas
/// are what pipelines warn of.
pub(super) fn openshift_versions(range: &str) -> Option<RangeInclusive<u64>> {
    let minor = |version: &str| -> Option<u64> {
        let version = version.trim();
        let version = version.strip_prefix('v').unwrap_or(version);
        version.strip_prefix("4.")?.parse().ok()
    };
    let range = range.trim();
    let versions = if range.is_empty() {
        0..=u64::MAX
    } else if let Some((first, last)) = range.split_once('-') {
        minor(first)?..=minor(last)?
    } else if let Some(only) = range.strip_prefix('=') {
        minor(only)?..=minor(only)?
    } else {
        minor(range)?..=u64::MAX
    };
    (!versions.is_empty()).then_some(versions)
}

#[cfg(test)]
mod tests {
    use super::openshift_versions;

    #[test]
    fn versions_of_openshift_are_read_as_the_pipelines_do() {
        assert_eq!(openshift_versions(""), Some(0..=u64::MAX));
        assert_eq!(openshift_versions("v4.18"), Some(18..=u64::MAX));
        assert_eq!(openshift_versions("=v4.18"), Some(18..=18));
        assert_eq!(openshift_versions("4.18 - v4.20"), Some(18..=20));
        for wrong in ["v4", "v3.11", "v4.20-v4.18", "v4.18,v4.19", "v4.18-", ">=4.18"] {
            assert_eq!(openshift_versions(wrong), None, "{wrong}");
        }
    }
}
