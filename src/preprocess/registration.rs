//! Rigid sub-pixel registration of a frame to a template.
//!
//! Why it exists: the brain moves, and the encoder must not see it. Frame and template are windowed (flat but for the edges), their
//! low frequencies are correlated within reach, and the peak of the continuous correlation is the shift.
//! What it must never do: allocate after construction, use another frame, or return a value that is not finite.

use super::correlation::{Correlator, Grid, Planes, Reference};
use super::spectrum::Spectrum;
use crate::model::parameters;

/// Displacement of the copies of a template by which a registrar calibrates itself, px.
const CALIBRATION_PX: isize = 2;
/// Determinants of the measured gain that are accepted.
const GAIN: std::ops::Range<f32> = 0.25..1.5;
const IDENTITY: [[f32; 2]; 2] = [[1.0, 0.0], [0.0, 1.0]];

/// Displacement of a frame's content relative to the template.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shift {
    /// Rows, px: positive is down.
    pub dy: f32,
    /// Columns, px: positive is right.
    pub dx: f32,
    /// Likeness to the template, 0 to 1: 1 is a perfect copy, 0 a blank frame.
    pub peak: f32,
    /// The best shift lies on the rim of the search: the true one may be larger.
    pub at_bound: bool,
}

/// Measures the shift of one frame after the other against a template.
pub struct Registrar {
    height: usize,
    width: usize,
    spectrum: Spectrum,
    grid: Grid,
    frame: Planes,
    reference: Option<Reference>,
    spare: Option<Reference>,
    correlator: Correlator,
    offset: f32,
    reach: f32,
    /// From measured to true shift. The window stands still while the content moves, which pulls shifts towards zero by a few
    /// tenths of a per cent, more on small frames; how much depends on the scene, so it is measured on the template itself.
    correction: [[f32; 2]; 2],
    copy: Vec<f32>,
    /// Counts the templates that were set.
    templates: u64,
}

/// The geometry of a registration, for an implementation on a device.
pub(super) struct Blueprint<'a> {
    /// Axes, and the spectrum of an image of ones.
    pub spectrum: &'a Spectrum,
    /// Layout of kept spectra.
    pub grid: &'a Grid,
    /// Largest lag searched, px.
    pub reach: usize,
}

/// The template in use, for an implementation on a device.
pub(super) struct Standard<'a> {
    /// Template spectrum with its weights and energy.
    pub reference: &'a Reference,
    /// Subtracted from every image.
    pub offset: f32,
    /// From measured to true shift.
    pub correction: [[f32; 2]; 2],
}

impl Registrar {
    /// Plans everything for frames of `height` × `width` px (16 to 4096 a side) and takes all memory.
    pub fn new(parameters: &parameters::Registration, height: usize, width: usize) -> Self {
        let spectrum = Spectrum::new(height, width, parameters.frequencies, parameters.smooth_px);
        let grid = Grid::new(&spectrum);
        let correlator = Correlator::new(&grid, parameters.reach_px);
        Self {
            height,
            width,
            frame: grid.planes(),
            reference: None,
            spare: Some(Reference::new(&grid, parameters.smooth_px)),
            reach: correlator.reach as f32,
            correlator,
            offset: 0.0,
            correction: IDENTITY,
            copy: vec![0.0; height * width],
            templates: 0,
            spectrum,
            grid,
        }
    }

    pub(super) fn blueprint(&self) -> Blueprint<'_> {
        Blueprint { spectrum: &self.spectrum, grid: &self.grid, reach: self.correlator.reach }
    }

    /// The template in use, and how many were set so far.
    pub(super) fn standard(&self) -> Option<(Standard<'_>, u64)> {
        let reference = self.reference.as_ref()?;
        Some((Standard { reference, offset: self.offset, correction: self.correction }, self.templates))
    }

    /// Makes `image` (height × width, C order, finite, dark-subtracted light) the template. Allocates nothing.
    pub fn set_template(&mut self, image: &[f32]) {
        self.offset = mean(image);
        self.transform(image);
        if let Some(mut reference) = self.reference.take().or_else(|| self.spare.take()) {
            reference.set(&self.grid, &self.frame);
            self.reference = Some(reference);
        }
        self.calibrate(image);
        self.templates += 1;
    }

    /// Measures displaced copies of the template, and inverts what it finds.
    fn calibrate(&mut self, image: &[f32]) {
        self.correction = IDENTITY;
        let mut copy = std::mem::take(&mut self.copy);
        let mut measure = |dy: isize, dx: isize| {
            displace(&mut copy, image, self.width, dy, dx);
            let shift = self.estimate(&copy);
            [shift.dy, shift.dx]
        };
        let step = CALIBRATION_PX;
        let (down, up) = (measure(step, 0), measure(-step, 0));
        let (right, left) = (measure(0, step), measure(0, -step));
        self.copy = copy;
        let slope = |a: [f32; 2], b: [f32; 2]| [0, 1].map(|i| (a[i] - b[i]) / (2 * step) as f32);
        let ([a, c], [b, d]) = (slope(down, up), slope(right, left));
        let determinant = a * d - b * c;
        if GAIN.contains(&determinant) {
            self.correction = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        }
    }

    /// Forgets the template.
    pub fn clear_template(&mut self) {
        if let Some(reference) = self.reference.take() {
            self.spare = Some(reference);
        }
    }

    /// Whether shifts can be measured.
    pub fn has_template(&self) -> bool {
        self.reference.is_some()
    }

    /// The displacement of the content of `image` relative to the template; all zero without a template or for a blank image.
    pub fn estimate(&mut self, image: &[f32]) -> Shift {
        if self.reference.is_none() {
            return Shift::default();
        }
        self.transform(image);
        let Some(reference) = &self.reference else { return Shift::default() };
        let peak = self.correlator.peak(&self.frame, reference);
        let [y, x] = peak.shift;
        let [dy, dx] = self.correction.map(|row| (row[0] * y + row[1] * x).clamp(-self.reach, self.reach));
        Shift { dy, dx, peak: peak.height, at_bound: peak.at_bound }
    }

    /// The kept spectrum of `image`, without its mean.
    pub(super) fn transform(&mut self, image: &[f32]) -> &Planes {
        debug_assert_eq!(image.len(), self.height * self.width, "an image of another geometry");
        self.spectrum.transform(image, self.width, self.offset);
        self.frame.load(&self.spectrum, &self.grid, self.offset);
        &self.frame
    }

    /// Correlates two spectra that were kept elsewhere.
    pub(super) fn correlate(&mut self, frame: &Planes, reference: &Reference) -> Shift {
        let peak = self.correlator.peak(frame, reference);
        Shift { dy: peak.shift[0], dx: peak.shift[1], peak: peak.height, at_bound: peak.at_bound }
    }
}

/// Mean in f64: a large image of bright pixels does not fit f32.
fn mean(image: &[f32]) -> f32 {
    (image.iter().map(|&v| f64::from(v)).sum::<f64>() / image.len().max(1) as f64) as f32
}

/// Copies `image` with its content moved by whole pixels; the edge is repeated, where the window is almost zero.
fn displace(copy: &mut [f32], image: &[f32], width: usize, dy: isize, dx: isize) {
    let source = |to: usize, by: isize, side: usize| (to as isize - by).clamp(0, side as isize - 1) as usize;
    let height = image.len() / width;
    for (y, row) in copy.chunks_exact_mut(width).enumerate() {
        let line = &image[source(y, dy, height) * width..][..width];
        for (x, value) in row.iter_mut().enumerate() {
            *value = line[source(x, dx, width)];
        }
    }
}
