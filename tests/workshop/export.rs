//! What `export` makes of a session: a table as text, the same with types, and the embeddings alone, all of the same decodes.
//!
//! Method: a fly with actions is recorded; pyarrow, which shares no code with the writer, reads the Parquet file and holds every
//! value against the CSV of the same session, and the embeddings against the npy; the session itself is read in Rust. Python is
//! `$HALTERE_PYTHON`, else `.venv/bin/python` (`make setup` makes it).
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::session::{Item, Reader, Topic};
use serde_json::Value;
use support::{LOSSLESS, Process, Rig, haltere, skip};

const FLY: &str = "sim:seed=9001,animal=2,trial=3,seconds=25";

/// Prints what it found; leaves with an error at the first value that differs.
const COMPARE: &str = r#"
import csv, json, sys
import numpy, pyarrow, pyarrow.parquet

path, text, array = sys.argv[1:]
table = pyarrow.parquet.read_table(path)
rows = list(csv.DictReader(open(text, newline="")))
embedding = numpy.load(array)
types = {name: str(table.schema.field(name).type) for name in table.column_names}
assert table.column_names == list(rows[0]), "the columns of both"
assert table.num_rows == len(rows) == len(embedding)
read = {"uint64": int, "int64": int, "double": float, "string": str, "float": numpy.float32}
nulls = {}
for name in table.column_names:
    values = table.column(name).to_pylist()
    nulls[name] = sum(value is None for value in values)
    for index, (value, row) in enumerate(zip(values, rows)):
        same = row[name] == "" if value is None else read[types[name]](row[name]) == read[types[name]](value)
        assert same, (name, index, value, row[name])
names = [name for name in table.column_names if name.startswith("e") and name[1:].isdigit()]
columns = numpy.stack([table.column(name).to_numpy() for name in names], axis=1)
assert columns.dtype == numpy.float32 and (columns.view("u4") == embedding.view("u4")).all(), "bit for bit"
about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
file = pyarrow.parquet.ParquetFile(path).metadata
print(json.dumps({"types": types, "nulls": nulls, "rows": table.num_rows, "about": about, "created_by": file.created_by,
                  "compression": file.row_group(0).column(0).compression, "seq": table.column("seq").to_pylist()}))
"#;

/// A Python with pyarrow and numpy, or `None` and a loud line.
fn python() -> Option<PathBuf> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("HALTERE_PYTHON").map_or_else(installed, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import pyarrow.parquet, numpy"]).output();
    if found.is_ok_and(|said| said.status.success()) {
        return Some(python);
    }
    skip(&format!("{} has no pyarrow and numpy: `make setup`", python.display()))
}

/// Records the fly; gives the session.
fn recorded(rig: &Rig) -> PathBuf {
    let folder = rig.path("sessions");
    let always = ["--once", "--record", folder.to_str().unwrap(), "--set", "record.queue_frames=512"];
    let daemon = rig.daemon(&[&always[..], &LOSSLESS].concat());
    let fly: [&Path; 1] = [Path::new(FLY)];
    rig.play(&fly, &["--push", "--rate", "64", "--series", "s1"]).finish().code(0);
    daemon.finish().code(0);
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

/// Numbers of the decodes of frames, as the session has them.
fn sequence(session: &Path) -> Vec<u64> {
    let mut reader = Reader::open(session).unwrap();
    let mut found = Vec::new();
    while let Some(item) = reader.read().unwrap() {
        let Item::Message { topic: Topic::Decodes, data, .. } = item else { continue };
        let decode: Value = serde_json::from_slice(&data).unwrap();
        found.extend(decode.get("decoded").and(decode["seq"].as_u64()));
    }
    found
}

#[test]
fn the_table_with_types_says_what_the_table_as_text_and_the_session_say() {
    let rig = Rig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fly.toml"));
    let session = recorded(&rig);
    let form = |form: &str| {
        let out = rig.path(&format!("decodes.{form}"));
        let mut command = haltere(["export", session.to_str().unwrap(), "--to", form, "--out"]);
        let said = Process::start("export", command.arg(&out)).finish().code(0).out;
        assert!(said.contains(" rows "), "{said}");
        assert!(!out.with_extension(format!("{form}.part")).exists());
        out
    };
    let [parquet, csv, npy] = ["parquet", "csv", "npy"].map(form);
    let Some(python) = python() else { return };
    let mut command = Command::new(python);
    let compared =
        Process::start("pyarrow", command.args(["-c", COMPARE]).args([&parquet, &csv, &npy])).finish().code(0);
    let found: Value = serde_json::from_str(&compared.out).unwrap();

    let expected = sequence(&session);
    assert!(expected.len() > 350, "{}", expected.len());
    assert_eq!(found["seq"], Value::from(expected.clone()));
    for (column, kind) in [
        ("seq", "uint64"),
        ("t_device_ns", "int64"),
        ("action", "string"),
        ("confidence", "float"),
        ("total_us", "double"),
        ("e63", "float"),
    ] {
        assert_eq!(found["types"][column], kind, "{column}");
    }
    let nulls = |column: &str| found["nulls"][column].as_u64().unwrap() as usize;
    assert_eq!((nulls("seq"), nulls("quality"), nulls("e0")), (0, 0, 0));
    assert!(nulls("confidence") > 0 && nulls("confidence") < expected.len(), "the warm-up has none");
    let manifest: toml::Table = std::fs::read_to_string(&rig.model).unwrap().parse().unwrap();
    let about = &found["about"];
    assert_eq!((&about["model"], &about["haltere"]), (&"fly".into(), &env!("CARGO_PKG_VERSION").into()), "{about}");
    assert_eq!(about["model_sha256"].as_str(), manifest["sha256"].as_str());
    assert_eq!(
        (&found["compression"], found["created_by"].as_str().unwrap().starts_with("haltere ")),
        (&"SNAPPY".into(), true)
    );
}

#[test]
fn what_is_no_session_and_a_folder_that_is_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.mcap");
    std::fs::write(&file, b"no session").unwrap();
    let mut command = haltere(["export", file.to_str().unwrap(), "--to", "parquet", "--out", "x.parquet"]);
    Process::start("export", &mut command).finish().code(6).says(&["no.mcap"]);
}
