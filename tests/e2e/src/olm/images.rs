//! Images of OLM, of `opm` and of `CoreDNS`, `FROM scratch`, under their public names in the cluster's registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::cache::{self, fnv64};
use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::{images, prereq, registry, sh};

/// Debian's package and program of the one `cp` that needs no libraries: OLM copies its tools into other people's images.
const BUSYBOX: (&str, &str) = ("busybox-static", "/bin/busybox");

/// The images, one stage each. Probes and unpack jobs name programs without their path.
const CONTAINERFILE: &str = r#"FROM scratch AS olm
COPY olm catalog package-server /bin/
ENV PATH=/bin
USER 1001
ENTRYPOINT ["/bin/olm"]

FROM scratch AS util
COPY cp cpb copy-content /bin/
ENV PATH=/bin
USER 1001

FROM scratch AS opm
COPY opm grpc_health_probe /bin/
ENV PATH=/bin
USER 1001
ENTRYPOINT ["/bin/opm"]

FROM scratch AS coredns
COPY coredns /coredns
ENTRYPOINT ["/coredns"]
"#;

/// Full names with digest, as they are in the registry.
pub(super) struct Images {
    /// olm-operator, catalog-operator, packageserver.
    pub(super) olm: String,
    /// What catalogs and unpack jobs copy into place.
    pub(super) util: String,
    /// Serves catalogs, unpacks bundles.
    pub(super) opm: String,
    /// Cluster DNS.
    pub(super) coredns: String,
    /// Directory of OLM's CRDs.
    pub(super) definitions: PathBuf,
}

/// Builds what the cache does not have, and pushes the images.
pub(super) fn push(cluster: &Cluster, progress: &Progress) -> Result<Images> {
    let dir = ensure(progress)?;
    let one = |stage: &str, name: String| -> Result<String> {
        let archive = archive(&dir, stage);
        cluster.push(&archive, &name)?;
        Ok(format!("{name}@{}", registry::digest(&archive)?))
    };
    let olm = format!("quay.io/operator-framework/olm:v{}", build::OLM);
    Ok(Images {
        util: one("util", format!("{olm}-util"))?,
        olm: one("olm", olm)?,
        opm: one("opm", format!("quay.io/operator-framework/opm:v{}", build::OPM))?,
        coredns: one(
            "coredns",
            format!("registry.k8s.io/coredns/coredns:v{}", build::COREDNS),
        )?,
        definitions: dir.join("crds"),
    })
}

fn archive(dir: &Path, stage: &str) -> PathBuf {
    dir.join(format!("{stage}.oci.tar"))
}

/// The directory in the cache with the archives and the CRDs.
pub(super) fn ensure(progress: &Progress) -> Result<PathBuf> {
    let olm = build::ensure_olm(progress)?;
    let opm = build::ensure_opm(progress)?;
    let coredns = build::ensure_coredns(progress)?;
    let busybox = busybox(progress)?;
    let mut files: Vec<(PathBuf, &str)> = [
        "olm",
        "catalog",
        "package-server",
        "cpb",
        "copy-content",
        "grpc_health_probe",
    ]
    .map(|name| (olm.join(name), name))
    .into();
    files.extend([(opm, "opm"), (coredns, "coredns"), (busybox.into(), "cp")]);

    // Programs of the cache are told by their directory's name.
    let mut parts: Vec<Vec<u8>> = files
        .iter()
        .map(|(path, _)| path.display().to_string().into_bytes())
        .collect();
    parts.push(fs::read(busybox).with_context(|| format!("read {busybox}"))?);
    parts.push(CONTAINERFILE.as_bytes().to_vec());
    let hash = fnv64(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let cache = cache::dir()?;
    cache::entry(
        &cache.join("images").join(format!("olm-{hash:016x}")),
        |scratch| {
            progress.long(
                "packing OLM's programs into images",
                || "buildah works".to_owned(),
                || pack(&cache, scratch, &files),
            )
        },
    )
}

/// A `cp` and a `tar` (by its first argument) that need no libraries; installed if need be.
pub(crate) fn busybox(progress: &Progress) -> Result<&'static str> {
    let (package, busybox) = BUSYBOX;
    // Linked to libraries it would not start in an image that has none.
    let is_static = || Path::new(busybox).exists() && !sh::succeeds(Command::new("ldd").arg(busybox));
    if !is_static() {
        prereq::install(&[package], progress)?;
        ensure!(
            is_static(),
            "{busybox} needs libraries although {package} is installed"
        );
    }
    Ok(busybox)
}

fn pack(cache: &Path, scratch: &Path, files: &[(PathBuf, &str)]) -> Result<()> {
    let context = scratch.join("context");
    fs::create_dir(&context).context("make the build context")?;
    for (from, name) in files {
        fs::copy(from, context.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let containerfile = scratch.join("Containerfile");
    fs::write(&containerfile, CONTAINERFILE).context("write the Containerfile")?;
    for stage in ["olm", "util", "opm", "coredns"] {
        images::build_image(cache, &containerfile, &context, stage, &archive(scratch, stage))?;
    }
    fs::remove_dir_all(&context).context("remove the build context")?;

    let crds = scratch.join("crds");
    fs::create_dir(&crds).context("make the directory of definitions")?;
    let from = build::olm_api_module()?.join("crds");
    for entry in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
        let path = entry?.path();
        if let (Some(name), Some("yaml")) = (path.file_name(), path.extension().and_then(|e| e.to_str())) {
            // Not a copy of the file: those of a module may not be written to.
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            fs::write(crds.join(name), text).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
