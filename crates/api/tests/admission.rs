//! What an API server with our definitions admits and refuses, and what it keeps.

mod server;

use metallb_admission::cases;
use metallb_api::{crd, yaml};
use serde_json::{Value, json};
use server::{package, server};
use std::{collections::BTreeSet, fs};

fn all_cases() -> Vec<(String, cases::Case)> {
    let directory = package().join("tests/admission");
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let cases = cases::read(&file, "metallb-system").unwrap_or_else(|error| panic!("{name}: {error}"));
        all.extend(cases.into_iter().map(|case| (name.clone(), case)));
    }
    all
}

#[test]
fn objects_are_admitted_and_refused_as_the_cases_say() {
    let server = server();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let cases = all_cases();
    for (file, case) in &cases {
        let text = |key: &str| case.object[key].as_str().unwrap_or_default().to_owned();
        seen.insert((text("apiVersion"), text("kind")));
        let answer = match &case.old {
            None => server.create(&case.object),
            Some(old) => server
                .create(old)
                .and_then(|old| server.update(&old, &case.object)),
        };
        match (answer, &case.message_contains) {
            (Ok(_), _) if case.admitted => {}
            (Ok(_), _) => wrong.push(format!("{file}: {}: admitted", case.name)),
            (Err(refused), _) if case.admitted => wrong.push(format!("{file}: {}: {refused}", case.name)),
            (Err(refused), Some(part)) if !refused.to_string().contains(part) => {
                wrong.push(format!("{file}: {}: without {part:?}: {refused}", case.name));
            }
            (Err(_), _) => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    for (version, kind) in server.kinds() {
        assert!(
            seen.contains(&(version.to_owned(), kind.to_owned())),
            "no case of {kind} in {version}"
        );
    }
}

/// An object with every field set, written through one version, reads the same through the other: only its version differs.
#[test]
fn nothing_is_lost_between_versions() {
    let server = server();
    let every = |kind: &str| -> Value {
        let cases = all_cases();
        let case = cases
            .into_iter()
            .find(|(_, case)| case.name == "every field" && case.object["kind"] == kind);
        case.unwrap_or_else(|| panic!("no case of {kind} with every field"))
            .1
            .object
    };
    for (kind, versions) in [
        ("BGPPeer", ["metallb.io/v1beta1", "metallb.io/v1beta2"]),
        ("AddressPool", ["metallb.io/v1alpha1", "metallb.io/v1beta1"]),
    ] {
        let mut object = every(kind);
        // `every field` means every field: those of the schema, but the one that excludes another.
        let definition = crd::all()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
            .unwrap();
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let fields = schema["openAPIV3Schema"]["properties"]["spec"]["properties"]
            .as_object()
            .unwrap()
            .clone();
        let missing: Vec<&String> = fields
            .keys()
            .filter(|field| object["spec"].get(field).is_none())
            .collect();
        let excluded: &[&str] = if kind == "BGPPeer" {
            &["dynamicASN", "interface", "password"]
        } else {
            &[]
        };
        assert_eq!(missing, excluded, "{kind}");
        // Not excluded by anything that an API server judges.
        if kind == "BGPPeer" {
            object["spec"]["password"] = "secret".into();
        }

        for writer in versions {
            for reader in versions {
                let mut written = object.clone();
                written["apiVersion"] = writer.into();
                let stored = server.create(&written).unwrap();
                let read = server.read(&stored, reader).unwrap();
                assert_eq!(read["apiVersion"], reader);
                assert_eq!(
                    read["spec"], object["spec"],
                    "{kind} written as {writer}, read as {reader}"
                );
                // And written back, as an editor does that knows only this version.
                let again = server.update(&stored, &read).unwrap();
                assert_eq!(again["spec"], object["spec"], "{kind} edited as {reader}");
            }
        }
    }
}

/// The other halves of what excludes each other survive too.
#[test]
fn a_peer_found_by_its_interface_survives_the_old_version() {
    let server = server();
    let peer = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "p"},
        "spec": {"myASN": 1, "dynamicASN": "external", "interface": "eth0"},
    });
    let stored = server.create(&peer).unwrap();
    let old = server.read(&stored, "metallb.io/v1beta1").unwrap();
    assert_eq!(old["spec"]["dynamicASN"], "external");
    assert_eq!(old["spec"]["interface"], "eth0");
    assert!(server.update(&stored, &old).is_ok());
}

