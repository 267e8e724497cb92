//! Pieces of schema that several kinds share.
//!
//! That no entry of a list is there twice is for the allocator to say, here as everywhere. A list of type `set` or `map` would
//! refuse repeated entries, but after an upgrade from MetalLB's definitions, whose lists are atomic, server-side apply no longer
//! removes entries from it, and it takes no list of objects as a set; comparing each with each exceeds the budget of CEL at a
//! few hundred entries.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Status of a configuration object (pool, advertisement, peer, profile, community).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Whether the object is in force as written: type `Valid`, with a reason and a sentence that says what to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The spec that was last valid. It stays in force while the present one is not, so that a mistake in an edit takes no
    /// address away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub last_valid_spec: Option<Value>,
}

/// Conditions with the bounds of the API server's own condition type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "What the condition is about.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "description": "Whether it holds.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "The metadata.generation that was looked at; older than the object's means not looked at yet.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, in one CamelCase word.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, in a sentence, and what to do.",
                    "type": "string",
                    "maxLength": 32768,
                },
            },
        },
    })
}

/// An object whose fields are kept as they are.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A duration in Go's notation, such as `90s` or `1m30s`, with rules beyond that it is one.
pub(crate) fn duration_with(more: &[Value]) -> Schema {
    let mut rules = vec![json!({
        "rule": format!("self.matches('{DURATION}')"),
        "message": "must be a duration such as 90s, 1m30s or 500ms",
    })];
    rules.extend_from_slice(more);
    json_schema!({"type": "string", "x-kubernetes-validations": rules})
}

/// What Go's `time.ParseDuration` reads, up to overflow.
const DURATION: &str = r"^[-+]?(0|(([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// Whether CEL's `a` is an IP address as Go's `net.ParseIP` reads it. `isIP` alone refuses IPv4-mapped ones, which Go takes;
/// their last word is left to the allocator.
pub(crate) fn is_ip(a: &str) -> String {
    format!("(isIP({a}) || {a}.matches('^[0:]+[fF]{{4}}:'))")
}

/// Whether CEL's `a` is a prefix as Go's `net.ParseCIDR` reads it. `isCIDR` alone refuses IPv4-mapped ones and lengths with
/// leading zeros, which Go takes; of those only the form is looked at.
pub(crate) fn is_cidr(a: &str) -> String {
    const DIGITS: &str = "[0-9A-Fa-f.:]+";
    format!("(isCIDR({a}) || {a}.matches('^([0:]+[fF]{{4}}:{DIGITS}/|{DIGITS}/0)[0-9]+$'))")
}

/// An IP address, or nothing.
pub(crate) fn ip_or_empty(field: &str, example: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "x-kubernetes-validations": [{
            "rule": format!("self == '' || {}", is_ip("self")),
            "message": format!("{field} must be an IP address such as {example}"),
        }],
    })
}

/// Addresses of a pool: prefixes and ranges.
pub(crate) fn addresses(_: &mut SchemaGenerator) -> Schema {
    // Bounded because a rule looks at each element, and the API server prices rules by the longest possible list. That a
    // range runs upwards and that entries do not overlap is beyond CEL; the allocator says so in the status.
    let range = format!(
        "[self.substring(0, self.indexOf('-')), self.substring(self.indexOf('-') + 1)].all(a, {})",
        is_ip("a.trim()")
    );
    let prefix = is_cidr("self");
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 8192,
        "items": {
            "type": "string",
            "maxLength": 128,
            "x-kubernetes-validations": [{
                "rule": format!("self.contains('-') ? {range} : {prefix}"),
                "message": "each entry of addresses must be a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20; a single address is written 192.0.2.10/32 (IPv6: /128)",
            }],
        },
    })
}

/// Communities of an advertisement: values, or names of Community objects. What has a colon is a value.
pub(crate) fn communities(_: &mut SchemaGenerator) -> Schema {
    communities_of_at_most(1024)
}

/// The same with another bound: the API server prices a rule by the longest possible list of lists.
pub(crate) fn communities_of_at_most(most: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "items": {
            "type": "string",
            "maxLength": 128,
            "x-kubernetes-validations": [{
                "rule": format!("!self.contains(':') || ({})", is_community("self")),
                "message": COMMUNITY,
            }],
        },
    })
}

/// What a value of a community must be, for people.
pub(crate) const COMMUNITY: &str = "a community is two numbers up to 65535 such as 65000:100, or large: and three numbers up to 4294967295 such as large:65000:1:2";

/// Whether CEL's `a` is a value of a community. Patterns, because the API server prices `split` by the longest string.
pub(crate) fn is_community(a: &str) -> String {
    const U16: &str = "0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    const U32: &str = "0*([0-9]{1,9}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|42949672[0-8][0-9]|429496729[0-5])";
    format!("{a}.matches('^{U16}:{U16}$') || {a}.matches('^large(:{U32}){{3}}$')")
}

/// Label selectors, of which one match is enough.
pub(crate) fn selectors(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 512,
        "items": selector(generator),
    })
}

/// One label selector.
pub(crate) fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Matches what has all of matchLabels and meets all of matchExpressions; an empty one matches everything.",
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that must be there with these values.",
                "type": "object",
                "additionalProperties": {"description": "The value.", "type": "string"},
            },
            "matchExpressions": {
                "description": "Conditions on labels, all of which must hold.",
                "type": "array",
                "maxItems": 128,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "description": "A condition on one label.",
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "The label.", "type": "string"},
                        "operator": {
                            "description": "In and NotIn compare with values; Exists and DoesNotExist take none.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values to compare with: one at least for In and NotIn, none for Exists and DoesNotExist.",
                            "type": "array",
                            "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string"},
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
                        "message": "In and NotIn need values; Exists and DoesNotExist take none",
                    }],
                },
            },
        },
    })
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
pub(crate) fn is_zero(value: &u32) -> bool {
    *value == 0
}
