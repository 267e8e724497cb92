//! An API server without nodes: etcd and kube-apiserver on loopback, everything in a directory that goes with them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use metallb_e2e::pki::{self, Authority, Pair, Subject};
use metallb_e2e::{build, checkout, sh};
use serde_json::json;

use crate::child::{Child, Spec};
use crate::wait;

/// The namespace of the components.
pub const NAMESPACE: &str = "metallb-system";
/// The user as whom controllers speak; its requests are counted.
pub const CONTROLLER_USER: &str = "metallb-controller";
/// The pod that Go's controller wants to be.
pub const CONTROLLER_POD: &str = "controller-0";

/// Whose custom resource definitions an API server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Ours: `config/crd` of the checkout.
    Ours,
    /// Those of the Go module, read at test time.
    Go,
}

/// Programs of the control plane.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Directory of etcd, kube-apiserver and kubectl.
    pub kubernetes: PathBuf,
}

impl Programs {
    /// Builds them if the cache does not have them.
    ///
    /// # Errors
    /// The build fails.
    pub fn ensure(progress: &metallb_e2e::Progress) -> Result<Self> {
        let (tools, ready) = build::locate()?;
        let tools = if ready { tools } else { build::ensure(progress)? };
        Ok(Self {
            kubernetes: tools.kubernetes,
        })
    }
}

/// A running control plane.
pub struct Plane {
    dir: PathBuf,
    name: String,
    server: String,
    authority: Authority,
    kubectl: PathBuf,
    // In this order they end.
    api: Child,
    etcd: Child,
    client: Client,
}

impl Plane {
    /// Starts etcd and API server in a fresh directory, and waits until definitions, namespace and pod are there.
    ///
    /// # Errors
    /// A part does not start; the message has the end of its log.
    pub async fn start(name: &str, programs: &Programs, flavour: Flavour) -> Result<Self> {
        let dir = fresh_dir(name)?;
        let [client_port, peer_port, api_port] = free_ports()?;
        let etcd = Child::start(Spec {
            name: format!("etcd of {name}"),
            program: programs.kubernetes.join("etcd"),
            args: etcd_args(&dir, client_port, peer_port),
            env: Vec::new(),
            log: dir.join("etcd.log"),
        })?;
        let authority = Authority::new("plane-ca")?;
        write_files(&dir, &authority)?;
        let api = Child::start(Spec {
            name: format!("kube-apiserver of {name}"),
            program: programs.kubernetes.join("kube-apiserver"),
            args: api_args(&dir, client_port, api_port),
            env: Vec::new(),
            log: dir.join("kube-apiserver.log"),
        })?;
        let server = format!("https://127.0.0.1:{api_port}");
        let admin = kubeconfig_text(&server, &authority, "driver", Some("system:masters"))?;
        pki::write_private(&dir.join("driver.kubeconfig"), &admin)?;
        let client = client_of(&admin).await?;
        let mut plane = Self {
            dir,
            name: name.to_owned(),
            server,
            authority,
            kubectl: programs.kubernetes.join("kubectl"),
            api,
            etcd,
            client,
        };
        plane.wait_ready().await?;
        plane.furnish(flavour).await?;
        Ok(plane)
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's client: administrator, exempt from flow control.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Address of the API server, as `https://127.0.0.1:PORT`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Everything of this control plane: data, certificates, logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the requests of [`CONTROLLER_USER`] are logged, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// Writes a kubeconfig for a controller that reaches the API server at `server` (for a proxy before it).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig_for(&self, user: &str, server: &str) -> Result<PathBuf> {
        let text = kubeconfig_text(server, &self.authority, user, Some("metallb-controllers"))?;
        let port = server.rsplit(':').next().unwrap_or_default();
        let path = self.dir.join(format!("{user}-{port}.kubeconfig"));
        pki::write_private(&path, &text)?;
        Ok(path)
    }

    /// Whether both processes run.
    ///
    /// # Errors
    /// One ended; the message has the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.etcd.check()?;
        self.api.check()
    }

    /// Copies the logs to a directory that outlives this.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn save_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))? {
            let path = entry.context("list a directory")?.path();
            if path.extension().is_some_and(|ext| ext == "log")
                && let Some(file) = path.file_name()
            {
                fs::copy(&path, to.join(file)).with_context(|| format!("copy {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// kubectl as administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.dir.join("driver.kubeconfig"));
        command
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let client = self.client.clone();
        let what = format!("the API server of {} to be ready", self.name);
        wait::until(&what, Duration::from_secs(90), async || {
            self.check()?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            Ok(client.request_text(request).await.is_ok().then_some(()))
        })
        .await
    }

    async fn furnish(&mut self, flavour: Flavour) -> Result<()> {
        let crds = crd_dir(flavour)?;
        let mut command = self.kubectl();
        command.args(["create", "--validate=false", "-f"]).arg(&crds);
        sh::run(&mut command).with_context(|| format!("create the definitions of {}", crds.display()))?;
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "controllers"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "metallb-controllers"}]}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": CONTROLLER_POD, "namespace": NAMESPACE},
                "spec": {"containers": [{"name": "controller", "image": "none"}]}}),
        ];
        for object in objects {
            let mut command = self.kubectl();
            command.args(["create", "--validate=false", "-f", "-"]);
            sh::run_with_input(&mut command, &object.to_string())?;
        }
        let client = self.client.clone();
        wait::until(
            "the definitions to be served",
            Duration::from_secs(30),
            async || {
                let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/ipaddresspools");
                let request = http::Request::get(path).body(Vec::new())?;
                Ok(client.request_text(request).await.is_ok().then_some(()))
            },
        )
        .await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: logs are left in {}", self.name, self.dir.display());
            return;
        }
        // The processes end right after; what they still write goes nowhere.
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: remove {}: {error}", self.name, self.dir.display());
        }
    }
}

