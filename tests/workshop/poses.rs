//! Poses as SLEAP and DeepFly3D keep them.
//!
//! Method: files are written by Python (`tests/support/write_sleap.py` with h5py, `write_deepfly3d.py` with pickle and NumPy), which knows
//! nothing of the reader, and read through a `dataset.toml`. Every value of a pose is a number that tells where it belongs. Then
//! the files are cut off at every byte. The interpreter is `$HALTERE_PYTHON`, else `.venv/bin/python` (`make setup` makes it).
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::result_large_err, reason = "the errors of a data set name many things")]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::dataset::trials::Dataset;
use haltere::dataset::{DataSpec, DataWarning, DatasetError, LoadOptions, load};
use haltere::model::parameters::Parameters;
use support::skip;

const FRAMES: usize = 50;

/// A Python that has the modules, and a folder with a movie of as many frames as every pose here has.
struct Lab {
    python: PathBuf,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(modules: &str) -> Option<Self> {
        let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
        let import = format!("import {modules}");
        if !Command::new(&python).args(["-c", &import]).status().is_ok_and(|status| status.success()) {
            return skip(&format!("{} has no {modules}: `make setup`", python.display()));
        }
        let lab = Self { python, folder: tempfile::tempdir().unwrap() };
        let movie: Vec<u8> = (0..FRAMES * 256).flat_map(|at| (at as u16 % 97).to_le_bytes()).collect();
        std::fs::write(lab.path("movie.raw"), movie).unwrap();
        Some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, script: &str, name: &str, arguments: &[&str]) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
        let path = self.path(name);
        let written = Command::new(&self.python).arg(script).arg(&path).args(arguments).status().unwrap();
        assert!(written.success(), "{name}");
        path
    }

    /// One trial whose behaviour is `name`, with more keys.
    fn spec(&self, name: &str, keys: &str) -> DataSpec {
        let toml = format!(
            "frame_rate_hz = 30\nbehaviour_rate_hz = 30\n[[trial]]\nanimal = \"a\"\nframes = {{ path = \"movie.raw\", raw = \
             \"uint16:16x16\" }}\nbehaviour = {name:?}\n{keys}\n"
        );
        std::fs::write(self.path("dataset.toml"), toml).unwrap();
        DataSpec::from_toml(&self.path("dataset.toml")).unwrap()
    }

    fn load(&self, name: &str, keys: &str) -> Result<(Dataset, Vec<DataWarning>), DatasetError> {
        load(&self.spec(name, keys), &options(), &|_| ())
    }

    fn fault(&self, name: &str, keys: &str, words: &[&str]) {
        let fault = self.load(name, keys).expect_err(keys).to_string();
        words.iter().for_each(|word| assert!(fault.contains(word), "{word:?} is not in: {fault}"));
        assert!(fault.contains(name), "the file is named: {fault}");
    }

    /// Cut off at every byte, a file is refused each time, and what is cut in the middle is said to be.
    fn cut_everywhere(&self, name: &str) {
        let whole = std::fs::read(self.path(name)).unwrap();
        let cut = format!("cut_{name}");
        let spec = self.spec(&cut, "");
        std::fs::write(self.path(&cut), &whole).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(self.path(&cut)).unwrap();
        for length in (0..whole.len()).rev() {
            file.set_len(length as u64).unwrap();
            let fault = load(&spec, &options(), &|_| ()).err().unwrap_or_else(|| panic!("{length} bytes were read"));
            assert!(length < 64 || fault.to_string().contains("truncated"), "{length} bytes: {fault}");
        }
    }
}

/// Nothing is learnt of the movie, so that a few frames are enough.
fn options() -> LoadOptions {
    let parameters = Parameters { registration: None, baseline: None, normalise: None, ..Parameters::default() };
    LoadOptions { parameters: Some(parameters), window_frames: 4, ..LoadOptions::default() }
}

/// Points of a SLEAP file as the writer made them, where they are not missing.
fn assert_sleap(data: &Dataset, track: usize) {
    let columns: Vec<String> =
        ["head", "thorax", "wing_tip"].iter().flat_map(|n| ["x", "y"].map(|end| format!("{n}_{end}"))).collect();
    assert_eq!(data.behaviour_columns, columns);
    let behaviour = &data.trials[0].behaviour;
    assert_eq!(behaviour.dim(), (FRAMES, 6));
    for frame in (0..FRAMES).filter(|frame| *frame != 3) {
        for column in 0..6 {
            let expected = (100 * track + 10 * (column / 2)) as f32 + frame as f32 / 64.0 + (column % 2) as f32 / 2.0;
            assert_eq!(behaviour[[frame, column]], expected, "frame {frame}, column {column}");
        }
    }
    assert_eq!(data.trials[0].usable[2..5], [true, false, true], "a missing node leaves its frame out");
}

