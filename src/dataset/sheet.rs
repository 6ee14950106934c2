//! CSV files as they are: separated by commas, semicolons or tabs, with decimal points or commas, with or without a header.
//!
//! Why it exists: Excel, EthoVision and BORIS write `;` and decimal commas where the system's language does, and a reader that takes
//! `0,5;1,0` for one field reads nonsense. What it must never do: take data for names, or a thousands separator for a decimal comma.

use std::path::Path;

use super::error::DatasetError;
use super::whole::bytes_of;
use crate::sys::files::open_regular;

/// Fields of one line, with its number.
pub(super) type Line = (usize, Vec<String>);

/// Bytes looked at to tell text from numbers in memory.
const SAMPLE_BYTES: usize = 4096;

/// Is it text? A memory map of numbers practically never is.
pub(super) fn is_text(path: &Path) -> Result<bool, DatasetError> {
    use std::io::Read;
    let mut sample = Vec::new();
    let file = open_regular(path).map_err(|e| DatasetError::file(path, e))?;
    file.take(SAMPLE_BYTES as u64).read_to_end(&mut sample).map_err(|e| DatasetError::file(path, e))?;
    if sample.starts_with(b"\xff\xfe") || sample.starts_with(b"\xfe\xff") {
        sample = utf8(sample);
        sample.truncate(SAMPLE_BYTES);
    }
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    let has_line = sample.iter().any(|byte| matches!(byte, b'\n' | b','));
    // The sample may end within a letter.
    let is_utf8 = std::str::from_utf8(&sample).map_or_else(|e| e.valid_up_to() + 4 > sample.len(), |_| true);
    Ok(has_line && sample.len() > 8 && sample.iter().all(printable) && is_utf8)
}

/// Every line of a CSV, however many fields it has; decimal commas become points.
pub(super) fn lines(path: &Path) -> Result<Vec<Line>, DatasetError> {
    let failed = |e: csv::Error| DatasetError::file(path, e);
    let bytes = utf8(bytes_of(path)?);
    let separator = separator(&bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(separator)
        .from_reader(bytes.as_slice());
    let mut lines = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        let field = |field: &[u8]| {
            // Excel's own encoding is not UTF-8, and a name in it is no reason to refuse the numbers.
            let text = String::from_utf8_lossy(field);
            let text = text.trim_start_matches('\u{feff}').trim();
            if separator != b',' && is_decimal_comma(text) { text.replace(',', ".") } else { text.to_owned() }
        };
        let fields: Vec<String> = record.iter().map(field).collect();
        // A line of blanks, as some programs leave at the end.
        if fields.len() > 1 || fields.first().is_some_and(|only| !only.is_empty()) {
            lines.push((line, fields));
        }
    }
    Ok(without_preamble(lines))
}

/// EthoVision and other programs of Windows write UTF-16, with a mark of its order.
fn utf8(bytes: Vec<u8>) -> Vec<u8> {
    let unit: fn([u8; 2]) -> u16 = match bytes.as_slice() {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return bytes,
    };
    let units: Vec<u16> = bytes[2..].as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16_lossy(&units).into_bytes()
}

/// EthoVision says in its first line how many lines its head has; the last two of them are names and units.
fn without_preamble(mut lines: Vec<Line>) -> Vec<Line> {
    let Some((_, first)) = lines.first() else { return lines };
    let says = |field: &String| field.to_lowercase().starts_with("number of header lines");
    let Some(head) = first.iter().position(says).and_then(|at| first.get(at + 1)?.parse::<usize>().ok()) else {
        return lines;
    };
    lines.retain(|(line, _)| line + 1 >= head && *line != head);
    // Its lines end with a separator.
    let width = lines.iter().map(|(_, fields)| fields.len()).max().unwrap_or(0);
    if lines.iter().all(|(_, fields)| fields.len() == width && fields.last().is_some_and(String::is_empty)) {
        lines.iter_mut().for_each(|(_, fields)| fields.truncate(width - 1));
    }
    lines
}

