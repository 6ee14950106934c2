//! What the columns of a behaviour file say about the times of its rows: frame numbers that jump, and times that contradict the rate.
//!
//! Why it exists: trackers leave out frames in which they found nothing and cameras drop some, and a file whose rows are taken as
//! regular is then aligned wrong from the first gap on. What it must never do: move a row silently; rows are placed by their frame
//! numbers and told, or the file is refused with what to write.

use std::path::Path;

use ndarray::Array2;

use super::error::DatasetError;

/// Most missing rows that are filled, per row that is there.
const FILLED_PER_ROW_MAX: usize = 1;

/// Names of columns that number the rows, and of those that time them, without case, spaces and signs.
const NUMBERS: [&str; 9] =
    ["frame", "frameno", "framenumber", "frameidx", "frameindex", "frameid", "framecount", "fnum", "framenum"];
const TIMES: [&str; 20] = [
    "time",
    "recordingtime",
    "trialtime",
    "times",
    "timestamp",
    "timestamps",
    "timesec",
    "timeseconds",
    "seconds",
    "timems",
    "timeus",
    "timens",
    "cameratime",
    "unixtime",
    "datetime",
    "date",
    "timestampns",
    "timestampms",
    "systemtime",
    "elapsedtime",
];
/// Other columns that are not behaviour.
const OTHER: [&str; 7] = ["", "index", "idx", "unnamed0", "track", "instancescore", "trackingscore"];

/// What a column counts, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Frames of the camera.
    Frames,
    /// Time.
    Time,
    /// Something else that is not behaviour.
    Other,
}

impl Counts {
    /// `None`: it is behaviour.
    pub fn of(name: &str) -> Option<Self> {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let is = |names: &[&str]| names.contains(&plain.as_str()) && (!plain.is_empty() || name.trim().is_empty());
        match () {
            () if is(&NUMBERS) => Some(Self::Frames),
            () if is(&TIMES) => Some(Self::Time),
            () if is(&OTHER) => Some(Self::Other),
            () => None,
        }
    }
}

/// What a file says about its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowClock {
    /// Name of the column of frame numbers, and its values.
    pub frames: Option<(String, Vec<i64>)>,
    /// Name of the column of times, and its values.
    pub times: Option<(String, Vec<f64>)>,
    /// Frame numbers begin at the first frame of the video, whatever the first row is.
    pub from_zero: bool,
}

impl RowClock {
    /// Frame numbers from the texts of a column; without effect where they are not whole numbers.
    pub fn numbered<'t>(name: &str, texts: impl Iterator<Item = &'t str>, from_zero: bool) -> Self {
        let whole =
            |text: &str| text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64);
        let frames: Option<Vec<i64>> = texts.map(whole).collect();
        Self { frames: frames.map(|frames| (name.to_owned(), frames)), times: None, from_zero }
    }
}

/// Places rows that count as regular by their frame numbers: missing ones become NaN. Returns how many.
///
/// # Errors
/// Numbers that repeat or go back, begin in the middle, or lack more rows than there are; times that contradict the rate.
pub(super) fn place(
    path: &Path,
    clock: RowClock,
    values: &mut Array2<f32>,
    rate_hz: f64,
    begin_is_known: bool,
) -> Result<usize, DatasetError> {
    if let Some((name, times)) = clock.times.filter(|(_, times)| times.len() > 2) {
        let step = regular(path, &name, &times, rate_hz, clock.frames.is_some())?;
        if let Some(step) = step.filter(|_| !begin_is_known && clock.frames.is_none()) {
            begins_late(path, &name, &times, step)?;
        }
    }
    let Some((name, frames)) = clock.frames else { return Ok(0) };
    let (Some(&first), Some(&last)) = (frames.first(), frames.last()) else { return Ok(0) };
    let way_out =
        "give every row its time or frame yourself (behaviour_times_s, index), or number the rows of this trial from 0";
    if let Some(row) = frames.windows(2).position(|pair| pair[1] <= pair[0]) {
        let (before, after) = (frames[row], frames[row + 1]);
        let cause = format!(
            "its column {name:?} goes from {before} to {after} in row {}: are several animals or videos in one file? Otherwise {way_out}",
            row + 2
        );
        return Err(DatasetError::file(path, cause));
    }
    let begin = if clock.from_zero { 0 } else { first };
    if !(0..=1).contains(&begin) || first < 0 {
        let cause = format!(
            "its column {name:?} begins with {first}: nobody knows whether its first row is the first frame; {way_out}"
        );
        return Err(DatasetError::file(path, cause));
    }
    let (there, spanned) = (frames.len(), (last - begin + 1) as u64);
    let missing = spanned - there as u64;
    if missing == 0 {
        return Ok(0);
    }
    if missing > (there * FILLED_PER_ROW_MAX) as u64 {
        let cause = format!(
            "its column {name:?} spans {spanned} frames, but only {there} rows are there: more than half are missing; {way_out}"
        );
        return Err(DatasetError::file(path, cause));
    }
    let mut placed = Array2::from_elem((spanned as usize, values.ncols()), f32::NAN);
    for (row, frame) in values.rows().into_iter().zip(&frames) {
        placed.row_mut((frame - begin) as usize).assign(&row);
    }
    *values = placed;
    Ok(missing as usize)
}

