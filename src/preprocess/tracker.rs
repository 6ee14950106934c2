//! From registration's estimate to the shift that is undone: first the template, then one estimate per frame.
//!
//! Why it exists: which estimates are accepted, what happens without a template, and in which coordinates the baseline lives form
//! one set of decisions, separate from the estimation itself.
//! What it must never do: move the coordinates of F₀ and the statistics. A renewed template is displaced from the first one; the
//! displacement is measured when it takes over and undone in addition to each frame's own shift.

use super::piecewise::PiecewiseRegistrar;
use super::registration::{Registrar, Shift};
use super::resample::Field;
use super::template::TemplateBuilder;
use crate::frame::animal::TemplateState;
use crate::model::parameters::Registration as Parameters;

/// Registration of one stream.
pub struct Tracker {
    registrar: Registrar,
    builder: TemplateBuilder,
    piecewise: Option<Blocks>,
    /// The template that was in use when a new one was requested.
    former: Vec<f32>,
    peak_min: f32,
    refreshes: bool,
    /// Last accepted shift, relative to the template.
    accepted_px: [f32; 2],
    /// Where the template lies relative to the animal's first one.
    origin_px: [f32; 2],
    /// Templates that have been taken into use.
    generation: u64,
}

struct Blocks {
    registrar: PiecewiseRegistrar,
    /// Centres of the blocks in the coordinates of the first template, px.
    centres_y: Vec<f32>,
    centres_x: Vec<f32>,
    /// Displacement per block including the origin.
    shifts_px: Vec<[f32; 2]>,
}

/// One frame against the template.
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    /// As measured; if rejected, dy and dx are the last accepted ones.
    pub shift: Shift,
    /// The peak is under `peak_min`.
    pub rejected: bool,
    /// The peak is far under its own running level: nothing may be learnt from the frame.
    pub mismatch: bool,
}

impl Tracker {
    /// For frames of `height` × `width` px.
    pub fn new(parameters: &Parameters, height: usize, width: usize) -> Self {
        let blocks = parameters.piecewise.as_ref().map(|piecewise| {
            let registrar = PiecewiseRegistrar::new(parameters, piecewise, height, width);
            let per_axis = piecewise.blocks;
            Blocks {
                centres_y: registrar.block_centres().step_by(per_axis).map(|[y, _]| y).collect(),
                centres_x: registrar.block_centres().take(per_axis).map(|[_, x]| x).collect(),
                registrar,
                shifts_px: vec![[0.0; 2]; per_axis * per_axis],
            }
        });
        Self {
            registrar: Registrar::new(parameters, height, width),
            builder: TemplateBuilder::new(parameters, height, width),
            piecewise: blocks,
            former: vec![0.0; height * width],
            peak_min: parameters.peak_min,
            refreshes: parameters.refresh > 0.0,
            accepted_px: [0.0; 2],
            origin_px: [0.0; 2],
            generation: 0,
        }
    }

    /// The template and how many there have been; `None` while none is ready.
    pub fn template(&self) -> Option<(&[f32], u64)> {
        self.builder.template().map(|pixels| (pixels, self.generation))
    }

    /// The template with its place; `None` while one is being built.
    pub(super) fn keep(&self) -> Option<TemplateState> {
        let pixels = self.builder.template()?.to_vec();
        let ([origin_y_px, origin_x_px], [accepted_y_px, accepted_x_px]) = (self.origin_px, self.accepted_px);
        Some(TemplateState {
            pixels,
            origin_y_px,
            origin_x_px,
            accepted_y_px,
            accepted_x_px,
            ..TemplateState::default()
        })
    }

    /// Takes up a template that was built before; only of a tracker that has seen no frame.
    pub(super) fn take_up(&mut self, state: &TemplateState) {
        self.builder.take_up(&state.pixels, &mut self.registrar);
        self.origin_px = [state.origin_y_px, state.origin_x_px];
        self.accepted_px = [state.accepted_y_px, state.accepted_x_px];
        self.generation += 1;
        if let Some(blocks) = &mut self.piecewise {
            blocks.centres_y.iter_mut().for_each(|y| *y -= self.origin_px[0]);
            blocks.centres_x.iter_mut().for_each(|x| *x -= self.origin_px[1]);
        }
        self.hand_template_to_blocks();
    }

    /// Frames that the first template still needs.
    pub(super) fn frames_left(&self) -> usize {
        if self.is_ready() { 0 } else { self.builder.frames_left() }
    }

    /// Templates that have been taken into use.
    pub(super) fn template_count(&self) -> u64 {
        self.generation
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
        [self.origin_px[0] + self.accepted_px[0], self.origin_px[1] + self.accepted_px[1]]
    }

