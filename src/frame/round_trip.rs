//! From a frame to the stimulus and back: decisions, and who acknowledged them.

use std::collections::BTreeMap;

/// Decisions that wait for their acknowledgement; older ones are given up.
const OPEN_MAX: usize = 4096;

/// A decision with an output. All times are of the daemon's clock, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its message.
    pub seq: u64,
    /// The moment of the frame that its time stamp marks; its receipt, where it has none that can be compared.
    pub frame_ns: u64,
    /// When it was decided.
    pub decided_ns: u64,
    /// When that was published.
    pub published_ns: u64,
    /// From the decision to the first pulse, as the rule asks for.
    pub delay_ns: u64,
}

/// A decision and its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The decision.
    pub decided: Decided,
    /// The pulse, by whoever gave it or saw it; `None` without a time of its own.
    pub pulse_ns: Option<u64>,
    /// Receipt of the acknowledgement.
    pub acknowledged_ns: u64,
}

/// Round trips as they are collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    open: BTreeMap<u64, Decided>,
    /// Those that were acknowledged.
    pub done: Vec<RoundTrip>,
    /// Acknowledgements of a decision that is not known, or was acknowledged before.
    pub strays: u64,
}

/// What is timed: its name, and µs of one round trip.
pub type Stage = (&'static str, fn(&RoundTrip) -> Option<f64>);

/// From one moment to another, µs.
fn us(from_ns: u64, to_ns: u64) -> f64 {
    (i128::from(to_ns) - i128::from(from_ns)) as f64 / 1e3
}

impl RoundTrips {
    /// Every stage, and the whole. The delay that a rule asks for is no latency: it is taken out.
    pub const STAGES: [Stage; 6] = [
        ("frame to decision", |trip| Some(us(trip.decided.frame_ns, trip.decided.decided_ns))),
        ("decision to publication", |trip| Some(us(trip.decided.decided_ns, trip.decided.published_ns))),
        ("publication to pulse", |trip| {
            let due_ns = trip.decided.decided_ns + trip.decided.delay_ns;
            Some(us(due_ns.max(trip.decided.published_ns), trip.pulse_ns?))
        }),
        ("pulse to acknowledgement", |trip| Some(us(trip.pulse_ns?, trip.acknowledged_ns))),
        ("decision to acknowledgement", |trip| {
            Some(us(trip.decided.decided_ns + trip.decided.delay_ns, trip.acknowledged_ns))
        }),
        ("frame to acknowledgement", |trip| {
            Some(us(trip.decided.frame_ns + trip.decided.delay_ns, trip.acknowledged_ns))
        }),
    ];

    /// An output was decided.
    pub fn decided(&mut self, decided: Decided) {
        if self.open.len() == OPEN_MAX {
            self.open.pop_first();
        }
        self.open.insert(decided.seq, decided);
    }

    /// Somebody acknowledged decision `seq`: its pulse was at `pulse_ns`.
    pub fn acknowledged(&mut self, seq: u64, pulse_ns: Option<u64>, acknowledged_ns: u64) {
        match self.open.remove(&seq) {
            Some(decided) => self.done.push(RoundTrip { decided, pulse_ns, acknowledged_ns }),
            None => self.strays += 1,
        }
    }

    /// Outputs that nobody acknowledged.
    pub fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// µs of a stage, in order of size.
    pub fn sorted_us(&self, (_, of): Stage) -> Vec<f64> {
        let mut values: Vec<f64> = self.done.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(seq: u64) -> Decided {
        let at = seq * 1_000_000_000;
        Decided { seq, frame_ns: at, decided_ns: at + 900_000, published_ns: at + 910_000, delay_ns: 5_000_000 }
    }

    #[test]
    fn an_acknowledgement_finds_its_decision_once_and_the_delay_asked_for_is_no_latency() {
        let mut trips = RoundTrips::default();
        (1..=3).for_each(|seq| trips.decided(decided(seq)));
        trips.acknowledged(2, Some(2_006_000_000), 2_006_400_000);
        trips.acknowledged(2, None, 2_007_000_000);
        trips.acknowledged(9, None, 9);
        assert_eq!((trips.done.len(), trips.strays, trips.unanswered()), (1, 2, 2));
        let of = |stage: usize| trips.sorted_us(RoundTrips::STAGES[stage]);
        assert_eq!([of(0), of(1), of(2), of(3), of(4), of(5)].concat(), [900.0, 10.0, 100.0, 400.0, 500.0, 1_400.0]);
    }

    #[test]
    fn decisions_that_nobody_acknowledges_take_no_memory_for_ever() {
        let mut trips = RoundTrips::default();
        (0..2 * OPEN_MAX as u64).for_each(|seq| trips.decided(decided(seq)));
        assert_eq!(trips.unanswered(), OPEN_MAX);
    }
}
