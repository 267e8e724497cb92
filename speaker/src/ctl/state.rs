//! The page `/state`: for each service who owns it, and why not me.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use metallb_election::Standing;
use metallb_l2::MacAddr;
use metallb_speaker_core::{Planner, ServiceReport};
use serde::Serialize;

use crate::wire::{LinkReport, Reporter, Snapshot};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    node: &'a str,
    members: BTreeMap<&'a str, String>,
    interfaces: &'a [LinkReport],
    services: Vec<Announced<'a>>,
    not_announced: Vec<NotAnnounced>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Announced<'a> {
    service: &'a str,
    addresses: &'a [IpAddr],
    owner: Option<&'a str>,
    /// Speakers of Go `MetalLB` announce it; which of them, they know.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    go_speakers: bool,
    /// This node owns it, but its Leases do not let it answer (--l2-strict).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waits_for_lease: bool,
    /// Who answers in the owner's name while the owner's speaker is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    stand_in: Option<&'a str>,
    /// How this node stands.
    me: String,
    /// How every node stands.
    nodes: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    liveness_ignored: bool,
    /// No live candidate has a usable interface, so nobody can answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usability_ignored: bool,
    /// Stations outside the cluster that claimed one of the addresses within the last minute.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    conflicts: BTreeMap<IpAddr, Vec<String>>,
    /// When this node owns it: of each address, that it is answered for, or why not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    answers: BTreeMap<IpAddr, &'static str>,
    /// When this node owns it: the interfaces that it can answer on.
    #[serde(skip_serializing_if = "Option::is_none")]
    interfaces: Option<Vec<&'a str>>,
}

#[derive(Serialize)]
struct NotAnnounced {
    service: String,
    reason: &'static str,
    message: String,
}

/// The page as JSON.
pub(super) fn page(node: &str, planner: &Mutex<Planner>, reporter: &Reporter) -> String {
    let Some(snapshot) = reporter.snapshot() else {
        return r#"{"error":"the wire thread does not answer"}"#.to_owned();
    };
    let not_announced = planner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .outcomes()
        .filter_map(|(key, refusal)| {
            refusal.map(|refusal| NotAnnounced {
                service: key.to_string(),
                reason: refusal.reason(),
                message: refusal.to_string(),
            })
        })
        .collect();
    render(node, &snapshot, not_announced)
}

fn render(node: &str, snapshot: &Snapshot, not_announced: Vec<NotAnnounced>) -> String {
    let members = snapshot.members.iter().map(|member| {
        let state = member.state.map_or_else(
            || "myself".to_owned(),
            |state| format!("{state:?}").to_lowercase(),
        );
        (&*member.node, state)
    });
    let page = Page {
        node,
        members: members.collect(),
        interfaces: &snapshot.links,
        services: snapshot
            .services
            .iter()
            .map(|report| service(node, report, &snapshot.conflicts))
            .collect(),
        not_announced,
    };
    serde_json::to_string_pretty(&page).unwrap_or_else(|error| format!(r#"{{"error":"{error}"}}"#)) + "\n"
}

fn service<'a>(
    node: &str,
    report: &'a ServiceReport,
    conflicts: &BTreeMap<IpAddr, Vec<MacAddr>>,
) -> Announced<'a> {
    let owned = report.owner.as_deref() == Some(node);
    let me = report
        .standings
        .get(node)
        .map_or_else(|| "unknownNode".to_owned(), describe);
    Announced {
        service: report.service.as_str(),
        addresses: &report.addresses,
        owner: report.owner.as_deref(),
        go_speakers: report.go,
        waits_for_lease: report.waits_for_lease,
        stand_in: report
            .acting
            .as_deref()
            .filter(|acting| report.owner.as_deref() != Some(acting)),
        me,
        nodes: report
            .standings
            .iter()
            .map(|(name, standing)| (&**name, describe(standing)))
            .collect(),
        liveness_ignored: report.liveness_ignored,
        usability_ignored: report.usability_ignored,
        conflicts: report
            .addresses
            .iter()
            .filter_map(|address| Some((*address, conflicts.get(address)?)))
            .map(|(address, macs)| (address, macs.iter().map(ToString::to_string).collect()))
            .collect(),
        answers: report
            .answered
            .iter()
            .map(|address| (*address, "answered"))
            .chain(
                report
                    .unanswered
                    .iter()
                    .map(|(address, why)| (*address, why.reason())),
            )
            .collect(),
        interfaces: owned.then(|| report.interfaces.iter().map(|name| &**name).collect()),
    }
}

fn describe(standing: &Standing) -> String {
    match standing {
        Standing::Standby { place } => format!("{} (place {place} behind the owner)", standing.reason()),
        Standing::OwnerDespite(why) => format!("{} (although {})", standing.reason(), why.reason()),
        _ => standing.reason().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use metallb_speaker_core::{ServiceKey, Unanswered};
    use serde_json::{Value, json};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn report(owner: &str) -> ServiceReport {
        let unanswered = [
            ("192.0.2.11", Unanswered::Probing),
            ("192.0.2.12", Unanswered::Conflict),
            ("2001:db8::10", Unanswered::NoInterface),
        ];
        ServiceReport {
            service: ServiceKey::new("default", "web"),
            addresses: [ip("192.0.2.10")].into(),
            owner: Some(owner.into()),
            go: false,
            answered: vec![ip("192.0.2.10")],
            unanswered: unanswered
                .map(|(address, why)| (ip(address), why))
                .into_iter()
                .collect(),
            waits_for_lease: false,
            acting: Some(owner.into()),
            standings: BTreeMap::new(),
            liveness_ignored: false,
            usability_ignored: false,
            interfaces: Vec::new(),
            restriction: None,
        }
    }

    /// Each address says whether it is answered for, or why not.
    #[test]
    fn the_page_tells_of_each_address() {
        let snapshot = Snapshot {
            services: vec![report("n1")],
            ..Snapshot::default()
        };
        let page: Value = serde_json::from_str(&render("n1", &snapshot, Vec::new())).expect("JSON");
        assert_eq!(
            page["services"][0]["answers"],
            json!({
                "192.0.2.10": "answered",
                "192.0.2.11": "probing",
                "192.0.2.12": "addressConflict",
                "2001:db8::10": "noUsableInterface",
            })
        );
    }
}
