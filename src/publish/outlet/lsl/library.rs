//! liblsl's C interface: loaded at run time, behind safe calls.
//!
//! Why it exists: a rig without Lab Streaming Layer must not need its library, and a rig with it has its own build. What it must
//! never do: expose a pointer of liblsl, call a symbol that was not found, or unload a library whose threads are running. It is
//! one of the few places with `unsafe`.

use std::ffi::{CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use libloading::Library as File;

/// Names passed to the system's loader, in this order, when the configuration names no library.
const NAMES: [&str; 3] = ["liblsl.so.2", "liblsl.so", "liblsl.dylib"];
/// What to do about a missing library.
const REMEDY: &str = "install liblsl 1.13 or newer (https://github.com/sccn/liblsl/releases, or `conda install -c conda-forge \
                      liblsl`), or `pip install pylsl` and name the file in its folder `pylsl/lib` with `lsl.library`; \
                      `lsl.name` = \"off\" runs without";
/// liblsl's number for a float32 channel.
const FLOAT32: i32 = 1;
/// liblsl's number for a text channel.
const TEXT: i32 = 3;
/// liblsl's code for a wait that ended.
const TIMED_OUT: i32 = -1;
/// Seconds of samples kept for a slow reader; for a stream without a rate liblsl keeps a hundred samples per second.
const BUFFERED_S: i32 = 60;

type Info = *mut c_void;
type Xml = *mut c_void;
type Handle = *mut c_void;

/// The loaded library and those of its functions that are used.
pub(super) struct Library {
    /// The name it was loaded by.
    pub(super) name: String,
    create_info: unsafe extern "C" fn(*const c_char, *const c_char, i32, f64, i32, *const c_char) -> Info,
    destroy_info: unsafe extern "C" fn(Info),
    desc: unsafe extern "C" fn(Info) -> Xml,
    append: unsafe extern "C" fn(Xml, *const c_char) -> Xml,
    append_value: unsafe extern "C" fn(Xml, *const c_char, *const c_char) -> Xml,
    create_outlet: unsafe extern "C" fn(Info, i32, i32) -> Handle,
    destroy_outlet: unsafe extern "C" fn(Handle),
    have_consumers: unsafe extern "C" fn(Handle) -> i32,
    push_floats: unsafe extern "C" fn(Handle, *const f32, f64, i32) -> i32,
    push_texts: unsafe extern "C" fn(Handle, *const *const c_char, *const u32, f64, i32) -> i32,
    local_clock: unsafe extern "C" fn() -> f64,
    library_version: unsafe extern "C" fn() -> i32,
    resolve: unsafe extern "C" fn(*mut Info, u32, *const c_char, *const c_char, i32, f64) -> i32,
    channel_count: unsafe extern "C" fn(Info) -> i32,
    channel_format: unsafe extern "C" fn(Info) -> i32,
    create_inlet: unsafe extern "C" fn(Info, i32, i32, i32) -> Handle,
    open_inlet: unsafe extern "C" fn(Handle, f64, *mut i32),
    destroy_inlet: unsafe extern "C" fn(Handle),
    pull_texts: unsafe extern "C" fn(Handle, *mut *mut c_char, i32, f64, *mut i32) -> f64,
    destroy_text: unsafe extern "C" fn(*mut c_char),
    time_correction: unsafe extern "C" fn(Handle, f64, *mut i32) -> f64,
    /// Never closed, because liblsl runs threads of its own.
    _file: ManuallyDrop<File>,
}

impl Library {
    /// Loads the `wanted` library, or the first of [`NAMES`] that the system finds.
    ///
    /// # Errors
    /// What was tried, why it failed, and what to do.
    pub(super) fn open(wanted: Option<&Path>) -> Result<Arc<Self>, String> {
        let Some(path) = wanted else {
            let mut failures = Vec::new();
            for name in NAMES {
                match load(Path::new(name)) {
                    Ok(file) => return Self::of(file, name.to_owned()),
                    Err(why) => failures.push(why),
                }
            }
            return Err(format!("liblsl was not found ({}): {REMEDY}", failures.join("; ")));
        };
        // Absolute, because the loader searches the system for a bare name.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        if !path.is_file() {
            return Err(format!("there is no library {}, which `lsl.library` names: {REMEDY}", path.display()));
        }
        let file = load(&path).map_err(|why| format!("{} cannot be loaded ({why}): {REMEDY}", path.display()))?;
        Self::of(file, path.display().to_string())
    }

    #[allow(unsafe_code)]
    fn of(file: File, name: String) -> Result<Arc<Self>, String> {
        let missing = |why: String| format!("{name} is not liblsl, or is too old ({why}): {REMEDY}");
        // SAFETY: symbols of these names are functions of liblsl's documented C interface, of exactly the types of the fields
        // (lsl_c.h, unchanged since 1.13); pointers to them stay valid because the file is never closed.
        let library = unsafe {
            Self {
                create_info: symbol(&file, "lsl_create_streaminfo").map_err(missing)?,
                destroy_info: symbol(&file, "lsl_destroy_streaminfo").map_err(missing)?,
                desc: symbol(&file, "lsl_get_desc").map_err(missing)?,
                append: symbol(&file, "lsl_append_child").map_err(missing)?,
                append_value: symbol(&file, "lsl_append_child_value").map_err(missing)?,
                create_outlet: symbol(&file, "lsl_create_outlet").map_err(missing)?,
                destroy_outlet: symbol(&file, "lsl_destroy_outlet").map_err(missing)?,
                have_consumers: symbol(&file, "lsl_have_consumers").map_err(missing)?,
                push_floats: symbol(&file, "lsl_push_sample_ftp").map_err(missing)?,
                push_texts: symbol(&file, "lsl_push_sample_buftp").map_err(missing)?,
                local_clock: symbol(&file, "lsl_local_clock").map_err(missing)?,
                library_version: symbol(&file, "lsl_library_version").map_err(missing)?,
                resolve: symbol(&file, "lsl_resolve_byprop").map_err(missing)?,
                channel_count: symbol(&file, "lsl_get_channel_count").map_err(missing)?,
                channel_format: symbol(&file, "lsl_get_channel_format").map_err(missing)?,
                create_inlet: symbol(&file, "lsl_create_inlet").map_err(missing)?,
                open_inlet: symbol(&file, "lsl_open_stream").map_err(missing)?,
                destroy_inlet: symbol(&file, "lsl_destroy_inlet").map_err(missing)?,
                pull_texts: symbol(&file, "lsl_pull_sample_str").map_err(missing)?,
                destroy_text: symbol(&file, "lsl_destroy_string").map_err(missing)?,
                time_correction: symbol(&file, "lsl_time_correction").map_err(missing)?,
                _file: ManuallyDrop::new(file),
                name: name.clone(),
            }
        };
        Ok(Arc::new(library))
    }

    /// LSL's clock, s.
    #[allow(unsafe_code)]
    pub(super) fn clock(&self) -> f64 {
        // SAFETY: takes nothing, reads a clock.
        unsafe { (self.local_clock)() }
    }

    /// Major × 100 + minor.
    #[allow(unsafe_code)]
    pub(super) fn version(&self) -> i32 {
        // SAFETY: takes nothing, returns a constant.
        unsafe { (self.library_version)() }
    }
}

