//! `dataset.toml`: every form of frames, behaviour, synchrony, labels and mask, on the same recordings as the folders.

use rust_hdf5::H5File;

use super::*;
use crate::dataset::trials::NO_BEHAVIOUR;

/// The head of a description, with short warm-up.
pub(super) const HEAD: &str = "frame_rate_hz = 16\nbehaviour_rate_hz = 100\n[preprocess]\nregistration.template_frames = 10\n\
    registration.reach_px = 4\nregistration.channel = 1\nbaseline.average_frames = 3\nnormalise.warmup_frames = 8\n";
/// Frames and behaviour of one trial of [`Lab`].
pub(super) const FILES: &str = "animal = \"a\"\nframes = { channels = [\"fly_01/001/green.mm\", \"fly_01/001/red.mm\"], \
    raw = \"float32:32x32\" }\nbehaviour = \"fly_01/001/pose_3d.mm\"\ncolumns = 5\n";

fn one(keys: &str) -> String {
    format!("{HEAD}[[trial]]\n{FILES}{keys}")
}

/// For each two-photon frame the newest behaviour frame, of a trial with `keys`.
fn behaviour_at(lab: &Lab, keys: &str) -> Vec<u32> {
    let (mut data, _) = lab.toml(&one(keys)).unwrap_or_else(|e| panic!("{keys}: {e}"));
    std::mem::take(&mut data.trials[0].behaviour_at)
}

fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn the_description_of_a_folder_gives_what_the_folder_gives() {
    let lab = Lab::new();
    let (walked, _) = lab.load(&options()).unwrap();
    let (described, _) =
        lab.toml(&one("index = \"fly_01/001/indices.npy\"\nlabels = \"fly_01/001/labels.csv\"")).unwrap();
    let (a, b) = (&walked.trials[0], &described.trials[0]);
    assert_eq!((&a.usable, &a.behaviour_at, &a.label), (&b.usable, &b.behaviour_at, &b.label));
    assert_eq!((b.name.as_str(), described.animals.as_slice()), ("a/001", &["a".to_owned()][..]));
    (0..a.frames.len()).for_each(|t| assert_eq!(a.frames.frame(t), b.frames.frame(t)));
}

#[test]
fn every_way_of_synchrony_finds_the_newest_behaviour_frame() {
    let lab = Lab::new();
    let sixes: Vec<u32> = (0..60).map(|f| f * 6 + 5).collect();
    assert_eq!(behaviour_at(&lab, "index = \"fly_01/001/indices.npy\""), sixes);
    let rows: String = index().iter().map(|f| format!("{f}\n")).collect();
    lab.write("index.csv", format!("two_photon_frame\n{rows}"));
    assert_eq!(behaviour_at(&lab, "index = \"index.csv\""), sixes);

    // 100 Hz behaviour, 16 Hz frames: frame f covers the times from f/16 to (f+1)/16.
    let by_rate = |offset: f64| -> Vec<u32> {
        let newest = |f: usize| {
            (0..ROWS).rev().find(|&m| ((m as f64 / 100.0 + offset) * 16.0 + 1e-9).floor() as i64 == f as i64)
        };
        (0..FRAMES).map(|f| newest(f).map_or(NO_BEHAVIOUR, |m| m as u32)).collect()
    };
    assert_eq!(behaviour_at(&lab, ""), by_rate(0.0));
    assert_eq!(by_rate(0.0)[..3], [6, 12, 18], "by hand: 0.0625 s, 0.125 s, 0.1875 s");
    let late = behaviour_at(&lab, "offset_s = 0.5");
    assert_eq!(late, by_rate(0.5));
    assert_eq!((late[7], late[8]), (NO_BEHAVIOUR, 6));

    let times: Vec<f64> = (0..ROWS).map(|m| 10.0 + m as f64 / 100.0).collect();
    lab.write("behaviour_times.npy", npy("<f8", &[ROWS], &f64s(&times)));
    let starts: String = (0..FRAMES).map(|f| format!("{f},{}\n", 10.0 + f as f64 / 16.0)).collect();
    lab.write("frame_times.csv", format!("n,time_s\n{starts}"));
    let keys = "behaviour_times_s = \"behaviour_times.npy\"\nframe_times_s = \"frame_times.csv\"";
    let stamped = behaviour_at(&lab, keys);
    assert_eq!(stamped[..57], by_rate(0.0)[..57]);
}

