//! Markers that other programs send over Lab Streaming Layer.
//!
//! Why it exists: stimulus programs of many labs say what they do as LSL markers, with times. What it must never do: guess a time: a marker's is
//! that of its sender's stamp, brought to this machine's clock by liblsl's own measurement.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::library::{Library, Reader};
use crate::sys::clock::now_ns;

/// How long one call waits at most, s.
const WAIT_S: f64 = 0.25;
/// The first measurement of a clock takes longer.
const CORRECTION_S: f64 = 2.0;
/// How often it is measured again.
const CORRECTION_EVERY: Duration = Duration::from_secs(10);

/// A text and when it was stamped, `CLOCK_MONOTONIC`, ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// What its sender wrote.
    pub text: String,
    /// When; `None` as long as its sender's clock is not known.
    pub t_ns: Option<i64>,
}

/// The stream of one name, whenever it is there.
pub struct MarkerReader {
    library: Arc<Library>,
    name: String,
    reader: Option<Reader>,
    correction_s: Option<f64>,
    corrected: Instant,
}

impl MarkerReader {
    /// Loads liblsl; the stream may come later.
    ///
    /// # Errors
    /// When liblsl is missing; the message says where it was searched for and what to do.
    pub fn open(library: Option<&Path>, name: &str) -> Result<Self, String> {
        let library = Library::open(library)?;
        let corrected = Instant::now();
        Ok(Self { library, name: name.to_owned(), reader: None, correction_s: None, corrected })
    }

    /// The next marker, after a quarter of a second at most; a stream that is gone is looked for again.
    ///
    /// # Errors
    /// A stream of this name that holds no markers.
    pub fn read(&mut self) -> Result<Option<Marker>, String> {
        let Some(reader) = &mut self.reader else {
            self.reader = Reader::find(&self.library, &self.name, WAIT_S)?;
            self.correction_s = self.reader.as_mut().and_then(|reader| reader.correction(CORRECTION_S));
            self.corrected = Instant::now();
            return Ok(None);
        };
        if self.corrected.elapsed() > CORRECTION_EVERY {
            self.correction_s = reader.correction(WAIT_S).or(self.correction_s);
            self.corrected = Instant::now();
        }
        let Ok(next) = reader.next(WAIT_S) else {
            self.reader = None;
            return Ok(None);
        };
        let Some((text, stamp_s)) = next else { return Ok(None) };
        let (ours_ns, clock_s) = (now_ns(), self.library.clock());
        let t_ns = self.correction_s.map(|more| ours_ns as i64 - ((clock_s - stamp_s - more) * 1e9) as i64);
        Ok(Some(Marker { text, t_ns }))
    }
}
