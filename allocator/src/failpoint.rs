//! Places where tests make the process stand still, as a paused virtual machine would. Compiled in only with the feature
//! `failpoints`.
//!
//! `METALLB_FAILPOINT=PLACE:ms=TIME[:file=PATH]` stops the whole process (its one thread, and with it the renewal of the Lease) for
//! that time, once, when it comes to the place; with a path only when that file exists, and the file is removed.

/// Between the look at the fence and the sending of a service's status.
pub(crate) const BEFORE_STATUS_WRITE: &str = "before-status-write";

/// Stands still if asked to.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reached(_place: &str) {}

/// Stands still if asked to.
#[cfg(feature = "failpoints")]
pub(crate) fn reached(place: &str) {
    use std::sync::{LazyLock, Mutex, PoisonError};

    static WISH: LazyLock<Mutex<Option<Wish>>> = LazyLock::new(|| {
        let text = std::env::var("METALLB_FAILPOINT").unwrap_or_default();
        Mutex::new(Wish::parse(&text))
    });
    let mut wish = WISH.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Wish { time, .. }) = wish.take_if(|wish| wish.is_due(place)) else {
        return;
    };
    tracing::warn!(place, ?time, "fail-point: standing still");
    std::thread::sleep(time);
    tracing::warn!(place, "fail-point: going on");
}

#[cfg(feature = "failpoints")]
#[derive(Debug, PartialEq)]
struct Wish {
    place: String,
    time: std::time::Duration,
    file: Option<std::path::PathBuf>,
}

#[cfg(feature = "failpoints")]
impl Wish {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let place = parts.next().filter(|place| !place.is_empty())?.to_owned();
        let (mut time, mut file) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("ms", ms)) => time = ms.parse().ok().map(std::time::Duration::from_millis),
                Some(("file", path)) => file = Some(path.into()),
                _ => tracing::warn!(part, "METALLB_FAILPOINT: not understood"),
            }
        }
        let time = time?;
        Some(Self { place, time, file })
    }

    fn is_due(&self, place: &str) -> bool {
        self.place == place
            && self
                .file
                .as_ref()
                .is_none_or(|file| std::fs::remove_file(file).is_ok())
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_and_due_when_its_file_is_there() {
        assert_eq!(Wish::parse(""), None);
        assert_eq!(Wish::parse("before-status-write"), None);
        let file = std::env::temp_dir().join(format!("failpoint-{}", std::process::id()));
        let text = format!("{BEFORE_STATUS_WRITE}:ms=25:file={}", file.display());
        let wish = Wish::parse(&text).expect("a wish");
        assert_eq!(wish.time.as_millis(), 25);
        assert!(!wish.is_due(BEFORE_STATUS_WRITE));
        std::fs::write(&file, "").expect("written");
        assert!(!wish.is_due("elsewhere") && wish.is_due(BEFORE_STATUS_WRITE) && !file.exists());
    }
}
