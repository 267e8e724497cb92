//! What a console shows of each field: a form control, a group, a place for experts. Derived from the CRD's schema, so that no
//! field is forgotten.

use serde_json::{Value, json};

/// Kinds that components write: nobody starts from those, and a console hides them.
pub(crate) const WRITTEN_BY_COMPONENTS: [&str; 3] =
    ["ConfigurationState", "ServiceBGPStatus", "ServiceL2Status"];

/// Form controls of the `OpenShift` console.
const UI: &str = "urn:alm:descriptor:com.tectonic.ui";
const CONDITIONS: &str = "urn:alm:descriptor:io.kubernetes.conditions";
/// Chooses an object of a core kind by name.
const SECRET: &str = "urn:alm:descriptor:io.kubernetes:Secret";

/// Fields that a console shows at once; the others are under "Advanced".
const FIRST: [(&str, &[&str]); 8] = [
    (
        "MetalLB",
        &[
            "loadBalancerClass",
            "logLevel",
            "nodeSelector",
            "speakerTolerations",
        ],
    ),
    ("IPAddressPool", &["addresses", "autoAssign", "serviceAllocation"]),
    ("AddressPool", &["addresses", "autoAssign", "protocol"]),
    (
        "L2Advertisement",
        &["ipAddressPools", "interfaces", "nodeSelectors"],
    ),
    (
        "BGPAdvertisement",
        &["ipAddressPools", "peers", "communities", "localPref"],
    ),
    (
        "BGPPeer",
        &["myASN", "peerASN", "peerAddress", "passwordSecret", "bfdProfile"],
    ),
    (
        "BFDProfile",
        &["receiveInterval", "transmitInterval", "detectMultiplier"],
    ),
    ("Community", &["communities"]),
];

/// Fields that are there for what was written long ago.
const HIDDEN: [(&str, &str); 2] = [("MetalLB", "image"), ("AddressPool", "name")];

/// Values to choose from where the schema leaves the field open, because a rule judges it.
const CHOICES: [(&str, &str, &[&str]); 1] = [(
    "MetalLB",
    "bgpBackend",
    &["native", "frr", "frr-k8s", "frr-k8s-external"],
)];

/// Descriptors of `spec`, each field's followed by those of the fields in it.
pub(super) fn of_spec(kind: &str, schema: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for (field, schema) in properties(schema) {
        let is_first = FIRST
            .iter()
            .any(|(of, fields)| *of == kind && fields.contains(&field.as_str()));
        let own = if HIDDEN.contains(&(kind, field)) {
            vec![format!("{UI}:hidden")]
        } else if is_first {
            Vec::new()
        } else {
            vec![format!("{UI}:advanced")]
        };
        let mut controls = controls(kind, field, field, schema);
        controls.extend(own.iter().cloned());
        all.push(descriptor(field, field, schema, &controls));
        inner(kind, field, field, schema, &own, &mut all);
    }
    all
}

/// Descriptors of `status`.
pub(super) fn of_status(schema: &Value) -> Vec<Value> {
    properties(schema)
        .map(|(field, schema)| {
            let controls = match schema["type"].as_str() {
                _ if field == "conditions" => vec![CONDITIONS.to_owned()],
                Some("string") => vec![format!("{UI}:text")],
                Some("integer") => vec![format!("{UI}:number")],
                _ => Vec::new(),
            };
            descriptor(field, field, schema, &controls)
        })
        .collect()
}

