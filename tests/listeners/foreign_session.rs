//! A recorded session from somebody else: nothing in it chooses code, a place outside its folder, or an amount of memory.
//!
//! Method: sessions are written here with what a stranger could put into them, and given to `embed`, `diff`, `report` and `export` as
//! processes. The library is a real one, whose constructor leaves a mark when it is loaded.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use haltere::config::Compression;
use haltere::frame::{FrameSlot, PixelType, Shape};
use haltere::model::{Manifest, Model};
use haltere::session::{CONFIG_TOML, MODEL_ONNX, MODEL_TOML, SessionWriter};
use haltere::sys::files::sha256_of;
use support::{Finished, Process, haltere, model, skip};

use crate::support::tissue::still_cells;

fn small() -> Model {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    Model::load(MODEL.get_or_init(|| model("foreign", &[0], 0))).unwrap()
}

/// A session of sixty frames with this configuration and `frame_bytes_max`.
fn session(folder: &Path, config: &str, frame_bytes_max: &str) -> PathBuf {
    let path = folder.join("session.mcap");
    let [manifest, onnx] = [small().manifest_path, small().onnx_path].map(|path| std::fs::read(path).unwrap());
    let about =
        [("rig", "rig1"), ("frame_bytes_max", frame_bytes_max)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let attachments = [
        (CONFIG_TOML, "text/plain", config.as_bytes()),
        (MODEL_TOML, "text/plain", manifest.as_slice()),
        (MODEL_ONNX, "application/octet-stream", onnx.as_slice()),
    ];
    let about = BTreeMap::from(about);
    let mut session = SessionWriter::create(&path, Compression::None, 1_000, &about, &attachments).unwrap();
    let mut slot = FrameSlot::with_capacity(64 * 64 * 2);
    for number in 0..60 {
        let info = &mut slot.frame.info;
        (info.shape, info.pixel_type, info.number) = (Shape::new(1, 64, 64), PixelType::U16, number);
        (info.source, info.t_received_ns) = ("rig1".parse().unwrap(), number * 33_333_333);
        let counts = slot.frame.bytes_mut().chunks_exact_mut(2).enumerate();
        counts.for_each(|(at, bytes)| bytes.copy_from_slice(&still_cells(64)(at).to_ne_bytes()));
        session.write_frame(&slot).unwrap();
    }
    session.finish(BTreeMap::new()).unwrap();
    path
}

/// `embed` and `diff` of a session.
fn replays(session: &Path) -> [Finished; 2] {
    let out = session.with_extension("npy");
    let mut embed = haltere(["embed", "--out"]);
    let mut diff = haltere(["diff", "--json"]);
    [embed.arg(out).arg(session), diff.arg(session)].map(|command| Process::start("replay", command).finish())
}

#[test]
fn a_library_that_a_session_names_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (mark, library) = (folder.path().join("mark"), folder.path().join("evil.so"));
    let code = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ FILE *f = fopen(\"{}\", \"w\"); if (f) fclose(f); }}\n",
        mark.display()
    );
    std::fs::write(folder.path().join("evil.c"), code).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(folder.path().join("evil.c")).status();
    if !built.is_ok_and(|status| status.success()) {
        return skip("no C compiler").unwrap_or_default();
    }
    let config = format!(
        "[compute]\nonnxruntime = {library:?}\n[lsl]\nname = \"x\"\nlibrary = {library:?}\n[publish]\nendpoint = \"tcp://0.0.0.0:5711\"\n"
    );
    let session = session(folder.path(), &config, "8192");
    for done in replays(&session) {
        assert_ne!(done.code, Some(3), "{}", done.err);
        done.says(&["`compute.onnxruntime` of the session's own configuration is ignored", "`lsl.library`"]);
    }
    let mut report = haltere(["report"]);
    Process::start("report", report.arg(&session).arg("--out").arg(folder.path().join("r.html"))).finish();
    assert!(!mark.exists(), "the constructor of the session's library ran");

    // The user's own choice still counts.
    let mut embed = haltere(["embed", "--out", "/dev/null", "--set"]);
    embed.arg(format!("compute.onnxruntime={}", library.display())).arg(&session);
    Process::start("embed", &mut embed).finish().code(5);
    assert!(mark.exists(), "else this test proves nothing");
}

#[test]
fn a_session_does_not_say_how_much_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for amount in ["8000000000", "18446744073709551615", "134217729"] {
        let session = session(folder.path(), "", amount);
        let out = session.with_extension("npy");
        let mut embed = haltere(["embed", "--out"]);
        embed.arg(out).arg(&session);
        // Far less than what the session asks for.
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -v 6000000; exec \"$@\"", "sh"]).arg(embed.get_program()).args(embed.get_args());
        let done = Process::start("embed", &mut limited).finish().code(6);
        done.says(&["frame_bytes_max", amount, "134217728"]);
        std::fs::remove_file(&session).unwrap();
    }
    let [embedded, compared] = replays(&session(folder.path(), "", "8192"));
    embedded.code(0);
    compared.code(6).says(&["contains no decoded frame"]);
}

#[test]
fn weights_that_a_model_keeps_outside_its_folder_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (onnx, path) = (folder.path().join("m.onnx"), folder.path().join("m.toml"));
    // A second occurrence of `graph` is merged with the first: one more constant, whose values lie in /etc/passwd.
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let tensor = [
        vec![8, 4, 16, 1],
        field(8, b"stolen"),
        entry("location", "/etc/passwd"),
        entry("length", "16"),
        vec![14 << 3, 1],
    ]
    .concat();
    let mut bytes = std::fs::read(small().onnx_path).unwrap();
    bytes.extend(field(7, &field(5, &tensor)));
    std::fs::write(&onnx, bytes).unwrap();
    let mut manifest: Manifest = small().manifest;
    (manifest.file, manifest.sha256) = ("m.onnx".into(), sha256_of(&onnx).unwrap());
    manifest.save(&path).unwrap();
    let mut embed = haltere(["embed", "--out", "/dev/null", "--model"]);
    embed.arg(&path).arg(support::fly("GC6s.tif"));
    Process::start("embed", &mut embed).finish().code(4).says(&["/etc/passwd", "relative to the model's folder"]);
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 128 {
        bytes.push(length as u8 | 128);
        length >>= 7;
    }
    bytes.push(length as u8);
    [bytes, content.to_vec()].concat()
}
