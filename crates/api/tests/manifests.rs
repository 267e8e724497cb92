//! The manifests that MetalLB's users copy from: the samples and the documentation in MetalLB's Go module, read at test time,
//! and ours. An API server admits them, and nobody finds a fault with what they configure.

mod module;
mod server;

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use metallb_admission::ApiServer;
use metallb_api::{names, yaml};
use metallb_model::{
    BgpAdvertisement, Config, Issue, Kind, L2Advertisement, Labels, ObjectRef, Reason, Sources,
};
use serde_json::Value;
use server::{package, server};

/// Where MetalLB's manifests mean their objects to be.
const OWN: &str = "metallb-system";

/// Reasons for what is waited for: a text that shows one object need not show those that it names.
const WAITED_FOR: [Reason; 3] = [
    Reason::WaitingForSecret,
    Reason::WaitingForBfdProfile,
    Reason::WaitingForCommunity,
];

/// Something to apply, and where it is from.
struct Text {
    place: String,
    objects: Vec<Value>,
}

#[test]
fn what_metallb_shows_its_users_is_taken() -> anyhow::Result<()> {
    let module = module::directory()?;
    let mut texts = files(&module.join("configsamples"))?;
    let samples = texts.len();
    ensure!(samples >= 18, "MetalLB has only {samples} samples");
    for page in pages(&module.join("website/content"))? {
        texts.extend(blocks(&page)?);
    }
    let shown = texts.len() - samples;
    ensure!(shown >= 30, "MetalLB's documentation shows only {shown}");
    let server = server();
    let mut found = Vec::new();
    for text in &texts {
        let problems = judge(&server, text)?;
        found.extend(problems.into_iter().filter_map(|problem| match problem {
            Problem::Issue(issue) if WAITED_FOR.contains(&issue.reason) => None,
            other => Some(format!("{}: {other}", text.place)),
        }));
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// All of them applied at once.
#[test]
fn our_samples_are_taken() -> anyhow::Result<()> {
    let samples = package().join("../../config/samples");
    let all = Text {
        place: "config/samples".to_owned(),
        objects: files(&samples)?
            .into_iter()
            .flat_map(|text| text.objects)
            .collect(),
    };
    let problems = judge(&server(), &all)?;
    ensure!(problems.is_empty(), "{problems:#?}");
    Ok(())
}

/// MetalLB's own converter says which objects a ConfigMap means.
#[test]
fn a_config_map_means_what_metallb_turns_it_into() -> anyhow::Result<()> {
    let data = module::directory()?.join("configmaptocrs/testdata/configmap-data");
    let mut compared = 0;
    for path in listed(&data)? {
        let golden = path.with_extension("golden");
        if path == golden {
            continue;
        }
        let place = path.display().to_string();
        let mut text: Value = yaml::from_str(&fs::read_to_string(&path)?).context(place.clone())?;
        let corrected = corrected(&mut text);
        let mut old = Sources::default();
        old.add(
            reference(Kind::ConfigMap, "config", 1),
            Labels::new(),
            Ok(text),
            None,
        );
        let mut new = Sources::default();
        let converted = yaml::from_str_all::<Value>(&fs::read_to_string(&golden)?)?;
        for (created, object) in converted.iter().enumerate() {
            add(&mut new, object, created)?;
        }
        let [old, new] = [&old, &new].map(|sources| {
            let (config, issues) = Config::from_sources(sources, OWN);
            let errors: Vec<Issue> = issues.into_iter().filter(Issue::is_error).collect();
            (meaning(&config, corrected), errors)
        });
        assert_eq!(old, new, "{place}");
        assert_eq!(old.1, [], "{place}");
        compared += 1;
    }
    ensure!(compared >= 6, "MetalLB converts only {compared}");
    Ok(())
}

/// One of the converter's inputs has `l2` for a protocol, which MetalLB itself never took, and neither do we. The converter
/// makes a pool of it that nobody announces. Whether there was one, which is `layer2` now.
fn corrected(text: &mut Value) -> bool {
    let pools = text.get_mut("address-pools").and_then(Value::as_array_mut);
    let mut corrected = false;
    for pool in pools.into_iter().flatten() {
        if pool["protocol"] == "l2" {
            pool["protocol"] = "layer2".into();
            corrected = true;
        }
    }
    corrected
}

/// What a configuration does, whatever its objects are called. The converter makes names of labels: lower case, dashes, no
/// digits in front and no more than 63 characters.
fn meaning(config: &Config, without_layer2: bool) -> BTreeSet<String> {
    let label = |name: &str| -> String {
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        name.to_lowercase().replace('_', "-").chars().take(63).collect()
    };
    let pools = config.pools().map(|pool| {
        format!(
            "pool {} {:?} auto {} buggy {} {:?}",
            label(&pool.name),
            pool.ranges,
            pool.auto_assign,
            pool.avoid_buggy_ips,
            pool.allocation
        )
    });
    let labels = |pools: &BTreeSet<String>| Arc::new(pools.iter().map(|name| label(name)).collect());
    let advertisements = config.bgp_advertisements().iter().map(|advertisement| {
        let unnamed = BgpAdvertisement {
            name: String::new(),
            pools: labels(&advertisement.pools),
            ..advertisement.clone()
        };
        format!("{unnamed:?}")
    });
    let layer2 = config.l2_advertisements().iter().filter(|_| !without_layer2);
    let layer2 = layer2.map(|advertisement| {
        let unnamed = L2Advertisement {
            name: String::new(),
            pools: labels(&advertisement.pools),
            ..advertisement.clone()
        };
        format!("{unnamed:?}")
    });
    let peers = config.bgp_peers().map(|peer| {
        let mut unnamed = peer.clone();
        unnamed.name.clear();
        format!("{unnamed:?}")
    });
    let profiles = config.bfd_profiles().map(|profile| {
        let mut named = profile.clone();
        named.name = label(&named.name);
        format!("{named:?}")
    });
    let communities = config
        .communities()
        .iter()
        .map(|(alias, community)| format!("community {alias} {community:?}"));
    pools
        .chain(advertisements)
        .chain(layer2)
        .chain(peers)
        .chain(profiles)
        .chain(communities)
        .collect()
}

/// What stands against an object.
#[derive(Debug)]
enum Problem {
    /// The API server does not take it.
    Refused(String),
    /// It is taken and does not count.
    Issue(Issue),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => f.write_str(text),
            Self::Issue(issue) => issue.fmt(f),
        }
    }
}

