//! How well the decisions of a rule fit the bouts that are known: hits, misses, false alarms and latency.
//!
//! What it must never do: count a decision twice, or a bout that the rule could not have seen.

use serde::Serialize;

/// From the beginning of a bout to its end, s.
pub type Bout = (f64, f64);

/// The bouts among frames that follow each other: time of each, s, and whether it belongs to one. A bout ends with the first frame that does not.
pub fn bouts(frames: impl IntoIterator<Item = (f64, bool)>) -> Vec<Bout> {
    let (mut bouts, mut begun, mut last) = (Vec::new(), None, 0.0);
    for (at_s, inside) in frames {
        match (inside, begun) {
            (true, None) => begun = Some(at_s),
            (false, Some(from)) => {
                bouts.push((from, at_s));
                begun = None;
            }
            _ => {}
        }
        last = at_s;
    }
    bouts.extend(begun.map(|from| (from, last)));
    bouts
}

/// What a decision was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first one of a bout, soon enough after its beginning.
    Hit,
    /// The first one of a bout, later than that.
    Late,
    /// Another one in a bout.
    Again,
    /// Outside every bout.
    FalseAlarm,
}

/// Counts over a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Bouts.
    pub bouts: usize,
    /// Bouts with a decision soon enough.
    pub hits: usize,
    /// Bouts whose first decision came later.
    pub late: usize,
    /// Bouts without a decision.
    pub missed: usize,
    /// Decisions outside every bout.
    pub false_alarms: usize,
    /// The same per minute of the recording.
    pub false_alarms_per_minute: f64,
    /// From the beginning of a bout to its first decision, s: median and 90 %; `None` without any.
    pub latency_s: Option<[f64; 2]>,
}

/// Holds decisions against bouts, both in the order of time, s. A decision within `within_s` of the beginning of its bout is a hit; `seconds`
/// is the length of the recording.
pub fn score(bouts: &[Bout], decisions_s: &[f64], within_s: f64, seconds: f64) -> (Score, Vec<Outcome>) {
    let mut first_s = vec![None; bouts.len()];
    let mut outcomes = Vec::with_capacity(decisions_s.len());
    for &at_s in decisions_s {
        let begun = bouts.partition_point(|(from, _)| *from <= at_s);
        let bout = begun.checked_sub(1).filter(|bout| at_s <= bouts[*bout].1);
        outcomes.push(match bout {
            None => Outcome::FalseAlarm,
            Some(bout) if first_s[bout].is_some() => Outcome::Again,
            Some(bout) => {
                let latency_s = at_s - bouts[bout].0;
                first_s[bout] = Some(latency_s);
                if latency_s <= within_s { Outcome::Hit } else { Outcome::Late }
            }
        });
    }
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let mut latencies: Vec<f64> = first_s.iter().flatten().copied().collect();
    latencies.sort_by(f64::total_cmp);
    let at =
        |share: f64| latencies.get(((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1)));
    let false_alarms = count(Outcome::FalseAlarm);
    let score = Score {
        bouts: bouts.len(),
        hits: count(Outcome::Hit),
        late: count(Outcome::Late),
        missed: first_s.iter().filter(|first| first.is_none()).count(),
        false_alarms,
        false_alarms_per_minute: false_alarms as f64 * 60.0 / seconds.max(1e-9),
        latency_s: at(0.5).zip(at(0.9)).map(|(median, most)| [*median, *most]),
    };
    (score, outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bout_goes_from_its_first_frame_to_the_first_that_is_none() {
        let frames = [0, 1, 1, 0, 0, 1].iter().zip(0..).map(|(inside, at)| (f64::from(at), *inside == 1));
        assert_eq!(bouts(frames), [(1.0, 3.0), (5.0, 5.0)]);
        assert!(bouts([]).is_empty());
    }

    #[test]
    fn each_bout_is_hit_late_or_missed_and_each_decision_is_one_thing() {
        let bouts = [(1.0, 3.0), (10.0, 12.0), (20.0, 21.0)];
        let (score, outcomes) = score(&bouts, &[0.5, 1.25, 2.0, 11.0, 15.0], 0.5, 30.0);
        use Outcome::{Again, FalseAlarm, Hit, Late};
        assert_eq!(outcomes, [FalseAlarm, Hit, Again, Late, FalseAlarm]);
        assert_eq!((score.bouts, score.hits, score.late, score.missed), (3, 1, 1, 1));
        assert_eq!((score.false_alarms, score.false_alarms_per_minute), (2, 4.0));
        assert_eq!(score.latency_s, Some([1.0, 1.0]));
    }
}
