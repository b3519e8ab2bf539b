//! The agent's socket in the filesystem, for its owner alone.
//!
//! Its mode says who may ask there (0600), and holds from the moment at which it appears:
//! the mode is set before the socket gets its name. What a killed agent left behind is
//! taken away; a socket that somebody listens on is not.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

/// Connections that wait for the agent.
const WAITING: i32 = 32;

const MODE: u32 = 0o600;

/// A socket that is gone with this value.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Makes it and listens on it.
    ///
    /// # Errors
    ///
    /// When another process listens there, something else has that name, or the directory
    /// is not there or may not be written to.
    pub fn listen(path: &Path) -> Result<(Self, UnixListener)> {
        let name = path.display();
        let is_socket = || fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
        if is_socket() {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)
                        .with_context(|| format!("failed to remove the old socket `{name}`"))?;
                }
                Ok(_) => bail!("failed to listen on `{name}`: another process listens there"),
                // Binding says what is wrong.
                Err(_) => {}
            }
        }
        let failed = || format!("failed to listen on `{name}` (is its directory there?)");
        let listener = open(path).with_context(failed)?;
        listener.set_nonblocking(true).context("failed to set up the listener")?;
        Ok((Self { path: path.to_owned() }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next agent takes it away otherwise.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<UnixListener> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let file = File::from(socket);
    file.set_permissions(Permissions::from_mode(MODE))?;
    let socket = OwnedFd::from(file);
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(WAITING)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_alone_and_goes_with_its_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (socket, _listener) = Socket::listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let error = format!("{:#}", Socket::listen(&path).unwrap_err());
        assert!(error.contains("another process listens there"), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_agent_left_is_taken_away_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (socket, listener) = Socket::listen(&path).unwrap();
        drop(listener);
        std::mem::forget(socket);
        Socket::listen(&path).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "mine").unwrap();
        let error = format!("{:#}", Socket::listen(&file).unwrap_err());
        assert!(error.contains("in use"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        let error = format!("{:#}", Socket::listen(&folder.path().join("no/x")).unwrap_err());
        assert!(error.contains("is its directory there?"), "{error}");
    }
}
