//! Lines that the kernel programs log.

use std::io::{self, Write as _};

use anyhow::{Result, anyhow};
use aya_log::EbpfLogger;

use super::Programs;

/// The log of the kernel programs; whoever owns it prints it.
pub struct KernelLog(EbpfLogger<StderrLog>);

impl KernelLog {
    /// Prints the lines that are waiting, to stderr.
    pub fn print(&mut self) {
        self.0.flush();
    }
}

/// The kernel side's lines go straight to stderr.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Standard error may be gone; then there is no log.
        let _ = writeln!(io::stderr(), "kernel: {}", record.args());
    }

    fn flush(&self) {}
}

impl Programs {
    /// The kernel side's debug lines.
    ///
    /// # Errors
    ///
    /// When the log's ring cannot be opened: it is found through the programs,
    /// which takes CAP_SYS_ADMIN.
    pub fn kernel_log(&self) -> Result<KernelLog> {
        let ids = self.loaded.values().filter_map(|p| p.read_counter("prog_id"));
        // Not all of them have something to say.
        let mut loggers = ids.map(|id| EbpfLogger::init_from_id_with_logger(id as u32, StderrLog));
        let logger = loggers
            .find_map(Result::ok)
            .ok_or_else(|| anyhow!("no program's log was found (it takes CAP_SYS_ADMIN)"))?;
        Ok(KernelLog(logger))
    }
}
