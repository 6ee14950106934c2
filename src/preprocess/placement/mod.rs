//! Where an animal lies relative to the atlas of its model: estimated once from its own registration template, without labels.
//!
//! Why it exists: every animal is glued and turned a little differently under the objective, and no linear read-out undoes that.
//! What it must never do: delay a frame by more than a bounded amount of work, or depend on anything but the template.
//!
//! The search begins from three turns on smoothed pictures, goes on with the best of them on sharp ones, and does a few looks a
//! frame; while it runs, frames are warm-up anyway.

mod fit;
mod groupwise;
mod picture;

pub use fit::{Five, Geometry, matrix};
pub use groupwise::{AtlasError, View, make_atlas};

use self::fit::{Search, blank};
use self::picture::{Pictures, kernel, smooth, standardise};
use crate::frame::animal::PlacementState;
use crate::frame::placement::Placement;
use crate::model::parameters::{Atlas, PICTURE_PX};

/// Turns that the search begins from, rad.
const STARTS: [f64; 3] = [0.0, 0.12, -0.12];
/// Additional smoothing at the beginning, picture px: shifts of several px are then within reach.
const COARSE_PX: f32 = 1.6;
/// Looks from each start, and with sharp pictures.
const LOOKS: [usize; 2] = [10, 20];
/// Looks of one frame; about 20 µs each.
const LOOKS_PER_FRAME: usize = 10;

/// Estimates the placement of one animal after the other.
pub struct Placer {
    atlas: Atlas,
    geometry: Geometry,
    height: usize,
    width: usize,
    pictures: Pictures,
    /// Kernel of the additional smoothing.
    coarse: Vec<f32>,
    /// The atlas, smoothed and sharp.
    targets: [Vec<f32>; 2],
    /// The animal's picture, smoothed and sharp.
    views: [Vec<f32>; 2],
    searches: [Search; STARTS.len()],
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Without a template.
    Waiting,
    /// From one of the starts, after so many looks.
    Coarse {
        start: usize,
        looks: usize,
    },
    /// From the best of them.
    Fine {
        start: usize,
        looks: usize,
    },
    Found(Five, Placement),
}

impl Placer {
    /// For templates of `height` × `width` px; takes all memory.
    pub fn new(atlas: &Atlas, height: usize, width: usize) -> Self {
        let (sharp, coarse) = (atlas.picture.0.clone(), kernel(COARSE_PX));
        let mut smoothed = sharp.clone();
        blur(&mut smoothed, &coarse);
        Self {
            geometry: Geometry { aspect: height as f64 / width as f64, rim_px: atlas.rim_px },
            height,
            width,
            pictures: Pictures::new(atlas, height, width),
            targets: [smoothed, sharp],
            coarse,
            views: [blank(), blank()],
            searches: STARTS.map(|turn| Search::new([turn, 0.0, 0.0, 0.0, 0.0])),
            stage: Stage::Waiting,
            atlas: atlas.clone(),
        }
    }

    /// The placement, once it is found.
    pub fn found(&self) -> Option<Placement> {
        match self.stage {
            Stage::Found(_, placement) => Some(placement),
            _ => None,
        }
    }

    /// From the model's frame to the frame: [`matrix`] and shift, both in shares of the frame's sides.
    pub fn affine(&self) -> Option<Affine> {
        match self.stage {
            Stage::Found(five, _) => Some(Affine::of(&five, self.geometry.aspect)),
            _ => None,
        }
    }

    /// What [`Placer::take_up`] needs; `None` until the placement is found.
    pub(super) fn keep(&self) -> Option<PlacementState> {
        let Stage::Found([turn_rad, shift_y_px, shift_x_px, log_scale_y, log_scale_x], Placement { likeness, .. }) =
            self.stage
        else {
            return None;
        };
        Some(PlacementState { turn_rad, shift_y_px, shift_x_px, log_scale_y, log_scale_x, likeness })
    }

    /// Takes up a placement that was found before.
    pub(super) fn take_up(&mut self, state: &PlacementState) {
        self.stage = self.found_at(five(state), state.likeness);
    }

    /// Forgets the placement: the next template is another animal's first. Allocates nothing.
    pub(super) fn forget(&mut self) {
        self.stage = Stage::Waiting;
    }

