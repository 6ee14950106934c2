//! The few names with which NumPy rebuilds arrays, and what an array is here: a type, a shape, and where its bytes lie.
//!
//! Why it exists: an array in a pickle is a call to a NumPy function; here it is a value. What it must never do: know a name
//! that does more than rebuild one.

use super::Id;

/// A name that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Reconstruct,
    Scalar,
    NdArray,
    DType,
    FromBuffer,
    Encode,
    Bytes,
    OrderedDict,
}

impl Known {
    pub(super) fn of(module: &str, name: &str) -> Result<Self, String> {
        Ok(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::DType,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("_codecs", "encode") => Self::Encode,
            ("builtins" | "__builtin__", "bytes") => Self::Bytes,
            ("collections", "OrderedDict") => Self::OrderedDict,
            _ => {
                return Err(format!(
                    "is a pickle that names {module}.{name}; only NumPy arrays and plain data are read, and nothing of it was \
                     run. If you trust the file, convert it once: np.save the array that you need"
                ));
            }
        })
    }
}

/// What the items of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DType {
    /// NumPy's letter; `V` for everything made of parts, `O` for Python objects.
    pub(super) kind: char,
    pub(super) bytes: usize,
    pub(super) big_endian: bool,
}

/// An array; another value holds its bytes.
#[derive(Clone, Debug)]
pub(in crate::dataset) struct Array {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) fortran: bool,
    pub(super) data: Option<Id>,
}

impl Array {
    /// Lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The value that holds the bytes; `None` for Python objects.
    pub(super) fn data(&self) -> Option<Id> {
        self.data
    }

    pub(super) fn items(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n))
    }

    /// Every item as a number, in C order.
    pub(super) fn numbers(&self, bytes: &[u8]) -> Result<Vec<f64>, String> {
        let DType { kind, bytes: width, .. } = self.dtype;
        if !matches!((kind, width), ('f', 4 | 8) | ('i' | 'u', 1 | 2 | 4 | 8) | ('b', 1)) {
            return Err(format!(
                "is an array of items of type {kind}{width}; readable are f4, f8, whole numbers and bool"
            ));
        }
        let value = |at: usize| self.value(&bytes[at * width..(at + 1) * width]);
        let items = bytes.len() / width;
        if !self.fortran {
            return Ok((0..items).map(value).collect());
        }
        let mut numbers = Vec::with_capacity(items);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..items {
            let place = index.iter().zip(&self.shape).rev().fold(0, |place, (i, n)| place * n + i);
            numbers.push(value(place));
            for (i, n) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        Ok(numbers)
    }

    fn value(&self, item: &[u8]) -> f64 {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let raw = if self.dtype.big_endian { item.iter().fold(0, fold) } else { item.iter().rev().fold(0, fold) };
        let unused = 64 - 8 * item.len() as u32;
        match (self.dtype.kind, item.len()) {
            ('f', 4) => f64::from(f32::from_bits(raw as u32)),
            ('f', _) => f64::from_bits(raw),
            ('i', _) => ((raw << unused) as i64 >> unused) as f64,
            _ => raw as f64,
        }
    }
}
