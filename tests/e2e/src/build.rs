//! Building the cluster's Go programs from modules at exact versions, into the cache.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};

use crate::cache::{self, fnv64};
use crate::progress::Progress;
use crate::sh;
use crate::state::Tools;

/// Kubernetes version; the wrapper module's go.mod pins the same.
pub const KUBERNETES: &str = "1.36.3";
/// containerd version.
pub const CONTAINERD: &str = "2.4.2";
/// `MetalLB` in Go, the peer of comparisons.
pub const METALLB: &str = "0.16.1";
/// Helm of the third generation, which most people have.
pub const HELM: &str = "3.22.0";
/// Helm of the fourth generation.
pub const HELM4: &str = "4.3.1";
/// The Operator Lifecycle Manager.
pub const OLM: &str = "0.46.0";
/// Serves catalogs and unpacks bundles; OLM requires the same version of its packages.
pub const OPM: &str = "1.73.0";
/// The Operator SDK, which judges bundles; the scorecard's image in the bundle is of the same version.
pub const OPERATOR_SDK: &str = "1.42.2";
/// Cluster DNS.
pub const COREDNS: &str = "1.14.4";

/// Oldest Go that builds the modules.
pub const GO_MIN: (u32, u32, u32) = (1, 26, 6);

/// One `go build` in a wrapper module.
struct GoBuild {
    flags: Vec<String>,
    /// `(output file or empty for a directory, packages)`.
    output: &'static str,
    packages: Vec<String>,
}

/// A set of programs that are built together and cached together.
struct GoSet {
    name: &'static str,
    version: &'static str,
    module: &'static str,
    builds: Vec<GoBuild>,
}

fn kubernetes() -> GoSet {
    let v = "k8s.io/component-base/version";
    let ldflags = format!(
        "-s -w -X {v}.gitVersion=v{KUBERNETES} -X {v}.gitMajor=1 -X {v}.gitMinor=36 -X {v}.gitTreeState=clean \
         -X {v}.buildDate=2026-01-01T00:00:00Z -X {v}.gitCommit=unknown"
    );
    let commands = [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    ];
    GoSet {
        name: "kubernetes",
        version: KUBERNETES,
        module: "kubernetes",
        builds: vec![
            GoBuild {
                flags: vec!["-ldflags".to_owned(), ldflags],
                output: "",
                packages: commands.map(|c| format!("k8s.io/kubernetes/cmd/{c}")).to_vec(),
            },
            GoBuild {
                flags: vec!["-ldflags".to_owned(), "-s -w".to_owned()],
                output: "etcd",
                packages: vec!["go.etcd.io/etcd/server/v3".to_owned()],
            },
        ],
    }
}

fn containerd() -> GoSet {
    let module = "github.com/containerd/containerd/v2";
    GoSet {
        name: "containerd",
        version: CONTAINERD,
        module: "containerd",
        builds: vec![GoBuild {
            flags: vec![
                "-tags".to_owned(),
                "no_btrfs,no_devmapper,no_zfs".to_owned(),
                "-ldflags".to_owned(),
                format!("-s -w -X {module}/version.Version={CONTAINERD}"),
            ],
            output: "",
            packages: ["containerd", "containerd-shim-runc-v2", "ctr"]
                .map(|c| format!("{module}/cmd/{c}"))
                .to_vec(),
        }],
    }
}

fn metallb() -> GoSet {
    GoSet {
        name: "metallb",
        version: METALLB,
        module: "metallb",
        builds: vec![GoBuild {
            flags: vec!["-ldflags".to_owned(), "-s -w".to_owned()],
            output: "",
            packages: ["controller", "speaker"]
                .map(|c| format!("go.universe.tf/metallb/{c}"))
                .to_vec(),
        }],
    }
}

fn helm() -> GoSet {
    // Without a cluster, Helm renders for the Kubernetes version of its own client library: v0.37.
    let kubernetes = ["lint/rules", "chartutil"]
        .map(|at| {
            format!(
                "-X helm.sh/helm/v3/pkg/{at}.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/{at}.k8sVersionMinor=37"
            )
        })
        .join(" ");
    GoSet {
        name: "helm",
        version: HELM,
        module: "helm",
        builds: vec![GoBuild {
            flags: vec![
                "-ldflags".to_owned(),
                format!("-s -w -X helm.sh/helm/v3/internal/version.version=v{HELM} {kubernetes}"),
            ],
            output: "",
            packages: vec!["helm.sh/helm/v3/cmd/helm".to_owned()],
        }],
    }
}

