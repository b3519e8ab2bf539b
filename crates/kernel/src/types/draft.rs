//! BTF made up for tests.

/// A blob under construction.
#[derive(Default)]
pub struct Draft {
    words: Vec<u32>,
    strings: Vec<u8>,
    /// Strings are counted from here on: after those of the base.
    first_string: u32,
}

impl Draft {
    /// The base's strings begin with the empty one.
    pub fn base() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    /// A module's, which continues the numbers of its kernel.
    pub fn after(base: &Self) -> Self {
        Self { first_string: base.strings.len() as u32, ..Self::default() }
    }

    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.first_string + self.strings.len() as u32;
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    pub fn add(&mut self, kind: u32, name: &str, refers_to: u32, entries: &[&[u32]]) {
        let name = self.string(name);
        self.words.extend([name, kind << 24 | entries.len() as u32, refers_to]);
        self.words.extend(entries.iter().copied().flatten());
    }

    /// Adds words that a type has beside its head and its entries.
    pub fn words(&mut self, words: &[u32]) {
        self.words.extend(words);
    }

    /// An array of `count` elements; its index is of no type.
    pub fn add_array(&mut self, element: u32, count: u32) {
        self.words.extend([0, ARRAY << 24, 0, element, 0, count]);
    }

    /// Adds an integer of 64 bits.
    pub fn add_integer(&mut self, name: &str, is_signed: bool) {
        let name = self.string(name);
        self.words.extend([name, INTEGER << 24, 8, u32::from(is_signed) << 24 | 64]);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let types = self.words.len() as u32 * 4;
        let header =
            [u32::from(0xeb9f_u16) | 1 << 16, 24, 0, types, types, self.strings.len() as u32];
        let words = header.iter().chain(&self.words);
        words.flat_map(|w| w.to_ne_bytes()).chain(self.strings.iter().copied()).collect()
    }
}

pub const INTEGER: u32 = 1;
pub const POINTER: u32 = 2;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const FORWARD: u32 = 7;
pub const TYPEDEF: u32 = 8;
pub const CONST: u32 = 10;
pub const FUNCTION: u32 = 12;
pub const PROTOTYPE: u32 = 13;
