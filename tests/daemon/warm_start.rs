//! What was learnt of an animal is saved by name and taken up at its next trial: `run`, `play`, `control` and `diff` as processes.
//!
//! Method: the ten frames of the committed recording are played round and round, so that the second of two runs sees what the second
//! half of one long run sees. Another tissue is the same recording turned by 180°.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Finished, LOSSLESS, Listener, Message, Process, Rig, fly, haltere, model};

/// Model frames of the window of the tests' model.
const WINDOW: u64 = 8;
/// Frames of each trial.
const FRAMES: u64 = 60;
/// Slots for the frames of the tests, so that the recorder's queue may be long.
const SMALL_FRAMES: [&str; 4] = ["--set", "source.frame_max_mib=1", "--set", "record.queue_frames=256"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One trial: a daemon from the first frame to the last, with `more` of its own and `play` of the microscope's.
fn trial(rig: &Rig, frames: u64, more: &[&str], play: &[&str]) -> (Listener, Finished) {
    let animals = format!("animal.folder={}", text(&rig.path("animals")));
    let daemon = rig.daemon(&[&["--once", "--set", &animals][..], &LOSSLESS, &SMALL_FRAMES, more].concat());
    let mut listener = rig.listen();
    let count = frames.to_string();
    let always = ["--push", "--rate", "60", "--loop", "0", "--frames", &count];
    let movie = fly("GC6s.tif");
    let movie: &[&Path] = if play.contains(&"--raw") { &[] } else { &[&movie] };
    rig.play(movie, &[&always[..], play].concat()).finish().code(0);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    let done = daemon.finish().code(0);
    (listener, done)
}

fn decodes_of_frames(listener: &Listener) -> Vec<&Message> {
    listener.decodes().into_iter().filter(|d| ["ok", "warmup", "degraded"].contains(&d.quality())).collect()
}

/// The first frame after the warm-up. It is `degraded` only because frames are sent faster than a microscope does.
fn first_ready(listener: &Listener) -> u64 {
    let decodes = decodes_of_frames(listener);
    let ready = decodes.iter().find(|d| d.quality() != "warmup").expect("the warm-up ends");
    assert!(ready.quality() == "ok" || ready.header["reason"] == "frame_rate", "{}", ready.header);
    ready.number("frame")
}

fn event<'a>(listener: &'a Listener, name: &str) -> Option<&'a Value> {
    listener.heard.iter().find(|m| m.is_event(name)).map(|m| &m.header)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// `diff` of the only session in a folder with its own replay.
fn assert_replays_bit_for_bit(folder: &Path, frames: u64) {
    let sessions: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let done = Process::start("diff", &mut haltere(["diff", "--json", text(&sessions[0])])).finish().code(0);
    let same: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&same["identical"], &same["quality_differs"]), (&frames.into(), &0.into()), "{same}");
}

/// The recording turned by 180°, as a raw file: another tissue of the same light.
fn turned(rig: &Rig) -> PathBuf {
    let path = rig.path("turned.raw");
    let mut decoder = tiff::decoder::Decoder::new(std::fs::File::open(fly("GC6s.tif")).unwrap()).unwrap();
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let tiff::decoder::DecodingResult::U16(pixels) = decoder.read_image().unwrap() else { panic!("not u16") };
        bytes.extend(pixels.iter().rev().flat_map(|pixel| pixel.to_le_bytes()));
        if !decoder.more_images() {
            break;
        }
        decoder.next_image().unwrap();
    }
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_animal_saved_at_shutdown_is_ok_one_window_after_its_first_frame_of_the_next_run() {
    let rig = Rig::new(model("warm", &[0], 0));
    let (long, done) = trial(&rig, 2 * FRAMES, &[], &[]);
    assert!(!rig.path("animals").exists() && !done.err.contains("saved"), "it has no name\n{}", done.err);
    let cold = first_ready(&long);
    assert!(cold > 2 * WINDOW, "{cold}");
    assert_counted_down(&long, cold);

    let named = ["--set", "animal.name=fly3"];
    let (first, done) = trial(&rig, FRAMES, &named, &[]);
    assert_eq!(first_ready(&first), cold);
    let done =
        done.says(&["fly3 has no saved state in", "saved what was learnt of fly3", "decodes can be trusted in about"]);
    assert!(!done.err.contains("animal_not"), "{}", done.err);
    assert!(rig.path("animals/fly3.animal").is_file());

    let sessions = rig.path("sessions");
    let (second, done) = trial(&rig, FRAMES, &[&named[..], &["--record", text(&sessions)]].concat(), &[]);
    done.says(&["fly3: restoring what was learnt of it before", "this is fly3"]);
    assert_eq!(first_ready(&second), WINDOW - 1);
    let known = event(&second, "animal_known").expect("it is known");
    assert_eq!((&known["animal"], &known["frame"]), (&"fly3".into(), &7.into()));
    assert_counted_down(&second, WINDOW - 1);
    let (long, second) = (decodes_of_frames(&long), decodes_of_frames(&second));
    assert_eq!(second.len() as u64, FRAMES);
    for (undisturbed, again) in long[FRAMES as usize..].iter().zip(&second).skip(WINDOW as usize) {
        let alike = cosine(&undisturbed.embedding, &again.embedding);
        assert!(alike > 0.999, "{alike}: {}", again.header);
    }
    assert_replays_bit_for_bit(&sessions, FRAMES);
}

