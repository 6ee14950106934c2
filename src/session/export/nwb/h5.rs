//! NWB's building blocks in HDF5: typed groups, texts, series, tables.
//!
//! Why it exists: every object of an NWB file has a type, a namespace and an identity, and every series a unit and times; they are
//! written in one place.

use crate::sys::files::hex;
use rust_hdf5::{DatatypeMessage, H5Dataset, H5File, H5Group, H5Type, Result, VarLenUnicode};
use sha2::{Digest, Sha256};

/// Size of chunks: some seconds of data, cheap to read one at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Noise hardly compresses better with more work.
pub(super) const DEFLATE_LEVEL: u32 = 2;
/// UTF-8, in [`DatatypeMessage::FixedString`].
const UTF8: u8 = 1;
/// Filled up with zeros, likewise.
const ZERO_PADDED: u8 = 1;

/// The file being written.
pub(super) struct Nwb {
    pub file: H5File,
    /// Base of its objects' identities: exporting a session again gives the same ones.
    pub identifier: String,
}

impl Nwb {
    /// A group without a type.
    pub fn group(&self, parent: &H5Group, name: &str) -> Result<H5Group> {
        parent.create_group(name)
    }

    /// A group that is an object of NWB.
    pub fn object(&self, parent: &H5Group, name: &str, kind: Kind) -> Result<H5Group> {
        let group = parent.create_group(name)?;
        self.mark(&group, kind)?;
        Ok(group)
    }

    /// Turns a group into an object.
    pub fn mark(&self, group: &H5Group, (namespace, kind): Kind) -> Result<()> {
        group.set_attr_string("namespace", namespace)?;
        group.set_attr_string("neurodata_type", kind)?;
        group.set_attr_string("object_id", &object_id(&self.identifier, group.name()))
    }

    fn mark_data(&self, data: &H5Dataset, path: &str, (namespace, kind): Kind) -> Result<()> {
        attribute(data, "namespace", namespace)?;
        attribute(data, "neurodata_type", kind)?;
        attribute(data, "object_id", &object_id(&self.identifier, path))
    }

    /// Writes a series of numbers, one row for each time, with all attributes that NWB requires; returns the path of its times.
    pub fn series<T: H5Type>(
        &self,
        parent: &H5Group,
        about: &Series<'_>,
        row: Option<usize>,
        values: &[T],
        times: &Times<'_>,
    ) -> Result<String> {
        let group = self.object(parent, about.name, CORE_TIME_SERIES)?;
        group.set_attr_string("description", about.description)?;
        let shape: Vec<usize> = std::iter::once(values.len() / row.unwrap_or(1).max(1)).chain(row).collect();
        let data = array(&group, "data", &shape, values)?;
        unit(&data, about.unit, about.conversion)?;
        times_of(&group, times)
    }

    /// Writes a table: columns of one length, each with a description. A column of nothing but NaN is left out.
    pub fn table(
        &self,
        parent: &H5Group,
        name: &str,
        kind: Kind,
        description: &str,
        columns: &[(&str, &str, Column)],
    ) -> Result<()> {
        let group = self.object(parent, name, kind)?;
        group.set_attr_string("description", description)?;
        let columns: Vec<&(&str, &str, Column)> = columns.iter().filter(|column| !column.2.is_unknown()).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.0).collect();
        group.set_attr_string_array("colnames", &names)?;
        let rows = columns.first().map_or(0, |column| column.2.rows());
        let path = |name: &str| format!("{}/{name}", group.name());
        let ids: Vec<i32> = (0..rows as i32).collect();
        self.mark_data(&array(&group, "id", &[rows], &ids)?, &path("id"), IDENTIFIERS)?;
        for (name, description, column) in columns {
            let data = match column {
                Column::Number(values) => array(&group, name, &[rows], values)?,
                Column::Count(values) => array(&group, name, &[rows], values)?,
                Column::Text(values) => texts(&group, name, values)?,
            };
            self.mark_data(&data, &path(name), VECTOR)?;
            attribute(&data, "description", description)?;
        }
        Ok(())
    }
}

