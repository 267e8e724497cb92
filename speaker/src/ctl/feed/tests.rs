use metallb_election::Rules;
use metallb_model::Kind as ConfigKind;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::ctl::configuration::tests::object;

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn service(version: &str) -> thin::Service {
    from(json!({
        "metadata": {"namespace": "d", "name": "web", "uid": "u", "resourceVersion": version},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}},
    }))
}

fn slice(version: &str) -> thin::EndpointSlice {
    from(json!({
        "metadata": {
            "namespace": "d", "name": "web-1", "resourceVersion": version,
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [{"nodeName": "n1"}],
    }))
}

fn node(name: &str, version: &str, spec: &Value) -> thin::Node {
    from(json!({
        "metadata": {"name": name, "resourceVersion": version},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{}", &name[1..])}],
        },
    }))
}

fn pod(name: &str, node: &str, ours: bool, ready: bool) -> thin::Pod {
    let labels = if ours {
        json!({"component": "speaker", "metallb.io/engine": "rust"})
    } else {
        json!({"component": "speaker"})
    };
    from(json!({
        "metadata": {"namespace": "m", "name": name, "uid": name, "resourceVersion": "50", "labels": labels},
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.0.{}", &node[1..]),
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    }))
}

/// Lists these objects of a watch.
fn list<K>(feed: &mut Feed, seen: fn(Event<K>) -> Seen, objects: Vec<K>) {
    feed.take(seen(Event::Init));
    for object in objects {
        feed.take(seen(Event::InitApply(object)));
    }
    feed.take(seen(Event::InitDone));
}

/// Two nodes with speakers of ours, one service on one pool.
fn feed() -> Feed {
    let planner = Planner::with_rules(Rules {
        shun: true,
        ..Rules::default()
    });
    let mut feed = Feed::new(Arc::new(Mutex::new(planner)), "m", "speaker-1", "", Some(7946));
    list(&mut feed, Seen::Service, vec![service("10")]);
    list(&mut feed, Seen::Slice, vec![slice("20")]);
    let nodes = ["n1", "n2"].map(|name| node(name, "30", &json!({})));
    list(&mut feed, Seen::Node, nodes.into());
    let pods = vec![
        pod("speaker-1", "n1", true, true),
        pod("speaker-2", "n2", true, true),
    ];
    list(&mut feed, Seen::Pod, pods);
    for kind in ConfigKind::ALL {
        feed.take(Seen::Configuration(ConfigEvent::ListStarted(kind)));
        let spec = match kind {
            ConfigKind::IpAddressPool => json!({"addresses": ["192.0.2.0/24"]}),
            ConfigKind::L2Advertisement => json!({}),
            _ => Value::Null,
        };
        if !spec.is_null() {
            let object = object(kind, "all", spec);
            feed.take(Seen::Configuration(ConfigEvent::Found(Box::new(object))));
        }
        feed.take(Seen::Configuration(ConfigEvent::ListDone(kind)));
    }
    assert!(feed.synced());
    feed
}

/// The one directive that follows: its version, its candidates and whether Go's speakers announce it.
fn one(feed: &mut Feed) -> (u64, Vec<String>, bool) {
    let (directives, _) = feed.settle();
    let [directive] = &directives[..] else {
        panic!("{directives:?}")
    };
    let eligibility = directive.plan.as_ref().map(|plan| Arc::clone(&plan.eligibility));
    let names = eligibility.iter().flat_map(|e| e.candidates.keys());
    (
        directive.version,
        names.map(ToString::to_string).collect(),
        eligibility.as_ref().is_some_and(|e| e.go),
    )
}

#[test]
fn plans_are_as_fresh_as_what_they_follow_from() {
    let mut feed = feed();
    let both = vec!["n1".to_owned(), "n2".to_owned()];
    assert_eq!(
        one(&mut feed),
        (30, both.clone(), false),
        "the nodes are the freshest"
    );
    // A heartbeat of a node makes no plan fresher.
    feed.take(Seen::Node(Event::Apply(node("n1", "60", &json!({})))));
    assert!(feed.settle().0.is_empty());
    let taint = json!({"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]});
    let cordon = json!({"unschedulable": true});
    feed.take(Seen::Node(Event::Apply(node("n1", "70", &taint))));
    assert_eq!(one(&mut feed), (70, vec!["n2".to_owned()], false));
    feed.take(Seen::Node(Event::Apply(node("n1", "80", &cordon))));
    assert_eq!(
        one(&mut feed),
        (80, both, false),
        "cordoned comes last, and is there"
    );
    feed.take(Seen::Service(Event::Delete(service("90"))));
    assert_eq!(one(&mut feed), (90, Vec::new(), false));
    // A list tells that something is gone, not when.
    feed.take(Seen::Service(Event::Apply(service("100"))));
    one(&mut feed);
    list(&mut feed, Seen::Service, Vec::new());
    assert_eq!(one(&mut feed).0, 101);
}

#[test]
fn speakers_of_go_metallb_come_first() {
    let mut feed = feed();
    one(&mut feed);
    assert_eq!(feed.peers().expect("listed").len(), 2);
    assert!(feed.strangers().is_empty());
    // The DaemonSet is rolled back: Go's speaker starts on n2.
    feed.take(Seen::Pod(Event::Delete(pod("speaker-2", "n2", true, true))));
    feed.take(Seen::Pod(Event::Apply(pod("speaker-3", "n2", false, false))));
    assert!(feed.settle().0.is_empty(), "not ready yet");
    feed.take(Seen::Pod(Event::Apply(pod("speaker-3", "n2", false, true))));
    assert_eq!(one(&mut feed), (50, vec!["n2".to_owned()], true));
    let peers = feed.peers().expect("changed");
    assert_eq!(peers.keys().map(|node| &**node).collect::<Vec<_>>(), ["n1"]);
    let stranger: IpAddr = "10.0.0.2".parse().expect("an address");
    assert_eq!(feed.strangers(), BTreeSet::from([stranger]));
    feed.take(Seen::Pod(Event::Delete(pod("speaker-3", "n2", false, true))));
    assert!(!one(&mut feed).2, "the last of them went");
}

/// Whoever made pods of his own without the label has speakers all the same.
#[test]
fn without_a_label_of_our_own_there_is_no_telling() {
    let planner = Planner::default();
    let mut feed = Feed::new(Arc::new(Mutex::new(planner)), "m", "speaker-1", "", Some(7946));
    let pods = vec![
        pod("speaker-1", "n1", false, true),
        pod("speaker-2", "n2", false, true),
    ];
    list(&mut feed, Seen::Pod, pods);
    assert_eq!(feed.peers().expect("listed").len(), 2);
    assert!(feed.go.is_empty());
}
