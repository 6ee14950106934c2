//! Offset and drift between a sender's clock and ours, from nothing but its stamps and their receipt.
//!
//! Why it exists: times of two clocks can be compared afterwards only if somebody measured how the clocks lay. A message takes some time
//! on its way and never arrives before it was sent, so that receipt − stamp lies above a line: what the offset is, and how it changes.
//! The line is the one below all points that lies closest to them together (Moon, Skelly & Towsley 1999, "Estimation and removal of clock
//! skew from network delay measurements"); a delay, however long, only adds a point above it. The smallest delay is part of the offset:
//! from one side nobody can see it.
//! What it must never do: read a clock (times are passed in), allocate, or decide what is fresh (that is `stamp_age`'s work).

use crate::frame::{Clock, SenderClock};

/// Points that are kept: the fastest message of each window.
const POINTS_MAX: usize = 64;
/// The first windows, ns; each time the points are full, windows become twice as long.
const WINDOW_NS_MIN: u64 = 1_000_000_000;
/// The longest window, ns: with it, the points span half an hour to an hour, after which the oldest are forgotten.
const WINDOW_NS_MAX: u64 = 32_000_000_000;
/// Points from which a drift is told.
const POINTS_FOR_DRIFT: usize = 8;
/// No two clocks drift apart faster, ns per s.
const SLOPE_MAX: f64 = 500e3;
/// A point this far below the line says that the clock was set forward, ns. Far above it says nothing: messages may wait for long, and a
/// clock that was set back shows in its stamps.
const STEP_NS: f64 = 10e6;

/// The fastest message of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    /// Receipt, s after the first message.
    at_s: f64,
    /// Receipt − stamp, ns more than that of the first message.
    above_ns: f64,
}

/// `above_ns` of the line at `at_s` 0, and its slope, ns per s.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    level_ns: f64,
    slope: f64,
}

impl Line {
    fn residual(&self, point: Point) -> f64 {
        point.above_ns - self.level_ns - self.slope * point.at_s
    }
}

/// The clock of one sender.
#[derive(Clone, Copy, Debug)]
pub struct ClockOffset {
    /// Receipt and receipt − stamp of the first message.
    first: Option<(u64, i128)>,
    points: [Point; POINTS_MAX],
    count: usize,
    window_ns: u64,
    window_began_ns: u64,
    /// Of the window that goes on.
    fastest: Option<Point>,
    line: Line,
    /// Of the last estimate.
    told_ns: u64,
    steps: u32,
}

impl Default for ClockOffset {
    fn default() -> Self {
        Self {
            first: None,
            points: [Point::default(); POINTS_MAX],
            count: 0,
            window_ns: WINDOW_NS_MIN,
            window_began_ns: 0,
            fastest: None,
            line: Line::default(),
            told_ns: 0,
            steps: 0,
        }
    }
}

impl ClockOffset {
    /// Looks at one message; `Some` with the first, and about once a second: the offset moves while the clocks drift.
    pub fn note(&mut self, clock: Clock, stamp_ns: i64, received_ns: u64) -> Option<SenderClock> {
        let difference = i128::from(received_ns) - i128::from(stamp_ns);
        let Some((first_ns, first_difference)) = self.first else {
            self.first = Some((received_ns, difference));
            (self.window_began_ns, self.fastest) = (received_ns, Some(Point::default()));
            return self.estimate(clock, received_ns);
        };
        let at_s = received_ns.saturating_sub(first_ns) as f64 / 1e9;
        let point = Point { at_s, above_ns: (difference - first_difference) as f64 };
        if self.count >= POINTS_FOR_DRIFT && self.line.residual(point) < -STEP_NS {
            self.begin_anew();
            return self.note(clock, stamp_ns, received_ns);
        }
        if received_ns.saturating_sub(self.window_began_ns) < self.window_ns {
            let line = self.line;
            self.fastest =
                self.fastest.filter(|fastest| line.residual(*fastest) <= line.residual(point)).or(Some(point));
            return self.due(received_ns).then(|| self.estimate(clock, received_ns)).flatten();
        }
        self.window_began_ns = received_ns;
        if let Some(ended) = self.fastest.replace(point) {
            self.keep(ended);
            self.line = self.supporting();
        }
        self.estimate(clock, received_ns)
    }

