//! The host's side of a CUDA device, on a machine without one: `src/cuda/driver.rs` with a driver that is the CPU behind it, which
//! takes no call that is not legal, hides the device's memory from the host, and does everything as late as it may, or at once.
//!
//! What it cannot show: that NVIDIA's driver and compiler do the same, and how long anything takes. `benches/gpu.sh` does, on a GPU.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/driver.rs"]
mod driver;
#[path = "support/emulator.rs"]
mod emulator;
#[path = "support/oracle.rs"]
mod oracle;

#[cfg(feature = "train")]
use std::process::Command;

use conformance::{Case, Step, cases};
use driver::{Driver, LAUNCH_FAILED, NO_DEVICE, OUT_OF_MEMORY, Timing, UNSUPPORTED_PTX_VERSION};
use haltere::cuda::{self, DeviceMemory, Launch};
use haltere::frame::Frame;
use haltere::preprocess::{PreprocessError, Request};
use oracle::{apply, conforms, on, run};

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).expect("a case")
}

/// Nothing was refused, and all of it was given back.
fn left_clean(driver: &Driver) {
    assert_eq!((driver.refusals().as_str(), driver.held()), ("", 0));
}

#[test]
fn every_case_of_the_conformance_suite_is_that_of_the_cpu_whenever_the_device_does_its_work() {
    for (timing, steps_max) in [(Timing::Late, usize::MAX), (Timing::Early, 100)] {
        let driver = Driver::take(timing);
        let cases = cases().into_iter().filter(|case| case.steps.len() <= steps_max);
        conforms(&cuda::open(0).unwrap(), cases);
        left_clean(&driver);
    }
}

#[test]
fn preprocessing_asks_the_driver_for_one_copy_one_launch_and_one_wait_a_frame() {
    let driver = Driver::take(Timing::Late);
    let case = case("two channels, the second first");
    let machine = cuda::open(0).unwrap();
    let mut preprocess = on(&machine, &case);
    run(&mut *preprocess, &case);
    let (all, named) = (driver.all_calls(), ["cuMemcpyHtoDAsync_v2", "cuGraphLaunch", "cuStreamSynchronize"]);
    let before = named.map(|name| driver.calls(name));
    let binds = driver.calls("cuCtxGetCurrent");
    let Some(Step::Frame(frame)) = case.steps.last() else { panic!("a frame") };
    preprocess.apply(frame).unwrap();
    assert_eq!(named.map(|name| driver.calls(name)), before.map(|count| count + 1));
    let bound = driver.calls("cuCtxGetCurrent") - binds;
    assert_eq!(driver.all_calls() - all, 3 + bound, "the driver was asked for something else");
}

#[test]
fn what_is_uploaded_right_after_memory_was_taken_stays() {
    let driver = Driver::take(Timing::Late);
    let machine = cuda::open(0).unwrap();
    for bytes in [4, 4096, 100_000] {
        let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8 + 1).collect();
        let memory = DeviceMemory::of(&machine, &sent).unwrap();
        let mut back = vec![0; bytes];
        machine.download(memory.address(), &mut back).unwrap();
        assert!(back == sent, "{bytes} bytes");
        let fresh = DeviceMemory::new(&machine, bytes).unwrap();
        machine.download(fresh.address(), &mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == 0), "{bytes} bytes are not 0");
    }
    drop(machine);
    left_clean(&driver);
}

#[test]
fn a_frame_in_page_locked_memory_is_copied_from_where_it_lies() {
    let driver = Driver::take(Timing::Late);
    let machine = cuda::open(0).unwrap();
    let case = case("uint16");
    let expected = run(&mut *on(&machine, &case), &case);
    let mut preprocess = on(&machine, &case);
    let mut locked = Frame::in_memory(preprocess.frame_memory(40 * 48 * 2).unwrap());
    for (step, expected) in case.steps.iter().zip(&expected) {
        let Step::Frame(frame) = step else { continue };
        locked.info = frame.info;
        locked.bytes_mut().copy_from_slice(frame.bytes());
        assert!(apply(&mut *preprocess, &locked, case.input.pixels()).unwrap() == *expected);
        // As the lane does once a frame is given back: the next one arrives in its place.
        locked.bytes_mut().fill(0xff);
    }
    drop((preprocess, locked, machine));
    left_clean(&driver);
}

#[test]
fn a_kernel_that_is_not_there_is_named_and_leaves_the_stream_usable() {
    let driver = Driver::take(Timing::Late);
    let machine = cuda::open(0).unwrap();
    let refused = machine.program(&[Launch::new("pulse", 1, 0), Launch::new("nowhere", 1, 0)], &[0; 16]);
    assert!(refused.err().unwrap().to_string().contains("looking for a kernel"));
    let too_much = machine.program(&[Launch::new("pulse", 1, 1 << 20)], &[0; 16]);
    assert!(too_much.err().unwrap().to_string().contains("capturing a kernel"));
    machine.program(&[Launch::new("pulse", 1, 0)], &[0; 16]).unwrap().launch().unwrap();
    machine.wait().unwrap();
    drop(machine);
    assert_eq!(driver.held(), 0);
}

