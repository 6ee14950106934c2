//! How old a frame was when it arrived.
//!
//! Why it exists: a frame that waited on a slow link, in a queue, or while the daemon was stopped arrives "now" and was taken long
//! ago; the deadline must count that time too. What it must never do: read a clock (times are passed in), allocate, or change
//! what a frame decodes to: only the fail-safe reads an age.
//!
//! **By the time stamp.** `monotonic` stamps of a sender on this machine are subtracted from the receipt. All other clocks are
//! measured against the frame that arrived fastest ([`StampAge`]): `unix` and `ptp` keep running, a `device` clock is taken to
//! begin anew with each series.
//!
//! **Without a stamp** only a standstill shows that frames waited: nothing was received for several periods, because the daemon was
//! stopped, a cable was out, or the microscope paused. Frames that come after it, closer together than frames are taken, come
//! from a queue. If the sender went on meanwhile, the frame k periods after the last one before the standstill is as old as the
//! standstill less k periods. It ends when a frame comes at the pace of the microscope, or the queue has been caught up with.

use crate::frame::{Clock, DeviceTime, SenderClock};
use crate::sys::clock_offset::ClockOffset;
use crate::sys::stamp_age::StampAge;

/// The shortest standstill, ns: no scheduler stops a daemon that long without need.
const STANDSTILL_NS_MIN: u64 = 100_000_000;
/// The shortest standstill, periods.
const STANDSTILL_PERIODS_MIN: u64 = 3;
/// Distance of two frames of the microscope while the period is not known, ns; frames from a queue follow each other faster.
const PACE_NS: u64 = 5_000_000;
/// Frames over which the period is averaged; and the longest interval that counts, in means.
const SMOOTHING: u64 = 16;
const OUTLIER: u64 = 16;

/// What is known of a frame that has just arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// The sender's time stamp.
    pub stamp: Option<DeviceTime>,
    /// It is the first of a series.
    pub series_began: bool,
    /// Frames since the one before it, missing ones and itself included.
    pub frames: u64,
    /// When it had arrived, ns.
    pub received_ns: u64,
    /// When the source was last found empty, ns: a frame that was there already when it was looked for may have waited since then.
    pub empty_ns: u64,
}

/// The ages of the frames of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ages {
    stamps: StampAge,
    clock: Option<Clock>,
    queue: Queue,
    offset: ClockOffset,
    /// How the clock lies, for people and records: no age is made of it.
    lies: Option<SenderClock>,
}

impl Ages {
    /// Age of a frame at its receipt, ns; `None` = not known. To be asked for every frame, in order.
    pub fn of(&mut self, arrived: &Arrived) -> Option<u64> {
        let waited_ns = self.queue.waited_ns(arrived);
        let Some(stamp) = arrived.stamp else { return waited_ns };
        let clock = Some(stamp.clock);
        if self.clock != clock {
            (self.offset, self.lies) = (ClockOffset::default(), None);
        } else if self.stamps.restarts_at(stamp.ns) {
            self.offset.restart();
        }
        self.lies = self.offset.note(stamp.clock, stamp.ns, arrived.received_ns).or(self.lies);
        if self.clock != clock || (arrived.series_began && stamp.clock == Clock::Device) {
            (self.stamps, self.clock) = (StampAge::default(), clock);
        }
        let waited_ns = waited_ns.unwrap_or(0);
        Some(match stamp.clock {
            Clock::Monotonic => self.stamps.of_monotonic(stamp.ns, arrived.received_ns, waited_ns),
            Clock::Unix | Clock::Ptp | Clock::Device => self.stamps.of_other(stamp.ns, arrived.received_ns, waited_ns),
        })
    }
}

impl Ages {
    /// How the clock of the stamps lies to ours; `None` without stamps.
    pub const fn sender_clock(&self) -> Option<SenderClock> {
        self.lies
    }
}

/// Whether frames come from a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Receipt of the last frame; 0 = none yet.
    last_ns: u64,
    /// Mean time between two frames, missing ones included; 0 before it is known.
    period_ns: u64,
    /// Frames that it was averaged over, [`SMOOTHING`] at most.
    averaged: u64,
    burst: Burst,
    standstill: Option<Standstill>,
}

/// The frames since the source was last found empty: one that was waited for, and those that followed it faster than it was read.
///
/// What it holds was taken since the burst before it, whether the microscope sends so or something held the frames up. So the period is
/// measured when a burst is over; between the frames of a queue it would be that of the reader.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    /// Receipt of the frame that was waited for; 0 = none yet.
    from_ns: u64,
    /// Since the same of the burst before; 0 = there was none.
    since_last_ns: u64,
    /// Frames, missing ones included.
    frames: u64,
    /// Those after the one that was waited for.
    followed: u64,
}

