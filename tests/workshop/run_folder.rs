//! The run's folder as other programs read it.
//!
//! Method: a run is written through the library as training writes it, stopped and resumed. Its event files are read by
//! `tests/support/read_events.py`, which shares no code with the writer and needs nothing but Python; `metrics.csv` is read by
//! the csv crate.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use crate::support::process as support;

use std::path::Path;
use std::process::Command;

use haltere::report::provenance::Provenance;
use haltere::train::metrics_log::Column;
use haltere::train::run_folder::{Opening, RunFolder};

const COLUMNS: [Column; 2] =
    [Column { name: "loss/train", unit: "nats" }, Column { name: "similarity/positive", unit: "" }];

/// Three steps, a stop, and a resume after the second of them.
fn write_run(root: &Path) -> RunFolder {
    let run = RunFolder::create(root, "first", Opening::New).unwrap();
    run.write_provenance(&Provenance::now("ab12", 1)).unwrap();
    let mut metrics = run.metrics(&COLUMNS, None).unwrap();
    for (step, loss) in [(100, 4.5), (200, 3.25), (300, 3.0)] {
        metrics.record(step, &[Some(loss), None]).unwrap();
    }
    drop(metrics);
    let run = RunFolder::create(root, "first", Opening::Resume).unwrap();
    run.note_resumption(200).unwrap();
    run.metrics(&COLUMNS, Some(200)).unwrap().record(300, &[Some(2.5), Some(0.75)]).unwrap();
    run
}

#[test]
fn an_independent_reader_finds_every_scalar_and_both_starts() {
    let root = tempfile::tempdir().unwrap();
    let run = write_run(root.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/read_events.py");
    let Ok(output) = Command::new("python3").arg(script).arg(run.path().join("tensorboard")).output() else {
        return support::skip("no python3 in the path").unwrap_or(());
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "version brain.Event:2\nscalar 100 loss/train 4.5\nscalar 200 loss/train 3.25\nscalar 300 loss/train 3.0\n\
                    version brain.Event:2\nstart 201\nscalar 300 loss/train 2.5\nscalar 300 similarity/positive 0.75\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn the_table_holds_each_step_once_and_a_hole_is_an_empty_cell() {
    let root = tempfile::tempdir().unwrap();
    let run = write_run(root.path());
    let mut reader = csv::Reader::from_path(run.path().join("metrics.csv")).unwrap();
    let header: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, ["step", "elapsed [s]", "loss/train [nats]", "similarity/positive"]);
    let rows: Vec<Vec<String>> =
        reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    let told: Vec<_> = rows.iter().map(|r| (r[0].as_str(), r[2].as_str(), r[3].as_str())).collect();
    assert_eq!(told, [("100", "4.5", ""), ("200", "3.25", ""), ("300", "2.5", "0.75")]);
    assert_eq!(run.provenance().unwrap().resumed.len(), 1);
}
