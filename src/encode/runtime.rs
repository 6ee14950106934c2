//! Finds and loads ONNX Runtime's shared library, once per process.
//!
//! Why it exists: a missing, damaged or old library must give an error that names the file and the command that fetches it.
//! `ort` panics on some of them, and the system's loader crashes on a truncated file, so the file is checked first.
//! What it must never do: call `ort::init`, or load a second library.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::EncodeError;
use crate::sys::installed;

/// Oldest ONNX Runtime this program runs with: 1.this.
const MINOR_MIN: u32 = 24;
/// What to do about a missing library.
const REMEDY: &str = "install it into the Python environment of this program (`pip install onnxruntime`), in a checkout fetch it with \
                      `make setup` (scripts/fetch-onnxruntime.sh), or name a library of version 1.24 or newer in `compute.onnxruntime` \
                      or ORT_DYLIB_PATH";
/// Where Python keeps packages, below the folder of a version (`PREFIX/lib/python3.13`); Debian's own are in the second.
const PACKAGES: [&str; 2] = ["site-packages", "dist-packages"];
/// Where the package `onnxruntime` has its library.
const IN_PACKAGE: &str = "onnxruntime/capi";

/// The library in use.
#[derive(Clone)]
pub(super) struct Runtime {
    pub(super) environment: Environment,
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Kept for the life of the process: ONNX Runtime allows one environment, and `ort` cannot make a second one.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The one runtime of this process; `wanted` or the search decides which library only the first time. With `cuda` the one that
/// has the CUDA provider is looked for first.
pub(super) fn runtime(wanted: Option<&Path>, cuda: bool) -> Result<Runtime, EncodeError> {
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = slot.as_ref() {
        return match wanted {
            Some(path) if canonical(path) != canonical(&runtime.path) => Err(failed(format!(
                "{} was asked for, but this process already runs {}; a process has one",
                path.display(),
                runtime.path.display()
            ))),
            _ => Ok(runtime.clone()),
        };
    }
    let path = match wanted {
        Some(path) => existing(path, "")?,
        None => search(cuda)?,
    };
    Ok(slot.insert(load(path)?).clone())
}

fn failed(cause: String) -> EncodeError {
    EncodeError::Runtime { cause }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

fn existing(path: &Path, origin: &str) -> Result<PathBuf, EncodeError> {
    // Absolute, because the loader searches the system for a bare name.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    if path.is_file() {
        Ok(path)
    } else {
        Err(failed(format!("there is no library {}{origin}: {REMEDY}", path.display())))
    }
}

/// `ORT_DYLIB_PATH`, then beside the executable, then `.runtime-gpu/` if CUDA is wanted, then `lib/haltere` of the prefix that this program
/// is installed under, then the package `onnxruntime` of the Python environment there, then `.runtime/`. A variable that names a missing
/// file is an error, not a hint.
fn search(cuda: bool) -> Result<PathBuf, EncodeError> {
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        return existing(Path::new(&named), ", which ORT_DYLIB_PATH names");
    }
    let file = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let executable = std::env::current_exe().ok();
    let beside = executable.as_deref().and_then(Path::parent).map(|folder| folder.join(&file));
    let prefix = installed::prefix();
    let of_gpu = cuda.then(|| Path::new(".runtime-gpu").join(&file));
    let places: Vec<PathBuf> = beside
        .into_iter()
        .chain(of_gpu)
        .chain(prefix.iter().map(|prefix| prefix.join("lib/haltere").join(&file)))
        .chain(prefix.iter().flat_map(|prefix| of_python(prefix)))
        .chain([Path::new(".runtime").join(&file)])
        .collect();
    if let Some(place) = places.iter().find(|place| place.is_file()) {
        return existing(place, "");
    }
    let pattern = prefix.map(|prefix| prefix.join("lib/python3*").join(PACKAGES[0]).join(IN_PACKAGE).join(&file));
    let searched: Vec<String> = places.iter().chain(&pattern).map(|p| p.display().to_string()).collect();
    Err(failed(format!("ORT_DYLIB_PATH is not set, and there is no {}: {REMEDY}", searched.join(" and no "))))
}

/// ONNX Runtime's libraries in the Python packages below `prefix`, those of the newest Python first.
fn of_python(prefix: &Path) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let version = |path: &Path| {
        name_of(path).strip_prefix("python3").map(|rest| rest.trim_start_matches('.').parse().unwrap_or(0u32))
    };
    let mut pythons: Vec<(u32, PathBuf)> = ["lib", "lib64"]
        .into_iter()
        .flat_map(|lib| entries(prefix.join(lib)))
        .filter_map(|path| Some((version(&path)?, path)))
        .collect();
    pythons.sort_by(|(a, _), (b, _)| b.cmp(a));
    // `libonnxruntime.so.1.31.1`; `libonnxruntime_providers_shared.so` lies beside it.
    let stem = format!("{}onnxruntime.", std::env::consts::DLL_PREFIX);
    let folders =
        pythons.iter().flat_map(|(_, python)| PACKAGES.map(|packages| python.join(packages).join(IN_PACKAGE)));
    folders.flat_map(entries).filter(|path| name_of(path).starts_with(&stem)).collect()
}

fn load(path: PathBuf) -> Result<Runtime, EncodeError> {
    let shown = path.display();
    complete(&path).map_err(|why| failed(format!("{shown} is damaged ({why}): {REMEDY}")))?;
    let version = version_of(&path).map_err(|why| failed(format!("{shown} is not ONNX Runtime ({why}): {REMEDY}")))?;
    let minor = version.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < MINOR_MIN) {
        return Err(failed(format!("{shown} is version {version}; 1.{MINOR_MIN} or newer is needed: {REMEDY}")));
    }
    preload(&path);
    let builder = ort::init_from(&path).map_err(|error| failed(format!("{error}: {REMEDY}")))?;
    let environment = builder.with_name("haltere").with_telemetry(false).build();
    let environment = environment.map_err(|error| failed(format!("{shown}: {error}")))?;
    Ok(Runtime { environment, path, version })
}

