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
use std::path::Path;
#[cfg(feature = "train")]
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::{Case, Step, cases};
use driver::{CAPTURE_INVALIDATED, Driver, LAUNCH_FAILED, NO_DEVICE, OUT_OF_MEMORY, Timing, UNSUPPORTED_PTX_VERSION};
use haltere::cuda::{self, DeviceMemory, HostMemory, Launch};
use haltere::frame::{Frame, PixelMemory};
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
fn preprocessing_asks_the_driver_for_one_copy_and_one_launch_a_frame_and_waits_for_a_word_in_its_own_memory() {
    for (timing, looks) in [(Timing::Early, 0), (Timing::Late, 2)] {
        let driver = Driver::take(timing);
        let case = case("two channels, the second first");
        let machine = cuda::open(0).unwrap();
        let mut preprocess = on(&machine, &case);
        run(&mut *preprocess, &case);
        let (all, named) = (driver.all_calls(), ["cuMemcpyHtoDAsync_v2", "cuGraphLaunch"]);
        let before = named.map(|name| driver.calls(name));
        let [binds, queries] = ["cuCtxGetCurrent", "cuStreamQuery"].map(|name| driver.calls(name));
        let Some(Step::Frame(frame)) = case.steps.last() else { panic!("a frame") };
        preprocess.apply(frame).unwrap();
        assert_eq!(named.map(|name| driver.calls(name)), before.map(|count| count + 1));
        let bound = driver.calls("cuCtxGetCurrent") - binds;
        // A device that is done at once is not asked whether it is: the word is there.
        assert_eq!(driver.calls("cuStreamQuery") - queries, looks, "{timing:?}");
        assert_eq!(driver.all_calls() - all, 2 + bound + looks, "the driver was asked for something else");
        assert_eq!((driver.calls("cuStreamSynchronize"), driver.calls("cuCtxSynchronize")), (0, 0));
    }
}

#[test]
fn a_device_that_hangs_is_named_within_the_deadline_and_nobody_waits_for_it_afterwards() {
    let driver = Driver::take(Timing::Late);
    let case = case("uint16");
    let machine = cuda::open(0).unwrap();
    let mut preprocess = on(&machine, &case);
    let mut steps = case.steps.iter();
    let mut next = |preprocess: &mut dyn haltere::preprocess::Preprocess| {
        let frame = steps.find_map(|step| if let Step::Frame(frame) = step { Some(frame) } else { None });
        apply(preprocess, frame.unwrap(), case.input.pixels())
    };
    next(&mut *preprocess).unwrap();
    driver.hang();
    let began = Instant::now();
    let error = next(&mut *preprocess).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(matches!(error, PreprocessError::Device(_)) && !error.is_survivable(), "{error}");
    assert!(error.to_string().contains("running the kernels: the device did not answer within 1000 ms"), "{error}");
    assert!(machine.is_lost());
    // From now on it is not even asked, whatever is wanted, and neither is it by another model.
    let (asked, began) = (driver.all_calls(), Instant::now());
    let again = next(&mut *preprocess).unwrap_err().to_string();
    assert!(again.contains("it did not answer before"), "{again}");
    assert!(cuda::open(0).err().unwrap().to_string().contains("it did not answer before"));
    drop((preprocess, machine));
    assert!(began.elapsed() < Duration::from_millis(900), "somebody waited: {:?}", began.elapsed());
    assert_eq!((driver.all_calls() - asked, driver.refusals().as_str()), (0, ""));
}

#[test]
fn machines_of_one_device_share_its_kernels_and_a_second_swap_asks_the_driver_for_no_memory() {
    let driver = Driver::take(Timing::Late);
    let case = case("uint16");
    let live = cuda::open(0).unwrap();
    let mut decoding = on(&live, &case);
    let expected = run(&mut *decoding, &case);
    let named =
        ["cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc", "cuMemFreeHost", "cuModuleLoadData", "cuCtxSynchronize"];
    let mut counted = Vec::new();
    for _ in 0..3 {
        let swapped = cuda::open(0).unwrap();
        assert!(swapped.stream() != live.stream() && !swapped.stream().is_null());
        let seen = run(&mut *on(&swapped, &case), &case);
        assert!(seen == expected, "another machine of the device decodes otherwise");
        drop(swapped);
        counted.push(named.map(|name| driver.calls(name)));
    }
    assert_eq!(counted[2], counted[0], "{named:?}");
    let [.., modules, waits] = counted[2];
    assert_eq!((modules, waits), (1, 0));
    assert!(run(&mut *on(&live, &case), &case) == expected);
    drop((decoding, live));
    left_clean(&driver);
}

