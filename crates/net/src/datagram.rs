//! A UDP socket for many small datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::fd;

/// A UDP socket that wakes its thread when something arrives and at no other time. tokio's own also does after each datagram
/// that it sends. What cannot be sent at once is dropped: whoever sends here repeats itself.
pub struct DatagramSocket {
    socket: AsyncFd<UdpSocket>,
}

impl DatagramSocket {
    /// Takes over a bound socket, which becomes non-blocking.
    ///
    /// # Errors
    /// The kernel's; there is no runtime.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: fd::register(socket)?,
        })
    }

    /// Waits for a datagram and takes it into `buffer`; its length, and who sent it. Safe to cancel.
    ///
    /// # Errors
    /// `ECONNREFUSED` when an earlier datagram was refused; the socket stays usable.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(received) = guard.try_io(|socket| socket.get_ref().recv_from(buffer)) {
                return received;
            }
        }
    }

    /// Takes a datagram if there was one when the runtime last looked, or one has been taken since.
    ///
    /// # Errors
    /// As [`DatagramSocket::receive`], and `WouldBlock` when there is none.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket
            .try_io(Interest::READABLE, |socket| socket.recv_from(buffer))
    }

    /// Takes a datagram if there is one now, whether the runtime knows of it or not.
    ///
    /// # Errors
    /// As [`DatagramSocket::try_receive`].
    pub fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.get_ref().recv_from(buffer)
    }

    /// Sends a datagram at once.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when the queue is full and the datagram is dropped.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.get_ref().send_to(datagram, to).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn socket() -> (DatagramSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = socket.local_addr().expect("an address");
        (DatagramSocket::new(socket).expect("registered"), address)
    }

    #[test]
    fn what_is_sent_arrives_and_nothing_else_wakes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let ((one, from), (other, to)) = (socket(), socket());
            let mut buffer = [0; 16];
            for word in [&b"first"[..], b"second", b"third"] {
                one.send(word, to).expect("sent");
            }
            let received = other.receive(&mut buffer).await.expect("received");
            assert_eq!((&buffer[..received.0], received.1), (&b"first"[..], from));
            assert_eq!(other.try_receive(&mut buffer).expect("waits"), (6, from));
            assert_eq!(other.receive_now(&mut buffer).expect("waits"), (5, from));
            let nothing = other.try_receive(&mut buffer).expect_err("all taken");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            // A socket registered for writing too would be ready at once.
            let woken = tokio::time::timeout(Duration::from_millis(20), one.socket.readable()).await;
            assert!(woken.is_err());
        });
    }
}
