//! The motion of the embedding in the plane of its two strongest directions, small enough for one line of a terminal.
//!
//! Why it exists: a person cannot read 128 numbers, but sees a point that moves. What it must never do: pretend to be an
//! analysis. The directions are those of the last few hundred embeddings and turn slowly with them.

use std::collections::VecDeque;

use crate::sys::linalg::Projection;

/// Embeddings that the directions are found from.
const MEMORY: usize = 256;
/// The first directions are found after so many.
const FIRST: usize = 16;
/// They are found anew every so many.
const REFRESH: usize = 64;
/// Rounds of subspace iteration; a display needs no more digits.
const ROUNDS: usize = 20;
/// Positions in the trail.
const TRAIL: usize = 24;
/// Half the side of the trail's box, standard deviations.
const REACH_SD: f32 = 2.5;
/// Shorter motion is shown as a dot, standard deviations.
const STILL_SD: f32 = 0.15;
/// Width of the trail, characters of 2 × 4 dots.
const TRAIL_CHARACTERS: usize = 8;

/// Follows embeddings and draws where they go.
#[derive(Debug, Default)]
pub(super) struct Plane {
    memory: VecDeque<Vec<f32>>,
    since_fit: usize,
    projection: Option<Projection>,
    trail: VecDeque<[f32; 2]>,
    drawn: Option<[f32; 2]>,
}

impl Plane {
    /// Takes the next embedding. Another number of dimensions starts over; values that are not finite are passed over.
    pub(super) fn push(&mut self, values: &[f32]) {
        if !values.iter().all(|v| v.is_finite()) {
            return;
        }
        if self.memory.back().is_some_and(|last| last.len() != values.len()) {
            *self = Self::default();
        }
        if self.memory.len() == MEMORY {
            self.memory.pop_front();
        }
        self.memory.push_back(values.to_vec());
        self.since_fit += 1;
        let due = if self.projection.is_none() { FIRST } else { REFRESH };
        if self.since_fit >= due {
            self.since_fit = 0;
            let rows = self.memory.iter().map(Vec::as_slice);
            self.projection = Projection::of(rows, ROUNDS, self.projection.as_ref());
        }
        let Some(here) = self.project(values) else { return };
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back(here);
    }

    /// Where the embedding is, standard deviations along the two directions, and an arrow from where it was drawn last.
    pub(super) fn position(&mut self) -> Option<([f32; 2], char)> {
        let here = *self.trail.back()?;
        let from = self.drawn.replace(here).unwrap_or(here);
        Some((here, arrow([here[0] - from[0], here[1] - from[1]])))
    }

    /// The last positions as a strip of braille dots; right and up are positive.
    pub(super) fn trail(&self) -> String {
        // Bits of a braille character by row and column.
        const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let mut cells = [0u32; TRAIL_CHARACTERS];
        let index = |v: f32, n: usize| (((v / REACH_SD + 1.0) / 2.0 * n as f32) as usize).min(n - 1);
        for [x, y] in &self.trail {
            let (column, row) = (index(*x, 2 * TRAIL_CHARACTERS), 3 - index(*y, 4));
            cells[column / 2] |= DOTS[row][column % 2];
        }
        cells.iter().filter_map(|dots| char::from_u32(0x2800 + dots)).collect()
    }

    /// Standard deviations along the two directions.
    fn project(&self, values: &[f32]) -> Option<[f32; 2]> {
        let projection = self.projection.as_ref()?;
        let (at, sd) = (projection.project(values), projection.sd());
        Some([0, 1].map(|i| at[i] / sd[i].max(f32::MIN_POSITIVE.sqrt())))
    }
}

fn arrow([x, y]: [f32; 2]) -> char {
    if x.hypot(y) < STILL_SD {
        return '·';
    }
    let eighth = (y.atan2(x) / std::f32::consts::FRAC_PI_4).round() as i32;
    ['→', '↗', '↑', '↖', '←', '↙', '↓', '↘'][eighth.rem_euclid(8) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ellipse of half axes 3 and 1 along two known orthonormal directions of five dimensions, around an offset.
    fn ellipse(step: usize) -> Vec<f32> {
        let (a, b) = ([0.6, 0.8, 0.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.0, 0.8]);
        let angle = step as f32 * 0.37;
        (0..5).map(|i| 10.0 + 3.0 * angle.cos() * a[i] + angle.sin() * b[i]).collect()
    }

    #[test]
    fn positions_are_standard_deviations_along_the_two_strongest_directions() {
        let mut plane = Plane::default();
        (0..MEMORY).for_each(|step| plane.push(&ellipse(step)));
        let at = |axis: [f32; 5], by: f32| plane.project(&axis.map(|share| 10.0 + by * share)).unwrap();
        let moved = |axis| [0, 1].map(|i| (at(axis, 1.0)[i] - at(axis, 0.0)[i]).abs());
        let (long, short) = (moved([0.6, 0.8, 0.0, 0.0, 0.0]), moved([0.0, 0.0, 0.6, 0.0, 0.8]));
        // A sinusoid of amplitude a has the standard deviation a/√2.
        assert!((long[0] - 2f32.sqrt() / 3.0).abs() < 0.01 && long[1] < 0.1, "{long:?}");
        assert!((short[1] - 2f32.sqrt()).abs() < 0.05 && short[0] < 0.1, "{short:?}");
    }

    #[test]
    fn embeddings_that_do_not_move_and_values_that_are_not_finite_are_drawn_without_harm() {
        let mut plane = Plane::default();
        plane.push(&[f32::NAN; 3]);
        (0..100).for_each(|_| plane.push(&[1.0, 2.0, 3.0]));
        let (here, arrow) = plane.position().unwrap();
        assert!(here.iter().all(|v| v.is_finite()), "{here:?}");
        assert_eq!((arrow, plane.trail().chars().count()), ('·', TRAIL_CHARACTERS));
        plane.push(&[1.0, 2.0]);
        assert!(plane.position().is_none(), "another model begins anew");
    }

    #[test]
    fn the_trail_and_the_arrow_point_the_same_way() {
        let mut plane = Plane::default();
        plane.trail.push_back([REACH_SD, REACH_SD]);
        assert_eq!(plane.trail().chars().last(), char::from_u32(0x2808), "top right");
        plane.trail.push_back([-REACH_SD, -REACH_SD]);
        assert_eq!(plane.trail().chars().next(), char::from_u32(0x2840), "bottom left");
        assert_eq!(
            [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, -1.0]].map(arrow),
            ['→', '↗', '↑', '←', '↓', '↘']
        );
    }
}
