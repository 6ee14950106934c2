//! k consecutive frames become one model frame: their mean.
//!
//! Why it exists: a model trained at 15 Hz must see 15 Hz, whatever the microscope's rate, with the photons of all frames.
//! What it must never do: mix frames that are far apart in time. A group that would span more than twice its k frames, or
//! whose numbers go back or repeat, is discarded and started again. A single lost frame only stretches its group: discarding
//! groups at every loss could silence a model under lasting overload.

use super::simd::Simd;

/// Which frame has which position in its group: only the decision, separate from the sums.
#[derive(Clone, Copy)]
pub(super) struct Group {
    wanted: usize,
    frames: usize,
    first: u64,
    last: u64,
}

/// One frame's place in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The first of its group.
    pub begins: bool,
    /// The last of its group.
    pub full: bool,
}

impl Group {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, frames: 0, first: 0, last: 0 }
    }

    /// Frames of a group.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Frames that it has.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Discards an incomplete group.
    pub(super) fn forget(&mut self) {
        self.frames = 0;
    }

    /// Takes the ordinal of the next frame.
    pub(super) fn take(&mut self, ordinal: u64) -> Place {
        let backwards = ordinal <= self.last;
        if self.frames > 0 && (backwards || ordinal - self.first >= 2 * self.wanted as u64) {
            self.forget();
        }
        let begins = self.frames == 0;
        if begins {
            self.first = ordinal;
        }
        self.last = ordinal;
        self.frames += 1;
        let full = self.frames >= self.wanted;
        if full {
            self.frames = 0;
        }
        Place { begins, full }
    }
}

/// The group being filled.
pub struct Average {
    simd: Simd,
    group: Group,
    sum: Vec<f32>,
}

impl Average {
    /// For `wanted` frames of `pixels` values each.
    pub fn new(simd: Simd, wanted: usize, pixels: usize) -> Self {
        Self { simd, group: Group::new(wanted), sum: vec![0.0; pixels] }
    }

    /// Discards an incomplete group.
    pub fn forget(&mut self) {
        self.group.forget();
    }

    /// The group, without its frames.
    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// Takes a frame with its ordinal; true when `image` now holds the mean of a full group.
    pub fn add(&mut self, ordinal: u64, image: &mut [f32]) -> bool {
        if self.group.wanted == 1 {
            return true;
        }
        let place = self.group.take(ordinal);
        if place.begins {
            self.sum.copy_from_slice(image);
        } else {
            self.simd.run(accumulate, (&mut self.sum[..], &*image));
        }
        if place.full {
            self.simd.run(mean, (&self.sum[..], 1.0 / self.group.wanted as f32, image));
        }
        place.full
    }
}

#[inline(always)]
fn accumulate((sum, image): (&mut [f32], &[f32])) {
    sum.iter_mut().zip(image).for_each(|(s, x)| *s += x);
}

#[inline(always)]
fn mean((sum, share, image): (&[f32], f32, &mut [f32])) {
    image.iter_mut().zip(sum).for_each(|(x, s)| *x = s * share);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wanted: usize, frames: &[(u64, f32)]) -> Vec<Option<f32>> {
        let mut average = Average::new(Simd::detect(), wanted, 3);
        let one = |&(number, light): &(u64, f32)| {
            let mut image = [light; 3];
            average.add(number, &mut image).then_some(image[2])
        };
        frames.iter().map(one).collect()
    }

    #[test]
    fn every_kth_frame_gives_the_mean_of_its_group() {
        let found = run(2, &[(0, 1.0), (1, 3.0), (2, 5.0), (3, 6.0)]);
        assert_eq!(found, [None, Some(2.0), None, Some(5.5)]);
        assert_eq!(run(1, &[(0, 1.0), (0, 3.0)]), [Some(1.0), Some(3.0)]);
    }

    #[test]
    fn a_lost_frame_stretches_a_group_and_a_long_gap_throws_it_away() {
        assert_eq!(run(2, &[(0, 1.0), (3, 3.0)]), [None, Some(2.0)]);
        assert_eq!(run(2, &[(0, 1.0), (4, 3.0), (5, 5.0)]), [None, None, Some(4.0)]);
    }

    #[test]
    fn numbers_that_go_back_begin_a_new_group() {
        let found = run(3, &[(7, 1.0), (8, 1.0), (0, 2.0), (1, 4.0), (2, 9.0)]);
        assert_eq!(found, [None, None, None, None, Some(5.0)]);
        assert_eq!(run(2, &[(7, 1.0), (7, 3.0), (8, 5.0)]), [None, None, Some(4.0)]);
    }
}