fn helm4() -> GoSet {
    GoSet {
        name: "helm",
        version: HELM4,
        module: "helm4",
        builds: vec![GoBuild {
            flags: vec![
                "-ldflags".to_owned(),
                format!("-s -w -X helm.sh/helm/v4/internal/version.version=v{HELM4}"),
            ],
            output: "",
            packages: vec!["helm.sh/helm/v4/cmd/helm".to_owned()],
        }],
    }
}

fn olm() -> GoSet {
    let module = "github.com/operator-framework/operator-lifecycle-manager";
    GoSet {
        name: "olm",
        version: OLM,
        module: "olm",
        builds: vec![
            GoBuild {
                flags: vec![
                    "-ldflags".to_owned(),
                    format!("-s -w -X {module}/pkg/version.OLMVersion={OLM}"),
                ],
                output: "",
                packages: [
                    "cmd/olm",
                    "cmd/catalog",
                    "cmd/package-server",
                    "cmd/copy-content",
                    "util/cpb",
                ]
                .map(|c| format!("{module}/{c}"))
                .to_vec(),
            },
            // OLM asks its catalogs with it how they are.
            GoBuild {
                flags: vec!["-ldflags".to_owned(), "-s -w".to_owned()],
                output: "grpc_health_probe",
                packages: vec!["github.com/grpc-ecosystem/grpc-health-probe".to_owned()],
            },
        ],
    }
}

fn opm() -> GoSet {
    let module = "github.com/operator-framework/operator-registry/cmd/opm";
    GoSet {
        name: "opm",
        version: OPM,
        module: "olm",
        builds: vec![GoBuild {
            flags: vec![
                // Signatures without a C library.
                "-tags".to_owned(),
                "containers_image_openpgp".to_owned(),
                "-ldflags".to_owned(),
                format!("-s -w -X {module}/version.opmVersion=v{OPM}"),
            ],
            output: "opm",
            packages: vec![module.to_owned()],
        }],
    }
}

fn operator_sdk() -> GoSet {
    let module = "github.com/operator-framework/operator-sdk";
    GoSet {
        name: "operator-sdk",
        version: OPERATOR_SDK,
        module: "operator-sdk",
        builds: vec![GoBuild {
            flags: vec![
                // Signatures without a C library.
                "-tags".to_owned(),
                "containers_image_openpgp".to_owned(),
                "-ldflags".to_owned(),
                format!("-s -w -X {module}/internal/version.Version=v{OPERATOR_SDK}"),
            ],
            output: "",
            packages: ["cmd/operator-sdk", "images/scorecard-test"]
                .map(|c| format!("{module}/{c}"))
                .to_vec(),
        }],
    }
}

fn coredns() -> GoSet {
    GoSet {
        name: "coredns",
        version: COREDNS,
        module: "coredns",
        builds: vec![GoBuild {
            flags: vec!["-ldflags".to_owned(), "-s -w".to_owned()],
            output: "coredns",
            packages: vec![".".to_owned()],
        }],
    }
}

