//! The bytes of `foca`'s headers and members. Fixed, big endian, no self-description: all speakers of a cluster agree on
//! the envelope's version ([`crate::message::VERSION`]).

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Message, State};

use crate::Identity;

/// Longest node name accepted, in bytes: that of a Kubernetes object.
const NAME_MAX: usize = 253;

const PING: u8 = 0;
const ACK: u8 = 1;

/// The bytes are not what they should be, or the buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecError {
    /// Fewer bytes than needed.
    Truncated,
    /// A tag, name or address that means nothing.
    Invalid,
    /// No room left to write.
    Full,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "membership datagram too short",
            Self::Invalid => "membership datagram has an invalid field",
            Self::Full => "membership datagram full",
        })
    }
}

impl core::error::Error for CodecError {}

pub(crate) fn put_identity(id: &Identity, buf: &mut impl BufMut) -> Result<(), CodecError> {
    let name = id.name.as_bytes();
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(CodecError::Invalid);
    }
    let address_len = if id.address.is_ipv4() { 4 } else { 16 };
    if buf.remaining_mut() < 1 + name.len() + 1 + address_len + 2 + 8 {
        return Err(CodecError::Full);
    }
    buf.put_u8(name.len() as u8);
    buf.put_slice(name);
    match id.address.ip() {
        IpAddr::V4(ip) => {
            buf.put_u8(4);
            buf.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            buf.put_u8(6);
            buf.put_slice(&ip.octets());
        }
    }
    buf.put_u16(id.address.port());
    buf.put_u64(id.generation);
    Ok(())
}

pub(crate) fn get_identity(buf: &mut impl Buf) -> Result<Identity, CodecError> {
    let length = usize::from(get_u8(buf)?);
    if length == 0 || length > NAME_MAX {
        return Err(CodecError::Invalid);
    }
    let mut name = [0; NAME_MAX];
    get_slice(buf, &mut name[..length])?;
    let name = core::str::from_utf8(&name[..length]).map_err(|_| CodecError::Invalid)?;
    let ip = match get_u8(buf)? {
        4 => {
            let mut octets = [0; 4];
            get_slice(buf, &mut octets)?;
            IpAddr::from(Ipv4Addr::from(octets))
        }
        6 => {
            let mut octets = [0; 16];
            get_slice(buf, &mut octets)?;
            IpAddr::from(Ipv6Addr::from(octets))
        }
        _ => return Err(CodecError::Invalid),
    };
    if buf.remaining() < 10 {
        return Err(CodecError::Truncated);
    }
    let address = SocketAddr::new(ip, buf.get_u16());
    Ok(Identity {
        name: name.into(),
        address,
        generation: buf.get_u64(),
    })
}

/// What a message of `foca` is, as far as it is a probe or the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeMessage {
    /// The question with this number; whether it carries news of members.
    Ping { number: u8, news: bool },
    /// The answer to it.
    Ack(u8),
}

/// Looks into a message of `foca`: a probe or the answer to one, and who sent it.
pub(crate) fn probe_message(body: &[u8]) -> Option<(ProbeMessage, &[u8])> {
    let rest = &mut &*body;
    skip_identity(rest)?;
    let source = &body[..body.len() - rest.len()];
    skip(rest, size_of::<u16>())?;
    skip_identity(rest)?;
    let message = match **rest {
        [PING, number, ref rest @ ..] => ProbeMessage::Ping {
            number,
            news: !matches!(rest, [] | [0, 0]),
        },
        [ACK, number, ..] => ProbeMessage::Ack(number),
        _ => return None,
    };
    Some((message, source))
}

fn skip(buf: &mut &[u8], length: usize) -> Option<()> {
    *buf = buf.get(length..)?;
    Some(())
}

fn skip_identity(buf: &mut &[u8]) -> Option<()> {
    let name = usize::from(*buf.first()?);
    skip(buf, 1 + name)?;
    let ip = match buf.first()? {
        4 => 4,
        6 => 16,
        _ => return None,
    };
    skip(buf, 1 + ip + size_of::<u16>() + size_of::<u64>())
}

fn get_u8(buf: &mut impl Buf) -> Result<u8, CodecError> {
    if buf.has_remaining() {
        Ok(buf.get_u8())
    } else {
        Err(CodecError::Truncated)
    }
}

pub(crate) fn get_u16(buf: &mut impl Buf) -> Result<u16, CodecError> {
    if buf.remaining() >= 2 {
        Ok(buf.get_u16())
    } else {
        Err(CodecError::Truncated)
    }
}

pub(crate) fn get_u32(buf: &mut impl Buf) -> Result<u32, CodecError> {
    if buf.remaining() >= 4 {
        Ok(buf.get_u32())
    } else {
        Err(CodecError::Truncated)
    }
}

fn get_slice(buf: &mut impl Buf, into: &mut [u8]) -> Result<(), CodecError> {
    if buf.remaining() < into.len() {
        return Err(CodecError::Truncated);
    }
    buf.copy_to_slice(into);
    Ok(())
}

