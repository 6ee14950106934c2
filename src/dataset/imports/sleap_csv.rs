//! SLEAP's analysis CSV: one row for each instance, `track,frame_idx,instance.score`, then `node.x,node.y,node.score`.
//!
//! What it must never do: choose among several animals, or take rows as regular: frames without an instance have none (they are placed
//! by `frame_idx`, which counts from the first frame of the video).

use std::collections::BTreeSet;
use std::path::Path;

use super::{Pose, Row};
use crate::dataset::error::DatasetError;
use crate::dataset::row_clock::RowClock;

/// Is this the header of such a table?
pub(super) fn is_header(first: &[String]) -> bool {
    let has = |name: &str| first.iter().any(|field| field.eq_ignore_ascii_case(name));
    has("frame_idx") && has("instance.score")
}

/// Reads one track.
pub(super) fn pose(path: &Path, lines: &[Row], track: Option<&str>) -> Result<Pose, DatasetError> {
    let header = &lines[0].1;
    let place = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name)).unwrap_or(0);
    let (of_track, of_frame) =
        (header.iter().position(|field| field.eq_ignore_ascii_case("track")), place("frame_idx"));
    let name = |row: &Row| of_track.and_then(|at| row.1.get(at)).cloned().unwrap_or_default();
    let tracks: BTreeSet<String> = lines[1..].iter().map(name).collect();
    let wanted = super::one_of(path, "track", "track", &tracks, track)?;
    let rows: Vec<Row> = lines[1..].iter().filter(|row| name(row) == wanted).cloned().collect();
    let clock = RowClock::numbered(
        "frame_idx",
        rows.iter().map(|(_, fields)| fields.get(of_frame).map_or("", String::as_str)),
        true,
    );
    let columns: Vec<usize> =
        (0..header.len()).filter(|at| header[*at].ends_with(".x") || header[*at].ends_with(".y")).collect();
    let names = columns.iter().map(|at| header[*at].replace('.', "_")).collect();
    Ok(Pose { names, columns, rows, clock })
}
