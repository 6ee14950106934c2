//! The time of the frames, as one clock that never goes back.
//!
//! Why it exists: limits are in seconds, and a microscope's stamp can be missing, damaged, or begin anew with every series. What it must
//! never do: read a clock. Everything it sees is recorded with the frame, so that a replay counts the same seconds.

use crate::frame::Clock;

/// A device time that is so much further than the receipts, ns, is damaged: it would end every refractory period.
const AHEAD_NS_MAX: u64 = 1_000_000_000;

/// When a frame was, as far as anybody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By the microscope, ns.
    pub device: Option<(i64, Clock)>,
    /// Its receipt in the live run, ns.
    pub received_ns: Option<u64>,
    /// The sender's number.
    pub number: u64,
    /// Its place in its series.
    pub ordinal: u64,
}

/// Time since the first frame.
pub(super) struct FrameClock {
    last: Option<Moment>,
    now_ns: u64,
    /// Where nothing tells the time.
    period_ns: u64,
}

impl FrameClock {
    pub fn new(frame_rate_hz: f64) -> Self {
        Self { last: None, now_ns: 0, period_ns: (1e9 / frame_rate_hz.max(1e-3)) as u64 }
    }

    /// The time of the next frame, ns.
    pub fn advance(&mut self, to: Moment) -> u64 {
        let step = self.last.replace(to).map_or(0, |last| self.step(last, to));
        self.now_ns = self.now_ns.saturating_add(step);
        self.now_ns
    }

    /// The time of the last frame, ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn step(&self, last: Moment, to: Moment) -> u64 {
        let device = last.device.zip(to.device).and_then(|((before, clock), (now, other))| {
            // In 128 bits: a damaged time may lie anywhere in 64.
            let step = i128::from(now) - i128::from(before);
            if clock == other { u64::try_from(step).ok() } else { None }
        });
        let received = last.received_ns.zip(to.received_ns).and_then(|(before, now)| now.checked_sub(before));
        match (device, received) {
            (Some(device), Some(received)) if device > received.saturating_add(AHEAD_NS_MAX) => received,
            (Some(device), _) => device,
            (None, Some(received)) => received,
            (None, None) => to.ordinal.saturating_sub(last.ordinal).max(1).saturating_mul(self.period_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn moment(device_ms: Option<i64>, received_ms: Option<u64>, ordinal: u64) -> Moment {
        let device = device_ms.map(|ms| (ms * MS as i64, Clock::Device));
        Moment { device, received_ns: received_ms.map(|ms| ms * MS), number: ordinal, ordinal }
    }

    fn times_ms(moments: &[Moment]) -> Vec<u64> {
        let mut clock = FrameClock::new(25.0);
        moments.iter().map(|moment| clock.advance(*moment) / MS).collect()
    }

    #[test]
    fn the_microscope_tells_the_time_then_the_receipt_then_the_count() {
        let both = [moment(Some(10), Some(500), 0), moment(Some(43), Some(560), 1), moment(Some(76), Some(561), 2)];
        assert_eq!(times_ms(&both), [0, 33, 66]);
        let received = [moment(None, Some(500), 0), moment(None, Some(560), 1), moment(Some(0), Some(590), 2)];
        assert_eq!(times_ms(&received), [0, 60, 90]);
        let counted = [moment(None, None, 7), moment(None, None, 8), moment(None, None, 11), moment(None, None, 2)];
        assert_eq!(times_ms(&counted), [0, 40, 160, 200]);
    }

    #[test]
    fn time_that_goes_back_or_far_ahead_is_that_of_the_receipt() {
        let begun_anew = [moment(Some(9000), Some(500), 0), moment(Some(0), Some(533), 0)];
        assert_eq!(times_ms(&begun_anew), [0, 33]);
        let damaged = [moment(Some(0), Some(500), 0), moment(Some(i64::MAX / MS as i64), Some(533), 1)];
        assert_eq!(times_ms(&damaged), [0, 33]);
        let paused = [moment(Some(0), Some(500), 0), moment(Some(60_000), Some(60_700), 1)];
        assert_eq!(times_ms(&paused), [0, 60_000]);
    }
}
