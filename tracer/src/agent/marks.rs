//! Marks on their way from the agent's socket, or from its witness, to its recording.
//!
//! Those threads put them here, and the loop takes them ten times a second;
//! they wait while nothing can be written.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The longest text.
pub const TEXT_BYTES: usize = 256;

/// Marks that wait for the loop.
const WAITING: usize = 16;

/// Something that somebody did or saw, in their own words.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mark {
    pub text: String,
    /// The id of the user who sets it, as the kernel says.
    pub uid: u32,
    /// Whether the tracer noticed it by itself.
    #[serde(skip)]
    pub seen: bool,
}

impl Mark {
    /// Something that the tracer saw by itself.
    pub fn seen(text: String) -> Self {
        Self { text, uid: 0, seen: true }
    }

    /// # Errors
    ///
    /// When it is no line of text, or too long: a sentence.
    pub fn parse(bytes: &[u8], uid: u32) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "a mark must be UTF-8".to_owned())?.trim();
        if text.is_empty() || text.len() > TEXT_BYTES {
            return Err(format!("a mark must have 1 to {TEXT_BYTES} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("a mark must be one line of text".to_owned());
        }
        Ok(Self { text: text.to_owned(), uid, seen: false })
    }
}

/// Marks that nobody has written yet.
#[derive(Debug, Default)]
pub struct Marks(Mutex<Vec<Mark>>);

impl Marks {
    /// False where there is no room.
    pub fn put(&self, mark: Mark) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < WAITING;
        if has_room {
            waiting.push(mark);
        }
        has_room
    }

    pub fn drain(&self) -> Vec<Mark> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_short_line() {
        let parse = |text: &str| Mark::parse(text.as_bytes(), 7);
        let text = "stopped fstrim.service".to_owned();
        assert_eq!(parse("stopped fstrim.service\n"), Ok(Mark { text, uid: 7, seen: false }));
        let long = "x".repeat(257);
        for text in ["", " \n", "a\nb", "\u{1b}[2J", long.as_str()] {
            assert!(parse(text).unwrap_err().starts_with("a mark must"), "{text:?}");
        }
        assert!(Mark::parse(&[0xff], 0).is_err());
    }

    #[test]
    fn few_wait_and_each_is_taken_once() {
        let marks = Marks::default();
        let mark = Mark::parse(b"one", 0).unwrap();
        assert!((0..16).all(|_| marks.put(mark.clone())));
        assert!(!marks.put(mark.clone()));
        assert_eq!(marks.drain(), vec![mark; 16]);
        assert_eq!(marks.drain(), []);
    }
}