#[allow(unsafe_code)]
fn load(path: &Path) -> Result<File, String> {
    // SAFETY: loading runs the library's initialisers; liblsl's have no requirements, and a file that the user names is theirs.
    unsafe { File::new(path) }.map_err(|error| {
        // The loader's message, which names the file, is the source of the error.
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        if cause.contains(&*path.to_string_lossy()) { cause } else { format!("{}: {cause}", path.display()) }
    })
}

/// # Safety
/// The symbol must be a function of type `T`.
#[allow(unsafe_code)]
unsafe fn symbol<T: Copy>(file: &File, name: &str) -> Result<T, String> {
    // SAFETY: the caller knows the type.
    unsafe { file.get::<T>(name) }.map(|found| *found).map_err(|_| format!("it has no {name}"))
}

/// A node of a stream's metadata.
pub(super) enum Node {
    /// `<name>text</name>`
    Value(&'static str, String),
    /// `<name>…</name>`
    Group(&'static str, Vec<Node>),
}

/// Description of a stream.
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    /// LSL's content type.
    pub(super) kind: &'a str,
    /// Float32 channels; `None` = one channel of text.
    pub(super) floats: Option<usize>,
    /// Stays the same after a restart, so that a reader finds the stream again.
    pub(super) source_id: &'a str,
    pub(super) meta: &'a [Node],
}

/// An outlet of liblsl: other programs find it, connect and read.
pub(super) struct Stream {
    library: Arc<Library>,
    handle: Handle,
    floats: usize,
}

// SAFETY: liblsl's outlets may be used from any thread, and `&mut self` keeps it to one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Stream {}

impl Stream {
    /// Announces a stream without a regular rate.
    ///
    /// # Errors
    /// When liblsl cannot open one.
    #[allow(unsafe_code)]
    pub(super) fn open(library: &Arc<Library>, about: &About<'_>) -> Result<Self, String> {
        let [name, kind, source_id] = [about.name, about.kind, about.source_id].map(text);
        let (channels, form) = about.floats.map_or((1, TEXT), |count| (count, FLOAT32));
        let count = i32::try_from(channels).map_err(|_| format!("{channels} channels are more than LSL can have"))?;
        // SAFETY: the three texts are NUL-terminated and outlive the call, which copies them.
        let info = unsafe { (library.create_info)(name.as_ptr(), kind.as_ptr(), count, 0.0, form, source_id.as_ptr()) };
        if info.is_null() {
            return Err(format!("liblsl refuses a stream of {channels} channels named {:?}", about.name));
        }
        // SAFETY: `info` is not null and was made just now; its description lives as long as it does.
        append_all(library, unsafe { (library.desc)(info) }, about.meta);
        // SAFETY: `info` is valid; the outlet takes a copy of it.
        let handle = unsafe { (library.create_outlet)(info, 0, BUFFERED_S) };
        // SAFETY: `info` is valid, was made here and is not used after this.
        unsafe { (library.destroy_info)(info) };
        if handle.is_null() {
            return Err(
                "liblsl cannot open an outlet: are all its ports (16572 to 16604 unless LSLAPICFG says otherwise) in use?"
                    .to_owned(),
            );
        }
        Ok(Self { library: library.clone(), handle, floats: if form == TEXT { 0 } else { channels } })
    }

