//! A kernel's refusal of a program, in one line that says what to make of it.

use std::io;

/// Of a system call's error and, where the verifier came that far, its log.
pub fn explain(hook: &str, error: &io::Error, log: &str) -> String {
    // The verifier ends with statistics; its reason stands before them.
    let statistics = ["processed", "stack depth", "verification time"];
    let is_reason = |line: &&str| {
        !line.trim().is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    };
    match (error.raw_os_error(), log.lines().rev().find(is_reason)) {
        (_, Some(line)) => format!("`{hook}`: the verifier says: {}", line.trim()),
        (Some(libc::EPERM), None) => {
            format!("`{hook}`: this kernel permits no program of this kind (EPERM)")
        }
        (Some(errno), None) => format!("`{hook}`: {}", io::Error::from_raw_os_error(errno)),
        (None, None) => format!("`{hook}`: {error}"),
    }
}
