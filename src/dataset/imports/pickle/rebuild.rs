//! Carries out the few calls with which NumPy rebuilds arrays: here they make values.
//!
//! What it must never do: carry out a call whose name [`Known`] does not list.

use std::borrow::Cow;

use super::machine::Machine;
use super::numpy::{Array, DType, Known};
use super::{Id, Node};

/// Maximum number of axes; NumPy's own bound.
const AXES_MAX: usize = 64;
/// Maximum number of values in the state of an array or a type, and of arguments in a call.
const FEW: usize = 16;
/// Maximum length of the name of a type, an order or an encoding, bytes.
const WORD_BYTES_MAX: usize = 64;

impl<'f> Machine<'f> {
    /// What a call of a known name makes.
    pub(super) fn rebuilt(&mut self, function: Id, arguments: Id) -> Result<Node<'f>, String> {
        let Node::Global(known) = self.nodes[function] else {
            return Err("calls something that is not a name: the file is damaged".into());
        };
        let arguments = self.few(arguments)?;
        let damaged = || format!("calls {known:?} with {} arguments that it does not take: damaged", arguments.len());
        match (known, arguments.as_slice()) {
            (Known::Reconstruct, [class, ..]) if matches!(self.nodes[*class], Node::Global(Known::NdArray)) => {
                let dtype = DType { kind: 'V', bytes: 0, big_endian: false };
                Ok(Node::Array(Array { dtype, shape: vec![0], fortran: false, data: None }))
            }
            (Known::Scalar, [dtype, data]) => self.array(*dtype, Vec::new(), false, *data).map(Node::Array),
            (Known::DType, [name, ..]) => self.dtype(*name).map(Node::DType),
            (Known::FromBuffer, [data, dtype, shape, order]) => {
                let fortran = self.word(*order)? == "F";
                let shape = self.shape(*shape)?;
                self.array(*dtype, shape, fortran, *data).map(Node::Array)
            }
            (Known::Encode, [text, ..]) => self.encoded(*text, arguments.get(1).copied()).map(Node::Bytes),
            (Known::Bytes, []) => Ok(Node::Bytes(Cow::Borrowed(&[]))),
            (Known::OrderedDict, []) => Ok(Node::Dict(Vec::new())),
            _ => Err(damaged()),
        }
    }

    /// The state of an array or of a type.
    pub(super) fn set_state(&mut self, object: Id, state: Id) -> Result<(), String> {
        let damaged = || "sets the state of something that has none, or not this one: damaged".to_owned();
        let state = self.few(state)?;
        match (&self.nodes[object], state.as_slice()) {
            (Node::Array(_), [.., shape, dtype, fortran, data]) => {
                let fortran = matches!(self.nodes[*fortran], Node::Integer(1));
                let shape = self.shape(*shape)?;
                self.nodes[object] = Node::Array(self.array(*dtype, shape, fortran, *data)?);
                Ok(())
            }
            (Node::DType(dtype), [_, order, subtype, names, ..]) => {
                let order = self.word(*order)?;
                let made_of_parts = [subtype, names].iter().any(|part| !matches!(self.nodes[**part], Node::None));
                let kind = if made_of_parts { 'V' } else { dtype.kind };
                let big_endian = order == ">" || (order == "=" && cfg!(target_endian = "big"));
                self.nodes[object] = Node::DType(DType { kind, big_endian, bytes: dtype.bytes });
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    fn array(&self, dtype: Id, shape: Vec<usize>, fortran: bool, data: Id) -> Result<Array, String> {
        let Node::DType(dtype) = self.nodes[dtype] else {
            return Err("holds an array without a type: damaged".into());
        };
        let array = Array { dtype, shape, fortran, data: None };
        let found = match &self.nodes[data] {
            Node::Bytes(bytes) => bytes.len(),
            // The items of an array of objects are separate values, which are not needed.
            _ if dtype.kind == 'O' => return Ok(array),
            _ => return Err("holds an array without bytes: damaged".into()),
        };
        let needed = array.items().and_then(|items| items.checked_mul(dtype.bytes));
        if needed != Some(found) {
            let shape = &array.shape;
            return Err(format!(
                "holds an array of shape {shape:?}, {} bytes an item, with {found} bytes: damaged",
                dtype.bytes
            ));
        }
        Ok(Array { data: Some(data), ..array })
    }

    /// `f8`, `<f8`, `i4`, `b1`, `O8`, …
    fn dtype(&self, name: Id) -> Result<DType, String> {
        let text = self.word(name)?;
        let plain = text.trim_start_matches(['<', '>', '=', '|']);
        let damaged = || format!("holds the type {text:?}, which is none: damaged");
        let mut characters = plain.chars();
        let kind = characters.next().ok_or_else(damaged)?;
        let digits = characters.as_str();
        // Types of texts and times say more behind the number; they are never read as numbers.
        let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let bytes: usize = if length == 0 { 0 } else { digits[..length].parse().map_err(|_| damaged())? };
        // A character of NumPy's text takes four bytes.
        let bytes = if kind == 'U' { bytes.saturating_mul(4) } else { bytes };
        Ok(DType { kind, bytes, big_endian: text.starts_with('>') })
    }

    fn shape(&self, id: Id) -> Result<Vec<usize>, String> {
        let axis = |id: &Id| match self.nodes[*id] {
            Node::Integer(length) => usize::try_from(length).ok(),
            _ => None,
        };
        // A buffer of one axis may be given its length alone.
        let lengths: Option<Vec<usize>> = match &self.nodes[id] {
            Node::Integer(_) => axis(&id).map(|length| vec![length]),
            Node::List(items) if items.len() <= AXES_MAX => items.iter().map(axis).collect(),
            _ => None,
        };
        lengths.ok_or_else(|| "holds an array without a valid shape: damaged".to_owned())
    }

    fn encoded(&mut self, text: Id, encoding: Option<Id>) -> Result<Cow<'f, [u8]>, String> {
        let encoding = encoding.map_or(Ok("utf-8"), |id| self.word(id))?;
        if !matches!(&*encoding.to_lowercase().replace('_', "-"), "latin1" | "latin-1" | "iso-8859-1") {
            return Err(format!("encodes text as {encoding}; NumPy's arrays are Latin-1"));
        }
        let bytes = self.text(text)?.chars().map(|c| u8::try_from(u32::from(c)));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(|_| "holds bytes that are none: damaged")?;
        self.owned(bytes).map(Cow::Owned)
    }

    /// A tuple of so few values as every known call takes.
    fn few(&self, id: Id) -> Result<Vec<Id>, String> {
        match &self.nodes[id] {
            Node::List(items) if items.len() <= FEW => Ok(items.clone()),
            _ => Err("holds something else where a short tuple stands: damaged".into()),
        }
    }

    fn word(&self, id: Id) -> Result<&str, String> {
        let long = match &self.nodes[id] {
            Node::Bytes(bytes) => bytes.len() > WORD_BYTES_MAX,
            Node::Text(text) => text.len() > WORD_BYTES_MAX,
            _ => false,
        };
        if long { Err("holds a long text where a word stands: damaged".into()) } else { self.text(id) }
    }

    fn text(&self, id: Id) -> Result<&str, String> {
        let text = match &self.nodes[id] {
            Node::Text(text) => Some(&**text),
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        text.ok_or_else(|| "holds something else where a text stands: damaged".to_owned())
    }
}