impl GoSet {
    /// The cache directory: it changes with the version, the pinned modules, the flags and the machine.
    fn dir(&self, cache: &Path, modules: &Path) -> Result<PathBuf> {
        let module = modules.join(self.module);
        let mut parts = Vec::new();
        for file in ["go.mod", "go.sum"] {
            let path = module.join(file);
            parts.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        // A wrapper that chooses parts of a program has a main of its own.
        let main = module.join("main.go");
        if main.exists() {
            parts.push(fs::read(&main).with_context(|| format!("read {}", main.display()))?);
        }
        for build in &self.builds {
            parts.extend(
                build
                    .flags
                    .iter()
                    .chain(&build.packages)
                    .map(|s| s.clone().into_bytes()),
            );
        }
        parts.push(std::env::consts::ARCH.as_bytes().to_vec());
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(cache
            .join("bin")
            .join(format!("{}-{}-{:016x}", self.name, self.version, fnv64(&parts))))
    }

    fn build(&self, modules: &Path, out: &Path, progress: &Progress) -> Result<()> {
        for build in &self.builds {
            let what = format!(
                "building {} {} from source (once per version)",
                self.name, self.version
            );
            let last = Arc::new(Mutex::new((0_usize, String::new())));
            let shown = Arc::clone(&last);
            let status = move || {
                let (count, line) = shown.lock().map(|g| g.clone()).unwrap_or_default();
                format!("{count} packages compiled or fetched, last {line}")
            };
            progress.long(&what, status, || {
                build.run(&modules.join(self.module), out, &last)
            })?;
        }
        Ok(())
    }
}

impl GoBuild {
    fn run(&self, module: &Path, out: &Path, last: &Mutex<(usize, String)>) -> Result<()> {
        // A path that ends in a slash means a directory to go.
        let output = format!("{}/{}", out.display(), self.output);
        let mut child = Command::new("go")
            .args(["build", "-v", "-trimpath", "-o", &output])
            .args(&self.flags)
            .args(&self.packages)
            .current_dir(module)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start go build")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let mut tail: Vec<String> = Vec::new();
        for line in BufReader::new(stderr).lines() {
            let line = line.context("read the output of go build")?;
            if let Ok(mut last) = last.lock() {
                *last = (last.0 + 1, line.clone());
            }
            tail.push(line);
            if tail.len() > 30 {
                tail.remove(0);
            }
        }
        let status = child.wait().context("wait for go build")?;
        if !status.success() {
            bail!(
                "go build in {} failed ({status}):\n{}",
                module.display(),
                tail.join("\n")
            );
        }
        Ok(())
    }
}

/// The wrapper modules in the source tree.
fn modules() -> PathBuf {
    crate::checkout::package().join("modules")
}

/// Where the programs are in the cache, and whether all are there already.
pub fn locate() -> Result<(Tools, bool)> {
    let (cache, modules) = (cache::dir()?, modules());
    let tools = Tools {
        kubernetes: kubernetes().dir(&cache, &modules)?,
        containerd: containerd().dir(&cache, &modules)?,
    };
    let ready = tools.kubernetes.is_dir() && tools.containerd.is_dir();
    Ok((tools, ready))
}

/// Builds what is not in the cache.
pub fn ensure(progress: &Progress) -> Result<Tools> {
    let (tools, _) = locate()?;
    let modules = modules();
    for (set, dir) in [
        (kubernetes(), &tools.kubernetes),
        (containerd(), &tools.containerd),
    ] {
        cache::entry(dir, |scratch| set.build(&modules, scratch, progress))?;
    }
    Ok(tools)
}

/// Builds Go `MetalLB`'s `controller` and `speaker` if the cache does not have them; their directory.
pub fn ensure_metallb(progress: &Progress) -> Result<PathBuf> {
    let (cache, modules) = (cache::dir()?, modules());
    let dir = metallb().dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| metallb().build(&modules, scratch, progress))
}

/// Builds Helm if the cache does not have it; the path of the program. Version 3, or 4 if `HELM_GENERATION` says so.
pub fn ensure_helm(progress: &Progress) -> Result<PathBuf> {
    let set = match std::env::var("HELM_GENERATION").unwrap_or_default().as_str() {
        "" | "3" => helm(),
        "4" => helm4(),
        other => bail!("HELM_GENERATION is {other:?}: write 3 or 4"),
    };
    let (cache, modules) = (cache::dir()?, modules());
    let dir = set.dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| set.build(&modules, scratch, progress)).map(|dir| dir.join("helm"))
}

/// Builds OLM's programs if the cache does not have them; their directory.
pub fn ensure_olm(progress: &Progress) -> Result<PathBuf> {
    let (cache, modules) = (cache::dir()?, modules());
    let dir = olm().dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| olm().build(&modules, scratch, progress))
}