fn put(buf: &mut impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

/// Our bytes for `foca`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec;

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        put_identity(&header.src, &mut buf)?;
        put(&mut buf, &header.src_incarnation.to_be_bytes())?;
        put_identity(&header.dst, &mut buf)?;
        let mut tagged = |tag: u8, peer: Option<&Identity>, number: Option<u8>| {
            put(&mut buf, &[tag])?;
            if let Some(peer) = peer {
                put_identity(peer, &mut buf)?;
            }
            number.map_or(Ok(()), |number| put(&mut buf, &[number]))
        };
        match &header.message {
            Message::Ping(number) => tagged(PING, None, Some(*number)),
            Message::Ack(number) => tagged(ACK, None, Some(*number)),
            Message::PingReq { target, probe_number } => tagged(2, Some(target), Some(*probe_number)),
            Message::IndirectPing { origin, probe_number } => tagged(3, Some(origin), Some(*probe_number)),
            Message::IndirectAck { target, probe_number } => tagged(4, Some(target), Some(*probe_number)),
            Message::ForwardedAck { origin, probe_number } => tagged(5, Some(origin), Some(*probe_number)),
            Message::Announce => tagged(6, None, None),
            Message::Feed => tagged(7, None, None),
            Message::Gossip => tagged(8, None, None),
            Message::Broadcast => tagged(9, None, None),
            Message::TurnUndead => tagged(10, None, None),
        }
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let src = get_identity(&mut buf)?;
        let src_incarnation = get_u16(&mut buf)?;
        let dst = get_identity(&mut buf)?;
        let message = match get_u8(&mut buf)? {
            PING => Message::Ping(get_u8(&mut buf)?),
            ACK => Message::Ack(get_u8(&mut buf)?),
            2 => Message::PingReq {
                target: get_identity(&mut buf)?,
                probe_number: get_u8(&mut buf)?,
            },
            3 => Message::IndirectPing {
                origin: get_identity(&mut buf)?,
                probe_number: get_u8(&mut buf)?,
            },
            4 => Message::IndirectAck {
                target: get_identity(&mut buf)?,
                probe_number: get_u8(&mut buf)?,
            },
            5 => Message::ForwardedAck {
                origin: get_identity(&mut buf)?,
                probe_number: get_u8(&mut buf)?,
            },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(CodecError::Invalid),
        };
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put_identity(member.id(), &mut buf)?;
        let state = match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        };
        put(&mut buf, &member.incarnation().to_be_bytes())?;
        put(&mut buf, &[state])
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<foca::Member<Identity>, CodecError> {
        let id = get_identity(&mut buf)?;
        let incarnation = get_u16(&mut buf)?;
        let state = match get_u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(CodecError::Invalid),
        };
        Ok(foca::Member::new(id, incarnation, state))
    }
}

#[cfg(test)]
mod tests {
    use foca::Codec as _;

    use super::*;

    fn id(name: &str, address: &str) -> Identity {
        Identity {
            name: name.into(),
            address: address.parse().expect("address"),
            generation: 77,
        }
    }

    #[test]
    fn every_message_survives_the_wire_and_no_cut_is_accepted() {
        let (a, b, c) = (
            id("a", "192.0.2.1:7946"),
            id("node-b.example", "[2001:db8::2]:1"),
            id("c", "192.0.2.3:2"),
        );
        let messages = [
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq {
                target: c.clone(),
                probe_number: 3,
            },
            Message::IndirectPing {
                origin: c.clone(),
                probe_number: 4,
            },
            Message::IndirectAck {
                target: c.clone(),
                probe_number: 5,
            },
            Message::ForwardedAck {
                origin: c,
                probe_number: 6,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header {
                src: a.clone(),
                src_incarnation: 9,
                dst: b.clone(),
                message,
            };
            let mut bytes = Vec::new();
            Codec.encode_header(&header, &mut bytes).expect("encodes");
            assert_eq!(Codec.decode_header(&bytes[..]), Ok(header));
            for length in 0..bytes.len() {
                assert!(Codec.decode_header(&bytes[..length]).is_err());
            }
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = foca::Member::new(a.clone(), 3, state);
            let mut bytes = Vec::new();
            Codec.encode_member(&member, &mut bytes).expect("encodes");
            assert_eq!(Codec.decode_member(&bytes[..]), Ok(member));
        }
    }

    #[test]
    fn a_full_buffer_is_an_error_and_not_a_panic() {
        let member = foca::Member::alive(id("a", "192.0.2.1:7946"));
        for room in 0..19 {
            assert_eq!(
                Codec.encode_member(&member, Vec::new().limit(room)),
                Err(CodecError::Full),
                "{room}"
            );
        }
        let long = Identity {
            name: "n".repeat(254).into(),
            ..id("a", "192.0.2.1:7946")
        };
        assert_eq!(
            Codec.encode_member(&foca::Member::alive(long), Vec::new()),
            Err(CodecError::Invalid)
        );
    }
}
