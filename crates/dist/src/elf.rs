//! Reads from a program's header which machine it is for, and whether it needs a dynamic
//! linker.
//!
//! A package with a program for another machine installs without an error, but the program
//! does not start. So the header is checked before the program is packed.
//!
//! <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>

use anyhow::{Context as _, Result, bail};

use crate::Machine;

/// Offsets in a 64-bit header: of the machine, of the offset of the segments' table, of the
/// length of its entries, and of their number.
const MACHINE: usize = 18;
const SEGMENTS: usize = 32;
const SEGMENT_BYTES: usize = 54;
const SEGMENT_COUNT: usize = 56;
/// 64 bits, little-endian, of version 1.
const BEGIN: &[u8] = b"\x7fELF\x02\x01\x01";
const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// A segment that names a dynamic linker.
const INTERPRETER: u32 = 3;

fn bytes<const N: usize>(program: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("the ELF header points beyond all memory")?;
    let found = program.get(at..end).and_then(|bytes| bytes.try_into().ok());
    found.context("the program ends within its ELF header")
}

fn number(program: &[u8], at: usize) -> Result<u16> {
    bytes(program, at).map(u16::from_le_bytes)
}

/// Checks that a program is static, and for this machine.
///
/// # Errors
///
/// It is neither, or it is not a 64-bit ELF program.
pub fn check(program: &[u8], machine: Machine) -> Result<()> {
    if !program.starts_with(BEGIN) {
        bail!("it is no ELF program of 64 bits");
    }
    let found = number(program, MACHINE)?;
    let wanted = match machine {
        Machine::X86 => X86_64,
        Machine::Arm => AARCH64,
    };
    if found != wanted {
        let name = match found {
            X86_64 => "x86-64",
            AARCH64 => "arm64",
            _ => "another machine",
        };
        bail!("it is a program for {name}, and {} was asked for", machine.linux());
    }
    let table = usize::try_from(u64::from_le_bytes(bytes(program, SEGMENTS)?))
        .context("the ELF header points beyond all memory")?;
    let length = usize::from(number(program, SEGMENT_BYTES)?);
    for index in 0..usize::from(number(program, SEGMENT_COUNT)?) {
        let kind = u32::from_le_bytes(bytes(program, table.saturating_add(index * length))?);
        if kind == INTERPRETER {
            bail!("it needs a dynamic linker, and packages hold static programs");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these segments behind it, written out by the specification.
    fn program(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = segments.len() as u8;
        for kind in segments {
            bytes.extend(kind.to_le_bytes());
            bytes.resize(bytes.len() + 52, 0);
        }
        bytes
    }

    #[track_caller]
    fn refused(program: &[u8], machine: Machine, word: &str) {
        let error = check(program, machine).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn a_program_is_packed_for_its_own_machine_alone() {
        let [x86, arm] = [program(0x3e, &[1, 1, 6]), program(0xb7, &[1])];
        check(&x86, Machine::X86).unwrap();
        check(&arm, Machine::Arm).unwrap();
        refused(&arm, Machine::X86, "for arm64");
        refused(&x86, Machine::Arm, "for x86-64");
        refused(&program(243, &[]), Machine::Arm, "another machine");
    }

    #[test]
    fn a_program_that_needs_a_dynamic_linker_is_not_packed() {
        refused(&program(0x3e, &[6, 3, 1]), Machine::X86, "dynamic linker");
    }

    #[test]
    fn whatever_is_no_program_is_refused() {
        refused(b"#!/bin/sh\n", Machine::X86, "no ELF");
        let whole = program(0x3e, &[1, 1]);
        for length in 7..whole.len() - 56 {
            assert!(check(&whole[..length], Machine::X86).is_err(), "{length}");
        }
        let mut far = whole;
        far[32..40].fill(0xff);
        refused(&far, Machine::X86, "beyond all memory");
    }

    /// This test's own program is for this machine.
    #[test]
    fn the_machine_of_a_real_program_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (this, other) = match std::env::consts::ARCH {
            "x86_64" => (Machine::X86, Machine::Arm),
            _ => (Machine::Arm, Machine::X86),
        };
        refused(&own, other, "was asked for");
        if let Err(error) = check(&own, this) {
            assert!(error.to_string().contains("dynamic linker"), "{error}");
        }
    }
}
