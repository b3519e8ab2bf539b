//! The systemd unit in a cgroup's path.

/// Endings of cgroup directories that are made for a unit. Slices are left out: they
/// group units, and no process runs in them.
const SUFFIXES: [&str; 5] = [".service", ".scope", ".mount", ".socket", ".swap"];

/// The innermost systemd unit that a cgroup path names, unescaped.
///
/// Innermost, because of `/user.slice/…/user@1000.service/app.slice/x.service`
/// and of nodes within containers, each with a systemd of its own.
pub fn unit(cgroup_path: &str) -> Option<String> {
    cgroup_path.rsplit('/').find(|name| is_unit(name)).map(unescape)
}

pub(super) fn is_unit(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty()))
}

/// Undoes `\x2d`, and the underscore that systemd puts before names that the
/// kernel would take for its own files (`_cpu.service`).
pub(super) fn unescape(name: &str) -> String {
    let mut rest = name.strip_prefix('_').unwrap_or(name).as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        match hex(rest) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[4..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The byte of a `\xNN` at the beginning.
fn hex(text: &[u8]) -> Option<u8> {
    let digits = text.get(..4)?.strip_prefix(b"\\x")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_in_paths() {
        let docker = format!("docker-{}.scope", "0123456789abcdef".repeat(4));
        let table: &[(&str, Option<&str>)] = &[
            ("/system.slice/fstrim.service", Some("fstrim.service")),
            ("/user.slice/user-1000.slice/session-2.scope", Some("session-2.scope")),
            (&format!("/system.slice/{docker}"), Some(&docker)),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/\
                 cri-containerd-ab.scope",
                Some("cri-containerd-ab.scope"),
            ),
            ("/kubepods/besteffort/pod1234/abcd", None),
            ("/system.slice", None),
            ("/", None),
            ("", None),
            ("/system.slice/k3s.service", Some("k3s.service")),
            ("/system.slice/k3s.service/payload", Some("k3s.service")),
            ("/system.slice/a.service/docker/b.service", Some("b.service")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/dev-hugepages.mount", Some("dev-hugepages.mount")),
            ("/system.slice/a\\x2db.service", Some("a-b.service")),
            ("/system.slice/a\\x2.service", Some("a\\x2.service")),
            ("/system.slice/a\\xzz.service", Some("a\\xzz.service")),
            ("/system.slice/a\\x+1.service", Some("a\\x+1.service")),
            ("/system.slice/a\\xff.service", Some("a\u{fffd}.service")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/system.slice/.service", None),
            ("/\u{fffd}\u{1b}[31m.scope", Some("\u{fffd}\u{1b}[31m.scope")),
            ("/../../ß\\x.service", Some("ß\\x.service")),
        ];
        for (path, expected) in table {
            assert_eq!(unit(path).as_deref(), *expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_panic(
            path in any::<String>(),
            tail in "(\\\\x?[0-9a-g]{0,3}){0,4}",
        ) {
            unit(&path);
            unit(&format!("/{path}{tail}.service"));
        }
    }
}