/// Namespace and type.
pub(super) type Kind = (&'static str, &'static str);
const CORE_TIME_SERIES: Kind = ("core", "TimeSeries");
const IDENTIFIERS: Kind = ("hdmf-common", "ElementIdentifiers");
const VECTOR: Kind = ("hdmf-common", "VectorData");
/// A general table.
pub(super) const TABLE: Kind = ("hdmf-common", "DynamicTable");
/// A table of intervals.
pub(super) const INTERVALS: Kind = ("core", "TimeIntervals");

/// Description of a series.
pub(super) struct Series<'a> {
    pub name: &'a str,
    pub description: &'a str,
    /// Of the values times `conversion`.
    pub unit: &'a str,
    pub conversion: f32,
}

/// Times of the rows of a series.
pub(super) enum Times<'a> {
    /// Seconds, stored with the series.
    Own(&'a [f64]),
    /// The times stored at this path.
    At(&'a str),
}

/// A column of a table.
pub(super) enum Column {
    Number(Vec<f64>),
    Count(Vec<i64>),
    Text(Vec<String>),
}

impl Column {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Number(values) if !values.is_empty() && values.iter().all(|value| value.is_nan()))
    }

    fn rows(&self) -> usize {
        match self {
            Self::Number(values) => values.len(),
            Self::Count(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }
}

/// Writes the times of a series, or a link to them; returns their path.
pub(super) fn times_of(group: &H5Group, times: &Times<'_>) -> Result<String> {
    match times {
        Times::Own(seconds) => {
            let data = array(group, "timestamps", &[seconds.len()], seconds)?;
            data.new_attr::<i32>().shape(()).create("interval")?.write_numeric(&1)?;
            attribute(&data, "unit", "seconds")?;
            Ok(format!("{}/timestamps", group.name()))
        }
        Times::At(path) => {
            group.create_soft_link("timestamps", path)?;
            Ok((*path).to_owned())
        }
    }
}

/// Writes the unit of a series.
pub(super) fn unit(data: &H5Dataset, unit: &str, conversion: f32) -> Result<()> {
    attribute(data, "unit", unit)?;
    for (name, value) in [("conversion", conversion), ("offset", 0.0), ("resolution", -1.0)] {
        data.new_attr::<f32>().shape(()).create(name)?.write_numeric(&value)?;
    }
    Ok(())
}

/// A text as an attribute of a data set.
pub(super) fn attribute(data: &H5Dataset, name: &str, text: &str) -> Result<()> {
    data.new_attr::<VarLenUnicode>().shape(()).create(name)?.write_string(text)
}

/// One text, of fixed length because this HDF5 library writes texts of variable length only as lists.
pub(super) fn text(group: &H5Group, name: &str, text: &str) -> Result<()> {
    let bytes = if text.is_empty() { b"\0" } else { text.as_bytes() };
    let kind = DatatypeMessage::FixedString { size: bytes.len() as u32, padding: ZERO_PADDED, charset: UTF8 };
    group.new_dataset::<u8>().datatype(kind).scalar().create(name)?.write_raw_bytes(bytes)
}

/// A list of texts.
pub(super) fn texts(group: &H5Group, name: &str, texts: &[String]) -> Result<H5Dataset> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    group.write_vlen_strings(name, &texts)
}

/// One number.
pub(super) fn number<T: H5Type>(group: &H5Group, name: &str, value: T) -> Result<()> {
    group.new_dataset::<T>().scalar().create(name)?.write_raw(&[value])
}

/// Numbers in rows, compressed in chunks of whole rows.
pub(super) fn array<T: H5Type>(group: &H5Group, name: &str, shape: &[usize], values: &[T]) -> Result<H5Dataset> {
    let row_bytes = shape[1..].iter().product::<usize>().max(1) * T::element_size();
    let mut chunk = shape.to_vec();
    chunk[0] = (CHUNK_BYTES / row_bytes).clamp(1, shape[0].max(1));
    let data = group.new_dataset::<T>().shape(shape).chunk(&chunk).shuffle_deflate(DEFLATE_LEVEL).create(name)?;
    data.write_raw(values)?;
    Ok(data)
}

/// An identity in the form of a UUID (version 8: custom), derived from the object's path.
fn object_id(identifier: &str, path: &str) -> String {
    let mut id: [u8; 32] = Sha256::digest(format!("{identifier}\n{path}")).into();
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    [&id[..4], &id[4..6], &id[6..8], &id[8..10], &id[10..16]].map(hex).join("-")
}
