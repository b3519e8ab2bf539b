//! The loader: a process that may load programs while this one may not any more.
//!
//! It is forked at the end of the start, where modules may come later. It keeps the
//! capabilities that loading takes and nothing else: no file, no network, no terminal,
//! a few commands of `bpf` ([`jail`]). It takes one order, the number of a
//! module, and hands over programs for that module's hooks, which it finds by itself.
//! To attach them takes no capability, and is done here.

use std::{
    io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use caps::Capability;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
        sendmsg, socketpair,
    },
};
use tracer_kernel::{
    late::loader::{COMMANDS, LateLoader, Loaded},
    program::{MODULES, Program},
};

use super::{
    aside::{Aside, Given},
    jail,
};

/// Capabilities that loading takes; the last names a module's types.
const CAPABILITIES: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];

/// Orders that it takes in all: modules do not come and go so often.
const MAX_ORDERS: usize = 64;

/// Bytes of a message; a reason that is longer is cut.
const MESSAGE_BYTES: usize = 2048;

/// The first byte of a message that is about no program.
const MODULE_LOADED: u8 = 0xff;
const MODULE_REFUSED: u8 = 0xfe;

/// The process, as its parent sees it.
#[derive(Debug)]
pub struct Loader {
    process: Aside,
    answers: OwnedFd,
    /// All that it has handed over of the module that it is at.
    loaded: Loaded,
}

/// The loader's answer about a module.
#[derive(Debug)]
pub struct Answer {
    pub module: &'static str,
    pub loaded: Result<Loaded, String>,
}

impl Loader {
    /// # Errors
    ///
    /// When there can be no further process.
    pub fn start(loader: LateLoader) -> Result<Self> {
        Self::start_with(loader.descriptors().collect(), |module| loader.load(module))
    }

    fn start_with(
        mut descriptors: Vec<RawFd>,
        load: impl Fn(&'static str) -> Result<Loaded, String>,
    ) -> Result<Self> {
        let (answers, its_answers) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("failed to make a pair of sockets")?;
        descriptors.push(its_answers.as_raw_fd());
        let given = Given {
            name: c"tracer-loader",
            descriptors: &descriptors,
            capabilities: &CAPABILITIES,
        };
        let process = Aside::start_with(&given, |orders, _: PipeWriter| {
            if jail::enter(&COMMANDS).is_ok() {
                serve(orders, &its_answers, load);
            }
        })?;
        Ok(Self { process, answers, loaded: Loaded::new() })
    }

    /// Has it load the programs for a module's hooks.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn order(&mut self, module: &str) -> io::Result<()> {
        let at = MODULES.iter().position(|known| *known == module);
        self.process.order(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX))
    }

    /// Returns the loader's answer, if it has one.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn answer(&mut self) -> io::Result<Option<Answer>> {
        loop {
            let Some((bytes, fd)) = receive(&self.answers)? else { return Ok(None) };
            let [first, second, reason @ ..] = bytes.as_slice() else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let reason = || String::from_utf8_lossy(reason).into_owned();
            if *first >= MODULE_REFUSED {
                let module = MODULES.get(usize::from(*second)).copied();
                let module = module.ok_or(io::ErrorKind::InvalidData)?;
                let loaded = std::mem::take(&mut self.loaded);
                let is_loaded = *first == MODULE_LOADED;
                let loaded = if is_loaded { Ok(loaded) } else { Err(reason()) };
                return Ok(Some(Answer { module, loaded }));
            }
            let program = Program::ALL.get(usize::from(*first)).copied();
            let program = program.ok_or(io::ErrorKind::InvalidData)?;
            self.loaded.push((program, fd.ok_or_else(reason)));
        }
    }
}

/// The work of the process, until nobody is there to order anything.
fn serve(
    mut orders: PipeReader,
    answers: &OwnedFd,
    load: impl Fn(&'static str) -> Result<Loaded, String>,
) {
    let mut order = [0];
    for _ in 0..MAX_ORDERS {
        if !orders.read(&mut order).is_ok_and(|count| count > 0) {
            return;
        }
        let Some(module) = MODULES.get(usize::from(order[0])) else { return };
        let said = match load(module) {
            Ok(loaded) => hand_over(answers, loaded)
                .and_then(|()| send(answers, [MODULE_LOADED, order[0]], "", None)),
            Err(why) => send(answers, [MODULE_REFUSED, order[0]], &why, None),
        };
        if said.is_err() {
            return;
        }
    }
}

fn hand_over(answers: &OwnedFd, loaded: Loaded) -> nix::Result<()> {
    for (program, result) in loaded {
        let at = Program::ALL.iter().position(|known| *known == program);
        let head = [at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX), 0];
        match result {
            Ok(fd) => send(answers, head, "", Some(fd.as_raw_fd()))?,
            Err(why) => send(answers, head, &why, None)?,
        }
    }
    Ok(())
}

