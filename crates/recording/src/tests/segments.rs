//! A flight recorder's segments: bounded, whole wherever they are cut, and each a
//! recording by itself.

mod checkpoints;
mod copies;
mod flights;
mod halves;
mod marks;
mod replays;
mod run;
mod set_back;
mod thinned;

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::{
    breaks::Why,
    line::Began,
    recorder::{Grain, Part, Sink},
    segments::{
        Bounds,
        flight::Flight,
        folder::{Folder, Free, list, name_of, number_of},
        index,
        member::Head,
        writer::{OLDEST, Trouble, Writer},
    },
};

const SEGMENT: u64 = 1 << 20;
const BOUNDS: Bounds = Bounds { bytes: 4 * SEGMENT, segment_bytes: SEGMENT };

const PLENTY: Free = Free { bytes: 1 << 40, of_bytes: 1 << 40, inodes: 1000, of_inodes: 1000 };

fn writer(path: &Path, bounds: Bounds) -> Writer {
    Writer::new(Folder::lock(path).unwrap(), bounds, Box::new(|_| Ok(PLENTY)))
}

/// Lines that gzip makes little smaller.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state >> 32) as u8 % 90
    };
    let mut lines: Vec<_> = (0..bytes).map(|_| next()).collect();
    lines.push(b'\n');
    lines
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn numbers(path: &Path) -> Vec<u64> {
    list(path).unwrap().iter().map(|one| one.number).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_oldest_segments_make_room_and_the_bounds_hold_all_the_time() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("recording");
    let mut writer = writer(&path, BOUNDS);
    for second in 0..120 {
        if second == 0 || writer.is_nearly_full() {
            writer.begin(now()).unwrap();
        }
        assert!(writer.write(&noise(200_000, second), 1).unwrap());
        let found = list(&path).unwrap();
        let bytes: u64 = found.iter().map(|one| one.bytes).sum();
        assert!(found.len() <= 4 && bytes <= BOUNDS.bytes, "{second}: {found:?}");
        assert!(found.iter().all(|one| mode(&one.path) == 0o600));
    }
    assert_eq!(mode(&path), 0o700);
    let kept = numbers(&path);
    // 120 times some 165 KB packed, of which each segment takes six.
    assert_eq!(kept.len(), 4);
    assert!(kept[0] > 10 && kept.windows(2).all(|two| two[1] == two[0] + 1), "{kept:?}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn a_smaller_size_is_kept_to_at_once_and_files_of_others_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["notes.txt", "tracer-1.rec", "tracer-00000000x1.rec", "tracer-000000000009.rec"] {
        fs::write(path.join(name), "mine").unwrap();
    }
    fs::create_dir(path.join(name_of(3))).unwrap();
    symlink("/etc/passwd", path.join(name_of(4))).unwrap();
    assert_eq!(numbers(path), [0; 0], "neither a directory, nor a link, nor another name");
    fs::remove_file(path.join(name_of(4))).unwrap();
    fs::remove_dir(path.join(name_of(3))).unwrap();
    let large = Bounds { bytes: 16 * SEGMENT, segment_bytes: 2 * SEGMENT };
    {
        let mut writer = writer(path, large);
        for number in 1..=8 {
            writer.begin(now()).unwrap();
            while !writer.is_nearly_full() {
                assert!(writer.write(&noise(300_000, number), 1).unwrap());
            }
        }
    }
    assert_eq!(numbers(path), [1, 2, 3, 4, 5, 6, 7, 8]);
    writer(path, BOUNDS).begin(now()).unwrap();
    let bytes: u64 = list(path).unwrap().iter().map(|one| one.bytes).sum();
    assert!(bytes <= BOUNDS.bytes, "{bytes}");
    assert_eq!(numbers(path).last(), Some(&9));
    assert_eq!(fs::read(path.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(path).unwrap().count(), 4 + numbers(path).len());
}

#[test]
fn names_of_segments_are_read_as_they_are_written() {
    for number in [0, 1, 42, 9_999_999_999, 10_000_000_000, u64::MAX] {
        assert_eq!(number_of(&name_of(number)), Some(number));
    }
    for other in ["", "tracer-.rec", "tracer-42.rec", "tracer-00000000042.rec", "x.rec"] {
        assert_eq!(number_of(other), None, "{other}");
    }
}

#[test]
fn what_is_older_than_three_days_goes_even_where_there_is_room() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut writer = writer(path, Bounds { bytes: 16 * SEGMENT, segment_bytes: SEGMENT });
    let mut fill = |at: SystemTime| {
        writer.begin(at).unwrap();
        while !writer.is_nearly_full() {
            assert!(writer.write(&noise(300_000, 1), 1).unwrap());
        }
    };
    (0..3).for_each(|_| fill(now()));
    assert_eq!(numbers(path), [1, 2, 3]);
    fill(now() + OLDEST + Duration::from_secs(60));
    // One of the three was overwritten.
    assert_eq!(numbers(path), [4]);
}

