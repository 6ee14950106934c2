//! Reads a Python pickle of plain data and NumPy arrays, protocols 0 to 5, without running it.
//!
//! Why it exists: DeepFly3D stores poses as pickles, and a pickle is a program: Python's own reader calls whatever it names. What
//! it must never do: call anything. This small interpreter knows the opcodes for plain data and the few names with which NumPy
//! rebuilds arrays, scalars and types; any other name is refused *as a name*, before there is anything to call.
//!
//! Names known: `numpy.core.multiarray` and `numpy._core.multiarray` `_reconstruct` and `scalar`; `numpy` `ndarray` and `dtype`;
//! `numpy.core.numeric` and `numpy._core.numeric` `_frombuffer`; `_codecs.encode` to Latin-1 (how protocols 0 to 2 spell bytes)
//! and `bytes` of nothing (how they spell no bytes); `collections.OrderedDict`.
//!
//! **Bounds.** The file is at most `FILE_BYTES_MAX`; at most `STEPS_MAX` opcodes are carried out, each of which makes at most
//! one value; decoded bytes may be four times the file's length in total. Nothing recurses.

mod input;
mod machine;
mod numpy;
mod rebuild;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;

use self::machine::Machine;
pub(super) use self::numpy::Array;
use self::numpy::{DType, Known};
use crate::dataset::error::DatasetError;
use crate::sys::files::{Bound, read_bounded};

/// Largest pickle that is read, bytes.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Opcodes of one pickle; one of arrays has some hundreds.
const STEPS_MAX: usize = 1 << 22;

/// Index of a value: values refer to each other by it, so that one may be filled after another took it.
type Id = usize;

/// One value. Tuples, lists and sets are all lists here; text of Python 2 is bytes.
#[derive(Debug)]
enum Node<'f> {
    None,
    Integer(i64),
    Float,
    Text(Cow<'f, str>),
    Bytes(Cow<'f, [u8]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Known),
    DType(DType),
    Array(Array),
}

/// The contents of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'f> {
    nodes: Vec<Node<'f>>,
    root: Id,
}

/// The bytes of a pickle's file.
///
/// # Errors
/// A file that cannot be read, or is too large.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, DatasetError> {
    read_bounded(path, Bound::new("a pickle", FILE_BYTES_MAX)).map_err(|error| match error.cause {
        cause if cause.kind() == std::io::ErrorKind::FileTooLarge => {
            DatasetError::file(path, format!("{cause}: save the array alone with np.save"))
        }
        cause => DatasetError::file(path, cause),
    })
}

impl<'f> Pickle<'f> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// In words: what is truncated, damaged, or would have to be run.
    pub fn read(bytes: &'f [u8]) -> Result<Self, String> {
        Machine::new(bytes).run()
    }

    /// The array, if the pickle is one.
    pub fn array(&self) -> Option<&Array> {
        self.array_at(self.root)
    }

    /// The array under a key, if the pickle is a dictionary.
    pub fn array_of(&self, key: &str) -> Option<&Array> {
        let (_, value) = self.entries()?.iter().find(|(own, _)| self.key(*own) == key)?;
        self.array_at(*value)
    }

    /// The keys whose values are arrays, with their shapes, for messages; `None` if the pickle is not a dictionary.
    pub fn arrays(&self) -> Option<Vec<(String, Vec<usize>)>> {
        let shape = |(key, value): &(Id, Id)| Some((self.key(*key), self.array_at(*value)?.shape().to_vec()));
        Some(self.entries()?.iter().filter_map(shape).collect())
    }

    /// The numbers of one of its arrays, in C order.
    ///
    /// # Errors
    /// What its items are instead.
    pub fn numbers(&self, array: &Array) -> Result<Vec<f64>, String> {
        match array.data().map(|data| &self.nodes[data]) {
            Some(Node::Bytes(bytes)) => array.numbers(bytes),
            _ => Err("is an array of Python objects".into()),
        }
    }

    fn entries(&self) -> Option<&[(Id, Id)]> {
        match &self.nodes[self.root] {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    fn array_at(&self, id: Id) -> Option<&Array> {
        match &self.nodes[id] {
            Node::Array(array) => Some(array),
            _ => None,
        }
    }

    fn key(&self, id: Id) -> String {
        match &self.nodes[id] {
            Node::Text(text) => text.to_string(),
            Node::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Node::Integer(number) => number.to_string(),
            _ => String::new(),
        }
    }
}
