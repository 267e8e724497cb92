//! The HTTPS server: TLS, and a review of every request, around the same [`Routes`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};

use crate::{
    access::{Access, Guard},
    http::{Answer, Listener, Routes, TEXT, connection},
    tls::Tls,
};

/// A client that has not finished its handshake by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// As [`crate::http::serve`], over TLS, for those whom `guard` lets in.
///
/// # Errors
/// The address can't be bound; the message names it.
pub async fn serve(address: SocketAddr, routes: Routes, tls: Tls, guard: Guard) -> io::Result<SocketAddr> {
    let listener = Listener::bind(address).await?;
    let bound = listener.address;
    let routes = Arc::new(routes);
    tokio::spawn(listener.accept(move |stream| {
        let (tls, guard, routes) = (tls.clone(), guard.clone(), routes.clone());
        async move {
            let accepted = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await;
            let stream = match accepted {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            connection(stream, move |request| {
                let (guard, routes) = (guard.clone(), routes.clone());
                async move {
                    // What is not there needs no review.
                    if routes.knows(request.uri().path())
                        && let Some(refusal) = refusal(&guard, request.headers(), request.uri().path()).await
                    {
                        return refusal;
                    }
                    routes.answer(request.method(), request.uri().path())
                }
            })
            .await;
        }
    }));
    Ok(bound)
}

async fn refusal(guard: &Guard, headers: &HeaderMap, path: &str) -> Option<Answer> {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let (status, text) = match guard.check(authorization, path).await {
        Ok(Access::Granted) => return None,
        Ok(Access::Unauthenticated) => (
            StatusCode::UNAUTHORIZED,
            "send the token of a ServiceAccount that may get the nonResourceURL: Authorization: Bearer TOKEN\n".to_owned(),
        ),
        Ok(Access::Forbidden(user)) => (
            StatusCode::FORBIDDEN,
            format!("{user} may not get the nonResourceURL {path}: bind a ClusterRole that allows it\n"),
        ),
        Err(error) => {
            tracing::warn!(error, path, "a token could not be reviewed");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the token could not be reviewed, try again later\n".to_owned(),
            )
        }
    };
    Some((status, TEXT, text))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::TlsOptions;

    struct Files {
        dir: PathBuf,
        root: CertificateDer<'static>,
    }

    impl Files {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("telemetry-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let mut files = Self {
                dir,
                root: CertificateDer::from(Vec::new()),
            };
            files.renew();
            files
        }

        fn renew(&mut self) {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["allocator.example".to_owned()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            std::fs::write(self.dir.join("tls.crt"), certificate.pem()).unwrap();
            std::fs::write(self.dir.join("tls.key"), key.serialize_pem()).unwrap();
            self.root = certificate.der().clone();
        }

        /// `headers`: whole lines, each with its end.
        async fn get(&self, address: SocketAddr, path: &str, headers: &str) -> io::Result<String> {
            let mut roots = RootCertStore::empty();
            roots.add(self.root.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("allocator.example").unwrap();
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            // A peer that closes without close_notify has still answered.
            match stream.read_to_string(&mut answer).await {
                Err(error) if answer.is_empty() => Err(error),
                _ => Ok(answer),
            }
        }

        async fn get_as(&self, address: SocketAddr, path: &str, token: &str) -> io::Result<String> {
            self.get(address, path, &format!("Authorization: Bearer {token}\r\n"))
                .await
        }
    }

    fn guard() -> Guard {
        Guard::new(|token, _| {
            Box::pin(async move {
                match token.as_str() {
                    "good" => Ok(Access::Granted),
                    "away" => Err("the API server is away".to_owned()),
                    "stranger" => Ok(Access::Unauthenticated),
                    user => Ok(Access::Forbidden(user.to_owned())),
                }
            })
        })
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_reviewed_tokens_read_over_tls() {
        let mut files = Files::new("secure");
        let options = TlsOptions {
            cert_dir: files.dir.display().to_string(),
            ..TlsOptions::default()
        };
        let tls = Tls::new(&options, "h").unwrap();
        let routes = Routes::new().json("/metrics", || "{\"secret\":1}".into());
        let address = serve("127.0.0.1:0".parse().unwrap(), routes, tls, guard())
            .await
            .unwrap();
        for (token, status) in [
            ("good", "HTTP/1.1 200"),
            ("stranger", "HTTP/1.1 401"),
            ("bob", "HTTP/1.1 403"),
            ("away", "HTTP/1.1 503"),
        ] {
            let answer = files.get_as(address, "/metrics", token).await.unwrap();
            assert!(answer.starts_with(status), "{token}: {answer}");
            assert_eq!(answer.contains("secret"), token == "good", "{answer}");
        }
        let anonymous = files.get(address, "/metrics", "").await.unwrap();
        assert!(anonymous.starts_with("HTTP/1.1 401"), "{anonymous}");
        let nowhere = files.get_as(address, "/nothing", "good").await.unwrap();
        assert!(nowhere.starts_with("HTTP/1.1 404"), "{nowhere}");

        // Plain HTTP gets nothing.
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let mut bytes = Vec::new();
        // A reset instead of an end is as good.
        let _ended = plain.read_to_end(&mut bytes).await;
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));

        // Renewed files: the client that trusts only the new certificate gets through once the files were looked at again.
        files.renew();
        assert!(files.get_as(address, "/metrics", "good").await.is_err());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
        let answer = files.get_as(address, "/metrics", "good").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        // Broken files: what was there before stays.
        std::fs::write(files.dir.join("tls.crt"), "junk").unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
        let answer = files.get_as(address, "/metrics", "good").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        std::fs::remove_dir_all(&files.dir).unwrap();
    }
}
