//! Embeddings into a `.npy` file, row by row, with an optional table beside it.
//!
//! Why it exists: `haltere embed` must hand numpy what the daemon would have published. What it must never do: hold the
//! recording in memory, or leave half a file under the name of a whole one.
//!
//! Rows go to `<path>.part`; only an orderly end gives the file its name, and only if a decode after the warm-up is in it. The row count in the header is brought up to date
//! every [`ROWS_PER_PATCH`] rows, so the `.part` of a killed run opens in numpy with all rows but the last few.

use std::io::Write;
use std::path::Path;

use super::{Sink, SinkError};
use crate::frame::{Decode, ModelTag, Quality};
use crate::sys::csv::csv_field;
use crate::sys::files::FileError;
use crate::sys::npy::header;
use crate::sys::partial_file::PartialFile;
use crate::wire::decode::confidence;

/// Rows between two updates of the header.
pub const ROWS_PER_PATCH: u64 = 256;
/// Head of the table.
const COLUMNS: &str = "frame,quality,shift_dy_px,shift_dx_px,shift_peak,action,confidence,novelty";

/// Name of the column of a continuous output, in every table.
pub fn of_output(name: &str) -> String {
    format!("output_{name}")
}

impl From<FileError> for SinkError {
    fn from(error: FileError) -> Self {
        Self { sink: error.path.display().to_string(), cause: error.reason() }
    }
}

/// Rows of a float32 array of shape (rows, dimensions).
pub struct Rows {
    array: PartialFile,
    dimensions: usize,
    rows: u64,
    row: Vec<u8>,
}

impl Rows {
    /// Opens `<path>.part`.
    ///
    /// # Errors
    /// When the file cannot be created; the message names it.
    pub fn create(path: &Path, dimensions: usize) -> Result<Self, SinkError> {
        let mut array = PartialFile::create(path)?;
        array.append(&header("<f4", &[0, dimensions as u64]))?;
        Ok(Self { array, dimensions, rows: 0, row: Vec::with_capacity(4 * dimensions) })
    }

    /// Adds a row. True when the header was brought up to date with it.
    ///
    /// # Errors
    /// A row of another length, or a disk that refuses.
    pub fn push(&mut self, values: &[f32]) -> Result<bool, SinkError> {
        if values.len() != self.dimensions {
            let cause = format!("a decode has {} dimensions, the file has {}", values.len(), self.dimensions);
            return Err(SinkError { sink: self.array.path().display().to_string(), cause });
        }
        crate::wire::decode::write_embedding(values, &mut self.row);
        self.array.append(&self.row)?;
        self.rows += 1;
        let patched = self.rows.is_multiple_of(ROWS_PER_PATCH);
        if patched { self.patch().map(|()| true) } else { Ok(false) }
    }

    /// Brings the row count in the header up to date; everything written so far is then readable.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn patch(&mut self) -> Result<(), SinkError> {
        Ok(self.array.overwrite_start(&header("<f4", &[self.rows, self.dimensions as u64]))?)
    }

    /// The file is whole: it gets its name.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.patch()?;
        Ok(self.array.rename()?)
    }
}

/// Writes every decode as one row of an array, and of a table when one is asked for.
pub struct NpySink {
    array: Rows,
    table: Option<PartialFile>,
    labels: Vec<String>,
    outputs: usize,
    trained: bool,
    /// A decode after the warm-up is among the rows.
    warm: bool,
    done: bool,
}

impl NpySink {
    /// Opens `<path>.part`, and `<table>.part` when a table is asked for. `model` says what the table's columns mean; only of a
    /// trained model are novelty and outputs written.
    ///
    /// # Errors
    /// When a file cannot be created; the message names it.
    pub fn create(path: &Path, table: Option<&Path>, model: &ModelTag) -> Result<Self, SinkError> {
        let ModelTag { embedding, labels, outputs, trained, .. } = model;
        let array = Rows::create(path, *embedding)?;
        let mut table = table.map(PartialFile::create).transpose()?;
        if let Some(table) = &mut table {
            table.append(COLUMNS.as_bytes())?;
            let named = outputs.iter().map(|name| format!(",{}", csv_field(&of_output(name))));
            table.append(named.collect::<String>().as_bytes())?;
            table.append(b"\n")?;
        }
        let labels = labels.iter().map(|label| csv_field(label).into_owned()).collect();
        Ok(Self { array, table, labels, outputs: outputs.len(), trained: *trained, warm: false, done: false })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.array.rows
    }

