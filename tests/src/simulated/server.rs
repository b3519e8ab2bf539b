//! The process behind a simulated disk: a FUSE filesystem with three files.
//!
//! `disk.img` holds the blocks, and replies when its model says; a write to `model` changes the
//! [`Model`] while the disk runs; `served` lists the requests so far. The blocks are in a
//! memfd, so they disappear with the process, however it ends. One thread takes requests,
//! another replies when each is due.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Session, TimeOrNow,
    WriteFlags,
};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl,
    },
};
use serde::{Deserialize, Serialize};

use tracer_disk_model::{Model, Request, Service};

pub const IMAGE: &str = "disk.img";
pub const MODEL: &str = "model";
pub const SERVED: &str = "served";

const IMAGE_INODE: INodeNo = INodeNo(2);
const MODEL_INODE: INodeNo = INodeNo(3);
const SERVED_INODE: INodeNo = INodeNo(4);

/// If blocks take more memory than this, writes fail.
const MAX_BYTES: u64 = 3 << 29;
/// Nothing but us changes anything.
const EVER: Duration = Duration::from_secs(1 << 30);
/// The largest request that FUSE passes on in one piece on every kernel.
pub const LARGEST_BYTES: u32 = 1 << 20;
/// The kernel holds back asynchronous requests above this number.
const AT_ONCE: u16 = 1024;

/// Requests that reached the disk, by class.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Served {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub discards: u64,
    pub discarded_bytes: u64,
}

/// Serves until the filesystem is unmounted.
pub fn serve(mountpoint: &Path, size_bytes: u64) -> Result<()> {
    // Otherwise replies would be 50 µs late.
    prctl::set_timerslack(1)?;
    let blocks = File::from(memfd_create("simulated-disk", MFdFlags::MFD_CLOEXEC)?);
    blocks.set_len(size_bytes)?;
    let desk = Arc::new(Desk::new(blocks));
    let clerk = Arc::clone(&desk);
    thread::Builder::new().name("replies".into()).spawn(move || clerk.reply_when_due())?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("simulated-disk".to_owned())];
    Session::new(Disk { desk, size_bytes }, mountpoint, &config)
        .and_then(Session::run)
        .with_context(|| format!("failed to serve `{}`", mountpoint.display()))
}

/// The state that both threads share.
struct Desk {
    blocks: File,
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    service: Service,
    served: Served,
    due: BinaryHeap<Reverse<Due>>,
    /// Replies due at the same time go out in order.
    number: u64,
}

struct Due {
    at_ns: u64,
    number: u64,
    reply: Reply,
}

