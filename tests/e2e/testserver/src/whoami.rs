//! A page that says who served it: host name, addresses, the client's address, and the request as it came.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Starts the server. `args` are `--port N`; the environment variable `WHOAMI_PORT_NUMBER` is the default, then 80.
pub(crate) fn start(args: &[String]) -> Result<(), String> {
    let port = port(args, std::env::var("WHOAMI_PORT_NUMBER").ok())?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .map_err(|e| format!("listen on port {port}: {e}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => drop(std::thread::spawn(move || {
                    if let Err(error) = serve(&stream) {
                        eprintln!("whoami: {error}");
                    }
                })),
                Err(error) => eprintln!("whoami: accept: {error}"),
            }
        }
    });
    Ok(())
}

fn port(args: &[String], from_environment: Option<String>) -> Result<u16, String> {
    let mut value = from_environment.unwrap_or_else(|| "80".to_owned());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = arg.strip_prefix("--").or(arg.strip_prefix('-')).unwrap_or(arg);
        match arg.split_once('=') {
            Some(("port", v)) => v.clone_into(&mut value),
            None if arg == "port" => args.next().ok_or("--port needs a number")?.clone_into(&mut value),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    value.parse().map_err(|_| format!("{value:?} is no port number"))
}

/// One connection: answers requests until the client closes it.
fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Browsers open connections in advance and leave them silent.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_head(&mut reader)? {
        let body = page(&request, stream.peer_addr()?, &hostname(), &own_addresses());
        let keep = !header(&request, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
            && !request.lines().next().unwrap_or_default().ends_with("HTTP/1.0");
        // A body of the request is of no interest, but the next request begins after it.
        let length: u64 = header(&request, "content-length")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let connection = if keep { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        let mut writer: &TcpStream = stream;
        let without_body = request.starts_with("HEAD ");
        writer.write_all((head + if without_body { "" } else { &body }).as_bytes())?;
        if !keep {
            break;
        }
    }
    Ok(())
}

/// The request line and headers, without the empty line; `None` when the client is done. At most 64 KiB.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = reader.take(65536);
    loop {
        let before = head.len();
        match limited.read_line(&mut head) {
            Ok(0) => return Ok(None),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
            Ok(_) if head[before..].trim_end().is_empty() => {
                head.truncate(before);
                return Ok(Some(head));
            }
            Ok(_) => {}
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .skip(1)
        .filter_map(|l| l.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

fn page(request: &str, client: SocketAddr, hostname: &str, addresses: &[IpAddr]) -> String {
    let mut page = format!("Hostname: {hostname}\n");
    for address in addresses {
        // Writing into a String cannot fail.
        let _infallible = writeln!(page, "IP: {address}");
    }
    // The socket takes both families; an IPv4 client is shown as such.
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let _infallible = writeln!(page, "RemoteAddr: {client}");
    for line in request.lines() {
        let _infallible = writeln!(page, "{}", line.trim_end());
    }
    page.push('\n');
    page
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn own_addresses() -> Vec<IpAddr> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut all: Vec<IpAddr> = ipv4_addresses(&read("/proc/net/fib_trie"))
        .into_iter()
        .map(IpAddr::V4)
        .collect();
    all.extend(
        ipv6_addresses(&read("/proc/net/if_inet6"))
            .into_iter()
            .map(IpAddr::V6),
    );
    // Loopback first, as people know the page; then the order of the kernel's lists.
    all.sort_by_key(|address| !address.is_loopback());
    all
}

/// Addresses of this host in the kernel's routing trie: each leaf that is a local /32. Every one stands there twice.
fn ipv4_addresses(text: &str) -> Vec<Ipv4Addr> {
    let mut all = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            all.extend(leaf);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// First column of `/proc/net/if_inet6`: 32 hexadecimal digits.
fn ipv6_addresses(text: &str) -> Vec<Ipv6Addr> {
    let digits = text.lines().filter_map(|line| line.split_whitespace().next());
    digits
        .filter_map(|d| u128::from_str_radix(d, 16).ok())
        .map(Ipv6Addr::from_bits)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_from_flag_environment_and_default() {
        let args = |a: &[&str]| a.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(port(&[], None), Ok(80));
        assert_eq!(port(&[], Some("8080".into())), Ok(8080));
        assert_eq!(port(&args(&["--port", "81"]), Some("8080".into())), Ok(81));
        assert_eq!(port(&args(&["-port=82"]), None), Ok(82));
        for bad in [
            &["--port"][..],
            &["--port", "x"],
            &["--verbose"],
            &["--port=70000"],
        ] {
            assert!(port(&args(bad), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_from_proc() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n     |-- 10.244.1.5\n        \
                    /32 host LOCAL\n     |-- 10.244.1.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
                    |-- 10.244.1.5\n /32 host LOCAL\n";
        assert_eq!(
            ipv4_addresses(trie),
            [Ipv4Addr::new(10, 244, 1, 5), Ipv4Addr::LOCALHOST]
        );
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nfd000010024400010000000000000005 02 40 00 80 eth0\n";
        assert_eq!(
            ipv6_addresses(inet6),
            [
                Ipv6Addr::LOCALHOST,
                "fd00:10:244:1::5".parse::<Ipv6Addr>().unwrap()
            ]
        );
    }

    #[test]
    fn two_requests_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let thread = std::thread::spawn(move || serve(&server));
        client.write_all(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
        assert!(
            all.contains("\nPOST /a HTTP/1.1\nHost: x\n") && all.contains("\nGET /b HTTP/1.1\n"),
            "{all}"
        );
        assert!(all.contains("RemoteAddr: 127.0.0.1:"), "{all}");
    }
}