/// The separator that the first line with one has most of; a comma when none.
fn separator(bytes: &[u8]) -> u8 {
    for line in bytes.split(|byte| *byte == b'\n') {
        let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
        let [comma, semicolon, tab] = [b',', b';', b'\t'].map(count);
        if comma + semicolon + tab == 0 {
            continue;
        }
        // Where semicolons separate, commas are decimal: there are never more of them than fields.
        return match () {
            () if semicolon > 0 && semicolon + 1 >= comma => b';',
            () if tab > comma => b'\t',
            () => b',',
        };
    }
    b','
}

fn is_decimal_comma(text: &str) -> bool {
    let Some((whole, fraction)) = text.trim_start_matches(['-', '+']).split_once(',') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (fraction, exponent) = fraction.split_once(['e', 'E']).unwrap_or((fraction, "0"));
    digits(whole) && digits(fraction) && digits(exponent.trim_start_matches(['-', '+']))
}

/// A CSV with a header, as text.
pub struct Sheet {
    /// Names of the columns, in lower case.
    pub header: Vec<String>,
    /// Fields, row by row; the first row is line 2.
    pub rows: Vec<Vec<String>>,
}

impl Sheet {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        Self::of(path, lines(path)?)
    }

    /// The lines of a file as a sheet.
    ///
    /// # Errors
    /// No header, or a line of another length.
    pub fn of(path: &Path, lines: Vec<Line>) -> Result<Self, DatasetError> {
        let mut lines = lines.into_iter();
        let header: Vec<String> =
            lines.next().map(|(_, names)| names.iter().map(|name| name.to_lowercase()).collect()).unwrap_or_default();
        let filled = || header.iter().filter(|name| !name.is_empty());
        if filled().count() > 0 && filled().all(|name| name.parse::<f64>().is_ok()) {
            let cause = format!(
                "its first line ({}) holds numbers, not names: a CSV needs a header; put the names of its {} columns into a first line",
                header.join(", "),
                header.len()
            );
            return Err(DatasetError::file(path, cause));
        }
        let mut rows = Vec::new();
        for (line, fields) in lines {
            if fields.len() != header.len() {
                let cause = format!(
                    "line {line} has {} fields, the header {}: is the separator the same?",
                    fields.len(),
                    header.len()
                );
                return Err(DatasetError::file(path, cause));
            }
            rows.push(fields);
        }
        Ok(Self { header, rows })
    }

    /// The first column that has one of these names.
    pub fn column(&self, names: &[impl AsRef<str>]) -> Option<usize> {
        names.iter().find_map(|name| self.header.iter().position(|h| h.eq_ignore_ascii_case(name.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::csv as file;

    #[test]
    fn semicolons_tabs_and_decimal_commas_are_read_as_they_are_meant() {
        let rows = |text: &str| Sheet::read(file(text).path()).map(|sheet| sheet.rows).unwrap();
        assert_eq!(rows("time;x\n0,01;-1,5e-3\n"), [["0.01", "-1.5e-3"]]);
        assert_eq!(rows("time\tx\n0,5\t2\n"), [["0.5", "2"]]);
        assert_eq!(rows("\u{feff}a,b\n1.5,\"x,y\"\n"), [["1.5", "x,y"]]);
    }

    #[test]
    fn a_first_line_of_numbers_and_a_line_of_another_length_are_named() {
        let error = |text: &str| Sheet::read(file(text).path()).err().unwrap().to_string();
        assert!(error("0.1,0.2\n0.3,0.4\n").contains("first line (0.1, 0.2) holds numbers"));
        assert!(error("x,y\n1,2\n3\n").contains("line 3 has 1 fields, the header 2"));
    }

    #[test]
    fn numbers_in_memory_are_no_text() {
        let path = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            is_text(file.path()).unwrap()
        };
        assert!(path(b"1, 2, 3\n4, 5, 6\n"));
        let map: Vec<u8> = (0..100).flat_map(|n| (n as f32 * 0.37).to_le_bytes()).collect();
        assert!(!path(&map));
    }
}
