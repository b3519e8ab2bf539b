//! Holds what is in force of a web-config file, and follows it.
//!
//! Certificates are renewed by replacing files, and nobody restarts an agent for
//! that. So the files are looked at every few seconds, away from the event loop;
//! where they have changed, connections from then on are served by what they say
//! now. Files that are wrong change nothing.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use hyper::header::{HeaderName, HeaderValue};
use tokio_rustls::TlsAcceptor;

use super::{
    file::WebFile,
    tls,
    users::{Hashes, Users},
};

/// The time between two looks at the files.
pub const LOOK: Duration = Duration::from_secs(10);

/// The largest web-config file.
const LARGEST: u64 = 256 << 10;

/// A connection is served by this.
#[derive(Default)]
pub struct Web {
    pub tls: Option<TlsAcceptor>,
    /// If there are none, no password is required.
    pub users: Hashes,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether each client must have a certificate.
    needs_certificate: bool,
    seen: Vec<(PathBuf, Stamp)>,
}

/// A file as it was when it was read: `None` where it was not there.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

impl Web {
    /// Reads the file, and what it names beside itself.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read or says what is not known: with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || format!("web-config file `{}`", path.display());
        Self::try_read(path).with_context(name)
    }

    fn try_read(path: &Path) -> Result<Self> {
        // Before the read: what changes meanwhile is read again.
        let mut seen = vec![(path.to_owned(), stamp(path))];
        let mut text = String::new();
        let file = File::open(path).context("failed to open it")?;
        let size = file.take(LARGEST + 1).read_to_string(&mut text).context("failed to read it")?;
        if size as u64 > LARGEST {
            bail!("it is larger than {} KiB", LARGEST >> 10);
        }
        let file = WebFile::parse(&text)?;
        let (users, headers) = (file.users()?, file.headers()?);
        let tls = match &file.tls_server_config {
            None => None,
            Some(section) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                seen.extend(section.files(folder).map(|file| {
                    let stamp = stamp(&file);
                    (file, stamp)
                }));
                Some(TlsAcceptor::from(tls::server(section, folder)?))
            }
        };
        let section = file.tls_server_config.as_ref();
        let needs_certificate = section.is_some_and(tls::needs_certificate);
        Ok(Self { tls, users, headers, needs_certificate, seen })
    }

    /// Whether it is known who asks: by a password or a certificate.
    pub fn asks_who(&self) -> bool {
        !self.users.is_empty() || self.needs_certificate
    }

    fn has_changed(&self) -> bool {
        self.seen.iter().any(|(path, then)| stamp(path) != *then)
    }
}

/// The file that holds, if there is one, and what it says now.
#[derive(Default)]
pub struct Gate {
    path: Option<PathBuf>,
    web: Mutex<Arc<Web>>,
    pub users: Users,
}

impl Gate {
    /// # Errors
    ///
    /// When the file is wrong.
    pub fn new(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let web = Mutex::new(Arc::new(Web::read(path)?));
        Ok(Self { path: Some(path.to_owned()), web, users: Users::default() })
    }

    /// Whether it can change.
    pub fn has_file(&self) -> bool {
        self.path.is_some()
    }

    pub fn now(&self) -> Arc<Web> {
        Arc::clone(&self.web.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again if they have changed, and says whether they had.
    ///
    /// # Errors
    ///
    /// When they are wrong now: what was in force stays.
    pub fn follow(&self) -> Result<bool> {
        let Some(path) = self.path.as_deref().filter(|_| self.now().has_changed()) else {
            return Ok(false);
        };
        let new = Arc::new(Web::read(path)?);
        *self.web.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }
}
