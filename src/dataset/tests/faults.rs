//! Each fault in an otherwise sound folder, and the words that report it.

use super::*;
use crate::dataset::trials::NO_BEHAVIOUR;

/// Spoils the first trial and loads.
fn spoilt(spoil: impl FnOnce(&Lab)) -> String {
    let lab = Lab::new();
    spoil(&lab);
    lab.fault(&options())
}

fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}

#[test]
fn an_index_past_the_end_or_going_back_is_named_with_frame_and_value() {
    let past = spoilt(|lab| {
        let mut index = index();
        index[ROWS - 1] = FRAMES as i64;
        lab.write("fly_01/001/indices.npy", npy("<i8", &[ROWS], &i64s(&index)));
    });
    says(&past, &["trial fly_01/001", "indices.npy", "behaviour frame 359", "two-photon frame 60", "0 to 59"]);
    let back = spoilt(|lab| {
        let mut index = index();
        index[100] = 3;
        lab.write("fly_01/001/indices.npy", npy("<i8", &[ROWS], &i64s(&index)));
    });
    says(&back, &["trial fly_01/001", "entry 100 is 3 after 16"]);
    let before = spoilt(|lab| {
        lab.write("fly_01/001/indices.npy", npy("<i8", &[ROWS], &i64s(&[-1; ROWS])));
    });
    says(&before, &["not a float32 movie of square frames"]);
}

#[test]
fn lengths_that_do_not_fit_are_named_with_both_numbers() {
    says(&spoilt(|lab| lab.write("fly_01/001/pose_3d.mm", [0; 4 * 7])), &["pose_3d.mm", "28 bytes", "360 rows"]);
    let red = spoilt(|lab| lab.write("fly_01/001/red.mm", f32s(&movie(1, 1)[..50 * SIDE * SIDE])));
    says(&red, &["red.mm", "50 frames", "60 frames", "green.mm"]);
    let green = spoilt(|lab| lab.write("fly_01/001/green.mm", f32s(&movie(1, 0)[..5003])));
    says(&green, &["green.mm", "20012 bytes", "60"]);
    let columns = spoilt(|lab| lab.write("fly_02/001/pose_3d.mm", f32s(&vec![0.0; ROWS * 4])));
    says(&columns, &["trial fly_02/001", "4 behaviour columns", "5 in trial fly_01/001"]);
    let cut = spoilt(|lab| lab.write("fly_01/001/indices.npy", &npy("<i8", &[ROWS], &i64s(&index()))[..500]));
    says(&cut, &["indices.npy", "cut off"]);
}

#[test]
fn faults_of_several_trials_are_told_together() {
    let both = spoilt(|lab| {
        lab.write("fly_01/001/labels.csv", "frame,label\n400,rest\n");
        lab.write("fly_02/001/labels.csv", "frame,label\n-1,rest\n");
    });
    says(&both, &["2 things are wrong", "fly_01/001", "frame 400", "fly_02/001", "frame -1", "ends at frame 359"]);
}

#[test]
fn damaged_behaviour_is_left_out_and_more_than_half_of_it_is_refused() {
    let lab = Lab::new();
    let mut values = pose(1);
    // Behaviour frame 305 is the newest of two-photon frame 50, 301 is not.
    values[305 * COLUMNS + 2] = f32::NAN;
    values[301 * COLUMNS] = f32::INFINITY;
    lab.write("fly_01/001/pose_3d.mm", f32s(&values));
    let (data, warnings) = lab.load(&options()).unwrap();
    let trial = &data.trials[0];
    assert_eq!(trial.usable[49..52], [true, false, true]);
    assert!(trial.behaviour.iter().all(|v| v.is_finite()), "a window over it stays finite");
    assert_eq!(trial.behaviour.row(305), trial.behaviour.row(304));
    says(&warnings[0].to_string(), &["fly_01/001", "pose_3d.mm", "2 of 360", "the first is 301"]);
    values[..181 * COLUMNS].fill(f32::NAN);
    lab.write("fly_01/001/pose_3d.mm", f32s(&values));
    says(&lab.fault(&options()), &["fly_01/001", "183 of 360", "frame 0"]);
}

#[test]
fn damaged_frames_are_left_out_and_counted() {
    let lab = Lab::new();
    let mut green = movie(1, 0);
    green[40 * SIDE * SIDE + 99] = f32::NAN;
    lab.write("fly_01/001/green.mm", f32s(&green));
    let (data, warnings) = lab.load(&options()).unwrap();
    assert_eq!(data.trials[0].usable[39..42], [true, false, true]);
    says(&warnings[0].to_string(), &["fly_01/001", "1 of 60"]);
}