    /// Sends one sample with one value per channel. Does not wait for readers.
    ///
    /// # Errors
    /// When liblsl refuses, or this is a stream of another kind.
    #[allow(unsafe_code)]
    pub(super) fn push(&mut self, values: &[f32], stamp: f64) -> std::io::Result<()> {
        if values.len() != self.floats || self.floats == 0 {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the handle is valid until drop; liblsl reads as many floats as the stream has channels, and as many are there.
        check(unsafe { (self.library.push_floats)(self.handle, values.as_ptr(), stamp, 1) })
    }

    /// Sends one text. Does not wait for readers.
    ///
    /// # Errors
    /// As [`Stream::push`].
    #[allow(unsafe_code)]
    pub(super) fn push_text(&mut self, text: &str, stamp: f64) -> std::io::Result<()> {
        let length = u32::try_from(text.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        if self.floats != 0 {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let (texts, lengths) = ([text.as_ptr().cast::<c_char>()], [length]);
        // SAFETY: the handle is valid until drop; liblsl reads one pointer and one length, and copies that many bytes.
        check(unsafe { (self.library.push_texts)(self.handle, texts.as_ptr(), lengths.as_ptr(), stamp, 1) })
    }

    /// Is any reader connected?
    #[allow(unsafe_code)]
    pub(super) fn has_readers(&self) -> bool {
        // SAFETY: the handle is valid until drop.
        unsafe { (self.library.have_consumers)(self.handle) != 0 }
    }
}

impl Drop for Stream {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the handle is valid, belongs to this stream alone, and is not used after this.
        unsafe { (self.library.destroy_outlet)(self.handle) };
    }
}

/// An inlet of liblsl: reads the texts of another program's stream.
pub(super) struct Reader {
    library: Arc<Library>,
    handle: Handle,
}

// SAFETY: liblsl's inlets may be used from any thread, and `&mut self` keeps it to one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Reader {}

impl Reader {
    /// Looks for a stream of this name for so long, s, and connects to it; `None` if there is none.
    ///
    /// # Errors
    /// A stream of another kind.
    #[allow(unsafe_code)]
    pub(super) fn find(library: &Arc<Library>, name: &str, wait_s: f64) -> Result<Option<Self>, String> {
        let (property, wanted) = (text("name"), text(name));
        let mut info: Info = std::ptr::null_mut();
        // SAFETY: liblsl writes at most one description into the one place given; both texts outlive the call.
        let found = unsafe { (library.resolve)(&raw mut info, 1, property.as_ptr(), wanted.as_ptr(), 1, wait_s) };
        if found < 1 || info.is_null() {
            return Ok(None);
        }
        // SAFETY: `info` was made by the call above, is valid, and is not used after it was destroyed.
        let (channels, form, handle) = unsafe {
            let kind = ((library.channel_count)(info), (library.channel_format)(info));
            // Without recovery: a stream that is gone is looked for anew, by its name.
            let handle = (library.create_inlet)(info, BUFFERED_S, 0, 0);
            (library.destroy_info)(info);
            (kind.0, kind.1, handle)
        };
        if handle.is_null() {
            return Ok(None);
        }
        // From here on it is given back whatever happens.
        let reader = Self { library: library.clone(), handle };
        if (channels, form) != (1, TEXT) {
            return Err(format!(
                "the stream {name:?} has {channels} channels of kind {form}; markers have one, of text"
            ));
        }
        let mut code = 0;
        // SAFETY: the handle is valid until drop, and the code has a place to be written to.
        unsafe { (library.open_inlet)(reader.handle, wait_s, &raw mut code) };
        Ok((code == 0).then_some(reader))
    }

    /// The next text and its stamp, s, on the clock of whoever sent it; waits for so long, s.
    ///
    /// # Errors
    /// The stream is gone.
    #[allow(unsafe_code)]
    pub(super) fn next(&mut self, wait_s: f64) -> Result<Option<(String, f64)>, ()> {
        let (mut found, mut code) = (std::ptr::null_mut::<c_char>(), 0);
        // SAFETY: the handle is valid until drop; liblsl writes one pointer, for the one channel that the stream has, and one code.
        let stamp = unsafe { (self.library.pull_texts)(self.handle, &raw mut found, 1, wait_s, &raw mut code) };
        if found.is_null() {
            // A wait that ended without a sample is no loss.
            return if code == 0 || code == TIMED_OUT { Ok(None) } else { Err(()) };
        }
        // SAFETY: liblsl has written a NUL-terminated text that is ours until it is given back, once, here.
        let read = unsafe {
            let read = std::ffi::CStr::from_ptr(found).to_string_lossy().into_owned();
            (self.library.destroy_text)(found);
            read
        };
        Ok((stamp > 0.0).then_some((read, stamp)))
    }

    /// What must be added to its stamps to have them on our LSL clock, s; `None` where it does not answer in time.
    #[allow(unsafe_code)]
    pub(super) fn correction(&mut self, wait_s: f64) -> Option<f64> {
        let mut code = 0;
        // SAFETY: the handle is valid until drop, and the code has a place to be written to.
        let correction = unsafe { (self.library.time_correction)(self.handle, wait_s, &raw mut code) };
        (code == 0).then_some(correction)
    }
}

impl Drop for Reader {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the handle is valid, belongs to this reader alone, and is not used after this.
        unsafe { (self.library.destroy_inlet)(self.handle) };
    }
}

/// Checks liblsl's return code; without a message, because nothing may allocate here.
fn check(code: i32) -> std::io::Result<()> {
    if code == 0 { Ok(()) } else { Err(std::io::ErrorKind::Other.into()) }
}

/// As a C string; a NUL inside becomes a space.
fn text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

#[allow(unsafe_code)]
fn append_all(library: &Library, below: Xml, nodes: &[Node]) {
    for node in nodes {
        match node {
            Node::Value(name, value) => {
                let (name, value) = (text(name), text(value));
                // SAFETY: `below` is an element of a description that lives; the texts outlive the call, which copies them.
                let _ = unsafe { (library.append_value)(below, name.as_ptr(), value.as_ptr()) };
            }
            Node::Group(name, within) => {
                let name = text(name);
                // SAFETY: as above.
                let child = unsafe { (library.append)(below, name.as_ptr()) };
                append_all(library, child, within);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        Library::open(Some(path)).err().unwrap()
    }

    #[test]
    fn a_missing_library_names_what_was_searched_and_how_to_get_one() {
        let said = refusal(Path::new("nowhere/liblsl.so"));
        assert!(said.contains("nowhere/liblsl.so") && said.contains("lsl.library") && said.contains("pylsl"), "{said}");
        if let Err(said) = Library::open(None) {
            assert!(NAMES.iter().all(|name| said.contains(name)), "{said}");
        }
    }

    #[test]
    fn a_file_that_is_no_library_and_a_library_that_is_no_liblsl_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liblsl.so");
        std::fs::write(&path, b"not a library").unwrap();
        assert!(refusal(&path).contains("cannot be loaded"), "{}", refusal(&path));
        let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        if let Some(other) = other.iter().map(Path::new).find(|path| path.is_file()) {
            let said = refusal(other);
            assert!(said.contains("is not liblsl") && said.contains("it has no lsl_create_streaminfo"), "{said}");
        }
    }
}
