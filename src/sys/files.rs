//! Files read whole within a bound, and files that are whole or not there: written beside their place, flushed to the disk, then
//! renamed.
//!
//! Why it exists: a model, a report or a cache entry may be read as soon as it has its name, and a power cut must leave the old
//! file or the new one; and a path may lead anywhere, to a pipe that never ends or to `/dev/zero`. What it must never do: give a
//! file its name before its bytes are on the disk, read more than was stated, wait for the writer of a pipe unless it may be one,
//! or fail without naming the file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::Digest;

use super::exit::{ExitCode, HasExitCode};

/// Between the name of a file and the number of the process that is writing it.
const UNFINISHED: &str = ".partial";

/// What could not be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read it.
    Read,
    /// Write it, or give it its name.
    Write,
}

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), self.reason())]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What was tried.
    pub action: Action,
    /// Why it failed.
    pub cause: io::Error,
}

impl HasExitCode for FileError {
    fn exit_code(&self) -> ExitCode {
        match self.action {
            Action::Read => ExitCode::Source,
            Action::Write => ExitCode::Sink,
        }
    }
}

impl FileError {
    /// The error of a failed read.
    pub fn read(path: &Path, cause: io::Error) -> Self {
        Self { path: path.into(), action: Action::Read, cause }
    }

    /// The error of a failed write.
    pub fn write(path: &Path, cause: io::Error) -> Self {
        Self { path: path.into(), action: Action::Write, cause }
    }

    /// What failed, why, and what to do; without the name of the file.
    pub fn reason(&self) -> String {
        let cause = &self.cause;
        match self.action {
            // Said by `read_bounded`, in whole.
            Action::Read if matches!(cause.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput) => {
                cause.to_string()
            }
            Action::Read => format!("cannot be read: {cause}; check that it exists and may be read"),
            Action::Write => {
                format!("cannot be written: {cause}; check that the folder exists, may be written to, and has room")
            }
        }
    }
}

/// How much of what is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What the file is, with its article: `a manifest`.
    pub what: &'static str,
    /// Most bytes.
    pub bytes_max: u64,
}

impl Bound {
    /// At most `bytes_max` bytes of `what`.
    pub const fn new(what: &'static str, bytes_max: u64) -> Self {
        Self { what, bytes_max }
    }

    /// Refuses a length beyond the bound.
    ///
    /// # Errors
    /// Both lengths, in words.
    pub fn admit(self, bytes: u64) -> io::Result<()> {
        let Self { what, bytes_max } = self;
        if bytes <= bytes_max {
            return Ok(());
        }
        let text = format!("{bytes} bytes; {what} has at most {bytes_max}");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
    }
}

/// Reads a regular file whole, unless it has more bytes than `bound` says.
///
/// # Errors
/// [`FileError`]: it cannot be read, it is not a regular file, or it is too large; the message says which.
pub fn read_bounded(path: &Path, bound: Bound) -> Result<Vec<u8>, FileError> {
    let read = || {
        let file = open_regular(path)?;
        let bytes = file.metadata()?.len();
        bound.admit(bytes)?;
        take(file, bytes, bound)
    };
    read().map_err(|cause| FileError::read(path, cause))
}

/// As [`read_bounded`], of text in UTF-8.
///
/// # Errors
/// As [`read_bounded`], or bytes that are not text.
pub fn read_text_bounded(path: &Path, bound: Bound) -> Result<String, FileError> {
    text_of(path, read_bounded(path, bound)?)
}

/// As [`read_bounded`], of what a person gave on the command line of a program that may wait: a pipe will do as well, as in
/// `--config <(make-config)`.
///
/// # Errors
/// As [`read_bounded`].
pub fn read_or_pipe(path: &Path, bound: Bound) -> Result<Vec<u8>, FileError> {
    let failed = |cause| FileError::read(path, cause);
    if !fs::metadata(path).map_err(failed)?.file_type().is_fifo() {
        return read_bounded(path, bound);
    }
    File::open(path).and_then(|file| take(file, 0, bound)).map_err(failed)
}