    /// Frames that the search will still take once there is a template; the frame that completes the template begins it.
    pub(super) fn frames_left(&self) -> usize {
        let coarse = STARTS.len() * LOOKS[0];
        let looks = match self.stage {
            Stage::Waiting => coarse + LOOKS[1],
            Stage::Coarse { start, looks } => coarse - (start * LOOKS[0] + looks) + LOOKS[1],
            Stage::Fine { looks, .. } => LOOKS[1] - looks,
            Stage::Found(..) => 0,
        };
        looks.div_ceil(LOOKS_PER_FRAME)
    }

    /// Begins with a template, or goes on; true when the placement was found just now. Once it is found nothing changes.
    pub fn step(&mut self, template: &[f32]) -> bool {
        if self.stage == Stage::Waiting {
            self.begin(template);
            return false;
        }
        for _ in 0..LOOKS_PER_FRAME {
            match self.stage {
                Stage::Coarse { start, looks } => {
                    self.searches[start].step(&self.atlas, &self.targets[0], &self.views[0], self.geometry);
                    self.stage = match (start + 1, looks + 1) {
                        (_, looks) if looks < LOOKS[0] => Stage::Coarse { start, looks },
                        (start, _) if start < STARTS.len() => Stage::Coarse { start, looks: 0 },
                        _ => self.best(),
                    };
                }
                Stage::Fine { start, looks } => {
                    self.searches[start].step(&self.atlas, &self.targets[1], &self.views[1], self.geometry);
                    if looks + 1 == LOOKS[1] {
                        self.finish(start);
                        return true;
                    }
                    self.stage = Stage::Fine { start, looks: looks + 1 };
                }
                Stage::Waiting | Stage::Found(..) => return false,
            }
        }
        false
    }

    fn begin(&mut self, template: &[f32]) {
        self.pictures.take(&self.atlas, template, &mut self.views[1]);
        self.begin_with_picture();
    }

    fn begin_with_picture(&mut self) {
        let [smoothed, sharp] = &mut self.views;
        smoothed.copy_from_slice(sharp);
        blur(smoothed, &self.coarse);
        self.searches = STARTS.map(|turn| Search::new([turn, 0.0, 0.0, 0.0, 0.0]));
        self.stage = Stage::Coarse { start: 0, looks: 0 };
    }

    fn best(&mut self) -> Stage {
        let cost = |start: usize| self.searches[start].seen.map_or(f64::INFINITY, |seen| seen.cost);
        let mut best = 0;
        for start in 1..STARTS.len() {
            if cost(start) < cost(best) {
                best = start;
            }
        }
        self.searches[best].look_anew();
        Stage::Fine { start: best, looks: 0 }
    }

    fn finish(&mut self, start: usize) {
        let Search { five, seen, .. } = self.searches[start];
        self.stage = self.found_at(five, seen.map_or(0.0, |seen| seen.correlation) as f32);
    }

    fn found_at(&self, five: Five, likeness: f32) -> Stage {
        let px = [self.height, self.width].map(|side| side as f64 / PICTURE_PX as f64);
        let fits = likeness >= self.atlas.likeness_min && !fit::at_bound(&five);
        let placement = Placement {
            turn_deg: five[0].to_degrees() as f32,
            shift_px: [(five[1] * px[0]) as f32, (five[2] * px[1]) as f32],
            scale: [five[3].exp() as f32, five[4].exp() as f32],
            likeness,
            fits,
        };
        Stage::Found(five, placement)
    }
}

fn five(state: &PlacementState) -> Five {
    [state.turn_rad, state.shift_y_px, state.shift_x_px, state.log_scale_y, state.log_scale_x]
}

/// Can the search have found it?
pub(super) fn lies_within(state: &PlacementState) -> bool {
    fit::within_bounds(&five(state))
}

/// From a point of the model's frame to one of the animal's frame: both are 0 in the middle and ±½ at the edges, [y, x].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Rows [y, x].
    pub matrix: [[f64; 2]; 2],
    /// Shares of the sides.
    pub shift: [f64; 2],
}

impl Affine {
    /// Of five numbers in frames of an aspect, height / width.
    pub fn of(five: &Five, aspect: f64) -> Self {
        Self { matrix: matrix(five, aspect), shift: [five[1], five[2]].map(|px| px / PICTURE_PX as f64) }
    }
}

/// Smooths for the beginning of a search.
fn blur(picture: &mut [f32], kernel: &[f32]) {
    smooth(picture, kernel, &mut [0.0; PICTURE_PX]);
    standardise(picture);
}
