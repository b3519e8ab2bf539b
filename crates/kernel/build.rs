//! Compiles the kernel programs and leaves their objects where `load` embeds
//! them from, without the nine tenths of them that describe the source.

#[path = "build/environment.rs"]
mod environment;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// The toolchain of `rust-toolchain.toml`, for builds that rustup did not start.
/// It builds `core` for BPF from rust-src.
const TOOLCHAIN: &str = "1.95.0";

fn main() -> Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here
        .ancestors()
        .nth(2)
        .ok_or_else(|| anyhow!("no workspace above `{}`", here.display()))?;
    let ebpf = root.join("tracer-ebpf");

    // `cargo xtask setup` keeps bpf-linker here, out of the user's own tools.
    let tools = root.join(".tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path)))?;
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let cleared: Vec<_> = names.filter(|name| environment::is_for_the_host(name)).collect();
    // SAFETY: a build script's main thread, before any other exists.
    unsafe {
        cleared.iter().for_each(|name| env::remove_var(name));
        env::set_var("PATH", path);
        // Lets this stable toolchain take `-Z build-std=core`.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Its progress would come out as warnings of this build.
        env::set_var("CARGO_TERM_QUIET", "true");
        // The workspace's profile makes the tracer small. The kernel programs are to be fast,
        // and `core` in them is no package that a profile could name.
        env::set_var("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
        env::set_var("CARGO_PROFILE_RELEASE_LTO", "thin");
    }

    // rustup may know this toolchain by another name (`+stable`).
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| TOOLCHAIN.to_owned());
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let shared = shared_folder(&root.join("target"))?;
    // Builds that run at the same time take turns here: all but the first find it done.
    let turn = fs::File::create(shared.join("turn"))?;
    turn.lock().context("failed to lock the folder of the eBPF build")?;
    // SAFETY: as above.
    unsafe { env::set_var("OUT_DIR", &shared) };
    let root_dir = ebpf.to_str().context("the path to the eBPF crate is not UTF-8")?;
    aya_build::build_ebpf(
        [Package { name: "tracer-ebpf", root_dir, no_default_features: false, features: &[] }],
        Toolchain::Custom(&toolchain),
    )
    .context("failed to build the eBPF programs (`cargo xtask setup` brings what it needs)")?;
    for object in ["tracer-ebpf", "tracer-ebpf-untyped"] {
        let built = shared.join(object);
        strip(&built, &out.join(object))
            .with_context(|| format!("failed to strip `{}`", built.display()))?;
    }
    Ok(())
}

/// The folder in which the kernel programs are compiled, the same one for all profiles of this
/// machine's build: they are the same programs in each, and `core` takes a CPU half a minute.
fn shared_folder(target: &Path) -> Result<PathBuf> {
    let shared = target.join("ebpf").join(env::var("CARGO_CFG_TARGET_ARCH")?);
    fs::create_dir_all(&shared)
        .with_context(|| format!("failed to make `{}`", shared.display()))?;
    Ok(shared)
}

/// Writes an object without what is in it for debuggers, and without its own types: no program
/// here needs them to be loaded.
fn strip(object: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(object)?;
    let mut elf = Builder::read(&*bytes)?;
    for section in &mut elf.sections {
        let name = section.name.to_string();
        let of = name.strip_prefix(".rel").unwrap_or(&name);
        section.delete = of.starts_with(".debug_") || of.starts_with(".BTF");
    }
    elf.delete_orphans();
    // LLVM has one table for the names of sections and symbols.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    fs::write(to, stripped)?;
    Ok(())
}
