//! Rigid sub-pixel registration of a frame to a template.
//!
//! Why it exists: the brain moves; the encoder must not see it. Frame and template are windowed (flat but for the edges), the low
//! frequencies are correlated within reach, and the peak of the continuous correlation is the shift.
//! What it must never do: allocate after it was made, look at another frame, return a value that is not finite.

use super::correlation::{Correlator, Grid, Planes, Reference};
use super::parameters;
use super::spectrum::Spectrum;

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
}

impl Registrar {
    /// Plans everything for frames of `height` × `width` px (16 to 4096 a side) and takes all memory.
    pub fn new(parameters: &parameters::Registration, height: usize, width: usize) -> Self {
        let spectrum = Spectrum::new(height, width, parameters.frequencies, parameters.smooth_px);
        let grid = Grid::new(&spectrum);
        Self {
            height,
            width,
            frame: grid.planes(),
            reference: None,
            spare: Some(Reference::new(&grid, parameters.smooth_px)),
            correlator: Correlator::new(&grid, parameters.reach_px),
            offset: 0.0,
            spectrum,
            grid,
        }
    }

    /// Makes `image` (height × width, C order, finite, dark-subtracted light) the template. Allocates nothing.
    pub fn set_template(&mut self, image: &[f32]) {
        self.offset = mean(image);
        self.transform(image);
        if let Some(mut reference) = self.reference.take().or_else(|| self.spare.take()) {
            reference.set(&self.grid, &self.frame);
            self.reference = Some(reference);
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
        Shift { dy: peak.shift[0], dx: peak.shift[1], peak: peak.height, at_bound: peak.at_bound }
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
