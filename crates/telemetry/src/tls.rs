//! TLS of the metrics endpoint, set by the flags that Go `MetalLB` has for it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The files are looked at before a handshake, but not more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Flags as given; empty means the default.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// `--tls-min-version`: `VersionTLS12` or `VersionTLS13` (default).
    pub min_version: String,
    /// `--tls-cipher-suites`: names of TLS 1.2 suites, comma separated; only with `VersionTLS12`.
    pub cipher_suites: String,
    /// `--tls-curve-preferences`: numbers of the IANA registry "TLS Supported Groups", comma separated, best first.
    pub curve_preferences: String,
    /// `--metrics-cert-dir`: directory of `tls.crt` and `tls.key`; a self-signed certificate is made without it.
    pub cert_dir: String,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A flag has a value that cannot be honoured.
    #[error("--{flag}: {problem}")]
    Flag {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// A file of `--metrics-cert-dir` cannot be used.
    #[error("--metrics-cert-dir: {file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key cannot be used together.
    #[error("the certificate of the metrics endpoint cannot be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// No self-signed certificate could be made.
    #[error("no self-signed certificate could be made: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

fn flag(flag: &'static str, problem: impl Into<String>) -> TlsError {
    TlsError::Flag {
        flag,
        problem: problem.into(),
    }
}

/// Certificates from files, and when they were looked at.
struct Files {
    dir: PathBuf,
    looked: Instant,
    pem: (Vec<u8>, Vec<u8>),
    acceptor: TlsAcceptor,
}

enum Source {
    Fixed(TlsAcceptor),
    Files(Mutex<Files>),
}

/// The server side of TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    terms: Arc<Terms>,
    source: Arc<Source>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the flags, and the certificate or makes one for `host`.
    ///
    /// # Errors
    /// A flag that cannot be honoured, or a certificate that cannot be used.
    pub fn new(options: &TlsOptions, host: &str) -> Result<Self, TlsError> {
        let terms = Terms::new(options)?;
        let source = if options.cert_dir.is_empty() {
            Source::Fixed(terms.self_signed(host)?)
        } else {
            let dir = PathBuf::from(&options.cert_dir);
            let pem = (read(&dir, CERTIFICATE)?, read(&dir, KEY)?);
            Source::Files(Mutex::new(Files {
                acceptor: terms.of_pem(&dir, &pem)?,
                looked: Instant::now(),
                pem,
                dir,
            }))
        };
        Ok(Self {
            terms: Arc::new(terms),
            source: Arc::new(source),
        })
    }

    /// What the next connection is accepted with. Files that have changed are read again; while they cannot be used the
    /// certificate before stays.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut files = match &*self.source {
            Source::Fixed(acceptor) => return acceptor.clone(),
            Source::Files(files) => files.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if files.looked.elapsed() >= LOOK_EVERY {
            files.looked = Instant::now();
            match self.renewed(&files) {
                Ok(None) => {}
                Ok(Some((pem, acceptor))) => {
                    tracing::info!(dir = %files.dir.display(), "the certificate of the metrics endpoint was renewed");
                    files.pem = pem;
                    files.acceptor = acceptor;
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate of the metrics endpoint has changed and cannot be used; the one before stays");
                }
            }
        }
        files.acceptor.clone()
    }

    #[allow(clippy::type_complexity, reason = "used once")]
    fn renewed(&self, files: &Files) -> Result<Option<((Vec<u8>, Vec<u8>), TlsAcceptor)>, TlsError> {
        let pem = (read(&files.dir, CERTIFICATE)?, read(&files.dir, KEY)?);
        if pem == files.pem {
            return Ok(None);
        }
        let acceptor = self.terms.of_pem(&files.dir, &pem)?;
        Ok(Some((pem, acceptor)))
    }
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, TlsError> {
    let file = dir.join(name);
    std::fs::read(&file).map_err(|error: io::Error| TlsError::File {
        file: file.display().to_string(),
        problem: error.to_string(),
    })
}

