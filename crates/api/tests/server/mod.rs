//! An API server with our definitions, and where the tests' files are.

use metallb_admission::ApiServer;
use metallb_api::crd;
use serde_json::Value;
use std::path::PathBuf;

pub(crate) fn server() -> ApiServer {
    let definitions: Vec<Value> = crd::all()
        .iter()
        .map(|crd| serde_json::to_value(crd).unwrap())
        .collect();
    ApiServer::new(&definitions)
}

/// Directory of the package. At run time: clones may share a target directory, and what was compiled in may be another's.
pub(crate) fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
        .into()
}
