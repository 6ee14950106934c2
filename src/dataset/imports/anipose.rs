//! Pose tables of Anipose (Karashchuk et al. 2021), folder `pose-3d`.
//!
//! One header row; the columns ending in `_x`, `_y` and `_z` are the pose. Errors, scores, camera counts, the frame of reference
//! (`M_…`, `center_…`) and `fnum` are left out.

use super::{Pose, Row};
use crate::dataset::row_clock::RowClock;

/// Is this the header of such a table?
pub(super) fn is_header(first: &[String]) -> bool {
    let ends = |end: &str| first.iter().any(|field| field.ends_with(end));
    first.iter().any(|field| field == "fnum") && ends("_x") && ends("_z") && ends("_ncams")
}

/// The pose in `rows`, whose first is the header.
pub(super) fn pose(rows: &[Row]) -> Pose {
    let header = &rows[0].1;
    let is_pose = |name: &str| {
        ["_x", "_y", "_z"].iter().any(|end| name.ends_with(end))
            && !name.starts_with("M_")
            && !name.starts_with("center_")
    };
    let columns: Vec<usize> = (0..header.len()).filter(|&at| is_pose(&header[at])).collect();
    let names = columns.iter().map(|&at| header[at].clone()).collect();
    let fnum = header.iter().position(|field| field == "fnum").unwrap_or(0);
    let numbers = rows[1..].iter().map(|(_, fields)| fields.get(fnum).map_or("", String::as_str));
    Pose { names, columns, rows: rows[1..].to_vec(), clock: RowClock::numbered("fnum", numbers, true) }
}
