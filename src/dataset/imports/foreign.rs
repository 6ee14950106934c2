//! Tables of other programs as they write them: poses of DeepLabCut and Anipose, bouts of BORIS.
//!
//! Why it exists: nobody should have to convert a file by hand before training. Each is known by its own header, never by its
//! name. What it must never do: guess where a header is ambiguous, or drop a bout without a reason that stands here.
//!
//! - **DeepLabCut** (Mathis et al. 2018): three header rows (scorer, bodyparts, coords) or four (scorer, individuals, bodyparts,
//!   coords). Columns become `bodypart_x` (or `individual_bodypart_x`); `likelihood` is how sure the tracker was, not behaviour, and
//!   is left out.
//! - **Anipose** (Karashchuk et al. 2021), `pose-3d`: one header row; the columns ending in `_x`, `_y` and `_z` are the pose. Errors,
//!   scores, numbers of cameras, the frame of reference (`M_…`, `center_…`) and `fnum` are left out.
//! - **BORIS** (Friard and Gamba 2016): aggregated events (`Behavior`, `Start (s)`, `Stop (s)`) and tabular events (`Behavior`,
//!   `Time`, and `Status` or `Behavior type` with START and STOP); a preamble before the header is passed over. Events of a point in
//!   time and bouts whose time is `NA` say nothing about an interval and are left out.

use std::path::Path;

use crate::dataset::error::DatasetError;

/// Header rows and data of a pose table.
pub(crate) struct Pose {
    /// Names of the columns that are behaviour.
    pub names: Vec<String>,
    /// Where they stand in each row.
    pub columns: Vec<usize>,
    /// Data rows, each with the line it stands in.
    pub rows: Vec<(usize, Vec<String>)>,
}

/// A bout: line, start s, stop s, label.
pub(crate) type Bout = (usize, f64, f64, String);

/// A pose table of DeepLabCut or Anipose; `None` when the header is neither's.
pub(crate) fn pose(path: &Path) -> Result<Option<Pose>, DatasetError> {
    let lines = lines(path)?;
    let Some((_, first)) = lines.first() else { return Ok(None) };
    if first.first().is_some_and(|field| field.eq_ignore_ascii_case("scorer")) {
        return deep_lab_cut(path, lines).map(Some);
    }
    let ends = |end: &str| first.iter().any(|field| field.ends_with(end));
    let anipose = first.iter().any(|field| field == "fnum") && ends("_x") && ends("_z") && ends("_ncams");
    Ok(anipose.then(|| {
        let is_pose = |name: &str| {
            ["_x", "_y", "_z"].iter().any(|end| name.ends_with(end))
                && !name.starts_with("M_")
                && !name.starts_with("center_")
        };
        let columns: Vec<usize> = (0..first.len()).filter(|&at| is_pose(&first[at])).collect();
        let names = columns.iter().map(|&at| first[at].clone()).collect();
        Pose { names, columns, rows: lines[1..].to_vec() }
    }))
}

fn deep_lab_cut(path: &Path, lines: Vec<(usize, Vec<String>)>) -> Result<Pose, DatasetError> {
    let heads: Vec<&str> = lines.iter().take(4).map(|(_, row)| row[0].as_str()).collect();
    let is = |at: usize, name: &str| heads.get(at).is_some_and(|head| head.eq_ignore_ascii_case(name));
    let (individuals, parts) = match (is(1, "individuals"), is(1, "bodyparts")) {
        (true, _) if is(2, "bodyparts") && is(3, "coords") => (Some(1), 2),
        (_, true) if is(2, "coords") => (None, 1),
        _ => {
            let cause = format!(
                "begins like a table of DeepLabCut, but its header rows are {}; they are scorer, (individuals,) bodyparts, coords",
                heads.join(", ")
            );
            return Err(DatasetError::file(path, cause));
        }
    };
    let coords = &lines[parts + 1].1;
    let field = |row: usize, at: usize| lines[row].1.get(at).map_or("", String::as_str);
    let columns: Vec<usize> = (1..coords.len()).filter(|&at| coords[at] != "likelihood").collect();
    let name = |&at: &usize| {
        let individual = individuals.map(|row| format!("{}_", field(row, at))).unwrap_or_default();
        format!("{individual}{}_{}", field(parts, at), coords[at])
    };
    Ok(Pose { names: columns.iter().map(name).collect(), columns, rows: lines[parts + 2..].to_vec() })
}

/// Bouts of BORIS; `None` when no row is a header of its.
pub(crate) fn bouts(path: &Path) -> Result<Option<Vec<Bout>>, DatasetError> {
    let lines = lines(path)?;
    let find = |row: &[String], names: &[&str]| {
        row.iter().position(|field| names.iter().any(|name| field.eq_ignore_ascii_case(name)))
    };
    for (at, (_, row)) in lines.iter().enumerate() {
        let Some(label) = find(row, &["Behavior", "Behaviour"]) else { continue };
        let rows = &lines[at + 1..];
        if let Some((start, stop)) = find(row, &["Start (s)"]).zip(find(row, &["Stop (s)"])) {
            return aggregated(path, rows, [label, start, stop]).map(Some);
        }
        if let Some((time, status)) = find(row, &["Time"]).zip(find(row, &["Status", "Behavior type"])) {
            let subject = find(row, &["Subject"]);
            return tabular(path, rows, (label, time, status, subject)).map(Some);
        }
    }
    Ok(None)
}

