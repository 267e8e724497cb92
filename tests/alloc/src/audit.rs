//! What a controller asked of the API server, by the API server's own log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Requests by what they were for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Writes of a service's status.
    pub service_status: u64,
    /// Events written.
    pub events: u64,
    /// Reads and writes of Leases.
    pub leases: u64,
    /// Other writes, by `verb resource`.
    pub other_writes: BTreeMap<String, u64>,
    /// Lists, gets and watches.
    pub reads: u64,
}

impl Requests {
    /// All together.
    pub fn total(&self) -> u64 {
        self.service_status + self.events + self.leases + self.reads + self.other_writes.values().sum::<u64>()
    }

    /// All writes but Leases and Events.
    pub fn writes(&self) -> u64 {
        self.service_status + self.other_writes.values().sum::<u64>()
    }

    /// What came after an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut other_writes = self.other_writes.clone();
        for (what, count) in &earlier.other_writes {
            if let Some(now) = other_writes.get_mut(what) {
                *now -= count;
            }
        }
        other_writes.retain(|_, count| *count > 0);
        Self {
            service_status: self.service_status - earlier.service_status,
            events: self.events - earlier.events,
            leases: self.leases - earlier.leases,
            other_writes,
            reads: self.reads - earlier.reads,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(default)]
    object_ref: Object,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
}

/// The log, read as far as it has been written. The API server's policy lets controllers into it alone.
pub struct Audit {
    log: PathBuf,
    read: u64,
    requests: Requests,
}

impl Audit {
    /// Nothing is read yet.
    pub fn new(log: PathBuf) -> Self {
        Self {
            log,
            read: 0,
            requests: Requests::default(),
        }
    }

    /// All that was asked up to now. Reads only what is new: the log of a benchmark has tens of megabytes.
    ///
    /// # Errors
    /// The log cannot be read, or holds something else.
    pub fn count(&mut self) -> Result<Requests> {
        let context = || format!("read {}", self.log.display());
        let mut file = File::open(&self.log).with_context(context)?;
        file.seek(SeekFrom::Start(self.read)).with_context(context)?;
        let mut reader = BufReader::new(file);
        let mut text = String::new();
        loop {
            text.clear();
            let length = reader.read_line(&mut text).with_context(context)?;
            // The last line may be half written.
            if !text.ends_with('\n') {
                return Ok(self.requests.clone());
            }
            let line = serde_json::from_str::<Line>(&text)
                .with_context(|| format!("understand {} at byte {}", self.log.display(), self.read))?;
            add(&mut self.requests, &line);
            self.read += length as u64;
        }
    }
}

fn add(requests: &mut Requests, line: &Line) {
    // A watch is logged when it begins and when it ends.
    let first = if line.verb == "watch" {
        "ResponseStarted"
    } else {
        "ResponseComplete"
    };
    if line.stage != first {
        return;
    }
    let object = &line.object_ref;
    let read = matches!(line.verb.as_str(), "get" | "list" | "watch");
    match (object.resource.as_str(), object.subresource.as_str()) {
        ("leases", _) => requests.leases += 1,
        _ if read => requests.reads += 1,
        ("events", _) => requests.events += 1,
        ("services", "status") => requests.service_status += 1,
        (resource, sub) => {
            let slash = if sub.is_empty() { "" } else { "/" };
            let what = format!("{} {resource}{slash}{sub}", line.verb);
            *requests.other_writes.entry(what).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_growing_log_is_read_once() {
        let path = std::env::temp_dir().join(format!("audit-{}.log", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut audit = Audit::new(path.clone());
        assert_eq!(audit.count().unwrap(), Requests::default());
        let line = r#"{"stage":"ResponseComplete","verb":"create","objectRef":{"resource":"events"}}"#;
        let (half, rest) = line.split_at(30);
        write!(file, "{line}\n{half}").unwrap();
        assert_eq!(audit.count().unwrap().events, 1, "half a line waits for its end");
        writeln!(file, "{rest}").unwrap();
        assert_eq!(audit.count().unwrap().events, 2);
        assert_eq!(audit.count().unwrap().events, 2, "nothing is counted twice");
        writeln!(file, "junk").unwrap();
        assert!(audit.count().is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn every_request_counts_once() {
        let mut requests = Requests::default();
        for (stage, verb, resource, sub) in [
            ("ResponseStarted", "watch", "services", ""),
            ("ResponseComplete", "watch", "services", ""),
            ("ResponseComplete", "patch", "services", "status"),
            ("ResponseComplete", "update", "services", "status"),
            ("ResponseComplete", "create", "events", ""),
            ("ResponseComplete", "patch", "ipaddresspools", "status"),
            ("ResponseComplete", "update", "leases", ""),
            ("ResponseComplete", "get", "leases", ""),
        ] {
            let line = Line {
                stage: stage.into(),
                verb: verb.into(),
                object_ref: Object {
                    resource: resource.into(),
                    subresource: sub.into(),
                },
            };
            add(&mut requests, &line);
        }
        let pools = BTreeMap::from([("patch ipaddresspools/status".to_owned(), 1)]);
        let expected = Requests {
            service_status: 2,
            events: 1,
            leases: 2,
            other_writes: pools,
            reads: 1,
        };
        assert_eq!((requests.total(), requests.writes()), (7, 3));
        assert_eq!(requests, expected);
        assert_eq!(requests.since(&expected), Requests::default());
    }
}
