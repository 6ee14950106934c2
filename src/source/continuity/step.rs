//! The step of a sender's numbers from frame to frame, learnt from the numbers themselves.
//!
//! Why it exists: of a volume of four planes, numbered frame by frame, one plane has every fourth number, and nothing is missing.
//! What it must never do: keep a step that the numbers contradict.
//!
//! The first difference is taken for the step. A difference that is no multiple of it proves a smaller one: the greatest common
//! divisor of both. A larger step is believed again only after [`RELEARN`] equal differences.

/// Largest step believed: more planes than a volume has. A larger difference is a gap.
pub(super) const STEP_MAX: u64 = 256;
/// Equal differences in a row after which another step is believed.
const RELEARN: u32 = 16;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// 0 while nothing is known.
    numbers: u64,
    /// Differences seen.
    seen: u32,
    /// The last difference, and how often in a row it came.
    run: (u64, u32),
}

impl Step {
    /// A step that is known.
    pub(super) fn of(numbers: u64) -> Self {
        Self { numbers, seen: 2, run: (numbers, 2) }
    }

    /// Frames missing between two numbers this far apart, as far as the step is known.
    pub(super) fn gap(&self, difference: u64) -> u64 {
        let step = match self.numbers {
            0 if difference <= STEP_MAX => difference,
            0 => 1,
            known => greatest_common_divisor(known, difference),
        };
        difference / step.max(1) - 1
    }

    /// Takes the next difference, which is at least 1; returns how many frames are missing in it. If it shows that the only
    /// difference before it was a gap as well, those frames are included.
    pub(super) fn take(&mut self, difference: u64) -> u64 {
        let gap = self.gap(difference);
        let smaller = difference / (gap + 1);
        let owed = if self.seen == 1 && smaller < self.numbers { self.numbers / smaller - 1 } else { 0 };
        self.numbers = smaller;
        self.seen = self.seen.saturating_add(1);
        let (last, times) = self.run;
        self.run = (difference, if difference == last { times.saturating_add(1) } else { 1 });
        if self.run.1 >= RELEARN && difference <= STEP_MAX {
            self.numbers = difference;
        }
        gap + owed
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(differences: &[u64]) -> Vec<u64> {
        let mut step = Step::default();
        differences.iter().map(|&difference| step.take(difference)).collect()
    }

    #[test]
    fn any_constant_step_has_no_gap_and_a_lost_frame_is_one() {
        for step in [1, 2, 3, 4, 30, STEP_MAX] {
            assert_eq!(gaps(&[step, step, step, 2 * step, step, 5 * step]), [0, 0, 0, 1, 0, 4], "step {step}");
        }
        assert_eq!(gaps(&[STEP_MAX + 1, 1, 1]), [STEP_MAX, 0, 0]);
    }

    #[test]
    fn a_first_difference_that_was_a_gap_is_told_with_the_next_one() {
        assert_eq!(gaps(&[3, 1, 1]), [0, 2, 0]);
        assert_eq!(gaps(&[6, 4, 4, 2]), [0, 3, 1, 0], "planes, and a frame lost at once");
    }

    #[test]
    fn a_smaller_step_is_believed_at_once_and_a_larger_one_after_a_while() {
        assert_eq!(gaps(&[2, 2, 2, 1, 1]), [0, 0, 0, 0, 0]);
        assert_eq!(gaps(&[4, 4, 4, 2, 2, 4]), [0, 0, 0, 0, 0, 1]);
        let mut step = Step::of(1);
        let found: Vec<u64> = (0..RELEARN + 3).map(|_| step.take(4)).collect();
        assert_eq!(found[..RELEARN as usize], [3; RELEARN as usize]);
        assert_eq!(found[RELEARN as usize..], [0; 3]);
        // Losses that come and go are losses.
        assert_eq!(gaps(&[1, 1, 2, 1, 2, 1, 3]), [0, 0, 1, 0, 1, 0, 2]);
    }

    #[test]
    fn no_difference_overflows() {
        let mut step = Step::default();
        assert_eq!(step.take(u64::MAX), u64::MAX - 1);
        assert_eq!(Step::of(STEP_MAX).gap(u64::MAX), u64::MAX - 1);
    }
}
