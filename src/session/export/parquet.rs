//! The typed table: Parquet, one row for each decode, null where there is no value.
//!
//! Why it exists: pandas, R, DuckDB and Spark read it directly, and every float keeps its exact value. What it must never do: hold
//! more rows than one group in memory, or guess a type: each column declares its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::Table;
use super::columns::{COLUMNS, Cell, Column, Kind, Numbers};
use crate::publish::SinkError;
use crate::session::messages::DecodeRecord;
use crate::sys::partial_file::PartialFile;

/// Rows held in memory and written together: about 18 minutes at 30 Hz, 20 MB at 128 dimensions.
const ROWS_PER_GROUP: usize = 32_768;

/// A file of decodes of so many dimensions; `about` is the session's metadata.
///
/// # Errors
/// A file that cannot be made.
pub(super) fn table(path: &Path, numbers: Numbers, about: &BTreeMap<String, String>) -> anyhow::Result<Box<dyn Table>> {
    Ok(Box::new(Parquet::create(path, numbers, about, ROWS_PER_GROUP)?))
}

struct Parquet {
    path: String,
    /// `None` after the end.
    writer: Option<SerializedFileWriter<PartialFile>>,
    columns: Vec<Buffer>,
    /// Behind them, one for each of these.
    numbers: Numbers,
    values: Vec<Vec<f32>>,
    rows: usize,
    rows_per_group: usize,
}

/// A column of the group being filled.
struct Buffer {
    values: Values,
    /// 1 where there is a value, 0 where there is not.
    levels: Vec<i16>,
    always: bool,
}

enum Values {
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Texts(Vec<ByteArray>),
}

impl Parquet {
    /// Starts the file; `about`, the session's metadata, becomes the file's metadata.
    ///
    /// # Errors
    /// A file that cannot be created.
    fn create(
        path: &Path,
        numbers: Numbers,
        about: &BTreeMap<String, String>,
        rows_per_group: usize,
    ) -> Result<Self, SinkError> {
        let shown = path.display().to_string();
        let fail = |cause| failed(&shown, &cause);
        let part = PartialFile::create(path)?;
        let schema = schema(&numbers).map_err(fail)?;
        let writer = SerializedFileWriter::new(part, schema, Arc::new(properties(about))).map_err(fail)?;
        Ok(Self {
            path: shown,
            writer: Some(writer),
            columns: COLUMNS.iter().map(Buffer::new).collect(),
            values: vec![Vec::new(); numbers.names().count()],
            numbers,
            rows: 0,
            rows_per_group,
        })
    }