/// Builds `opm` if the cache does not have it; the path of the program.
pub fn ensure_opm(progress: &Progress) -> Result<PathBuf> {
    let (cache, modules) = (cache::dir()?, modules());
    let dir = opm().dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| opm().build(&modules, scratch, progress)).map(|dir| dir.join("opm"))
}

/// Builds `operator-sdk` and `scorecard-test` if the cache does not have them; their directory.
pub fn ensure_operator_sdk(progress: &Progress) -> Result<PathBuf> {
    let (cache, modules) = (cache::dir()?, modules());
    let dir = operator_sdk().dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| operator_sdk().build(&modules, scratch, progress))
}

/// Where the Go module of OLM's API is, which holds its CRDs; it is fetched if need be.
pub fn olm_api_module() -> Result<PathBuf> {
    let described = sh::run(
        Command::new("go")
            .args(["mod", "download", "-json", "github.com/operator-framework/api"])
            .current_dir(modules().join("olm"))
            .env("GOWORK", "off"),
    )?;
    let described: serde_json::Value =
        serde_json::from_str(&described).context("go mod download prints JSON")?;
    let dir = described["Dir"]
        .as_str()
        .context("go mod download names a directory")?;
    Ok(dir.into())
}

/// Builds `CoreDNS` if the cache does not have it; the path of the program.
pub fn ensure_coredns(progress: &Progress) -> Result<PathBuf> {
    let (cache, modules) = (cache::dir()?, modules());
    let dir = coredns().dir(&cache, &modules)?;
    cache::entry(&dir, |scratch| coredns().build(&modules, scratch, progress)).map(|dir| dir.join("coredns"))
}

/// Reads the version out of what `go version` prints.
pub fn parse_go_version(text: &str) -> Option<(u32, u32, u32)> {
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."))?;
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse::<u32>().ok());
    let minor = numbers.next()?;
    Some((1, minor, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions() {
        assert_eq!(
            parse_go_version("go version go1.26.8 linux/amd64"),
            Some((1, 26, 8))
        );
        assert_eq!(
            parse_go_version("go version go1.27rc1 linux/arm64"),
            Some((1, 27, 0))
        );
        assert_eq!(parse_go_version("go version devel"), None);
        assert!((1, 26, 5) < GO_MIN && (1, 27, 0) > GO_MIN);
    }

    #[test]
    fn the_cache_directory_follows_the_pinned_modules() {
        let base = std::env::temp_dir().join(format!("mlb-build-test-{}", std::process::id()));
        let module = base.join("kubernetes");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("go.mod"), "module a\n").unwrap();
        fs::write(module.join("go.sum"), "one\n").unwrap();
        let first = kubernetes().dir(Path::new("/c"), &base).unwrap();
        assert_eq!(first, kubernetes().dir(Path::new("/c"), &base).unwrap());
        fs::write(module.join("go.sum"), "two\n").unwrap();
        assert_ne!(first, kubernetes().dir(Path::new("/c"), &base).unwrap());
        assert!(
            first
                .display()
                .to_string()
                .starts_with("/c/bin/kubernetes-1.36.3-")
        );
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_wrapper_modules_pin_the_versions_named_here() {
        let text = |m: &str| fs::read_to_string(modules().join(m).join("go.mod")).unwrap();
        assert!(text("kubernetes").contains(&format!("k8s.io/kubernetes v{KUBERNETES}")));
        assert!(text("containerd").contains(&format!("github.com/containerd/containerd/v2 v{CONTAINERD}")));
        assert!(text("metallb").contains(&format!("go.universe.tf/metallb v{METALLB}")));
        assert!(text("helm").contains(&format!("helm.sh/helm/v3 v{HELM}")));
        assert!(text("helm4").contains(&format!("helm.sh/helm/v4 v{HELM4}")));
        let olm = "github.com/operator-framework/operator-lifecycle-manager";
        assert!(text("olm").contains(&format!("{olm} v{OLM}")));
        assert!(text("olm").contains(&format!("github.com/operator-framework/operator-registry v{OPM}")));
        assert!(text("operator-sdk").contains(&format!(
            "github.com/operator-framework/operator-sdk v{OPERATOR_SDK}"
        )));
        assert!(text("coredns").contains(&format!("github.com/coredns/coredns v{COREDNS}")));
    }
}