fn send(answers: &OwnedFd, head: [u8; 2], reason: &str, fd: Option<RawFd>) -> nix::Result<()> {
    let reason = &reason.as_bytes()[..reason.len().min(MESSAGE_BYTES - head.len())];
    let descriptors: Vec<_> = fd.into_iter().collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &control[..] };
    let parts = [IoSlice::new(&head), IoSlice::new(reason)];
    sendmsg::<()>(answers.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// The next message with the descriptor in it, if there is one.
fn receive(answers: &OwnedFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut control = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = match recvmsg::<()>(answers.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        message => message?,
    };
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut found = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            for fd in descriptors {
                // SAFETY: the kernel has made this descriptor for us, and nobody else
                // knows of it.
                found = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let count = message.bytes;
    Ok(Some((bytes[..count].to_vec(), found)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek as _, Write as _},
        os::fd::AsFd as _,
        thread::sleep,
        time::{Duration, Instant},
    };

    use super::*;

    /// One that has a file in place of each program, and none for a function of xfs.
    fn loader(file: &File) -> Loader {
        let given = file.as_fd().try_clone_to_owned().unwrap();
        Loader::start_with(vec![given.as_raw_fd()], |module| match module {
            "xfs" => {
                let fd = given.try_clone().map_err(|error| error.to_string());
                let refused = Err("the verifier says: no".to_owned());
                Ok(vec![(Program::XfsLogForce, fd), (Program::XfsFileFsync, refused)])
            }
            "btrfs" => Err("x".repeat(10 * MESSAGE_BYTES)),
            _ => panic!("as it was asked to"),
        })
        .unwrap()
    }

    fn answer(loader: &mut Loader) -> io::Result<Answer> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = loader.answer()? {
                return Ok(answer);
            }
            assert!(Instant::now() < until, "no answer");
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_hands_over_what_was_loaded_and_why_the_rest_was_not() {
        let mut file = tempfile::tempfile().unwrap();
        let mut loader = loader(&file);
        loader.order("xfs").unwrap();
        loader.order("btrfs").unwrap();
        let Answer { module, loaded } = answer(&mut loader).unwrap();
        assert_eq!(module, "xfs");
        let [(first, Ok(fd)), (second, Err(why))] = &loaded.unwrap()[..] else {
            panic!("{module}")
        };
        assert_eq!((*first, *second), (Program::XfsLogForce, Program::XfsFileFsync));
        assert_eq!(why, "the verifier says: no");
        // The descriptor is of that same file.
        file.write_all(b"seven").unwrap();
        let mut theirs = File::from(fd.try_clone().unwrap());
        theirs.rewind().unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "seven");
        // A reason that is longer than a message is cut.
        let Answer { module, loaded } = answer(&mut loader).unwrap();
        assert_eq!((module, loaded.unwrap_err()), ("btrfs", "x".repeat(MESSAGE_BYTES - 2)));
        assert!(loader.answer().unwrap().is_none());
    }

    #[test]
    fn one_that_is_gone_is_an_error_and_no_module() {
        let file = tempfile::tempfile().unwrap();
        for module in ["jbd2", "no module of ours"] {
            let mut loader = loader(&file);
            loader.order(module).unwrap();
            assert!(answer(&mut loader).is_err(), "{module}");
        }
    }

    #[test]
    fn it_takes_so_many_orders_and_no_more() {
        let file = tempfile::tempfile().unwrap();
        let mut loader = loader(&file);
        for _ in 0..MAX_ORDERS {
            loader.order("xfs").unwrap();
            assert_eq!(answer(&mut loader).unwrap().module, "xfs");
        }
        let _ = loader.order("xfs");
        assert!(answer(&mut loader).is_err());
    }
}