enum Reply {
    Read { offset: u64, size: u32, reply: ReplyData },
    Written { size: u32, reply: ReplyWrite },
    Done(ReplyEmpty),
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

impl Desk {
    fn new(blocks: File) -> Self {
        let state = State {
            service: Service::new(Model::default()),
            served: Served::default(),
            due: BinaryHeap::new(),
            number: 0,
        };
        Self { blocks, start: Instant::now(), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn receive(&self, request: Request, reply: Reply) {
        let now_ns = self.now_ns();
        let mut state = self.lock();
        let served = &mut state.served;
        match request {
            Request::Read { .. } => served.reads += 1,
            Request::Write { .. } => served.writes += 1,
            Request::Flush => served.flushes += 1,
            Request::Discard { bytes } => {
                served.discards += 1;
                served.discarded_bytes += bytes;
            }
        }
        let at_ns = state.service.admit(now_ns, request);
        state.number += 1;
        let number = state.number;
        state.due.push(Reverse(Due { at_ns, number, reply }));
        drop(state);
        self.changed.notify_one();
    }

    fn reply_when_due(&self) {
        let mut state = self.lock();
        loop {
            let first_ns = state.due.peek().map(|Reverse(due)| due.at_ns);
            let left_ns = first_ns.map(|at_ns| at_ns.saturating_sub(self.now_ns()));
            state = match left_ns {
                Some(0) => {
                    let due = state.due.pop();
                    drop(state);
                    if let Some(Reverse(due)) = due {
                        self.reply(due.reply);
                    }
                    self.lock()
                }
                Some(left_ns) => {
                    let left = Duration::from_nanos(left_ns);
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn reply(&self, reply: Reply) {
        match reply {
            Reply::Read { offset, size, reply } => {
                let mut bytes = vec![0; size as usize];
                match self.blocks.read_exact_at(&mut bytes, offset) {
                    Ok(()) => reply.data(&bytes),
                    Err(_) => reply.error(Errno::EIO),
                }
            }
            Reply::Written { size, reply } => reply.written(size),
            Reply::Done(reply) => reply.ok(),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.blocks.metadata()?.blocks() * 512 > MAX_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.write_all_at(bytes, offset)
    }
}

/// The filesystem, as FUSE requires it.
struct Disk {
    desk: Arc<Desk>,
    size_bytes: u64,
}

impl Disk {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let (kind, perm) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700),
            _ => (FileType::RegularFile, 0o600),
        };
        let then = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size: if inode == IMAGE_INODE { self.size_bytes } else { 0 },
            blocks: 0,
            atime: then,
            mtime: then,
            ctime: then,
            crtime: then,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without this the loop device would wait for each request before it sends the next.
        if config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).is_err() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // If the kernel refuses a bound, it uses the nearest one.
        if let Err(nearest) = config.set_max_write(LARGEST_BYTES) {
            let _ = config.set_max_write(nearest);
        }
        let _ = config.set_max_background(AT_ONCE);
        Ok(())
    }

    fn lookup(&self, _: &fuser::Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = match name.to_str() {
            Some(IMAGE) => IMAGE_INODE,
            Some(MODEL) => MODEL_INODE,
            Some(SERVED) => SERVED_INODE,
            _ => return reply.error(Errno::ENOENT),
        };
        reply.entry(&EVER, &self.attributes(inode), Generation(0));
    }

    fn getattr(&self, _: &fuser::Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&EVER, &self.attributes(inode));
    }

    /// No attribute can be set; truncating `model` is not an error.
    fn setattr(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&EVER, &self.attributes(inode));
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn read(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match inode {
            IMAGE_INODE => {
                let left = self.size_bytes.saturating_sub(offset).min(u64::from(size));
                let size = u32::try_from(left).unwrap_or(size);
                let request = Request::Read { at: offset, bytes: u64::from(size) };
                self.desk.receive(request, Reply::Read { offset, size, reply });
            }
            SERVED_INODE => {
                let served = self.desk.lock().served;
                let text = serde_json::to_vec(&served).unwrap_or_default();
                let rest = text.get(offset as usize..).unwrap_or_default();
                reply.data(&rest[..rest.len().min(size as usize)]);
            }
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn write(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match inode {
            IMAGE_INODE => match self.desk.write(offset, bytes) {
                Ok(()) => {
                    let request = Request::Write { at: offset, bytes: u64::from(size) };
                    self.desk.receive(request, Reply::Written { size, reply });
                }
                Err(_) => reply.error(Errno::ENOSPC),
            },
            MODEL_INODE => match serde_json::from_slice(bytes) {
                Ok(model) => {
                    self.desk.lock().service.become_another(model);
                    reply.written(size);
                }
                Err(_) => reply.error(Errno::EINVAL),
            },
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn fsync(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.desk.receive(Request::Flush, Reply::Done(reply));
    }

    /// Punching a hole is a discard; the only other mode that the loop device uses is zeroing.
    fn fallocate(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if mode & FallocateFlags::FALLOC_FL_PUNCH_HOLE.bits() == 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let (Ok(at), Ok(bytes)) = (i64::try_from(offset), i64::try_from(length)) else {
            return reply.error(Errno::EINVAL);
        };
        match fallocate(&self.desk.blocks, hole, at, bytes) {
            Ok(()) => self.desk.receive(Request::Discard { bytes: length }, Reply::Done(reply)),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    /// The loop device reads the block size of its discards from here.
    fn statfs(&self, _: &fuser::Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = self.size_bytes / 4096;
        reply.statfs(blocks, blocks, blocks, 3, 0, 4096, 255, 4096);
    }
}