    fn write_table(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let seen = &decode.observation;
        // As published: during the warm-up neither novelty nor outputs say anything.
        let tells = self.trained && decode.quality != Quality::Warmup;
        let (labels, outputs) = (&self.labels, self.outputs);
        let line = |file: &mut PartialFile| -> std::io::Result<()> {
            write!(file, "{},{},", decode.frame.number, decode.quality.name())?;
            match seen.shift_px {
                Some([dy, dx]) => write!(file, "{dy},{dx},{},", seen.shift_peak)?,
                None => write!(file, ",,,")?,
            }
            let label = decode.published_action().and_then(|id| labels.get(id));
            let confidence = label.and_then(|_| confidence(&decode.embedding.probabilities, decode.published_action()));
            match (label, confidence) {
                (Some(label), Some(confidence)) => write!(file, "{label},{confidence},")?,
                (label, _) => write!(file, "{},,", label.map_or("", |l| l))?,
            }
            if let Some(novelty) = decode.embedding.novelty.filter(|_| tells) {
                write!(file, "{novelty}")?;
            }
            for output in 0..outputs {
                match decode.embedding.outputs.get(output).filter(|_| tells) {
                    Some(value) => write!(file, ",{value}")?,
                    None => write!(file, ",")?,
                }
            }
            writeln!(file)
        };
        line(table).map_err(|e| table.error(e).into())
    }
}

impl Sink for NpySink {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let patched = self.array.push(&decode.embedding.values)?;
        self.warm |= decode.quality != Quality::Warmup;
        self.write_table(decode)?;
        match &mut self.table {
            Some(table) if patched => Ok(table.hand_on()?),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, fault: Option<&'static str>) -> Result<(), SinkError> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        if fault.is_some() || !self.warm {
            self.array.patch()?;
            return Ok(self.table.as_mut().map_or(Ok(()), PartialFile::hand_on)?);
        }
        self.array.finish()?;
        Ok(self.table.as_mut().map_or(Ok(()), PartialFile::rename)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(embedding: usize, labels: &[String], trained: bool) -> ModelTag {
        ModelTag { embedding, labels: labels.to_vec(), trained, ..ModelTag::default() }
    }
    use crate::publish::testing::decode;

    fn rows(path: &Path) -> ndarray::Array2<f32> {
        ndarray_npy::read_npy(path).unwrap()
    }

    #[test]
    fn what_was_published_is_what_numpy_would_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("e.npy"), folder.path().join("e.csv"));
        let labels = ["rest".to_string(), "walk, fast".to_string()];
        let mut sink = NpySink::create(&path, Some(&table), &model(3, &labels, true)).unwrap();
        for number in 0..1000u32 {
            let mut decode = decode(u64::from(number), &[number as f32, 0.5, -1.0]);
            decode.action = (number > 0).then_some(1);
            decode.embedding.probabilities = vec![0.25, 0.75];
            decode.embedding.novelty = (number > 1).then_some(0.125);
            decode.observation.shift_px = (number > 0).then_some([0.25, -1.5]);
            decode.observation.shift_peak = 0.5;
            sink.publish(&decode).unwrap();
        }
        assert!(!path.exists(), "half a file has not yet the name of a whole one");
        sink.finish(None).unwrap();
        let array = rows(&path);
        assert_eq!(array.dim(), (1000, 3));
        assert!((0..1000).all(|i| array.row(i).to_vec() == [i as f32, 0.5, -1.0]));
        let text = std::fs::read_to_string(&table).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (1001, COLUMNS, "0,ok,,,,,,"));
        assert_eq!(lines[2], "1,ok,0.25,-1.5,0.5,\"walk, fast\",0.75,");
        assert_eq!(lines[3], "2,ok,0.25,-1.5,0.5,\"walk, fast\",0.75,0.125");
    }

    #[test]
    fn a_killed_run_leaves_a_part_that_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npy");
        let mut sink = NpySink::create(&path, None, &model(2, &[], false)).unwrap();
        (0..ROWS_PER_PATCH + 50).for_each(|i| sink.publish(&decode(i, &[i as f32, 1.0])).unwrap());
        std::mem::forget(sink);
        let array = rows(&folder.path().join("e.npy.part"));
        assert_eq!(array.dim(), (ROWS_PER_PATCH as usize, 2));
        assert_eq!(array[[255, 0]], 255.0);
        assert!(!path.exists());
    }

    #[test]
    fn a_fault_keeps_every_row_under_the_name_of_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npy");
        let mut sink = NpySink::create(&path, None, &model(1, &[], false)).unwrap();
        (0..3).for_each(|i| sink.publish(&decode(i, &[i as f32])).unwrap());
        sink.finish(Some("encode")).unwrap();
        assert_eq!(rows(&folder.path().join("e.npy.part")).dim(), (3, 1));
        assert!(!path.exists());
    }

    #[test]
    fn rows_of_the_warm_up_alone_stay_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.npy");
        let mut sink = NpySink::create(&path, None, &model(1, &[], false)).unwrap();
        sink.publish(&Decode { quality: Quality::Warmup, ..decode(0, &[1.0]) }).unwrap();
        sink.finish(None).unwrap();
        assert_eq!(rows(&folder.path().join("e.npy.part")).dim(), (1, 1));
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error =
            NpySink::create(Path::new("/nowhere/at/all/e.npy"), None, &model(1, &[], false)).err().unwrap().to_string();
        assert!(error.contains("/nowhere/at/all/e.npy.part"), "{error}");
    }
}
