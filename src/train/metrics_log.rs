//! The metrics of a run, step by step: `metrics.csv` for people and scripts, the same scalars for TensorBoard.
//!
//! Why it exists: the loss must be visible during training, and readable years later without TensorBoard. What it must never do:
//! keep a row in memory (a kill loses at most the row being written), or hold rows of steps that a resumed run repeats.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::report::tensorboard::Events;
use crate::sys::calendar::unix_s;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_text_bounded, write_whole};

/// A million rows of a hundred columns.
const METRICS: Bound = Bound::new("metrics.csv", 1 << 30);

/// The first columns of every run.
const FIXED: [&str; 2] = ["step", "elapsed [s]"];

/// A column of `metrics.csv` and a tag of TensorBoard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// With the group TensorBoard shows it in: `loss/train`.
    pub name: &'static str,
    /// `nats`, `frames/s`; empty for a pure number.
    pub unit: &'static str,
}

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file system refused.
    #[error("{}: {cause}; check that it may be read and written, and that the disk has room", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A resumed run would write other columns.
    #[error("{}: its columns are `{found}`, but this run writes `{expected}`: start a new run instead of resuming", path.display())]
    Columns {
        /// Which file.
        path: PathBuf,
        /// Header of the file.
        found: String,
        /// Header of this run.
        expected: String,
    },
    /// A row with another number of values than there are columns.
    #[error("{}: a row of {found} values for {expected} columns", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Values given.
        found: usize,
        /// Columns declared.
        expected: usize,
    },
}

impl HasExitCode for MetricsError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { .. } | Self::Columns { .. } | Self::Row { .. } => ExitCode::Sink,
        }
    }
}

/// The open files of a run's metrics.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: Events,
    columns: Vec<Column>,
    started: Instant,
    elapsed_before_s: f64,
}

impl Metrics {
    /// Opens `folder/metrics.csv` and an event file in `folder/tensorboard`. With `after_step`, rows of later steps (and an
    /// incomplete last row) are removed and writing continues after them; without it, both start empty.
    ///
    /// # Errors
    /// [`MetricsError::Io`]; [`MetricsError::Columns`] when the existing file has other columns.
    pub fn open(folder: &Path, columns: &[Column], after_step: Option<u64>) -> Result<Self, MetricsError> {
        let path = folder.join("metrics.csv");
        let io = |cause| MetricsError::Io { path: path.clone(), cause };
        let header = header(columns);
        let mut elapsed_before_s = 0.0;
        let mut text = header.clone() + "\n";
        if let Some(step) = after_step
            && path.exists()
        {
            let found = read_text_bounded(&path, METRICS).map_err(|error| io(error.cause))?;
            let (kept, elapsed_s) = cut(&found, step);
            let first = kept.lines().next().unwrap_or_default();
            if first != header {
                return Err(MetricsError::Columns { path, found: first.into(), expected: header });
            }
            (text, elapsed_before_s) = (kept, elapsed_s);
        }
        write_whole(&path, text.as_bytes()).map_err(|error| io(error.cause))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        let board = folder.join("tensorboard");
        let events = Events::create(&board, after_step.map(|step| step + 1), unix_s())
            .map_err(|cause| MetricsError::Io { path: board, cause })?;
        Ok(Self { path, file, events, columns: columns.into(), started: Instant::now(), elapsed_before_s })
    }

    /// Writes one row, and the same values to TensorBoard. `values` in the order of the columns; `None` = not measured at this
    /// step (an empty cell).
    ///
    /// # Errors
    /// [`MetricsError::Io`]; [`MetricsError::Row`] for another number of values than columns.
    pub fn record(&mut self, step: u64, values: &[Option<f64>]) -> Result<(), MetricsError> {
        if values.len() != self.columns.len() {
            let (found, expected) = (values.len(), self.columns.len());
            return Err(MetricsError::Row { path: self.path.clone(), found, expected });
        }
        let mut row = format!("{step},{:.3}", self.elapsed_s());
        for value in values {
            row.push(',');
            // The shortest text that reads back as the same number; NaN and inf as NumPy and pandas read them.
            row.extend(value.map(|v| v.to_string()));
        }
        row.push('\n');
        // One unbuffered write: the kernel has the row when the call returns.
        self.file.write_all(row.as_bytes()).map_err(|cause| MetricsError::Io { path: self.path.clone(), cause })?;
        let measured: Vec<(&str, f64)> =
            self.columns.iter().zip(values).filter_map(|(column, value)| value.map(|v| (column.name, v))).collect();
        self.events
            .scalars(unix_s(), step, &measured)
            .map_err(|cause| MetricsError::Io { path: self.events.path().into(), cause })
    }

