//! Method: small files of every format, changed at random (bytes, bits, lengths, numbers in their texts), through `info`, `report`, `export`,
//! `embed` and `model inspect`, in this process. Whatever is said about them, nothing panics, nothing takes longer than 20 s, and memory stays
//! under 1 GB. `HALTERE_MUTATIONS` sets how many changes of every file there are; without it there are few.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Parser;
use haltere::cli::{Cli, dispatch};
use haltere::frame::Frame;
use haltere::source::{Next, RecordingSpec, open_recording};

use crate::support::scanbox::Scanbox;
use crate::support::tiffs::Tiff;
use crate::{nwb_export, recordings};

const MUTATIONS: usize = 2;
const LONGEST: Duration = Duration::from_secs(20);
const MEMORY_KB: u64 = 1 << 20;

fn mutations() -> usize {
    std::env::var("HALTERE_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(MUTATIONS)
}

/// A repeatable generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// A file with one to three changes.
    fn changed(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                return bytes;
            }
            // Heads and texts stand at the beginning more often than pixels.
            let at = if self.below(2) == 0 { self.below(bytes.len().min(1500)) } else { self.below(bytes.len()) };
            match self.below(8) {
                0 => bytes[at] = self.below(256) as u8,
                1 | 2 => bytes[at] ^= 1 << self.below(8),
                3 => drop(bytes.remove(at)),
                4 => bytes.insert(at, self.below(256) as u8),
                5 => bytes.truncate(at),
                6 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill(if self.below(2) == 0 { 0xff } else { 0 });
                }
                _ => number(&mut bytes, at, self.below(4)),
            }
        }
        bytes
    }
}

/// Puts another number in place of one in a text.
fn number(bytes: &mut Vec<u8>, from: usize, which: usize) {
    let Some(at) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else { return };
    let end = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let other: &[u8] = [b"4294967296".as_slice(), b"0", b"-1", b"1e308"][which];
    bytes.splice(at..end, other.iter().copied());
}

/// The most memory that this process has had, kB.
fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Runs one command line; what it says does not matter.
fn command(words: &[&str]) {
    let Ok(cli) = Cli::try_parse_from([&["haltere"], words].concat()) else { return };
    let _ = dispatch(cli.command, &mut Vec::new());
}

fn read_all(path: &Path) {
    for plane in [None, Some(1)] {
        let spec = RecordingSpec { plane, ..RecordingSpec::new(path, "rig".parse().unwrap()) };
        if let Ok(mut source) = open_recording(&spec) {
            let mut slot = Frame::with_capacity(source.frame_bytes_max());
            while source.next(&mut slot).is_ok_and(|next| next == Next::Frame) {}
            let _ = source.times_ns();
        }
    }
}

/// Something that is done with a changed file.
type Step = Box<dyn Fn() + Send + Sync>;

