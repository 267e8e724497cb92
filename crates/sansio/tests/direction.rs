//! Holds the line of ARCHITECTURE.md: pure crates decide, shells act, and arrows only point inward.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Crates that decide. They see inputs and time as values, nothing else.
const PURE: [&str; 9] = [
    "metallb-sansio",
    "metallb-model",
    "metallb-alloc",
    "metallb-election",
    "metallb-l2",
    "metallb-member",
    "metallb-lease",
    "metallb-speaker-core",
    "metallb-sim",
];

/// What a pure crate must not reach, at any depth of its normal dependencies.
const WORLD: [&str; 8] = [
    "tokio",
    "kube",
    "kube-core",
    "k8s-openapi",
    "socket2",
    "hyper",
    "mio",
    "tracing-subscriber",
];

/// What a pure crate's source must not name: clocks, sockets, files, environment, threads, ambient randomness.
const FORBIDDEN: [&str; 10] = [
    "std::time::Instant",
    "SystemTime",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::fs",
    "std::thread",
    "std::process",
    "rand::rng(",
    "thread_rng",
    "getrandom",
];

/// Shells: only binaries and tools may use them.
const SHELLS: [&str; 3] = ["metallb-net", "metallb-kubeio", "metallb-telemetry"];

/// This package of the checkout that is tested: clones may share a target directory, so what was compiled in may be another.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(package().join("../../Cargo.toml"))
        .other_options(vec![
            "--offline".into(),
            "--locked".into(),
            "--filter-platform".into(),
            "x86_64-unknown-linux-gnu".into(),
        ])
        .exec()
        .expect("cargo metadata of the workspace")
}

/// Names of all crates that `name` links, through normal dependencies only.
fn reach(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let start = metadata
        .packages
        .iter()
        .find(|p| p.name.as_str() == name)
        .unwrap_or_else(|| panic!("no crate {name}"));
    let mut todo = vec![start.id.clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        let node = resolve
            .nodes
            .iter()
            .find(|n| n.id == id)
            .expect("every package has a node");
        for dependency in &node.deps {
            if dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
            {
                let package = &metadata[&dependency.pkg];
                if seen.insert(package.name.to_string()) {
                    todo.push(dependency.pkg.clone());
                }
            }
        }
    }
    seen
}

#[test]
fn pure_crates_reach_no_world() {
    let metadata = metadata();
    for name in PURE {
        let reached = reach(&metadata, name);
        for world in WORLD {
            assert!(
                !reached.contains(world),
                "{name} depends on {world}: decide in it, act in a shell"
            );
        }
        for shell in SHELLS {
            assert!(!reached.contains(shell), "{name} depends on the shell {shell}");
        }
    }
}

#[test]
fn pure_sources_name_no_clock_socket_or_file() {
    let root = package().join("..");
    for name in PURE {
        let source = root.join(name.trim_start_matches("metallb-")).join("src");
        let mut files = 0;
        visit(&source, &mut |path, text| {
            files += 1;
            for word in FORBIDDEN {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        });
        assert!(files > 0, "{} holds no source", source.display());
    }
}

#[test]
fn only_the_network_shell_is_unsafe() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let source = package
            .manifest_path
            .parent()
            .expect("a manifest lies in a directory")
            .join("src");
        visit(source.as_std_path(), &mut |path, text| {
            let code = text.lines().any(|line| {
                let line = line.split("//").next().unwrap_or_default();
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
            });
            assert!(
                !code || package.name.as_str() == "metallb-net",
                "{} holds unsafe code",
                path.display()
            );
        });
    }
}

#[test]
fn shells_are_used_by_binaries_alone() {
    let metadata = metadata();
    let binaries = ["metallb-operator", "metallb-allocator", "metallb-speaker"];
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            let shell =
                SHELLS.contains(&dependency.name.as_str()) && dependency.kind == DependencyKind::Normal;
            assert!(
                !shell || binaries.contains(&package.name.as_str()),
                "{} uses the shell {}; only binaries wire shells",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn serde_yaml_is_named_in_one_place() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let named = package.dependencies.iter().any(|d| d.name == "serde_yaml");
        assert!(
            !named || package.name.as_str() == "metallb-api",
            "{} names serde_yaml; use metallb_api::yaml",
            package.name
        );
    }
}

fn visit(directory: &Path, check: &mut impl FnMut(&Path, &str)) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            visit(&path, check);
        } else if path.extension().is_some_and(|e| e == "rs") {
            check(&path, &fs::read_to_string(&path).expect("a readable source file"));
        }
    }
}

/// The licences that deny.toml allows, one quoted word a line between `allow = [` and `]`.
fn allowed_licences() -> BTreeSet<String> {
    let text = fs::read_to_string(package().join("../../deny.toml")).expect("deny.toml");
    text.lines()
        .skip_while(|line| !line.starts_with("allow = ["))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.split('"').nth(1).map(str::to_owned))
        .collect()
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed_licences();
    assert!(allowed.len() > 3, "deny.toml was not understood: {allowed:?}");
    for package in &metadata().packages {
        let licence = package.license.as_deref().unwrap_or("none given");
        // SPDX: one of the alternatives must consist of allowed licences only. Parentheses only group here.
        let licence = licence.replace(['(', ')'], "").replace('/', " OR ");
        let fine = licence
            .split(" OR ")
            .any(|choice| choice.split(" AND ").all(|one| allowed.contains(one.trim())));
        assert!(
            fine,
            "{} {} is under {licence}, which deny.toml does not allow",
            package.name, package.version
        );
    }
}
