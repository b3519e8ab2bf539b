//! JSON for machines: one object a line.
//!
//! The values are exact: a reader gets every name as the kernel gave it. In the
//! text, what a terminal should not see is written as `\u202e`, since such a
//! line is looked at with `cat` sooner or later.

use std::io;

use serde::Serialize;
use serde_json::{
    Serializer,
    ser::{CompactFormatter, Formatter},
};

use super::{escape::is_plain, units::unsigned_zero};

/// Writes one line, in one piece, so that a reader sees no half of it.
pub fn write_json(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut line, Harmless))?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Compact JSON whose strings hold plain characters only, and whose zeros have no sign.
struct Harmless;

impl Formatter for Harmless {
    fn write_f64<W>(&mut self, out: &mut W, value: f64) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        CompactFormatter.write_f64(out, unsigned_zero(value))
    }

    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !is_plain(c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            let mut odd = rest[at..].chars();
            for unit in odd.next().into_iter().flat_map(|c| {
                let mut units = [0; 2];
                let length = c.encode_utf16(&mut units).len();
                units.into_iter().take(length)
            }) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = odd.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    fn line(value: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_json(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_snapshot_is_one_line_of_plain_text() {
        let shown = line(&fixture::hostile());
        let object = shown.strip_suffix('\n').unwrap();
        assert!(object.chars().all(is_plain));
        let parsed: serde_json::Value = serde_json::from_str(object).unwrap();
        assert_eq!(parsed["schema"], 2);
        assert_eq!(parsed["victims"][0]["actor"]["comm"], fixture::hostile().victims[0].actor.comm);
    }

    #[test]
    fn what_a_terminal_should_not_see_is_written_as_codes() {
        assert_eq!(line(&"a\u{9b}b\u{202e}c\u{e0041}"), "\"a\\u009bb\\u202ec\\udb40\\udc41\"\n");
    }

    #[test]
    fn a_zero_has_no_sign() {
        let nothing: f64 = [0.0; 0].iter().sum();
        assert!(nothing.is_sign_negative(), "the sum of no numbers");
        assert_eq!(line(&[nothing, 0.0, -0.5, 1e-9]), "[0.0,0.0,-0.5,1e-9]\n");
        assert_eq!(line(&serde_json::json!({ "share": nothing / 3.0 })), "{\"share\":0.0}\n");
    }

    /// A closed pipe must still be seen as one.
    #[test]
    fn an_error_of_the_writer_keeps_its_kind() {
        struct Closed;
        impl io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = write_json(&mut Closed, &fixture::empty()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn every_string_survives(text: String) {
            let shown = line(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
