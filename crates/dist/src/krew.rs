//! The manifest by which krew, kubectl's plugin manager, installs `kubectl tracer`.
//!
//! <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>
//!
//! krew unpacks the archive for the machine, and makes a link called `kubectl-tracer` to the
//! program in it. Under that name the program is the plugin.

use std::fmt::Write as _;

use crate::{Machine, NAME, Release, layout, sums};

/// krew demands the name of the plugin.
pub const FILE: &str = "tracer.yaml";

/// The address of the archives if none is given. Nobody owns `.invalid` (RFC 2606), but
/// `kubectl krew install --manifest --archive` reads the archive from the disk.
pub const NO_FOLDER: &str = "https://download.invalid";

/// The archive of a machine that a plugin is installed from.
pub fn archive_name(release: &Release, machine: Machine) -> String {
    format!("{}.tar.gz", layout::folder(release, machine.linux()))
}

/// The manifest for these archives, which can be fetched from `folder`.
pub fn write(release: &Release, folder: &str, archives: &[(Machine, &[u8])]) -> String {
    let mut text = format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2\n\
         kind: Plugin\n\
         metadata:\n  name: {NAME}\n\
         spec:\n  version: \"v{}\"\n  \
         shortDescription: Finds who makes fsync slow on a node\n  \
         description: |\n    \
         Asks the tracer on a node who makes a pod's fsync slow, through kubectl: `why`, `top`,\n    \
         `watch`, `report`, `doctor` and the node's page. On a node without an agent it makes a\n    \
         pod, after asking, which ends after 15 minutes.\n  \
         caveats: |\n    \
         It may list pods and run commands in the agent's. A pod of its own needs a namespace\n    \
         with the label pod-security.kubernetes.io/enforce: privileged.\n  \
         platforms:\n",
        release.version
    );
    let folder = folder.trim_end_matches('/');
    for (machine, archive) in archives {
        let inside = layout::folder(release, machine.linux());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "    - selector:\n        matchLabels:\n          os: linux\n          arch: {}\n      \
             uri: \"{folder}/{}\"\n      sha256: {}\n      \
             files:\n        - from: {inside}/{NAME}\n          to: .\n        \
             - from: {inside}/LICENSE-*\n          to: .\n      \
             bin: {NAME}\n",
            machine.debian(),
            archive_name(release, *machine),
            sums::sha256(archive),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::release;

    #[test]
    fn each_machine_has_its_archive_with_its_digest() {
        let archives = [(Machine::X86, &b"abc"[..]), (Machine::Arm, b"")];
        let text = write(&release(), "https://r.example/v1.2.3/", &archives);
        // NIST's examples, SHA256("abc") and SHA256("").
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let machine = |arch: &str, linux: &str, digest: &str| {
            format!(
                "    - selector:\n        matchLabels:\n          os: linux\n          arch: {arch}\n      \
                 uri: \"https://r.example/v1.2.3/tracer-1.2.3-{linux}-linux.tar.gz\"\n      \
                 sha256: {digest}\n      files:\n        \
                 - from: tracer-1.2.3-{linux}-linux/tracer\n          to: .\n        \
                 - from: tracer-1.2.3-{linux}-linux/LICENSE-*\n          to: .\n      bin: tracer\n"
            )
        };
        let (_, platforms) = text.split_once("platforms:\n").unwrap();
        assert_eq!(
            platforms,
            machine("amd64", "x86_64", abc) + &machine("arm64", "aarch64", empty)
        );
        assert!(text.contains("\n  version: \"v1.2.3\"\n"));
    }
}
