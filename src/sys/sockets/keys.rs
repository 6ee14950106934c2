//! Keys for CURVE in files, in the form of CZMQ's and pyzmq's certificates: `NAME.key` with the public key, `NAME.key_secret` with both.
//!
//! Why it exists: who may connect is decided by whose public key lies in a folder. What it must never do: show a secret key, or take one from a
//! file that others can read.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::sys::exit::{ExitCode, HasExitCode};

/// After the name of a file with a public key.
pub const PUBLIC_SUFFIX: &str = "key";
/// After the name of a file with both keys.
pub const SECRET_SUFFIX: &str = "key_secret";
/// Largest file of keys read, bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Most clients of one server.
const CLIENTS_MAX: usize = 1000;
/// A key as text, in Z85.
const TEXT_BYTES: usize = 40;
const KEY_BYTES: usize = 32;

/// Keys that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file or folder cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others can read a secret.
    #[error("{}: has mode {mode:04o}, so others may have read this secret key; `chmod 600` it, or better make a new one (`haltere keys`)", path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// No key in it.
    #[error("{}: has no `{what}` of 40 characters in Z85; `haltere keys NAME` makes NAME.{PUBLIC_SUFFIX} and NAME.{SECRET_SUFFIX}", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// A folder without a client.
    #[error("{}: has no file *.{PUBLIC_SUFFIX}, so nobody could connect; put the public key of each client there", path.display())]
    Nobody {
        /// Which folder.
        path: PathBuf,
    },
    /// This build of libzmq.
    #[error("this build has no CURVE: build haltere from its own repository, where Cargo.toml patches `zeromq-src`")]
    NoCurve,
}

impl HasExitCode for KeyError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key of these bytes, if they are as many as a key has.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the public key in a file of either kind.
    ///
    /// # Errors
    /// A file that cannot be read or has none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let missing = || KeyError::Missing { path: path.into(), what: "public-key" };
        key_of(&read(path)?, "public-key").map(Self).ok_or_else(missing)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&zmq::z85_encode(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public and its secret key.
#[derive(Clone)]
pub struct KeyPair {
    public: PublicKey,
    secret: [u8; KEY_BYTES],
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

impl KeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`KeyError::NoCurve`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair = zmq::CurveKeyPair::new().map_err(|_| KeyError::NoCurve)?;
        Ok(Self { public: PublicKey(pair.public_key), secret: pair.secret_key })
    }

    /// Reads both keys from the file of the secret one.
    ///
    /// # Errors
    /// A file that cannot be read, that others can read, or that lacks a key; a build without CURVE.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        if !zmq::has("curve").unwrap_or(false) {
            return Err(KeyError::NoCurve);
        }
        let mode = fs::metadata(path).map_err(|cause| KeyError::File { path: path.into(), cause })?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode { path: path.into(), mode });
        }
        let text = read(path)?;
        let key = |what| key_of(&text, what).ok_or(KeyError::Missing { path: path.into(), what });
        Ok(Self { public: PublicKey(key("public-key")?), secret: key("secret-key")? })
    }

    /// Writes `NAME.key_secret`, which only its owner can read, and `NAME.key`. Gives both paths, the secret one first.
    ///
    /// # Errors
    /// Files that are there already are never overwritten.
    pub fn write(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2], KeyError> {
        let secret = zmq::z85_encode(&self.secret).unwrap_or_default();
        let public = format!("metadata\n    name = \"{name}\"\ncurve\n    public-key = \"{}\"\n", self.public);
        let about = "# ZeroMQ CURVE";
        let files = [
            (
                SECRET_SUFFIX,
                0o600,
                format!("{about}: secret key, for its owner only\n{public}    secret-key = \"{secret}\"\n"),
            ),
            (PUBLIC_SUFFIX, 0o644, format!("{about}: public key\n{public}")),
        ];
        let paths = files.each_ref().map(|(suffix, ..)| folder.join(format!("{name}.{suffix}")));
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            let cause = io::Error::new(
                io::ErrorKind::AlreadyExists,
                "is there already and is not overwritten; remove it first",
            );
            return Err(KeyError::File { path: path.clone(), cause });
        }
        for ((_, mode, text), path) in files.iter().zip(&paths) {
            let file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(|cause| KeyError::File { path: path.clone(), cause })?;
        }
        Ok(paths)
    }

    /// The half that others may know.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The other half.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// Who is let in: everyone whose public key lies in a folder, under the name of the file.
#[derive(Clone, Debug)]
pub struct Clients {
    folder: PathBuf,
}

impl Clients {
    /// The clients of a folder. It is read again at every connection, so that a client is added or taken off without a restart; whoever is
    /// connected already stays.
    ///
    /// # Errors
    /// A folder that cannot be read, has no key, or a file without one.
    pub fn of(folder: &Path) -> Result<Self, KeyError> {
        let clients = Self { folder: folder.into() };
        let paths = clients.paths().map_err(|cause| KeyError::File { path: folder.into(), cause })?;
        if paths.is_empty() {
            return Err(KeyError::Nobody { path: folder.into() });
        }
        paths.iter().try_for_each(|path| PublicKey::read(path).map(drop))?;
        Ok(clients)
    }

    /// The names of all.
    ///
    /// # Errors
    /// A folder that cannot be read any more.
    pub fn names(&self) -> Result<Vec<String>, KeyError> {
        let paths = self.paths().map_err(|cause| KeyError::File { path: self.folder.clone(), cause })?;
        Ok(paths.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect())
    }

    /// The client with this key.
    pub fn name_of(&self, key: &PublicKey) -> Option<String> {
        let paths = self.paths().ok()?;
        let path = paths.iter().find(|path| PublicKey::read(path).is_ok_and(|found| found == *key))?;
        Some(path.file_stem()?.to_string_lossy().into_owned())
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sorted: of two files with one key, the same always gives the name.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|suffix| suffix == PUBLIC_SUFFIX));
        paths.sort();
        paths.truncate(CLIENTS_MAX);
        Ok(paths)
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |cause| KeyError::File { path: path.into(), cause };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The key in a line `what = "…"`.
fn key_of(text: &str, what: &str) -> Option<[u8; KEY_BYTES]> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let mut found = lines.filter(|(name, _)| name.trim() == what).map(|(_, value)| value.trim().trim_matches('"'));
    let text = found.next().filter(|text| text.len() == TEXT_BYTES && text.is_ascii() && !text.contains('\0'))?;
    let bytes = zmq::z85_decode(text).ok()?;
    // What is no Z85 decodes to something, but not back.
    let same = zmq::z85_encode(&bytes).is_ok_and(|again| again == text);
    bytes.try_into().ok().filter(|_| same)
}
