//! The `.dat` file of FicTrac (Moore et al. 2014): text without a header, 23 to 25 columns a frame, as its `data_header.txt` lists them.
//!
//! Frame counter, sequence counter and times are not behaviour; rows are placed by the frame counter.

use std::path::Path;

use super::{Pose, Row};
use crate::dataset::error::DatasetError;
use crate::dataset::row_clock::RowClock;

/// Names of the columns, in their order.
const NAMES: [&str; 25] = [
    "frame",
    "delta_rotation_cam_x",
    "delta_rotation_cam_y",
    "delta_rotation_cam_z",
    "delta_rotation_error",
    "delta_rotation_lab_x",
    "delta_rotation_lab_y",
    "delta_rotation_lab_z",
    "rotation_cam_x",
    "rotation_cam_y",
    "rotation_cam_z",
    "rotation_lab_x",
    "rotation_lab_y",
    "rotation_lab_z",
    "position_x",
    "position_y",
    "heading",
    "direction",
    "speed",
    "forward",
    "side",
    "timestamp",
    "sequence",
    "delta_timestamp",
    "alternative_timestamp",
];
/// Places of the columns that are behaviour.
const BEHAVIOUR: std::ops::Range<usize> = 1..21;

/// Are these its lines: numbers only, as many as it writes, the first of which counts up?
pub(super) fn is_fictrac(lines: &[Row]) -> bool {
    let Some((_, first)) = lines.first() else { return false };
    let counter = |row: &Row| row.1.first()?.parse::<f64>().ok();
    let counts = lines.windows(2).take(10).all(|pair| counter(&pair[1]) > counter(&pair[0]));
    (23..=25).contains(&first.len()) && first.iter().all(|field| field.parse::<f64>().is_ok()) && counts
}

/// Reads it.
pub(super) fn pose(path: &Path, lines: Vec<Row>) -> Result<Pose, DatasetError> {
    let width = lines.first().map_or(0, |(_, fields)| fields.len());
    if let Some((line, fields)) = lines.iter().find(|(_, fields)| fields.len() != width) {
        let cause =
            format!("line {line} has {} fields, the first {width}: FicTrac's file was cut off or edited", fields.len());
        return Err(DatasetError::file(path, cause));
    }
    let clock = RowClock::numbered("frame counter", lines.iter().map(|(_, fields)| fields[0].as_str()), false);
    let names = BEHAVIOUR.map(|at| NAMES[at].to_owned()).collect();
    Ok(Pose { names, columns: BEHAVIOUR.collect(), rows: lines, clock })
}
