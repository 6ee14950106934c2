//! Who may use whom. Method: every `crate::…` path in `src/`, in `use` trees and in code, is held against the table below;
//! comments, texts and the `#[cfg(test)]` part of a file do not count. The same table stands in ARCHITECTURE.md, for people.

#![allow(clippy::unwrap_used)] // clippy takes the helpers of a test for something else

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module → what it may use. `::` narrows: `stats::now_ns` allows that one item, `config::Device` that one type.
/// A module that is not listed (play, watch, monitor, embed, run, check, bench, control, train_command, calibrate, cli, main …) stands above the corridor
/// and may use everything; nothing below may use it, because it stands in no list.
const TABLE: &[(&str, &[&str])] = &[
    ("frame", &[]),
    ("event", &[]),
    ("lane", &[]),
    ("rhythm", &[]),
    ("wire", &["frame", "event"]),
    ("config", &["frame", "session::Compression"]),
    ("model", &["frame", "preprocess::parameters"]),
    ("session", &["frame"]),
    ("source", &["frame", "event", "wire", "config", "rhythm", "session", "stats::now_ns"]),
    ("cuda", &["frame"]),
    ("preprocess", &["frame", "model", "cuda", "config::Device"]),
    ("encode", &["frame", "model", "cuda"]),
    ("publish", &["frame", "event", "wire", "config", "stats"]),
    ("record", &["frame", "event", "wire", "config", "session", "publish::Witness", "stats"]),
    ("stats", &["frame", "event"]),
    ("rt", &["config"]),
    (
        "pipeline",
        &[
            "frame",
            "event",
            "lane",
            "rhythm",
            "wire",
            "config",
            "model",
            "source",
            "cuda",
            "preprocess",
            "encode",
            "publish",
            "record",
            "stats",
            "rt",
        ],
    ),
    ("simulate", &["frame", "source", "config", "stats::now_ns"]),
    ("train", &["frame", "source", "preprocess", "encode", "model", "config", "simulate"]),
];

#[test]
fn no_module_uses_what_its_layer_may_not() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offences = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(file.strip_prefix(&source).unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        offences.extend(used_paths(&text).iter().filter(|path| !allowed(&module, path)).map(|path| {
            format!("{} uses crate::{path}; `{module}` may use {:?}", file.display(), row(&module).unwrap_or_default())
        }));
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_row_of_the_table_stands_in_the_architecture() {
    let text = include_str!("../ARCHITECTURE.md");
    for (module, _) in TABLE {
        assert!(text.contains(&format!("| `{module}` |")), "ARCHITECTURE.md has no row for {module}");
    }
}

#[test]
fn the_reader_of_paths_finds_all_of_them_and_nothing_else() {
    let text = r#"
//! Not this: crate::lane::Comment.
use crate::frame::{Frame, Shape as S};
use crate::{event::Event, publish::{Sink, zmq::Socket}, stats};
fn f() -> crate::wire::Header { log("crate::text::No"); crate::config::Config::default() } // nor crate::rt
#[cfg(test)]
mod tests { use crate::pipeline::Only; }
"#;
    let expected = [
        "config::Config::default",
        "event::Event",
        "frame::Frame",
        "frame::Shape",
        "publish::Sink",
        "publish::zmq::Socket",
        "stats",
        "wire::Header",
    ];
    assert_eq!(used_paths(text), expected.map(str::to_owned).into());
}

#[test]
fn a_narrow_permission_is_narrow_and_a_foreign_module_is_refused() {
    for (module, path, expected) in [
        ("source", "stats::now_ns", true),
        ("source", "stats::Stats", false),
        ("source", "stats", false),
        ("model", "preprocess::parameters::Parameters", true),
        ("model", "preprocess::Preprocess", false),
        ("train", "lane::lane", false),
        ("frame", "event::Event", false),
        ("frame", "frame::Shape", true),
        ("config", "framework::X", false),
        ("check", "corridor::run", true),
        ("encode", "check::check", false),
    ] {
        assert_eq!(allowed(module, path), expected, "{module} → {path}");
    }
}

fn row(module: &str) -> Option<&'static [&'static str]> {
    TABLE.iter().find(|(name, _)| *name == module).map(|(_, may)| *may)
}

fn allowed(module: &str, path: &str) -> bool {
    let Some(may) = row(module) else { return true };
    let within = |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"));
    within(module) || may.iter().any(|prefix| within(prefix))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs")).collect()
}

/// `source/zmq.rs` belongs to `source`.
fn module_of(relative: &Path) -> String {
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Every path behind `crate::`, `use` trees unfolded.
fn used_paths(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let code: String = code.lines().map(without_comment_and_text).collect::<Vec<_>>().join("\n");
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        unfold("", &code[at + "crate::".len()..], &mut paths);
    }
    paths
}

/// Cuts texts of one line, then the comment. Texts over several lines would be read as code: an offence too many, none too few.
fn without_comment_and_text(line: &str) -> String {
    let outside: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split("//").next().unwrap_or_default().to_owned()
}

/// Reads one path or `{…}` tree; returns how many bytes it took.
fn unfold(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let length = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..length]);
    let opens_a_tree = (path.is_empty() || path.ends_with("::")) && text[length..].starts_with('{');
    if !opens_a_tree {
        if !path.is_empty() {
            paths.insert(path.trim_end_matches(':').to_owned());
        }
        return length;
    }
    let mut at = length + 1;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        if text[at..].starts_with('}') || text[at..].is_empty() {
            return at + 1;
        }
        at += unfold(&path, &text[at..], paths);
        // A rename (`as S`), up to the comma or the end of the tree.
        at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
        at += usize::from(text[at..].starts_with(','));
    }
}