#[test]
fn frames_that_are_not_believed_are_no_samples_and_change_none_and_are_counted() {
    let lab = Lab::new();
    let (clean, _) = lab.load(&options()).unwrap();
    let spoil = |frames: std::ops::Range<usize>, light: f32| {
        for (channel, file) in ["green", "red"].iter().enumerate() {
            let mut counts = movie(1, channel);
            let noise = |at: usize| light + (at.wrapping_mul(2_654_435_761) >> 9) as f32 % 8.0;
            let lit = frames.start * SIDE * SIDE..frames.end * SIDE * SIDE;
            lit.for_each(|at| counts[at] = noise(at));
            lab.write(&format!("fly_01/001/{file}.mm"), f32s(&counts));
        }
    };
    // A shutter for two frames, then a flash of one.
    for (frames, light) in [(40..42, 5.0), (45..46, 4000.0)] {
        let count = frames.len();
        spoil(frames.clone(), light);
        let (data, warnings) = lab.load(&options()).unwrap();
        says(&warnings[0].to_string(), &["fly_01/001", &format!("{count} of 60")]);
        let (found, whole) = (&data.trials[0], &clean.trials[0]);
        assert_eq!(found.frames.len(), FRAMES - count, "they are no model frames");
        for at in 0..frames.start {
            assert_eq!(found.frames.frame(at), whole.frames.frame(at), "frame {at}");
        }
        // The frame after them is what it would be had they been lost.
        let (a, b) = (found.frames.frame(frames.start), whole.frames.frame(frames.end));
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 0.5, "{apart}");
        let missing = count as f64 > crate::frame::MISSING_SHARE_MAX * 8.0;
        assert_eq!(found.usable[frames.start], !missing, "of a window of 8");
    }
}

#[test]
fn ready_dff_may_be_padded_with_nan_but_not_half_of_it_damaged() {
    let lab = Lab { folder: tempfile::tempdir().unwrap() };
    let mut dff = movie(1, 0);
    (0..FRAMES).for_each(|t| dff[t * SIDE * SIDE] = f32::NAN);
    dff[20 * SIDE * SIDE + 50] = f32::NAN;
    let write = |dff: &[f32]| {
        lab.write("fly_01/001/2p_dff.mm", f32s(dff));
        lab.write("fly_01/001/pose.mm", f32s(&pose(1)));
        lab.write(
            "fly_01/001/indices.npy",
            npy("<i4", &[ROWS], &index().iter().flat_map(|v| (*v as i32).to_le_bytes()).collect::<Vec<_>>()),
        );
    };
    write(&dff);
    let (data, _) = lab.load(&options()).unwrap();
    let trial = &data.trials[0];
    assert_eq!(trial.usable.iter().position(|u| !u), Some(20));
    assert_eq!(trial.usable.iter().filter(|u| !**u).count(), 1);
    assert_eq!((trial.frames.frame(3)[0], trial.frames.frame(20)[50]), (0.0, 0.0));
    (0..31).for_each(|t| dff[t * SIDE * SIDE + 50] = f32::NAN);
    write(&dff);
    says(&lab.fault(&options()), &["2p_dff.mm", "31 of 60"]);
}

#[test]
fn labels_that_cannot_be_placed_are_named_by_line_value_and_cause() {
    let fault = |text: &str| spoilt(|lab| lab.write("fly_01/001/labels.csv", text));
    says(&fault("frame,label\n3,rest\n3,walk\n"), &["line 3", "already has the label \"rest\""]);
    says(&fault("frame,label\n3.5,rest\n"), &["line 2", "whole number"]);
    says(&fault("frame,label\nx,rest\n"), &["line 2", "\"x\" is not a number"]);
    says(&fault("start_s,stop_s,label\n0,1,rest\n0.5,2,walk\n"), &["line 3", "from 0.5 s to 2 s", "line 2"]);
    says(&fault("start_s,stop_s,label\n3,3.7,rest\n"), &["line 2", "outside", "3.6"]);
    says(&fault("start_s,stop_s,label\n2,1,rest\n"), &["line 2", "not after the start"]);
    says(&fault("when,what\n2,1\n"), &["when, what", "frame,label"]);
    says(&fault(&format!("frame,label\n1,{}\n", "w".repeat(65))), &["64 bytes"]);
}

#[test]
fn a_label_outside_the_list_is_answered_with_the_nearest_one() {
    let lab = Lab::new();
    let list = |names: &[&str]| Mc2pOptions {
        labels: Some(names.iter().map(|n| (*n).into()).collect()),
        ..Mc2pOptions::default()
    };
    let load = |names: &[&str]| load(&DataSpec::mc2p(lab.folder.path(), &list(names)).unwrap(), &options(), &|_| ());
    let fault = load(&["rest", "walking"]).unwrap_err().to_string();
    says(&fault, &["fly_01/001", "labels.csv", "line 62", "\"walk\"", "did you mean \"walking\"?"]);
    let (data, _) = load(&["walk", "rest"]).unwrap();
    assert_eq!((data.labels.as_slice(), data.trials[0].label[0]), (&["walk".to_owned(), "rest".into()][..], Some(1)));
    says(&load(&["walk", "rest", "walk"]).unwrap_err().to_string(), &["labels = walk", "each label once"]);
}