/// Rows by which a column of times may begin late.
const LATE_ROWS_MAX: f64 = 5.0;

/// Times that begin within the trial, but not with it: a table that was cut, or a clock of its own. (Times of the day begin long after it.)
fn begins_late(path: &Path, name: &str, times: &[f64], step: f64) -> Result<(), DatasetError> {
    let rows = times[0] / step;
    if rows <= LATE_ROWS_MAX || rows >= times.len() as f64 {
        return Ok(());
    }
    let cause = format!(
        "its column {name:?} begins with {}, {rows:.0} rows after 0: nobody knows whether its first row belongs to the first frame; give the times of \
         the rows (behaviour_times_s = a file with that column), or, if the first row belongs to the first frame, say offset_s = 0.0",
        times[0]
    );
    Err(DatasetError::file(path, cause))
}

/// Does the column of times agree with the rate, in one of the usual units, and is it regular? Returns the usual step.
fn regular(path: &Path, name: &str, times: &[f64], rate_hz: f64, numbered: bool) -> Result<Option<f64>, DatasetError> {
    let mut steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if steps.iter().any(|step| !step.is_finite()) {
        return Ok(None);
    }
    let Some(step) = crate::sys::statistics::median(&mut steps, f64::total_cmp).filter(|step| *step > 0.0) else {
        return Ok(None);
    };
    let fits = |unit_s: f64| (step * unit_s * rate_hz - 1.0).abs() < 0.1;
    if ![1.0, 1e-3, 1e-6, 1e-9].into_iter().any(fits) {
        let cause = format!(
            "its column {name:?} advances by {step} a row (median), {:.4} Hz if these are seconds, but behaviour_rate_hz is {rate_hz} Hz: correct \
             behaviour_rate_hz, or give the times (behaviour_times_s)",
            1.0 / step
        );
        return Err(DatasetError::file(path, cause));
    }
    // Frame numbers, where they are, place the rows.
    if let Some(row) = times.windows(2).position(|pair| pair[1] - pair[0] > 1.75 * step).filter(|_| !numbered) {
        let cause = format!(
            "its column {name:?} jumps from {} to {} in row {}, but {step} is a row's step: rows are missing; give the times \
             (behaviour_times_s = a file with that column), or fill the missing rows",
            times[row],
            times[row + 1],
            row + 2
        );
        return Err(DatasetError::file(path, cause));
    }
    Ok(Some(step))
}

/// Fewest rows by which a column is judged.
const COUNTED_ROWS_MIN: usize = 50;
/// Share of the steps of a clock that are near the usual one, and how near: cameras jitter, and drop a frame now and then.
const NEAR_SHARE: f64 = 0.9;
const NEAR: f64 = 0.5;