#[test]
fn slow_cameras_hold_their_last_frame_for_one_period() {
    let lab = Lab::new();
    let text = one("").replace("behaviour_rate_hz = 100", "behaviour_rate_hz = 4");
    lab.write("fly_01/001/pose_3d.mm", f32s(&pose(1)[..10 * COLUMNS]));
    let (data, _) = lab.toml(&text).unwrap();
    let expected = (0..60).map(|f| if f < 40 { f / 4 } else { NO_BEHAVIOUR });
    assert_eq!(data.trials[0].behaviour_at, expected.collect::<Vec<u32>>());
}

#[test]
fn thorsync_lines_tie_camera_pulses_to_frames() {
    let lab = Lab::new();
    // 60 frames of 50 samples from sample 100; a pulse every 10 samples, from before the first frame.
    let (mut counter, mut cameras) = (vec![0u32; 3200], vec![0u32; 3200]);
    (100..3200).for_each(|at| counter[at] = ((at - 100) / 50 + 1).min(60) as u32);
    let pulses: Vec<usize> = (0..310).map(|m| 15 + 10 * m).collect();
    pulses.iter().for_each(|&at| cameras[at..at + 5].fill(2));
    let file = H5File::create(lab.path("Episode001.h5")).unwrap();
    for (group, line, values) in [("CI", "Frame Counter", &counter), ("DI", "Cameras", &cameras)] {
        let set = file.create_group(group).unwrap().new_dataset::<u32>().shape([3200usize, 1]).create(line).unwrap();
        set.write_raw(values).unwrap();
    }
    file.close().unwrap();
    lab.write("fly_01/001/pose_3d.mm", f32s(&pose(1)[..310 * COLUMNS]));
    let found = behaviour_at(&lab, "thorsync = \"Episode001.h5\"");
    let newest =
        |f: usize| pulses.iter().rposition(|&at| at >= 100 && (at - 100) / 50 == f).map_or(NO_BEHAVIOUR, |m| m as u32);
    assert_eq!(found[..59], (0..59).map(newest).collect::<Vec<_>>());
    assert_eq!(found[0], 13, "by hand: the pulse at sample 145");
    lab.write("fly_01/001/pose_3d.mm", f32s(&pose(1)));
    let fault = lab.toml(&one("thorsync = \"Episode001.h5\"")).unwrap_err().to_string();
    assert!(fault.contains("310 camera pulses") && fault.contains("360 camera pulses"), "{fault}");
}

#[test]
fn a_real_thorsync_file_counts_its_frames_and_says_that_its_cameras_were_silent() {
    let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("HALTERE_SHARED").map_or_else(beside, PathBuf::from);
    let path = root.join("data/thorimage_sync/mouse_kidney_z_stack/Episode001.h5");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there; set HALTERE_SHARED to the folder that holds data/", path.display());
        return;
    }
    // Read with h5py: the counter rises 30 times, first at 24764, 25264, 25763; the 11th time at 36335, after a pause.
    let starts = thorsync::frame_starts(&H5File::open(&path).unwrap(), &path).unwrap();
    assert_eq!((starts.len(), starts[29].1), (30, 29));
    assert_eq!(starts[..3], [(24765, 0), (25265, 1), (25764, 2)]);
    assert_eq!(starts[10], (36336, 10));
    let silent = thorsync::Lines::read(&path, None).unwrap_err().to_string();
    assert!(silent.contains("\"Cameras\" never rises") && silent.contains("Capture On"), "{silent}");
    // "Frame Out" as the camera: its pulses begin within a sample of their frames.
    let lines = thorsync::Lines::read(&path, Some("Frame Out")).unwrap();
    assert_eq!(lines.frame_of_behaviour(1), (0..30).map(Some).collect::<Vec<_>>());
    assert_eq!(lines.frame_of_behaviour(3)[..4], [Some(0), Some(0), Some(0), Some(1)]);
}

