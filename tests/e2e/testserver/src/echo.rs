//! Echo servers: what comes goes back.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};

/// Starts one server for each port.
pub(crate) fn start(ports: &[String], server: fn(u16) -> io::Result<()>) -> Result<(), String> {
    if ports.is_empty() {
        return Err("give at least one port".to_owned());
    }
    for text in ports {
        let port = text.parse().map_err(|_| format!("{text:?} is no port number"))?;
        server(port).map_err(|e| format!("port {port}: {e}"))?;
    }
    Ok(())
}

/// UDP; one socket takes both families.
pub(crate) fn udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        loop {
            let result = socket
                .recv_from(&mut buffer)
                .and_then(|(n, from)| socket.send_to(&buffer[..n], from));
            if let Err(error) = result {
                // A sender that is gone again: its ICMP error shows up here.
                eprintln!("udp-echo {port}: {error}");
            }
        }
    });
    Ok(())
}

/// TCP; a thread for each connection.
pub(crate) fn tcp(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => drop(std::thread::spawn(move || reflect(stream))),
                Err(error) => eprintln!("tcp-echo {port}: {error}"),
            }
        }
    });
    Ok(())
}

fn reflect(mut stream: TcpStream) {
    let mut buffer = vec![0; 65536];
    let result = stream.set_nodelay(true).and_then(|()| {
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..n])?;
        }
    });
    if let Err(error) = result {
        eprintln!("tcp-echo: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_goes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let thread = std::thread::spawn(move || reflect(server));
        client.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        drop(client);
        thread.join().unwrap();
    }

    #[test]
    fn bad_ports_are_named() {
        assert!(start(&[], udp).unwrap_err().contains("at least one"));
        assert!(start(&["x".to_owned()], udp).unwrap_err().contains("\"x\""));
    }
}
