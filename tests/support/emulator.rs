//! A device that is the CPU: runs the kernels of `src/cuda/kernels.cu`, compiled by the C++ compiler, one thread after the other.
//!
//! All memory has a border of bytes that nobody may write; it is looked at after every program.

#![allow(unsafe_code, dead_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use haltere::cuda::{Answer, Fault, Launch, Machine, Program, THREADS};

type Emulate = unsafe extern "C" fn(*const c_char, *const c_void, c_ulong, c_int, c_int, c_ulong, c_int) -> c_int;

/// Bytes before and behind every allocation that nobody may write.
const BORDER: usize = 256;
const BORDER_BYTE: u8 = 0xff;

/// In which order the threads of a phase, and the blocks of a launch, run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
    Mixed,
}

/// The emulated device.
pub struct Emulator {
    emulate: Emulate,
    order: Order,
    memory: Arc<Mutex<Memory>>,
    failure: Arc<Failure>,
}

/// Programs with this kernel fail from the `at`th launch on, counted from 0.
struct Failure {
    kernel: &'static str,
    at: usize,
    launches: AtomicUsize,
}

#[derive(Default)]
struct Memory {
    blocks: HashMap<u64, (Vec<u64>, usize)>,
}

impl Memory {
    fn allocate(&mut self, bytes: usize) -> u64 {
        // 64 bytes more than needed, to align.
        let mut block = vec![u64::MAX; (bytes + 2 * BORDER + 64).div_ceil(8)];
        let start = block.as_mut_ptr() as usize + BORDER;
        let address = start.next_multiple_of(64);
        let offset = address - block.as_mut_ptr() as usize;
        bytemuck::cast_slice_mut::<u64, u8>(&mut block)[offset..offset + bytes].fill(0);
        self.blocks.insert(address as u64, (block, bytes));
        address as u64
    }

    /// The address of an allocation whose border was written.
    fn damaged(&self) -> Option<String> {
        self.blocks.iter().find_map(|(address, (block, bytes))| {
            let offset = *address as usize - block.as_ptr() as usize;
            let all: &[u8] = bytemuck::cast_slice(block);
            let (before, behind) = (&all[..offset], &all[offset + bytes..]);
            let clean = |border: &[u8]| border.iter().all(|byte| *byte == BORDER_BYTE);
            (!clean(before) || !clean(behind)).then(|| format!("written outside of an allocation of {bytes} bytes"))
        })
    }
}

impl Emulator {
    pub fn open(order: Order) -> Arc<dyn Machine> {
        Self::failing(order, "none", usize::MAX)
    }

    /// An emulator whose `at`th program with this kernel, counted from 0, is a fault, and every one after it.
    pub fn failing(order: Order, kernel: &'static str, at: usize) -> Arc<dyn Machine> {
        static LIBRARY: OnceLock<libloading::Library> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| {
            // SAFETY: the library was just built from our own source; it has no initialisers.
            unsafe { libloading::Library::new(compile("emulator.cpp", "emulator.so")) }.expect("the emulator loads")
        });
        // SAFETY: the symbol has this type (emulator.cpp), and the library is never unloaded.
        let emulate = *unsafe { library.get::<Emulate>(b"emulate\0") }.expect("the emulator's entry");
        let failure = Arc::new(Failure { kernel, at, launches: AtomicUsize::new(0) });
        Arc::new(Self { emulate, order, memory: Arc::default(), failure })
    }

    fn fault(doing: &'static str, cause: impl Into<String>) -> Fault {
        Fault { device: "emulated device".to_owned(), doing, cause: cause.into() }
    }
}

/// Builds a source file of this folder, with the C++ compiler that ZeroMQ needs as well, into a library of this name.
pub fn compile(source: &str, library: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulator-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let built = Command::new(&compiler)
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root.join("tests/support"))
        .arg(root.join("tests/support").join(source))
        .arg(format!("-Wl,-soname,{library}"))
        .arg("-o")
        .arg(folder.join(library))
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join(library)
}

struct Emulated {
    emulate: Emulate,
    order: Order,
    memory: Arc<Mutex<Memory>>,
    failure: Arc<Failure>,
    launches: Vec<(CString, Launch)>,
    /// Eight bytes each, so that it is aligned as its struct is.
    argument: Vec<u64>,
    bytes: usize,
}

impl Program for Emulated {
    fn launch(&self) -> Result<(), Fault> {
        let Failure { kernel, at, launches } = &*self.failure;
        let concerned = self.launches.iter().any(|(_, launch)| launch.kernel == *kernel);
        if concerned && launches.fetch_add(1, Ordering::Relaxed) >= *at {
            return Err(Emulator::fault("running the kernels", "it was told to fail here"));
        }
        for (name, launch) in &self.launches {
            // SAFETY: the argument was made for this kernel by haltere, which is what is being tested: a wrong address in it ends
            // the test. It outlives the call.
            let status = unsafe {
                (self.emulate)(
                    name.as_ptr(),
                    self.argument.as_ptr().cast(),
                    self.bytes as c_ulong,
                    launch.blocks as c_int,
                    THREADS as c_int,
                    c_ulong::from(launch.shared_bytes),
                    self.order as c_int,
                )
            };
            let cause = match status {
                0 => self.memory.lock().unwrap().damaged(),
                1 => Some("there is no such kernel".to_owned()),
                2 => Some(format!("its argument is not of {} bytes", self.bytes)),
                _ => Some(format!("written beyond {} bytes of shared memory", launch.shared_bytes)),
            };
            if let Some(cause) = cause {
                return Err(Emulator::fault(launch.kernel, cause));
            }
        }
        Ok(())
    }
}

impl Machine for Emulator {
    fn name(&self) -> &str {
        "emulated device"
    }

    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        Ok(self.memory.lock().unwrap().allocate(bytes))
    }

    fn free(&self, address: u64) {
        self.memory.lock().unwrap().blocks.remove(&address).expect("memory of this device");
    }

    fn allocate_host(&self, bytes: usize) -> Result<u64, Fault> {
        self.allocate(bytes)
    }

    fn free_host(&self, address: u64) {
        self.free(address);
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: haltere answers for the address; see `launch`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as usize as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: as in `upload`.
        unsafe { std::ptr::copy_nonoverlapping(from as usize as *const u8, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn program(&self, launches: &[Launch], argument: &[u8]) -> Result<Box<dyn Program>, Fault> {
        let mut copy = vec![0u64; argument.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut copy)[..argument.len()].copy_from_slice(argument);
        let named = launches.iter().map(|launch| (CString::new(launch.kernel).unwrap(), *launch));
        Ok(Box::new(Emulated {
            emulate: self.emulate,
            order: self.order,
            memory: self.memory.clone(),
            failure: self.failure.clone(),
            launches: named.collect(),
            argument: copy,
            bytes: argument.len(),
        }))
    }

    fn run(&self, frame: &[u8], to: u64, program: &dyn Program, answer: Answer) -> Result<(), Fault> {
        self.upload(to, frame)?;
        program.launch()?;
        self.wait_for(answer)
    }

    fn wait_for(&self, answer: Answer) -> Result<(), Fault> {
        // SAFETY: as in `upload`.
        let found = unsafe { std::ptr::read(answer.address as usize as *const u64) };
        if found == answer.value {
            return Ok(());
        }
        Err(Self::fault("waiting for it", format!("the device answered for run {found}, not for {}", answer.value)))
    }

    fn wait(&self) -> Result<(), Fault> {
        Ok(())
    }
}
