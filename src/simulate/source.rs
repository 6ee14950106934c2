//! A simulated animal as a source of frames, with known truth.
//!
//! Why it exists: the accuracy of a running daemon can be measured, because the same specification gives frames here and the truth
//! there. What it must never do: differ from the written recording by a single count.

use std::path::Path;

use crate::frame::{Clock, DeviceTime, Frame, FrameInfo, Marks, Name, PixelType, Shape, Stamp};
use crate::source::{Next, Source, SourceError};
use crate::sys::clock::now_ns;

use super::recipe::RecipeError;
use super::spec::Spec;
use super::trial::Trial;

/// The frames of one simulated recording; they end when it ends.
pub struct SimulatedSource {
    trial: Trial,
    shape: Shape,
    counts: Vec<u16>,
    next: usize,
    source: Name,
    series: Option<Name>,
}

impl SimulatedSource {
    /// Opens the recording that `word` specifies (`sim:seed=7,animal=9,trial=1`); frames carry `source` as the rig's name.
    ///
    /// # Errors
    /// What is wrong with the specification.
    pub fn open(word: &Path, source: Name) -> Result<Self, SourceError> {
        let spec: Result<Spec, RecipeError> = word.to_string_lossy().parse();
        let spec = spec.map_err(|e| SourceError::File { path: word.into(), cause: e.to_string() })?;
        Ok(Self::new(&spec, source))
    }

    /// The recording that `spec` means.
    pub fn new(spec: &Spec, source: Name) -> Self {
        let trial = Trial::new(spec);
        let side = trial.side_px();
        let shape = Shape::new(2, side, side);
        Self { trial, shape, counts: vec![0; shape.pixels()], next: 0, source, series: spec.series().parse().ok() }
    }
}

impl Source for SimulatedSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.trial.frames() {
            return Ok(Next::End);
        }
        let bytes = self.frame_bytes_max();
        if bytes > into.capacity_bytes() {
            let cause = format!("a frame is {bytes} bytes, but a slot holds {}", into.capacity_bytes());
            return Err(SourceError::File { path: "sim:".into(), cause });
        }
        let begin_s = self.next as f64 / self.trial.rate_hz();
        let ns = (begin_s * 1e9).round() as i64;
        self.trial.expose(self.next, &mut self.counts);
        into.info = FrameInfo {
            shape: self.shape,
            pixel_type: PixelType::U16,
            number: self.next as u64,
            gap: 0,
            ordinal_offset: 0,
            t_device: Some(DeviceTime { ns, clock: Clock::Device, stamp: Some(Stamp::Start) }),
            t_received_ns: now_ns(),
            t_live_ns: None,
            age_ns: None,
            unpublished: false,
            source: self.source,
            series: self.series,
            series_began: self.next == 0,
            marks: Marks::default(),
            animal: None,
        };
        into.bytes_mut().copy_from_slice(bytemuck::cast_slice(&self.counts));
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.shape.pixels() * PixelType::U16.bytes()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.trial.frames() as u64)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        Some(self.trial.rate_hz())
    }
}
