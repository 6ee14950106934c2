//! Is this frame tissue? Judged from its raw counts, before anything learns from it.
//!
//! Why it exists: a flash, a closed shutter or a line of stimulation light in a frame poisons F₀, statistics, template and window
//! for minutes, exactly when the loop acts. The verdict is the same live, offline, in training and on a device. What it must never
//! do: read a clock, look ahead, judge by absolute light (two-photon frames of sparse axons are dark by nature), allocate after
//! construction, or take more than some microseconds.
//!
//! **The first frames.** Before there is anything to compare with, a frame must show a picture: what the upper and the lower lines
//! of its blocks have in common, or neighbouring lines. So darkness at the start is not learnt, and the first light is not taken for a flash.
//!
//! **Light that stays.** Where the frames go on at another level and agree among themselves, that level is learnt aside; after
//! `relearn_after_s` it takes over, and F₀ and the statistics begin anew. If the new picture is far stronger, what was learnt
//! before was darkness: it takes over after some frames, and everything begins anew.

mod peak;
mod reference;
mod runs;
mod sketch;
mod texture;

use std::mem::swap;

use super::convert::planes;
use super::simd::Simd;
use crate::frame::{Distrust, Frame, FrameInfo, FrameTime, Relearn, Shape};
use crate::model::parameters::{Convert, Parameters, Trust as Settings};

pub(super) use self::peak::PeakWatch;
use self::reference::Reference;
use self::sketch::{Sketch, common};

/// A picture so many times stronger than the one before shows that the one before was darkness.
const DARKNESS: f64 = 4.0;
/// Frames of such a picture before it takes over.
const DARKNESS_FRAMES: u64 = 16;
/// A picture weaker than this share of the one before is none, however long it stays.
const NO_PICTURE: f64 = 0.1;

/// What judges the frames of one animal.
pub(super) struct Trust {
    settings: Settings,
    convert: Convert,
    planes: Vec<Plane>,
    /// Which of them shows the tissue: the one that is registered.
    guide: usize,
    /// Time of the last frame that was marked with a stimulus.
    stimulus: Option<FrameTime>,
    relearn_frames: u64,
    /// Frames at another level, in a row, that agree among themselves.
    steady: u64,
    relearn: Option<Relearn>,
    /// Light of the blocks of the guide in the frames of the template, of every second frame each.
    template: [Vec<f64>; 2],
    template_frames: u64,
    /// The frame judged last was read: it may be learnt.
    read: bool,
    /// Mean light of the guide in it.
    level: Option<f32>,
}

/// One channel of the frame.
struct Plane {
    channel: usize,
    sketch: Sketch,
    reference: Reference,
    /// Another level of light, while it is not believed.
    other: Reference,
}

impl Trust {
    /// For frames like this one, `frame_rate_hz` model frames per second.
    pub fn new(parameters: &Parameters, simd: Simd, frame_rate_hz: f64, shape: Shape) -> Self {
        let (channels, guide) = planes(parameters);
        let plane = |channel| {
            let sketch = Sketch::new(simd, shape.height, shape.width);
            Plane { channel, reference: Reference::new(&sketch), other: Reference::new(&sketch), sketch }
        };
        let planes: Vec<Plane> = channels.into_iter().map(plane).collect();
        let rate_hz = frame_rate_hz * parameters.average_frames as f64;
        let blocks = vec![0.0; planes[guide].sketch.blocks.len()];
        Self {
            settings: parameters.trust.clone(),
            convert: parameters.convert.clone(),
            planes,
            guide,
            stimulus: None,
            relearn_frames: (f64::from(parameters.trust.relearn_after_s) * rate_hz).ceil() as u64,
            steady: 0,
            relearn: None,
            template: [blocks.clone(), blocks],
            template_frames: 0,
            read: false,
            level: None,
        }
    }

    /// Why this frame is not believed, if it is not.
    pub fn judge(&mut self, frame: &Frame) -> Option<Distrust> {
        (self.read, self.level) = (false, None);
        if let Some(marked) = self.marked(&frame.info) {
            return Some(marked);
        }
        if !self.settings.enabled {
            return None;
        }
        let (pixels, plane_px) = (frame.pixels(), frame.info.shape.plane());
        for plane in &mut self.planes {
            plane.sketch.read(pixels, plane.channel * plane_px, &self.convert);
        }
        self.level = Some(self.planes[self.guide].sketch.level as f32);
        let flawed = self.planes.iter().find_map(|plane| flaw(&plane.sketch, &self.settings));
        if flawed.is_some() {
            return flawed;
        }
        self.read = true;
        let (settings, guide) = (&self.settings, self.guide);
        let tissue = &mut self.planes[guide];
        if !tissue.reference.knows() {
            tissue.sketch.read_texture(pixels, tissue.channel * plane_px);
        }
        let judged =
            |(index, plane): (usize, &mut Plane)| plane.reference.judge(&plane.sketch, settings, index == guide);
        let verdict = self.planes.iter_mut().enumerate().filter_map(judged).next();
        match verdict {
            Some(distrust) if self.planes[guide].reference.knows() => {
                let tissue = &mut self.planes[guide];
                tissue.sketch.read_texture(pixels, tissue.channel * plane_px);
                if self.other_level_takes_over() { None } else { Some(distrust) }
            }
            verdict => {
                self.forget_other_level();
                verdict
            }
        }
    }

