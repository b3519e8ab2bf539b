//! The machine and the method of a measurement.

use std::{
    env, fs,
    io::{self, Write},
    thread,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    pub date: String,
    /// The command line.
    pub command: String,
    pub rounds: u32,
    pub seconds: u64,
    /// The load average over a minute before the bench began: the load of others.
    pub load_before: f64,
    /// How long all of it took.
    #[serde(default)]
    pub took_seconds: u64,
}

impl Machine {
    pub fn read(command: &str, rounds: u32, seconds: u64) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: read_cpu(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            kernel: clean(&tracer_kernel::facts::release()),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: command.to_owned(),
            rounds,
            seconds,
            load_before: load.split(' ').next().and_then(|one| one.parse().ok()).unwrap_or(0.0),
            took_seconds: 0,
        }
    }

    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { cpu, cores, kernel, date, rounds, seconds, load_before, .. } = self;
        writeln!(out, "{cpu}, {cores} cores, Linux {kernel}, {date}, load before {load_before}")?;
        writeln!(out, "Medians, with the smallest and largest, of {rounds} rounds of {seconds} s.")
    }
}

/// Reads `model name`, which only x86 has.
fn read_cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    match line.and_then(|line| line.split_once(": ")) {
        Some((_, model)) => clean(model),
        None => format!("a CPU ({})", env::consts::ARCH),
    }
}

pub fn parse_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
