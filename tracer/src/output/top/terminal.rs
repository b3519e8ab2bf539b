//! The terminal: taken for a full screen, and always given back.
//!
//! [`enter`] takes it and [`Guard`] gives it back when it is dropped; a hook
//! does so when any thread panics, before the message is printed. After that
//! the guard draws no more. Signals are the caller's: it ends its loop, and the
//! guard is dropped.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Stdout},
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        event::{self, Event, KeyEvent},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

use super::{draw::draw, ink::Ink, state::View};
use tracer_snapshot::Snapshot;

/// How soon the thread that reads keys notices a resize, and that nobody wants
/// its keys any more.
const POLL_MS: u8 = 100;

/// More keys than anybody types between two looks at them.
const KEYS: usize = 64;

/// Whether the terminal is taken. It must be given back exactly once: leaving
/// the alternate screen a second time moves the cursor back over what was
/// printed since, such as a panic's message.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// An input from the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    Key(KeyEvent),
    /// The terminal has another size: draw again.
    Resize,
}

/// Holds the terminal until it is dropped.
pub struct Guard {
    /// Never dropped: ratatui's drop prints to standard error when it cannot
    /// show the cursor, and panics when that is the terminal that is gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    ink: Ink,
}

/// Takes the terminal: raw mode, alternate screen, no cursor.
pub fn enter() -> Result<Guard> {
    ensure!(
        io::stdout().is_terminal(),
        "standard output is no terminal: use `--batch` or `--json` there"
    );
    restore_on_panic();
    TAKEN.store(true, Ordering::SeqCst);
    let taken = enable_raw_mode()
        .and_then(|()| execute!(io::stdout(), EnterAlternateScreen, Hide))
        .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
    match taken {
        Ok(terminal) => Ok(Guard { terminal: ManuallyDrop::new(terminal), ink: Ink::from_env() }),
        Err(error) => {
            restore();
            Err(error).context("failed to take the terminal for a full screen")
        }
    }
}

impl Guard {
    /// Draws one screen; only what has changed is sent to the terminal.
    pub fn draw(&mut self, view: &View, s: &Snapshot) -> Result<()> {
        ensure!(TAKEN.load(Ordering::SeqCst), "the terminal was given back after a panic");
        let ink = self.ink;
        self.terminal
            .draw(|frame| draw(frame, view, s, ink))
            .context("failed to draw on the terminal")?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Reads keys in a thread of its own, which ends once the receiver is dropped.
/// The channel closes when the terminal is gone.
pub fn spawn_keys() -> Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(KEYS);
    let stdin = io::stdin();
    // crossterm chooses in this way too.
    let tty = if stdin.is_terminal() {
        None
    } else {
        Some(File::open("/dev/tty").context("failed to open `/dev/tty` to read keys from")?)
    };
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            let terminal = tty.as_ref().map_or_else(|| stdin.as_fd(), AsFd::as_fd);
            // An error means that there is nothing to read from any more.
            let _ = forward(terminal, &sender);
        })
        .context("failed to start the thread that reads keys")?;
    Ok(receiver)
}

/// Forwards what is typed until nobody wants it or the terminal is gone.
fn forward(terminal: BorrowedFd<'_>, sender: &mpsc::Sender<Input>) -> Result<()> {
    while !sender.is_closed() {
        let mut terminal = [PollFd::new(terminal, PollFlags::POLLIN)];
        match nix::poll::poll(&mut terminal, PollTimeout::from(POLL_MS)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // crossterm reads a terminal that hung up forever, whatever timeout
        // it is given: it must not be asked then.
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if terminal[0].revents().is_some_and(|events| events.intersects(gone)) {
            return Ok(());
        }
        // Resizes come to crossterm by a signal, not through the terminal.
        while event::poll(Duration::ZERO)? {
            let input = match event::read()? {
                Event::Key(key) => Input::Key(key),
                Event::Resize(..) => Input::Resize,
                _ => continue,
            };
            sender.blocking_send(input)?;
        }
    }
    Ok(())
}

/// Gives the terminal back, if it is taken. Each step is tried even if those before
/// it failed, and errors are dropped: there may be no terminal left to print them on.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), Show);
        let _ = execute!(io::stdout(), LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}
