//! A web server for the files of one directory: a Helm repository is no more than that.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// Serves until `stop` is set. A request that goes wrong is its client's trouble, and is named on standard error.
pub fn serve_directory(listener: &TcpListener, dir: &Path, stop: &AtomicBool) {
    if let Err(error) = listener.set_nonblocking(true) {
        eprintln!("web server of {}: {error}", dir.display());
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, dir) {
                    eprintln!("web server of {}: {error:#}", dir.display());
                }
            }
            // Nobody there, or somebody who left again.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn answer(mut stream: TcpStream, dir: &Path) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request).context("read the request")?;
    // The headers say nothing that matters here.
    let mut header = String::new();
    while reader.read_line(&mut header).context("read the headers")? > 2 {
        header.clear();
    }
    let name = request
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches('/');
    // One directory: whatever has a slash in it is not there.
    let body = if name.contains('/') {
        None
    } else {
        fs::read(dir.join(name)).ok()
    };
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body).context("write the answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_of_the_directory_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("mlb-web-test-{}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("index.yaml"), "entries: {}\n").unwrap();
        fs::write(dir.join("sub/hidden"), "x").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        let get = |path: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        std::thread::scope(|scope| {
            scope.spawn(|| serve_directory(&listener, &dir, &stop));
            assert!(get("/index.yaml").ends_with("\r\n\r\nentries: {}\n"));
            for path in ["/other", "/sub/hidden", "/../etc/passwd"] {
                assert!(get(path).starts_with("HTTP/1.1 404"), "{path}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        fs::remove_dir_all(&dir).unwrap();
    }
}
