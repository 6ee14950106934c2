//! `Image_*.raw`: the positions of its frames, and the finished file as a source.
//!
//! Why it exists: a finished file and a growing one have the same geometry and must be cut into frames by the same code.
//! What it must never do: take a flyback frame for a plane, or an incomplete frame for a complete one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::frame::{CHANNELS_MAX, Frame, Name, PixelType, Shape};
use crate::source::axes::Asked;
use crate::source::recording::{Axis, Stamper, Walk, choose_plane, file_error};
use crate::source::{About, Next, Source, SourceError};
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
    pub(super) fn new(experiment: &Experiment, channels_max: usize) -> Result<Self, String> {
        let enabled: Vec<usize> = experiment.enabled().collect();
        if enabled.len() > channels_max {
            return Err(format!(
                "{} channels are enabled; at most {CHANNELS_MAX} are read: choose them with --channels, e.g. --channels 0,1",
                enabled.len()
            ));
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
            let bytes = self.layout.bytes();
            let Some(slot) = into.get_mut(index * bytes..(index + 1) * bytes) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            file.read_exact_at(slot, self.place(position, index))?;
            pixels::in_place(&self.layout, slot);
        }
        Ok(())
    }

    /// Is every pixel of the plane at `position` zero?
    ///
    /// # Errors
    /// As [`Stack::read`].
    pub(super) fn is_blank(&mut self, file: &File, position: u64) -> io::Result<bool> {
        for index in 0..self.used.len() {
            let at = self.place(position, index);
            file.read_exact_at(&mut self.payload, at)?;
            if self.payload.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where channel `index` of those used begins.
    fn place(&self, position: u64, index: usize) -> u64 {
        position * self.plane_bytes() + (self.used[index] * self.layout.bytes()) as u64
    }
}

/// Frames of a finished `Image_*.raw`.
pub(super) struct ThorRaw {
    file: File,
    path: PathBuf,
    stack: Stack,
    walk: Walk,
    stamper: Stamper,
    about: About,
    next: usize,
}

impl ThorRaw {
    pub(super) fn open(
        path: &Path,
        experiment: Experiment,
        rate_hz: Option<f64>,
        asked: &Asked,
        source: Name,
    ) -> Result<Self, SourceError> {
        let fail = |cause: String| file_error(path, cause);
        let file = File::open(path).map_err(|e| fail(e.to_string()))?;
        let length = file.metadata().map_err(|e| fail(e.to_string()))?.len();
        let mut stack = Stack::new(&experiment, asked.channels_max()).map_err(fail)?;
        held_agrees(&stack, &experiment, length).map_err(fail)?;
        let mut about = About::default();
        let times = times(&file, &mut stack, &experiment, length, &mut about).map_err(fail)?;
        if let Some(warning) = about.warnings.first().filter(|_| asked.strict) {
            return Err(fail(format!("{warning}; --strict refuses that")));
        }
        let walk =
            choose_plane(Axis::new(experiment.planes, 1), Axis::new(times, stack.cycle), asked.plane).map_err(fail)?;
        let by = if rate_hz.is_some() { "the given rate" } else { BY };
        let rate_hz = rate_hz.or(Some(experiment.frame_rate_hz / walk.step as f64)).filter(|r| *r > 0.0);
        about.by(BY, experiment.planes, times, asked.plane);
        about.fact("channels", stack.used.len(), BY);
        about.fact(
            "channel_names",
            experiment.enabled().map(|c| format!("Chan{}", (b'A' + c as u8) as char)).collect::<Vec<_>>(),
            BY,
        );
        super::tell_averaging(&experiment, &mut about);
        if experiment.flyback > 0 {
            about.fact("flyback_pages_per_volume", experiment.flyback, BY);
        }
        about.maybe("rate_hz", rate_hz, by);
        let stamper = Stamper { source, rate_hz, shape: stack.shape(), pixel_type: PixelType::U16 };
        Ok(Self { file, path: path.into(), stack, walk, stamper, about, next: 0 })
    }
}

/// What decides.
const BY: &str = "Experiment.xml";

/// Whole time points in the file, without a blank end.
fn times(
    file: &File,
    stack: &mut Stack,
    experiment: &Experiment,
    length: u64,
    about: &mut About,
) -> Result<usize, String> {
    let bytes = stack.plane_bytes() * stack.cycle as u64;
    let held = length / bytes;
    if held == 0 {
        return Err(format!(
            "is {length} bytes long, less than one time point of all planes and channels ({bytes} bytes)"
        ));
    }
    let rest = length % bytes;
    if rest > 0 {
        about.warn(format!("the file ends within time point {held}: {rest} of {bytes} bytes are there; it was cut off, or the run was aborted"));
    }
    let cycle = stack.cycle as u64;
    // By the last plane of a time point, so that one that was not finished is left out too.
    let last = experiment.planes as u64 - 1;
    let mut is_blank = |time: u64| {
        stack.is_blank(file, time * cycle + last).map_err(|e| format!("time point {time} cannot be read: {e}"))
    };
    // ThorImage allocates the whole file before a run, and zeros remain where the run was aborted.
    let (mut blank, mut step) = (held, 1);
    while blank > 0 && is_blank(blank.saturating_sub(step))? {
        blank = blank.saturating_sub(step);
        step *= 2;
    }
    let mut filled = blank.saturating_sub(step);
    while blank - filled > 1 {
        let middle = filled + (blank - filled) / 2;
        if is_blank(middle)? { blank = middle } else { filled = middle }
    }
    if blank == 0 {
        about.warn("every frame is zero: nothing was recorded, or the file is not complete");
        return Ok(held as usize);
    }
    if blank < held {
        about.warn(format!(
            "its last {} of {held} time points are all zero and are left out: the file was allocated for a run that was aborted",
            held - blank
        ));
    }
    let planned = experiment.requested.map(|planes| planes / cycle);
    if let Some(planned) = planned.filter(|planned| *planned > blank && blank == held) {
        about.warn(format!("{planned} time points were asked for, {blank} are there: the run was stopped early"));
    }
    Ok(blank as usize)
}

/// Does the length of a complete file fit the number of channels?
fn held_agrees(stack: &Stack, experiment: &Experiment, length: u64) -> Result<(), String> {
    let Some(requested) = experiment.requested.filter(|planes| *planes > 0) else { return Ok(()) };
    let of_one = stack.layout.bytes() as u64;
    let channels = length / of_one / requested;
    let exact = channels.checked_mul(requested).and_then(|n| n.checked_mul(of_one)) == Some(length);
    if exact && channels != stack.held as u64 && (1..=DETECTORS as u64).contains(&channels) {
        return Err(format!(
            "Experiment.xml says {} channel(s) in the file and asks for {requested} planes, but the file has exactly {channels} channel(s) of \
             that many: give its layout yourself (--raw uint16:{channels}x{}x{})",
            stack.held, experiment.height, experiment.width
        ));
    }
    Ok(())
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

    fn about(&self) -> About {
        self.about.clone()
    }
}
