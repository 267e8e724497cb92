//! Which checkout the tool works on.

use std::path::PathBuf;
use std::sync::LazyLock;

/// `tests/e2e` of the checkout.
///
/// Clones share one target directory, so the path that was compiled in may be another clone's, or one that is gone:
/// first comes what Cargo says at run time, then the checkout around the working directory.
pub fn package() -> PathBuf {
    static PACKAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let holds_us = |dir: &PathBuf| dir.join("modules/kubernetes/go.mod").is_file();
        let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = std::env::current_dir().unwrap_or_default();
        let around = here.ancestors().map(|dir| dir.join("tests/e2e"));
        by_cargo
            .into_iter()
            .chain(around)
            .find(holds_us)
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
    });
    PACKAGE.clone()
}

/// Root of the checkout.
pub fn root() -> PathBuf {
    let package = package();
    package.ancestors().nth(2).map_or(package.clone(), PathBuf::from)
}
