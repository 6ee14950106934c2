//! The table as text: one line for each decode, empty where there is no value. A float has enough digits to read back the same value.

use std::io::Write;
use std::path::Path;

use super::Table;
use super::columns::{COLUMNS, Cell, Numbers};
use crate::publish::SinkError;
use crate::session::messages::DecodeRecord;
use crate::sys::csv::csv_field;
use crate::sys::partial_file::PartialFile;

pub(super) struct Csv {
    file: PartialFile,
    numbers: Numbers,
    line: Vec<u8>,
}

impl Csv {
    /// Starts the file with its header.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub(super) fn create(path: &Path, numbers: Numbers) -> Result<Self, SinkError> {
        let mut file = PartialFile::create(path)?;
        let names = COLUMNS.iter().map(|column| column.name.to_owned());
        let names = names.chain(numbers.names().map(|name| csv_field(&name).into_owned()));
        file.append((names.collect::<Vec<_>>().join(",") + "\n").as_bytes())?;
        Ok(Self { file, numbers, line: Vec::new() })
    }
}

impl Table for Csv {
    fn row(&mut self, decode: &DecodeRecord) -> Result<(), SinkError> {
        let fail = |cause| SinkError { sink: self.file.path().display().to_string(), cause };
        let values = self.numbers.values(decode).map_err(fail)?;
        self.line.clear();
        for column in &COLUMNS {
            // Writing to memory cannot fail, here and below.
            let _ = match (column.of)(decode) {
                Some(Cell::Text(text)) => write!(self.line, "{},", csv_field(text)),
                Some(cell) => write!(self.line, "{cell},"),
                None => write!(self.line, ","),
            };
        }
        for value in values {
            let _ = write!(self.line, "{value},");
        }
        // The comma after the last value.
        self.line.pop();
        self.line.push(b'\n');
        Ok(self.file.append(&self.line)?)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(self.file.rename()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::{decode, numbers};
    use super::*;

    #[test]
    fn a_row_is_what_was_recorded_with_every_digit_and_nothing_where_nothing_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.csv");
        let mut csv = Csv::create(&path, numbers()).unwrap();
        [0, 1].iter().for_each(|seq| csv.row(&decode(*seq)).unwrap());
        csv.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "seq,frame,frame_gap,skipped,series,t_device_ns,t_recv_ns,t_pub_ns,quality,reason,action,confidence,novelty,\
                 shift_dy_px,shift_dx_px,shift_peak,queue_us,preprocess_us,encode_us,total_us,age_us,caught_up,decisions,\
                 output_speed,output_turning,e0,e1",
                "0,7,2,,s1,-5,18446744073709551615,9,degraded,,\"walk, \"\"fast\"\"\",0.1,0.75,0.25,-1.5,0.5,0.1,2,3,5.1,6.5,3,walk:output;rest:sham,1.25,-2,0,0.1",
                "1,8,,,,,,9,degraded,,,,,,,,,,,,,,,1.25,-1,1,0.1",
            ]
        );
        assert!(
            Csv::create(&folder.path().join("x.csv"), Numbers { dimensions: 3, ..numbers() })
                .unwrap()
                .row(&decode(0))
                .is_err()
        );
    }
}
