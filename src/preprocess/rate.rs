//! The stream's frame rate, measured from the frames' own times.
//!
//! Why it exists: a model trained at 15 Hz and fed 30 Hz sees the world in slow motion, unnoticed; so the rate is
//! measured and reported. The same times show where no window may span two frames: live, in a replay and in training, this is
//! the one place that says so.
//! What it must never do: influence a pixel, read a clock, or subtract times of different clocks.

use crate::frame::{Clock, DeviceTime, FrameInfo, Restart};
use crate::sys::statistics::median;

/// Intervals remembered.
const INTERVALS: usize = 64;
/// Intervals needed for a rate.
const INTERVALS_MIN: usize = 16;
/// Relative difference from the model's rate that is worth a warning.
const TOLERANCE: f64 = 0.1;

/// A frame's own time: the microscope's if it sent one, else that of its receipt in the live run.
#[derive(Clone, Copy)]
struct Last {
    ordinal: u64,
    /// `None` of a file without times.
    time: Option<DeviceTime>,
}

/// A series whose first frames are not believed begins with the first one that is.
#[derive(Clone, Copy, Default)]
pub(super) struct Began(bool);

impl Began {
    /// Every frame, believed or not.
    pub(super) fn note(&mut self, info: &FrameInfo) {
        self.0 |= info.series_began;
    }

    /// A believed frame, with what began before it.
    pub(super) fn with(&mut self, info: &FrameInfo) -> FrameInfo {
        FrameInfo { series_began: std::mem::take(&mut self.0), ..*info }
    }
}

/// Median interval of the last frames, and where the stream pauses.
#[derive(Clone, Copy)]
pub struct RateMeter {
    expected_hz: f64,
    pause_periods: f64,
    last: Option<Last>,
    /// Nanoseconds per frame, a ring.
    intervals: [f64; INTERVALS],
    seen: usize,
    hz: Option<f64>,
}

impl RateMeter {
    /// `expected_hz`: frames per second, before averaging, that the model was trained at. `pause_periods`: a longer time between
    /// two frames is a pause.
    pub fn new(expected_hz: f64, pause_periods: f64) -> Self {
        Self { expected_hz, pause_periods, last: None, intervals: [0.0; INTERVALS], seen: 0, hz: None }
    }

    /// Takes the time of one frame, and says whether no window may span the step to it: it is the first of another series, or
    /// comes after a pause. Only the frames' own times count, so that a replay finds the same.
    ///
    /// Steps over missing frames count per frame; a repeated or backward place or time, and a change of the clock, count as no
    /// interval.
    pub fn add(&mut self, info: &FrameInfo) -> Option<Restart> {
        let received = |ns| DeviceTime { ns, clock: Clock::Monotonic, stamp: None };
        let time = info.t_device.or_else(|| Some(received(i64::try_from(info.t_live_ns?).ok()?)));
        let ordinal = info.ordinal();
        let last = self.last.replace(Last { ordinal, time })?;
        let restart = info.series_began.then_some(Restart::NewSeries);
        let (Some(time), Some(before)) = (time, last.time) else { return restart };
        // In 128 bits: a damaged device time may lie anywhere in 64.
        let elapsed_ns = (i128::from(time.ns) - i128::from(before.ns)) as f64;
        let forward = before.clock == time.clock && elapsed_ns > 0.0;
        // A stream that is slower than the model needs is another fault, and no pause.
        let period_ns = 1e9 / self.hz.map_or(self.expected_hz, |hz| hz.min(self.expected_hz));
        if forward && last.ordinal < ordinal {
            self.intervals[self.seen % INTERVALS] = elapsed_ns / (ordinal - last.ordinal) as f64;
            self.seen += 1;
            self.measure();
        }
        restart.or((forward && elapsed_ns > self.pause_periods * period_ns).then_some(Restart::Pause))
    }

    fn measure(&mut self) {
        let known = self.seen.min(INTERVALS);
        if known >= INTERVALS_MIN {
            let mut intervals = self.intervals;
            self.hz = median(&mut intervals[..known], f64::total_cmp).map(|ns| 1e9 / ns);
        }
    }

    /// Starts again with the next frame.
    pub fn forget(&mut self) {
        (self.last, self.seen, self.hz) = (None, 0, None);
    }

    /// Frames per second, before averaging; `None` until enough intervals are known.
    pub fn hz(&self) -> Option<f64> {
        self.hz
    }

