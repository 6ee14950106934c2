//! Who says what the animal did: `frame,label` or `start_s,stop_s,label`, by the numbers of the recorded frames.
//!
//! Why it exists: `calibrate` learns from such a file and `watch` compares with it. What it must never do: decide between two
//! labels of one frame, or drop an entry that does not fit without a word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::manifest::LABEL_BYTES_MAX;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_or_pipe};

/// Largest file read, bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// A label file, line by line.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    line: u64,
    span: Span,
    label: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Span {
    Frame(u64),
    /// From, up to and without, s.
    Seconds(f64, f64),
}

/// A label file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct LabelsError {
    /// Which file.
    pub path: PathBuf,
    /// Which line, why, and what would be right.
    pub cause: String,
}

impl HasExitCode for LabelsError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Source
    }
}

impl Labels {
    /// Reads a CSV file with the columns `frame,label` or `start_s,stop_s,label`, in any order, others ignored. Rows whose
    /// label is empty say nothing and are passed over.
    ///
    /// # Errors
    /// [`LabelsError`] with the line.
    pub fn read(path: &Path) -> Result<Self, LabelsError> {
        let failed = |cause: String| LabelsError { path: path.into(), cause };
        let bytes = read_or_pipe(path, Bound::new("a label file", FILE_BYTES_MAX)).map_err(|e| failed(e.reason()))?;
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes.as_slice());
        let columns = Columns::find(reader.headers().map_err(|e| failed(e.to_string()))?).map_err(failed)?;
        let mut entries = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| failed(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            entries.extend(columns.entry(&record, line).map_err(|cause| failed(format!("line {line}: {cause}")))?);
        }
        if entries.is_empty() {
            return Err(failed("holds no label".into()));
        }
        Ok(Self { path: path.into(), entries })
    }

    /// The label of each frame that has one. `known` are all labels there may be, `frames` the numbers of the recording's
    /// frames (first, last), `rate_hz` its frames per second: frame `n` is at `n / rate_hz`.
    ///
    /// # Errors
    /// [`LabelsError`] for a label that is not known, for an entry outside the recording, and for two labels of one frame.
    pub fn by_frame(
        &self,
        known: &[String],
        (first, last): (u64, u64),
        rate_hz: f64,
    ) -> Result<BTreeMap<u64, usize>, LabelsError> {
        let mut at = BTreeMap::new();
        for Entry { line, span, label } in &self.entries {
            let failed =
                |cause: String| LabelsError { path: self.path.clone(), cause: format!("line {line}: {cause}") };
            let class = known
                .iter()
                .position(|name| name == label)
                .ok_or_else(|| failed(format!("{label:?} is no label of the model; it knows {}", known.join(", "))))?;
            let (from, to) = match *span {
                Span::Frame(frame) => (frame, frame + 1),
                Span::Seconds(start, stop) => ((start * rate_hz).ceil() as u64, (stop * rate_hz).ceil() as u64),
            };
            if from < first || to > last + 1 {
                let (begin, end) = (first as f64 / rate_hz, (last + 1) as f64 / rate_hz);
                return Err(failed(match span {
                    Span::Frame(frame) => {
                        format!("frame {frame} is outside the recording, which has {first} to {last}")
                    }
                    Span::Seconds(start, stop) => format!(
                        "{start} to {stop} s is outside the recording, which lasts from {begin} to {end} s at {rate_hz} Hz"
                    ),
                }));
            }
            for frame in from..to {
                let other = at.insert(frame, class).filter(|other| *other != class);
                if let Some(other) = other {
                    return Err(failed(format!("frame {frame} is {label:?} and also {:?}", known[other])));
                }
            }
        }
        Ok(at)
    }

    /// The label of each frame, whatever the labels are: only of a file by frame.
    ///
    /// # Errors
    /// [`LabelsError`] for a file by seconds, and for two labels of one frame.
    pub fn texts_by_frame(self) -> Result<BTreeMap<u64, String>, LabelsError> {
        let mut at: BTreeMap<u64, String> = BTreeMap::new();
        for Entry { line, span, label } in self.entries {
            let failed =
                |cause: String| LabelsError { path: self.path.clone(), cause: format!("line {line}: {cause}") };
            let Span::Frame(frame) = span else {
                return Err(failed("is in seconds; a truth is by frame, with the columns `frame,label`".into()));
            };
            match at.get(&frame) {
                Some(other) if *other != label => {
                    return Err(failed(format!("frame {frame} is {label:?} and also {other:?}")));
                }
                _ => drop(at.insert(frame, label)),
            }
        }
        Ok(at)
    }
}

/// Where the columns stand.
struct Columns {
    label: usize,
    frame: Option<usize>,
    seconds: Option<(usize, usize)>,
}

