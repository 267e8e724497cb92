//! The list of interfaces that are never announced on, from the mounted `ConfigMap` `metallb-excludel2`.
//!
//! It is read again from time to time. What it last validly said stays in force while it cannot be read: a typo must not make
//! anybody announce on interfaces that were excluded. Without a list (no file, no text, no key) the default patterns hold.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use metallb_api::names::{objects, paths};
use metallb_kubeio::text::from_yaml;
use metallb_model::{DEFAULT_EXCLUDED_INTERFACES, Effect, Issue, Kind, ObjectRef, Reason};
use metallb_net::Exclusions;
use serde_json::Value;

/// The key that holds the list.
const KEY: &str = "announcedInterfacesToExclude";

/// Longest description of a defect in characters: it quotes what somebody wrote.
const MESSAGE_MAX: usize = 400;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// There is none.
    Absent,
    Text(String),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Defect {
    /// Below the text; empty for the whole of it.
    field: String,
    message: String,
    /// The last valid list stays in force.
    kept: bool,
}

/// What a look has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Other interfaces are excluded than before.
    pub(crate) excludes: bool,
    /// What is wrong with the file is not what it was.
    pub(crate) defect: bool,
}

/// The file, as it was last seen.
pub(crate) struct ExclusionFile {
    path: PathBuf,
    content: Content,
    /// The last valid list; none since there was one without a list.
    valid: Option<Exclusions>,
    in_force: Exclusions,
    defect: Option<Defect>,
}

impl ExclusionFile {
    /// Reads the file that is mounted into the pod.
    pub(crate) fn read() -> Self {
        Self::at(Path::new(paths::EXCLUDE_L2_DIR).join(objects::EXCLUDE_L2_FILE))
    }

    fn at(path: PathBuf) -> Self {
        let mut file = Self {
            path,
            content: Content::Absent,
            valid: None,
            in_force: Exclusions::default(),
            defect: None,
        };
        let content = file.content_now();
        file.take(content);
        file
    }

    /// Reads it again.
    pub(crate) fn look(&mut self) -> Looked {
        let content = self.content_now();
        // Each content is judged, and complained of, once.
        if content == self.content {
            return Looked::default();
        }
        self.take(content)
    }

    /// The interfaces that are not used.
    pub(crate) const fn in_force(&self) -> &Exclusions {
        &self.in_force
    }

    /// What is wrong with it, while something is, for the `ConfigurationState` of a speaker in that namespace.
    pub(crate) fn issue(&self, namespace: &str) -> Option<Issue> {
        let defect = self.defect.as_ref()?;
        let mut message = defect.message.clone();
        if !defect.kept {
            message.push_str("; there is no valid list to go on with, so the default patterns hold");
        }
        Some(Issue {
            object: ObjectRef {
                kind: Kind::ConfigMap,
                namespace: namespace.to_owned(),
                name: objects::EXCLUDE_L2_CONFIG_MAP.to_owned(),
                uid: String::new(),
                created: 0,
                generation: 0,
            },
            field: format!("data.{}{}", objects::EXCLUDE_L2_FILE, defect.field),
            reason: Reason::InvalidSpec,
            message,
            effect: match (defect.kept, defect.field.is_empty()) {
                (true, _) => Effect::LastValid,
                (false, true) => Effect::LeftOut,
                (false, false) => Effect::Partly,
            },
        })
    }

    fn content_now(&self) -> Content {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Content::Text(text),
            Err(error) if error.kind() == ErrorKind::NotFound => Content::Absent,
            Err(error) => Content::Unreadable(format!("cannot be read: {error}")),
        }
    }

    fn take(&mut self, content: Content) -> Looked {
        let judged = match &content {
            Content::Absent => Ok(None),
            Content::Text(text) => list(text),
            Content::Unreadable(why) => Err(Broken::whole(why)),
        };
        self.content = content;
        let (in_force, defect) = match judged {
            Ok(list) => {
                self.valid = list;
                (self.valid.clone().unwrap_or_default(), None)
            }
            Err(Broken {
                field,
                message,
                beside_the_default,
            }) => {
                let kept = self.valid.is_some();
                let in_force = self.valid.clone().unwrap_or(beside_the_default);
                (in_force, Some(Defect { field, message, kept }))
            }
        };
        let looked = Looked {
            excludes: in_force != self.in_force,
            defect: defect != self.defect,
        };
        self.in_force = in_force;
        self.defect = defect;
        looked
    }
}

/// Why there is no valid list.
struct Broken {
    field: String,
    message: String,
    /// The default patterns, and what can be read of the list.
    beside_the_default: Exclusions,
}

impl Broken {
    fn whole(message: &str) -> Self {
        Self::at(String::new(), message)
    }

    fn at(field: String, message: &str) -> Self {
        Self {
            field,
            message: message.chars().take(MESSAGE_MAX).collect(),
            beside_the_default: Exclusions::default(),
        }
    }
}