    /// The clock was started again: nothing is known but how often that happened.
    pub fn restart(&mut self) {
        if self.first.is_some() {
            self.begin_anew();
        }
    }

    /// Our time of a stamp, ns; `None` before the first message.
    pub fn ours(&self, stamp_ns: i64) -> Option<i64> {
        let (first_ns, difference) = self.first?;
        // The line is so flat that the receipt may stand for the moment itself.
        let at_s = (i128::from(stamp_ns) + difference - i128::from(first_ns)) as f64 / 1e9;
        let offset = difference + (self.line.level_ns + self.line.slope * at_s).round() as i128;
        i64::try_from(i128::from(stamp_ns) + offset).ok()
    }

    /// How the clock lies at this moment of ours.
    fn estimate(&self, clock: Clock, now_ns: u64) -> Option<SenderClock> {
        let (first_ns, difference) = self.first?;
        let now_s = now_ns.saturating_sub(first_ns) as f64 / 1e9;
        let offset = difference + (self.line.level_ns + self.line.slope * now_s).round() as i128;
        let points = &self.points[..self.count];
        let span_s = points.first().zip(points.last()).map_or(0.0, |(first, last)| last.at_s - first.at_s);
        let offset_error_ns = self.typical_residual();
        let tells_drift = self.count >= POINTS_FOR_DRIFT && span_s > 0.0;
        Some(SenderClock {
            clock,
            offset_ns: i64::try_from(offset).ok()?,
            offset_error_us: (offset_error_ns / 1e3) as f32,
            drift_ppm: tells_drift.then_some((-self.line.slope / 1e3) as f32),
            drift_error_ppm: tells_drift.then_some((2.0 * offset_error_ns / span_s / 1e3) as f32),
            span_s: span_s as f32,
            steps: self.steps,
        })
    }

    /// A second has gone by since the last estimate.
    fn due(&mut self, now_ns: u64) -> bool {
        let due = now_ns.saturating_sub(self.told_ns) >= WINDOW_NS_MIN;
        if due {
            self.told_ns = now_ns;
        }
        due
    }

    fn begin_anew(&mut self) {
        *self = Self { steps: self.steps.saturating_add(1), ..Self::default() };
    }

    /// Keeps the fastest message of a window that ended.
    fn keep(&mut self, point: Point) {
        if self.count == POINTS_MAX && self.window_ns < WINDOW_NS_MAX {
            for pair in 0..POINTS_MAX / 2 {
                let [a, b] = [self.points[2 * pair], self.points[2 * pair + 1]];
                self.points[pair] = if self.line.residual(a) <= self.line.residual(b) { a } else { b };
            }
            (self.count, self.window_ns) = (POINTS_MAX / 2, self.window_ns * 2);
        } else if self.count == POINTS_MAX {
            self.points.copy_within(1.., 0);
            self.count -= 1;
        }
        self.points[self.count] = point;
        self.count += 1;
    }

