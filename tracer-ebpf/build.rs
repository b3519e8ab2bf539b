//! Rebuilds the kernel object when the linker changes: cargo does not see it.

fn main() {
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-changed=build.rs");
}
