//! Tables and columns of numbers, from `.npy`, CSV with a header, or a headerless memory map; poses also from SLEAP's HDF5,
//! DeepFly3D's pickle and FicTrac's text.
//!
//! Why it exists: behaviour, indices, timestamps and masks come in the same formats. What it must never do: judge the values (that
//! is `checks`), or read the frames of a movie into memory.

use std::path::Path;

use ndarray::{Array2, Axis};

use super::error::DatasetError;
use super::imports::{self, Pose, deepfly3d, sleap};
use super::npy::{self, Array};
use super::row_clock::{self, Counts, RowClock};
use super::sheet::{self, Sheet};
use super::table::{Columns, Pick, Table};
use super::whole::bytes_of;

/// Reads a table of behaviour.
pub fn table(path: &Path, columns: &Columns, pick: &Pick) -> Result<Table, DatasetError> {
    let (hdf5, pickled) = (sleap::is_hdf5(path)?, !is_csv(path) && npy::begins_as_pickle(path)?);
    let text = is_csv(path) || !hdf5 && !pickled && sheet::is_text(path)?;
    for (key, value, fits, whose) in [
        ("track", &pick.track, hdf5 || text, "SLEAP's HDF5 or CSV or DeepLabCut's CSV"),
        ("points", &pick.points, pickled, "DeepFly3D's pickle"),
    ] {
        if let Some(value) = value.as_ref().filter(|_| !fits) {
            return Err(DatasetError::file(
                path,
                format!("is not {whose}, to which `{key} = {value:?}` applies: leave `{key}` out"),
            ));
        }
    }
    if hdf5 {
        return chosen(path, sleap::table(path, pick.track.as_deref())?, columns);
    }
    if pickled {
        return chosen(path, deepfly3d::table(path, pick.points.as_deref())?, columns);
    }
    if text {
        return csv_table(path, columns, pick.track.as_deref());
    }
    let (rows, width, values) = match Array::read(path)? {
        Some(array) => npy_values(path, &array)?,
        None => map_values(path, columns)?,
    };
    let names = match columns {
        Columns::Names(names) if names.len() == width => names.clone(),
        Columns::Names(names) => return Err(wrong_width(path, width, names.len())),
        Columns::Count(stated) if *stated != width => return Err(wrong_width(path, width, *stated)),
        _ => (0..width).map(|i| i.to_string()).collect(),
    };
    if matches!(columns, Columns::Own | Columns::Count(_)) {
        refuse_counters(path, &names, |at| (0..rows).map(|row| values[row * width + at]).collect())?;
    }
    let values = values.into_iter().map(|value| value as f32).collect();
    let values = Array2::from_shape_vec((rows, width), values).map_err(|e| DatasetError::file(path, e))?;
    Ok(Table::new(values, names))
}

/// All columns of a table with named columns, or the requested ones.
fn chosen(path: &Path, table: Table, columns: &Columns) -> Result<Table, DatasetError> {
    let Table { values, names, clock } = table;
    match columns {
        Columns::Names(wanted) => {
            let find = |name: &String| {
                let lacks = || format!("has no column {name:?}; it has {}", names.join(", "));
                names.iter().position(|own| own == name).ok_or_else(|| DatasetError::file(path, lacks()))
            };
            let at = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            Ok(Table { values: values.select(Axis(1), &at), names: wanted.clone(), clock })
        }
        Columns::Count(stated) if *stated != names.len() => Err(wrong_width(path, names.len(), *stated)),
        _ => Ok(Table { values, names, clock }),
    }
}

fn wrong_width(path: &Path, found: usize, stated: usize) -> DatasetError {
    DatasetError::file(
        path,
        format!(
            "has {found} columns, but `columns` is {stated}: leave it out where the file knows its columns, or choose them by `column_names`"
        ),
    )
}

/// Further axes (joints × 3) become columns.
fn npy_values(path: &Path, array: &Array) -> Result<(usize, usize, Vec<f64>), DatasetError> {
    let shape = &array.header.shape;
    let numbers = array.numbers().filter(|_| !shape.is_empty());
    let Some(numbers) = numbers else {
        return Err(DatasetError::file(path, "is not a table of numbers; behaviour is [frames, columns]"));
    };
    Ok((shape[0], shape[1..].iter().product(), numbers))
}

