//! A ThorImage raw file is decoded while it grows, and comes to the same embeddings as the finished folder.
//!
//! Method: the test writes the file as ThorImage does, appending, but in pieces of odd sizes; a daemon follows it and a subscriber
//! hears its decodes. `embed` of the finished folder is the oracle, bit for bit. The pixels are those of the committed fly
//! recording; a real acquisition (`../shared/data`) is followed as well where it is there. A file that is aborted, cut off,
//! replaced, full of zeros or without its Experiment.xml is brought about, not imagined.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::fly as pixels;
use crate::support::process as support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use haltere::sys::clock::now_ns;
use support::{Finished, Listener, Process, Rig, haltere, model, shared};

/// Side of the frames that the test writes, px.
const SIDE: usize = 64;
/// Bytes of one channel of one of them.
const PLANE: usize = 2 * SIDE * SIDE;
/// Appended one after the other: less than a pixel, less than a row, rows, more than a frame.
const PIECES: [usize; 7] = [1, 127, 4095, 9001, 3, 20_011, 8192];

/// The lines of a real Experiment.xml that the reader wants.
fn experiment(channels: u8, frames: usize, z: &str) -> String {
    format!(
        r#"<?xml version="1.0"?>
<ThorImageExperiment>
  <Wavelengths nyquistExWavelengthNM="488"><ChannelEnable Set="{channels}" /></Wavelengths>
  <Timelapse timepoints="{frames}" intervalSec="0" triggerMode="0" />
  <LSM name="GalvoGalvo" pixelX="{SIDE}" pixelY="{SIDE}" averageMode="0" averageNum="4" frameRate="30" />
  <Streaming enable="1" frames="{frames}" rawData="1" flybackFrames="1" {z} />
  <RawData onlyEnabledChannels="1" />
</ThorImageExperiment>"#
    )
}

/// One plane, as it is usual.
const FLAT: &str = r#"zFastEnable="0""#;

/// Frames of so many channels as ThorImage writes them.
fn bytes(channels: usize, frames: usize) -> Vec<u8> {
    let light = |value: &f32| (value * 1000.0 + 5000.0).clamp(1.0, 65535.0) as u16;
    pixels::frames(channels, SIDE, frames).iter().flat_map(|value| light(value).to_le_bytes()).collect()
}

/// A folder of an acquisition that has begun, with no frame so far.
fn begun(rig: &Rig, xml: &str) -> PathBuf {
    let folder = rig.path("Untitled_001");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Experiment.xml"), xml).unwrap();
    folder
}

fn raw(folder: &Path) -> PathBuf {
    folder.join("Image_0001_0001.raw")
}

fn append(folder: &Path, bytes: &[u8]) {
    OpenOptions::new().create(true).append(true).open(raw(folder)).unwrap().write_all(bytes).unwrap();
}

