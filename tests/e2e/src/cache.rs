//! What is built once and kept outside the source tree: Go binaries and images, each in a directory whose name says
//! what it was built from. A directory appears under its final name only when it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// FNV-1a over several parts, each closed by a zero byte. It names cache entries; it is no protection against anybody.
pub fn fnv64(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// The cache directory: `$METALLB_LAB_CACHE`, else `$XDG_CACHE_HOME/metallb-lab`, else `~/.cache/metallb-lab`.
pub fn dir() -> Result<PathBuf> {
    pick(|key| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn pick(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let dir = if let Some(dir) = var("METALLB_LAB_CACHE") {
        dir
    } else if let Some(dir) = var("XDG_CACHE_HOME") {
        dir.join("metallb-lab")
    } else if let Some(home) = var("HOME") {
        home.join(".cache/metallb-lab")
    } else {
        bail!("no place for the cache: set METALLB_LAB_CACHE, XDG_CACHE_HOME or HOME");
    };
    if !dir.is_absolute() {
        bail!(
            "the cache directory {} is not an absolute path; set METALLB_LAB_CACHE to one",
            dir.display()
        );
    }
    Ok(dir)
}

/// Returns `dir`, making it with `fill` first if it is not there yet. `fill` gets a scratch directory beside it, which is
/// renamed when `fill` succeeds: a killed build leaves nothing that looks complete. Two callers wait for each other.
pub fn entry(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if dir.is_dir() {
        return Ok(dir.to_owned());
    }
    let parent = dir.parent().context("a cache entry has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let _lock = lock(&with_suffix(dir, ".lock"))?;
    if dir.is_dir() {
        return Ok(dir.to_owned());
    }
    let scratch = with_suffix(dir, ".partial");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    }
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    fill(&scratch)?;
    fs::rename(&scratch, dir).with_context(|| format!("move {} into place", scratch.display()))?;
    Ok(dir.to_owned())
}

/// Holds an exclusive lock on `path` (made if needed) until dropped; waits for another holder.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            eprintln!("waiting for another lab that holds {}", path.display());
            Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, e)| anyhow::anyhow!("lock {}: {e}", path.display()))
        }
        Err((_, e)) => bail!("lock {}: {e}", path.display()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a_and_keeps_parts_apart() {
        // "a" and its closing zero by the published algorithm: ((offset ^ 'a') * prime) * prime.
        assert_eq!(
            fnv64(&[b"a"]),
            0xaf63_dc4c_8601_ec8c_u64.wrapping_mul(0x0100_0000_01b3)
        );
        assert_ne!(fnv64(&[b"ab", b"c"]), fnv64(&[b"a", b"bc"]));
    }

    #[test]
    fn cache_place_by_environment() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<_> = set
                .iter()
                .map(|(k, v)| ((*k).to_owned(), PathBuf::from(v)))
                .collect();
            pick(move |key| set.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()))
        };
        assert_eq!(
            of(&[("METALLB_LAB_CACHE", "/a"), ("HOME", "/h")]).unwrap(),
            PathBuf::from("/a")
        );
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(),
            PathBuf::from("/x/metallb-lab")
        );
        assert_eq!(
            of(&[("HOME", "/h")]).unwrap(),
            PathBuf::from("/h/.cache/metallb-lab")
        );
        assert!(of(&[]).is_err());
        assert!(of(&[("METALLB_LAB_CACHE", "rel")]).is_err());
    }

    #[test]
    fn a_failed_fill_leaves_no_entry_and_the_next_one_starts_clean() {
        let base = std::env::temp_dir().join(format!("mlb-cache-test-{}", std::process::id()));
        let dir = base.join("thing-1");
        let failed = entry(&dir, |scratch| {
            fs::write(scratch.join("half"), "x")?;
            bail!("stopped midway")
        });
        assert!(failed.is_err());
        assert!(!dir.exists());
        let made = entry(&dir, |scratch| {
            assert!(!scratch.join("half").exists());
            Ok(fs::write(scratch.join("whole"), "x")?)
        });
        assert_eq!(made.unwrap(), dir);
        assert!(dir.join("whole").exists());
        entry(&dir, |_| bail!("must not be filled twice")).unwrap();
        fs::remove_dir_all(&base).unwrap();
    }
}
