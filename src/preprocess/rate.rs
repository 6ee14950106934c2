//! The stream's frame rate, measured from the frames' own times.
//!
//! Why it exists: a model trained at 15 Hz and fed 30 Hz sees the world in slow motion, unnoticed; so the rate is
//! measured and reported.
//! What it must never do: influence a pixel, read a clock, or subtract times of different clocks.

use crate::frame::{Clock, FrameInfo};
use crate::sys::statistics::median;

/// Intervals remembered.
const INTERVALS: usize = 64;
/// Intervals needed for a rate.
const INTERVALS_MIN: usize = 16;
/// Relative difference from the model's rate that is worth a warning.
const TOLERANCE: f64 = 0.1;

/// A time and its clock; `None` = the receiving machine's.
#[derive(Clone, Copy)]
struct Last {
    ordinal: u64,
    ns: i64,
    clock: Option<Clock>,
}

/// Median interval of the last frames.
pub struct RateMeter {
    expected_hz: f64,
    last: Option<Last>,
    /// Nanoseconds per frame, a ring.
    intervals: [f64; INTERVALS],
    seen: usize,
}

impl RateMeter {
    /// `expected_hz`: frames per second, before averaging, that the model was trained at.
    pub fn new(expected_hz: f64) -> Self {
        Self { expected_hz, last: None, intervals: [0.0; INTERVALS], seen: 0 }
    }

    /// Takes the time of one frame: the microscope's if it sent one, else the time of receipt.
    ///
    /// Steps over missing frames count per frame; a repeated or backward place or time, and a change of the clock, count as no
    /// interval.
    pub fn add(&mut self, info: &FrameInfo) {
        let (ns, clock) = match info.t_device {
            Some(time) => (time.ns, Some(time.clock)),
            None => (info.t_received_ns as i64, None),
        };
        let ordinal = info.ordinal();
        let last = self.last.replace(Last { ordinal, ns, clock });
        let Some(last) = last.filter(|last| last.clock == clock && last.ordinal < ordinal && last.ns < ns) else {
            return;
        };
        // In 128 bits: a damaged device time may lie anywhere in 64.
        self.intervals[self.seen % INTERVALS] = (ns as i128 - last.ns as i128) as f64 / (ordinal - last.ordinal) as f64;
        self.seen += 1;
    }

    /// Frames per second, before averaging; `None` until enough intervals are known.
    pub fn hz(&self) -> Option<f64> {
        let known = self.seen.min(INTERVALS);
        if known < INTERVALS_MIN {
            return None;
        }
        let mut intervals = self.intervals;
        median(&mut intervals[..known], f64::total_cmp).map(|ns| 1e9 / ns)
    }

    /// Is a measured rate more than 10 % off?
    pub fn is_off(&self, hz: f64) -> bool {
        (hz / self.expected_hz - 1.0).abs() > TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{DeviceTime, Frame};

    fn info(number: u64, received_ns: u64, device_ns: Option<i64>) -> FrameInfo {
        let t_device = device_ns.map(|ns| DeviceTime { ns, clock: Clock::Device, stamp: None });
        FrameInfo { number, t_received_ns: received_ns, t_device, ..Frame::with_capacity(0).info }
    }

    #[test]
    fn the_rate_is_told_after_sixteen_intervals() {
        let mut meter = RateMeter::new(30.0);
        for i in 0..17u64 {
            assert_eq!(meter.hz(), None, "after {i} frames");
            meter.add(&info(i, i * 33_333_333, None));
        }
        let hz = meter.hz().unwrap();
        assert!((hz - 30.0).abs() < 1e-3 && !meter.is_off(hz), "{hz}");
    }

    #[test]
    fn missing_frames_do_not_look_slow_and_bursts_do_not_move_the_median() {
        let mut meter = RateMeter::new(60.0);
        let numbers = (0..200u64).filter(|n| n % 3 != 1);
        numbers.for_each(|n| meter.add(&info(n, n * 16_666_667 + (n % 10 / 9) * 9_000_000, None)));
        let hz = meter.hz().unwrap();
        assert!((hz - 60.0).abs() < 0.01, "{hz}");
    }

    #[test]
    fn the_device_time_wins_and_clocks_are_never_mixed() {
        let mut meter = RateMeter::new(30.0);
        for i in 0..40u64 {
            meter.add(&info(i, i * 1_000_000, Some(i as i64 * 20_000_000)));
            // No device time: another clock; neither this step nor the one back is an interval.
            meter.add(&info(i, i * 1_000_000, None));
        }
        assert_eq!(meter.hz(), None);
        let mut meter = RateMeter::new(30.0);
        (0..20u64).for_each(|i| meter.add(&info(i, i * 1_000_000, Some(i as i64 * 20_000_000))));
        assert_eq!(meter.hz(), Some(50.0));
        assert!(meter.is_off(50.0) && meter.is_off(26.9) && !meter.is_off(32.9) && !meter.is_off(27.1));
    }

    #[test]
    fn damaged_times_and_numbers_are_passed_over() {
        let mut meter = RateMeter::new(50.0);
        for (number, ns) in [(5, i64::MIN), (6, i64::MAX), (4, 0), (4, 10), (3, -7), (u64::MAX, i64::MAX)] {
            meter.add(&info(number, 0, Some(ns)));
        }
        (0..40u64).for_each(|i| meter.add(&info(i, 0, Some(i as i64 * 20_000_000))));
        let hz = meter.hz().unwrap();
        assert!((hz - 50.0).abs() < 1e-6, "{hz}");
    }
}
