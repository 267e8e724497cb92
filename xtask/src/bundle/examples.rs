//! One example of every kind and version, complete enough to be created as it is: a console fills its forms with them.

use metallb_api::names::objects;
use serde_json::{Value, json};

/// The examples, the first one being the installation itself.
pub(crate) fn examples() -> Vec<Value> {
    vec![
        example(
            "v1beta1",
            "MetalLB",
            objects::METALLB,
            &json!({"logLevel": "info"}),
        ),
        example(
            "v1beta1",
            "IPAddressPool",
            "lan",
            &json!({"addresses": ["192.168.124.200-192.168.124.250"], "autoAssign": true}),
        ),
        example(
            "v1beta1",
            "L2Advertisement",
            "lan",
            &json!({"ipAddressPools": ["lan"]}),
        ),
        example(
            "v1beta1",
            "BGPAdvertisement",
            "routers",
            &json!({"ipAddressPools": ["lan"], "peers": ["router"], "communities": ["no-advertise"]}),
        ),
        example(
            "v1beta1",
            "BGPPeer",
            "router-v1beta1",
            &json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.168.124.2"}),
        ),
        example(
            "v1beta2",
            "BGPPeer",
            "router",
            &json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.168.124.1", "bfdProfile": "fast"}),
        ),
        example(
            "v1beta1",
            "BFDProfile",
            "fast",
            &json!({"receiveInterval": 100, "transmitInterval": 100, "detectMultiplier": 3}),
        ),
        example(
            "v1beta1",
            "Community",
            "names",
            &json!({"communities": [{"name": "no-advertise", "value": "65535:65282"}]}),
        ),
        example(
            "v1alpha1",
            "AddressPool",
            "old-v1alpha1",
            &json!({"protocol": "layer2", "addresses": ["192.168.124.160-192.168.124.169"]}),
        ),
        example(
            "v1beta1",
            "AddressPool",
            "old",
            &json!({"protocol": "layer2", "addresses": ["192.168.124.170-192.168.124.179"]}),
        ),
        written(
            "ServiceL2Status",
            "l2-example",
            json!({"node": "node-1", "serviceName": "web", "serviceNamespace": "default", "interfaces": [{"name": "eth0"}]}),
        ),
        written(
            "ServiceBGPStatus",
            "bgp-example",
            json!({"node": "node-1", "serviceName": "web", "serviceNamespace": "default", "peers": ["router"]}),
        ),
        written(
            "ConfigurationState",
            objects::CONTROLLER,
            json!({"result": "Valid"}),
        ),
    ]
}

fn example(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("metallb.io/{version}"),
        "kind": kind,
        "metadata": {"name": name, "namespace": objects::DEFAULT_NAMESPACE},
        "spec": spec,
    })
}

/// Of a kind that components write: nobody creates one, so it shows what is found in it.
fn written(kind: &str, name: &str, status: Value) -> Value {
    let mut object = example("v1beta1", kind, name, &json!({}));
    object["status"] = status;
    object
}