#[test]
fn what_is_left_out_is_filled_in() {
    let server = server();
    for (object, expected) in [
        (
            json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "spec": {"addresses": ["192.0.2.0/24"]}}),
            json!({"addresses": ["192.0.2.0/24"], "autoAssign": true, "avoidBuggyIPs": false}),
        ),
        (
            json!({"apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement", "spec": {}}),
            json!({"aggregationLength": 32, "aggregationLengthV6": 128}),
        ),
        (
            json!({"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "spec": {"myASN": 1, "peerASN": 2, "interface": "e"}}),
            json!({"myASN": 1, "peerASN": 2, "interface": "e", "peerPort": 179, "disableMP": false, "dualStackAddressFamily": false}),
        ),
        (
            json!({"apiVersion": "metallb.io/v1alpha1", "kind": "AddressPool",
                "spec": {"protocol": "bgp", "addresses": ["192.0.2.0/24"], "bgpAdvertisements": [{}]}}),
            json!({"protocol": "bgp", "addresses": ["192.0.2.0/24"], "autoAssign": true,
                "bgpAdvertisements": [{"aggregationLength": 32, "aggregationLengthV6": 128}]}),
        ),
        (
            json!({"apiVersion": "metallb.io/v1beta1", "kind": "BFDProfile", "spec": {}}),
            json!({}),
        ),
    ] {
        assert_eq!(server.create(&object).unwrap()["spec"], expected, "{object}");
    }
}

/// Node and service of a status object never change; its other fields do.
#[test]
fn status_objects_stay_with_their_service() {
    let server = server();
    for (kind, other) in [("ServiceL2Status", "interfaces"), ("ServiceBGPStatus", "peers")] {
        let object = |field: &str, value: &str| {
            let mut status = json!({"node": "n1", "serviceName": "s", "serviceNamespace": "ns"});
            status[field] = value.into();
            json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "x"}, "status": status})
        };
        let old = server.create(&object("node", "n1")).unwrap();
        for field in ["node", "serviceName", "serviceNamespace"] {
            let refused = server
                .update(&old, &object(field, "another"))
                .unwrap_err()
                .to_string();
            assert!(
                refused.contains(&format!("status.{field}: {field} cannot change")),
                "{refused}"
            );
        }
        let mut changed = old.clone();
        changed["status"][other] = if other == "peers" {
            json!(["p"])
        } else {
            json!([{"name": "eth0"}])
        };
        assert!(server.update(&old, &changed).is_ok());
    }
}

/// Conditions and the last valid spec of configuration objects are kept, whatever the spec was.
#[test]
fn statuses_of_configuration_are_kept() {
    let server = server();
    let status = json!({
        "conditions": [{"type": "Valid", "status": "False", "reason": "Invalid", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "lastValidSpec": {"addresses": ["192.0.2.0/24"], "nested": {"anything": [1, null, {"a": true}]}},
    });
    for (kind, spec) in [
        ("IPAddressPool", json!({"addresses": ["192.0.2.0/24"]})),
        (
            "AddressPool",
            json!({"addresses": ["192.0.2.0/24"], "protocol": "bgp"}),
        ),
        ("L2Advertisement", json!({})),
        ("BGPAdvertisement", json!({})),
        (
            "BGPPeer",
            json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}),
        ),
        ("BFDProfile", json!({})),
        ("Community", json!({})),
    ] {
        let object =
            json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "spec": spec, "status": status});
        let stored = server.create(&object).unwrap();
        assert_eq!(stored["status"]["conditions"], status["conditions"], "{kind}");
        assert_eq!(
            stored["status"]["lastValidSpec"], status["lastValidSpec"],
            "{kind}"
        );
    }
}