fn judge(server: &ApiServer, text: &Text) -> anyhow::Result<Vec<Problem>> {
    let mut sources = Sources::default();
    let mut found = Vec::new();
    for (created, object) in text.objects.iter().enumerate() {
        match kind(object) {
            None => {}
            Some(Kind::ConfigMap) => add(&mut sources, object, created)?,
            Some(kind) => match server.create(object) {
                Ok(stored) => add(&mut sources, &stored, created)?,
                Err(refused) => found.push(Problem::Refused(format!("{kind}: {refused}"))),
            },
        }
    }
    let (_, issues) = Config::from_sources(&sources, OWN);
    found.extend(issues.into_iter().filter(Issue::is_error).map(Problem::Issue));
    Ok(found)
}

fn kind(object: &Value) -> Option<Kind> {
    let name = object["kind"].as_str()?;
    let version = object["apiVersion"].as_str()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name)?;
    let legacy = kind == Kind::ConfigMap;
    (legacy && object["metadata"]["name"] == names::objects::LEGACY_CONFIG_MAP
        || !legacy && version.starts_with("metallb.io/"))
    .then_some(kind)
}

fn reference(kind: Kind, name: &str, created: usize) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: OWN.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{created}"),
        created: i64::try_from(created).unwrap_or(i64::MAX),
        generation: 1,
    }
}

fn add(sources: &mut Sources, object: &Value, created: usize) -> anyhow::Result<()> {
    let Some(kind) = kind(object) else { return Ok(()) };
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().context("an object without a name")?;
    let labels: Labels = match &metadata["labels"] {
        Value::Null => Labels::new(),
        labels => serde_json::from_value(labels.clone())?,
    };
    let spec = if kind == Kind::ConfigMap {
        let text = object["data"][names::objects::LEGACY_CONFIG_KEY]
            .as_str()
            .context("no config")?;
        yaml::from_str(text)?
    } else {
        object["spec"].clone()
    };
    sources.add(reference(kind, name, created), labels, Ok(spec), None);
    Ok(())
}

fn listed(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn files(directory: &Path) -> anyhow::Result<Vec<Text>> {
    let read = |path: PathBuf| {
        let place = path.display().to_string();
        let objects = yaml::from_str_all(&fs::read_to_string(&path)?).context(place.clone())?;
        Ok(Text { place, objects })
    };
    listed(directory)?.into_iter().map(read).collect()
}

fn pages(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in listed(directory)? {
        if path.is_dir() {
            found.extend(pages(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The blocks of YAML on a page that hold objects; what is only part of one is left out.
fn blocks(page: &Path) -> anyhow::Result<Vec<Text>> {
    let text = fs::read_to_string(page)?;
    let mut all = Vec::new();
    for (number, block) in text.split("```yaml\n").skip(1).enumerate() {
        let (block, _) = block.split_once("```").context("a block without an end")?;
        let place = format!("{}, block {}", page.display(), number + 1);
        let objects: Vec<Value> = yaml::from_str_all(block).context(place.clone())?;
        if objects.iter().any(|object| kind(object).is_some()) {
            all.push(Text { place, objects });
        }
    }
    Ok(all)
}
