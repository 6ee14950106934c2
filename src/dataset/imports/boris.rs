//! Bouts of BORIS (Friard and Gamba 2016).
//!
//! Aggregated events (`Behavior`, `Start (s)`, `Stop (s)`) and tabular events (`Behavior`, `Time`, and `Status` or `Behavior type`
//! with START and STOP); a preamble before the header is skipped. Point events, and bouts whose time is `NA`, say nothing about an
//! interval and are left out.

use std::path::Path;

use super::{Bout, Row, lines, one_of};
use crate::dataset::error::DatasetError;
use crate::dataset::spec::Who;

/// The bouts of a BORIS export of one observation and one subject; otherwise the lines as they are.
pub(in crate::dataset) fn bouts(path: &Path, who: &Who) -> Result<Result<Vec<Bout>, Vec<Row>>, DatasetError> {
    let rows = lines(path)?;
    let find = |row: &[String], names: &[&str]| {
        row.iter().position(|field| names.iter().any(|name| field.eq_ignore_ascii_case(name)))
    };
    for (at, (_, row)) in rows.iter().enumerate() {
        let Some(label) = find(row, &["Behavior", "Behaviour"]) else { continue };
        let times = find(row, &["Start (s)"]).zip(find(row, &["Stop (s)"]));
        let status = find(row, &["Time"]).zip(find(row, &["Status", "Behavior type"]));
        if times.is_none() && status.is_none() {
            continue;
        }
        let observation = find(row, &["Observation id"]);
        let subject = find(row, &["Subject"]);
        let below =
            only(path, &rows[at + 1..], observation, ("observation", "label_observation"), who.observation.as_deref())?;
        let below = only(path, &below, subject, ("subject", "label_subject"), who.subject.as_deref())?;
        if let Some((start, stop)) = times {
            return aggregated(path, &below, [label, start, stop]).map(Ok);
        }
        if let Some((time, status)) = status {
            let columns = Columns { label, time, status, subject };
            return tabular(path, &below, &columns).map(Ok);
        }
    }
    Ok(Err(rows))
}

/// The rows of one observation or subject: the only one, or the one that was chosen.
fn only(
    path: &Path,
    rows: &[Row],
    column: Option<usize>,
    (what, key): (&str, &str),
    asked: Option<&str>,
) -> Result<Vec<Row>, DatasetError> {
    let Some(column) = column else {
        return match asked {
            Some(_) => Err(DatasetError::file(path, format!("has no column of {what}s: leave `{key}` out"))),
            None => Ok(rows.to_vec()),
        };
    };
    let there = rows.iter().map(|(_, row)| field(row, column).to_owned()).collect();
    let chosen = one_of(path, what, key, &there, asked)?;
    Ok(rows.iter().filter(|(_, row)| field(row, column) == chosen).cloned().collect())
}

fn aggregated(path: &Path, rows: &[Row], [label, start, stop]: [usize; 3]) -> Result<Vec<Bout>, DatasetError> {
    let mut bouts = Vec::new();
    for (line, row) in rows {
        let [label, start, stop] = [label, start, stop].map(|column| field(row, column));
        if let Some((start_s, stop_s)) = seconds(path, *line, start)?.zip(seconds(path, *line, stop)?)
            && stop_s > start_s
        {
            bouts.push(Bout { line: *line, start_s, stop_s, label: label.to_owned() });
        }
    }
    Ok(bouts)
}

/// Columns of a table of tabular events.
struct Columns {
    label: usize,
    time: usize,
    status: usize,
    subject: Option<usize>,
}

/// A bout that has started and not yet stopped.
struct Open {
    line: usize,
    start_s: f64,
    label: String,
    subject: String,
}