    /// The field to undo instead, when registration is piecewise and there is a template.
    pub fn field(&self) -> Option<Field<'_>> {
        let blocks = self.piecewise.as_ref().filter(|_| self.is_ready())?;
        let (centres_y, centres_x) = (&blocks.centres_y, &blocks.centres_x);
        Some(Field { shifts_px: &blocks.shifts_px, centres_y, centres_x })
    }

    /// Forgets the template, too: the next frames make the first one of another animal. Allocates nothing.
    pub fn forget(&mut self) {
        self.builder.restart();
        self.registrar.clear_template();
        if let Some(blocks) = &mut self.piecewise {
            // Back to where they lay before templates were renewed.
            blocks.centres_y.iter_mut().for_each(|y| *y += self.origin_px[0]);
            blocks.centres_x.iter_mut().for_each(|x| *x += self.origin_px[1]);
        }
        (self.accepted_px, self.origin_px) = ([0.0; 2], [0.0; 2]);
    }

    /// Measures one frame against the template, if there is one. A peak below `lowest` is a mismatch.
    pub fn follow(&mut self, image: &[f32], lowest: f32) -> Option<Tracked> {
        self.is_ready().then(|| self.measure(image, lowest))
    }

    /// Adds a frame, measured as `tracked`, to the template that is being built or refreshed. False when a template was built and is
    /// not used, because it is not `tissue` or its frames do not agree: the next frames make another.
    pub(super) fn learn(&mut self, image: &[f32], tracked: Option<Tracked>, is_tissue: impl FnOnce() -> bool) -> bool {
        let mut used = true;
        if !self.builder.ready() {
            used = self.builder.add_judged(image, &mut self.registrar, is_tissue);
            if self.builder.ready() {
                self.take_over(tracked.is_some());
            }
        } else if let Some(Tracked { shift, .. }) = tracked.filter(|t| self.refreshes_by(t)) {
            self.builder.refresh(image, &shift, &mut self.registrar);
            self.hand_template_to_blocks();
        }
        used
    }

    /// Would `learn` use the image?
    pub(super) fn learns(&self, tracked: Option<Tracked>) -> bool {
        !self.builder.ready() || tracked.is_some_and(|t| self.refreshes_by(&t))
    }

    fn refreshes_by(&self, tracked: &Tracked) -> bool {
        self.refreshes && !tracked.rejected && !tracked.shift.at_bound
    }

    /// The registrar, for measuring shifts elsewhere.
    pub(super) fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// Position of the template and the accepted shift: their sum is undone.
    pub(super) fn place_px(&self) -> ([f32; 2], [f32; 2]) {
        (self.origin_px, self.accepted_px)
    }

    /// Measures and discards the result: only caches and scratch memory change.
    pub fn rehearse(&mut self, image: &[f32]) {
        if self.is_ready() {
            std::hint::black_box(self.registrar.estimate(image));
        }
    }

    fn measure(&mut self, image: &[f32], lowest: f32) -> Tracked {
        let measured = self.registrar.estimate(image);
        let tracked = self.accept(measured, lowest);
        let Tracked { shift, rejected, mismatch } = tracked;
        if let Some(blocks) = self.piecewise.as_mut().filter(|_| !rejected && !mismatch) {
            let shifts = blocks.registrar.estimate(image, &shift);
            for (total, shift) in blocks.shifts_px.iter_mut().zip(shifts) {
                *total = [shift[0] + self.origin_px[0], shift[1] + self.origin_px[1]];
            }
        }
        tracked
    }

    /// Accepts a measurement, or keeps the last accepted one. A peak below `lowest` is a mismatch.
    pub(super) fn accept(&mut self, measured: Shift, lowest: f32) -> Tracked {
        let (rejected, mismatch) = (measured.peak < self.peak_min, measured.peak < lowest);
        if !rejected && !mismatch {
            self.accepted_px = [measured.dy, measured.dx];
        }
        Tracked { shift: Shift { dy: self.accepted_px[0], dx: self.accepted_px[1], ..measured }, rejected, mismatch }
    }

    /// Takes the new template into use from the next frame on, displaced from the former one.
    fn take_over(&mut self, renewed: bool) {
        self.generation += 1;
        if renewed {
            let former = self.registrar.estimate(&self.former);
            let found = former.peak >= self.peak_min && !former.at_bound;
            // Too different from the former one to measure: assume that it lies where the last frame lay.
            let step = if found { [former.dy, former.dx] } else { self.accepted_px.map(|px| -px) };
            self.origin_px = [self.origin_px[0] - step[0], self.origin_px[1] - step[1]];
            self.accepted_px = [self.accepted_px[0] + step[0], self.accepted_px[1] + step[1]];
            if let Some(blocks) = &mut self.piecewise {
                blocks.centres_y.iter_mut().for_each(|y| *y += step[0]);
                blocks.centres_x.iter_mut().for_each(|x| *x += step[1]);
            }
        }
        self.hand_template_to_blocks();
    }

    fn hand_template_to_blocks(&mut self) {
        if let (Some(blocks), Some(template)) = (&mut self.piecewise, self.builder.template()) {
            blocks.registrar.set_template(template);
        }
    }
}