/// Runs a case on a device whose function `name` fails from frame 5 on; the frame that met it, and what was said.
fn failing(driver: &Driver, name: &str) -> (usize, PreprocessError) {
    let machine = cuda::open(0).unwrap();
    let case = case("uint16");
    let mut preprocess = on(&machine, &case);
    for (at, step) in case.steps.iter().enumerate() {
        let Step::Frame(frame) = step else { continue };
        if at == 5 {
            driver.fail(name, 0, LAUNCH_FAILED, true);
        }
        if let Err(error) = apply(&mut *preprocess, frame, case.input.pixels()) {
            preprocess.request(Request::Reset);
            let again = apply(&mut *preprocess, frame, case.input.pixels());
            assert!(again.is_err(), "a broken device decoded");
            return (at, error);
        }
    }
    panic!("nothing failed");
}

#[test]
fn a_kernel_that_fails_ends_the_corridor_with_the_drivers_words_wherever_it_is_met() {
    for (name, doing) in [
        ("cuMemcpyHtoDAsync_v2", "copying a frame"),
        ("cuGraphLaunch", "running the kernels"),
        ("cuStreamSynchronize", "running the kernels"),
    ] {
        let driver = Driver::take(Timing::Late);
        let (frame, error) = failing(&driver, name);
        assert!(frame == 5 && !error.is_survivable(), "frame {frame}: {error}");
        let words = format!("{doing}: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED)");
        assert!(error.to_string().ends_with(&words), "{name}: {error}");
        assert!(error.to_string().starts_with("CUDA device 0, emulated (compute capability 7.5)"), "{error}");
    }
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    for (name, status, words) in [
        ("cuInit", NO_DEVICE, "`nvidia-smi -L` lists the GPUs; is CUDA_VISIBLE_DEVICES set"),
        ("cuModuleLoadData", UNSUPPORTED_PTX_VERSION, "the driver is too old, or was updated without a restart; 580"),
    ] {
        let driver = Driver::take(Timing::Late);
        driver.fail(name, 0, status, false);
        let fault = cuda::open(0).err().unwrap().to_string();
        assert!(fault.contains(words), "{fault}");
        assert_eq!(driver.held(), 0, "{name}");
    }
    let driver = Driver::take(Timing::Late);
    let fault = cuda::open(7).err().unwrap().to_string();
    assert!(fault.contains("CUDA device 7") && fault.contains("with the numbers for compute.device"), "{fault}");
    assert_eq!(driver.held(), 0);
}

#[test]
fn a_device_without_room_says_so_and_keeps_nothing() {
    let case = case("uint16");
    let Some(Step::Frame(frame)) = case.steps.first() else { panic!("a frame") };
    for after in 1..60 {
        let driver = Driver::take(Timing::Late);
        // The first is taken before there is a frame.
        driver.fail("cuMemAlloc_v2", after, OUT_OF_MEMORY, false);
        let machine = cuda::open(0).unwrap();
        let mut preprocess = on(&machine, &case);
        let ended = apply(&mut *preprocess, frame, case.input.pixels());
        drop((preprocess, machine));
        left_clean(&driver);
        match ended {
            Ok(_) if after > 20 => return,
            Ok(_) => panic!("{after} allocations were enough"),
            Err(error) => assert!(error.to_string().contains("`nvidia-smi` shows who uses its memory"), "{error}"),
        }
    }
    panic!("60 allocations were not enough");
}

/// A rig whose owner installed the driver and nothing else: `check` goes as far as it gets, and names the command for the rest.
#[cfg(feature = "train")]
#[test]
fn a_rig_with_a_driver_and_no_provider_is_told_what_fetches_it_and_auto_encodes_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let haltere = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haltere"));
        command.args(arguments).env("LD_LIBRARY_PATH", driver::folder()).env_remove("ORT_DYLIB_PATH");
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let out = folder.path().to_str().unwrap();
    let init = ["model", "init", "--name", "m", "--out", out, "--input", "1x32x32", "--channels", "1"];
    assert_eq!(haltere(&init).0, Some(0));
    let model = format!("model={out}/m.toml");
    let check = |device: &str| haltere(&["check", "--set", &model, "--set", &format!("compute.device={device}")]);
    let (code, said) = check("cuda");
    assert!(code != Some(0) && said.contains("✗ device") && said.contains("`make gpu`"), "{said}");
    let (_, said) = check("auto");
    assert!(said.contains("! device            CPU: CUDA device 0, emulated"), "{said}");
    assert!(said.contains("by CPUExecutionProvider"), "{said}");
}

#[test]
fn devices_are_listed_as_the_driver_names_them() {
    let _driver = Driver::take(Timing::Late);
    let found = cuda::find().unwrap();
    let [device] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((device.name.as_str(), device.capability, device.bytes), ("emulated", (7, 5), 1 << 30));
    assert_eq!(cuda::versions().unwrap(), 13000);
}
