//! The alerts of the chart are those that the operator makes, word for word: dashboards and runbooks know them by these.

use metallb_api::MetalLBSpec;
use metallb_charts::Helm;
use metallb_render::{Images, Installation, Installer, Kind, Object, Ports, operands};
use serde_json::{Value, json};

fn rules(objects: &[Value]) -> Value {
    let mut all = objects
        .iter()
        .filter(|object| object["kind"] == Kind::PrometheusRule.name());
    let rule = all.next().expect("there is a PrometheusRule");
    assert!(all.next().is_none(), "there is one");
    rule["spec"]["groups"][0]["rules"].clone()
}

#[test]
#[ignore = "runs Helm"]
fn the_chart_and_the_operator_alert_alike() {
    let helm = Helm::new().unwrap();
    // The flavour of BGP decides the prefix of its metrics.
    for (backend, values) in [
        ("native", "frrk8s.enabled=false"),
        ("frr", "frrk8s.enabled=false,speaker.frr.enabled=true"),
        ("frr-k8s", "frrk8s.enabled=true"),
    ] {
        let values = format!(
            "prometheus.prometheusRule.enabled=true,\
             prometheus.prometheusRule.addressPoolExhausted.excludePools=lab-.*,\
             prometheus.prometheusRule.addressPoolUsage.excludePools=lab-.*,{values}"
        );
        let chart = rules(&helm.template("metallb-system", &["--set", &values]).unwrap());
        let spec: MetalLBSpec = serde_json::from_value(json!({
            "bgpBackend": backend,
            "metrics": {"alerts": {"enabled": true, "excludePools": "lab-.*"}},
        }))
        .unwrap();
        let installation = Installation {
            namespace: "metallb-system".into(),
            images: Images {
                controller: "c".into(),
                speaker: "s".into(),
            },
            ports: Ports::default(),
            installer: Installer::Manifests,
        };
        let objects: Vec<Value> = operands(&spec, &installation)
            .iter()
            .map(Object::to_value)
            .collect();
        assert_eq!(chart, rules(&objects), "{backend}");
    }
}