/// In odd pieces, as fast as about one frame each 3 ms.
fn append_in_pieces(folder: &Path, mut bytes: &[u8]) {
    for piece in PIECES.iter().cycle() {
        if bytes.is_empty() {
            return;
        }
        let (now, later) = bytes.split_at((*piece).min(bytes.len()));
        append(folder, now);
        bytes = later;
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A daemon that decodes every frame of the folder.
fn follow(rig: &Rig, folder: &Path, more: &[&str]) -> Command {
    let set = format!("source.follow={}", folder.display());
    let every = ["--set", "lane.overload=wait", "--set", "publish.deadline_ms=60000", "--set", "publish.hwm=10000"];
    rig.command(&[&["--set", set.as_str()][..], &every, more].concat())
}

fn started(command: &mut Command) -> Process {
    let mut daemon = Process::start("run", command);
    daemon.until_it_says("ready:");
    daemon
}

fn frame_is(listener: &mut Listener, number: u64) {
    listener.until(&format!("frame {number}"), |m| m.kind == "decode" && m.header["frame"].as_u64() == Some(number));
}

/// Embeddings that `embed` makes of the finished folder, as bits.
fn offline(rig: &Rig, folder: &Path, more: &[&str]) -> Vec<Vec<u32>> {
    let out = rig.path("offline.npy");
    let mut command = haltere(["embed", "--progress", "never", "--model"]);
    command.arg(&rig.model).arg("--out").arg(&out).args(more).arg(folder);
    Process::start("embed", &mut command).finish().code(0);
    let array: ndarray::Array2<f32> = ndarray_npy::read_npy(out).unwrap();
    array.outer_iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Every frame that was asked for was decoded, in order, to the bits of `expected`.
fn assert_equal(listener: &Listener, expected: &[Vec<u32>]) {
    let decodes: Vec<_> = listener.decodes().into_iter().filter(|d| d.quality() != "fail").collect();
    let numbers: Vec<u64> = decodes.iter().map(|d| d.number("frame")).collect();
    assert_eq!(numbers, (0..expected.len() as u64).collect::<Vec<_>>());
    for (decode, bits) in decodes.iter().zip(expected) {
        assert!(decode.embedding.iter().map(|v| v.to_bits()).eq(bits.iter().copied()), "{}", decode.header);
        assert!(decode.header.get("t_device_ns").is_none_or(serde_json::Value::is_null), "nobody measured it");
        assert!(decode.number("t_recv_ns") <= decode.number("t_pub_ns"));
        assert_eq!(decode.header["series"], "Untitled_001");
    }
}

#[test]
fn a_growing_file_decodes_to_the_embeddings_of_the_finished_folder_and_ends_with_its_count() {
    let rig = Rig::new(model("growing", &[0, 1], 1));
    let folder = begun(&rig, &experiment(3, 60, FLAT));
    // The file comes after the daemon.
    let daemon = started(&mut follow(&rig, &folder, &["--once"]));
    let mut listener = rig.listen();
    let all = bytes(2, 60);
    append_in_pieces(&folder, &all[..20 * 2 * PLANE + 777]);
    frame_is(&mut listener, 19);
    let paused = listener.during(Duration::from_millis(400));
    assert!(paused.iter().all(|m| m.kind != "decode"), "half a frame was decoded");
    append_in_pieces(&folder, &all[20 * 2 * PLANE + 777..]);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0).says(&["the sender ended the series", "series began with frame 0"]);
    let last = listener.heard.iter().rfind(|m| m.kind == "status").unwrap();
    assert_eq!((last.number("received"), last.number("accepted")), (60, 60));
    assert_equal(&listener, &offline(&rig, &folder, &[]));
}

#[test]
fn an_aborted_acquisition_ends_when_the_file_grows_no_more() {
    let rig = Rig::new(model("aborted", &[0], 0));
    let folder = begun(&rig, &experiment(1, 1000, FLAT));
    let all = bytes(1, 61);
    append(&folder, &all[..5 * PLANE]);
    let daemon = started(&mut follow(&rig, &folder, &["--once", "--set", "source.follow_idle_s=2"]));
    let mut listener = rig.listen();
    append_in_pieces(&folder, &all[5 * PLANE..60 * PLANE + PLANE / 2]);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0).says(&["the sender ended the series"]);
    // The finished folder ends with half a frame as well.
    let expected = offline(&rig, &folder, &[]);
    assert_eq!(expected.len(), 60);
    // Frames that were there at the start may have been decoded before the subscriber came.
    let heard: Vec<_> = listener.decodes().into_iter().filter(|d| d.quality() != "fail").collect();
    assert!(heard.len() >= 55, "{}", heard.len());
    for decode in heard {
        let bits = &expected[decode.number("frame") as usize];
        assert!(decode.embedding.iter().map(|v| v.to_bits()).eq(bits.iter().copied()), "{}", decode.header);
    }
}

#[test]
fn of_a_volume_the_plane_asked_for_is_decoded_as_soon_as_it_is_there() {
    let rig = Rig::new(model("volume", &[0], 0));
    let folder = begun(
        &rig,
        &experiment(1, 240, r#"zFastEnable="1""#).replace("<Timelapse", "<ZStage steps=\"3\" />\n<Timelapse"),
    );
    let daemon = started(&mut follow(&rig, &folder, &["--once", "--set", "source.plane=1"]));
    let mut listener = rig.listen();
    // Three planes and one flyback; of the last volume the plane is there, the flyback is not.
    let all = bytes(1, 16).repeat(15);
    append_in_pieces(&folder, &all[..230 * PLANE]);
    frame_is(&mut listener, 57);
    append_in_pieces(&folder, &all[230 * PLANE..]);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0);
    assert_equal(&listener, &offline(&rig, &folder, &["--plane", "1"]));
    let refused = Process::start("run", &mut follow(&rig, &folder, &[])).finish().code(6);
    refused.says(&["a volume of 3 planes", "source.plane", "0 to 2"]);
}

#[test]
fn live_it_begins_with_the_newest_frame_and_is_late_by_milliseconds() {
    let rig = Rig::new(model("newest", &[0], 0));
    let folder = begun(&rig, &experiment(1, 1000, FLAT));
    let all = bytes(1, 100);
    append(&folder, &all[..40 * PLANE]);
    let live = ["--set", "lane.overload=skip-to-latest"];
    let daemon = started(&mut follow(&rig, &folder, &live));
    let mut listener = Listener::new(&rig.decodes);
    let mut written = Vec::new();
    for frame in all[40 * PLANE..].chunks(PLANE) {
        append(&folder, frame);
        written.push(now_ns());
        std::thread::sleep(Duration::from_millis(33));
    }
    frame_is(&mut listener, 99);
    daemon.signal(rustix::process::Signal::INT);
    daemon.finish().code(0).says(&["series began with frame 39"]);
    let mut late_us: Vec<i64> = listener
        .decodes()
        .iter()
        .filter_map(|d| Some((d.header["frame"].as_u64()?.checked_sub(40)?, d.header["t_recv_ns"].as_i64()?)))
        .map(|(index, received)| (received - written[index as usize] as i64) / 1000)
        .collect();
    late_us.sort_unstable();
    assert!(late_us.len() > 30, "{late_us:?}");
    // Two milliseconds between looks; the rest is this machine's. A look may fall between the write and the test's clock.
    let median = late_us[late_us.len() / 2];
    assert!((-1000..10_000).contains(&median), "{median} µs: {late_us:?}");
}

#[test]
fn a_file_that_is_cut_off_or_replaced_is_told_and_followed_anew() {
    let rig = Rig::new(model("replaced", &[0], 0));
    let folder = begun(&rig, &experiment(1, 1000, FLAT));
    let mut daemon = started(&mut follow(&rig, &folder, &[]));
    let mut listener = rig.listen();
    let all = bytes(1, 60);
    append(&folder, &all[..30 * PLANE]);
    frame_is(&mut listener, 29);
    File::create(raw(&folder)).unwrap();
    let lost = listener.until("the truncation", |m| m.is_event("file_lost"));
    assert_eq!(lost.header["how"], "truncated");
    append_in_pieces(&folder, &all[..10 * PLANE]);
    frame_is(&mut listener, 9);
    let other = folder.join("next.part");
    std::fs::write(&other, &all[..20 * PLANE]).unwrap();
    std::fs::rename(&other, raw(&folder)).unwrap();
    let lost = listener.until("the other file", |m| m.is_event("file_lost"));
    assert_eq!(lost.header["how"], "replaced by another");
    frame_is(&mut listener, 19);
    std::fs::remove_file(raw(&folder)).unwrap();
    let lost = listener.until("the removal", |m| m.is_event("file_lost"));
    assert_eq!(lost.header["how"], "removed");
    append(&folder, &all[..5 * PLANE]);
    frame_is(&mut listener, 4);
    let began = listener.heard.iter().filter(|m| m.is_event("series_began")).count();
    assert_eq!(began, 4);
    assert!(daemon.is_running());
    daemon.signal(rustix::process::Signal::INT);
    daemon.finish().code(0);
}

/// Takes a folder away as a share goes away: every path through it is refused by the system, and not for being absent.
fn take_away(folder: &Path) -> PathBuf {
    let away = folder.with_extension("away");
    std::fs::rename(folder, &away).unwrap();
    std::os::unix::fs::symlink(folder, folder).unwrap();
    away
}

fn give_back(folder: &Path, away: &Path) {
    std::fs::remove_file(folder).unwrap();
    std::fs::rename(away, folder).unwrap();
}

#[test]
fn a_share_that_is_away_for_a_moment_ends_nothing_and_no_frame_is_lost() {
    let rig = Rig::new(model("share", &[0], 0));
    let folder = begun(&rig, &experiment(1, 60, FLAT));
    let daemon = started(&mut follow(&rig, &folder, &["--once"]));
    let mut listener = rig.listen();
    let all = bytes(1, 60);
    append(&folder, &all[..15 * PLANE]);
    frame_is(&mut listener, 14);
    let away = take_away(&folder);
    let lost = listener.until("the outage", |m| m.is_event("file_unreachable"));
    assert_eq!(lost.header["cause"], "ELOOP");
    // The microscope goes on meanwhile.
    append(&away, &all[15 * PLANE..30 * PLANE]);
    listener.during(Duration::from_millis(500));
    give_back(&folder, &away);
    let back = listener.until("the end of the outage", |m| m.is_event("file_back"));
    assert!(back.number("after_ms") >= 500, "{}", back.header);
    append(&folder, &all[30 * PLANE..]);
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0).says(&["cannot be read (ELOOP)", "can be read again", "the sender ended the series"]);
    assert_eq!(listener.heard.iter().filter(|m| m.is_event("file_unreachable")).count(), 1);
    assert_equal(&listener, &offline(&rig, &folder, &[]));
}