/// Loads the CUDA libraries beside the runtime for good: its CUDA provider asks the system for them by name, and finds those that
/// are loaded. One that cannot be loaded is reported when the provider is opened.
#[cfg(all(feature = "cuda", unix))]
#[allow(unsafe_code)]
fn preload(runtime: &Path) {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let Some(folder) = runtime.parent() else { return };
    for name in ort::ep::cuda::CUDA_DYLIBS.iter().chain(ort::ep::cuda::CUDNN_DYLIBS) {
        let path = folder.join(name);
        if complete(&path).is_ok() {
            // SAFETY: NVIDIA's libraries have no requirements on who loads them; the user put them beside the runtime.
            let loaded = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
            if let Ok(library) = loaded {
                std::mem::forget(library);
            }
        }
    }
}

#[cfg(not(all(feature = "cuda", unix)))]
fn preload(_runtime: &Path) {}

/// The system's loader maps a library without checking its length and crashes (SIGBUS) on a truncated one. The tables of an ELF file
/// give its length; other formats are left to the loader.
fn complete(path: &Path) -> Result<(), String> {
    use std::io::{Read, Seek};
    let told = |error: std::io::Error| error.to_string();
    let mut file = std::fs::File::open(path).map_err(told)?;
    let length = file.metadata().map_err(told)?.len();
    let mut header = [0; 64];
    file.read_exact(&mut header).map_err(|_| format!("{length} bytes"))?;
    if !header.starts_with(b"\x7fELF") {
        return if cfg!(target_os = "linux") { Err("not a shared library".into()) } else { Ok(()) };
    }
    if header[4..6] != [2, 1] {
        return Err("not a 64-bit little-endian library".into());
    }
    let half = |bytes: &[u8]| u64::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let word = |bytes: &[u8]| bytes[..8].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let sections_end = word(&header[40..]).saturating_add(half(&header[58..]) * half(&header[60..]));
    let mut needed = sections_end;
    let mut entry = [0; 56];
    file.seek(std::io::SeekFrom::Start(word(&header[32..]))).map_err(told)?;
    for _ in 0..half(&header[56..]) {
        file.read_exact(&mut entry).map_err(|_| format!("{length} bytes"))?;
        needed = needed.max(word(&entry[8..]).saturating_add(word(&entry[32..])));
    }
    if length < needed { Err(format!("{length} of {needed} bytes")) } else { Ok(()) }
}

#[allow(unsafe_code)]
fn version_of(path: &Path) -> Result<String, String> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: loading runs the library's initialisers; the user named this file, and ONNX Runtime's have no requirements.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // SAFETY: a symbol of this name is the documented entry point of ONNX Runtime, of exactly this type.
    let entry = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") }.map_err(|error| error.to_string())?;
    // SAFETY: the entry point takes nothing; it returns a pointer to a static table, or null.
    let base = unsafe { entry().as_ref() }.ok_or("it has no API")?;
    // SAFETY: the table's function returns a static, NUL-terminated string.
    let version = unsafe { std::ffi::CStr::from_ptr((base.GetVersionString)()) };
    Ok(version.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path) -> String {
        load(path.into()).err().unwrap().to_string()
    }

    #[test]
    fn a_missing_library_names_its_path_and_the_command_that_fetches_it() {
        let message = existing(Path::new("nowhere/libonnxruntime.so"), "").unwrap_err().to_string();
        assert!(message.contains("nowhere/libonnxruntime.so") && message.contains("make setup"), "{message}");
    }

    #[test]
    fn the_library_of_the_newest_python_beside_the_program_is_found_and_nothing_else_of_it() {
        let prefix = tempfile::tempdir().unwrap();
        assert!(of_python(prefix.path()).is_empty());
        let put = |python: &str, file: &str| {
            let folder = prefix.path().join("lib").join(python).join("site-packages/onnxruntime/capi");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), b"").unwrap();
            folder.join(file)
        };
        let library = format!("{}onnxruntime.so.1.31.1", std::env::consts::DLL_PREFIX);
        let [older, newer] = ["python3.9", "python3.13"].map(|python| put(python, &library));
        put("python3.13", "libonnxruntime_providers_shared.so");
        put("pypy3.10", &library);
        assert_eq!(of_python(prefix.path()), [newer, older]);
    }

    #[test]
    fn a_file_that_is_no_library_and_a_library_that_is_no_onnx_runtime_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, vec![7; 1000]).unwrap();
        assert!(said(&path).contains("damaged (not a shared library)"), "{}", said(&path));
        std::fs::write(&path, b"\x7fELF").unwrap();
        assert!(said(&path).contains("damaged (4 bytes)"), "{}", said(&path));
        let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        if let Some(other) = other.iter().map(Path::new).find(|p| p.is_file()) {
            assert!(said(other).contains("is not ONNX Runtime"), "{}", said(other));
        }
    }

    #[test]
    fn a_truncated_library_is_an_error_before_the_loader_dies_of_it() {
        let Ok(whole) = search(false) else {
            eprintln!("SKIPPED: no ONNX Runtime here to truncate");
            return;
        };
        assert!(complete(&whole).is_ok());
        let bytes = std::fs::read(&whole).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        for length in [100, bytes.len() / 20, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = said(&path);
            assert!(message.contains("damaged") && message.contains("bytes)"), "{length}: {message}");
        }
    }
}