    /// Seconds the run has taken, without the pauses between interruption and resumption.
    pub fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.started.elapsed().as_secs_f64()
    }
}

fn header(columns: &[Column]) -> String {
    let own =
        columns.iter().map(|c| if c.unit.is_empty() { c.name.into() } else { format!("{} [{}]", c.name, c.unit) });
    FIXED.iter().map(|&name| name.to_owned()).chain(own).collect::<Vec<_>>().join(",")
}

/// The header and the complete rows up to `step`, and the elapsed seconds of the last of them.
fn cut(text: &str, step: u64) -> (String, f64) {
    let mut elapsed_s = 0.0;
    let mut kept = String::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let mut cells = line.split(',');
        let at = cells.next().and_then(|cell| cell.parse::<u64>().ok());
        let torn = !line.ends_with('\n');
        if index > 0 && (torn || at.is_none_or(|at| at > step)) {
            break;
        }
        elapsed_s = cells.next().and_then(|cell| cell.trim_end().parse().ok()).unwrap_or(elapsed_s);
        kept.push_str(line);
    }
    (kept, elapsed_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const COLUMNS: [Column; 2] =
        [Column { name: "loss/train", unit: "nats" }, Column { name: "similarity/positive", unit: "" }];

    fn steps(folder: &Path) -> Vec<u64> {
        let text = fs::read_to_string(folder.join("metrics.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn the_header_has_units_and_a_row_is_in_the_file_when_the_call_returns() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), &COLUMNS, None).unwrap();
        metrics.record(1, &[Some(4.25), None]).unwrap();
        let text = fs::read_to_string(folder.path().join("metrics.csv")).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("step,elapsed [s],loss/train [nats],similarity/positive"));
        let row: Vec<_> = lines.next().unwrap().split(',').collect();
        assert_eq!((row[0], row[2], row[3]), ("1", "4.25", ""));
    }

    #[test]
    fn a_resume_cuts_the_rows_after_its_step_and_a_torn_last_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), &COLUMNS, None).unwrap();
        for step in [10, 20, 30, 40] {
            metrics.record(step, &[Some(1.0), Some(0.5)]).unwrap();
        }
        metrics.file.write_all(b"50,1.0").unwrap();
        drop(metrics);
        let mut metrics = Metrics::open(folder.path(), &COLUMNS, Some(25)).unwrap();
        assert_eq!(steps(folder.path()), [10, 20]);
        metrics.record(26, &[Some(1.0), Some(0.5)]).unwrap();
        assert_eq!(steps(folder.path()), [10, 20, 26]);
    }

    #[test]
    fn a_torn_last_row_of_a_step_to_keep_is_cut_too() {
        assert_eq!(cut("step,elapsed [s]\n1,0.5\n2,0.", 9), ("step,elapsed [s]\n1,0.5\n".into(), 0.5));
    }

    #[test]
    fn a_resume_with_other_columns_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Metrics::open(folder.path(), &COLUMNS, None).unwrap());
        let error = Metrics::open(folder.path(), &COLUMNS[..1], Some(1)).unwrap_err().to_string();
        assert!(error.contains("similarity/positive") && error.contains("new run"), "{error}");
    }

    #[test]
    fn a_row_of_another_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), &COLUMNS, None).unwrap();
        let error = metrics.record(1, &[None]).unwrap_err().to_string();
        assert!(error.contains("1 values for 2 columns"), "{error}");
    }
}