#[test]
fn a_share_that_stays_away_ends_the_run_with_the_systems_error_after_the_stated_time() {
    let rig = Rig::new(model("gone", &[0], 0));
    let folder = begun(&rig, &experiment(1, 40, FLAT));
    append(&folder, &bytes(1, 5));
    let daemon = started(&mut follow(&rig, &folder, &["--set", "source.follow_retry_s=1"]));
    let mut listener = rig.listen();
    let away = take_away(&folder);
    listener.until("the outage", |m| m.is_event("file_unreachable"));
    listener.until("the end", |m| m.kind == "decode" && m.quality() == "fail");
    daemon.finish().code(8).says(&["can no longer be followed", "Image_0001_0001.raw"]);
    give_back(&folder, &away);
}

#[test]
fn what_cannot_be_followed_is_refused_with_what_to_do() {
    let rig = Rig::new(model("refused", &[0], 0));
    let refused = |folder: &Path, more: &[&str]| -> Finished {
        Process::start("run", &mut follow(&rig, folder, more)).finish().code(6)
    };
    let folder = rig.path("no_xml");
    std::fs::create_dir_all(&folder).unwrap();
    refused(&folder, &[]).says(&["Experiment.xml", "No such file", "source.follow"]);
    // Its whole size from the start, with zeros where frames are to come.
    let folder = begun(&rig, &experiment(1, 40, FLAT));
    append(&folder, &bytes(1, 3));
    OpenOptions::new().append(true).open(raw(&folder)).unwrap().set_len(40 * PLANE as u64).unwrap();
    refused(&folder, &[]).says(&["327680 bytes", "number 39", "nothing but zeros", "haltere embed"]);
    let check = format!("source.follow={}", folder.display());
    let mut command = haltere(["check", "--set", &check, "--model"]);
    let checked = Process::start("check", command.arg(&rig.model)).finish().code(9);
    assert!(checked.out.contains("source.follow") && checked.out.contains("nothing but zeros"), "{}", checked.out);
    std::fs::write(folder.join("Experiment.xml"), experiment(3, 40, FLAT).replace("\"64\"", "\"2048\"")).unwrap();
    refused(&folder, &[]).says(&["16777216 bytes", "source.frame_max_mib", "4194304"]);
}

#[test]
fn a_real_acquisition_is_followed_to_the_embeddings_of_its_folder() {
    let Some(real) = shared("thorimage_sync/mouse_kidney_raw/2p/Untitled_001") else { return };
    let rig = Rig::new(model("real", &[0, 1], 1));
    let xml = std::fs::read_to_string(real.join("Experiment.xml")).unwrap();
    let folder = begun(&rig, &xml.replace("frames=\"5\"", "frames=\"60\""));
    let five = std::fs::read(raw(&real)).unwrap();
    let daemon = started(&mut follow(&rig, &folder, &["--once"]));
    let mut listener = rig.listen();
    for _ in 0..12 {
        five.chunks(100_003).for_each(|piece| append(&folder, piece));
    }
    listener.until("the last status", |m| m.kind == "status" && m.header["quality"] == "fail");
    daemon.finish().code(0);
    let expected = offline(&rig, &folder, &[]);
    assert_eq!(expected.len(), 60);
    assert_equal(&listener, &expected);
}
