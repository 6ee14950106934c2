//! NWB becomes frames.
//!
//! Method: files that Python's own `pynwb` wrote are read frame by frame and held against numpy's arrays; what cannot be read must say
//! what it is.
#![allow(clippy::unwrap_used)]

use crate::support::nwb;

use std::path::Path;
use std::process::Command;

use haltere::frame::{Frame, Pixels};
use haltere::source::{Next, RecordingSpec, Source, open_recording};
use nwb::{python, run, script, spec, text};

/// The source at its end, the pixels of each frame, its time stamp.
type Read = (Box<dyn Source>, Vec<Vec<f64>>, Vec<Option<i64>>);

/// All frames, and their times in ns.
fn read_all(spec: &RecordingSpec) -> Read {
    let mut source = open_recording(spec).unwrap();
    let mut slot = Frame::with_capacity(source.frame_bytes_max());
    let (mut frames, mut times) = (Vec::new(), Vec::new());
    while source.next(&mut slot).unwrap() == Next::Frame {
        assert_eq!((slot.info.number, slot.info.series_began), (frames.len() as u64, frames.is_empty()));
        frames.push(match slot.pixels() {
            Pixels::U8(pixels) => pixels.iter().map(|v| f64::from(*v)).collect(),
            Pixels::U16(pixels) => pixels.iter().map(|v| f64::from(*v)).collect(),
            Pixels::I16(pixels) => pixels.iter().map(|v| f64::from(*v)).collect(),
            Pixels::F32(pixels) => pixels.iter().map(|v| f64::from(*v)).collect(),
        });
        times.push(slot.info.t_device.map(|time| time.ns));
    }
    assert_eq!(source.frames_total(), Some(frames.len() as u64));
    (source, frames, times)
}

fn fail(spec: &RecordingSpec) -> String {
    let run = || -> Result<(), haltere::source::SourceError> {
        let mut source = open_recording(spec)?;
        let mut slot = Frame::with_capacity(source.frame_bytes_max());
        while source.next(&mut slot)? != Next::End {}
        Ok(())
    };
    run().expect_err("must fail").to_string()
}

/// Writes a file of this kind with pynwb.
fn written(python: &Path, folder: &Path, kind: &str) -> String {
    let path = folder.join(format!("{kind}.nwb"));
    script(python, "write_nwb.py", &[kind, text(&path)]);
    text(&path).to_owned()
}

/// The frames that numpy has beside a file: one channel after the other in each frame.
fn truth(nwb: &str) -> Vec<Vec<f64>> {
    let array: ndarray::Array4<f64> = ndarray_npy::read_npy(nwb.replace(".nwb", ".npy")).unwrap();
    let frame = |time: usize| array.index_axis(ndarray::Axis(1), time).iter().copied().collect();
    (0..array.shape()[1]).map(frame).collect()
}

#[test]
fn frames_that_pynwb_wrote_are_read_as_numpy_has_them() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for kind in ["timestamps", "rate", "float", "big", "rows"] {
        let path = written(&python, folder.path(), kind);
        let (_, frames, _) = read_all(&spec(&[&path]));
        assert!(frames == truth(&path), "{kind}");
    }
    let volume = written(&python, folder.path(), "volume");
    assert!(fail(&spec(&[&volume])).contains("plane 0 to 2"));
    let chosen = RecordingSpec { plane: Some(1), ..spec(&[&volume]) };
    assert!(read_all(&chosen).1 == truth(&volume));
}

#[test]
fn times_are_those_of_the_file_unless_a_rate_is_told() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = written(&python, folder.path(), "rate");
    let (source, _, times) = read_all(&spec(&[&path]));
    assert_eq!((source.frame_rate_hz(), times[0], times[22]), (Some(20.0), Some(2_500_000_000), Some(3_600_000_000)));
    let told = RecordingSpec { rate_hz: Some(50.0), ..spec(&[&path]) };
    let (source, _, times) = read_all(&told);
    assert_eq!((source.frame_rate_hz(), times[0], times[1]), (Some(50.0), Some(0), Some(20_000_000)));
    let path = written(&python, folder.path(), "timestamps");
    let (source, _, times) = read_all(&spec(&[&path]));
    let code =
        "import sys, h5py\nfor s in h5py.File(sys.argv[1])['acquisition/Movie/timestamps']: print(round(s * 1e9))";
    let listed = Command::new(&python).args(["-c", code, &path]).output().unwrap().stdout;
    let listed: Vec<Option<i64>> = String::from_utf8(listed).unwrap().lines().map(|line| line.parse().ok()).collect();
    assert_eq!(times, listed);
    assert!((25.0..50.0).contains(&source.frame_rate_hz().unwrap()));
}