#[test]
fn animals_that_never_show_an_action_are_listed_unless_that_is_accepted() {
    let lab = Lab::new();
    lab.write("fly_01/001/labels.csv", labels().replace("walk", "rest"));
    let (_, warnings) = lab.load(&options()).unwrap();
    assert_eq!(warnings, [DataWarning::MissingClasses { animal: "fly_01".into(), labels: "walk".into() }]);
    let (_, warnings) = lab.load(&LoadOptions { accept_missing_classes: true, ..options() }).unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn frames_without_behaviour_and_short_trials_are_told() {
    let lab = Lab::new();
    let late: Vec<i64> = index().iter().map(|f| if *f < 40 { -1 } else { *f }).collect();
    lab.write("fly_01/001/indices.npy", npy("<i8", &[ROWS], &i64s(&late)));
    let (data, warnings) = lab.load(&options()).unwrap();
    assert_eq!(data.trials[0].behaviour_at.iter().position(|b| *b != NO_BEHAVIOUR), Some(40));
    assert_eq!(warnings, [DataWarning::FramesWithoutBehaviour { trial: "fly_01/001".into(), count: 40, of: 60 }]);
    let long = LoadOptions { window_frames: 58, ..options() };
    says(&lab.fault(&long), &["not one window of 58 frames", "60", "warm-up"]);
}

#[test]
fn folders_without_trials_and_trials_without_files_say_what_was_looked_for() {
    let empty = tempfile::tempdir().unwrap();
    let fault = |folder: &std::path::Path| DataSpec::mc2p(folder, &Mc2pOptions::default()).unwrap_err().to_string();
    says(&fault(empty.path()), &["indices.npy", "it is empty"]);
    let lab = Lab::new();
    std::fs::remove_file(lab.path("fly_01/001/pose_3d.mm")).unwrap();
    says(&fault(lab.folder.path()), &["fly_01/001", "behaviour (*pose*, *angles*)", "green.mm"]);
    lab.trial("fly_01/001", 1);
    lab.trial("session7", 1);
    says(&fault(lab.folder.path()), &["session7", "which animal?", "Fly<N>"]);
    says(&fault(&lab.path("nowhere")), &["nowhere"]);
}

#[test]
fn a_pickle_is_never_read_and_its_refusal_says_how_to_convert_it() {
    let lab = Lab::new();
    std::fs::remove_file(lab.path("fly_01/001/indices.npy")).unwrap();
    lab.write("fly_01/001/sync_indices.pkl", b"\x80\x04\x95\x05\x00\x00\x00]\x94K\x01a.");
    says(&lab.fault(&options()), &["sync_indices.pkl", "pickle", "np.save('sync_indices.npy'"]);
    lab.write("fly_01/001/sync_indices.pkl", npy("|O", &[ROWS], b"\x80\x04."));
    says(&lab.fault(&options()), &["sync_indices.pkl", "|O", "Python objects"]);
}

#[test]
fn raw_and_ready_frames_do_not_mix() {
    let lab = Lab::new();
    for channel in ["green.mm", "red.mm"] {
        std::fs::remove_file(lab.path(&format!("fly_02/001/{channel}"))).unwrap();
    }
    lab.write("fly_02/001/2p_dff.mm", f32s(&movie(1, 0)));
    says(&lab.fault(&options()), &["fly_02/001 has only ready", "fly_01/001 has raw"]);
}

#[test]
fn parameters_that_the_frames_cannot_follow_are_refused_before_the_first_frame() {
    let lab = Lab::new();
    std::fs::remove_file(lab.path("fly_02/001/red.mm")).unwrap();
    says(&lab.fault(&options()), &["fly_02/001", "1×32×32", "reads channel 1"]);
    lab.trial("fly_02/001", 2);
    let far = Registration { channel: 1, reach_px: 10, ..Registration::default() };
    let far = Parameters { registration: Some(far), ..parameters() };
    says(&lab.fault(&LoadOptions { parameters: Some(far), ..options() }), &["36 px", "reach_px"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_told_and_another_one_can_be_named() {
    let lab = Lab::new();
    lab.write("file", "not a folder");
    let fault = lab.fault(&LoadOptions { cache: Some(lab.path("file/cache")), ..options() });
    says(&fault, &["file/cache", "--cache"]);
    let elsewhere = tempfile::tempdir().unwrap();
    lab.load(&LoadOptions { cache: Some(elsewhere.path().join("a/b")), ..options() }).unwrap();
    assert!(!lab.path(".haltere-cache").exists());
    assert!(elsewhere.path().join("a/b").read_dir().unwrap().count() >= 4);
}

#[test]
fn a_full_disk_says_whose_frames_did_not_fit_and_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = Cache::open(folder.path(), None).unwrap();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let text = cache.failed(&full, "fly_01/001", 5 << 20).to_string();
    says(&text, &["disk is full", "fly_01/001", "5 MiB", "--cache"]);
    let mut writer = cache.write("key", "fly_01/001", 4).unwrap();
    writer.frame(&[1.0]).unwrap();
    drop(writer);
    assert_eq!(folder.path().join(".haltere-cache").read_dir().unwrap().count(), 0);
}