/// As [`read_or_pipe`], of text in UTF-8.
///
/// # Errors
/// As [`read_or_pipe`], or bytes that are not text.
pub fn read_text_or_pipe(path: &Path, bound: Bound) -> Result<String, FileError> {
    text_of(path, read_or_pipe(path, bound)?)
}

/// Opens a regular file and nothing else; never waits for the writer of a pipe.
///
/// # Errors
/// The system's error, or what it is instead.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Looked at before it is opened, because to open a device may do something, and to open a pipe waits for its writer.
    must_be_regular(fs::metadata(path)?.file_type())?;
    let never_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(never_wait).open(path) {
        // Another program holds a lease of the file, as file servers do, and gives it back when it is asked.
        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => File::open(path)?,
        opened => opened?,
    };
    // And once more, because it may have been exchanged meanwhile.
    must_be_regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn must_be_regular(kind: fs::FileType) -> io::Result<()> {
    let found = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {found}; it must be a regular file")))
}

/// What is in `file`, of which `bytes` are expected.
fn take(file: File, bytes: u64, bound: Bound) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(bytes as usize);
    // It may grow meanwhile, or have no length.
    file.take(bound.bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    bound.admit(content.len() as u64)?;
    Ok(content)
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes).map_err(|_| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8");
        FileError::read(path, cause)
    })
}

/// Writes a file so that a reader sees the old content or the new one, never half of it, even after a power cut. A link is
/// followed; into a pipe or a device (`/dev/stdout`) the bytes go as they are.
///
/// # Errors
/// [`FileError`] names the file; the previous content is intact.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_whole_by(path, |file| file.write_all(bytes)).map_err(|cause| FileError::write(path, cause))
}

fn write_whole_by(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return write(&mut File::options().write(true).open(path)?);
    }
    let partial = unfinished(path);
    let mut file = File::create(&partial)?;
    write(&mut file).and_then(|()| put_in_place(&partial, path)).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&partial);
    })
}

/// Where a file is written until it is whole: beside its place, under a name that no other writer has.
pub fn unfinished(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{UNFINISHED}{}.{}", std::process::id(), COUNT.fetch_add(1, Relaxed)));
    name.into()
}

/// The name that a file was meant to have, if this is what a killed writer left of it.
pub fn intended_name(name: &str) -> &str {
    name.split_once(UNFINISHED).map_or(name, |(intended, _)| intended)
}

/// Gives a finished file, or a folder with everything in it, its name: it reaches the disk before the new name does.
///
/// # Errors
/// When the file system refuses; `path` is then what it was.
pub fn put_in_place(finished: &Path, path: &Path) -> io::Result<()> {
    flush(finished)?;
    rename(finished, path)
}

/// Waits until a file, or a folder with everything in it, is on the disk.
///
/// # Errors
/// A disk that refuses.
pub fn flush(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return File::open(path)?.sync_all();
    }
    for entry in fs::read_dir(path)? {
        flush(&entry?.path())?;
    }
    flush_entries(path)
}

/// Renames what is on the disk already, and waits until the disk knows the new name.
///
/// # Errors
/// When the file system refuses; only a failed flush leaves the new name in place.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    flush_entries(to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Flushes the names in a folder. Some network file systems cannot, and keep names in their own way; a folder that may be written but
/// not read cannot be opened for it.
fn flush_entries(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(cause) if matches!(cause.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        flushed => flushed,
    }
}

/// A new folder that nobody else can look into or guess the name of, among the system's temporary files; removed when dropped. `what` is
/// part of its name.
///
/// # Errors
/// [`FileError`] names where temporary files go.
pub fn temporary_folder(what: &str) -> Result<tempfile::TempDir, FileError> {
    use std::os::unix::fs::PermissionsExt;
    // What lies there already is never taken, not even as a link.
    let mut builder = tempfile::Builder::new();
    builder.rand_bytes(16).permissions(fs::Permissions::from_mode(0o700));
    let made = builder.prefix(&format!("haltere-{what}-")).tempdir();
    made.map_err(|cause| FileError::write(&std::env::temp_dir(), cause))
}

