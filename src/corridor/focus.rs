//! Does the picture drift out of focus? The correlation peak of the believed frames, against what it was at the start.
//!
//! Why it exists: a plane that sinks by some micrometres matches its template a little less every minute; no single frame looks wrong.
//! What it must never do: change anything by itself, read a clock (time is counted in frames), or allocate.

/// Time over which the peak at the start and the present peak are averaged, s.
const START_S: f64 = 20.0;
const PRESENT_S: f64 = 5.0;
/// For so long the present peak must be low, s.
const LASTS_S: f64 = 60.0;
/// Share of the peak at the start below which it is low, and above which it is back.
const LOW: f64 = 0.8;
const BACK: f64 = 0.9;

/// What one more frame changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The peak has been low for a minute.
    Began {
        /// What it was at the start.
        start: f32,
        /// What it is.
        now: f32,
    },
    /// It is back.
    Ended {
        /// What it is.
        now: f32,
    },
}

/// The running peak.
#[derive(Debug)]
pub(super) struct Focus {
    rate_hz: f64,
    frames: f64,
    start: f64,
    now: f64,
    low_frames: f64,
    adrift: bool,
}

impl Focus {
    /// `rate_hz`: frames per second of the stream.
    pub(super) fn new(rate_hz: f64) -> Self {
        Self { rate_hz, frames: 0.0, start: 0.0, now: 0.0, low_frames: 0.0, adrift: false }
    }

    /// The peak of one registered, believed frame.
    pub(super) fn push(&mut self, peak: f32) -> Change {
        let peak = f64::from(peak);
        self.frames += 1.0;
        let gain = |seconds: f64| (1.0 / self.frames).max(1.0 - (-1.0 / (seconds * self.rate_hz)).exp());
        self.now += gain(PRESENT_S) * (peak - self.now);
        if self.frames <= START_S * self.rate_hz {
            self.start += (peak - self.start) / self.frames;
            return Change::None;
        }
        self.low_frames = if self.now < LOW * self.start { self.low_frames + 1.0 } else { 0.0 };
        if !self.adrift && self.low_frames >= LASTS_S * self.rate_hz {
            self.adrift = true;
            return Change::Began { start: self.start as f32, now: self.now as f32 };
        }
        if self.adrift && self.now > BACK * self.start {
            self.adrift = false;
            return Change::Ended { now: self.now as f32 };
        }
        Change::None
    }

    /// The present peak as a share of that at the start; `None` until the start is over.
    pub(super) fn share(&self) -> Option<f32> {
        let known = self.frames > START_S * self.rate_hz && self.start > 0.0;
        known.then_some((self.now / self.start) as f32)
    }

    /// Another animal, or another template.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.rate_hz);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(focus: &mut Focus, peaks: impl IntoIterator<Item = f32>) -> Vec<(usize, Change)> {
        let told = peaks.into_iter().map(|peak| focus.push(peak)).enumerate();
        told.filter(|(_, change)| *change != Change::None).collect()
    }

    #[test]
    fn a_peak_that_sinks_for_a_minute_is_told_once_and_its_return_too() {
        let mut focus = Focus::new(10.0);
        assert_eq!(run(&mut focus, vec![0.9; 300]), []);
        assert!((focus.share().unwrap() - 1.0).abs() < 1e-3);
        let told = run(&mut focus, vec![0.5; 1200]);
        // Below 0.72 after 30 frames, and then for 600.
        assert!(
            matches!(told[..], [(at, Change::Began { start, .. })] if (600..700).contains(&at) && start > 0.89),
            "{told:?}"
        );
        let told = run(&mut focus, vec![0.9; 1200]);
        assert!(matches!(told[..], [(_, Change::Ended { .. })]), "{told:?}");
        focus.forget();
        assert_eq!(focus.share(), None);
    }

    #[test]
    fn a_dip_of_half_a_minute_is_nothing() {
        let mut focus = Focus::new(10.0);
        let peaks = [vec![0.9; 300], vec![0.4; 300], vec![0.9; 900]].concat();
        assert_eq!(run(&mut focus, peaks), []);
    }
}