    /// The frame judged last is believed by everything else, too.
    pub fn learn(&mut self) {
        if !std::mem::take(&mut self.read) {
            return;
        }
        for plane in &mut self.planes {
            plane.reference.learn(&plane.sketch);
        }
        let sum = &mut self.template[(self.template_frames % 2) as usize];
        sum.iter_mut().zip(&self.planes[self.guide].sketch.blocks).for_each(|(sum, light)| *sum += light);
        self.template_frames += 1;
    }

    /// What begins anew with the frame judged last.
    pub fn relearn(&mut self) -> Option<Relearn> {
        self.relearn.take()
    }

    /// Mean light of the guide in the frame judged last, counts above the dark level; `None` where it was not looked at.
    pub fn level(&self) -> Option<f32> {
        self.level
    }

    /// Level and contrast of each plane in the last believed frames, counts; none where frames are not judged.
    pub fn light(&self) -> impl Iterator<Item = [f64; 2]> + '_ {
        self.planes.iter().filter_map(|plane| plane.reference.light())
    }

    /// The next frame is compared with nothing.
    pub fn forget(&mut self) {
        self.planes.iter_mut().for_each(|plane| plane.reference.forget());
        self.forget_other_level();
    }

    /// A template is built from the next frames.
    pub fn begin_template(&mut self) {
        self.template.iter_mut().for_each(|sum| sum.fill(0.0));
        self.template_frames = 0;
    }

    /// Do the frames since then show the same picture, on average?
    pub fn template_shows_tissue(&self) -> bool {
        let telling = self.settings.enabled && self.planes[self.guide].sketch.tells_structure();
        let [a, b] = &self.template;
        !telling || self.template_frames < 2 || common(a, b).1 >= f64::from(self.settings.structure_min)
    }

    /// What the sender said, and whether a stimulus has just been.
    fn marked(&mut self, info: &FrameInfo) -> Option<Distrust> {
        let now = FrameTime::of(info);
        if info.marks.stimulus {
            self.stimulus = Some(now);
            return Some(Distrust::Stimulus);
        }
        if info.marks.invalid {
            return Some(Distrust::MarkedInvalid);
        }
        let mask_ns = u64::from(self.settings.mask_after_stimulus_ms) * 1_000_000;
        let since = self.stimulus.and_then(|stimulus| now.since(stimulus));
        let masked = mask_ns > 0 && since.is_some_and(|ns| ns <= mask_ns);
        if !masked {
            self.stimulus = None;
        }
        masked.then_some(Distrust::AfterStimulus)
    }

    /// Learns a level of light that is not believed, and lets it take over when it has lasted.
    fn other_level_takes_over(&mut self) -> bool {
        let (settings, guide) = (&self.settings, self.guide);
        let agrees = |(index, plane): (usize, &mut Plane)| {
            // The first of them is asked for a picture by its judgement.
            let shows = index != guide || !plane.sketch.tells_structure() || !plane.other.knows() || {
                plane.other.shows_a_picture(&plane.sketch, f64::from(settings.structure_min))
            };
            shows && plane.other.judge(&plane.sketch, settings, index == guide).is_none()
        };
        // Every plane is asked, so that all of them know the same frames.
        let agreed = self.planes.iter_mut().enumerate().map(agrees).fold(true, |all, one| all & one);
        if !agreed {
            self.forget_other_level();
            return false;
        }
        self.steady += 1;
        self.planes.iter_mut().for_each(|plane| plane.other.learn(&plane.sketch));
        let Plane { reference, other, .. } = &self.planes[guide];
        let from_darkness = other.outshines(reference, DARKNESS, f64::from(settings.structure_min));
        let lasted = self.relearn_frames > 0 && self.steady >= self.relearn_frames;
        let takes_over = if from_darkness {
            self.steady >= DARKNESS_FRAMES
        } else {
            lasted && !other.pales_beside(reference, NO_PICTURE)
        };
        if takes_over {
            self.planes.iter_mut().for_each(|plane| swap(&mut plane.reference, &mut plane.other));
            self.forget_other_level();
            self.relearn = Some(if from_darkness { Relearn::Everything } else { Relearn::Light });
        }
        takes_over
    }

    fn forget_other_level(&mut self) {
        if std::mem::take(&mut self.steady) > 0 {
            self.planes.iter_mut().for_each(|plane| plane.other.forget());
        }
    }
}

/// What is wrong with a plane by itself.
fn flaw(sketch: &Sketch, settings: &Settings) -> Option<Distrust> {
    if sketch.non_finite > f64::from(settings.non_finite_share_max) {
        Some(Distrust::NonFinitePixels)
    } else if sketch.saturated > f64::from(settings.saturated_share_max) {
        Some(Distrust::Saturated)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