#[test]
fn behaviour_comes_from_csv_npy_and_memory_maps_alike() {
    let lab = Lab::new();
    let values = pose(1);
    let rows: String = values
        .chunks(COLUMNS)
        .enumerate()
        .map(|(t, row)| format!("{t},{}\n", row.iter().map(f32::to_string).collect::<Vec<_>>().join(",")))
        .collect();
    lab.write("pose.csv", format!("frame,a,b,c,d,e\n{rows}"));
    lab.write(
        "pose.npy",
        npy("<f8", &[ROWS, COLUMNS], &f64s(&values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())),
    );
    let with =
        |behaviour: &str| lab.toml(&one("").replace("behaviour = \"fly_01/001/pose_3d.mm\"\ncolumns = 5\n", behaviour));
    for behaviour in ["behaviour = \"pose.csv\"\n", "behaviour = \"pose.npy\"\n"] {
        let (data, _) = with(behaviour).unwrap();
        assert_eq!(data.trials[0].behaviour.as_slice().unwrap(), values, "{behaviour}");
    }
    let (data, _) = with("behaviour = \"pose.csv\"\ncolumn_names = [\"d\", \"b\"]\n").unwrap();
    assert_eq!(
        (data.behaviour_columns.join(""), data.trials[0].behaviour[[7, 0]]),
        ("db".into(), values[7 * COLUMNS + 3])
    );
    for (behaviour, word) in [
        ("behaviour = \"pose.csv\"\ncolumn_names = [\"z\"]\n", "it has frame, a, b"),
        ("behaviour = \"pose.npy\"\ncolumns = 4\n", "has 5 columns, but `columns` is 4"),
        ("behaviour = \"fly_01/001/pose_3d.mm\"\n", "columns = 90"),
        ("behaviour = \"fly_01/001/pose_3d.mm\"\ncolumns = 7\n", "not a whole float32 table of 7 columns"),
    ] {
        let fault = with(behaviour).unwrap_err().to_string();
        assert!(fault.contains(word), "{behaviour}: {fault}");
    }
}

#[test]
fn labels_by_frame_by_interval_and_by_array_agree() {
    let lab = Lab::new();
    let labels_of = |keys: &str| {
        let (data, _) = lab
            .toml(&one(&format!("index = \"fly_01/001/indices.npy\"\n{keys}")))
            .unwrap_or_else(|e| panic!("{keys}: {e}"));
        data.trials[0].label.iter().map(|l| l.map(|l| data.labels[usize::from(l)].clone())).collect::<Vec<_>>()
    };
    let by_frame = labels_of("labels = \"fly_01/001/labels.csv\"");
    assert_eq!((by_frame[9].as_deref(), by_frame[10].as_deref()), (Some("rest"), Some("walk")));
    lab.write(
        "bouts.csv",
        "start_s,stop_s,label\n0,0.6,rest\n0.6,1.2,walk\n1.2,1.8,rest\n1.8,2.4,walk\n2.4,3,rest\n3,3.6,walk\n",
    );
    assert_eq!(labels_of("labels = \"bouts.csv\""), by_frame);
    let rows: String = (0..FRAMES).map(|f| format!("{f},{}\n", if f % 20 < 10 { "rest" } else { "walk" })).collect();
    lab.write("frames.csv", format!("frame,action\n{rows}"));
    assert_eq!(labels_of("labels = \"frames.csv\"\nlabels_per = \"frame\""), by_frame);
    let text = |word: &str| {
        word.chars().chain("\0".chars()).take(5).flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<_>>()
    };
    let words: Vec<u8> = (0..ROWS).flat_map(|m| text(if m % 120 < 60 { "rest" } else { "walk" })).collect();
    lab.write("labels.npy", npy("<U5", &[ROWS], &words));
    assert_eq!(labels_of("labels = \"labels.npy\""), by_frame);
    lab.write("bouts.csv", "start_s,stop_s,label\n0.6,1.2,walk\n");
    let some = labels_of("labels = \"bouts.csv\"");
    assert_eq!((some[9].clone(), some[10].as_deref(), some[20].clone()), (None, Some("walk"), None));
}

#[test]
fn a_mask_per_two_photon_frame_leaves_frames_out() {
    let lab = Lab::new();
    lab.write("mask.npy", npy("|b1", &[FRAMES], &(0..FRAMES).map(|f| u8::from(f == 55)).collect::<Vec<_>>()));
    let (data, _) = lab.toml(&one("mask = \"mask.npy\"")).unwrap();
    assert_eq!(data.trials[0].usable[54..57], [true, false, true]);
    lab.write("mask.npy", npy("|b1", &[7], &[0; 7]));
    let fault = lab.toml(&one("mask = \"mask.npy\"")).unwrap_err().to_string();
    assert!(fault.contains("7 flags") && fault.contains("360 (behaviour) or 60 (two-photon)"), "{fault}");
}

