//! The tracer as users run it.

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tracer_lab::{cgroup::Cgroup, process::Process, tool::last_line};

use crate::{loaded::Since, usage::Usage};

/// The first snapshot may take this long.
const START: Duration = Duration::from_secs(30);

/// A running `tracer top --batch`; it is ended when dropped.
pub struct Tracer {
    process: Process,
    pub output: File,
    /// Distinguishes its objects in the kernel from those before.
    pub since: Since,
    pub began: Instant,
}

impl Tracer {
    pub fn spawn(program: &Path, interval: &str) -> Result<Self> {
        let output = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command.args(["top", "--batch", "--interval", interval]).stdout(output.try_clone()?);
        let (since, began) = (Since::now(), Instant::now());
        let process = Process::spawn(command, &Cgroup::none())?;
        Ok(Self { process, output, since, began })
    }

    /// Starts it and waits for its first snapshot.
    pub async fn start(program: &Path) -> Result<Self> {
        let tracer = Self::spawn(program, "1")?;
        while tracer.output.metadata()?.len() == 0 {
            tracer.check_in_time()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(tracer)
    }

    /// # Errors
    ///
    /// It has ended, or should have printed something long ago.
    pub fn check_in_time(&self) -> Result<()> {
        self.check_alive()?;
        if self.began.elapsed() > START {
            bail!("the tracer printed no snapshot for {} s", START.as_secs());
        }
        Ok(())
    }

    pub fn check_alive(&self) -> Result<()> {
        match self.process.ended() {
            Some(ended) => {
                bail!("the tracer ended ({}): {}", ended.status, last_line(&ended.stderr))
            }
            None => Ok(()),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn usage(&self) -> Result<Usage> {
        Usage::read(self.process.pid())
    }

    /// # Errors
    ///
    /// It had ended by itself.
    pub fn stop(mut self) -> Result<()> {
        self.check_alive()?;
        self.process.stop(Duration::from_secs(5)).map(drop)
    }
}