#[test]
fn a_second_that_does_not_fit_costs_no_older_segment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let mut writer = writer(path, BOUNDS);
    for _ in 0..10 {
        writer.begin(now()).unwrap();
        match writer.write(&noise(2 << 20, 1), 1) {
            Err(Trouble::Failed(error)) => {
                assert!(error.to_string().contains("a larger --record-size"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(numbers(path), [1]);
}

#[test]
fn a_tracer_that_starts_again_and_again_goes_on_in_the_same_segment() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    for run in 0..50u64 {
        let mut writer = writer(path, BOUNDS);
        writer.begin(now()).unwrap();
        assert!(writer.write(&noise(1000, run), 7 + run as i64).unwrap());
    }
    assert_eq!(numbers(path), [1]);
    let mut lines = String::new();
    let file = fs::File::open(path.join(name_of(1))).unwrap();
    crate::segments::member::Members::new(file).read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 50);
}

#[test]
fn a_directory_that_is_another_tracers_or_everybodys_is_refused() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("recording");
    let first = Folder::lock(&path).unwrap();
    assert!(Folder::lock(&path).unwrap_err().to_string().contains("another tracer"));
    drop(first);
    fs::write(path.join("x"), "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(Folder::lock(&path).unwrap_err().to_string().contains("mode 0700"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let link = parent.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(Folder::lock(&link).is_err(), "a link");
    assert!(Folder::lock(&path.join("x")).is_err(), "a file");
    assert!(Folder::lock(&parent.path().join("a/b")).is_err(), "without its parent");
    assert!(Folder::lock(&path).is_ok());
}

#[test]
fn there_is_too_little_left_below_a_tenth_of_the_space_or_a_twentieth_of_the_inodes() {
    let free = |bytes, inodes| Free { bytes, of_bytes: 1000, inodes, of_inodes: 100 };
    assert_eq!(free(100, 5).lack(0, 0), None);
    assert!(free(99, 5).lack(0, 0).unwrap().contains("9 % of its space"));
    assert!(free(100, 4).lack(0, 0).unwrap().contains("4 % of its inodes"));
    assert!(free(150, 50).lack(51, 0).unwrap().contains("less than 10 %"));
    assert_eq!(free(150, 50).lack(50, 1), None);
    assert!(free(150, 5).lack(0, 1).is_some());
    // btrfs has no number of inodes.
    assert_eq!(Free { of_inodes: 0, ..free(100, 0) }.lack(0, 1), None);
    assert_eq!(Free { bytes: u64::MAX, of_bytes: u64::MAX, ..free(0, 9) }.lack(1, 0), None);
}

/// A directory without room for one segment more overwrites its own oldest one.
#[test]
fn without_room_for_another_file_the_oldest_is_overwritten() {
    let folder = TempDir::new().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let asked = Arc::clone(&free);
    let ask =
        move |_: &Folder| Ok(Free { bytes: asked.load(Relaxed), of_bytes: 1 << 30, ..PLENTY });
    let path = folder.path();
    let mut writer = Writer::new(Folder::lock(path).unwrap(), BOUNDS, Box::new(ask));
    let mut fill = || -> Result<(), Trouble> {
        writer.begin(now())?;
        while !writer.is_nearly_full() {
            assert!(writer.write(&noise(300_000, 1), 1)?);
        }
        Ok(())
    };
    fill().unwrap();
    fill().unwrap();
    // Just above a tenth of it.
    free.store((1 << 30) / 10 + 4096, Relaxed);
    fill().unwrap();
    assert_eq!(numbers(path), [2, 3]);
    free.store((1 << 30) / 10 - 4096, Relaxed);
    assert!(matches!(fill(), Err(Trouble::Full(_))));
    assert_eq!(numbers(path), [2, 3], "what is there stays");
}