#[test]
fn recordings_of_the_corridor_and_ready_dff_are_read() {
    let lab = Lab::new();
    let counts: Vec<u8> = movie(1, 0).iter().flat_map(|v| (*v as u16).to_le_bytes()).collect();
    lab.write("movie.raw", counts);
    let text = one("").replace(
        "{ channels = [\"fly_01/001/green.mm\", \"fly_01/001/red.mm\"], raw = \"float32:32x32\" }",
        "{ path = \"movie.raw\", raw = \"uint16:32x32\", rate_hz = 16 }",
    );
    let one_channel = text.replace("registration.channel = 1", "registration.channel = 0");
    let (data, _) = lab.toml(&one_channel).unwrap();
    assert_eq!(data.trials[0].frames.len(), FRAMES);
    let fault = lab.toml(&one_channel.replace("rate_hz = 16 }", "rate_hz = 30 }")).unwrap_err().to_string();
    assert!(fault.contains("30 Hz") && fault.contains("16 Hz"), "{fault}");

    lab.write("dff.npy", npy("<f4", &[FRAMES, SIDE, SIDE], &f32s(&movie(1, 0))));
    let ready = "frame_rate_hz = 16\nbehaviour_rate_hz = 100\n[[trial]]\nanimal = \"a\"\ndff = \"dff.npy\"\nbehaviour = \"fly_01/001/pose_3d.mm\"\ncolumns = 5\n";
    let (by_npy, _) = lab.toml(ready).unwrap();
    lab.write("dff.mm", f32s(&movie(1, 0)));
    let (by_map, _) = lab.toml(&ready.replace("\"dff.npy\"", "\"dff.mm\"\ndff_shape = [32, 32]")).unwrap();
    assert_eq!(by_npy.trials[0].frames.frame(9), by_map.trials[0].frames.frame(9));
    assert!(lab.toml(&ready.replace("dff.npy", "dff.mm")).unwrap_err().to_string().contains("dff_shape"));
}

#[test]
fn unknown_and_contradictory_keys_are_told_with_line_and_nearest_key() {
    let lab = Lab::new();
    for (keys, words) in [
        ("behavior_times = \"x\"\n", vec!["line 14", "behavior_times", "did you mean `behaviour_times_s`?"]),
        ("index = \"i.npy\"\noffset_s = 1\n", vec!["trial[0].index", "one of `index`"]),
        ("dff = \"x.mm\"\n", vec!["trial[0].frames", "either `frames` or `dff`"]),
        ("frame_times_s = \"x\"\n", vec!["trial[0].behaviour_times_s"]),
        ("camera_line = \"x\"\n", vec!["beside `thorsync`"]),
        ("thorsync = \"x.h5\"\ncounts_per_frame = 0\n", vec!["at least 1"]),
        ("labels_per = \"frames\"\n", vec!["did you mean `frame`?"]),
    ] {
        let fault = lab.toml(&one(keys)).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(fault.contains(word), "{word:?} is not in: {fault}"));
    }
    let twice = format!("{}[[trial]]\n{FILES}", one("name = \"a/002\"\n"));
    assert!(lab.toml(&twice).unwrap_err().to_string().contains("a name no other trial has"));
    assert!(lab.toml("behaviour_rate_hz = 0\n").unwrap_err().to_string().contains("behaviour_rate_hz = 0"));
    let absent = one("").replace("frame_rate_hz = 16\n", "");
    assert!(lab.toml(&absent).unwrap_err().to_string().contains("no recording states its own"));
    let bad = one("").replace("template_frames = 10", "template_frames = 0");
    assert!(lab.toml(&bad).unwrap_err().to_string().contains("preprocess.registration.template_frames = 0"));
}

#[test]
fn the_example_names_every_key_and_parses() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dataset-example.toml");
    let spec = DataSpec::from_toml(&example).unwrap();
    assert_eq!(spec.animals(), ["fly_01", "fly_02"]);
    let text = std::fs::read_to_string(example).unwrap();
    let code = include_str!("../toml_spec.rs");
    let structs = code.split("struct Written").skip(1).map(|rest| rest.split('}').next().unwrap());
    let lines = structs.flat_map(str::lines).map(str::trim).filter(|line| !line.starts_with("///"));
    let fields = lines.filter_map(|line| line.split_once(": ")).map(|(key, _)| key);
    let keys: Vec<&str> = fields.filter(|key| !["trials"].contains(key)).collect();
    assert_eq!(keys.len(), 5 + 25 + 10, "{keys:?}");
    for key in keys {
        assert!(text.contains(key), "{key} is not explained in the example");
    }
}