#[test]
fn a_sleap_file_is_read_in_every_order_of_its_axes() {
    let Some(lab) = Lab::new("numpy, h5py") else { return };
    for layout in ["sleap", "single", "plain", "standard", "matlab", "odd"] {
        let name = format!("{layout}.h5");
        lab.write("write_sleap.py", &name, &[layout, "1"]);
        let (data, warnings) = lab.load(&name, "").unwrap_or_else(|e| panic!("{layout}: {e}"));
        assert_sleap(&data, 0);
        let missing = |w: &DataWarning| matches!(w, DataWarning::NonFiniteBehaviour { count: 1, first: 3, .. });
        assert!(warnings.iter().any(missing), "{warnings:?}");
    }
    let (data, _) = lab.load("sleap.h5", "column_names = [\"wing_tip_y\", \"head_x\"]").unwrap();
    assert_eq!(data.trials[0].behaviour.row(1).to_vec(), [20.5 + 1.0 / 64.0, 1.0 / 64.0]);
    lab.fault("sleap.h5", "column_names = [\"abdomen_x\"]", &["abdomen_x", "it has head_x, head_y"]);
    lab.fault("sleap.h5", "columns = 7", &["has 6 columns", "`columns` is 7"]);
    lab.fault("sleap.h5", "points = \"points3d\"", &["leave `points` out"]);
}

#[test]
fn of_several_tracks_one_must_be_named_and_none_is_guessed() {
    let Some(lab) = Lab::new("numpy, h5py") else { return };
    for layout in ["sleap", "standard"] {
        let name = format!("{layout}.h5");
        lab.write("write_sleap.py", &name, &[layout, "3"]);
        lab.fault(&name, "", &["contains 3 tracks", "fly 0 (50 frames), fly 1 (10 frames)", "track = \"fly 0\""]);
        lab.fault(&name, "track = \"fly 9\"", &["no track \"fly 9\"", "fly 2 (50 frames)"]);
        for (key, track) in [("track = \"fly 2\"", 2), ("track = \"0\"", 0)] {
            let (data, _) = lab.load(&name, key).unwrap();
            assert_sleap(&data, track);
        }
        // Missing in more than half of the frames: as for every other pose.
        lab.fault(&name, "track = \"fly 1\"", &["41 of 50 frames are NaN"]);
    }
    // No `dims`: two coordinates, two tracks and three nodes fit one order only.
    lab.write("write_sleap.py", "two.h5", &["plain", "2"]);
    let (data, _) = lab.load("two.h5", "track = \"fly 0\"").unwrap();
    assert_sleap(&data, 0);
}

#[test]
fn hdf5_that_is_no_analysis_file_says_what_it_is() {
    let Some(lab) = Lab::new("numpy, h5py") else { return };
    let write = |name: &str, python: &str| {
        let script =
            format!("import h5py\nwith h5py.File({:?}, 'w') as f:\n    {python}", lab.path(name).display().to_string());
        assert!(Command::new(&lab.python).args(["-c", &script]).status().unwrap().success());
    };
    write("project.slp", "f['instances'] = [1]; f['frames'] = [1]; f['pred_points'] = [1.0]");
    lab.fault("project.slp", "", &["SLEAP project", "sleap-convert --format analysis", "pred_points"]);
    write("dlc.h5", "f['df_with_missing/table'] = [1]");
    lab.fault("dlc.h5", "", &["DeepLabCut", "CSV"]);
    write("flat.h5", "f['tracks'] = [[1.0]]; f['node_names'] = [b'a']");
    lab.fault("flat.h5", "", &["four axes"]);
    write("swapped.h5", "import numpy as np; f['tracks'] = np.zeros((2, 2, 2, 2)); f['node_names'] = [b'a', b'b']");
    lab.fault("swapped.h5", "", &["more than one axis", "sleap-io"]);
    write("nodes.h5", "import numpy as np; f['tracks'] = np.zeros((1, 2, 3, 50)); f['node_names'] = [b'a', b'b']");
    lab.fault("nodes.h5", "", &["[1, 2, 3, 50]", "2 nodes"]);
    write("text.h5", "f['tracks'] = [[[[b'x']]]]; f['node_names'] = [b'a']; f['tracks'].attrs['dims'] = 'a,b'");
    lab.fault("text.h5", "", &["dims", "a,b"]);
    lab.fault("flat.h5", "track = \"x\"", &["four axes"]);
    lab.fault("movie.raw", "track = \"x\"\ncolumns = 256", &["track", "HDF5"]);
}

#[test]
fn a_sleap_file_cut_off_anywhere_is_refused() {
    let Some(lab) = Lab::new("numpy, h5py") else { return };
    lab.write("write_sleap.py", "sleap.h5", &["sleap", "1"]);
    lab.cut_everywhere("sleap.h5");
}

