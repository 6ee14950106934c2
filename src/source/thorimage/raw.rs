//! `Image_*.raw`: the positions of its frames, and the finished file as a source.
//!
//! Why it exists: a finished file and a growing one have the same geometry and must be cut into frames by the same code.
//! What it must never do: take a flyback frame for a plane, or an incomplete frame for a complete one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::frame::{CHANNELS_MAX, Frame, Name, PixelType, Shape};
use crate::source::recording::{Axis, Stamper, Walk, choose_plane, file_error};
use crate::source::{Next, Source, SourceError};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

use super::{DETECTORS, Experiment};

/// The planes of a raw file, one after the other, each with all channels in the file.
pub(super) struct Stack {
    /// One channel of one plane.
    layout: Layout,
    /// The channels read, by position in the file.
    used: Vec<usize>,
    /// Channels in the file.
    held: usize,
    /// Planes from one time to the next, flyback included.
    pub(super) cycle: usize,
    payload: Vec<u8>,
}

impl Stack {
    /// # Errors
    /// More channels than are supported.
    pub(super) fn new(experiment: &Experiment) -> Result<Self, String> {
        let enabled: Vec<usize> = experiment.enabled().collect();
        if enabled.len() > CHANNELS_MAX {
            return Err(format!("{} channels are enabled; at most {CHANNELS_MAX} are supported", enabled.len()));
        }
        let (held, used) =
            if experiment.only_enabled { (enabled.len(), (0..enabled.len()).collect()) } else { (DETECTORS, enabled) };
        let shape = Shape::new(1, experiment.height, experiment.width);
        let layout = Layout { shape, pixel_type: PixelType::U16, big_endian: false, order: Order::C };
        let cycle = if experiment.planes > 1 { experiment.planes + experiment.flyback } else { 1 };
        Ok(Self { layout, used, held, cycle, payload: vec![0; layout.bytes()] })
    }

    /// Channels × rows × columns of a plane, of the channels read.
    pub(super) fn shape(&self) -> Shape {
        Shape::new(self.used.len(), self.layout.shape.height, self.layout.shape.width)
    }

    /// Bytes of a plane in the file.
    pub(super) fn plane_bytes(&self) -> u64 {
        (self.layout.bytes() * self.held) as u64
    }

    /// Reads the plane at `position`.
    ///
    /// # Errors
    /// A file that ends before the plane, or cannot be read.
    pub(super) fn read(&mut self, file: &File, position: u64, into: &mut [u8]) -> io::Result<()> {
        for index in 0..self.used.len() {
            self.read_channel(file, position, index)?;
            let bytes = self.layout.bytes();
            let Some(slot) = into.get_mut(index * bytes..(index + 1) * bytes) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            pixels::copy(&self.layout, &self.payload, slot);
        }
        Ok(())
    }

    /// Is every pixel of the plane at `position` zero?
    ///
    /// # Errors
    /// As [`Stack::read`].
    pub(super) fn is_blank(&mut self, file: &File, position: u64) -> io::Result<bool> {
        for index in 0..self.used.len() {
            self.read_channel(file, position, index)?;
            if self.payload.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads channel `index` of those used into the payload.
    fn read_channel(&mut self, file: &File, position: u64, index: usize) -> io::Result<()> {
        let at = position * self.plane_bytes() + (self.used[index] * self.layout.bytes()) as u64;
        file.read_exact_at(&mut self.payload, at)
    }
}

/// Frames of a finished `Image_*.raw`.
pub(super) struct ThorRaw {
    file: File,
    path: PathBuf,
    stack: Stack,
    walk: Walk,
    stamper: Stamper,
    next: usize,
}

impl ThorRaw {
    pub(super) fn open(
        path: &Path,
        experiment: Experiment,
        rate_hz: Option<f64>,
        plane: Option<u64>,
        source: Name,
    ) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|e| file_error(path, e.to_string()))?;
        let length = file.metadata().map_err(|e| file_error(path, e.to_string()))?.len();
        let stack = Stack::new(&experiment).map_err(|cause| file_error(path, cause))?;
        let bytes = stack.plane_bytes() * stack.cycle as u64;
        let times = (length / bytes) as usize;
        if times == 0 {
            let cause =
                format!("is {length} bytes long, less than one time point of all planes and channels ({bytes} bytes)");
            return Err(file_error(path, cause));
        }
        let walk = choose_plane(Axis::new(experiment.planes, 1), Axis::new(times, stack.cycle), plane)
            .map_err(|c| file_error(path, c))?;
        let rate_hz = rate_hz.or(Some(experiment.frame_rate_hz / walk.step as f64)).filter(|r| *r > 0.0);
        let stamper = Stamper { source, rate_hz, shape: stack.shape(), pixel_type: PixelType::U16 };
        Ok(Self { file, path: path.into(), stack, walk, stamper, next: 0 })
    }
}

impl Source for ThorRaw {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.walk.count {
            return Ok(Next::End);
        }
        self.stamper.stamp(self.next as u64, &self.path, into)?;
        let position = (self.walk.first + self.next * self.walk.step) as u64;
        let read = self.stack.read(&self.file, position, into.bytes_mut());
        read.map_err(|e| file_error(&self.path, format!("frame {} cannot be read: {e}", self.next)))?;
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.stamper.frame_bytes()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.walk.count as u64)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.stamper.rate_hz
    }
}
