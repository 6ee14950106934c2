//! ThorSync's `Episode001.h5`: the two-photon frame of each camera pulse.
//!
//! Why it exists: with a ThorLabs microscope, nothing but this file ties cameras to frames. What it must never do: guess a line; a
//! missing or silent one is reported together with the lines in the file.
//!
//! The lines are sampled together. "Frame Counter" (group `CI`) rises when a frame *begins*; without it, the rising edges of
//! "Frame Out" (`DI`) mark the frames. A rising edge of "Cameras" (`DI`) is a behaviour frame.

use std::path::Path;

use rust_hdf5::H5File;

use super::error::DatasetError;
use crate::sys::statistics::median;

/// Maximum duration of a frame, in median frame periods: beyond it the microscope paused.
const PERIODS_MAX: f64 = 1.5;

/// Sample numbers at which something began.
#[derive(Debug)]
pub(super) struct Lines {
    /// Two-photon frames: (sample, number of the frame).
    pub frames: Vec<(usize, i64)>,
    /// Behaviour frames.
    pub cameras: Vec<usize>,
}

impl Lines {
    /// Reads both; `camera_line` names a line other than `Cameras`, with or without its group.
    pub fn read(path: &Path, camera_line: Option<&str>) -> Result<Self, DatasetError> {
        let file =
            H5File::open(path).map_err(|e| DatasetError::file(path, format!("is not a readable HDF5 file: {e}")))?;
        let frames = frame_starts(&file, path)?;
        let wanted: &[&str] = match &camera_line {
            Some(line) => &[line],
            None => &["Cameras", "Camera", "Basler"],
        };
        let cameras = rises(&line(&file, path, wanted)?.unwrap_or_default());
        if cameras.is_empty() {
            let cause = format!(
                "its line {:?} never rises: no camera pulse was recorded; choose another line with `camera_line`; the lines are: {}",
                wanted[0],
                file.dataset_names().join(", ")
            );
            return Err(DatasetError::file(path, cause));
        }
        Ok(Self { frames, cameras })
    }

    /// The two-photon frame of each camera pulse, `None` before the first frame and in a pause. Where the microscope records volumes
    /// or averages frames, the counter rises `counts_per_frame` times a frame.
    pub fn frame_of_behaviour(&self, counts_per_frame: usize) -> Vec<Option<i64>> {
        let longest = PERIODS_MAX * median_period(&self.frames);
        let frame = |&camera: &usize| {
            let at = self.frames.partition_point(|&(start, _)| start <= camera).checked_sub(1)?;
            let (start, number) = self.frames[at];
            ((camera - start) as f64 <= longest).then(|| number / counts_per_frame.max(1) as i64)
        };
        self.cameras.iter().map(frame).collect()
    }
}

fn median_period(frames: &[(usize, i64)]) -> f64 {
    let mut periods: Vec<usize> = frames.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    median(&mut periods, usize::cmp).map_or(f64::INFINITY, |period| period as f64)
}

/// When each two-photon frame began.
pub(super) fn frame_starts(file: &H5File, path: &Path) -> Result<Vec<(usize, i64)>, DatasetError> {
    let starts: Vec<(usize, i64)> = if let Some(counter) = line(file, path, &["Frame Counter"])? {
        let first = i64::from(counter.first().copied().unwrap_or(0));
        let steps = counter.windows(2).enumerate().filter(|(_, pair)| pair[1] > pair[0]);
        steps.map(|(at, pair)| (at + 1, i64::from(pair[1]) - first - 1)).collect()
    } else {
        let out = line(file, path, &["Frame Out"])?.unwrap_or_default();
        rises(&out).into_iter().enumerate().map(|(number, at)| (at, number as i64)).collect()
    };
    if starts.is_empty() {
        let names = file.dataset_names().join(", ");
        let cause = format!("neither \"Frame Counter\" nor \"Frame Out\" counts a frame; the lines are: {names}");
        return Err(DatasetError::file(path, cause));
    }
    Ok(starts)
}

/// Samples at which a line goes up from 0.
fn rises(samples: &[u32]) -> Vec<usize> {
    let edges = samples.windows(2).enumerate().filter(|(_, pair)| pair[0] == 0 && pair[1] > 0);
    edges.map(|(at, _)| at + 1).collect()
}

/// The first line with one of these names, ignoring case, spaces and group.
fn line(file: &H5File, path: &Path, names: &[&str]) -> Result<Option<Vec<u32>>, DatasetError> {
    let plain = |name: &str| name.trim_start_matches('/').replace(' ', "").to_lowercase();
    let fits = |there: &String, wanted: &str| {
        let (there, wanted) = (plain(there), plain(wanted));
        there == wanted || there.rsplit('/').next() == Some(wanted.as_str())
    };
    let there = file.dataset_names();
    let found = names.iter().find_map(|wanted| there.iter().find(|name| fits(name, wanted)));
    let Some(found) = found else { return Ok(None) };
    let unreadable = |e: rust_hdf5::Hdf5Error| DatasetError::file(path, format!("line {found:?}: {e}"));
    file.dataset(found).and_then(|set| set.read_raw::<u32>()).map(Some).map_err(unreadable)
}
