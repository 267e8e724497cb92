//! `chart write` writes the generated parts of the Helm chart, `chart check` says which are out of date.

use std::fs;

use anyhow::{Context as _, Result, bail};
use metallb_charts::{generated, root};

fn main() -> Result<()> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let write = match word.as_str() {
        "write" => true,
        "check" => false,
        _ => bail!("usage: chart write | chart check"),
    };
    let mut old = Vec::new();
    for (path, text) in generated(&root())? {
        let file = root().join(&path);
        if fs::read_to_string(&file).is_ok_and(|there| there == text) {
            continue;
        }
        if write {
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            println!("wrote {path}");
        } else {
            old.push(path);
        }
    }
    if !old.is_empty() {
        bail!("out of date: {}; run `make chart`", old.join(", "));
    }
    Ok(())
}