impl Columns {
    fn find(header: &csv::StringRecord) -> Result<Self, String> {
        let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        let (frame, seconds) = (column("frame"), column("start_s").zip(column("stop_s")));
        let label = column("label").filter(|_| frame.is_some() || seconds.is_some());
        let label = label.ok_or_else(|| {
            let found: Vec<&str> = header.iter().collect();
            format!("its columns are {}; needed are `frame,label` or `start_s,stop_s,label`", found.join(", "))
        })?;
        Ok(Self { label, frame, seconds })
    }

    fn entry(&self, record: &csv::StringRecord, line: u64) -> Result<Option<Entry>, String> {
        let text = |column: usize| record.get(column).unwrap_or_default();
        let label = text(self.label).to_owned();
        if label.is_empty() {
            return Ok(None);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(format!("a label of {} bytes; at most {LABEL_BYTES_MAX}", label.len()));
        }
        let span = match (self.frame, self.seconds) {
            (Some(frame), _) => {
                let frame = text(frame);
                Span::Frame(frame.parse().map_err(|_| format!("{frame:?} is no frame number"))?)
            }
            (None, Some((start, stop))) => {
                let seconds = |column| {
                    let number = text(column).parse::<f64>().ok().filter(|s| (0.0..1e9).contains(s));
                    number.ok_or_else(|| format!("{:?} is no time in seconds, 0 or later", text(column)))
                };
                let (start, stop) = (seconds(start)?, seconds(stop)?);
                if stop <= start {
                    return Err(format!("it stops at {stop} s, not after its start at {start} s"));
                }
                Span::Seconds(start, stop)
            }
            (None, None) => return Err("neither frame nor seconds".into()),
        };
        Ok(Some(Entry { line, span, label }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Labels::read(file.path()).map_err(|e| e.to_string())
    }

    fn known() -> Vec<String> {
        ["rest", "walk"].map(String::from).to_vec()
    }

    fn by_frame(text: &str) -> Result<Vec<(u64, usize)>, String> {
        let found = read(text)?.by_frame(&known(), (10, 19), 10.0);
        found.map(|at| at.into_iter().collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn frames_and_seconds_name_the_same_frames() {
        let frames = by_frame("frame,label\n12,walk\n10,rest\n13,\n").unwrap();
        assert_eq!(frames, [(10, 0), (12, 1)]);
        let seconds = by_frame("label,start_s,stop_s,who\nwalk,1.15,1.4,me\nrest,1.4,2.0,me\n").unwrap();
        assert_eq!(seconds, [(12, 1), (13, 1), (14, 0), (15, 0), (16, 0), (17, 0), (18, 0), (19, 0)]);
    }

    #[test]
    fn every_way_to_be_wrong_is_told_with_its_line() {
        for (text, words) in [
            ("frame,label\n12,fly\n", &["line 2", "\"fly\" is no label of the model", "rest, walk"][..]),
            ("frame,label\n12,rest\n20,walk\n", &["line 3", "frame 20 is outside", "10 to 19"]),
            ("frame,label\n9,rest\n", &["frame 9 is outside"]),
            ("start_s,stop_s,label\n1.5,2.01,rest\n", &["1.5 to 2.01 s is outside", "1 to 2 s at 10 Hz"]),
            ("start_s,stop_s,label\n1.5,1.5,rest\n", &["line 2", "not after its start"]),
            ("start_s,stop_s,label\n1.5,NaN,rest\n", &["\"NaN\" is no time"]),
            ("frame,label\n12,rest\n12,walk\n", &["line 3", "frame 12 is \"walk\" and also \"rest\""]),
            ("frame,label\n-1,rest\n", &["\"-1\" is no frame number"]),
            ("frame,action\n1,rest\n", &["its columns are frame, action", "start_s,stop_s,label"]),
            ("frame,label\n1,\n", &["holds no label"]),
            ("", &["needed are"]),
        ] {
            let error = by_frame(text).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word:?} is not in {error}");
            }
        }
        let long = format!("frame,label\n1,{}\n", "x".repeat(65));
        assert!(by_frame(&long).unwrap_err().contains("65 bytes; at most 64"));
    }

    #[test]
    fn a_truth_is_by_frame_and_takes_any_word() {
        let at = read("frame,label\n1,fly\n1,fly\n7,walk\n").unwrap().texts_by_frame().unwrap();
        assert_eq!(at.into_iter().collect::<Vec<_>>(), [(1, "fly".to_owned()), (7, "walk".to_owned())]);
        let error = read("start_s,stop_s,label\n1,2,rest\n").unwrap().texts_by_frame().unwrap_err().to_string();
        assert!(error.contains("is in seconds"), "{error}");
    }
}