    /// Is a measured rate more than 10 % off?
    pub fn is_off(&self, hz: f64) -> bool {
        (hz / self.expected_hz - 1.0).abs() > TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    fn info(number: u64, received_ns: u64, device_ns: Option<i64>) -> FrameInfo {
        let t_device = device_ns.map(|ns| DeviceTime { ns, clock: Clock::Device, stamp: None });
        FrameInfo { number, t_live_ns: Some(received_ns), t_device, ..Frame::with_capacity(0).info }
    }

    #[test]
    fn the_rate_is_told_after_sixteen_intervals() {
        let mut meter = RateMeter::new(30.0, 5.0);
        for i in 0..17u64 {
            assert_eq!(meter.hz(), None, "after {i} frames");
            meter.add(&info(i, i * 33_333_333, None));
        }
        let hz = meter.hz().unwrap();
        assert!((hz - 30.0).abs() < 1e-3 && !meter.is_off(hz), "{hz}");
    }

    #[test]
    fn missing_frames_do_not_look_slow_and_bursts_do_not_move_the_median() {
        let mut meter = RateMeter::new(60.0, 5.0);
        let numbers = (0..200u64).filter(|n| n % 3 != 1);
        for n in numbers {
            meter.add(&info(n, n * 16_666_667 + (n % 10 / 9) * 9_000_000, None));
        }
        let hz = meter.hz().unwrap();
        assert!((hz - 60.0).abs() < 0.01, "{hz}");
    }

    #[test]
    fn the_device_time_wins_and_clocks_are_never_mixed() {
        let mut meter = RateMeter::new(30.0, 5.0);
        for i in 0..40u64 {
            meter.add(&info(i, i * 1_000_000, Some(i as i64 * 20_000_000)));
            // No device time: another clock; neither this step nor the one back is an interval.
            meter.add(&info(i, i * 1_000_000, None));
        }
        assert_eq!(meter.hz(), None);
        let mut meter = RateMeter::new(30.0, 5.0);
        for i in 0..20u64 {
            meter.add(&info(i, i * 1_000_000, Some(i as i64 * 20_000_000)));
        }
        assert_eq!(meter.hz(), Some(50.0));
        assert!(meter.is_off(50.0) && meter.is_off(26.9) && !meter.is_off(32.9) && !meter.is_off(27.1));
    }

    #[test]
    fn damaged_times_and_numbers_are_passed_over() {
        let mut meter = RateMeter::new(50.0, 5.0);
        for (number, ns) in [(5, i64::MIN), (6, i64::MAX), (4, 0), (4, 10), (3, -7), (u64::MAX, i64::MAX)] {
            meter.add(&info(number, 0, Some(ns)));
        }
        for i in 0..40u64 {
            meter.add(&info(i, 0, Some(i as i64 * 20_000_000)));
        }
        let hz = meter.hz().unwrap();
        assert!((hz - 50.0).abs() < 1e-6, "{hz}");
    }

    const PERIOD: i64 = 33_333_333;

    /// What is found at frames with these numbers and times; `begins` is the first of a series.
    fn restarts(meter: &mut RateMeter, frames: &[(u64, i64)], begins: u64) -> Vec<(u64, Restart)> {
        let told = |&(number, ns): &(u64, i64)| {
            let frame = FrameInfo { series_began: number == begins, ..info(number, 0, Some(ns)) };
            Some((number, meter.add(&frame)?))
        };
        frames.iter().filter_map(told).collect()
    }

    #[test]
    fn a_pause_is_longer_than_five_periods_and_a_series_begins_anew_without_one() {
        let steady: Vec<(u64, i64)> = (0..30).map(|n| (n, n as i64 * PERIOD)).collect();
        let mut meter = RateMeter::new(30.0, 5.0);
        assert_eq!(restarts(&mut meter, &steady, 0), [], "before the first frame there is no window");
        let after = [(30, 34 * PERIOD), (31, 40 * PERIOD), (40, 49 * PERIOD), (41, 50 * PERIOD)];
        let found = restarts(&mut meter, &after, 41);
        assert_eq!(found, [(31, Restart::Pause), (40, Restart::Pause), (41, Restart::NewSeries)]);
    }

    #[test]
    fn a_slow_stream_a_clock_that_went_back_and_another_clock_are_no_pause() {
        let mut meter = RateMeter::new(30.0, 5.0);
        let slow: Vec<(u64, i64)> = (0..40).map(|n| (n, n as i64 * 6 * PERIOD)).collect();
        let found = restarts(&mut meter, &slow, u64::MAX);
        assert!(found.iter().all(|(frame, _)| *frame <= 16), "until the rate is known: {found:?}");
        assert_eq!(restarts(&mut meter, &[(40, 5), (41, 6)], u64::MAX), []);
        assert_eq!(meter.add(&info(42, 900 * PERIOD as u64, None)), None);
    }

    #[test]
    fn only_times_of_the_live_run_count_and_a_file_without_times_has_neither_rate_nor_pause() {
        let mut untimed = RateMeter::new(30.0, 5.0);
        for n in 0..100u64 {
            let frame = FrameInfo { t_live_ns: None, t_received_ns: n * n * 1_000_000_000, ..info(n, 0, None) };
            assert_eq!((untimed.add(&frame), untimed.hz()), (None, None));
        }
        let (mut live, mut again) = (RateMeter::new(30.0, 5.0), RateMeter::new(30.0, 5.0));
        for n in 0..200u64 {
            let received = n * 33_000_000 + (n / 50) * 700_000_000;
            let stamp =
                (n % 7 == 0).then_some(DeviceTime { ns: received as i64, clock: Clock::Monotonic, stamp: None });
            let seen = FrameInfo { t_device: stamp, ..info(n, received, None) };
            let replayed = FrameInfo { t_received_ns: n, ..seen };
            assert_eq!((live.add(&seen), live.hz()), (again.add(&replayed), again.hz()), "frame {n}");
        }
    }
}
