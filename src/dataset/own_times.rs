//! The recording's own times of its frames, where they are not regular: dropped frames, pauses between cycles, a rate that is not quite the one
//! stated.
//!
//! Why it exists: behaviour that is laid beside frame n at n / rate is wrong from the first dropped frame on, and nobody sees it. What it
//! must never do: replace times that the user gives.

use super::error::DatasetError;
use super::frames::{Probe, broken};
use super::spec::TrialSpec;
use super::warning::DataWarning;
use crate::sys::statistics::median;

/// How far the time stamps may advance at another rate than the one stated, which is then wrong.
const RATE_TOLERANCE: f64 = 0.1;

/// When each frame began, s from the first; `None` where n / rate is as good to half a frame, or no times are known.
///
/// # Errors
/// Times that go back, or advance at another rate than that of the data set.
pub(super) fn irregular(
    trial: &TrialSpec,
    probe: &Probe,
    frame_rate_hz: f64,
    warnings: &mut Vec<DataWarning>,
) -> Result<Option<Vec<f64>>, DatasetError> {
    let (times, period_s) = (&probe.times_ns, 1.0 / frame_rate_hz);
    let Some(first) = times.first().filter(|_| times.len() == probe.frames && probe.frames > 1) else {
        return Ok(None);
    };
    if let Some(at) = times.windows(2).position(|pair| pair[1] <= pair[0]) {
        let second = |ns: i64| ns as f64 / 1e9;
        let cause = format!(
            "its time stamps go from {:.3} s back to {:.3} s: several runs in one recording? Give each run as a trial of its own, or the times \
             of all frames (frame_times_s beside behaviour_times_s)",
            second(times[at]),
            second(times[at + 1])
        );
        return Err(broken(trial, at as u64 + 1, cause));
    }
    let mut steps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
    let usual_s = median(&mut steps, f64::total_cmp).unwrap_or(period_s);
    // Frames of a slice follow each other faster than they come on average, and planes that run back and forth by turns.
    let uneven = ["frames_per_slice", "volumes_reversed"].iter().any(|name| probe.about.get(name).is_some());
    if !uneven && (usual_s / period_s - 1.0).abs() > RATE_TOLERANCE {
        let cause = format!(
            "its time stamps advance at {:.3} Hz, but the frame rate is {frame_rate_hz} Hz: correct frame_rate_hz (and rate_hz of its frames)",
            1.0 / usual_s
        );
        return Err(broken(trial, 0, cause));
    }
    let begins: Vec<f64> = times.iter().map(|ns| (ns - first) as f64 / 1e9).collect();
    let off =
        begins.iter().enumerate().map(|(frame, begin)| (begin - frame as f64 * period_s).abs()).fold(0.0, f64::max);
    if off <= 0.5 * period_s {
        return Ok(None);
    }
    warnings.push(DataWarning::OwnTimes { trial: trial.name.clone(), off_s: off });
    Ok(Some(begins))
}
