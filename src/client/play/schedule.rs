//! When each frame is due: arithmetic on its index, so that the schedule cannot drift. It never reads a clock.

use std::time::Duration;

use super::{PlayError, PlayOptions, RATE_HZ_DEFAULT};

/// How fast frames go out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The recording's own rate, else 30 Hz.
    Recording,
    /// At this rate, Hz.
    Hz(f64),
    /// As fast as possible; the header then carries the actual send time.
    Flood,
}

/// Frames held back and sent at once: of every `every` frames the first `frames` go out when the last of these is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Frames sent at once.
    pub frames: u64,
    /// One burst in this many frames.
    pub every: u64,
}

/// Intended send times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Seconds between frames; `None` = flood.
    period_s: Option<f64>,
    burst: Option<Burst>,
    jitter_s: f64,
    seed: u64,
}

impl Schedule {
    /// Settles the pace.
    ///
    /// # Errors
    /// An option out of range.
    pub fn new(options: &PlayOptions, recorded_hz: Option<f64>) -> Result<Self, PlayError> {
        let wrong = |option, value: String, bound| -> Result<Self, PlayError> {
            Err(PlayError::Option { option, value, bound })
        };
        let rate_hz = match options.pace {
            Pace::Flood => None,
            Pace::Hz(rate) => Some(rate),
            Pace::Recording => Some(recorded_hz.unwrap_or(RATE_HZ_DEFAULT)),
        };
        if let Some(rate) = rate_hz.filter(|r| !(1e-3..=1e5).contains(r)) {
            return wrong("rate", format!("{rate} Hz"), "from 0.001 to 100000 Hz");
        }
        let period_s = rate_hz.map(|r| 1.0 / r);
        let jitter_s = options.jitter_ms * 1e-3;
        if !(0.0..=period_s.unwrap_or(0.0) / 2.0).contains(&jitter_s) && jitter_s != 0.0 {
            return wrong("jitter", format!("{} ms", options.jitter_ms), "0 to half the time between frames");
        }
        for (option, every) in [("skip-every", options.skip_every), ("repeat-every", options.repeat_every)] {
            if every == Some(0) || (option == "skip-every" && every == Some(1)) {
                return wrong(option, format!("{}", every.unwrap_or(0)), "2 or more (repeat: 1 or more)");
            }
        }
        if let Some(b) = options.burst.filter(|b| b.frames == 0 || b.frames > b.every) {
            return wrong("burst", format!("{} of {}", b.frames, b.every), "1 or more frames of at least as many");
        }
        Ok(Self { period_s, burst: options.burst, jitter_s, seed: options.seed })
    }

    /// When frame `index` is due, after the start; `None` = now.
    pub fn due(&self, index: u64) -> Option<Duration> {
        let period_s = self.period_s?;
        let released = match self.burst {
            Some(Burst { frames, every }) if index % every < frames => index - index % every + frames - 1,
            _ => index,
        };
        // The whole schedule moves back by the jitter's bound, so that no frame is due before the start.
        let moved_s = self.jitter_s * 2.0 * share(self.seed ^ released.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Some(Duration::from_secs_f64(released as f64 * period_s + moved_s))
    }
}

/// A pseudo-random number from 0 to 1: SplitMix64's finaliser.
fn share(mut x: u64) -> f64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(options: PlayOptions) -> Schedule {
        Schedule::new(&options, None).unwrap()
    }

    fn due_ms(schedule: &Schedule, index: u64) -> f64 {
        schedule.due(index).unwrap().as_secs_f64() * 1e3
    }

    #[test]
    fn the_schedule_is_absolute_and_does_not_drift() {
        let s = schedule(PlayOptions { pace: Pace::Hz(30.0), ..PlayOptions::default() });
        assert_eq!(s.due(0), Some(Duration::ZERO));
        assert_eq!(due_ms(&s, 30 * 3600 * 24).round(), 24.0 * 3600.0 * 1e3);
    }

    #[test]
    fn a_burst_holds_frames_back_until_its_last_one_is_due() {
        let burst = Some(Burst { frames: 3, every: 5 });
        let s = schedule(PlayOptions { pace: Pace::Hz(100.0), burst, ..PlayOptions::default() });
        let found: Vec<f64> = (0..8).map(|i| due_ms(&s, i).round()).collect();
        assert_eq!(found, [20.0, 20.0, 20.0, 30.0, 40.0, 70.0, 70.0, 70.0]);
    }

    #[test]
    fn jitter_stays_within_its_bounds_is_seeded_and_uses_them() {
        let options = PlayOptions { pace: Pace::Hz(100.0), jitter_ms: 4.0, ..PlayOptions::default() };
        let (s, same) = (schedule(options.clone()), schedule(options.clone()));
        let other = schedule(PlayOptions { seed: 2, ..options });
        let offsets: Vec<f64> = (0..1000).map(|i| due_ms(&s, i) - 10.0 * i as f64).collect();
        assert!(offsets.iter().all(|o| (-1e-6..8.0 + 1e-6).contains(o)), "centre 4 ms, ± 4 ms");
        assert!(offsets.iter().any(|o| *o < 0.4) && offsets.iter().any(|o| *o > 7.6));
        assert!((0..1000).all(|i| s.due(i) == same.due(i)));
        assert!((0..1000).any(|i| s.due(i) != other.due(i)));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let base = PlayOptions { pace: Pace::Hz(100.0), ..PlayOptions::default() };
        for (options, word) in [
            (PlayOptions { pace: Pace::Hz(0.0), ..base.clone() }, "rate"),
            (PlayOptions { pace: Pace::Hz(f64::NAN), ..base.clone() }, "rate"),
            (PlayOptions { jitter_ms: 5.1, ..base.clone() }, "jitter"),
            (PlayOptions { jitter_ms: -1.0, ..base.clone() }, "jitter"),
            (PlayOptions { skip_every: Some(1), ..base.clone() }, "skip-every"),
            (PlayOptions { repeat_every: Some(0), ..base.clone() }, "repeat-every"),
            (PlayOptions { burst: Some(Burst { frames: 4, every: 3 }), ..base.clone() }, "burst"),
        ] {
            let error = Schedule::new(&options, None).unwrap_err().to_string();
            assert!(error.starts_with(word), "{error}");
        }
    }
}
