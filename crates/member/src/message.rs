//! What stands inside a sealed datagram: a version, a kind and the body.

use bytes::BufMut;

use crate::Identity;
use crate::codec::{CodecError, get_identity, get_u16, get_u32, put_identity};

/// Version of the format inside the envelope; datagrams of another version are counted and dropped.
pub(crate) const VERSION: u8 = 1;

const KIND_SWIM: u8 = 0;
const KIND_ACCUSATION: u8 = 1;
const KIND_LEAVING: u8 = 2;
const KIND_FAREWELL: u8 = 3;
const KIND_TALK: u8 = 4;
const KIND_WATCH: u8 = 5;
const KIND_BEAT: u8 = 6;
const KIND_MISSED: u8 = 7;

/// A datagram's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// A message of the SWIM protocol, for `foca`.
    Swim(&'a [u8]),
    /// "I suspect you": lets the accused answer before it is declared dead.
    Accusation {
        /// Who accuses and wants to hear the answer.
        accuser: Identity,
        /// Who is accused, in exactly this life.
        accused: Identity,
        /// The incarnation that is under suspicion.
        incarnation: u16,
    },
    /// "I am going", said to everybody by a speaker that stops.
    Leaving(Identity),
    /// "I have heard that you go": the answer, which names who went.
    Farewell {
        /// Who answers.
        from: Identity,
        /// Who goes.
        leaver: Identity,
    },
    /// Something of the layer above.
    Talk {
        /// Who says it.
        from: Identity,
        /// What.
        body: &'a [u8],
    },
    /// "I watch you": asks for a beat now and one after the other for a while.
    Watch(Identity),
    /// "I am there", to who watches.
    Beat {
        /// Who is.
        from: Identity,
        /// Counts up, so that losses are seen.
        number: u32,
    },
    /// "I hold these for dead": whoever holds one for alive in the same life makes it take another.
    Missed(Vec<Identity>),
}

impl<'a> Content<'a> {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Swim(body) => {
                bytes.push(KIND_SWIM);
                bytes.extend_from_slice(body);
            }
            Self::Accusation {
                accuser,
                accused,
                incarnation,
            } => {
                bytes.push(KIND_ACCUSATION);
                put_identity(accuser, &mut bytes)?;
                put_identity(accused, &mut bytes)?;
                bytes.put_u16(*incarnation);
            }
            Self::Leaving(identity) => {
                bytes.push(KIND_LEAVING);
                put_identity(identity, &mut bytes)?;
            }
            Self::Farewell { from, leaver } => {
                bytes.push(KIND_FAREWELL);
                put_identity(from, &mut bytes)?;
                put_identity(leaver, &mut bytes)?;
            }
            Self::Talk { from, body } => {
                bytes.push(KIND_TALK);
                put_identity(from, &mut bytes)?;
                bytes.extend_from_slice(body);
            }
            Self::Watch(from) => {
                bytes.push(KIND_WATCH);
                put_identity(from, &mut bytes)?;
            }
            Self::Beat { from, number } => {
                bytes.push(KIND_BEAT);
                put_identity(from, &mut bytes)?;
                bytes.put_u32(*number);
            }
            Self::Missed(missed) => {
                bytes.push(KIND_MISSED);
                for identity in missed {
                    put_identity(identity, &mut bytes)?;
                }
            }
        }
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let [version, kind, body @ ..] = bytes else {
            return Err(CodecError::Truncated);
        };
        if *version != VERSION {
            return Err(CodecError::Invalid);
        }
        let mut rest = body;
        let content = match *kind {
            KIND_SWIM => return Ok(Self::Swim(body)),
            KIND_ACCUSATION => Self::Accusation {
                accuser: get_identity(&mut rest)?,
                accused: get_identity(&mut rest)?,
                incarnation: get_u16(&mut rest)?,
            },
            KIND_LEAVING => Self::Leaving(get_identity(&mut rest)?),
            KIND_FAREWELL => Self::Farewell {
                from: get_identity(&mut rest)?,
                leaver: get_identity(&mut rest)?,
            },
            KIND_TALK => {
                let from = get_identity(&mut rest)?;
                return Ok(Self::Talk { from, body: rest });
            }
            KIND_WATCH => Self::Watch(get_identity(&mut rest)?),
            KIND_BEAT => Self::Beat {
                from: get_identity(&mut rest)?,
                number: get_u32(&mut rest)?,
            },
            KIND_MISSED => {
                let mut missed = Vec::new();
                while !rest.is_empty() {
                    missed.push(get_identity(&mut rest)?);
                }
                Self::Missed(missed)
            }
            _ => return Err(CodecError::Invalid),
        };
        if rest.is_empty() {
            Ok(content)
        } else {
            Err(CodecError::Invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_survive_the_wire_and_nonsense_does_not() {
        let id = |name: &str| Identity {
            name: name.into(),
            address: "192.0.2.1:7946".parse().expect("address"),
            generation: 5,
        };
        for content in [
            Content::Swim(b"body"),
            Content::Accusation {
                accuser: id("a"),
                accused: id("b"),
                incarnation: 3,
            },
            Content::Leaving(id("a")),
            Content::Farewell {
                from: id("a"),
                leaver: id("b"),
            },
            Content::Talk {
                from: id("a"),
                body: b"words",
            },
            Content::Watch(id("a")),
            Content::Beat {
                from: id("a"),
                number: 7,
            },
            Content::Missed(vec![id("a"), id("b")]),
        ] {
            let bytes = content.encode().expect("encodes");
            assert_eq!(Content::decode(&bytes), Ok(content));
        }
        let leaving = Content::Leaving(id("a")).encode().expect("encodes");
        let with = |at: usize, value: u8| {
            let mut bytes = leaving.clone();
            bytes[at] = value;
            bytes
        };
        for bad in [
            vec![],
            vec![VERSION],
            with(0, 9),
            with(1, 9),
            with(2, 0),
            [&leaving[..], &[0]].concat(),
        ] {
            assert!(Content::decode(&bad).is_err(), "{bad:?}");
        }
    }
}
