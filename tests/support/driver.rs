//! A CUDA driver that is the CPU (`driver.cpp`): loaded before `haltere` looks for one, so that `haltere` finds it.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::Library;

use super::emulator::compile;

/// When the device does what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// When somebody waits for it, and what was asked of no stream after everything else.
    Late,
    /// At once.
    Early,
}

/// How a device fails.
pub const OUT_OF_MEMORY: c_int = 2;
pub const NO_DEVICE: c_int = 100;
pub const UNSUPPORTED_PTX_VERSION: c_int = 222;
pub const LAUNCH_FAILED: c_int = 719;
pub const CAPTURE_INVALIDATED: c_int = 901;

/// The driver, for one test at a time.
pub struct Driver {
    _alone: MutexGuard<'static, ()>,
}

fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    // The first of the names under which `cudarc` looks for it.
    PATH.get_or_init(|| compile("driver.cpp", "libcuda.so"))
}

/// The folder it lies in, for `LD_LIBRARY_PATH` of another process.
#[allow(dead_code, reason = "a build without training starts no other process")]
pub fn folder() -> &'static Path {
    path().parent().expect("a folder")
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    // SAFETY: the library was just built from our own source; its initialisers make empty tables. The loader gives it to everybody
    // who asks for a library of its name afterwards.
    LIBRARY.get_or_init(|| unsafe { Library::new(path()) }.expect("the driver loads"))
}

impl Driver {
    /// Waits for the test that has it, and begins anew.
    pub fn take(timing: Timing) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the symbol has this type (driver.cpp).
        unsafe { library().get::<extern "C" fn(c_int)>(b"emulated_begin\0") }.expect("begin")(c_int::from(
            timing == Timing::Late,
        ));
        Self { _alone: alone }
    }

    /// How often the function `name` of the driver was called.
    pub fn calls(&self, name: &str) -> c_int {
        let name = CString::new(name).expect("a name");
        // SAFETY: the symbol has this type (driver.cpp); the text outlives the call.
        unsafe { library().get::<extern "C" fn(*const c_char) -> c_int>(b"emulated_calls\0") }.expect("calls")(
            name.as_ptr(),
        )
    }

    /// How often it was called at all, but for words of errors.
    pub fn all_calls(&self) -> c_int {
        // SAFETY: the symbol has this type (driver.cpp).
        unsafe { library().get::<extern "C" fn() -> c_int>(b"emulated_all_calls\0") }.expect("all calls")()
    }

    /// The function `name` succeeds `after` times more, and then fails; a `sticky` failure breaks the context for good.
    pub fn fail(&self, name: &str, after: c_int, status: c_int, sticky: bool) {
        type Fail = extern "C" fn(*const c_char, c_int, c_int, c_int);
        let name = CString::new(name).expect("a name");
        // SAFETY: as in `calls`.
        unsafe { library().get::<Fail>(b"emulated_fail\0") }.expect("fail")(
            name.as_ptr(),
            after,
            status,
            c_int::from(sticky),
        );
    }

    /// From now on the device does nothing any more.
    pub fn hang(&self) {
        // SAFETY: the symbol has this type (driver.cpp).
        unsafe { library().get::<extern "C" fn()>(b"emulated_hang\0") }.expect("hang")();
    }

    /// Sets bytes of the device by the stream, as a library that was given the stream would; the driver's status.
    pub fn set(&self, to: u64, value: u8, bytes: usize, stream: *mut c_void) -> c_int {
        type Set = extern "C" fn(u64, c_uchar, usize, *mut c_void) -> c_int;
        // SAFETY: the symbol has this type (driver.cpp), which checks address and stream.
        unsafe { library().get::<Set>(b"cuMemsetD8Async\0") }.expect("set")(to, value, bytes, stream)
    }

    /// Begins to capture a stream in a mode of the driver: 0 forbids all threads to take memory and to wait, 1 this one.
    pub fn begin_capture(&self, stream: *mut c_void, mode: c_int) -> c_int {
        type Begin = extern "C" fn(*mut c_void, c_int) -> c_int;
        // SAFETY: as above.
        unsafe { library().get::<Begin>(b"cuStreamBeginCapture_v2\0") }.expect("begin")(stream, mode)
    }

    /// Ends a capture and gives its graph back; the driver's status.
    pub fn end_capture(&self, stream: *mut c_void) -> c_int {
        type End = extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int;
        type Destroy = extern "C" fn(*mut c_void) -> c_int;
        let mut graph = std::ptr::null_mut();
        // SAFETY: as above; the graph's place is a local.
        let status = unsafe { library().get::<End>(b"cuStreamEndCapture\0") }.expect("end")(stream, &raw mut graph);
        if !graph.is_null() {
            // SAFETY: as above; the graph was just made, and nobody else knows of it.
            unsafe { library().get::<Destroy>(b"cuGraphDestroy\0") }.expect("destroy")(graph);
        }
        status
    }

    /// Contexts, streams, graphs, modules and memory that were not given back.
    pub fn held(&self) -> c_int {
        // SAFETY: the symbol has this type (driver.cpp).
        unsafe { library().get::<extern "C" fn() -> c_int>(b"emulated_held\0") }.expect("held")()
    }

    /// Calls that no driver would have taken, one a line.
    pub fn refusals(&self) -> String {
        // SAFETY: the symbol has this type (driver.cpp), and nobody else uses the driver now.
        let text = unsafe {
            CStr::from_ptr(
                library().get::<extern "C" fn() -> *const c_char>(b"emulated_refusals\0").expect("refusals")(),
            )
        };
        text.to_string_lossy().into_owned()
    }
}
