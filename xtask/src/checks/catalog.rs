//! What `opm validate` and the pipelines' static checks say to a catalog, by their names where they have one.

use super::{hub::openshift_versions, text, unless};
use crate::{
    bundle::{OPENSHIFT_VERSIONS, list},
    catalog::Entry,
};
use semver::Version;
use serde_json::Value;
use std::collections::BTreeSet;

/// What is wrong with a catalog that was made of some bundles, each finding with the name of its check.
pub(crate) fn complaints(documents: &[Value], bundles: &[Entry]) -> Vec<String> {
    let catalog = Catalog { documents, bundles };
    let checks: [(&str, Vec<String>); 10] = [
        ("opm validate: package", catalog.package()),
        ("opm validate: channel", catalog.channel()),
        ("opm validate: bundles", catalog.listed()),
        ("check_dangling_bundles", catalog.dangling()),
        ("check_upgrade_graph_loop", catalog.loops()),
        ("check_replaces_availability", catalog.replaces_availability()),
        ("check_operator_name_unique", catalog.name_unique()),
        ("images", catalog.images()),
        ("check_olm_bundle_object_in_fbc", catalog.bundle_objects()),
        ("skipRange", catalog.skip_ranges()),
    ];
    checks
        .into_iter()
        .flat_map(|(name, found)| found.into_iter().map(move |finding| format!("{name}: {finding}")))
        .collect()
}

struct Catalog<'a> {
    documents: &'a [Value],
    bundles: &'a [Entry],
}