/// A command line as a step.
fn line(words: &[&str]) -> Step {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    Box::new(move || command(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Changes `file` again and again and takes all steps after each change; the changed file is kept where one fails.
fn fuzz(name: &'static str, file: &Path, steps: Vec<Step>) {
    let whole = std::fs::read(file).unwrap();
    let mut random = Random(7 + name.len() as u64);
    let before = memory_kb();
    let steps = Arc::new(steps);
    for mutation in 0..mutations() {
        let bytes = random.changed(&whole);
        std::fs::write(file, &bytes).unwrap();
        for step in 0..steps.len() {
            let (done, ended) = mpsc::channel();
            let work = steps.clone();
            let thread = std::thread::spawn(move || {
                work[step]();
                let _ = done.send(());
            });
            let what = ended.recv_timeout(LONGEST);
            let memory = memory_kb() - before;
            if what.is_err() || memory > MEMORY_KB {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{mutation}"));
                std::fs::write(&kept, &bytes).unwrap();
                panic!("{name}, change {mutation}, step {step} ({}): {what:?}, {memory} kB more", kept.display());
            }
            thread.join().unwrap();
        }
    }
    std::fs::write(file, whole).unwrap();
}

/// `info` and every frame of a recording, one of whose files is changed.
fn recording(name: &'static str, file: &Path, recording: &Path) {
    let path = recording.to_path_buf();
    let read = Box::new(move || read_all(&path));
    fuzz(name, file, vec![line(&["info", recording.to_str().unwrap(), "--json"]), read]);
}

#[test]
fn changed_tiff_files_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    for case in [recordings::texts(), recordings::scanimage(), recordings::damaged()].iter().flatten() {
        if let [(_, bytes)] = case.files.as_slice() {
            std::fs::write(&path, bytes).unwrap();
            recording("tif", &path, &path);
        }
    }
}

#[test]
fn changed_recordings_of_other_programs_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let sbx = Scanbox::default().with("otwave", &[0.0, 1.0]).with("volscan", &[1.0]);
    for compressed in [true, false] {
        let own = folder(if compressed { "packed" } else { "plain" });
        let path = Scanbox { compressed, ..sbx.clone() }.write(&own);
        recording("scanbox", &own.join("x.mat"), &path);
        recording("scanbox", &path, &path);
    }
    let thor = folder("thor");
    let xml = r#"<?xml version="1.0"?><ThorImageExperiment><Wavelengths><ChannelEnable Set="3"/></Wavelengths><ZStage name="z" steps="2"/>
        <LSM pixelX="24" pixelY="16" frameRate="30"/><Streaming enable="1" frames="6" zFastEnable="1" flybackFrames="1"/></ThorImageExperiment>"#;
    std::fs::write(thor.join("Experiment.xml"), xml).unwrap();
    std::fs::write(thor.join("Image_0001_0001.raw"), vec![7; 16 * 24 * 2 * 2 * 6]).unwrap();
    recording("thorimage", &thor.join("Experiment.xml"), &thor);
    recording("thorimage", &thor.join("Image_0001_0001.raw"), &thor);
    let prairie = folder("prairie");
    Tiff::pages(4).write(&prairie.join("a_Ch1.ome.tif"));
    let files: String = (1..=4)
        .map(|n| format!(r#"<Frame absoluteTime="{n}.5" index="{n}"><File channel="1" channelName="Ch1" page="{n}" filename="a_Ch1.ome.tif"/></Frame>"#))
        .collect();
    let xml = format!(
        r#"<?xml version="1.0"?><PVScan version="5.8"><Sequence type="TSeries Timed Element" cycle="1">{files}</Sequence></PVScan>"#
    );
    std::fs::write(prairie.join("a.xml"), xml).unwrap();
    recording("prairieview", &prairie.join("a.xml"), &prairie);
    recording("prairieview", &prairie.join("a_Ch1.ome.tif"), &prairie);
}

#[test]
fn changed_nwb_files_are_read_or_refused() {
    let Some(python) = crate::support::nwb::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for kind in ["timestamps", "external", "volume"] {
        let path = folder.path().join(format!("{kind}.nwb"));
        crate::support::nwb::script(&python, "write_nwb.py", &[kind, path.to_str().unwrap()]);
        recording("nwb", &path, &path);
    }
}

#[test]
fn changed_sessions_are_read_reported_exported_and_embedded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mcap");
    nwb_export::made(&path);
    let name = path.to_str().unwrap();
    let to = |file: &str| folder.path().join(file).display().to_string();
    let steps = vec![
        line(&["info", name, "--json"]),
        line(&["report", name, "--out", &to("r.html")]),
        line(&["export", name, "--to", "csv", "--out", &to("c.csv")]),
        line(&["export", name, "--to", "npy", "--out", &to("n.npy")]),
        line(&["export", name, "--to", "nwb", "--out", &to("n.nwb")]),
        line(&["embed", name, "--out", &to("e.npy"), "--progress", "never"]),
        line(&["diff", name]),
    ];
    fuzz("mcap", &path, steps);
}

#[test]
fn changed_behaviour_and_label_files_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    Tiff { bits: 8, ..Tiff::pages(32) }.write(&folder.join("a.tif"));
    let rows = |one: &dyn Fn(usize) -> String| (0..200).map(|row| one(row) + "\n").collect::<String>();
    let numbers = |row: usize| format!("{:.3},{:.3}", (row as f64 / 9.0).sin(), (row as f64 / 7.0).cos());
    let dlc = format!(
        "scorer,n,n,n\nbodyparts,h,h,h\ncoords,x,y,likelihood\n{}",
        rows(&|row| format!("{row},{},0.9", numbers(row)))
    );
    let sleap = format!(
        "track,frame_idx,instance.score,h.x,h.y,h.score\n{}",
        rows(&|row| format!(",{row},0.9,{},0.8", numbers(row)))
    );
    let fictrac =
        rows(&|row| format!("{row}, {}", (1..25).map(|n| (row * n).to_string()).collect::<Vec<_>>().join(", ")));
    let semicolons = format!("time;x;y\n{}", rows(&|row| format!("{},{:02};1,5;{row},25", row / 100, row % 100)));
    let boris = "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s)\no,f,walk,STATE,0.2,1\no,f,rest,STATE,1,1.5\n";
    let tabular = "Time,Behavior,Status\n0.2,walk,START\n0.9,walk,STOP\n";
    let bouts = "start_s,stop_s,label\n0,1,rest\n1,2,walk\n";
    let mut npy = b"\x93NUMPY\x01\0\x76\0".to_vec();
    npy.extend(format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (200, 2), }").bytes());
    npy.extend((0..400).flat_map(|n| ((n as f32) / 9.0).sin().to_le_bytes()));
    let moseq = format!("syllable,centroid x\n{}", rows(&|row| format!("{},0.5", row / 50)));
    for (name, content, is_label) in [
        ("b.csv", dlc.into_bytes(), false),
        ("b.csv", sleap.into_bytes(), false),
        ("b.dat", fictrac.into_bytes(), false),
        ("b.csv", semicolons.into_bytes(), false),
        ("b.npy", npy, false),
        ("l.csv", boris.into(), true),
        ("l.csv", tabular.into(), true),
        ("l.csv", bouts.into(), true),
        ("l.csv", moseq.into_bytes(), true),
    ] {
        let plain = format!("x,y\n{}", rows(&numbers));
        std::fs::write(folder.join("b.csv"), plain).unwrap();
        std::fs::write(folder.join("l.csv"), bouts).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
        let behaviour = if is_label { "b.csv" } else { name };
        let toml = format!(
            "frame_rate_hz = 16.0\nbehaviour_rate_hz = 100.0\n[[trial]]\nanimal = \"a\"\nframes = {{ path = \"a.tif\" }}\nbehaviour = \
             \"{behaviour}\"\nlabels = \"l.csv\"\n"
        );
        let described = folder.join("dataset.toml");
        std::fs::write(&described, toml).unwrap();
        for changed in [folder.join(name), described.clone()] {
            fuzz("behaviour", &changed, vec![line(&["info", described.to_str().unwrap(), "--json"])]);
        }
    }
}

#[cfg(feature = "train")]
#[test]
fn changed_models_are_inspected_or_refused() {
    let own = crate::support::process::model("fuzzed", &[0], 0);
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("fuzzed.toml");
    for name in ["fuzzed.toml", "fuzzed.onnx"] {
        std::fs::copy(own.with_file_name(name), folder.path().join(name)).unwrap();
    }
    for file in ["fuzzed.toml", "fuzzed.onnx"] {
        fuzz("model", &folder.path().join(file), vec![line(&["model", "inspect", manifest.to_str().unwrap()])]);
    }
}
