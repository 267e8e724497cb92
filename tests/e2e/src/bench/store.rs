//! What was measured so far, in a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::engine::Engine;

/// One client's view of one cut, kill or move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Whose speakers.
    pub(super) engine: Engine,
    /// The part of the benchmark.
    pub(super) part: String,
    /// Number of the round, from 0.
    pub(super) round: usize,
    /// The client: `v4_keeps`.
    pub(super) client: String,
    /// Longest time without an answer.
    pub(super) longest_ms: f64,
    /// Messages without an answer.
    pub(super) lost: u64,
    /// Load of the machine.
    pub(super) load: String,
}

/// One figure that is not of rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    /// Whose speakers.
    pub(super) engine: Engine,
    /// The part of the benchmark.
    pub(super) part: String,
    /// Its name.
    pub(super) name: String,
    /// Its unit.
    pub(super) unit: String,
    /// The figure.
    pub(super) value: f64,
    /// Of how many runs.
    pub(super) runs: usize,
    /// What else there is to say.
    pub(super) note: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Contents {
    versions: Vec<(Engine, String)>,
    samples: Vec<Sample>,
    values: Vec<Figure>,
}

/// The file and what is in it.
pub(super) struct Store {
    file: PathBuf,
    contents: Contents,
}

impl Store {
    /// Opens it; `fresh` forgets what was measured.
    pub(super) fn open(file: &Path, fresh: bool) -> Result<Self> {
        let contents = if file.exists() && !fresh {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is of another version: delete it", file.display()))?
        } else {
            Contents::default()
        };
        Ok(Self {
            file: file.to_owned(),
            contents,
        })
    }

    /// What is to be measured now; figures of another build of the same engine are forgotten.
    pub(super) fn version(&mut self, engine: Engine, version: &str) -> Result<()> {
        let contents = &mut self.contents;
        if !contents.versions.contains(&(engine, version.to_owned())) {
            contents.versions.retain(|(of, _)| *of != engine);
            contents.versions.push((engine, version.to_owned()));
            contents.samples.retain(|sample| sample.engine != engine);
            contents.values.retain(|value| value.engine != engine);
        }
        self.save()
    }

    /// The samples of a part.
    pub(super) fn samples(&self, engine: Engine, part: &str) -> Vec<&Sample> {
        let samples = self.contents.samples.iter();
        samples.filter(|s| s.engine == engine && s.part == part).collect()
    }

    /// How many rounds of a part were measured.
    pub(super) fn rounds(&self, engine: Engine, part: &str) -> usize {
        let samples = self.samples(engine, part);
        samples.iter().map(|s| s.round + 1).max().unwrap_or_default()
    }

    /// The figures of an engine.
    pub(super) fn values(&self, engine: Engine) -> Vec<&Figure> {
        self.contents
            .values
            .iter()
            .filter(|v| v.engine == engine)
            .collect()
    }

    /// True if the part's figures are there.
    pub(super) fn has(&self, engine: Engine, part: &str) -> bool {
        self.contents
            .values
            .iter()
            .any(|v| v.engine == engine && v.part == part)
    }

    /// Keeps a round.
    pub(super) fn add(&mut self, samples: Vec<Sample>) -> Result<()> {
        self.contents.samples.extend(samples);
        self.save()
    }

    /// Keeps a part's figures.
    pub(super) fn set(&mut self, values: Vec<Figure>) -> Result<()> {
        self.contents.values.extend(values);
        self.save()
    }

    fn save(&self) -> Result<()> {
        let parent = self.file.parent().context("a file has a directory")?;
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let text = serde_json::to_string(&self.contents).context("write down what was measured")?;
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
        std::fs::rename(&new, &self.file).with_context(|| format!("move {} into place", new.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_there_again_until_the_build_changes() {
        let file = std::env::temp_dir().join(format!("mlb-l2-store-{}.json", std::process::id()));
        let sample = |engine, round| Sample {
            engine,
            part: "link-cut".to_owned(),
            round,
            client: "v4_keeps".to_owned(),
            longest_ms: 400.0,
            lost: 80,
            load: String::new(),
        };
        let mut store = Store::open(&file, true).unwrap();
        store.version(Engine::Ours, "a").unwrap();
        store.version(Engine::Go, "0.16.1").unwrap();
        store
            .add(vec![sample(Engine::Ours, 0), sample(Engine::Ours, 1)])
            .unwrap();
        store.add(vec![sample(Engine::Go, 0)]).unwrap();
        let mut store = Store::open(&file, false).unwrap();
        assert_eq!(store.rounds(Engine::Ours, "link-cut"), 2);
        assert_eq!(store.rounds(Engine::Ours, "node-kill"), 0);
        store.version(Engine::Ours, "b").unwrap();
        assert_eq!(store.rounds(Engine::Ours, "link-cut"), 0);
        assert_eq!(store.rounds(Engine::Go, "link-cut"), 1);
        std::fs::remove_file(&file).unwrap();
    }
}