impl<'a> Catalog<'a> {
    fn of(&self, schema: &str) -> impl Iterator<Item = &'a Value> {
        self.documents
            .iter()
            .filter(move |document| document["schema"] == schema)
    }

    /// Entries of all channels.
    fn steps(&self) -> impl Iterator<Item = &'a Value> {
        self.of("olm.channel")
            .flat_map(|channel| list(&channel["entries"]))
    }

    fn step(&self, name: &str) -> Option<&'a Value> {
        self.steps().find(|step| step["name"] == name)
    }

    /// What was given for a bundle.
    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.bundles.iter().find(|entry| entry.contents.name() == name)
    }

    /// The entries that no other one replaces.
    fn heads(&self) -> Vec<&'a str> {
        let replaced: BTreeSet<&str> = self.steps().map(|step| text(&step["replaces"])).collect();
        self.steps()
            .map(|step| text(&step["name"]))
            .filter(|name| !replaced.contains(name))
            .collect()
    }

    /// From an entry downwards, as far as the catalog knows; a name that comes again ends it and is there twice.
    fn chain(&self, from: &'a str) -> Vec<&'a str> {
        let mut chain = vec![from];
        while let Some(next) = chain
            .last()
            .and_then(|name| self.step(name))
            .map(|step| text(&step["replaces"]))
            .filter(|next| !next.is_empty())
        {
            let again = chain.contains(&next);
            chain.push(next);
            if again {
                break;
            }
        }
        chain
    }

    fn package(&self) -> Vec<String> {
        let packages: Vec<&Value> = self.of("olm.package").collect();
        let [package] = packages[..] else {
            return vec![format!("{} packages instead of one", packages.len())];
        };
        let channel = &package["defaultChannel"];
        let exists = self.of("olm.channel").any(|known| known["name"] == *channel);
        let others = self
            .documents
            .iter()
            .filter(|document| document["schema"] != "olm.package" && document["package"] != package["name"])
            .map(|document| format!("{} is of another package", document["name"]));
        unless(exists, format!("there is no default channel {channel}"))
            .into_iter()
            .chain(others)
            .chain(unless(
                !text(&package["icon"]["base64data"]).is_empty()
                    && !text(&package["icon"]["mediatype"]).is_empty(),
                "the icon lacks data or type",
            ))
            .chain(unless(
                !text(&package["description"]).is_empty(),
                "there is no description",
            ))
            .collect()
    }

    fn channel(&self) -> Vec<String> {
        let heads = self.heads();
        unless(
            heads.len() == 1,
            format!("the channel must end in one version and ends in {heads:?}"),
        )
    }

    fn listed(&self) -> Vec<String> {
        let bundles: BTreeSet<&str> = self
            .of("olm.bundle")
            .map(|bundle| text(&bundle["name"]))
            .collect();
        let steps: BTreeSet<&str> = self.steps().map(|step| text(&step["name"])).collect();
        let without_bundle = steps
            .difference(&bundles)
            .map(|name| format!("the channel's {name} has no bundle"));
        let without_step = bundles
            .difference(&steps)
            .map(|name| format!("{name} is in no channel"));
        let properties = self.of("olm.bundle").filter_map(|bundle| {
            let packages = list(&bundle["properties"])
                .iter()
                .filter(|property| property["type"] == "olm.package")
                .filter(|property| Version::parse(text(&property["value"]["version"])).is_ok())
                .count();
            (packages != 1).then(|| format!("{} has {packages} versions", bundle["name"]))
        });
        without_bundle.chain(without_step).chain(properties).collect()
    }

    fn dangling(&self) -> Vec<String> {
        let reached: BTreeSet<&str> = self
            .heads()
            .into_iter()
            .take(1)
            .flat_map(|head| self.chain(head))
            .collect();
        self.steps()
            .map(|step| text(&step["name"]))
            .filter(|name| !reached.contains(name))
            .map(|name| format!("no upgrade leads through {name} to the newest version"))
            .collect()
    }

    fn loops(&self) -> Vec<String> {
        self.steps()
            .map(|step| self.chain(text(&step["name"])))
            .filter(|chain| {
                chain
                    .split_last()
                    .is_some_and(|(last, before)| before.contains(last))
            })
            .map(|chain| format!("upgrades go round: {}", chain.join(" replaces ")))
            .collect()
    }

    /// What is replaced is there, for every version of `OpenShift` that the newer one is for: each of these has a catalog.
    fn replaces_availability(&self) -> Vec<String> {
        let versions = |name: &str| {
            openshift_versions(text(&self.entry(name)?.contents.annotations[OPENSHIFT_VERSIONS]))
        };
        self.steps()
            .map(|step| (text(&step["name"]), text(&step["replaces"])))
            .filter(|(_, replaces)| !replaces.is_empty())
            .filter_map(|(name, replaces)| {
                if self.step(replaces).is_none() {
                    return Some(format!("{name} replaces {replaces}, which is not there"));
                }
                let (new, old) = (versions(name)?, versions(replaces)?);
                let available = old.contains(new.start()) && old.contains(new.end());
                (!available).then(|| {
                    format!("{name} replaces {replaces}, which is for fewer versions of OpenShift: align {OPENSHIFT_VERSIONS}")
                })
            })
            .collect()
    }

    fn name_unique(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self
            .steps()
            .map(|step| text(&step["name"]).split_once('.').map_or("", |(name, _)| name))
            .collect();
        unless(names.len() == 1, format!("operators have the names {names:?}"))
    }

    /// The image that the catalog names is the one that was given for the bundle, and its images are those of the CSV.
    fn images(&self) -> Vec<String> {
        let mut found = Vec::new();
        for bundle in self.of("olm.bundle") {
            let name = text(&bundle["name"]);
            let Some(entry) = self.entry(name) else {
                found.push(format!("{name}: there is no such bundle"));
                continue;
            };
            found.extend(unless(
                bundle["image"] == entry.image.as_str(),
                format!("{name} is not named as its image {}", entry.image),
            ));
            let listed: BTreeSet<&str> = list(&bundle["relatedImages"])
                .iter()
                .map(|image| text(&image["image"]))
                .collect();
            let mut wanted: BTreeSet<&str> = list(&entry.contents.csv["spec"]["relatedImages"])
                .iter()
                .map(|image| text(&image["image"]))
                .collect();
            wanted.insert(&entry.image);
            found.extend(unless(
                listed == wanted,
                format!("{name}: relatedImages are not those of its bundle"),
            ));
        }
        found
    }

    /// Catalogs carry metadata, not whole manifests.
    fn bundle_objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        for bundle in self.of("olm.bundle") {
            let types: Vec<&str> = list(&bundle["properties"])
                .iter()
                .map(|property| text(&property["type"]))
                .collect();
            found.extend(unless(
                !types.contains(&"olm.bundle.object") && types.contains(&"olm.csv.metadata"),
                format!(
                    "{} must have olm.csv.metadata instead of olm.bundle.object",
                    bundle["name"]
                ),
            ));
        }
        found
    }

    /// A range ends before the version itself, or OLM would upgrade it to itself, and holds what is replaced.
    fn skip_ranges(&self) -> Vec<String> {
        let version = |name: &str| {
            name.split_once(".v")
                .and_then(|(_, version)| Version::parse(version).ok())
        };
        let mut found = Vec::new();
        for step in self.steps() {
            let (name, range, replaces) = (
                text(&step["name"]),
                text(&step["skipRange"]),
                text(&step["replaces"]),
            );
            if range.is_empty() {
                continue;
            }
            // OLM separates comparisons with blanks.
            let parsed = semver::VersionReq::parse(&range.replace(' ', ", "));
            let Ok(requirement) = parsed else {
                found.push(format!("{name}: {range:?} is no range"));
                continue;
            };
            let good = version(name).is_some_and(|own| !requirement.matches(&own))
                && (replaces.is_empty() || version(replaces).is_some_and(|old| requirement.matches(&old)));
            found.extend(unless(
                good,
                format!("{name}: {range:?} must hold {replaces} and not {name}"),
            ));
        }
        found
    }
}
