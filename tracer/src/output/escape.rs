//! Untrusted text for a terminal, visible and bounded.
//!
//! Process names, cgroups and paths are chosen by whoever made them. Nothing
//! of them may move the cursor, change a colour, reverse the reading order,
//! hide itself, or fill the screen. What cannot be shown as it is appears as
//! `\x1b` (ASCII) or `\u{202e}`.
//!
//! A backslash stays a backslash: systemd's own names are full of `\x2d`, and
//! an operator wants to paste them. Who needs names back exactly reads JSON.

use std::{borrow::Cow, fmt::Write as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Stands for what was cut off.
const CUT: char = '…';

/// Whether a terminal may be given this character as it is.
///
/// Whatever takes no column of its own is refused: it hides, stacks on its
/// neighbours, or joins them.
pub fn is_plain(c: char) -> bool {
    // These have a width in some tables, and still are no text.
    let no_text = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !no_text && c.width().is_some_and(|columns| columns > 0)
}

/// The text with everything that is no plain character made visible.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
            continue;
        }
        let code = u32::from(c);
        // Writing to a `String` does not fail.
        let _ = if c.is_ascii() {
            write!(shown, "\\x{code:02x}")
        } else {
            write!(shown, "\\u{{{code:x}}}")
        };
    }
    Cow::Owned(shown)
}

/// Escaped, and at most `columns` wide: the end is cut off.
pub fn bounded(text: &str, columns: usize) -> Cow<'_, str> {
    let mut used = 0;
    let mut kept = 0;
    for (at, c) in text.char_indices() {
        used += columns_of(c);
        if used > columns {
            let end = if columns == 0 { "" } else { "…" };
            return Cow::Owned(escape(&text[..kept]).into_owned() + end);
        }
        // As far as this, there is still room for the mark.
        if used < columns {
            kept = at + c.len_utf8();
        }
    }
    escape(text)
}

/// Escaped, and at most `columns` wide: the beginning is cut off, as
/// suits paths and device names.
pub fn bounded_tail(text: &str, columns: usize) -> Cow<'_, str> {
    let mut used = 0;
    let mut kept = text.len();
    for (at, c) in text.char_indices().rev() {
        used += columns_of(c);
        if used > columns {
            let mut shown = String::new();
            if columns > 0 {
                shown.push(CUT);
            }
            shown.push_str(&escape(&text[kept..]));
            return Cow::Owned(shown);
        }
        if used < columns {
            kept = at;
        }
    }
    escape(text)
}

/// [`bounded`], and filled up with spaces to exactly `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    let mut shown = bounded(text, columns).into_owned();
    let missing = columns.saturating_sub(shown.width());
    shown.extend(std::iter::repeat_n(' ', missing));
    shown
}

/// Columns that a character takes once it is escaped.
fn columns_of(c: char) -> usize {
    if is_plain(c) {
        return c.width().unwrap_or(0);
    }
    if c.is_ascii() {
        return "\\x1b".len();
    }
    let digits = (u32::BITS - u32::from(c).leading_zeros()).div_ceil(4);
    "\\u{}".len() + digits as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(escape(text), shown);
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(escape("fstrim.service"), Cow::Borrowed(_)));
        assert!(matches!(bounded("fstrim", 6), Cow::Borrowed(_)));
        check("naïve 日本語", "naïve 日本語");
    }

    #[test]
    fn what_is_no_text_becomes_visible() {
        check("\x1b[31mred", "\\x1b[31mred");
        check("a\nb\r\tc\0", "a\\x0ab\\x0d\\x09c\\x00");
        check("\u{9b}2J", "\\u{9b}2J");
        check("evil\u{202e}txt.exe", "evil\\u{202e}txt.exe");
        check("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}");
        check("soft\u{ad}hyphen", "soft\\u{ad}hyphen");
        check("e\u{301}", "e\\u{301}");
    }

    #[test]
    fn a_name_of_systemd_stays_as_it_is() {
        check(r"dev-disk-by\x2dlabel.mount", r"dev-disk-by\x2dlabel.mount");
    }

    #[test]
    fn a_cut_is_marked_and_never_splits_an_escape() {
        assert_eq!(bounded("fstrim.service", 8), "fstrim.…");
        assert_eq!(bounded("ab\x1bcd", 6), "ab…");
        assert_eq!(bounded("ab\x1bcd", 7), "ab\\x1b…");
        assert_eq!(bounded("日本語", 4), "日…");
        assert_eq!(bounded("ab", 0), "");
        assert_eq!(bounded_tail("/var/lib/etcd/member/wal", 12), "…/member/wal");
        assert_eq!(bounded_tail("\x1bcd", 3), "…cd");
        assert_eq!(bounded_tail("ab", 0), "");
    }

    #[test]
    fn padding_counts_columns_and_not_characters() {
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(padded("abcdef", 4), "abc…");
    }

    /// Said again in other words than [`is_plain`] does.
    fn is_dangerous(c: char) -> bool {
        let code = u32::from(c);
        c.is_control()
            || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0xfeff].contains(&code)
            || (0x202a..=0x202e).contains(&code)
            || (0x2066..=0x2069).contains(&code)
            || (0x200b..=0x200d).contains(&code)
    }

    fn hostile() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            '\x1b',
            '\n',
            '\u{7f}',
            '\u{9b}',
            '\u{202e}',
            '\u{2066}',
            '\u{200d}',
            '\u{feff}',
            '\u{301}',
            '\u{fe0f}',
            '👩',
            '日',
            '\u{2028}',
            '\u{1f3fd}',
        ]);
        let one = prop_oneof![any::<char>(), odd, prop::char::range(' ', '~')];
        prop::collection::vec(one, 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_out(text in hostile(), columns in 0usize..40) {
            for shown in [escape(&text), bounded(&text, columns), bounded_tail(&text, columns)] {
                prop_assert!(!shown.chars().any(is_dangerous), "{shown:?}");
            }
        }

        #[test]
        fn the_bound_holds(text in hostile(), columns in 0usize..40) {
            prop_assert!(bounded(&text, columns).width() <= columns);
            prop_assert!(bounded_tail(&text, columns).width() <= columns);
            prop_assert_eq!(padded(&text, columns).width(), columns);
        }

        #[test]
        fn what_fits_is_not_cut(text in hostile()) {
            let whole: usize = text.chars().map(columns_of).sum();
            prop_assert_eq!(bounded(&text, whole), escape(&text));
            prop_assert_eq!(bounded_tail(&text, whole), escape(&text));
        }
    }
}