/// A client for a kubeconfig.
///
/// # Errors
/// It is none, or its certificates are unusable.
pub async fn client_of(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("understand the kubeconfig")?;
    config.read_timeout = Some(Duration::from_secs(300));
    Client::try_from(config).context("make a client")
}

fn kubeconfig_text(server: &str, authority: &Authority, user: &str, group: Option<&str>) -> Result<String> {
    let pair = authority.issue(&Subject {
        name: user,
        group,
        serves: Vec::new(),
    })?;
    pki::kubeconfig(server, &authority.pair().cert, &pair)
}

/// Memory, where it is to be had: the disk of the machine is no part of what is looked at.
fn fresh_dir(name: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = base.join(format!(
        "metallb-alloc-lab-{}-{number}-{name}",
        std::process::id()
    ));
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Ports that are free now, each another one.
///
/// # Errors
/// The kernel has none.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last is known.
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().context("find a free port")?.port();
    }
    Ok(ports)
}

fn crd_dir(flavour: Flavour) -> Result<PathBuf> {
    match flavour {
        Flavour::Ours => Ok(checkout::root().join("config/crd")),
        Flavour::Go => {
            let module = format!("go.universe.tf/metallb@v{}", build::METALLB);
            let mut command = Command::new("go");
            command
                .args(["mod", "download", "-json", &module])
                .env("GOTOOLCHAIN", "local")
                .current_dir("/");
            let answer = sh::run(&mut command).context("look for Go MetalLB's module")?;
            let answer: serde_json::Value =
                serde_json::from_str(&answer).context("understand go mod download")?;
            let Some(dir) = answer["Dir"].as_str() else {
                bail!("go mod download names no directory for {module}");
            };
            Ok(Path::new(dir).join("config/crd/bases"))
        }
    }
}

fn write_files(dir: &Path, authority: &Authority) -> Result<()> {
    let write = |name: &str, text: &str| pki::write_private(&dir.join(name), text);
    let serving = authority.issue(&Subject {
        name: "kube-apiserver",
        group: None,
        serves: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    })?;
    let accounts: Pair = Authority::new("service-accounts")?.pair();
    write("ca.crt", &authority.pair().cert)?;
    write("api.crt", &serving.cert)?;
    write("api.key", &serving.key)?;
    write("accounts.crt", &accounts.cert)?;
    write("accounts.key", &accounts.key)?;
    write("audit.yaml", &audit_policy())
}

/// Only what controllers ask for, without bodies.
fn audit_policy() -> String {
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
        {"level": "Metadata", "users": [CONTROLLER_USER]}, {"level": "None"}]})
    .to_string()
}

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| format!("--{word}")).collect()
}

fn etcd_args(dir: &Path, client: u16, peer: u16) -> Vec<String> {
    args(&format!(
        "data-dir={dir}/etcd unsafe-no-fsync=true log-level=warn quota-backend-bytes=4294967296
         listen-client-urls=http://127.0.0.1:{client} advertise-client-urls=http://127.0.0.1:{client}
         listen-peer-urls=http://127.0.0.1:{peer} initial-advertise-peer-urls=http://127.0.0.1:{peer}
         initial-cluster=default=http://127.0.0.1:{peer}",
        dir = dir.display()
    ))
}

/// Without nodes nobody makes service accounts, and the address of the API server concerns nobody.
fn api_args(dir: &Path, etcd: u16, port: u16) -> Vec<String> {
    args(&format!(
        "etcd-servers=http://127.0.0.1:{etcd} bind-address=127.0.0.1 secure-port={port}
         advertise-address=127.0.0.1 endpoint-reconciler-type=none
         service-cluster-ip-range=10.96.0.0/12,fd00:96::/108
         authorization-mode=RBAC disable-admission-plugins=ServiceAccount
         client-ca-file={dir}/ca.crt tls-cert-file={dir}/api.crt tls-private-key-file={dir}/api.key
         service-account-issuer=https://localhost service-account-key-file={dir}/accounts.crt
         service-account-signing-key-file={dir}/accounts.key
         audit-policy-file={dir}/audit.yaml audit-log-path={dir}/audit.log audit-log-maxsize=4096",
        dir = dir.display()
    ))
}