    /// The line below all points that is closest to them together: the edge of their lower hull under their mean time.
    fn supporting(&self) -> Line {
        let points = &self.points[..self.count];
        if self.count < POINTS_FOR_DRIFT {
            // Too short for a drift: the fastest message tells the offset.
            let level_ns = points.iter().map(|point| point.above_ns).fold(f64::INFINITY, f64::min);
            return Line { level_ns, slope: 0.0 };
        }
        let (mut hull, mut corners) = ([Point::default(); POINTS_MAX], 0);
        for &point in points {
            while corners >= 2 && !turns_up(hull[corners - 2], hull[corners - 1], point) {
                corners -= 1;
            }
            hull[corners] = point;
            corners += 1;
        }
        let mean_s = points.iter().map(|point| point.at_s).sum::<f64>() / self.count as f64;
        // What rises faster than clocks drift is a queue that grows: the edge beside it tells the drift.
        let slope_of = |edge: &[Point]| {
            (edge[1].above_ns - edge[0].above_ns) / (edge[1].at_s - edge[0].at_s).max(f64::MIN_POSITIVE)
        };
        let beside_s = |edge: &[Point]| (edge[0].at_s - mean_s).max(mean_s - edge[1].at_s).max(0.0);
        let possible = hull[..corners].windows(2).filter(|edge| slope_of(edge).abs() <= SLOPE_MAX);
        let edge = possible.min_by(|a, b| beside_s(a).total_cmp(&beside_s(b)));
        let slope = edge.map_or(self.line.slope, slope_of);
        let level = |point: &Point| point.above_ns - slope * point.at_s;
        Line { level_ns: points.iter().map(level).fold(f64::INFINITY, f64::min), slope }
    }

    /// Median of how far the points lie above the line, ns.
    fn typical_residual(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let mut residuals = [0.0; POINTS_MAX];
        let used = &mut residuals[..self.count];
        used.iter_mut().zip(&self.points).for_each(|(residual, point)| *residual = self.line.residual(*point).max(0.0));
        *used.select_nth_unstable_by(self.count / 2, f64::total_cmp).1
    }
}