#[test]
fn a_deepfly3d_pickle_of_every_protocol_order_and_type_gives_the_same_pose() {
    let Some(lab) = Lab::new("numpy") else { return };
    for protocol in ["0", "1", "2", "3", "4", "5"] {
        for kind in ["usual", "fortran", "single", "whole", "big", "strided", "ordered", "array"] {
            let name = format!("pose_result_{kind}_{protocol}.pkl");
            lab.write("write_deepfly3d.py", &name, &[protocol, kind]);
            let (data, _) = lab.load(&name, "").unwrap_or_else(|e| panic!("{kind}, protocol {protocol}: {e}"));
            let behaviour = &data.trials[0].behaviour;
            assert_eq!(behaviour.dim(), (FRAMES, 114));
            for ((frame, column), value) in behaviour.indexed_iter() {
                assert_eq!(*value, (256 * frame + 4 * (column / 3) + column % 3) as f32, "{kind}: {frame}, {column}");
            }
            std::fs::remove_file(lab.path(&name)).unwrap();
        }
    }
}

#[test]
fn joints_are_named_and_other_arrays_are_read_when_they_are_asked_for() {
    let Some(lab) = Lab::new("numpy") else { return };
    lab.write("write_deepfly3d.py", "df3d_result.pkl", &["4", "ordered"]);
    let (data, _) = lab.load("df3d_result.pkl", "").unwrap();
    let names: Vec<&str> = data.behaviour_columns.iter().map(String::as_str).collect();
    let of = [0, 3 * 7 + 1, 3 * 15, 3 * 18 + 2, 3 * 19, 113].map(|column| names[column]);
    let expected = [
        "limb0_body_coxa_x",
        "limb1_femur_tibia_y",
        "limb3_antenna_x",
        "limb4_stripe2_z",
        "limb5_body_coxa_x",
        "limb9_stripe2_z",
    ];
    assert_eq!(of, expected);
    let (data, _) = lab
        .load("df3d_result.pkl", "points = \"points3d_wo_procrustes\"\ncolumn_names = [\"limb5_body_coxa_x\"]")
        .unwrap();
    assert_eq!(data.trials[0].behaviour[[1, 0]], -(256.0 + 4.0 * 19.0));
    let (data, _) = lab.load("df3d_result.pkl", "points = \"points2d\"").unwrap();
    assert_eq!(data.trials[0].behaviour.dim(), (FRAMES, 7 * 76));
    let at = data.behaviour_columns.iter().position(|name| name == "camera6_limb1_body_coxa_1").unwrap();
    assert_eq!(data.trials[0].behaviour[[2, at]], 16384.0 * 6.0 + 256.0 * 2.0 + 4.0 * 5.0 + 1.0);
    lab.fault(
        "df3d_result.pkl",
        "points = \"angles\"",
        &["no array \"angles\"", "points3d [50, 38, 3]", "points2d [7, 50, 38, 2]"],
    );
    lab.fault("df3d_result.pkl", "points = \"objects\"", &["Python objects"]);
    lab.fault("df3d_result.pkl", "points = \"camera_ordering\"", &["shape [7]"]);
    lab.fault("df3d_result.pkl", "track = \"a\"", &["track", "HDF5"]);
}

#[test]
fn a_pickle_in_which_a_program_waits_is_refused_by_name_and_nothing_runs() {
    let Some(lab) = Lab::new("numpy") else { return };
    for protocol in ["0", "2", "3", "4", "5"] {
        lab.write("write_deepfly3d.py", "trap.pkl", &[protocol, "system"]);
        lab.fault("trap.pkl", "", &["posix.system", "nothing of it was run"]);
        assert!(!lab.path("trap.pkl.ran").exists());
    }
    // Python itself would have run it.
    let run = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))";
    assert!(Command::new(&lab.python).args(["-c", run]).arg(lab.path("trap.pkl")).status().unwrap().success());
    assert!(lab.path("trap.pkl.ran").exists());
}

#[test]
fn a_deepfly3d_pickle_cut_off_anywhere_is_refused() {
    let Some(lab) = Lab::new("numpy") else { return };
    // One pickle as small as they come in each way of writing bytes.
    for protocol in ["0", "1", "2", "3", "4", "5"] {
        let name = format!("small_{protocol}.pkl");
        let run = format!(
            "import pickle, sys, numpy as np; pickle.dump({{'points3d': np.zeros((3, 2, 3), order='F'), 'n': [1, 'a']}}, open(sys.argv[1], 'wb'), {protocol})"
        );
        assert!(Command::new(&lab.python).args(["-c", &run]).arg(lab.path(&name)).status().unwrap().success());
        lab.cut_everywhere(&name);
    }
}