/// Can files be written into this folder? Leaves nothing behind.
///
/// # Errors
/// Why not.
pub fn try_writing(folder: &Path) -> io::Result<()> {
    let probe = unfinished(&folder.join(".haltere"));
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe))
}

/// SHA-256 of a file, 64 lower-case hexadecimal digits. Reads in pieces: the file may be large.
///
/// # Errors
/// [`FileError`] when it cannot be read, or is not a regular file.
pub fn sha256_of(path: &Path) -> Result<String, FileError> {
    let failed = |cause| FileError::read(path, cause);
    let mut file = open_regular(path).map_err(failed)?;
    let mut hash = sha2::Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(length) => hash.update(&piece[..length]),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
}

/// SHA-256 of bytes in memory, as [`sha256_of`].
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SMALL: Bound = Bound::new("a note", 5);

    fn refused(path: &Path) -> String {
        read_bounded(path, SMALL).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_whole_up_to_its_bound_and_the_error_names_both_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text_bounded(&path, SMALL).unwrap(), "12345");
        assert_eq!(read_text_or_pipe(&path, SMALL).unwrap(), "12345");
        fs::write(&path, "123456").unwrap();
        assert_eq!(refused(&path), format!("{}: 6 bytes; a note has at most 5", path.display()));
        fs::write(&path, b"\xff").unwrap();
        assert!(read_text_bounded(&path, SMALL).unwrap_err().to_string().contains("UTF-8"));
        assert!(refused(&folder.path().join("none")).contains("check that it exists"));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, kind) in [
            (folder.path(), "a folder"),
            (&pipe, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let expected = format!("{}: is {kind}; it must be a regular file", path.display());
            assert_eq!(refused(path), expected);
            assert_eq!(sha256_of(path).unwrap_err().to_string(), expected);
        }
        assert!(read_text_or_pipe(Path::new("/dev/zero"), SMALL).unwrap_err().to_string().contains("a device"));
    }

    #[test]
    fn a_pipe_is_read_where_it_may_be_one_and_no_further_than_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (text, read) in [("12345", true), ("1234567", false)] {
            let to = pipe.clone();
            let writer = std::thread::spawn(move || fs::write(to, text));
            assert_eq!(read_text_or_pipe(&pipe, SMALL).ok().as_deref(), read.then_some(text));
            let _ = writer.join().unwrap();
        }
    }

    #[test]
    fn sha256_agrees_with_the_published_test_vector() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(file.path()).unwrap(), expected);
        let error = sha256_of(Path::new("/nowhere/m.onnx")).unwrap_err();
        assert_eq!((error.action, error.cause.kind()), (Action::Read, io::ErrorKind::NotFound));
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        write_whole(&path, b"old").unwrap();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        write_whole_by(&path, |file| file.write_all(b"ne").and_then(|()| Err(full()))).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_folder_is_its_owners_alone_and_new_each_time() {
        use std::os::unix::fs::MetadataExt;
        let [first, second] = ["session", "session"].map(|what| temporary_folder(what).unwrap());
        assert_ne!(first.path(), second.path());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o7777, 0o700);
        let name =
            first.path().file_name().unwrap().to_str().unwrap().strip_prefix("haltere-session-").unwrap().to_owned();
        assert_eq!(name.len(), 16, "{name} cannot be guessed");
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }

    /// Reads the sources: a name that can be guessed can be taken by somebody else before.
    #[test]
    fn nothing_else_makes_a_temporary_folder() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for file in rust_files(&source).iter().filter(|file| !file.ends_with("sys/files.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            assert!(!code.contains("temp_dir()"), "{}: use sys::files::temporary_folder", file.display());
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_with_what_to_do() {
        let message = write_whole(Path::new("/nowhere/at/all/r.json"), b"").unwrap_err().to_string();
        assert!(message.starts_with("/nowhere/at/all/r.json: cannot be written: "), "{message}");
        assert!(message.ends_with("check that the folder exists, may be written to, and has room"), "{message}");
    }

    #[test]
    fn a_link_is_followed_and_a_device_stays_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write_whole(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write_whole(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn an_unfinished_file_lies_beside_its_place_and_says_what_it_was_to_be() {
        let path = Path::new("runs/first/config.toml");
        let (first, second) = (unfinished(path), unfinished(path));
        assert_ne!(first, second);
        assert_eq!(first.parent(), path.parent());
        assert_eq!(intended_name(first.file_name().unwrap().to_str().unwrap()), "config.toml");
        assert_eq!(intended_name("config.toml"), "config.toml");
    }

    /// What opens a file for writing or renames one, by file; everything else goes through [`write_whole`] or [`put_in_place`].
    const WRITERS: &[(&str, &str, &str)] = &[
        ("cli/bench/reading.rs", "File::create(", "in a temporary folder"),
        ("cli/bench/reading.rs", "fs::write(", "in a temporary folder"),
        ("cli/check/ports.rs", "File::create_new(", "a probe, removed at once"),
        ("client/demo/processes.rs", "File::create(", "logs in a temporary folder"),
        ("dataset/cache.rs", "File::create(", "frames that `put_in_place` gives their name"),
        ("publish/outlet/ttl/lines.rs", "OpenOptions::new(", "a file that is there already; appends edges"),
        ("report/tensorboard.rs", "OpenOptions::new(", "a log, record by record; each start writes a new file"),
        ("session/export/nwb/mod.rs", "File::create(", "under an unfinished name, then `put_in_place`"),
        ("session/unpacked.rs", "fs::write(", "into a temporary folder of its own"),
        ("session/write.rs", "OpenOptions::new(", "a recording, message by message; never over another file"),
        (
            "sys/sockets/keys.rs",
            "OpenOptions::new(",
            "keys, whose mode is right from the start; never over another file",
        ),
        ("simulate/write/files.rs", "File::create(", "in a folder that is flushed, then renamed"),
        ("simulate/write/tiff.rs", "File::create(", "in a folder that is flushed, then renamed"),
        ("sys/partial_file.rs", "File::create(", "under `<name>.part`, then `put_in_place`"),
        ("sys/replace_folder.rs", "fs::rename(", "aside, and flushed with the renaming that follows"),
        ("train/fit.rs", "fs::write(", "in a folder that `replace_folder` puts in its place"),
        ("train/metrics_log.rs", "OpenOptions::new(", "appends rows, each whole when the call returns"),
    ];

    /// Reads the sources, without their tests. An entry that is no longer needed fails as well.
    #[test]
    fn nothing_else_writes_or_renames_a_file_under_its_final_name() {
        let opens =
            ["fs::rename(", "fs::write(", "File::create(", "File::create_new(", "OpenOptions::new(", "File::options("];
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for file in rust_files(&source).iter().filter(|file| !file.ends_with("sys/files.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            // HDF5's `options` only open for reading here.
            let code = code.replace("PartialFile::create(", "").replace("H5File::options(", "");
            let lines = || code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let name = file.strip_prefix(&source).unwrap().display().to_string();
            let used = opens.iter().filter(|open| lines().any(|line| line.contains(**open)));
            found.extend(used.map(|open| (name.clone(), (*open).to_owned())));
        }
        let allowed = WRITERS.iter().map(|(file, open, _)| ((*file).to_owned(), (*open).to_owned())).collect();
        assert_eq!(found, allowed, "use sys::files::write_whole, or say in WRITERS why not");
    }

    fn rust_files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
        files
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .filter(|path| !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests"))
            .collect()
    }
}
