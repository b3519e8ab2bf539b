//! A directory with a real recording in it: `tests/fixtures/fstrim.rec` as a flight recorder
//! would have written it.

use std::{
    fs,
    io::Read as _,
    time::{Duration, SystemTime},
};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tempfile::TempDir;
use tracer_recording::segments::{
    Bounds,
    folder::{Folder, Free},
    writer::Writer,
};

const PLENTY: Free = Free { bytes: 1 << 40, of_bytes: 1 << 40, inodes: 1000, of_inodes: 1000 };

/// The recording is from 16:24:34 to 16:24:47 of 2026-11-21, in UTC.
pub const BEGINS: f64 = 1_795_278_274.0;
pub const ENDS: f64 = 1_795_278_287.0;

/// The directory; a member for each second, dated as its tick.
pub fn recorded() -> TempDir {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/fstrim.rec");
    let mut lines = String::new();
    MultiGzDecoder::new(&fs::read(path).unwrap()[..]).read_to_string(&mut lines).unwrap();
    let header: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let ahead_ns = header["header"]["clock"]["unix_minus_monotonic_ns"].as_i64().unwrap();
    let mut at_ns = header["header"]["started_ns"].as_i64().unwrap() + ahead_ns;
    let folder = TempDir::new().unwrap();
    let bounds = Bounds { bytes: 8 << 20, segment_bytes: 2 << 20 };
    let ask = Box::new(|_: &Folder| Ok(PLENTY));
    let mut writer = Writer::new(Folder::lock(folder.path()).unwrap(), bounds, ask);
    writer.begin(SystemTime::UNIX_EPOCH + Duration::from_nanos(at_ns.cast_unsigned())).unwrap();
    let mut second = String::new();
    for line in lines.lines() {
        second += line;
        second.push('\n');
        let parsed: Value = serde_json::from_str(line).unwrap();
        if let Some(tick_ns) = parsed["tick"]["at_ns"].as_i64() {
            at_ns = tick_ns + ahead_ns;
            assert!(writer.write(second.as_bytes(), at_ns).unwrap());
            second.clear();
        }
    }
    assert!(writer.write(second.as_bytes(), at_ns).unwrap());
    folder
}