/// A standstill from which the stream has not caught up yet.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    /// Receipt of the last frame before it.
    from_ns: u64,
    /// The period before it.
    period_ns: u64,
    /// Frames since then, missing ones included.
    frames: u64,
}

impl Queue {
    fn waited_ns(&mut self, arrived: &Arrived) -> Option<u64> {
        let Arrived { frames, received_ns, .. } = *arrived;
        let before_ns = std::mem::replace(&mut self.last_ns, received_ns);
        let awaited = before_ns == 0 || arrived.empty_ns > before_ns;
        if awaited {
            let ended = self.burst;
            self.measure(&ended);
            let since_last_ns = if ended.from_ns == 0 { 0 } else { received_ns.saturating_sub(ended.from_ns) };
            self.burst = Burst { from_ns: received_ns, since_last_ns, frames, followed: 0 };
        } else {
            self.burst.frames = self.burst.frames.saturating_add(frames);
            self.burst.followed = self.burst.followed.saturating_add(frames);
        }
        if before_ns == 0 {
            return None;
        }
        let (interval_ns, period_ns) = (received_ns.saturating_sub(before_ns), self.period_ns);
        let longest_ns = STANDSTILL_NS_MIN.max(STANDSTILL_PERIODS_MIN.saturating_mul(period_ns));
        if interval_ns > longest_ns && (awaited || self.standstill.is_none()) {
            self.standstill = Some(Standstill { from_ns: before_ns, period_ns, frames: 0 });
        } else if awaited && self.standstill.is_some_and(|standstill| interval_ns >= standstill.pace_ns()) {
            self.standstill = None;
        } else if received_ns.saturating_sub(arrived.empty_ns) > longest_ns && self.standstill.is_none() {
            // It is we who read too slowly.
            let before = self.burst.followed.saturating_sub(frames);
            self.standstill = Some(Standstill { from_ns: arrived.empty_ns, period_ns, frames: before });
        }
        let standstill = self.standstill.as_mut()?;
        standstill.frames = standstill.frames.saturating_add(frames);
        let taken_ns = standstill.frames.saturating_mul(standstill.period_ns);
        let waited_ns = received_ns.saturating_sub(standstill.from_ns).saturating_sub(taken_ns);
        if waited_ns <= standstill.pace_ns() {
            self.standstill = None;
        }
        Some(waited_ns)
    }

    /// The period, by a burst that is over.
    fn measure(&mut self, burst: &Burst) {
        if burst.since_last_ns == 0 {
            return;
        }
        let (mean, frames) = (self.period_ns, burst.frames.clamp(1, SMOOTHING));
        let of_a_frame = burst.since_last_ns / burst.frames.max(1);
        let counted = if mean == 0 { of_a_frame } else { of_a_frame.min(OUTLIER.saturating_mul(mean)) };
        self.averaged = (self.averaged + frames).min(SMOOTHING);
        self.period_ns = mean - mean / self.averaged * frames + counted / self.averaged * frames;
    }
}

