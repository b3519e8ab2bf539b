//! Compiles the kernel programs and leaves the object where `kernel::load`
//! embeds it from.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};

/// The toolchain of `rust-toolchain.toml`, for builds that rustup did not start.
/// It builds `core` for BPF from rust-src.
const TOOLCHAIN: &str = "1.95.0";

fn main() -> Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or_else(|| anyhow!("no workspace above `{}`", here.display()))?;
    let ebpf = root.join("tracer-ebpf");

    // `cargo xtask setup` keeps bpf-linker here, out of the user's own tools.
    let tools = root.join(".tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path)))?;
    // SAFETY: a build script's main thread, before any other exists.
    unsafe {
        env::set_var("PATH", path);
        // Lets this stable toolchain take `-Z build-std=core`.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Its progress would come out as warnings of this build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }

    // rustup may know this toolchain by another name (`+stable`).
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| TOOLCHAIN.to_owned());
    let root_dir = ebpf.to_str().context("the path to the eBPF crate is not UTF-8")?;
    aya_build::build_ebpf(
        [Package { name: "tracer-ebpf", root_dir, no_default_features: false, features: &[] }],
        Toolchain::Custom(&toolchain),
    )
    .context("failed to build the eBPF programs (`cargo xtask setup` brings what it needs)")
}
