//! Embeddings into a `.npy` file, row by row, with an optional table beside it.
//!
//! Why it exists: `haltere embed` must hand numpy what the daemon would have published. What it must never do: hold the
//! recording in memory, or leave half a file under the name of a whole one.
//!
//! Rows go to `<path>.part`; only an orderly end gives the file its name. The row count in the header is brought up to date
//! every [`ROWS_PER_PATCH`] rows, so the `.part` of a killed run opens in numpy with all rows but the last few.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Sink, SinkError};
use crate::frame::{Decode, Quality};
use crate::wire::decode::largest;

/// Rows between two updates of the header.
pub const ROWS_PER_PATCH: u64 = 256;
/// Bytes before the first value; numpy asks for a multiple of 64.
const HEADER_BYTES: usize = 128;
/// Head of the table.
const COLUMNS: &str = "frame,quality,shift_dy_px,shift_dx_px,shift_peak,action,confidence,novelty";

/// Writes every decode as one row of a float32 array of shape (rows, embedding).
pub struct NpySink {
    array: Part,
    table: Option<Part>,
    embedding: usize,
    labels: Vec<String>,
    trained: bool,
    rows: u64,
    row: Vec<u8>,
    done: bool,
}

impl NpySink {
    /// Opens `<path>.part`, and `<table>.part` when a table is asked for. `labels` are the model's, unquoted; only of a
    /// trained model is the novelty written.
    ///
    /// # Errors
    /// When a file cannot be created; the message names it.
    pub fn create(
        path: &Path,
        table: Option<&Path>,
        embedding: usize,
        (labels, trained): (&[String], bool),
    ) -> Result<Self, SinkError> {
        let mut array = Part::create(path)?;
        array.write(&header(0, embedding))?;
        let mut table = table.map(Part::create).transpose()?;
        if let Some(table) = &mut table {
            table.write(COLUMNS.as_bytes())?;
            table.write(b"\n")?;
        }
        let labels = labels.iter().map(|label| csv_field(label)).collect();
        Ok(Self {
            array,
            table,
            embedding,
            labels,
            trained,
            rows: 0,
            row: Vec::with_capacity(4 * embedding),
            done: false,
        })
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn write_table(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let (path, file) = (&table.path, &mut table.file);
        let seen = &decode.observation;
        let mut line = || -> std::io::Result<()> {
            write!(file, "{},{},", decode.frame.number, decode.quality.name())?;
            match seen.shift_px {
                Some([dy, dx]) => write!(file, "{dy},{dx},{},", seen.shift_peak)?,
                None => write!(file, ",,,")?,
            }
            let label = decode.action.and_then(|id| self.labels.get(id));
            let confidence = label.and_then(|_| largest(&decode.embedding.probabilities));
            match (label, confidence) {
                (Some(label), Some(confidence)) => write!(file, "{label},{confidence},")?,
                (label, _) => write!(file, "{},,", label.map_or("", |l| l))?,
            }
            // As published: during the warm-up a novelty says nothing.
            match decode.embedding.novelty.filter(|_| self.trained && decode.quality != Quality::Warmup) {
                Some(novelty) => writeln!(file, "{novelty}"),
                None => writeln!(file),
            }
        };
        line().map_err(|e| sink_error(path, &e))
    }

    /// Brings the row count in the header up to date; everything written so far is then readable.
    fn patch(&mut self) -> Result<(), SinkError> {
        let header = header(self.rows, self.embedding);
        self.array.overwrite_start(&header)?;
        self.table.as_mut().map_or(Ok(()), Part::flush)
    }
}

impl Sink for NpySink {
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let values = &decode.embedding.values;
        if values.len() != self.embedding {
            let cause = format!("a decode has {} dimensions, the file has {}", values.len(), self.embedding);
            return Err(SinkError { sink: self.array.path.display().to_string(), cause });
        }
        crate::wire::decode::write_embedding(values, &mut self.row);
        self.array.write(&self.row)?;
        self.rows += 1;
        self.write_table(decode)?;
        if self.rows.is_multiple_of(ROWS_PER_PATCH) { self.patch() } else { Ok(()) }
    }

    fn finish(&mut self, fault: Option<&'static str>) -> Result<(), SinkError> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        self.patch()?;
        if fault.is_some() {
            return Ok(());
        }
        self.array.rename()?;
        self.table.as_mut().map_or(Ok(()), Part::rename)
    }
}

/// A file that gets its name when it is whole.
struct Part {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Part {
    fn create(path: &Path) -> Result<Self, SinkError> {
        let mut part = path.as_os_str().to_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|e| sink_error(&part, &e))?;
        Ok(Self { path: path.to_path_buf(), part, file: BufWriter::with_capacity(64 << 10, file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.file.write_all(bytes).map_err(|e| sink_error(&self.part, &e))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.file.flush().map_err(|e| sink_error(&self.part, &e))
    }

    fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let mut overwrite = || -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(bytes)?;
            self.file.seek(SeekFrom::End(0)).map(|_| ())
        };
        overwrite().map_err(|e| sink_error(&self.part, &e))
    }

    fn rename(&mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.file.get_ref().sync_all().map_err(|e| sink_error(&self.part, &e))?;
        std::fs::rename(&self.part, &self.path).map_err(|e| sink_error(&self.path, &e))
    }
}

fn sink_error(path: &Path, error: &std::io::Error) -> SinkError {
    let cause = format!("cannot be written: {error}; check that the folder exists, may be written to, and has room");
    SinkError { sink: path.display().to_string(), cause }
}

/// The head of a version 1.0 `.npy` file of little-endian float32, C order, shape (rows, columns).
fn header(rows: u64, columns: usize) -> [u8; HEADER_BYTES] {
    let mut bytes = [b' '; HEADER_BYTES];
    bytes[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    bytes[8..10].copy_from_slice(&((HEADER_BYTES - 10) as u16).to_le_bytes());
    let mut text = &mut bytes[10..HEADER_BYTES - 1];
    // 20 digits for each number at most: 117 bytes hold it.
    let _ = write!(text, "{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    bytes[HEADER_BYTES - 1] = b'\n';
    bytes
}

/// A text as one field of a table: quoted when it holds what would end the field.
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::testing::decode;

    fn rows(path: &Path) -> ndarray::Array2<f32> {
        ndarray_npy::read_npy(path).unwrap()
    }

    #[test]
    fn what_was_published_is_what_numpy_would_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("e.npy"), folder.path().join("e.csv"));
        let labels = ["rest".to_string(), "walk, fast".to_string()];
        let mut sink = NpySink::create(&path, Some(&table), 3, (&labels, true)).unwrap();
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
        let mut sink = NpySink::create(&path, None, 2, (&[], false)).unwrap();
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
        let mut sink = NpySink::create(&path, None, 1, (&[], false)).unwrap();
        (0..3).for_each(|i| sink.publish(&decode(i, &[i as f32])).unwrap());
        sink.finish(Some("encode")).unwrap();
        assert_eq!(rows(&folder.path().join("e.npy.part")).dim(), (3, 1));
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error =
            NpySink::create(Path::new("/nowhere/at/all/e.npy"), None, 1, (&[], false)).err().unwrap().to_string();
        assert!(error.contains("/nowhere/at/all/e.npy.part"), "{error}");
    }

    #[test]
    fn the_header_has_room_for_the_largest_numbers() {
        let text = header(u64::MAX, usize::MAX);
        assert!(text.ends_with(b"), }                 \n") || text[..127].ends_with(b" "), "{}", text.escape_ascii());
        assert!(text.windows(5).any(|w| w == b"), } "));
    }
}
