//! A process's name in JSON: text where it is text, else its bytes.
//!
//! Names distinguish actors, so not one byte may change on the way.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};
use tracer_ebpf::record::COMM;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Comm(pub [u8; COMM]);

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(COMM);
        let (name, rest) = self.0.split_at(end);
        match str::from_utf8(name) {
            Ok(name) if rest.iter().all(|b| *b == 0) => serializer.serialize_str(name),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadComm)
    }
}

struct ReadComm;

impl<'de> Visitor<'de> for ReadComm {
    type Value = Comm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of at most {COMM} bytes")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Comm, E> {
        let mut comm = [0; COMM];
        let place =
            comm.get_mut(..name.len()).ok_or_else(|| E::invalid_length(name.len(), &self))?;
        place.copy_from_slice(name.as_bytes());
        Ok(Comm(comm))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Comm, A::Error> {
        let mut comm = [0; COMM];
        let mut count = 0;
        while let Some(byte) = bytes.next_element()? {
            *comm.get_mut(count).ok_or_else(|| A::Error::invalid_length(count + 1, &self))? = byte;
            count += 1;
        }
        Ok(Comm(comm))
    }
}
