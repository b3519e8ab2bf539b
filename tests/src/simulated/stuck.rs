//! A process that is stuck in a page fault, and blocks every reader of its memory, such as of
//! its arguments.
//!
//! One thread stores to a page of a file on a frozen filesystem. Another unmaps the next page:
//! it has locked the process's memory, and waits for the first. A third keeps syncing.

use std::{
    fs::{File, OpenOptions},
    num::NonZeroUsize,
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const PAGE: usize = 4096;

/// Keeps syncing `synced`, and gets stuck on `mapped` once `go` exists.
pub fn get_stuck(mapped: &Path, synced: &Path, go: &Path) -> Result<()> {
    let file = File::create(synced).with_context(|| format!("no `{}`", synced.display()))?;
    // Its own pages are there before others' are held up.
    let syncs = move || {
        loop {
            if file.write_all_at(&[0x55; PAGE], 0).and_then(|()| file.sync_data()).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    };
    thread::spawn(syncs);
    let file = OpenOptions::new().read(true).write(true).open(mapped)?;
    let length = NonZeroUsize::new(2 * PAGE).context("two pages")?;
    let (prot, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: the pages are new, and only raw pointers lead to them.
    let pages = unsafe { mmap(None, length, prot, flags, &file, 0) }?;
    let first = pages.cast::<u8>();
    // SAFETY: the page is mapped, and nobody else uses it.
    unsafe { first.read_volatile() };
    while !go.exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let first = first.as_ptr() as usize;
    let stores = thread::spawn(move || {
        let first = first as *mut u8;
        // SAFETY: the page is mapped until this thread has ended.
        unsafe { first.write_volatile(1) };
    });
    thread::sleep(Duration::from_millis(300));
    // SAFETY: nobody uses the second page.
    unsafe { munmap(pages.add(PAGE), PAGE) }?;
    let _ = stores.join();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}
