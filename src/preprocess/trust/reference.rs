//! What one plane of this animal's frames looked like lately, and whether another frame could be one of them.
//!
//! Why it exists: two-photon frames of sparse axons are dark by nature, so "dark" and "bright" are told from the frames before. Light
//! that goes in or a shutter that closes acts from one frame to the next, and on all of the picture or on whole lines; tissue, an
//! indicator and motion do not. So the *step* since the last frames is judged, against the picture's own contrast and against the
//! steps that are usual. What it must never do: learn from a frame that is not believed.

use super::sketch::{Sketch, common};
use super::texture::Texture;
use crate::frame::Distrust;
use crate::model::parameters::Trust as Parameters;

/// Weight of the newest frame in what the last frames looked like.
const GAIN: f64 = 0.2;
/// Frames over which usual steps are averaged.
const STEPS: f64 = 32.0;
/// A step so many times the usual one is too large: of the level, of a strip, of the gain.
const UNUSUAL_LEVEL: f64 = 10.0;
const UNUSUAL_STRIP: f64 = 12.0;
const UNUSUAL_GAIN: f64 = 6.0;
/// A frame without a picture is dark, and not blank, if its level is so many usual steps below.
const DARKER: f64 = 3.0;
/// A step below this share of a pixel's noise is none, of the level and of a strip: a plane without light has no contrast.
const NOISE_LEVEL: f64 = 0.1;
const NOISE_STRIP: f64 = 0.2;
/// Share of the darkest blocks that count as the picture's background.
const BACKGROUND: usize = 20;
/// With the middle strip nearer to its usual light than this share of the bound, the light is not on all of the picture.
const UNTOUCHED: f64 = 0.4;
/// Frames over which a picture is gathered from noise before there is anything to compare with.
const GATHERED: f64 = 8.0;

/// The last believed frames of one plane.
pub(super) struct Reference {
    frames: u64,
    blocks: Vec<f64>,
    strips: Vec<f64>,
    /// Usual distance of each strip from what it was.
    strip_steps: Vec<f64>,
    level: f64,
    spread: f64,
    likeness: f64,
    level_step: f64,
    gain_step: f64,
    /// From the background to the mean, or the picture's own variation: what a step is compared with.
    contrast: f64,
    scratch: Vec<f64>,
    /// Before the first believed frame: the halves of the blocks, averaged over some frames.
    gathered: [Vec<f64>; 2],
    texture: Texture,
    gathered_frames: u64,
}

impl Reference {
    pub fn new(like: &Sketch) -> Self {
        let blocks = vec![0.0; like.blocks.len()];
        Self {
            frames: 0,
            strips: vec![0.0; like.strips.len()],
            strip_steps: vec![0.0; like.strips.len()],
            level: 0.0,
            spread: 0.0,
            likeness: 0.0,
            level_step: 0.0,
            gain_step: 0.0,
            contrast: 0.0,
            scratch: blocks.clone(),
            gathered: [blocks.clone(), blocks.clone()],
            texture: Texture::default(),
            gathered_frames: 0,
            blocks,
        }
    }

    /// The next frame is compared with nothing.
    pub fn forget(&mut self) {
        (self.frames, self.gathered_frames, self.texture) = (0, 0, Texture::default());
    }

    /// Is there anything to compare with?
    pub fn knows(&self) -> bool {
        self.frames > 0
    }

    /// Mean light and contrast of the last believed frames, counts; `None` before the first.
    pub fn light(&self) -> Option<[f64; 2]> {
        self.knows().then_some([self.level, self.contrast])
    }

    /// Could this frame be one of the animal's? `tissue`: the first frame must show a picture.
    pub fn judge(&mut self, seen: &Sketch, parameters: &Parameters, tissue: bool) -> Option<Distrust> {
        if self.frames == 0 {
            let good = !tissue || self.shows_a_picture(seen, f64::from(parameters.structure_min));
            return (!good).then_some(Distrust::Blank);
        }
        let bound = (UNUSUAL_LEVEL * self.level_step)
            .max(f64::from(parameters.level_step) * self.contrast)
            .max(NOISE_LEVEL * seen.noise);
        let step = seen.level - self.level;
        if tissue && step <= bound && self.has_lost_its_picture(seen, f64::from(parameters.structure_min)) {
            let darker = -step > DARKER * self.level_step;
            return Some(if darker { Distrust::Dark } else { Distrust::Blank });
        }
        let banded = self.banded(seen, f64::from(parameters.band_step));
        if banded == Banded::Partly {
            return Some(Distrust::Banded);
        }
        if step > bound {
            return Some(Distrust::Flash);
        }
        if -step > bound {
            return Some(Distrust::Dark);
        }
        (banded == Banded::Wholly).then_some(Distrust::Banded)
    }

