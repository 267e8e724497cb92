//! Turns between clusters on one machine: what measures time runs alone, everything else side by side.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::progress::Progress;

/// Where the locks are: one place for all clusters of a machine, whoever runs them.
const PLACE: &str = "/run/metallb-lab.turn";

/// How the machine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Beside others.
    Shared,
    /// Nobody else meanwhile: a busy neighbour would change what is measured.
    Alone,
}

/// A turn; it ends when it is dropped, or with its process.
#[derive(Debug)]
pub struct Turn {
    _machine: Flock<File>,
}

/// Waits for a turn.
///
/// # Errors
/// The lock files can't be made.
pub fn take(how: Use, progress: &Progress) -> Result<Turn> {
    take_at(Path::new(PLACE), how, || {
        progress.line("waiting for the scenarios of another cluster on this machine");
    })
}

/// Whoever wants the machine holds the door until it has it: so a wish to be alone is not passed over for ever by neighbours
/// that come and go.
fn take_at(place: &Path, how: Use, waiting: impl Fn()) -> Result<Turn> {
    let door = lock(&place.with_extension("door"), FlockArg::LockExclusive, &waiting)?;
    let how = match how {
        Use::Shared => FlockArg::LockShared,
        Use::Alone => FlockArg::LockExclusive,
    };
    let machine = lock(place, how, &waiting)?;
    drop(door);
    Ok(Turn { _machine: machine })
}

fn lock(path: &Path, how: FlockArg, waiting: impl Fn()) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let at_once = match how {
        FlockArg::LockShared => FlockArg::LockSharedNonblock,
        _ => FlockArg::LockExclusiveNonblock,
    };
    match Flock::lock(file, at_once) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            waiting();
            Flock::lock(file, how).map_err(|(_, error)| anyhow::anyhow!("lock {}: {error}", path.display()))
        }
        Err((_, error)) => bail!("lock {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    /// Another open file than the holder's, so it competes as another process would.
    fn is_free(place: &Path, how: FlockArg) -> bool {
        Flock::lock(File::create(place).unwrap(), how).is_ok()
    }

    #[test]
    fn alone_excludes_all_and_is_not_passed_over() {
        let place = std::env::temp_dir().join(format!("mlb-turn-{}", std::process::id()));
        let shared = take_at(&place, Use::Shared, || {}).unwrap();
        let beside = take_at(&place, Use::Shared, || panic!("two may share")).unwrap();
        drop(beside);

        let (order, came) = mpsc::channel();
        let start = |how: Use| {
            let (place, order) = (place.clone(), order.clone());
            thread::spawn(move || {
                let turn = take_at(&place, how, || {}).unwrap();
                order.send(how).unwrap();
                drop(turn);
            })
        };
        let alone = start(Use::Alone);
        // It holds the door now, so a neighbour that comes later waits behind it.
        let deadline = Instant::now() + Duration::from_secs(30);
        while is_free(&place.with_extension("door"), FlockArg::LockExclusiveNonblock) {
            assert!(Instant::now() < deadline, "nobody came to the door");
            thread::yield_now();
        }
        let later = start(Use::Shared);
        assert!(
            came.try_recv().is_err(),
            "nobody may enter while the first is inside"
        );
        drop(shared);
        assert_eq!(
            [came.recv().unwrap(), came.recv().unwrap()],
            [Use::Alone, Use::Shared]
        );
        alone.join().unwrap();
        later.join().unwrap();

        let alone = take_at(&place, Use::Alone, || {}).unwrap();
        assert!(!is_free(&place, FlockArg::LockSharedNonblock));
        drop(alone);
        assert!(is_free(&place, FlockArg::LockSharedNonblock));
        for path in [place.clone(), place.with_extension("door")] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