/// In every decode of the warm-up stands how many frames are left, and the log has said it.
fn assert_counted_down(listener: &Listener, first_ready: u64) {
    for decode in decodes_of_frames(listener) {
        let frame = decode.number("frame");
        let left = decode.header.get("warmup_frames_left").map(|left| left.as_u64().unwrap());
        assert_eq!(left, (frame < first_ready).then(|| first_ready - frame), "{}", decode.header);
    }
    let told = event(listener, "warming_up").expect("it is told");
    assert_eq!(told["frames_left"], first_ready, "{told}");
}

#[test]
fn another_tissue_under_the_same_name_is_learnt_anew_and_replays_bit_for_bit() {
    let rig = Rig::new(model("other_tissue", &[0], 0));
    let named = ["--set", "animal.name=fly3"];
    let (cold, _) = trial(&rig, FRAMES, &named, &[]);
    let before = std::fs::read(rig.path("animals/fly3.animal")).unwrap();
    let (raw, sessions) = (turned(&rig), rig.path("sessions"));
    let play = ["--raw", "uint16:256x256", text(&raw)];
    let (other, done) = trial(&rig, FRAMES, &[&named[..], &["--record", text(&sessions)]].concat(), &play);
    done.says(&["the saved state of fly3 does not fit frame 7 (template: ", "saved what was learnt of fly3"]);
    let mismatch = event(&other, "animal_mismatch").expect("a mismatch");
    assert_eq!(
        (&mismatch["animal"], &mismatch["what"], &mismatch["frame"]),
        (&"fly3".into(), &"template".into(), &7.into())
    );
    assert!(mismatch["found"].as_f64() < mismatch["expected"].as_f64(), "{mismatch}");
    assert!(event(&other, "animal_known").is_none());
    assert_eq!(first_ready(&other), first_ready(&cold) + 8, "a cold start after the trial");
    assert_ne!(std::fs::read(rig.path("animals/fly3.animal")).unwrap(), before);
    assert_replays_bit_for_bit(&sessions, FRAMES);
}

#[test]
fn the_sender_names_the_animal_and_a_person_may_where_it_does_not() {
    let rig = Rig::new(model("named", &[0], 0));
    trial(&rig, FRAMES, &[], &["--animal", "fly3"])
        .1
        .says(&["fly3 has no saved state in", "saved what was learnt of fly3"]);
    let sessions = rig.path("sessions");
    let (again, _) = trial(&rig, FRAMES, &["--record", text(&sessions)], &["--animal", "fly3"]);
    let known = event(&again, "animal_known").expect("it is known");
    // The supervisor looks every 20 ms.
    assert!(first_ready(&again) < 3 * WINDOW && known["animal"] == "fly3", "{known}");
    assert_replays_bit_for_bit(&sessions, FRAMES);

    let animals = format!("animal.folder={}", text(&rig.path("animals")));
    let daemon = rig.daemon(&[&["--set", &animals][..], &LOSSLESS, &SMALL_FRAMES].concat());
    let mut listener = rig.listen();
    let answer: Value = serde_json::from_str(&rig.control(&["animal", "fly3"]).code(0).out).unwrap();
    assert_eq!((&answer["animal"], &answer["saved_state"]), (&"fly3".into(), &true.into()));
    let play =
        |more: &[&str]| rig.play(&[&fly("GC6s.tif")], &[&["--push", "--loop", "0", "--rate", "60"][..], more].concat());
    let series = play(&["--frames", "60"]);
    listener.until("the animal", |m| m.is_event("animal_known"));
    series.finish().code(0);
    listener.until("the end of the series", |m| m.is_event("animal_saved"));
    rig.control(&["animal", "save", "copy"]).code(0);
    listener.until("a copy", |m| m.is_event("animal_saved") && m.header["animal"] == "copy");
    assert!(rig.path("animals/copy.animal").is_file());
    let series = play(&["--frames", "60", "--animal", "fly5"]);
    listener.until("fly5", |m| m.kind == "decode" && m.quality() == "warmup" && m.number("frame") > 4);
    rig.control(&["animal", "fly3"]).code(1);
    series.finish().code(0);
    rig.control(&["animal", "../../fly3"]).code(1);
    listener.until("fly5 is saved", |m| m.is_event("animal_saved") && m.header["animal"] == "fly5");
    rig.control(&["shutdown"]).code(0);
    daemon.finish().code(0).says(&["fly5 has no saved state in"]);
    assert!(rig.path("animals/fly5.animal").is_file());
}

#[test]
fn a_saved_state_that_is_damaged_is_told_and_the_animal_is_learnt_anew() {
    let rig = Rig::new(model("damaged", &[0], 0));
    std::fs::create_dir(rig.path("animals")).unwrap();
    std::fs::write(rig.path("animals/fly3.animal"), [0xff; 1000]).unwrap();
    let (cold, done) = trial(&rig, FRAMES, &["--set", "animal.name=fly3"], &[]);
    done.says(&["fly3.animal: it is not the state of an animal", "remove the file", "saved what was learnt of fly3"]);
    assert!(first_ready(&cold) > 2 * WINDOW);
    let (warm, _) = trial(&rig, FRAMES, &["--set", "animal.name=fly3"], &[]);
    assert_eq!(first_ready(&warm), WINDOW - 1);
}
