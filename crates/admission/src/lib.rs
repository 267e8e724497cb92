//! What an API server says to an object of a custom kind, without an API server.
//!
//! [`ApiServer`] takes `CustomResourceDefinition`s as JSON and does what the real one does with a request, in its order:
//! nulls and unknown fields are dropped, defaults filled in, the structural schema checked ([`schema`]), and then the CEL
//! rules (`x-kubernetes-validations`), with the object as it was for rules about transitions. Versions are converted by
//! strategy `None`.
//!
//! For tests and for `xtask check`; no binary of the product links it. Not covered: the cost budget of CEL, metadata,
//! formats other than numbers and times. The same cases run against a real API server in tests/e2e.

pub mod cases;
pub mod schema;

use kube_cel::Validator;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// The kinds that some definitions serve.
pub struct ApiServer {
    served: BTreeMap<(String, String), Served>,
}

struct Served {
    schema: Value,
    kind: String,
    versions: Vec<String>,
}

/// Why an object is not admitted: one sentence for each problem, with the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Refused {}

impl ApiServer {
    /// An API server with these `CustomResourceDefinition`s. What has not the shape of one serves nothing.
    pub fn new<'a>(definitions: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut served = BTreeMap::new();
        for definition in definitions {
            let spec = &definition["spec"];
            let kind = text(&spec["names"]["kind"]);
            let versions = || spec["versions"].as_array().into_iter().flatten();
            let names: Vec<String> = versions()
                .filter(|version| version["served"] == true)
                .map(|version| format!("{}/{}", text(&spec["group"]), text(&version["name"])))
                .collect();
            for version in versions() {
                let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                if names.contains(&api_version) {
                    served.insert(
                        (api_version, kind.clone()),
                        Served {
                            schema: version["schema"]["openAPIV3Schema"].clone(),
                            kind: kind.clone(),
                            versions: names.clone(),
                        },
                    );
                }
            }
        }
        ApiServer { served }
    }

    /// Every served kind with its version, as `group/version`.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        self.served
            .keys()
            .map(|(version, kind)| (version.as_str(), kind.as_str()))
    }

    /// A request to create `object`: what is stored.
    pub fn create(&self, object: &Value) -> Result<Value, Refused> {
        self.write(object, None)
    }

    /// A request to replace `old`, which is stored, by `object`: what is stored then.
    pub fn update(&self, old: &Value, object: &Value) -> Result<Value, Refused> {
        self.write(object, Some(old))
    }

    fn write(&self, object: &Value, old: Option<&Value>) -> Result<Value, Refused> {
        let served = self.find(object)?;
        let stored = prepared(object, &served.schema);
        let problems = schema::problems(&stored, &served.schema);
        if !problems.is_empty() {
            return Err(Refused(problems));
        }
        let old = match old {
            Some(old) => Some(self.read(old, text(&object["apiVersion"]).as_str())?),
            None => None,
        };
        match Validator::new().validate(&served.schema, &stored, old.as_ref()) {
            Ok(()) => Ok(stored),
            Err(errors) => Err(Refused(errors.iter().map(ToString::to_string).collect())),
        }
    }

    /// What a client sees that reads a stored object in a version (`group/version`) of its kind.
    pub fn read(&self, stored: &Value, api_version: &str) -> Result<Value, Refused> {
        let served = self.find(stored)?;
        let mut object = stored.clone();
        object["apiVersion"] = api_version.into();
        if !served.versions.iter().any(|version| version == api_version) {
            return Err(Refused(vec![format!(
                "{} is not served as {api_version}",
                served.kind
            )]));
        }
        let served = self.find(&object)?;
        Ok(prepared(&object, &served.schema))
    }

    fn find(&self, object: &Value) -> Result<&Served, Refused> {
        let key = (text(&object["apiVersion"]), text(&object["kind"]));
        self.served.get(&key).ok_or_else(|| {
            Refused(vec![format!(
                "apiVersion: no kind {:?} in version {:?}",
                key.1, key.0
            )])
        })
    }
}

/// Pruned and with defaults; metadata as it came.
fn prepared(object: &Value, schema: &Value) -> Value {
    let mut prepared = object.clone();
    schema::prune(&mut prepared, schema);
    schema::fill_defaults(&mut prepared, schema);
    if let (Some(fields), Some(metadata)) = (prepared.as_object_mut(), object.get("metadata")) {
        fields.insert("metadata".into(), metadata.clone());
    }
    prepared
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The fields of an object schema.
pub(crate) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server() -> ApiServer {
        let version = |name: &str, default: u32| {
            json!({"name": name, "served": true, "storage": name == "v2", "schema": {"openAPIV3Schema": {
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": {
                        "type": "object",
                        "required": ["size"],
                        "properties": {
                            "size": {"type": "integer", "minimum": 1, "x-kubernetes-validations": [
                                {"rule": "self % 2 == 0", "message": "size must be even"},
                                {"rule": "self >= oldSelf", "message": "size cannot shrink"},
                            ]},
                            "colour": {"type": "string", "enum": ["red", "blue"]},
                            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 3}},
                            "port": {"type": "integer", "default": default},
                            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        },
                    },
                },
            }}})
        };
        ApiServer::new([&json!({"spec": {
            "group": "example.com",
            "names": {"kind": "Box"},
            "versions": [version("v1", 1), version("v2", 2)],
        }})])
    }

    fn object(spec: &Value) -> Value {
        json!({"apiVersion": "example.com/v2", "kind": "Box", "metadata": {"name": "b", "labels": {"x": "y"}}, "spec": spec})
    }

    #[test]
    fn an_object_is_pruned_defaulted_and_judged() {
        let server = server();
        let stored = server
            .create(&object(
                &json!({"size": 2, "new": 1, "any": {"kept": true}, "colour": null}),
            ))
            .unwrap();
        assert_eq!(
            stored["spec"],
            json!({"size": 2, "port": 2, "any": {"kept": true}})
        );
        assert_eq!(stored["metadata"]["labels"]["x"], "y");

        for (spec, expected) in [
            (json!({"size": 3}), "spec.size: size must be even"),
            (json!({}), "spec.size: Required value"),
            (
                json!({"size": 0}),
                "spec.size: should be greater than or equal to 1",
            ),
            (json!({"size": "2"}), "spec.size: must be of type integer"),
            (
                json!({"size": 2, "colour": "green"}),
                "spec.colour: Unsupported value",
            ),
            (
                json!({"size": 2, "tags": ["a", "a"]}),
                "spec.tags[1]: Duplicate value",
            ),
            (json!({"size": 2, "tags": ["abcd"]}), "spec.tags[0]: Too long"),
        ] {
            let error = server.create(&object(&spec)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn transitions_are_judged_against_the_old_object() {
        let server = server();
        let old = server.create(&object(&json!({"size": 4}))).unwrap();
        assert!(server.update(&old, &object(&json!({"size": 6}))).is_ok());
        let error = server.update(&old, &object(&json!({"size": 2}))).unwrap_err();
        assert_eq!(error.to_string(), "spec.size: size cannot shrink");
    }

    #[test]
    fn versions_differ_in_their_name_and_defaults() {
        let server = server();
        let stored = server.create(&object(&json!({"size": 2}))).unwrap();
        let old = server.read(&stored, "example.com/v1").unwrap();
        assert_eq!(
            (&old["apiVersion"], &old["spec"]["port"]),
            (&json!("example.com/v1"), &json!(2))
        );
        assert!(server.read(&stored, "example.com/v3").is_err());
        assert!(
            server
                .create(&json!({"apiVersion": "v1", "kind": "Box"}))
                .is_err()
        );
    }
}
