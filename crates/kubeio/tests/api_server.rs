//! Watches against an API server that goes away, comes back, refuses and learns new kinds.

mod fake;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use fake::{DEADLINE, Fake, Reply, expired, listed};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use metallb_kubeio::{
    ConfigEvent, Event, EventKind, EventSink, WatchConfig, thin, watch, watch_configuration,
};
use metallb_model::Kind;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Each watch that completed a list, by index.
fn lists(fake: &Fake) -> mpsc::UnboundedReceiver<usize> {
    let (done, lists) = mpsc::unbounded_channel();
    let client = || fake.client.clone();
    let config = WatchConfig::default;
    let all = [
        watch("namespaces", Api::<thin::Namespace>::all(client()), config())
            .map(is_done)
            .boxed(),
        watch("nodes", Api::<thin::Node>::all(client()), config())
            .map(is_done)
            .boxed(),
        watch("services", Api::<thin::Service>::all(client()), config())
            .map(is_done)
            .boxed(),
        watch("pods", Api::<thin::Pod>::all(client()), config())
            .map(is_done)
            .boxed(),
    ];
    for (index, mut events) in all.into_iter().enumerate() {
        let done = done.clone();
        tokio::spawn(async move {
            while let Some(is_done) = events.next().await {
                if is_done && done.send(index).is_err() {
                    return;
                }
            }
        });
    }
    lists
}

#[expect(clippy::needless_pass_by_value, reason = "mapped over a stream")]
fn is_done<K>(event: Event<K>) -> bool {
    matches!(event, Event::InitDone)
}

async fn each_once(lists: &mut mpsc::UnboundedReceiver<usize>) {
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        let index = tokio::time::timeout(DEADLINE, lists.recv())
            .await
            .expect("in time");
        seen.insert(index.expect("the watches run"));
    }
}

#[tokio::test]
async fn an_outage_ends_for_all_watches_together() {
    let fake = Fake::start(|_, query| {
        if query.contains("sendInitialEvents=true") {
            listed(&[])
        } else {
            expired()
        }
    })
    .await;
    let mut lists = lists(&fake);
    each_once(&mut lists).await;
    fake.go_away();
    // Until the pauses have grown to their full length.
    let grown = async {
        while fake.attempts() < 8 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, grown)
        .await
        .expect("somebody asks");
    fake.come_back();
    let back = std::time::Instant::now();
    each_once(&mut lists).await;
    println!(
        "all four watches listed again {:?} after the return",
        back.elapsed()
    );
}

fn pool(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "metallb.io/v1beta1", "kind": kind,
        "metadata": {"name": name, "namespace": "m", "uid": name, "resourceVersion": "9"},
        "spec": {"addresses": ["192.0.2.0/24"]}})
}

#[tokio::test]
async fn configuration_of_whoever_may_read_only_its_own_namespace() {
    let installed = Arc::new(AtomicBool::new(false));
    let served = Arc::clone(&installed);
    let queries = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&queries);
    let fake = Fake::start(move |path, query| {
        asked.lock().expect("unpoisoned").push(format!("{path}?{query}"));
        let own = path.contains("/namespaces/m/");
        let kind = path.rsplit('/').next().unwrap_or_default();
        match (kind, own) {
            ("addresspools", _) if !served.load(Ordering::SeqCst) => Reply::Refuse(404),
            (_, false) => Reply::Refuse(403),
            ("ipaddresspools", _) => listed(&[pool("IPAddressPool", "new")]),
            ("addresspools", _) => listed(&[pool("AddressPool", "old")]),
            ("configmaps", _) => listed(&[json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "config", "namespace": "m", "resourceVersion": "9"},
                "data": {"config": "address-pools: []\n"}})]),
            _ => listed(&[]),
        }
    })
    .await;
    let mut events = watch_configuration(fake.client.clone(), "m");
    let mut next = async || {
        tokio::time::timeout(DEADLINE, events.next())
            .await
            .expect("in time")
            .expect("endless")
    };
    let (mut done, mut found) = (BTreeSet::new(), BTreeSet::new());
    while done.len() < Kind::ALL.len() {
        match next().await {
            ConfigEvent::ListDone(kind) => {
                done.insert(kind);
            }
            ConfigEvent::Found(object) => {
                found.insert(object.object.to_string());
            }
            ConfigEvent::ListStarted(_) | ConfigEvent::Gone { .. } => {}
        }
    }
    assert_eq!(
        found,
        BTreeSet::from(["ConfigMap m/config".to_owned(), "IPAddressPool m/new".to_owned()])
    );
    installed.store(true, Ordering::SeqCst);
    let later = loop {
        if let ConfigEvent::Found(object) = next().await {
            break object.object.to_string();
        }
    };
    assert_eq!(later, "AddressPool m/old");
    let queries = queries.lock().expect("unpoisoned");
    let one = queries
        .iter()
        .find(|query| query.contains("configmaps"))
        .expect("asked");
    assert!(one.contains("fieldSelector=metadata.name%3Dconfig"), "{one}");
    assert!(
        queries
            .iter()
            .filter(|query| query.contains("configmaps"))
            .all(|query| query.contains("/namespaces/m/")),
        "never those of others"
    );
}

#[tokio::test]
async fn events_are_written_before_a_process_ends_or_it_is_told_that_they_are_not() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let fake = Fake::start(move |path, _| {
        assert_eq!(path, "/api/v1/namespaces/d/events");
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Object(
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {}}),
        )
    })
    .await;
    let sink = EventSink::start(fake.client.clone(), "metallb-speaker", "n1");
    let publish = |reason: &str| {
        let about = ObjectReference {
            kind: Some("Service".into()),
            namespace: Some("d".into()),
            name: Some("s".into()),
            ..ObjectReference::default()
        };
        sink.publish(about, EventKind::Normal, reason, "message");
    };
    for reason in ["nodeAssigned", "announceFailed", "nodeAssigned"] {
        publish(reason);
    }
    assert!(sink.flush(DEADLINE).await);
    assert_eq!(written.load(Ordering::SeqCst), 2, "a repeat is folded");
    fake.go_away();
    publish("lost");
    assert!(!sink.flush(std::time::Duration::from_millis(100)).await);
}
