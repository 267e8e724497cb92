//! Certificates and kubeconfigs of one cluster. Keys are ECDSA P-256 and live as long as the cluster does.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::plan::{KUBERNETES_SERVICE, NodePlan, Plan, control};

/// A certificate with its private key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Certificate.
    pub cert: String,
    /// Private key, PKCS #8.
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    cert: String,
}

/// Who a certificate speaks for.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Common name: the Kubernetes user.
    pub name: &'a str,
    /// Organisation: the Kubernetes group.
    pub group: Option<&'a str>,
    /// Names and addresses it serves; empty for a client certificate.
    pub serves: Vec<String>,
}

impl Authority {
    /// A new authority.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = base(name, None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make a key")?;
        let cert = params
            .self_signed(&key)
            .context("sign the authority's certificate")?
            .pem();
        Ok(Self { params, key, cert })
    }

    /// The authority's own certificate and key.
    pub fn pair(&self) -> Pair {
        Pair {
            cert: self.cert.clone(),
            key: self.key.serialize_pem(),
        }
    }

    /// Issues a certificate.
    pub fn issue(&self, subject: &Subject<'_>) -> Result<Pair> {
        let mut params = base(subject.name, subject.group)?;
        params.subject_alt_names = CertificateParams::new(subject.serves.clone())
            .with_context(|| format!("names of {}", subject.name))?
            .subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = if subject.serves.is_empty() {
            vec![ExtendedKeyUsagePurpose::ClientAuth]
        } else {
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("make a key")?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let cert = params
            .signed_by(&key, &issuer)
            .with_context(|| format!("sign {}", subject.name))?
            .pem();
        Ok(Pair {
            cert,
            key: key.serialize_pem(),
        })
    }
}

fn base(name: &str, group: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    Ok(params)
}

/// Where the control plane's files are.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// The files under this directory.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Path of one file, as text for a command line.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes a file that only root may read.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        write_private(&self.dir.join(name), text)
    }

    fn write_pair(&self, name: &str, pair: &Pair) -> Result<()> {
        self.write(&format!("{name}.crt"), &pair.cert)?;
        self.write(&format!("{name}.key"), &pair.key)
    }
}

/// Writes a file that only root may read, making its directory.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).with_context(|| format!("protect {}", path.display()))
}

/// A kubeconfig with one cluster, one user and everything inline.
pub fn kubeconfig(server: &str, authority: &str, client: &Pair) -> Result<String> {
    let data = |pem: &str| base64(pem.as_bytes());
    // JSON is YAML, and needs no writer of its own.
    Ok(serde_json::to_string_pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": data(authority)}}],
        "users": [{"name": "lab", "user": {
            "client-certificate-data": data(&client.cert), "client-key-data": data(&client.key)}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }))?)
}

/// The API server's address on the LAN.
pub fn api_url() -> String {
    format!("https://{}:{}", control().v4, crate::plan::API_PORT)
}

/// Kubeconfigs and certificates that one node needs.
pub struct NodeCredentials {
    /// Authority of clients and API server.
    pub authority: String,
    /// kubelet's kubeconfig.
    pub kubelet: String,
    /// kube-proxy's kubeconfig.
    pub proxy: String,
    /// kubelet's serving certificate.
    pub serving: Pair,
}

/// Makes all credentials of a cluster: the control plane's into `files`, the administrator's kubeconfig for the host into
/// `host_kubeconfig` (its server is the API proxy), and one set for each node.
pub fn make(plan: &Plan, files: &Files, host_kubeconfig: &Path, port: u16) -> Result<Vec<NodeCredentials>> {
    let ca = Authority::new("kubernetes-ca")?;
    let front = Authority::new("front-proxy-ca")?;
    files.write_pair("ca", &ca.pair())?;
    files.write("front-proxy-ca.crt", &front.pair().cert)?;
    let client = |name: &str, group: Option<&str>| {
        ca.issue(&Subject {
            name,
            group,
            serves: Vec::new(),
        })
    };
    files.write_pair(
        "apiserver",
        &ca.issue(&Subject {
            name: "kube-apiserver",
            group: None,
            serves: api_names(),
        })?,
    )?;
    files.write_pair(
        "apiserver-kubelet",
        &client("kube-apiserver-kubelet-client", Some("system:masters"))?,
    )?;
    files.write_pair(
        "front-proxy",
        &front.issue(&Subject {
            name: "front-proxy-client",
            group: None,
            serves: Vec::new(),
        })?,
    )?;
    let accounts = KeyPair::generate().context("make the service account key")?;
    files.write("sa.key", &accounts.serialize_pem())?;
    files.write("sa.pub", &accounts.public_key_pem())?;

    let config = |pair: &Pair| kubeconfig(&api_url(), &ca.cert, pair);
    files.write(
        "scheduler.kubeconfig",
        &config(&client("system:kube-scheduler", None)?)?,
    )?;
    files.write(
        "controller-manager.kubeconfig",
        &config(&client("system:kube-controller-manager", None)?)?,
    )?;
    let admin = client("admin", Some("system:masters"))?;
    files.write("admin.kubeconfig", &config(&admin)?)?;
    write_private(
        host_kubeconfig,
        &kubeconfig(&format!("https://127.0.0.1:{port}"), &ca.cert, &admin)?,
    )?;

    let proxy = config(&client("system:kube-proxy", None)?)?;
    plan.node_plans()
        .map(|node: NodePlan| {
            let user = format!("system:node:{}", node.name);
            let serves = vec![
                node.name.clone(),
                node.lan.v4.to_string(),
                node.lan.v6.to_string(),
            ];
            Ok(NodeCredentials {
                authority: ca.cert.clone(),
                kubelet: config(&client(&user, Some("system:nodes"))?)?,
                proxy: proxy.clone(),
                serving: ca.issue(&Subject {
                    name: &user,
                    group: Some("system:nodes"),
                    serves,
                })?,
            })
        })
        .collect()
}

fn api_names() -> Vec<String> {
    let (v4, v6) = KUBERNETES_SERVICE;
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    let addresses: [IpAddr; 5] = [
        v4.into(),
        v6.into(),
        control().v4.into(),
        control().v6.into(),
        IpAddr::from([127, 0, 0, 1]),
    ];
    names.extend(addresses.map(|a| a.to_string()));
    names
}

/// Base64 of RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let c = if i <= chunk.len() {
                ALPHABET[(word >> (18 - 6 * i)) as usize & 63]
            } else {
                b'='
            };
            out.push(char::from(c));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_by_the_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn certificates_are_pem_and_a_kubeconfig_is_complete() {
        let ca = Authority::new("ca").unwrap();
        let pair = ca
            .issue(&Subject {
                name: "admin",
                group: Some("system:masters"),
                serves: vec![],
            })
            .unwrap();
        assert!(pair.cert.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(pair.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let config: serde_json::Value =
            serde_json::from_str(&kubeconfig("https://x:1", &ca.pair().cert, &pair).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://x:1");
        assert_eq!(config["current-context"], config["contexts"][0]["name"]);
        assert!(
            config["users"][0]["user"]["client-key-data"]
                .as_str()
                .unwrap()
                .len()
                > 100
        );
    }
}