/// A column that only counts or tells the time: it goes up in every row, nearly always by nearly the same step.
pub(super) fn counts_rows(values: &[f64]) -> bool {
    let steps: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if values.len() < COUNTED_ROWS_MIN || !steps.iter().all(|step| *step > 0.0) {
        return false;
    }
    let Some(usual) = crate::sys::statistics::median(&mut steps.clone(), f64::total_cmp) else { return false };
    let near = steps.iter().filter(|step| (**step / usual - 1.0).abs() <= NEAR).count();
    near as f64 >= NEAR_SHARE * steps.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_placed_by_their_frame_and_missing_ones_are_not_a_number() {
        let placed = |frames: &[i64], from_zero| {
            let mut values = Array2::from_shape_fn((frames.len(), 1), |(row, _)| row as f32);
            let clock = RowClock { frames: Some(("frame".into(), frames.to_vec())), times: None, from_zero };
            place(Path::new("b.csv"), clock, &mut values, 100.0, false)
                .map(|missing| (missing, values.column(0).to_vec()))
        };
        let (missing, values) = placed(&[0, 1, 4, 5], false).unwrap();
        assert_eq!((missing, values[4], values[5]), (2, 2.0, 3.0));
        assert!(values[2].is_nan() && values[3].is_nan());
        assert_eq!(placed(&[1, 2, 3], false).unwrap().0, 0, "counted from one");
        assert_eq!(placed(&[2, 3, 4, 5], true).unwrap().0, 2, "the tracker found nothing in the first two");
        for (frames, word) in
            [(&[0, 1, 1][..], "several animals"), (&[5, 6, 7], "begins with 5"), (&[0, 9, 10], "more than half")]
        {
            let error = placed(frames, false).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn times_in_any_unit_agree_with_the_rate_or_are_told() {
        let check = |times: &[f64]| {
            regular(Path::new("b.csv"), "time", times, 100.0, false).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(check(&[0.0, 0.01, 0.02, 0.03]), Ok(()));
        assert_eq!(check(&[0.0, 10.0, 20.0, 30.0]), Ok(()), "ms");
        assert!(check(&[0.0, 0.02, 0.04, 0.06]).unwrap_err().contains("50.0000 Hz"));
        assert!(check(&[0.0, 0.01, 0.02, 0.05, 0.06, 0.07]).unwrap_err().contains("from 0.02 to 0.05"));
    }

    #[test]
    fn times_that_begin_within_the_trial_are_asked_about() {
        let late = |from: f64| {
            let times: Vec<f64> = (0..100).map(|row| from + f64::from(row) * 0.01).collect();
            begins_late(Path::new("b.csv"), "time", &times, 0.01).map_err(|e| e.to_string())
        };
        assert_eq!(
            [late(0.0), late(0.03), late(1.7e9)],
            [Ok(()), Ok(()), Ok(())],
            "the time of the day is another clock"
        );
        assert!(late(0.4).unwrap_err().contains("40 rows after 0"));
    }

    #[test]
    fn a_clock_goes_up_steadily_even_if_it_jitters_and_behaviour_does_not() {
        let clock: Vec<f64> =
            (0..200).map(|row| 1.7e9 + f64::from(row) * 0.01 + 0.001 * f64::from(row * 7 % 3)).collect();
        assert!(counts_rows(&clock));
        let with_gaps: Vec<f64> = (0..200).map(|row| f64::from(row + 3 * (row / 50))).collect();
        assert!(counts_rows(&with_gaps));
        let walked: Vec<f64> = (0..200)
            .scan(0.0, |sum, row| {
                *sum += f64::from(1 + row * 37 % 11);
                Some(*sum)
            })
            .collect();
        assert!(!counts_rows(&walked), "a distance goes up, but not steadily");
        assert!(!counts_rows(&clock[..40]) && !counts_rows(&vec![1.0; 100]));
    }

    #[test]
    fn names_tell_what_counts() {
        for name in ["frame", "Frame_Number", "frame idx", "fnum"] {
            assert_eq!(Counts::of(name), Some(Counts::Frames), "{name}");
        }
        assert_eq!((Counts::of("Time (ms)"), Counts::of("timestamp")), (Some(Counts::Time), Some(Counts::Time)));
        assert_eq!(
            (Counts::of(""), Counts::of("Unnamed: 0"), Counts::of("head_x")),
            (Some(Counts::Other), Some(Counts::Other), None)
        );
        assert_eq!(Counts::of("°"), None, "a name without letters is still a name");
    }
}
