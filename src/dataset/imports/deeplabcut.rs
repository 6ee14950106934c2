//! Pose tables of DeepLabCut (Mathis et al. 2018).
//!
//! Three header rows (scorer, bodyparts, coords) or four (scorer, individuals, bodyparts, coords). Columns become `bodypart_x` (or
//! `individual_bodypart_x` of the individual that `track` names, where there are several); `likelihood` is the tracker's confidence, not behaviour, and is left out.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Pose, Row};
use crate::dataset::error::DatasetError;
use crate::dataset::row_clock::RowClock;

/// Is this the first row of such a table?
pub(super) fn is_header(first: &[String]) -> bool {
    first.first().is_some_and(|field| field.eq_ignore_ascii_case("scorer"))
}

/// Reads the pose.
pub(super) fn pose(path: &Path, lines: &[Row], track: Option<&str>) -> Result<Pose, DatasetError> {
    let heads: Vec<&str> = lines.iter().take(4).map(|(_, row)| row[0].as_str()).collect();
    let is = |at: usize, name: &str| heads.get(at).is_some_and(|head| head.eq_ignore_ascii_case(name));
    let (individuals, parts) = match (is(1, "individuals"), is(1, "bodyparts")) {
        (true, _) if is(2, "bodyparts") && is(3, "coords") => (Some(1), 2),
        (_, true) if is(2, "coords") => (None, 1),
        _ => {
            let cause = format!(
                "begins like a DeepLabCut table, but its header rows are {}; expected are scorer, (individuals,) bodyparts, coords",
                heads.join(", ")
            );
            return Err(DatasetError::file(path, cause));
        }
    };
    let coords = &lines[parts + 1].1;
    let field = |row: usize, at: usize| lines[row].1.get(at).map_or("", String::as_str);
    // What belongs to no animal (`single`: food, an arena) is not its behaviour.
    let animals = individuals.map(|row| (1..coords.len()).map(|at| field(row, at).to_owned()).collect::<BTreeSet<_>>());
    let animals =
        animals.map(|all| if all.len() > 1 { all.into_iter().filter(|name| name != "single").collect() } else { all });
    let chosen = match (&animals, track) {
        (Some(all), _) => Some(super::one_of(path, "individual", "track", all, track)?),
        (None, Some(_)) => return Err(DatasetError::file(path, "has no row of individuals: leave `track` out")),
        (None, None) => None,
    };
    let is_of = |at: usize| chosen.as_ref().is_none_or(|name| individuals.is_some_and(|row| field(row, at) == name));
    let columns: Vec<usize> = (1..coords.len()).filter(|&at| coords[at] != "likelihood" && is_of(at)).collect();
    let name = |&at: &usize| {
        let individual = individuals.map(|row| format!("{}_", field(row, at))).unwrap_or_default();
        format!("{individual}{}_{}", field(parts, at), coords[at])
    };
    let rows = lines[parts + 2..].to_vec();
    let clock = RowClock::numbered("frame", rows.iter().map(|(_, row)| row[0].as_str()), true);
    if clock.frames.is_none() {
        let first =
            rows.iter().map(|(_, row)| row[0].as_str()).find(|name| name.parse::<f64>().is_err()).unwrap_or_default();
        let cause = format!(
            "its rows are not numbered by the frames of a video ({first:?}): it holds the points that people set in single pictures (CollectedData), \
             not the track of a video; give the table that analyze_videos wrote (save_as_csv=True)"
        );
        return Err(DatasetError::file(path, cause));
    }
    Ok(Pose { names: columns.iter().map(name).collect(), columns, rows, clock })
}