/// What is negotiated.
struct Terms {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Terms {
    fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let old = match options.min_version.as_str() {
            "" | "VersionTLS13" => false,
            "VersionTLS12" => true,
            other => {
                return Err(flag(
                    "tls-min-version",
                    format!("{other:?} is not possible; write VersionTLS12 or VersionTLS13"),
                ));
            }
        };
        let mut provider = ring::default_provider();
        if !options.cipher_suites.trim().is_empty() {
            if !old {
                return Err(flag(
                    "tls-cipher-suites",
                    "TLS 1.3 chooses its cipher suites itself; set --tls-min-version=VersionTLS12 or leave this out",
                ));
            }
            choose_suites(&mut provider, &options.cipher_suites)?;
        }
        if !options.curve_preferences.trim().is_empty() {
            provider.kx_groups = groups(&options.curve_preferences)?;
        }
        Ok(Self {
            provider: Arc::new(provider),
            versions: if old { vec![&TLS13, &TLS12] } else { vec![&TLS13] },
        })
    }

    fn acceptor(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn of_pem(&self, dir: &Path, (chain, key): &(Vec<u8>, Vec<u8>)) -> Result<TlsAcceptor, TlsError> {
        let bad = |name: &str, problem: String| TlsError::File {
            file: dir.join(name).display().to_string(),
            problem,
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(CERTIFICATE, error.to_string()))?;
        if chain.is_empty() {
            return Err(bad(CERTIFICATE, "holds no certificate in PEM form".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad(KEY, error.to_string()))?;
        self.acceptor(chain, key)
    }

    fn self_signed(&self, host: &str) -> Result<TlsAcceptor, TlsError> {
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(vec![host.to_owned()])?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, host);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&key)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        self.acceptor(vec![certificate.der().clone()], key.into())
    }
}

/// Keeps the suites of TLS 1.2 that are named. Names that Go knows and this build does not are left out, as long as one
/// remains.
fn choose_suites(provider: &mut CryptoProvider, names: &str) -> Result<(), TlsError> {
    const FLAG: &str = "tls-cipher-suites";
    // Go's spelling of two of them lacks the hash that the registry has.
    let wanted: Vec<String> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| match name.strip_suffix("_WITH_CHACHA20_POLY1305") {
            Some(_) => format!("{name}_SHA256"),
            None => name.to_owned(),
        })
        .collect();
    let name_of = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
    let is_old = |suite: &rustls::SupportedCipherSuite| suite.version().version == TLS12.version;
    let known: Vec<String> = provider.cipher_suites.iter().map(name_of).collect();
    let names_of_old = || -> Vec<String> {
        let old = provider.cipher_suites.iter().filter(|suite| is_old(suite));
        old.map(name_of).collect()
    };
    for name in &wanted {
        if !name.starts_with("TLS_") {
            return Err(flag(
                FLAG,
                format!(
                    "{name:?} is no cipher suite; possible: {}",
                    names_of_old().join(", ")
                ),
            ));
        }
        // The registry writes TLS_AES_128_GCM_SHA256, rustls TLS13_AES_128_GCM_SHA256; these are always on.
        let is_new = known.contains(&name.replacen("TLS_", "TLS13_", 1));
        if !is_new && !known.contains(name) {
            tracing::warn!(
                suite = name,
                "--tls-cipher-suites: this build does not have the suite, leaving it out"
            );
        }
    }
    let possible = names_of_old();
    provider
        .cipher_suites
        .retain(|suite| !is_old(suite) || wanted.contains(&name_of(suite)));
    if provider.cipher_suites.iter().any(is_old) {
        Ok(())
    } else {
        Err(flag(
            FLAG,
            format!("none of {names:?} is there; possible: {}", possible.join(", ")),
        ))
    }
}