/// The fields below `path`, in the group of the field `top`: objects to any depth, of lists the scalar fields of their elements.
fn inner(kind: &str, top: &str, path: &str, schema: &Value, own: &[String], all: &mut Vec<Value>) {
    let (prefix, group, fields) = if schema["items"]["properties"].is_object() {
        (
            format!("{path}[0]"),
            "arrayFieldGroup",
            properties(&schema["items"]),
        )
    } else {
        (path.to_owned(), "fieldGroup", properties(schema))
    };
    // A control of its own edits the whole object.
    if !control_of_object(path, schema).is_empty() {
        return;
    }
    for (field, schema) in fields {
        let is_scalar = schema["type"] != "object" && schema["type"] != "array";
        if group == "arrayFieldGroup" && !is_scalar {
            continue;
        }
        let path = format!("{prefix}.{field}");
        let mut controls = controls(kind, &path, field, schema);
        controls.push(format!("{UI}:{group}:{top}"));
        controls.extend(own.iter().cloned());
        all.push(descriptor(&path, field, schema, &controls));
        inner(kind, top, &path, schema, own, all);
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn descriptor(path: &str, field: &str, schema: &Value, controls: &[String]) -> Value {
    let mut descriptor = json!({"path": path, "displayName": words(field)});
    if let Some(description) = schema["description"].as_str() {
        descriptor["description"] = description.into();
    }
    if !controls.is_empty() {
        descriptor["x-descriptors"] = controls.into();
    }
    descriptor
}

/// Controls for objects that Kubernetes itself defines.
fn control_of_object(path: &str, schema: &Value) -> Vec<String> {
    let has = |field: &str| schema["properties"].get(field).is_some();
    let name = path.rsplit('.').next().unwrap_or_default();
    match name {
        "resources" if has("limits") && has("requests") => vec![format!("{UI}:resourceRequirements")],
        "nodeAffinity" | "podAffinity" | "podAntiAffinity" => vec![format!("{UI}:{name}")],
        _ => Vec::new(),
    }
}

fn controls(kind: &str, path: &str, field: &str, schema: &Value) -> Vec<String> {
    let whole = control_of_object(path, schema);
    if !whole.is_empty() {
        return whole;
    }
    let choices: Vec<&str> = match CHOICES.iter().find(|(of, at, _)| *of == kind && *at == path) {
        Some((_, _, values)) => values.to_vec(),
        None => schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
    };
    if !choices.is_empty() {
        return choices
            .iter()
            .map(|choice| format!("{UI}:select:{choice}"))
            .collect();
    }
    let control = match schema["type"].as_str() {
        Some("boolean") => "booleanSwitch",
        Some("integer" | "number") if field.ends_with("eplicas") => "podCount",
        Some("integer" | "number") => "number",
        Some("string") if field == "password" => "password",
        Some("string") if field == "name" && (path.contains("Secret.") || path.contains("Secrets[0].")) => {
            return vec![SECRET.into()];
        }
        Some("string") => "text",
        _ if schema["x-kubernetes-int-or-string"] == true => "text",
        _ => return Vec::new(),
    };
    vec![format!("{UI}:{control}")]
}

/// `ipAddressPools` as `IP Address Pools`: runs of capitals stay together, and abbreviations are written as such.
pub(super) fn words(name: &str) -> String {
    const ABBREVIATIONS: [(&str, &str); 15] = [
        ("Metal LB", "MetalLB"),
        ("I Pv4", "IPv4"),
        ("I Pv6", "IPv6"),
        ("I Ps", "IPs"),
        ("Ip ", "IP "),
        ("Bgp ", "BGP "),
        ("Bfd ", "BFD "),
        ("Ebgp ", "EBGP "),
        ("Api ", "API "),
        ("Frrk8s ", "FRR-K8s "),
        (" Ttl ", " TTL "),
        ("Vrf ", "VRF "),
        (" Multi Hop ", " Multi-Hop "),
        ("Layer2 ", "Layer 2 "),
        (" Pref ", " Preference "),
    ];
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let starts = letter.is_uppercase()
            && i > 0
            && (letters[i - 1].is_lowercase() || letters.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if starts {
            text.push(' ');
        }
        text.push(if i == 0 {
            letter.to_ascii_uppercase()
        } else {
            *letter
        });
    }
    // The space at the end lets an abbreviation be the last word.
    text.push(' ');
    for (word, written) in ABBREVIATIONS {
        text = text.replace(word, written);
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metallb_admission::ApiServer;
    use metallb_api::crd;

    fn schema(kind: &str) -> Value {
        let crd = crd::all()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
            .unwrap_or_else(|| panic!("there is no kind {kind}"));
        let version = crd.spec.versions.last().unwrap();
        serde_json::to_value(&version.schema).unwrap()["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn fields_with_a_place_of_their_own_exist() {
        let of_lists = FIRST
            .iter()
            .flat_map(|(kind, fields)| fields.iter().map(move |field| (*kind, *field)));
        let of_choices = CHOICES.iter().map(|(kind, field, _)| (*kind, *field));
        for (kind, field) in of_lists.chain(HIDDEN).chain(of_choices) {
            assert!(
                schema(kind)["properties"].get(field).is_some(),
                "{kind} has no field {field}"
            );
        }
    }

    #[test]
    fn each_choice_is_admitted() {
        let definitions: Vec<Value> = crd::all()
            .iter()
            .map(|crd| serde_json::to_value(crd).unwrap())
            .collect();
        let server = ApiServer::new(&definitions);
        for (kind, field, values) in CHOICES {
            for value in values {
                let object = json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "metallb"}, "spec": {field: value}});
                server.create(&object).unwrap_or_else(|refused| {
                    panic!("{kind}.spec.{field}: {value}: {refused}");
                });
            }
        }
    }

    #[test]
    fn fields_have_the_controls_that_suit_them() {
        let descriptors = of_spec("MetalLB", &schema("MetalLB"));
        let controls = |path: &str| -> Vec<String> {
            let found = descriptors
                .iter()
                .find(|descriptor| descriptor["path"] == path)
                .unwrap_or_else(|| panic!("no descriptor of {path}"));
            found["x-descriptors"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|urn| urn.as_str().unwrap().trim_start_matches(UI).to_owned())
                .collect()
        };
        for (path, wanted) in [
            ("fairReuse", &[":booleanSwitch", ":advanced"][..]),
            ("controllerReplicas", &[":podCount", ":advanced"]),
            (
                "logLevel",
                &[
                    ":select:all",
                    ":select:debug",
                    ":select:info",
                    ":select:warn",
                    ":select:error",
                    ":select:none",
                ],
            ),
            (
                "controllerConfig.resources",
                &[
                    ":resourceRequirements",
                    ":fieldGroup:controllerConfig",
                    ":advanced",
                ],
            ),
            (
                "speakerConfig.affinity.nodeAffinity",
                &[":nodeAffinity", ":fieldGroup:speakerConfig", ":advanced"],
            ),
            (
                "metrics.alerts.enabled",
                &[":booleanSwitch", ":fieldGroup:metrics", ":advanced"],
            ),
            (
                "metrics.tokenSecret.name",
                &[SECRET, ":fieldGroup:metrics", ":advanced"],
            ),
            (
                "speakerTolerations[0].key",
                &[":text", ":arrayFieldGroup:speakerTolerations"],
            ),
            ("image", &[":text", ":hidden"]),
        ] {
            assert_eq!(controls(path), wanted, "{path}");
        }
        assert!(
            descriptors
                .iter()
                .all(|descriptor| descriptor["path"] != "controllerConfig.resources.limits")
        );
    }

    #[test]
    fn names_become_words() {
        for (name, wanted) in [
            ("loadBalancerClass", "Load Balancer Class"),
            ("ipAddressPools", "IP Address Pools"),
            ("assignedIPv4", "Assigned IPv4"),
            ("avoidBuggyIPs", "Avoid Buggy IPs"),
            ("bgpBackend", "BGP Backend"),
            ("frrk8sConfig", "FRR-K8s Config"),
            ("minimumTtl", "Minimum TTL"),
            ("vrf", "VRF"),
            ("layer2", "Layer 2"),
            ("BGPPeer", "BGP Peer"),
            ("BFDProfile", "BFD Profile"),
            ("bfdProfile", "BFD Profile"),
            ("peerASN", "Peer ASN"),
            ("MetalLB", "MetalLB"),
            ("apiPort", "API Port"),
        ] {
            assert_eq!(words(name), wanted);
        }
    }
}