fn aggregated(path: &Path, rows: &[(usize, Vec<String>)], at: [usize; 3]) -> Result<Vec<Bout>, DatasetError> {
    let mut bouts = Vec::new();
    for (line, row) in rows {
        let [label, start, stop] = at.map(|column| row.get(column).map_or("", String::as_str));
        if let Some((start, stop)) = seconds(path, *line, start)?.zip(seconds(path, *line, stop)?)
            && stop > start
        {
            bouts.push((*line, start, stop, label.to_owned()));
        }
    }
    Ok(bouts)
}

fn tabular(
    path: &Path,
    rows: &[(usize, Vec<String>)],
    (label, time, status, subject): (usize, usize, usize, Option<usize>),
) -> Result<Vec<Bout>, DatasetError> {
    let mut open: Vec<(usize, f64, String, String)> = Vec::new();
    let mut bouts = Vec::new();
    for (line, row) in rows {
        let field = |column: usize| row.get(column).map_or("", String::as_str);
        let Some(at) = seconds(path, *line, field(time))? else { continue };
        let (label, subject) = (field(label).to_owned(), subject.map(field).unwrap_or_default().to_owned());
        let before = open.iter().position(|(_, _, l, s)| *l == label && *s == subject);
        match (field(status).to_uppercase().as_str(), before) {
            ("START", None) => open.push((*line, at, label, subject)),
            ("STOP", Some(index)) => {
                let (line, start, label, _) = open.swap_remove(index);
                if at > start {
                    bouts.push((line, start, at, label));
                }
            }
            ("START", Some(index)) => {
                let cause = format!("line {line}: {label:?} starts again; it started in line {}", open[index].0);
                return Err(DatasetError::file(path, cause));
            }
            ("STOP", None) => {
                return Err(DatasetError::file(path, format!("line {line}: {label:?} stops and never started")));
            }
            _ => {}
        }
    }
    match open.first() {
        Some((line, _, label, _)) => {
            Err(DatasetError::file(path, format!("line {line}: {label:?} starts and never stops")))
        }
        None => Ok(bouts),
    }
}

/// A time; `NA` and nothing are none.
fn seconds(path: &Path, line: usize, text: &str) -> Result<Option<f64>, DatasetError> {
    if text.is_empty() || text.eq_ignore_ascii_case("na") {
        return Ok(None);
    }
    let number = text.parse::<f64>().ok().filter(|s| s.is_finite());
    number.map(Some).ok_or_else(|| DatasetError::file(path, format!("line {line}: {text:?} is no time in seconds")))
}

/// Every line with its number, however many fields it has.
fn lines(path: &Path) -> Result<Vec<(usize, Vec<String>)>, DatasetError> {
    let failed = |e: csv::Error| DatasetError::file(path, e);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(failed)?;
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        lines.push((line, record.iter().map(|field| field.trim_start_matches('\u{feff}').to_owned()).collect()));
    }
    Ok(lines)
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

    #[test]
    fn aggregated_events_of_boris_are_bouts_and_points_and_unknown_times_are_none() {
        let table = file(
            "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s)\no1,fly,walking,STATE,0.5,2.25\no1,fly,jump,POINT,3,3\no1,fly,resting,STATE,NA,NA\n",
        );
        assert_eq!(bouts(table.path()).unwrap().unwrap(), [(2, 0.5, 2.25, "walking".to_owned())]);
        assert!(bouts(file("frame,label\n0,walking\n").path()).unwrap().is_none());
    }

    #[test]
    fn tabular_events_behind_a_preamble_are_paired_and_a_lonely_end_is_an_error() {
        let text = "Observation id,o1\nMedia file(s)\n\nTime,Media file path,Subject,Behavior,Comment,Status\n1.0,m,fly,walking,,START\n1.5,m,fly,jump,,POINT\n2.0,m,other,walking,,START\n3.0,m,fly,walking,,STOP\n4.0,m,other,walking,,STOP\n";
        let found = bouts(file(text).path()).unwrap().unwrap();
        let times: Vec<(f64, f64)> = found.iter().map(|bout| (bout.1, bout.2)).collect();
        assert_eq!(times, [(1.0, 3.0), (2.0, 4.0)]);
        let lonely = "Time,Behavior,Status\n1.0,walking,STOP\n";
        assert!(bouts(file(lonely).path()).err().unwrap().to_string().contains("line 2: \"walking\" stops"));
        let open = "Time,Behavior,Status\n1.0,walking,START\n";
        assert!(bouts(file(open).path()).err().unwrap().to_string().contains("never stops"));
    }
}