fn tabular(path: &Path, rows: &[Row], columns: &Columns) -> Result<Vec<Bout>, DatasetError> {
    let mut open: Vec<Open> = Vec::new();
    let mut bouts = Vec::new();
    for (line, row) in rows {
        let Some(at_s) = seconds(path, *line, field(row, columns.time))? else { continue };
        let label = field(row, columns.label).to_owned();
        let subject = columns.subject.map(|column| field(row, column)).unwrap_or_default().to_owned();
        let before = open.iter().position(|bout| bout.label == label && bout.subject == subject);
        match (field(row, columns.status).to_uppercase().as_str(), before) {
            ("START", None) => open.push(Open { line: *line, start_s: at_s, label, subject }),
            ("STOP", Some(index)) => {
                let Open { line, start_s, label, .. } = open.swap_remove(index);
                if at_s > start_s {
                    bouts.push(Bout { line, start_s, stop_s: at_s, label });
                }
            }
            ("START", Some(index)) => {
                let cause =
                    format!("line {line}: {label:?} starts again; it already started in line {}", open[index].line);
                return Err(DatasetError::file(path, cause));
            }
            ("STOP", None) => {
                return Err(DatasetError::file(path, format!("line {line}: {label:?} stops but never started")));
            }
            _ => {}
        }
    }
    match open.first() {
        Some(Open { line, label, .. }) => {
            Err(DatasetError::file(path, format!("line {line}: {label:?} starts but never stops")))
        }
        None => Ok(bouts),
    }
}

fn field(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

/// A time; `None` for `NA` and an empty field.
fn seconds(path: &Path, line: usize, text: &str) -> Result<Option<f64>, DatasetError> {
    if text.is_empty() || text.eq_ignore_ascii_case("na") {
        return Ok(None);
    }
    let number = text.parse::<f64>().ok().filter(|s| s.is_finite());
    number.map(Some).ok_or_else(|| DatasetError::file(path, format!("line {line}: {text:?} is not a time in seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::csv as file;

    fn bouts(path: &Path) -> Result<Option<Vec<Bout>>, DatasetError> {
        super::bouts(path, &Who::default()).map(Result::ok)
    }

    #[test]
    fn aggregated_events_of_boris_are_bouts_and_points_and_unknown_times_are_none() {
        let table = file(
            "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s)\no1,fly,walking,STATE,0.5,2.25\no1,fly,jump,POINT,3,3\no1,fly,resting,STATE,NA,NA\n",
        );
        assert_eq!(
            bouts(table.path()).unwrap().unwrap(),
            [Bout { line: 2, start_s: 0.5, stop_s: 2.25, label: "walking".to_owned() }]
        );
        assert!(bouts(file("frame,label\n0,walking\n").path()).unwrap().is_none());
    }

    #[test]
    fn tabular_events_behind_a_preamble_are_paired_and_a_lonely_end_is_an_error() {
        let text = "Observation id,o1\nMedia file(s)\n\nTime,Media file path,Subject,Behavior,Comment,Status\n1.0,m,fly,walking,,START\n1.5,m,fly,jump,,POINT\n2.0,m,other,walking,,START\n3.0,m,fly,walking,,STOP\n4.0,m,other,walking,,STOP\n";
        let error = bouts(file(text).path()).err().unwrap().to_string();
        assert!(
            error.contains("2 subjects (\"fly\", \"other\")") && error.contains("label_subject = \"fly\""),
            "{error}"
        );
        let who = Who { subject: Some("other".into()), ..Who::default() };
        let found = super::bouts(file(text).path(), &who).unwrap().ok().unwrap();
        let times: Vec<(f64, f64)> = found.iter().map(|bout| (bout.start_s, bout.stop_s)).collect();
        assert_eq!(times, [(2.0, 4.0)]);
        let two = file("Observation id,Behavior,Start (s),Stop (s)\no1,walking,0,1\no2,walking,0,1\n");
        assert!(bouts(two.path()).err().unwrap().to_string().contains("label_observation"));
        let lonely = "Time,Behavior,Status\n1.0,walking,STOP\n";
        assert!(bouts(file(lonely).path()).err().unwrap().to_string().contains("line 2: \"walking\" stops"));
        let open = "Time,Behavior,Status\n1.0,walking,START\n";
        assert!(bouts(file(open).path()).err().unwrap().to_string().contains("never stops"));
    }
}
