//! What registration says, turned into the shift that is undone: template first, then one estimate per frame.
//!
//! Why it exists: who believes a peak, what happens while there is no template, and where the baseline's coordinates are, is
//! one set of decisions, apart from the estimation itself.
//! What it must never do: move the coordinates of F₀ and the statistics under them. A renewed template lies somewhere else than
//! the first one; how far is measured when it takes over, and undone besides each frame's own shift.

use super::parameters::Registration as Parameters;
use super::registration::{Registrar, Shift};
use super::template::TemplateBuilder;

/// Registration of one stream.
pub struct Tracker {
    registrar: Registrar,
    builder: TemplateBuilder,
    /// The template that was in use when a new one was asked for.
    former: Vec<f32>,
    peak_min: f32,
    refreshes: bool,
    /// Last shift whose peak was believed, relative to the template.
    believed_px: [f32; 2],
    /// Where the template lies relative to the animal's first one.
    origin_px: [f32; 2],
}

/// One frame against the template.
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    /// As measured; when doubtful, dy and dx are the last believed ones instead.
    pub shift: Shift,
    /// The peak is under `peak_min`.
    pub doubtful: bool,
}

impl Tracker {
    /// For frames of `height` × `width` px.
    pub fn new(parameters: &Parameters, height: usize, width: usize) -> Self {
        Self {
            registrar: Registrar::new(parameters, height, width),
            builder: TemplateBuilder::new(parameters, height, width),
            former: vec![0.0; height * width],
            peak_min: parameters.peak_min,
            refreshes: parameters.refresh > 0.0,
            believed_px: [0.0; 2],
            origin_px: [0.0; 2],
        }
    }

    /// Is there a template to measure against? Once there is one, there always is.
    pub fn is_ready(&self) -> bool {
        self.registrar.has_template()
    }

    /// Builds a new template from the next frames; the old one stays in use until the new one is ready.
    pub fn renew(&mut self) {
        if let Some(template) = self.builder.template() {
            self.former.copy_from_slice(template);
        }
        self.builder.restart();
    }

    /// Displacement to undo, [dy, dx] px, relative to the animal's first template.
    pub fn shift_px(&self) -> [f32; 2] {
        [self.origin_px[0] + self.believed_px[0], self.origin_px[1] + self.believed_px[1]]
    }

    /// Takes one frame: against the template, if there is one, and into the template that is being built, if one is.
    pub fn follow(&mut self, image: &[f32]) -> Option<Tracked> {
        let tracked = self.is_ready().then(|| self.measure(image));
        if !self.builder.ready() {
            self.builder.add(image, &mut self.registrar);
            if self.builder.ready() {
                self.take_over(tracked.is_some());
            }
        } else if let Some(Tracked { shift, doubtful: false }) = tracked.filter(|t| self.refreshes && !t.shift.at_bound)
        {
            self.builder.refresh(image, &shift, &mut self.registrar);
        }
        tracked
    }

    fn measure(&mut self, image: &[f32]) -> Tracked {
        let measured = self.registrar.estimate(image);
        let doubtful = measured.peak < self.peak_min;
        if !doubtful {
            self.believed_px = [measured.dy, measured.dx];
        }
        let shift = Shift { dy: self.believed_px[0], dx: self.believed_px[1], ..measured };
        Tracked { shift, doubtful }
    }

    /// The new template is in use from the next frame on; it lies where the former one does not.
    fn take_over(&mut self, renewed: bool) {
        if renewed {
            let former = self.registrar.estimate(&self.former);
            let found = former.peak >= self.peak_min && !former.at_bound;
            // Too unlike the former one to tell: take it to lie where the last frame lay.
            let step = if found { [former.dy, former.dx] } else { self.believed_px.map(|px| -px) };
            for axis in 0..2 {
                self.origin_px[axis] -= step[axis];
                self.believed_px[axis] += step[axis];
            }
        }
    }
}
