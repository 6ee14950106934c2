//! PrairieView's voltage recording (`NAME_CycleNNNNN_VoltageRecording_NNN.csv`): when the camera's pulses came.
//!
//! Why it exists: on a Bruker microscope it is what ties cameras to frames, and its clock is that of the frames. What it must never do: guess a
//! column, or hold the whole table: an hour has tens of millions of rows.
//!
//! The table has a header, `Time(ms), Input 0, Input 1`, and a row for each sample. A pulse begins where its line rises above the middle of its range.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::error::DatasetError;
use crate::sys::files::open_regular;

/// Least difference between high and low, V; less is noise of a line without pulses.
const LEAST_V: f64 = 0.5;
/// A line is high above this share of its range, and low again below that one, so that noise at the edge is no pulse.
const HIGH: f64 = 0.6;
const LOW: f64 = 0.4;
/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 1 << 16;

/// The times of the rising edges of a line, ms from the begin of the recording. `line`: the name of its column, which may be the only one.
pub(super) fn pulses_ms(path: &Path, line: Option<&str>) -> Result<Vec<f64>, DatasetError> {
    let fail = |cause: String| DatasetError::file(path, cause);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    each(path, line, |_, volts| {
        (least, most) = (least.min(volts), most.max(volts));
    })?;
    if most - least < LEAST_V {
        return Err(fail(format!(
            "its line {} stays between {least} and {most} V: no camera pulse was recorded; choose another line with `camera_line`",
            line.unwrap_or("(the only one)")
        )));
    }
    let [low, high] = [LOW, HIGH].map(|share| least + share * (most - least));
    let (mut up, mut pulses) = (None, Vec::new());
    each(path, line, |ms, volts| match up {
        // A pulse that had begun before is none of this recording.
        None if volts > high || volts < low => up = Some(volts > high),
        Some(false) if volts > high => {
            pulses.push(ms);
            up = Some(true);
        }
        Some(true) if volts < low => up = Some(false),
        _ => {}
    })?;
    Ok(pulses)
}

/// Every sample of a line: ms and V.
fn each(path: &Path, line: Option<&str>, mut take: impl FnMut(f64, f64)) -> Result<(), DatasetError> {
    let file = open_regular(path).map_err(|e| DatasetError::file(path, e))?;
    let (mut reader, mut bytes, mut places) = (BufReader::with_capacity(1 << 20, file), Vec::new(), None);
    for number in 1_u64.. {
        bytes.clear();
        let fail = |cause: String| DatasetError::file(path, format!("line {number}: {cause}"));
        let read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes);
        if read.map_err(|e| fail(e.to_string()))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| fail(e.to_string()))?.trim_start_matches('\u{feff}').trim();
        let Some((time, volts, width)) = places else {
            places = Some(columns(path, text, line)?);
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let found = text.split(',').count();
        if found != width {
            return Err(fail(format!(
                "{found} fields, but the header has {width}: was it cut off, or written with decimal commas?"
            )));
        }
        let value = |at: usize| text.split(',').nth(at).unwrap_or_default().trim();
        let parse = |text: &str| text.parse::<f64>().map_err(|_| fail(format!("{text:?} is not a number")));
        take(parse(value(time))?, parse(value(volts))?);
    }
    Ok(())
}

/// Places of time and line, and the number of columns.
fn columns(path: &Path, header: &str, line: Option<&str>) -> Result<(usize, usize, usize), DatasetError> {
    let fail = |cause: String| DatasetError::file(path, cause);
    let names: Vec<&str> = header.split(',').map(str::trim).collect();
    let time = names.iter().position(|name| name.eq_ignore_ascii_case("Time(ms)"));
    let time =
        time.ok_or_else(|| fail(format!("is not a voltage recording: its columns are {header:?}, without Time(ms)")))?;
    let lines: Vec<usize> = (0..names.len()).filter(|at| *at != time).collect();
    let list = || lines.iter().map(|at| names[*at]).collect::<Vec<_>>().join(", ");
    let wanted = line.map(|line| lines.iter().copied().find(|at| names[*at].eq_ignore_ascii_case(line.trim())));
    let place = match (wanted, lines.as_slice()) {
        (Some(Some(at)), _) => at,
        (None, [only]) => *only,
        (Some(None), _) => {
            return Err(fail(format!("has no line {:?}; it has: {}", line.unwrap_or_default(), list())));
        }
        (None, _) => {
            return Err(fail(format!("has several lines: {}; say which is the camera's (`camera_line`)", list())));
        }
    };
    Ok((time, place, names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::csv as file;

    #[test]
    fn a_pulse_is_a_rise_through_the_middle_of_the_range_and_noise_is_none() {
        let rows = [0.02, 3.1, 3.0, 0.1, 1.7, 0.0, 3.2, 2.9, 3.2, 0.0].iter().enumerate();
        let text: String = rows.map(|(ms, volts)| format!("{}.5,9, {volts}\n", ms)).collect();
        let table = file(&format!("Time(ms), Input 0, Input 3\n{text}"));
        assert_eq!(pulses_ms(table.path(), Some("input 3")).unwrap(), [1.5, 6.5]);
        let error = |line| pulses_ms(table.path(), line).unwrap_err().to_string();
        assert!(error(None).contains("Input 0, Input 3") && error(None).contains("camera_line"));
        assert!(error(Some("Input 7")).contains("it has: Input 0, Input 3"));
        assert!(error(Some("Input 0")).contains("no camera pulse"));
        let high_at_first = file("Time(ms), Camera\n0,5\n1,0\n2,5\n");
        assert_eq!(pulses_ms(high_at_first.path(), None).unwrap(), [2.0]);
    }

    #[test]
    fn what_is_no_voltage_recording_or_was_cut_is_named() {
        let error = |text: &str| pulses_ms(file(text).path(), None).unwrap_err().to_string();
        assert!(error("x,y\n1,2\n").contains("without Time(ms)"));
        assert!(error("Time(ms), Camera\n0,5\n1\n").contains("line 3: 1 fields"));
        assert!(error("Time(ms), Camera\n0,0\n1,high\n").contains("\"high\" is not a number"));
    }
}