impl Standstill {
    /// Frames at this distance or more are not read from a queue.
    const fn pace_ns(&self) -> u64 {
        if self.period_ns == 0 { PACE_NS } else { self.period_ns / 4 * 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PERIOD: u64 = 33 * MS;

    fn bare(received_ns: u64) -> Arrived {
        Arrived { stamp: None, series_began: false, frames: 1, received_ns, empty_ns: received_ns }
    }

    fn stamped(ns: u64, clock: Clock, received_ns: u64) -> Arrived {
        let stamp = Some(DeviceTime { ns: ns as i64, clock, stamp: None });
        Arrived { stamp, ..bare(received_ns) }
    }

    /// Twenty frames on time; the receipt of the last.
    fn on_time(ages: &mut Ages) -> u64 {
        for n in 1..=20 {
            assert_eq!(ages.of(&bare(n * PERIOD)), None, "frame {n}");
        }
        20 * PERIOD
    }

    #[test]
    fn frames_without_a_stamp_are_as_old_after_a_standstill_as_their_place_in_the_queue_says() {
        let mut ages = Ages::default();
        let from = on_time(&mut ages);
        // Three seconds: 90 frames wait, and one more comes before they are read.
        let until = from + 90 * PERIOD;
        let mut measured = Vec::new();
        for k in 1..=91 {
            let received = until + k * MS / 2;
            let truly = received - (from + k * PERIOD);
            let queued = Arrived { empty_ns: from + 1, ..bare(received) };
            let age = ages.of(&queued).unwrap();
            assert!(age.abs_diff(truly) < MS / 100, "frame {k}: {age} for {truly}");
            measured.push(age);
        }
        assert!(measured[0] > 2_900 * MS && measured[90] < PERIOD, "{measured:?}");
        assert_eq!(ages.of(&bare(until + 2 * PERIOD)), None, "caught up");
    }

    #[test]
    fn lost_frames_are_no_standstill_and_a_pause_of_the_microscope_costs_one_frame() {
        let mut ages = Ages::default();
        let from = on_time(&mut ages);
        let jumped = Arrived { frames: 10, ..bare(from + 10 * PERIOD) };
        assert_eq!(ages.of(&jumped), Some(0));
        let from = from + 10 * PERIOD;
        assert_eq!(ages.of(&bare(from + PERIOD)), None);
        let back = from + 5_000 * MS;
        assert!(ages.of(&bare(back)).is_some_and(|age| age > 4_000 * MS), "it may have waited");
        assert_eq!(ages.of(&bare(back + PERIOD)), None, "at the microscope's pace");
    }

    #[test]
    fn a_reader_that_is_too_slow_knows_how_far_it_is_behind() {
        let mut ages = Ages::default();
        let from = on_time(&mut ages);
        for k in 1..100 {
            let received = from + k * 50 * MS;
            let age = ages.of(&Arrived { empty_ns: from, ..bare(received) });
            let truly = k * (50 * MS - PERIOD);
            assert!(k < 5 || age.is_some_and(|age| age.abs_diff(truly) <= PERIOD), "frame {k}: {age:?} for {truly}");
        }
    }

    #[test]
    fn bursts_are_as_old_as_their_microscope_made_them_and_a_slower_stream_is_no_standstill_for_long() {
        let mut ages = Ages::default();
        let mut last = [0; 4];
        for burst in 0..100 {
            let first = MS + burst * 4 * PERIOD;
            let of =
                |ages: &mut Ages, k: u64| ages.of(&Arrived { empty_ns: first, ..bare(first + k * 1_000) }).unwrap_or(0);
            last = [0, 1, 2, 3].map(|k| of(&mut ages, k));
        }
        for (age, truly) in last.iter().zip([3 * PERIOD, 2 * PERIOD, PERIOD, 0]) {
            assert!(age.abs_diff(truly) < 12 * MS, "{last:?}");
        }
        let from = MS + 99 * 4 * PERIOD;
        let slow: Vec<_> = (1..60).map(|n| ages.of(&bare(from + n * 200 * MS))).collect();
        assert!(slow[30..].iter().all(Option::is_none), "{slow:?}");
    }

    #[test]
    fn a_queue_whose_frames_period_is_not_known_may_be_as_old_as_the_standstill() {
        let mut ages = Ages::default();
        assert_eq!(ages.of(&bare(1_000 * MS)), None);
        assert_eq!(ages.of(&bare(3_000 * MS)), Some(2_000 * MS));
        assert_eq!(ages.of(&bare(3_001 * MS)), Some(2_001 * MS));
        assert_eq!(ages.of(&bare(3_030 * MS)), None);
    }

    #[test]
    fn every_clock_tells_an_age_and_a_device_clock_may_begin_anew_with_a_series() {
        for clock in [Clock::Monotonic, Clock::Unix, Clock::Ptp, Clock::Device] {
            let mut ages = Ages::default();
            let (epoch, receipt) = (40_000_000 * MS, 1_000_000 * MS);
            assert_eq!(ages.of(&stamped(epoch, clock, receipt)), Some(0), "{clock:?}");
            let late = ages.of(&stamped(epoch + PERIOD, clock, receipt + PERIOD + 500 * MS));
            assert!(late.is_some_and(|age| age.abs_diff(500 * MS) < MS), "{clock:?} {late:?}");
        }
        let mut ages = Ages::default();
        ages.of(&stamped(5 * PERIOD, Clock::Device, 5 * PERIOD));
        // It counted only while it acquired.
        let first = Arrived { series_began: true, ..stamped(6 * PERIOD, Clock::Device, 6 * PERIOD + 50 * MS) };
        assert_eq!(ages.of(&first), Some(0));
    }

    #[test]
    fn the_first_frame_of_a_clock_that_begins_anew_in_a_queue_is_not_taken_for_fresh() {
        let mut ages = Ages::default();
        ages.of(&stamped(PERIOD, Clock::Device, PERIOD));
        let first = Arrived { series_began: true, ..stamped(0, Clock::Device, PERIOD + 3_000 * MS) };
        // After a single frame, no period is known.
        assert_eq!(ages.of(&first), Some(3_000 * MS));
    }
}