fn map_values(path: &Path, columns: &Columns) -> Result<(usize, usize, Vec<f64>), DatasetError> {
    npy::refuse_foreign(path)?;
    let bytes = bytes_of(path)?;
    let count = bytes.len() / 4;
    let fail = |cause: String| Err(DatasetError::file(path, cause));
    let (rows, width) = match columns {
        Columns::Rows(0) => (0, 0),
        Columns::Rows(rows) => (*rows, count / rows),
        Columns::Count(width) => (count / width.max(&1), *width),
        Columns::Names(names) => (count / names.len().max(1), names.len()),
        Columns::Own => return fail("is a headerless memory map: state its number of columns (`columns = 90`)".into()),
    };
    if rows * width * 4 != bytes.len() || count == 0 {
        let what = if matches!(columns, Columns::Rows(_)) { "rows (one per entry of the index)" } else { "columns" };
        let number = if matches!(columns, Columns::Rows(_)) { rows } else { width };
        return fail(format!("{} bytes are not a whole float32 table of {number} {what}", bytes.len()));
    }
    let values = bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    Ok((rows, width, values))
}

fn csv_table(path: &Path, columns: &Columns, track: Option<&str>) -> Result<Table, DatasetError> {
    let sheet = match imports::pose(path, track)? {
        Ok(pose) => return pose_table(path, &pose, columns),
        Err(lines) => Sheet::of(path, lines)?,
    };
    let chosen: Vec<usize> = match columns {
        Columns::Names(names) => {
            let find = |name: &String| {
                let fail =
                    |cause: String| DatasetError::file(path, format!("{cause}; it has {}", sheet.header.join(", ")));
                let like = sheet.header.iter().filter(|own| own.eq_ignore_ascii_case(name)).count();
                match sheet.column(&[name]) {
                    Some(at) if like == 1 => Ok(at),
                    Some(_) => Err(fail(format!("has {like} columns {name:?}: give each a name of its own"))),
                    None => Err(fail(format!("has no column {name:?}"))),
                }
            };
            names.iter().map(find).collect::<Result<_, _>>()?
        }
        _ => (0..sheet.header.len()).filter(|&i| Counts::of(&sheet.header[i]).is_none()).collect(),
    };
    let mut values = Vec::with_capacity(sheet.rows.len() * chosen.len());
    for (row, fields) in sheet.rows.iter().enumerate() {
        for &column in &chosen {
            values.push(number(path, row + 2, &fields[column])?);
        }
    }
    let names: Vec<String> = chosen.iter().map(|&i| sheet.header[i].clone()).collect();
    let width = names.len().max(1);
    if let Columns::Count(stated) = columns
        && *stated != names.len()
    {
        return Err(wrong_width(path, names.len(), *stated));
    }
    if !matches!(columns, Columns::Names(_)) {
        refuse_counters(path, &names, |at| values.iter().skip(at).step_by(width).copied().collect())?;
    }
    let values = values.into_iter().map(|value| value as f32).collect();
    let values =
        Array2::from_shape_vec((sheet.rows.len(), names.len()), values).map_err(|e| DatasetError::file(path, e))?;
    let mut table = Table { clock: row_clock(&sheet), ..Table::new(values, names) };
    table.clock.from_zero = false;
    Ok(table)
}

/// A column that goes up steadily in every row is a clock, not behaviour, whatever it is called. Before it becomes float32, in which times of the
/// day stand still.
fn refuse_counters(path: &Path, names: &[String], column: impl Fn(usize) -> Vec<f64>) -> Result<(), DatasetError> {
    let counts = |at: &usize| row_clock::counts_rows(&column(*at));
    // Where there is no other column to choose, the user means this one.
    let Some(at) = (0..names.len()).find(counts).filter(|_| names.len() > 1) else { return Ok(()) };
    let behaviour = names.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, name)| format!("{name:?}"));
    Err(DatasetError::file(
        path,
        format!(
            "its column {:?} goes up by the same step in every row, or nearly: it counts frames or time and is no behaviour; choose the columns by \
             name: column_names = [{}]",
            names[at],
            behaviour.collect::<Vec<_>>().join(", ")
        ),
    ))
}

/// What the columns that are not behaviour say about the rows.
fn row_clock(sheet: &Sheet) -> RowClock {
    let column = |counts: Counts| sheet.header.iter().position(|name| Counts::of(name) == Some(counts));
    let texts = |at: usize| sheet.rows.iter().map(move |fields| fields[at].as_str());
    let mut clock = match column(Counts::Frames) {
        Some(at) => RowClock::numbered(&sheet.header[at], texts(at), false),
        None => RowClock::default(),
    };
    clock.times = column(Counts::Time).and_then(|at| {
        let times: Option<Vec<f64>> = texts(at).map(|text| text.parse().ok()).collect();
        Some((sheet.header[at].clone(), times?))
    });
    clock
}

