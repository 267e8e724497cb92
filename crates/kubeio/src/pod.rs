//! What the kubelet mounts into a pod for talking to the API server: where it is, whom to trust, and who we are.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kubelet replaces tokens long before they are over, and certificates when they are rotated.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Why the service account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// An environment variable that every pod has is not set, or not understood.
    #[error("{0} is not set as in a pod; set automountServiceAccountToken, or run in a cluster")]
    Environment(&'static str),
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{file} cannot be used: {error}")]
    Content {
        /// Which.
        file: PathBuf,
        /// Why.
        error: String,
    },
}

impl PodError {
    fn content(file: &Path, error: impl fmt::Display) -> Self {
        Self::Content {
            file: file.to_owned(),
            error: error.to_string(),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, PodError> {
    std::fs::read(file).map_err(|error| PodError::File {
        file: file.to_owned(),
        error,
    })
}

/// The service account of this pod.
pub(crate) struct Account {
    url: Uri,
    namespace: String,
    roots: Arc<Roots>,
    token: Arc<Token>,
}

impl Account {
    pub(crate) fn load() -> Result<Self, PodError> {
        let variable = |name: &'static str| std::env::var(name).map_err(|_| PodError::Environment(name));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        Self::load_from(Path::new(DIRECTORY), &host, &port)
    }

    fn load_from(directory: &Path, host: &str, port: &str) -> Result<Self, PodError> {
        let namespace = read(&directory.join("namespace"))?;
        Ok(Self {
            url: url(host, port).ok_or(PodError::Environment("KUBERNETES_SERVICE_HOST"))?,
            namespace: String::from_utf8_lossy(&namespace).trim().to_owned(),
            roots: Arc::new(Roots(Reread::new(directory.join("ca.crt"), verifier)?)),
            token: Arc::new(Token(Reread::new(directory.join("token"), bearer)?)),
        })
    }

    pub(crate) fn url(&self) -> Uri {
        self.url.clone()
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn token(&self) -> Arc<Token> {
        Arc::clone(&self.token)
    }

    /// Trusts the cluster's certificates and no others.
    pub(crate) fn tls(&self) -> ClientConfig {
        ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.roots) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth()
    }
}

fn url(host: &str, port: &str) -> Option<Uri> {
    let host = match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    };
    let authority = format!("{host}:{}", port.parse::<u16>().ok()?);
    let uri = Uri::builder().scheme("https").authority(authority);
    uri.path_and_query("/").build().ok()
}

/// What a file holds, read again now and then. When it cannot be read any more, what it held last stays in use.
#[derive(Debug)]
struct Reread<T> {
    file: PathBuf,
    make: fn(&Path, &[u8]) -> Result<T, PodError>,
    last: Mutex<(T, Instant)>,
}

impl<T: Clone> Reread<T> {
    fn new(file: PathBuf, make: fn(&Path, &[u8]) -> Result<T, PodError>) -> Result<Self, PodError> {
        let value = make(&file, &read(&file)?)?;
        Ok(Self {
            file,
            make,
            last: Mutex::new((value, Instant::now())),
        })
    }

    fn get(&self) -> T {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1.elapsed() >= READ_EVERY {
            last.1 = Instant::now();
            match read(&self.file).and_then(|bytes| (self.make)(&self.file, &bytes)) {
                Ok(value) => last.0 = value,
                Err(error) => tracing::warn!(%error, "what it held last stays in use"),
            }
        }
        last.0.clone()
    }
}

/// Who we are.
#[derive(Debug)]
pub(crate) struct Token(Reread<HeaderValue>);

impl Token {
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.0.get());
    }
}

fn bearer(file: &Path, bytes: &[u8]) -> Result<HeaderValue, PodError> {
    let token = std::str::from_utf8(bytes).map_err(|error| PodError::content(file, error))?;
    let header = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut header = header.map_err(|error| PodError::content(file, error))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Whom we trust. Connections that stand are not asked again when that changes.
#[derive(Debug)]
struct Roots(Reread<Arc<WebPkiServerVerifier>>);

fn verifier(file: &Path, bytes: &[u8]) -> Result<Arc<WebPkiServerVerifier>, PodError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        let certificate = certificate.map_err(|error| PodError::content(file, error))?;
        roots
            .add(certificate)
            .map_err(|error| PodError::content(file, error))?;
    }
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build();
    verifier.map_err(|error| PodError::content(file, error))
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let roots = self.0.get();
        roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .get()
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .get()
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_api_server() {
        for (host, port, expected) in [
            ("10.96.0.1", "443", Some("https://10.96.0.1:443/")),
            ("fd00::1", "6443", Some("https://[fd00::1]:6443/")),
            (
                "kubernetes.default.svc",
                "443",
                Some("https://kubernetes.default.svc:443/"),
            ),
            ("10.96.0.1", "https", None),
            ("a b", "443", None),
        ] {
            let uri = url(host, port).map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), expected, "{host} {port}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let directory = std::env::temp_dir().join(format!("pod-account-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let load = || match Account::load_from(&directory, "10.96.0.1", "443") {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let put = |file: &str, text: &str| std::fs::write(directory.join(file), text).expect("written");
        assert!(load().contains("namespace cannot be read"), "{}", load());
        put("namespace", "metallb-system\n");
        assert!(load().contains("ca.crt cannot be read"), "{}", load());
        put("ca.crt", "nothing");
        assert!(load().contains("ca.crt cannot be used"), "{}", load());
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_token_is_trimmed_and_kept_out_of_logs() {
        let header = bearer(Path::new("token"), b"abc.def\n").expect("a header");
        assert_eq!(header.to_str().ok(), Some("Bearer abc.def"));
        assert!(!format!("{header:?}").contains("abc"));
        assert!(bearer(Path::new("token"), b"a\nb").is_err());
    }
}
