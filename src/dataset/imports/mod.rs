//! Poses and labels as other programs write them, so that nobody has to convert a file by hand before training.
//!
//! What it must never do: guess where a header is ambiguous; each format is recognised by its own header, never by its file name.

pub mod deepfly3d;
pub mod pickle;
pub mod sleap;

mod anipose;
mod boris;
mod deeplabcut;
mod fictrac;
mod sleap_csv;

use std::collections::BTreeSet;
use std::path::Path;

use super::error::DatasetError;
use super::row_clock::RowClock;
use super::sheet::{Line, lines};

pub(super) use self::boris::bouts;

use Line as Row;

/// A pose table.
pub(super) struct Pose {
    /// Names of the columns that are behaviour.
    pub names: Vec<String>,
    /// Index of each of them in a row.
    pub columns: Vec<usize>,
    /// Data rows, each with its line number.
    pub rows: Vec<Row>,
    /// What it says about the times of its rows.
    pub clock: RowClock,
}

/// A labelled interval of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bout {
    /// Line of the file.
    pub line: usize,
    /// Start, s.
    pub start_s: f64,
    /// End, s.
    pub stop_s: f64,
    /// The action.
    pub label: String,
}

/// The pose in a table of DeepLabCut, SLEAP, Anipose or FicTrac; otherwise its lines as they are. `track`: which animal.
pub(super) fn pose(path: &Path, track: Option<&str>) -> Result<Result<Pose, Vec<Row>>, DatasetError> {
    let rows = lines(path)?;
    let Some((_, first)) = rows.first() else { return Ok(Err(rows)) };
    let pose = match () {
        () if deeplabcut::is_header(first) => deeplabcut::pose(path, &rows, track)?,
        () if sleap_csv::is_header(first) => sleap_csv::pose(path, &rows, track)?,
        () if track.is_some() => {
            return Err(DatasetError::file(
                path,
                "has no tracks or individuals (SLEAP, DeepLabCut): leave `track` out",
            ));
        }
        () if anipose::is_header(first) => anipose::pose(&rows),
        () if fictrac::is_fictrac(&rows) => fictrac::pose(path, rows)?,
        () => return Ok(Err(rows)),
    };
    Ok(Ok(pose))
}

/// The one that is there, or that the user chose with `key`.
fn one_of(
    path: &Path,
    what: &str,
    key: &str,
    there: &BTreeSet<String>,
    asked: Option<&str>,
) -> Result<String, DatasetError> {
    let list = || there.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ");
    match (asked, there.first()) {
        (Some(asked), _) if there.contains(asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            Err(DatasetError::file(path, format!("has no {what} {asked:?}; `{key}` must name one of: {}", list())))
        }
        (None, Some(one)) if there.len() == 1 => Ok(one.clone()),
        (None, None) => Ok(String::new()),
        (None, Some(first)) => Err(DatasetError::file(
            path,
            format!(
                "holds {} {what}s ({}), but a trial is of one: choose it with `{key} = {first:?}`",
                there.len(),
                list()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::csv as file;

    #[test]
    fn three_and_four_header_rows_of_deep_lab_cut_name_the_columns_and_likelihood_is_left_out() {
        let three = file(
            "scorer,net,net,net,net,net,net\nbodyparts,nose,nose,nose,tail,tail,tail\ncoords,x,y,likelihood,x,y,likelihood\n0,1.5,2,0.9,3,4,0.8\n1,5,6,0.9,7,8,0.1\n",
        );
        let pose = |file: &tempfile::NamedTempFile| pose(file.path(), None).map(|pose| pose.ok().unwrap());
        let found = pose(&three).unwrap();
        assert_eq!(found.names, ["nose_x", "nose_y", "tail_x", "tail_y"]);
        assert_eq!(found.columns, [1, 2, 4, 5]);
        assert_eq!((found.rows.len(), found.rows[0].1[1].as_str()), (2, "1.5"));
        assert_eq!(found.clock.frames.unwrap().1, [0, 1]);
        let four = file("scorer,net,net\nindividuals,fly1,fly1\nbodyparts,nose,nose\ncoords,x,y\n0,1,2\n");
        assert_eq!(pose(&four).unwrap().names, ["fly1_nose_x", "fly1_nose_y"]);
        let broken = file("scorer,net\ncoords,x\n0,1\n");
        assert!(pose(&broken).err().unwrap().to_string().contains("bodyparts"));
        let two = file(
            "scorer,n,n,n,n\nindividuals,f1,f1,f2,single\nbodyparts,nose,nose,nose,food\ncoords,x,y,x,x\n0,1,2,3,4\n",
        );
        assert!(pose(&two).err().unwrap().to_string().contains("track = \"f1\""));
        assert_eq!(super::pose(two.path(), Some("f2")).unwrap().ok().unwrap().names, ["f2_nose_x"]);
    }

    #[test]
    fn an_anipose_table_is_its_coordinates_only() {
        let table =
            file("knee_x,knee_y,knee_z,knee_error,knee_ncams,knee_score,M_00,center_0,fnum\n1,2,3,0.1,2,0.9,1,0,0\n");
        let pose = pose(table.path(), None).unwrap().ok().unwrap();
        assert_eq!(
            (pose.names, pose.columns),
            (["knee_x", "knee_y", "knee_z"].map(String::from).to_vec(), vec![0, 1, 2])
        );
        assert!(super::pose(file("a_x,a_y\n1,2\n").path(), None).unwrap().is_err(), "a plain table is none of these");
    }
}