/// The pose of another program's table: all of it, or the requested columns.
fn pose_table(path: &Path, pose: &Pose, columns: &Columns) -> Result<Table, DatasetError> {
    let chosen: Vec<usize> = match columns {
        Columns::Names(wanted) => {
            let find = |name: &String| {
                let at = pose.names.iter().position(|own| own == name);
                let lacks = || format!("has no column {name:?}; it has {}", pose.names.join(", "));
                at.ok_or_else(|| DatasetError::file(path, lacks()))
            };
            wanted.iter().map(find).collect::<Result<_, _>>()?
        }
        _ => (0..pose.names.len()).collect(),
    };
    if let Columns::Count(stated) = columns
        && *stated != chosen.len()
    {
        return Err(wrong_width(path, chosen.len(), *stated));
    }
    let mut values = Vec::with_capacity(pose.rows.len() * chosen.len());
    for (line, fields) in &pose.rows {
        for &at in &chosen {
            values.push(number(path, *line, fields.get(pose.columns[at]).map_or("", String::as_str))? as f32);
        }
    }
    let shape = (pose.rows.len(), chosen.len());
    let values = Array2::from_shape_vec(shape, values).map_err(|e| DatasetError::file(path, e))?;
    let names = chosen.iter().map(|&at| pose.names[at].clone()).collect();
    Ok(Table { clock: pose.clock.clone(), ..Table::new(values, names) })
}

/// A field of a CSV; an empty field, `NA`, `-` and `nan` are NaN.
fn number(path: &Path, line: usize, field: &str) -> Result<f64, DatasetError> {
    if matches!(field, "" | "-") || field.eq_ignore_ascii_case("na") {
        return Ok(f64::NAN);
    }
    field.parse().map_err(|_| DatasetError::file(path, format!("line {line}: {field:?} is not a number")))
}

/// Whole numbers: `.npy`, CSV (its only column, or the one named `frame` or `index`), or a headerless int64 memory map.
pub fn integers(path: &Path) -> Result<Vec<i64>, DatasetError> {
    if is_csv(path) {
        let whole = |(row, value): (usize, f64)| {
            let is_whole = value.fract() == 0.0 && value.abs() < 9e15;
            let fault = || DatasetError::file(path, format!("line {}: {value} is not a whole number", row + 2));
            is_whole.then_some(value as i64).ok_or_else(fault)
        };
        return csv_column(path, &["two_photon_frame", "frame", "index"])?.into_iter().enumerate().map(whole).collect();
    }
    if let Some(array) = Array::read(path)? {
        let cause = "does not contain whole numbers; an index is int64, one entry per behaviour frame";
        return array.integers().ok_or_else(|| DatasetError::file(path, cause));
    }
    npy::refuse_foreign(path)?;
    refuse_text(path, "int64 array")?;
    let bytes = bytes_of(path)?;
    if bytes.is_empty() || bytes.len() % 8 != 0 {
        return Err(DatasetError::file(path, format!("{} bytes are not a headerless int64 array", bytes.len())));
    }
    let integer = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    Ok(bytes.chunks_exact(8).map(integer).collect())
}

/// Times in seconds: `.npy`, or CSV (its only column, or the one named `time_s` or `time`).
pub fn times_s(path: &Path) -> Result<Vec<f64>, DatasetError> {
    if is_csv(path) {
        return csv_column(path, &["time_s", "time", "timestamp"]);
    }
    let numbers = Array::read(path)?.and_then(|array| array.numbers());
    numbers.ok_or_else(|| DatasetError::file(path, "is neither .npy nor .csv; times are seconds, one per frame"))
}

/// Flags: `.npy` of bool or whole numbers, one byte each in a headerless file, or CSV.
pub fn flags(path: &Path) -> Result<Vec<bool>, DatasetError> {
    if is_csv(path) {
        return Ok(csv_column(path, &["mask", "leave_out"])?.into_iter().map(|v| v != 0.0).collect());
    }
    if let Some(array) = Array::read(path)? {
        let numbers = array.numbers().ok_or_else(|| DatasetError::file(path, "contains text; a mask is bool"))?;
        return Ok(numbers.into_iter().map(|v| v != 0.0).collect());
    }
    npy::refuse_foreign(path)?;
    refuse_text(path, "array of flags, a byte each")?;
    let bytes = bytes_of(path)?;
    Ok(bytes.into_iter().map(|b| b != 0).collect())
}

/// Text is not taken for numbers in memory.
fn refuse_text(path: &Path, expected: &str) -> Result<(), DatasetError> {
    match sheet::is_text(path)? {
        false => Ok(()),
        true => Err(DatasetError::file(
            path,
            format!("is text, not a headerless {expected}: give it the extension .csv and a header"),
        )),
    }
}

fn csv_column(path: &Path, names: &[&str]) -> Result<Vec<f64>, DatasetError> {
    let sheet = Sheet::read(path)?;
    let only = (sheet.header.len() == 1).then_some(0);
    let column = sheet.column(names).or(only).ok_or_else(|| {
        let header = sheet.header.join(", ");
        DatasetError::file(path, format!("none of its columns ({header}) is called {}", names.join(" or ")))
    })?;
    sheet.rows.iter().enumerate().map(|(row, fields)| number(path, row + 2, &fields[column])).collect()
}

pub(super) fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
}
