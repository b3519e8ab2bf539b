//! Names in lines that people paste into a shell.
//!
//! Tenants choose what processes, cgroups and units are called, and "to do" lines
//! have such names in them: a cgroup called `$(reboot)` must not be run by whoever
//! follows the advice. What holds anything but harmless characters stands in single
//! quotes, inside which a shell looks at nothing. So no such line has an apostrophe
//! of its own: it would turn the quotes around. What no terminal shows is
//! replaced, and not escaped: an escape would be another name.

use std::borrow::Cow;

use super::{escape::is_plain, names};
use tracer_snapshot::Actor;

/// Stands for a character that cannot be shown.
const UNKNOWN: char = '?';

/// A path or a name as one word of a command.
pub fn word(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !text.is_empty() && text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(quoted(text))
}

/// Some words in a sentence, such as `vm 101 web`.
pub fn words(text: &str) -> Cow<'_, str> {
    match is_harmless(text) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(quoted(text)),
    }
}

/// An actor as all outputs call it, in quotes where its names need them.
pub fn actor(actor: &Actor) -> String {
    let mut shown = actor.clone();
    let workload = shown.workload.iter_mut().map(|workload| &mut workload.name);
    let texts = [&mut shown.comm, &mut shown.cgroup].into_iter().chain(&mut shown.unit);
    let mut is_all_harmless = true;
    for text in texts.chain(workload) {
        is_all_harmless &= is_harmless(text);
        *text = replaced(text);
    }
    let shown = names::actor(&shown);
    if is_all_harmless { shown } else { quoted(&shown) }
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "@%+=:,./_- ".contains(c))
}

fn replaced(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { UNKNOWN }).collect()
}

fn quoted(text: &str) -> String {
    // An apostrophe ends the quotes, stands alone, and begins them again.
    format!("'{}'", replaced(text).replace('\'', r"'\''"))
}

#[cfg(test)]
pub mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Names that a shell would do something with, if it looked at them.
    pub const HOSTILE: [&str; 10] = [
        "$(reboot)",
        "`reboot`",
        "a;reboot",
        "a' ; reboot ; 'b",
        "a\" ; reboot ; \"b",
        "a\nreboot\n",
        "a&&reboot",
        "a|reboot",
        "a>reboot",
        "\\$(reboot)\u{1b}[2J",
    ];

    /// Whether a shell that is given this line looks at no `reboot`: each stands in
    /// single quotes.
    pub fn is_quoted(line: &str) -> bool {
        let mut inside = false;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("reboot") && !inside {
                return false;
            }
            let escapes = c == '\\' && !inside;
            inside ^= c == '\'';
            let taken = if escapes { 2 } else { 1 };
            rest = rest.char_indices().nth(taken).map_or("", |(at, _)| &rest[at..]);
        }
        !inside
    }

    #[test]
    fn the_check_finds_what_is_not_quoted() {
        for line in ["stop $(reboot)", "the victim's '$(reboot)'", "stop 'a", r"\'$(reboot)\'"] {
            assert!(!is_quoted(line), "{line}");
        }
        for line in ["stop '$(reboot)'", r"stop 'a'\''b $(reboot)'", "stop it"] {
            assert!(is_quoted(line), "{line}");
        }
    }

    #[test]
    fn harmless_names_are_as_they_were() {
        for name in ["/system.slice/etcd.service", "vg0-root", "a@1.service", "b:c,d=e+f%"] {
            assert_eq!(word(name), name);
        }
        assert_eq!(words("vm 101 web"), "vm 101 web");
        assert_eq!(word(""), "''");
        // The shell would take the backslash away.
        assert_eq!(word(r"dev-disk\x2dby.mount"), r"'dev-disk\x2dby.mount'");
        assert_eq!(word("a\nb\u{202e}"), "'a?b?'");
    }

    #[test]
    fn hostile_names_of_an_actor_are_quoted_wherever_they_stand() {
        for name in HOSTILE {
            let comm = Actor { comm: name.into(), ..Actor::default() };
            let cgroup = Actor { comm: "a".into(), cgroup: format!("/{name}"), ..Actor::default() };
            let unit = Actor { unit: Some(name.into()), ..cgroup.clone() };
            for one in [comm, cgroup, unit] {
                assert!(is_quoted(&format!("stop {} now", actor(&one))), "{one:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A real shell gets the very name back.
        #[test]
        fn a_shell_reads_a_word_as_the_name(name in "[ -~]{1,40}") {
            let script = format!("printf %s {}", word(&name));
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), name);
        }
    }
}