    /// One more believed frame.
    pub fn learn(&mut self, seen: &Sketch) {
        if self.frames == 0 {
            self.blocks.copy_from_slice(&seen.blocks);
            self.strips.copy_from_slice(&seen.strips);
            self.strip_steps.fill(0.0);
            (self.level, self.spread, self.likeness) = (seen.level, seen.spread, seen.likeness);
            (self.level_step, self.gain_step) = (0.0, 0.0);
        } else {
            let usual = 1.0 / (self.frames as f64).min(STEPS);
            let gain = (1.0 / (self.frames + 1) as f64).max(GAIN);
            self.level_step += usual * ((seen.level - self.level).abs() - self.level_step);
            self.gain_step += usual * ((self.gain_of(seen) - 1.0).abs() - self.gain_step);
            for ((usual_step, strip), seen) in self.strip_steps.iter_mut().zip(&mut self.strips).zip(&seen.strips) {
                *usual_step += usual * ((seen - *strip).abs() - *usual_step);
                *strip += gain * (seen - *strip);
            }
            self.blocks.iter_mut().zip(&seen.blocks).for_each(|(block, seen)| *block += gain * (seen - *block));
            self.level += gain * (seen.level - self.level);
            self.spread += gain * (seen.spread - self.spread);
            self.likeness += gain * (seen.likeness - self.likeness);
        }
        self.frames += 1;
        self.scratch.copy_from_slice(&self.blocks);
        let at = self.scratch.len() / BACKGROUND;
        let (_, background, _) = self.scratch.select_nth_unstable_by(at, f64::total_cmp);
        self.contrast = (self.level - *background).max(self.spread);
    }

    /// Was `other` darkness beside this? This picture is brighter and so many times stronger, and that one hardly more than noise.
    pub fn outshines(&self, other: &Self, times: f64, likeness_min: f64) -> bool {
        self.level > other.level && self.spread > times * other.spread && other.likeness < likeness_min
    }

    /// Is its picture so much weaker than that of `other` that it is none?
    pub fn pales_beside(&self, other: &Self, share: f64) -> bool {
        self.spread < share * other.spread
    }

    /// Of frames in a row until there is something to compare with: the two halves of the blocks of this frame, or of it and those
    /// before, are alike, or neighbouring lines are.
    pub fn shows_a_picture(&mut self, seen: &Sketch, likeness_min: f64) -> bool {
        if !seen.tells_structure() {
            return seen.noise > 0.0;
        }
        self.gathered_frames += 1;
        let gain = 1.0 / (self.gathered_frames as f64).min(GATHERED);
        for (gathered, half) in self.gathered.iter_mut().zip(seen.halves()) {
            gathered.iter_mut().zip(half).for_each(|(gathered, light)| *gathered += gain * (light - *gathered));
        }
        let [upper, lower] = &self.gathered;
        self.texture.gather(&seen.texture, 1.0 / GATHERED);
        let textured = seen.texture.is_a_picture() || self.texture.is_a_picture();
        textured || seen.likeness.max(common(upper, lower).1) >= likeness_min
    }

    /// How much of the usual picture is in this frame: its slope on it.
    fn gain_of(&self, seen: &Sketch) -> f64 {
        let (product, _) = common(&seen.blocks, &self.blocks);
        let (square, _) = common(&self.blocks, &self.blocks);
        if square > 0.0 { product / square } else { 1.0 }
    }

    fn has_lost_its_picture(&self, seen: &Sketch, share: f64) -> bool {
        if !seen.tells_structure() {
            return seen.noise == 0.0;
        }
        let gain = self.gain_of(seen);
        let strength = if self.spread > 0.0 { seen.spread / self.spread } else { 1.0 };
        gain.max(strength) < share && 1.0 - gain > UNUSUAL_GAIN * self.gain_step
    }

    /// Have strips stepped out of what they and their neighbours were? The neighbours, because tissue moves.
    fn banded(&self, seen: &Sketch, share: f64) -> Banded {
        let (count, floor) = (self.strips.len(), (share * self.contrast).max(NOISE_STRIP * seen.noise));
        let (mut out, mut untouched) = (false, 0);
        for (index, &light) in seen.strips.iter().enumerate() {
            let near = index.saturating_sub(1)..(index + 2).min(count);
            let usual = self.strip_steps[near.clone()].iter().fold(0.0, |a: f64, &b| a.max(b));
            let bound = floor.max(UNUSUAL_STRIP * usual);
            let low = self.strips[near.clone()].iter().fold(f64::INFINITY, |a, &b| a.min(b));
            let high = self.strips[near].iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            out |= light > high + bound || light < low - bound;
            untouched += usize::from((light - self.strips[index]).abs() < UNTOUCHED * bound);
        }
        match (out, 2 * untouched > count) {
            (false, _) => Banded::Not,
            (true, true) => Banded::Partly,
            (true, false) => Banded::Wholly,
        }
    }
}

/// How many strips have stepped out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Banded {
    Not,
    /// Some, and most are as they were.
    Partly,
    /// Some, and most have changed as well.
    Wholly,
}