/// The list in the text; `None` when it has none. `MetalLB` too takes the key in any case, and no other key.
fn list(text: &str) -> Result<Option<Exclusions>, Broken> {
    let value = from_yaml(text).map_err(|why| Broken::whole(&why))?;
    let Value::Object(mut all) = value else {
        return Err(Broken::whole(&format!(
            "is not a mapping; the list stands under {KEY}"
        )));
    };
    let name = all.keys().find(|name| name.eq_ignore_ascii_case(KEY)).cloned();
    let Some(found) = name.and_then(|name| all.remove(&name)) else {
        let Some(other) = all.keys().next() else {
            return Ok(None);
        };
        return Err(Broken::whole(&format!("has {other:?} and not {KEY}")));
    };
    let entries = match found {
        Value::Null => return Ok(None),
        Value::Array(entries) => entries,
        _ => return Err(Broken::at(format!(": {KEY}"), "is not a list")),
    };
    let mut patterns = Vec::with_capacity(entries.len());
    let mut odd = None;
    for (at, entry) in entries.into_iter().enumerate() {
        match entry {
            Value::String(pattern) => patterns.push(pattern),
            _ => odd = odd.or(Some(format!("entry {at} is not a text"))),
        }
    }
    let (exclusions, invalid) = Exclusions::new(&patterns);
    let odd = odd.into_iter();
    let wrong = odd.chain(invalid.iter().map(|wrong| {
        format!(
            "{:?} is not a regular expression: {}",
            wrong.pattern, wrong.reason
        )
    }));
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() {
        return Ok(Some(exclusions));
    }
    let readable = patterns
        .iter()
        .map(String::as_str)
        .chain(DEFAULT_EXCLUDED_INTERFACES);
    Err(Broken {
        beside_the_default: Exclusions::new(readable).0,
        ..Broken::at(format!(": {KEY}"), &wrong.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "announcedInterfacesToExclude: [\"^eth1$\", \"^docker.*\"]\n";

    /// A file that was never there.
    fn absent() -> ExclusionFile {
        ExclusionFile::at("/nonexistent/excludel2.yaml".into())
    }

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    #[test]
    fn exclusions_as_the_config_map_has_them() {
        let exclusions = |content: &str| list(content).ok().flatten();
        let list = exclusions("announcedInterfacesToExclude: [\"^docker.*\", \"^lo$\"]\n").expect("list");
        assert!(list.excludes("docker0") && !list.excludes("eth0"));
        let empty = exclusions("announcedInterfacesToExclude: []").expect("an empty list is a list");
        assert!(!empty.excludes("lo"));
        let lower = exclusions("announcedinterfacestoexclude: [a]\nmore: 1").expect("list");
        assert!(lower.excludes("a"));
    }

    #[test]
    fn no_list_is_no_defect_and_the_default_holds() {
        for content in [
            Content::Absent,
            text(""),
            text("# nothing\n"),
            text("{}"),
            text("announcedInterfacesToExclude:"),
        ] {
            let mut file = absent();
            file.take(text(LIST));
            let looked = file.take(content.clone());
            assert!(looked.excludes && !looked.defect, "{content:?}");
            assert_eq!(file.in_force(), &Exclusions::default(), "{content:?}");
            assert_eq!(file.issue("m"), None, "{content:?}");
        }
    }

    const BROKEN: [&str; 7] = [
        ": [",
        "- a",
        "announcedInterfacesToExclud: [\"^eth1$\"]",
        "announcedInterfacesToExclude: \"^eth1$\"",
        "announcedInterfacesToExclude: [\"^eth1(\", \"^docker.*\"]",
        "announcedInterfacesToExclude: [1]",
        "announcedInterfacesToExclude: [a]\nannouncedInterfacesToExclude: [b]",
    ];

    /// An interface that is excluded stays so through an edit that cannot be read, and the defect is told until it is mended.
    #[test]
    fn a_broken_edit_leaves_the_last_valid_list_in_force() {
        let contents = BROKEN.map(text).into_iter();
        for content in contents.chain([Content::Unreadable(
            "cannot be read: it is a directory".to_owned(),
        )]) {
            let mut file = absent();
            assert!(file.take(text(LIST)).excludes);
            let looked = file.take(content.clone());
            assert!(!looked.excludes && looked.defect, "{content:?}");
            assert!(file.in_force().excludes("eth1"), "{content:?}");
            let issue = file.issue("m").expect("a defect");
            let said = issue.to_string();
            assert!(
                said.starts_with("ConfigMap m/metallb-excludel2: data.excludel2.yaml"),
                "{said}"
            );
            assert!(
                said.ends_with("what it last validly said stays in force"),
                "{said}"
            );
            assert!(issue.is_error());
            let looked = file.take(text(LIST));
            assert!(!looked.excludes && looked.defect, "mended: {content:?}");
            assert_eq!(file.issue("m"), None);
        }
    }

    /// With nothing valid seen, the default holds, and what can be read of the list.
    #[test]
    fn a_list_broken_from_the_start_adds_to_the_default() {
        for content in BROKEN {
            let mut file = absent();
            file.take(text(content));
            assert!(file.in_force().excludes("lxc1"), "{content}");
            let said = file.issue("m").expect("a defect").to_string();
            assert!(said.contains("the default patterns hold"), "{said}");
        }
        let mut file = absent();
        file.take(text("announcedInterfacesToExclude: [\"^eth1$\", \"^eth2(\"]"));
        assert!(file.in_force().excludes("eth1") && !file.in_force().excludes("eth0"));
        let said = file.issue("m").expect("a defect").to_string();
        assert!(said.contains("\"^eth2(\" is not a regular expression"), "{said}");
    }

    /// Each content is judged once: nothing is said again of one that is as it was.
    #[test]
    fn what_is_as_it_was_is_no_news() {
        let mut file = ExclusionFile::at(std::env::temp_dir());
        assert!(file.issue("m").is_some(), "a directory is no list");
        assert_eq!(file.look(), Looked::default());
        assert!(file.issue("m").is_some(), "it is still wrong");
    }
}