    /// Writes the current group and empties it.
    fn write_group(&mut self) -> Result<(), ParquetError> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else { return Ok(()) };
        let mut group = writer.next_row_group()?;
        for buffer in &mut self.columns {
            let Some(mut column) = group.next_column()? else { break };
            buffer.write(&mut column)?;
            column.close()?;
        }
        for values in &mut self.values {
            let Some(mut column) = group.next_column()? else { break };
            column.typed::<FloatType>().write_batch(values, None, None)?;
            column.close()?;
            values.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Table for Parquet {
    fn row(&mut self, decode: &DecodeRecord) -> Result<(), SinkError> {
        let fail = |cause| SinkError { sink: self.path.clone(), cause };
        let values = self.numbers.values(decode).map_err(fail)?;
        self.values.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        self.columns.iter_mut().zip(&COLUMNS).for_each(|(buffer, column)| buffer.push((column.of)(decode)));
        self.rows += 1;
        if self.rows < self.rows_per_group {
            return Ok(());
        }
        self.write_group().map_err(|cause| failed(&self.path, &cause))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.write_group().map_err(|cause| failed(&self.path, &cause))?;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        Ok(writer.into_inner().map_err(|cause| failed(&self.path, &cause))?.rename()?)
    }
}

impl Buffer {
    fn new(column: &Column) -> Self {
        let values = match column.kind {
            Kind::Unsigned | Kind::Signed => Values::Integers(Vec::new()),
            Kind::Float => Values::Floats(Vec::new()),
            Kind::Double => Values::Doubles(Vec::new()),
            Kind::Text => Values::Texts(Vec::new()),
        };
        Self { values, levels: Vec::new(), always: column.always }
    }

    fn push(&mut self, cell: Option<Cell<'_>>) {
        let taken = match (&mut self.values, cell) {
            // Parquet stores 64 bits and marks them as unsigned.
            (Values::Integers(values), Some(Cell::Unsigned(value))) => {
                values.push(value as i64);
                true
            }
            (Values::Integers(values), Some(Cell::Signed(value))) => {
                values.push(value);
                true
            }
            (Values::Floats(values), Some(Cell::Float(value))) => {
                values.push(value);
                true
            }
            (Values::Doubles(values), Some(Cell::Double(value))) => {
                values.push(value);
                true
            }
            (Values::Texts(values), Some(Cell::Text(text))) => {
                values.push(text.into());
                true
            }
            // A test of the columns rules out a cell of another kind than its column.
            _ => false,
        };
        self.levels.push(i16::from(taken));
    }

    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = (!self.always).then_some(&self.levels[..]);
        match (&mut self.values, column.untyped()) {
            (Values::Integers(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Floats(values), ColumnWriter::FloatColumnWriter(writer)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Doubles(values), ColumnWriter::DoubleColumnWriter(writer)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            (Values::Texts(values), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                writer.write_batch(values, levels, None)?;
                values.clear();
            }
            _ => return Err(ParquetError::General("a column does not have the type in the schema".to_owned())),
        }
        self.levels.clear();
        Ok(())
    }
}

fn schema(numbers: &Numbers) -> Result<TypePtr, ParquetError> {
    let column = |column: &Column| -> Result<TypePtr, ParquetError> {
        let (physical, logical) = match column.kind {
            Kind::Unsigned => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Kind::Signed => (Physical::INT64, Some(LogicalType::integer(64, true))),
            Kind::Float => (Physical::FLOAT, None),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let repetition = if column.always { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let builder = Type::primitive_type_builder(column.name, physical).with_repetition(repetition);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    let number = |name: String| -> Result<TypePtr, ParquetError> {
        let builder = Type::primitive_type_builder(&name, Physical::FLOAT).with_repetition(Repetition::REQUIRED);
        builder.build().map(Arc::new)
    };
    let fields: Result<Vec<_>, _> = COLUMNS.iter().map(column).chain(numbers.names().map(number)).collect();
    Type::group_type_builder("decodes").with_fields(fields?).build().map(Arc::new)
}

/// The session's metadata, with the model and its hash, and the version that wrote this file.
fn properties(about: &BTreeMap<String, String>) -> WriterProperties {
    let version = format!("haltere {}", env!("CARGO_PKG_VERSION"));
    let about = about.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let exported = KeyValue::new("exported_by".to_owned(), version.clone());
    // Measured values hardly ever repeat; texts do.
    let texts = COLUMNS.iter().filter(|column| column.kind == Kind::Text);
    let begun = WriterProperties::builder()
        .set_created_by(version)
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(about.chain([exported]).collect()));
    texts.fold(begun, |begun, text| begun.set_column_dictionary_enabled(ColumnPath::from(text.name), true)).build()
}

fn failed(path: &str, cause: &ParquetError) -> SinkError {
    let cause = format!("cannot be written: {cause}; check that the folder is writable and has free space");
    SinkError { sink: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::super::columns::tests::{decode, numbers};
    use super::*;

    #[test]
    fn groups_of_rows_are_written_one_after_the_other_and_read_back_with_their_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.parquet");
        let about = BTreeMap::from([("model_sha256".to_owned(), "ab".to_owned())]);
        let mut table = Parquet::create(&path, numbers(), &about, 4).unwrap();
        (0..10).for_each(|seq| table.row(&decode(seq)).unwrap());
        assert!(!path.exists(), "half a file has not yet the name of a whole one");
        assert!(table.values[0].len() < 4 && table.columns[0].levels.len() < 4, "one group is held at most");
        table.finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [4, 4, 2]);
        let said = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(said.iter().any(|pair| pair.key == "model_sha256" && pair.value.as_deref() == Some("ab")));
        for (seq, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row: BTreeMap<String, Field> = row.unwrap().into_columns().into_iter().collect();
            let full = seq % 2 == 0;
            assert_eq!((&row["seq"], &row["e0"]), (&Field::ULong(seq as u64), &Field::Float(seq as f32)));
            assert_eq!(row["output_turning"], Field::Float(seq as f32 - 2.0));
            assert_eq!(row["t_recv_ns"], if full { Field::ULong(u64::MAX) } else { Field::Null });
            assert_eq!(row["action"], if full { Field::Str("walk, \"fast\"".to_owned()) } else { Field::Null });
            assert_eq!(row["shift_dx_px"], if full { Field::Float(-1.5) } else { Field::Null });
            assert_eq!(row["total_us"], if full { Field::Double(5.1) } else { Field::Null });
            assert_eq!(row["skipped"], Field::Null);
        }
    }
}