#[test]
fn of_several_series_one_is_chosen_or_two_are_the_channels() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = written(&python, folder.path(), "two");
    let error = fail(&spec(&[&path]));
    assert!(error.contains("contains 2 TwoPhotonSeries: /acquisition/Green, /acquisition/Red"), "{error}");
    assert!(error.contains("two.nwb#/acquisition/Green"), "{error}");
    let [green, red] = ["Green", "/acquisition/Red"].map(|name| format!("{path}#{name}"));
    let both = truth(&path);
    let plane = both[0].len() / 2;
    assert!(read_all(&spec(&[&green])).1.iter().zip(&both).all(|(found, both)| *found == both[..plane]));
    assert!(read_all(&spec(&[&red])).1.iter().zip(&both).all(|(found, both)| *found == both[plane..]));
    let (source, frames, _) = read_all(&spec(&[&green, &red]));
    assert_eq!((frames == both, source.frames_total()), (true, Some(23)));
    let error = fail(&spec(&[&format!("{path}#Blue")]));
    assert!(error.contains("no TwoPhotonSeries \"Blue\"; it has: /acquisition/Green, /acquisition/Red"), "{error}");
    let unlike = written(&python, folder.path(), "unlike");
    let error = fail(&spec(&[&format!("{unlike}#Green"), &format!("{unlike}#Red")]));
    assert!(error.contains("channels must match") && error.contains("22 frames"), "{error}");
    // By the command line, with the file's own word for it. The model wants both channels, and larger frames.
    let out = folder.path().join("green.npy");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml");
    let embed = |series: &[&str]| run(&[&["embed", "--model", text(&model), "--out", text(&out)], series].concat());
    embed(&[&green]).code(6).says(&["all 23 were refused", "the model needs channel 1"]);
    embed(&[&green, "--channel-file", &red]).code(6).says(&["all 23 were refused", "20×30 px"]);
    assert!(!out.exists());
}

#[test]
fn what_is_no_recording_says_so_and_what_to_do() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (kind, words) in [
        ("double", ["pixels are", "uint8, uint16, int16 and float32"]),
        ("nan", ["NaN s as the time of frame 0", "--rate"]),
        ("external", ["movie_1.tif, movie_2.tif", "not in this file"]),
        ("none", ["contains no TwoPhotonSeries", "/acquisition/Camera"]),
        ("other", ["not NWB", "NWBFile"]),
    ] {
        let path = written(&python, folder.path(), kind);
        let error = fail(&spec(&[&path]));
        assert!(error.contains(&format!("{kind}.nwb")) && words.iter().all(|word| error.contains(word)), "{error}");
    }
    let nan = folder.path().join("nan.nwb");
    let told = RecordingSpec { rate_hz: Some(30.0), ..spec(&[text(&nan)]) };
    assert_eq!(read_all(&told).1.len(), 23, "the rate that was told is the way out");
    let path = folder.path().join("text.nwb");
    std::fs::write(&path, "this is no HDF5").unwrap();
    assert!(fail(&spec(&[text(&path)])).contains("cannot be read as HDF5"));
    assert!(fail(&spec(&[text(&folder.path().join("none.nwb#Green"))])).contains("no TwoPhotonSeries"));
    assert!(fail(&spec(&[text(&folder.path().join("absent.nwb"))])).contains("no such file"));
    let mixed = spec(&[text(&nan), "green.tif"]);
    assert!(fail(&mixed).contains("not an NWB file"));
}

#[test]
fn a_file_that_was_cut_off_is_named_wherever_it_was_cut() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for kind in ["timestamps", "two"] {
        let path = written(&python, folder.path(), kind);
        let whole = std::fs::read(&path).unwrap();
        let cut = folder.path().join("cut.nwb");
        for keep in (0..whole.len()).step_by(whole.len() / 97) {
            std::fs::write(&cut, &whole[..keep]).unwrap();
            let error = fail(&spec(&[&format!("{}#{}", cut.display(), if kind == "two" { "Green" } else { "Movie" })]));
            assert!(error.contains("cut.nwb"), "{keep} of {}: {error}", whole.len());
        }
    }
}
