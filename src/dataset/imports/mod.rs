//! Poses and labels as other programs write them, so that nobody has to convert a file by hand before training.
//!
//! What it must never do: guess where a header is ambiguous; each format is recognised by its own header, never by its file name.

pub mod deepfly3d;
pub mod pickle;
pub mod sleap;

mod anipose;
mod boris;
mod deeplabcut;

use std::path::Path;

use super::error::DatasetError;
use super::whole::bytes_of;

pub(super) use self::boris::bouts;

/// A data row and the line it stands in.
type Row = (usize, Vec<String>);

/// A pose table.
pub(super) struct Pose {
    /// Names of the columns that are behaviour.
    pub names: Vec<String>,
    /// Index of each of them in a row.
    pub columns: Vec<usize>,
    /// Data rows, each with its line number.
    pub rows: Vec<Row>,
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

/// The pose in a table of DeepLabCut or Anipose; `None` for any other header.
pub(super) fn pose(path: &Path) -> Result<Option<Pose>, DatasetError> {
    let rows = rows(path)?;
    let Some((_, first)) = rows.first() else { return Ok(None) };
    if deeplabcut::is_header(first) {
        return deeplabcut::pose(path, &rows).map(Some);
    }
    Ok(anipose::is_header(first).then(|| anipose::pose(&rows)))
}

/// Every line of a CSV with its number, however many fields it has.
fn rows(path: &Path) -> Result<Vec<Row>, DatasetError> {
    let failed = |e: csv::Error| DatasetError::file(path, e);
    let bytes = bytes_of(path)?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(bytes.as_slice());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        rows.push((line, record.iter().map(|field| field.trim_start_matches('\u{feff}').to_owned()).collect()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn three_and_four_header_rows_of_deep_lab_cut_name_the_columns_and_likelihood_is_left_out() {
        let three = file(
            "scorer,net,net,net,net,net,net\nbodyparts,nose,nose,nose,tail,tail,tail\ncoords,x,y,likelihood,x,y,likelihood\n0,1.5,2,0.9,3,4,0.8\n1,5,6,0.9,7,8,0.1\n",
        );
        let pose = pose(three.path()).unwrap().unwrap();
        assert_eq!(pose.names, ["nose_x", "nose_y", "tail_x", "tail_y"]);
        assert_eq!(pose.columns, [1, 2, 4, 5]);
        assert_eq!(pose.rows.len(), 2);
        assert_eq!(pose.rows[0].1[1], "1.5");
        let four = file("scorer,net,net\nindividuals,fly1,fly1\nbodyparts,nose,nose\ncoords,x,y\n0,1,2\n");
        assert_eq!(super::pose(four.path()).unwrap().unwrap().names, ["fly1_nose_x", "fly1_nose_y"]);
        let broken = file("scorer,net\ncoords,x\n0,1\n");
        assert!(super::pose(broken.path()).err().unwrap().to_string().contains("bodyparts"));
    }

    #[test]
    fn an_anipose_table_is_its_coordinates_only() {
        let table =
            file("knee_x,knee_y,knee_z,knee_error,knee_ncams,knee_score,M_00,center_0,fnum\n1,2,3,0.1,2,0.9,1,0,0\n");
        let pose = pose(table.path()).unwrap().unwrap();
        assert_eq!(
            (pose.names, pose.columns),
            (["knee_x", "knee_y", "knee_z"].map(String::from).to_vec(), vec![0, 1, 2])
        );
        assert!(super::pose(file("a_x,a_y\n1,2\n").path()).unwrap().is_none(), "a plain table is none of these");
    }
}
