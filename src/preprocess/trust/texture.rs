//! Do the lines of a frame resemble their neighbours? Whatever passed a microscope's optics does; noise does not.
//!
//! Why it exists: a field full of small cells has blocks that differ little, and halves of blocks that have nothing in common, and yet
//! is a picture. What it must never do: be read of a frame that is believed at first sight, since it takes as long as all the rest.
//!
//! Two lines are compared within a run of some pixels, whose mean is taken off: a detector whose lines differ shows nothing by that. The
//! second line further on was scanned in the same direction.

use super::runs::Run;

/// So many times its standard error under noise makes a correlation real.
const ERRORS: f64 = 8.0;
/// A correlation below this is no picture, however many pixels agree on it: electronics leave that much.
const CORRELATION_MIN: f64 = 0.02;

/// What lines have in common with the first and the second line below them: for each of the two the pairs of pixels, less one for each
/// mean, the sum of their products, and those of both squares.
#[derive(Clone, Copy, Default)]
pub(super) struct Texture([[f64; 4]; 2]);

impl Texture {
    /// Adds the pairs of one plane of lines of `width` px.
    pub fn read<T: Copy + Into<f64>>(&mut self, plane: &[T], runs: &[Run], width: usize) {
        for run in runs {
            for (below, sums) in self.0.iter_mut().enumerate() {
                let step = (below + 1) * width;
                // The last lines are compared with those above them.
                let has_below = run.at + step + run.length <= plane.len();
                let other = if has_below { run.at + step } else { run.at.saturating_sub(step) };
                let seen = together(&plane[run.at..][..run.length], &plane[other..][..run.length]);
                // A pixel that is not finite spoils its run.
                if seen.iter().all(|sum| sum.is_finite()) {
                    sums.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
                }
            }
        }
    }

    /// Adds what another frame showed, and forgets a share of those before.
    pub fn gather(&mut self, other: &Self, share: f64) {
        let sums = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        sums.for_each(|(sum, other)| *sum = *sum * (1.0 - share) + other);
    }

    /// Is there more in common than noise has?
    pub fn is_a_picture(&self) -> bool {
        self.0.iter().any(|[pairs, product, a, b]| {
            let bound = CORRELATION_MIN.max(ERRORS / pairs.max(1.0).sqrt());
            *product > bound * (a * b).sqrt()
        })
    }
}

/// Pairs less one, sum of the products, and of both squares, without the means.
fn together<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> [f64; 4] {
    let count = a.len().max(1) as f64;
    let mean = |values: &[T]| values.iter().map(|&value| value.into()).sum::<f64>() / count;
    let means = [mean(a), mean(b)];
    a.iter().zip(b).fold([count - 1.0, 0.0, 0.0, 0.0], |[pairs, product, square_a, square_b], (&a, &b)| {
        let (a, b) = (a.into() - means[0], b.into() - means[1]);
        [pairs, product + a * b, square_a + a * a, square_b + b * b]
    })
}
