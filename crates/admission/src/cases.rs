//! Cases as data: what an API server should say to an object. The same files are run here and against a real one.

use serde_json::{Map, Value, json};

/// One case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What is tried, in words.
    pub name: String,
    /// The object to create, complete; to replace [`Case::old`] with when there is one.
    pub object: Value,
    /// The object that is there already.
    pub old: Option<Value>,
    /// Whether it is admitted.
    pub admitted: bool,
    /// Part of the refusal.
    pub message_contains: Option<String>,
}

/// Reads a file of cases, `{apiVersion, kind, cases: [...]}`: version and kind of the file are those of each case that has no
/// others, and metadata is made up (`case-1`, in `namespace`). The error names the case.
pub fn read(file: &Value, namespace: &str) -> Result<Vec<Case>, String> {
    let Some(cases) = file["cases"].as_array() else {
        return Err("no list of cases".into());
    };
    let read = |(i, case): (usize, &Value)| {
        let name = case["name"].as_str().map(ToOwned::to_owned);
        let whole = |part: &Value| -> Option<Value> {
            let mut object = Map::new();
            for key in ["apiVersion", "kind"] {
                let value = [part, case, file].into_iter().find_map(|level| level.get(key))?;
                object.insert(key.into(), value.clone());
            }
            let metadata = json!({"name": format!("case-{}", i + 1), "namespace": namespace});
            object.insert("metadata".into(), metadata);
            object.extend(part.as_object()?.clone());
            Some(Value::Object(object))
        };
        let read = || {
            Some(Case {
                name: name.clone()?,
                object: whole(case.get("object")?)?,
                old: match case.get("old") {
                    Some(old) => Some(whole(old)?),
                    None => None,
                },
                admitted: case["admitted"].as_bool()?,
                message_contains: case["message_contains"].as_str().map(ToOwned::to_owned),
            })
        };
        read().ok_or_else(|| {
            let name = name.as_deref().unwrap_or("without a name");
            format!(
                "case {} ({name}): needs name, admitted, object, apiVersion and kind",
                i + 1
            )
        })
    };
    cases.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_leaves_out_is_what_the_file_says() {
        let file = json!({"apiVersion": "g/v1", "kind": "K", "cases": [
            {"name": "a", "admitted": true, "object": {"spec": 1}},
            {"name": "b", "admitted": false, "message_contains": "m", "apiVersion": "g/v2", "object": {}, "old": {"spec": 2}},
        ]});
        let cases = read(&file, "ns").unwrap();
        assert_eq!(
            cases[0].object,
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "case-1", "namespace": "ns"}, "spec": 1})
        );
        assert_eq!(cases[1].object["apiVersion"], "g/v2");
        assert_eq!(cases[1].old.as_ref().unwrap()["spec"], 2);
        assert_eq!(cases[1].message_contains.as_deref(), Some("m"));
    }

    #[test]
    fn a_case_that_cannot_be_read_is_named() {
        let file = json!({"apiVersion": "g/v1", "kind": "K", "cases": [{"name": "half", "object": {}}]});
        assert!(read(&file, "ns").unwrap_err().contains("case 1 (half)"));
        assert!(read(&json!({}), "ns").is_err());
    }
}