#[test]
fn what_a_library_puts_on_the_stream_is_recorded_on_one_thread_and_runs_on_another() {
    let driver = Driver::take(Timing::Late);
    let machine = cuda::open(0).unwrap();
    let memory = DeviceMemory::of(&machine, &[1u8; 64]).unwrap();
    let (address, stream) = (memory.address(), machine.stream() as usize);
    let recorded = machine
        .record(&mut || {
            assert_eq!(driver.set(address, 7, 64, stream as *mut _), 0);
            // A model that is loaded meanwhile, by another thread and on a stream of its own.
            std::thread::scope(|threads| {
                threads.spawn(|| drop(DeviceMemory::of(&cuda::open(0).unwrap(), &[3u8; 64]).unwrap())).join().unwrap();
            });
            Ok(())
        })
        .unwrap();
    let content = || {
        let mut back = [0u8; 64];
        machine.download(address, &mut back).unwrap();
        back
    };
    assert_eq!(content(), [1; 64], "recording is not running");
    let elsewhere = std::thread::spawn(move || recorded.launch().map(|()| recorded));
    let recorded = elsewhere.join().unwrap().unwrap();
    assert_eq!(content(), [7; 64]);
    drop((recorded, memory, machine));
    left_clean(&driver);
}

/// What ONNX Runtime's own recording would do to a daemon: it captures in the driver's global mode.
#[test]
fn a_capture_in_the_global_mode_fails_other_threads_and_is_failed_by_them() {
    for (mode, fails) in [(0, true), (1, false)] {
        let driver = Driver::take(Timing::Late);
        let [recording, decoding] = [0, 1].map(|_| cuda::open(0).unwrap());
        let memory = DeviceMemory::of(&decoding, &[1u8; 64]).unwrap();
        assert_eq!(driver.begin_capture(recording.stream(), mode), 0);
        assert_eq!(driver.set(memory.address(), 2, 64, recording.stream()), 0);
        let elsewhere = std::thread::scope(|threads| {
            threads.spawn(|| (decoding.wait(), DeviceMemory::new(&decoding, 1 << 20).map(drop))).join().unwrap()
        });
        assert_eq!(driver.end_capture(recording.stream()), if fails { CAPTURE_INVALIDATED } else { 0 });
        for asked in [elsewhere.0, elsewhere.1] {
            let said = asked.err().map(|fault| fault.to_string());
            assert_eq!(said.as_ref().is_some_and(|said| said.contains("CAPTURE_UNSUPPORTED")), fails, "{said:?}");
        }
    }
}

#[test]
fn what_the_bench_times_runs_every_kernel_of_a_frame_alone_and_reads_a_frame_where_it_lies() {
    let driver = Driver::take(Timing::Late);
    let case = case("two channels, the second first");
    let machine = cuda::open(0).unwrap();
    let mut preprocess = on(&machine, &case);
    assert!(preprocess.device_kernels(1).unwrap().is_empty(), "kernels before a frame");
    run(&mut *preprocess, &case);
    let kernels = preprocess.device_kernels(3).unwrap();
    assert_eq!(kernels.len(), preprocess.device_work().unwrap().1);
    kernels.iter().for_each(|kernel| kernel.run().unwrap());
    let mut source = HostMemory::new(&machine, 1024).unwrap();
    source.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    let target = DeviceMemory::new(&machine, 1024).unwrap();
    cuda::floor::reading(&machine, &source, &target).unwrap().launch().unwrap();
    let mut back = [0u8; 1024];
    machine.download(target.address(), &mut back).unwrap();
    assert!(back == source.bytes());
    drop((preprocess, kernels, source, target, machine));
    left_clean(&driver);
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
        ("cuStreamQuery", "running the kernels"),
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

/// The bench makes an untrained model where none is configured, and holds it against ONNX Runtime: the one of the GPU, since a process has
/// one.
#[cfg(feature = "train")]
#[test]
fn the_bench_of_a_gpu_takes_the_runtime_that_a_gpu_needs() {
    let folder = tempfile::tempdir().unwrap();
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/libonnxruntime.so");
    for place in [".runtime", ".runtime-gpu"] {
        std::fs::create_dir(folder.path().join(place)).unwrap();
        std::os::unix::fs::symlink(&library, folder.path().join(place).join("libonnxruntime.so")).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_haltere"));
    command.args(["bench", "device", "--quick", "--set", "compute.device=cuda"]).current_dir(folder.path());
    command.env("LD_LIBRARY_PATH", driver::folder()).env_remove("ORT_DYLIB_PATH");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // The library of the tests has no CUDA provider; which library it was is said.
    assert!(!output.status.success() && said.contains(".runtime-gpu/libonnxruntime.so"), "{said}");
}

#[test]
fn devices_are_listed_as_the_driver_names_them() {
    let _driver = Driver::take(Timing::Late);
    let found = cuda::find().unwrap();
    let [device] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((device.name.as_str(), device.capability, device.bytes), ("emulated", (7, 5), 1 << 30));
    assert_eq!(cuda::versions().unwrap(), 13000);
}
