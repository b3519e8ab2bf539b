//! The bytes of BTF: where each type lies, and its raw words.
//!
//! Nothing is decoded beforehand: one offset per type is kept. Everything is
//! read with its bounds checked, since the bytes may be anybody's file. This module
//! knows the format, and not what its callers look for.
//!
//! The format is described in <https://docs.kernel.org/bpf/btf.html>, the layout of each
//! kind in <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/btf.h>.

use anyhow::{Context as _, Result, bail, ensure};

const MAGIC: u16 = 0xeb9f;

/// `struct btf_type`: name, info, size or type; then what its kind adds.
const TYPE_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Typedef,
    /// Volatile, const, restrict or a tag: stands before the type it is of.
    Modifier,
    Function,
    Prototype,
    Other,
}

/// The three words with which each type begins.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub name: u32,
    info: u32,
    /// The type that a pointer, typedef, modifier or function refers to; the size of a
    /// struct or union.
    pub refers_to: u32,
}

impl Head {
    fn raw_kind(self) -> u32 {
        self.info >> 24 & 0x7f
    }

    pub fn kind(self) -> Kind {
        match self.raw_kind() {
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            8 => Kind::Typedef,
            9..=11 | 18 => Kind::Modifier,
            12 => Kind::Function,
            13 => Kind::Prototype,
            _ => Kind::Other,
        }
    }

    /// How many members, values or parameters follow.
    pub fn len(self) -> usize {
        (self.info & 0x00ff_ffff) as usize
    }

    /// Whether members hold the width of a bit field in their upper byte.
    pub fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }
}

/// Bytes that a kind adds once, and per member; `None` for one that is newer
/// than this.
const fn layout_of(kind: u32) -> Option<(usize, usize)> {
    Some(match kind {
        1 | 14 | 17 => (4, 0),
        3 => (12, 0),
        4 | 5 | 15 | 19 => (0, 12),
        6 | 13 => (0, 8),
        2 | 7..=12 | 16 | 18 => (0, 0),
        _ => return None,
    })
}

/// One blob: the kernel's, or that of a module, which continues its numbers.
pub struct Blob<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    offsets: Vec<u32>,
}

impl<'a> Blob<'a> {
    /// Finds the types in raw BTF.
    ///
    /// # Errors
    ///
    /// When the bytes are no BTF of this machine's byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let magic = bytes.get(..2).and_then(|b| Some(u16::from_ne_bytes(b.try_into().ok()?)));
        ensure!(magic != Some(MAGIC.swap_bytes()), "its byte order is another machine's");
        ensure!(magic == Some(MAGIC), "it does not begin as BTF does");
        let header = |at| word(bytes, at).map(|w| w as usize).context("its header is cut short");
        let header_bytes = header(4)?;
        let section = |at: usize| -> Result<&'a [u8]> {
            let start = header_bytes.checked_add(header(at)?);
            let end = start.and_then(|s| s.checked_add(header(at + 4).ok()?));
            let range = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
            range.context("its header points beyond its end")
        };
        let (types, strings) = (section(8)?, section(16)?);
        // From 7.1 on it may list the sizes of kinds itself.
        let layouts = if header_bytes >= 32 { section(24)? } else { &[] };
        let mut offsets = Vec::with_capacity(types.len() / 20);
        let mut at = 0;
        while at < types.len() {
            let head = head(types, at).context("its last type is cut short")?;
            let listed = || {
                let layout = layouts.get(head.raw_kind() as usize * 4..)?;
                Some((usize::from(*layout.first()?), usize::from(*layout.get(1)?)))
            };
            let Some((once, each)) = layout_of(head.raw_kind()).or_else(listed) else {
                bail!("it holds types of an unknown kind {}", head.raw_kind());
            };
            offsets.push(u32::try_from(at).context("it is larger than 4 GiB")?);
            at += TYPE_BYTES + once + head.len() * each;
        }
        ensure!(at == types.len(), "its last type is cut short");
        Ok(Self { types, strings, offsets })
    }

    /// How many types it holds, without `void`.
    pub fn len(&self) -> u32 {
        self.offsets.len() as u32
    }

    pub fn strings_len(&self) -> u32 {
        self.strings.len() as u32
    }

    pub fn head(&self, index: u32) -> Option<Head> {
        head(self.types, *self.offsets.get(index as usize)? as usize)
    }

    /// The `n`th entry of those that follow a type, each of `WORDS` words.
    pub fn entry<const WORDS: usize>(&self, index: u32, n: usize) -> Option<[u32; WORDS]> {
        if n >= self.head(index)?.len() {
            return None;
        }
        let start = *self.offsets.get(index as usize)? as usize + TYPE_BYTES + n * WORDS * 4;
        let mut words = [0; WORDS];
        for (at, slot) in words.iter_mut().enumerate() {
            *slot = word(self.types, start + at * 4)?;
        }
        Some(words)
    }

    /// The type of an array's elements, and how many there are.
    pub fn array(&self, index: u32) -> Option<(u32, u32)> {
        let at = *self.offsets.get(index as usize)? as usize + TYPE_BYTES;
        let is_array = self.head(index)?.kind() == Kind::Array;
        is_array.then_some((word(self.types, at)?, word(self.types, at + 8)?))
    }

    /// Whether a type is an integer that may be below 0. The word behind its head says so.
    pub fn is_signed(&self, index: u32) -> Option<bool> {
        const INTEGER: u32 = 1;
        const SIGNED: u32 = 1 << 24;
        let at = *self.offsets.get(index as usize)? as usize + TYPE_BYTES;
        let is_integer = self.head(index)?.raw_kind() == INTEGER;
        Some(is_integer && word(self.types, at)? & SIGNED != 0)
    }

    /// Whether the string at an offset is this one.
    pub fn is_string(&self, offset: u32, text: &str) -> bool {
        let Some(rest) = self.strings.get(offset as usize..) else { return false };
        rest.strip_prefix(text.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn head(types: &[u8], at: usize) -> Option<Head> {
    Some(Head {
        name: word(types, at)?,
        info: word(types, at + 4)?,
        refers_to: word(types, at + 8)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
