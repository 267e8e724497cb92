//! Log output in MetalLB's shape: one JSON object a line with `ts`, `level`, `caller` and `msg`.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// `--log-level` as MetalLB spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything, also what libraries say.
    All,
    /// Our debug lines.
    Debug,
    /// What an administrator reads.
    #[default]
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
    /// Silence.
    None,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "all" => Self::All,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "none" => Self::None,
            _ => {
                return Err(format!(
                    "log level {word:?} is unknown: use all, debug, info, warn, error or none"
                ));
            }
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::None => "none",
        })
    }
}

impl Level {
    fn targets(self) -> Targets {
        let (ours, libraries) = match self {
            Self::All => (LevelFilter::TRACE, LevelFilter::DEBUG),
            Self::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
            Self::Info => (LevelFilter::INFO, LevelFilter::WARN),
            Self::Warn => (LevelFilter::WARN, LevelFilter::WARN),
            Self::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
            Self::None => (LevelFilter::OFF, LevelFilter::OFF),
        };
        // Every crate of ours is named metallb-*; a target is its module path.
        Targets::new()
            .with_default(libraries)
            .with_target("metallb", ours)
    }
}

/// Installs the process-wide subscriber. A second call keeps the first one.
pub fn init(level: Level) {
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines)
        .with_filter(level.targets());
    if tracing_subscriber::registry().with(layer).try_init().is_err() {
        tracing::debug!("logging was set up already");
    }
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let line = line(event.metadata(), jiff::Timestamp::now(), fields.0);
        writeln!(writer, "{line}")
    }
}

fn line(metadata: &Metadata<'_>, now: jiff::Timestamp, fields: Map<String, Value>) -> Value {
    let mut line = Map::new();
    let file = metadata
        .file()
        .map_or("unknown", |file| file.rsplit('/').next().unwrap_or(file));
    line.insert(
        "caller".into(),
        format!("{file}:{}", metadata.line().unwrap_or(0)).into(),
    );
    line.insert(
        "level".into(),
        metadata.level().as_str().to_ascii_lowercase().into(),
    );
    line.insert("ts".into(), format!("{now:.3}").into());
    line.extend(fields);
    Value::Object(line)
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => "msg",
            name => name,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("no writer panicked")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_json_with_metallbs_keys() {
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines)
            .with_writer(move || sink.clone())
            .with_filter(Level::Info.targets());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(service = "default/web", ports = 2, "assigned");
            tracing::debug!("not at this level");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "assigned");
        assert_eq!(line["level"], "info");
        assert_eq!(line["service"], "default/web");
        assert_eq!(line["ports"], 2);
        assert!(line["caller"].as_str().unwrap().starts_with("log.rs:"));
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn levels_are_metallbs() {
        for word in ["all", "debug", "info", "warn", "error", "none"] {
            assert_eq!(word.parse::<Level>().unwrap().to_string(), word);
        }
        assert!("INFO".parse::<Level>().unwrap_err().contains("use all, debug"));
    }
}