/// The groups with these numbers. Post-quantum and P-521 groups, which Go knows and this build does not, are left out as long as
/// one remains.
fn groups(numbers: &str) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsError> {
    const FLAG: &str = "tls-curve-preferences";
    const POSSIBLE: &str = "possible: 23 (P-256), 24 (P-384), 29 (X25519)";
    /// P-521, `X25519MLKEM768`, `SecP256r1MLKEM768`, `SecP384r1MLKEM1024`
    const KNOWN_TO_GO: [u16; 4] = [25, 4588, 4587, 4589];
    let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for text in numbers.split(',').map(str::trim) {
        let number: u16 = text
            .parse()
            .map_err(|_| flag(FLAG, format!("{text:?} is no number of a group; {POSSIBLE}")))?;
        let found = ring::ALL_KX_GROUPS
            .iter()
            .copied()
            .find(|group| u16::from(group.name()) == number);
        match found {
            Some(group) if chosen.iter().any(|other| other.name() == group.name()) => {
                return Err(flag(FLAG, format!("{number} stands there twice")));
            }
            Some(group) => chosen.push(group),
            None if KNOWN_TO_GO.contains(&number) => {
                tracing::warn!(
                    group = number,
                    "--tls-curve-preferences: this build does not have the group, leaving it out"
                );
            }
            None => return Err(flag(FLAG, format!("{number} is not possible; {POSSIBLE}"))),
        }
    }
    if chosen.is_empty() {
        return Err(flag(FLAG, format!("none of {numbers:?} is there; {POSSIBLE}")));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(min: &str, suites: &str, curves: &str) -> TlsOptions {
        TlsOptions {
            min_version: min.into(),
            cipher_suites: suites.into(),
            curve_preferences: curves.into(),
            cert_dir: String::new(),
        }
    }

    #[test]
    fn flags_are_honoured_or_refused_in_words() {
        const CHACHA: &str = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305";
        const AES: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        const CBC: &str = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
        let both = format!("{AES},{CBC}, TLS_AES_128_GCM_SHA256");
        // (minimum, suites, curves), number of versions, of TLS 1.2 suites and of groups
        for (min, suites, curves, expected) in [
            ("", "", "", (1, 6, 3)),
            ("VersionTLS13", "", "29", (1, 6, 1)),
            ("VersionTLS12", "", "29, 23", (2, 6, 2)),
            ("VersionTLS12", CHACHA, "4588,29", (2, 1, 1)),
            ("VersionTLS12", both.as_str(), "", (2, 1, 3)),
        ] {
            let terms = Terms::new(&options(min, suites, curves)).expect(suites);
            let old = |suite: &&rustls::SupportedCipherSuite| suite.version().version == TLS12.version;
            let found = (
                terms.versions.len(),
                terms.provider.cipher_suites.iter().filter(old).count(),
                terms.provider.kx_groups.len(),
            );
            assert_eq!(found, expected, "{min} {suites} {curves}");
        }
        for (min, suites, curves, part) in [
            ("VersionTLS11", "", "", "VersionTLS12 or VersionTLS13"),
            ("1.3", "", "", "--tls-min-version"),
            ("", AES, "", "TLS 1.3 chooses"),
            ("VersionTLS12", "AES128", "", "\"AES128\" is no cipher suite"),
            ("VersionTLS12", CBC, "", "none of"),
            ("", "", "X25519", "no number"),
            ("", "", "4588", "none of"),
            ("", "", "77", "77 is not possible"),
            ("", "", "29,29", "twice"),
            ("", "", "0", "not possible"),
        ] {
            let error = Terms::new(&options(min, suites, curves))
                .err()
                .expect(part)
                .to_string();
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_missing_or_bad_file_is_named() {
        let dir = std::env::temp_dir().join(format!("telemetry-bad-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let options = TlsOptions {
            cert_dir: dir.display().to_string(),
            ..TlsOptions::default()
        };
        let error = Tls::new(&options, "h").unwrap_err().to_string();
        assert!(error.contains("tls.crt"), "{error}");
        std::fs::write(dir.join(CERTIFICATE), "junk").expect("written");
        std::fs::write(dir.join(KEY), "junk").expect("written");
        let error = Tls::new(&options, "h").unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