/// Does the path from `a` over `b` to `c` turn upwards at `b`?
fn turns_up(a: Point, b: Point, c: Point) -> bool {
    (b.above_ns - a.above_ns) * (c.at_s - b.at_s) < (c.above_ns - b.above_ns) * (b.at_s - a.at_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::random::Random;

    const MS: f64 = 1e6;
    const EPOCH_NS: f64 = 5e15;

    /// A sender at 30 Hz whose clock runs `ppm` fast; messages take 2 ms and more: as long again on average, and one in fifty 200 ms.
    struct Sender {
        random: Random,
        ppm: f64,
        /// Our time, s.
        now_s: f64,
        /// Of its clock, ns.
        set_ns: f64,
        estimate: Option<SenderClock>,
        /// What its offset truly was.
        truth_ns: f64,
        clock: ClockOffset,
    }

    impl Sender {
        fn new(ppm: f64) -> Self {
            Self {
                random: Random::new(17_u64, &[]),
                ppm,
                now_s: 100.0,
                set_ns: EPOCH_NS,
                estimate: None,
                truth_ns: 0.0,
                clock: ClockOffset::default(),
            }
        }

        fn stamp_ns(&self) -> f64 {
            self.set_ns + self.now_s * 1e9 * (1.0 + self.ppm * 1e-6)
        }

        fn send_for(&mut self, seconds: f64) {
            let until = self.now_s + seconds;
            while self.now_s < until {
                let waited = -2.0 * MS * self.random.uniform().max(1e-9).ln();
                let stuck = if self.random.uniform() < 0.02 { 200.0 * MS } else { 0.0 };
                let received = self.now_s * 1e9 + 2.0 * MS + waited + stuck;
                if let Some(told) = self.clock.note(Clock::Device, self.stamp_ns() as i64, received as u64) {
                    let truth = received - self.stamp_ns() - waited - stuck;
                    // The estimate is for the moment of receipt; the clocks have drifted since the stamp.
                    self.truth_ns = truth - self.ppm * 1e-6 * (received - self.now_s * 1e9);
                    self.estimate = Some(told);
                }
                self.now_s += 1.0 / 30.0;
            }
        }

        /// Error of the offset against the truth (with the smallest delay in it), and of the drift.
        fn errors(&self) -> (f64, f64) {
            let told = self.estimate.unwrap();
            (told.offset_ns as f64 - self.truth_ns, f64::from(told.drift_ppm.unwrap()) - self.ppm)
        }
    }

    #[test]
    fn offset_and_drift_are_found_under_jitter_and_stuck_messages_and_the_uncertainty_is_honest() {
        for ppm in [0.0, 50.0, -50.0, 180.0] {
            for seconds in [30.0, 120.0, 3_600.0, 7_200.0] {
                let mut sender = Sender::new(ppm);
                sender.send_for(seconds);
                let (told, (offset, drift)) = (sender.estimate.unwrap(), sender.errors());
                assert!(
                    offset.abs() < 5e3 * f64::from(told.offset_error_us),
                    "{ppm} ppm, {seconds} s: {offset} ns, {told:?}"
                );
                assert!(offset.abs() < 0.5 * MS, "{ppm} ppm, {seconds} s: {offset} ns, {told:?}");
                assert!(
                    drift.abs() < 3.0 * f64::from(told.drift_error_ppm.unwrap()),
                    "{ppm} ppm, {seconds} s: {drift}, {told:?}"
                );
                assert_eq!(told.steps, 0, "{ppm} ppm, {seconds} s");
            }
        }
        let mut sender = Sender::new(50.0);
        sender.send_for(600.0);
        assert!(sender.errors().1.abs() < 1.0, "{:?}", sender.estimate);
    }

    #[test]
    fn a_clock_that_is_set_in_either_direction_or_started_again_is_noticed_and_measured_anew() {
        for step_ns in [0.5e9, -0.5e9] {
            let mut sender = Sender::new(50.0);
            sender.send_for(60.0);
            sender.set_ns += step_ns;
            if step_ns < 0.0 {
                // Its stamps go back, which whoever reads them sees.
                sender.clock.restart();
            }
            sender.send_for(60.0);
            assert_eq!(sender.estimate.unwrap().steps, 1, "{step_ns}");
            assert!(sender.errors().0.abs() < 0.5 * MS, "{step_ns}: {:?}", sender.errors());
        }
        let mut sender = Sender::new(50.0);
        sender.send_for(60.0);
        sender.clock.restart();
        (sender.set_ns, sender.estimate) = (0.0, None);
        sender.send_for(20.0);
        assert_eq!(sender.estimate.unwrap().steps, 1);
        assert!(sender.errors().0.abs() < 0.5 * MS);
    }

    #[test]
    fn a_network_that_is_busy_for_seconds_moves_nothing_and_stamps_become_our_time() {
        let mut sender = Sender::new(50.0);
        sender.send_for(60.0);
        for _ in 0..90 {
            let received = (sender.now_s + 0.3) * 1e9;
            sender.clock.note(Clock::Device, sender.stamp_ns() as i64, received as u64);
            sender.now_s += 1.0 / 30.0;
        }
        sender.send_for(20.0);
        assert_eq!(sender.estimate.unwrap().steps, 0);
        assert!(sender.errors().0.abs() < 0.5 * MS, "{:?}", sender.errors());
        let ours = sender.clock.ours(sender.stamp_ns() as i64).unwrap();
        assert!((ours as f64 - sender.now_s * 1e9 - 2.0 * MS).abs() < 0.5 * MS);
    }

    #[test]
    fn a_queue_that_grows_for_minutes_is_no_drift() {
        let mut sender = Sender::new(50.0);
        sender.send_for(60.0);
        let before = sender.clock.ours(EPOCH_NS as i64 + 160_000_000_000).unwrap();
        for frame in 0..30 * 120 {
            // Read a quarter too slowly.
            let received = (sender.now_s + f64::from(frame) / 30.0 / 4.0) * 1e9 + 2.0 * MS;
            sender.clock.note(Clock::Device, sender.stamp_ns() as i64, received as u64);
            sender.now_s += 1.0 / 30.0;
        }
        let after = sender.clock.ours(EPOCH_NS as i64 + 160_000_000_000).unwrap();
        assert!((after - before).abs() < 50_000_000, "{} ns, where the queue grew by half a minute", after - before);
    }

    #[test]
    fn stamps_without_sense_are_survived() {
        let mut clock = ClockOffset::default();
        for (stamp, received) in [(i64::MAX, 0), (i64::MIN, u64::MAX), (0, 5), (i64::MAX, 7), (1, 1 << 63)] {
            clock.note(Clock::Unix, stamp, received);
            let _ = clock.ours(stamp);
        }
    }
}
