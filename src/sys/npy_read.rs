//! The head and the items of NumPy's `.npy`, as they are read.
//!
//! Why it exists: files of the field come as float32 or float64, as any integer, as bool, as text, and one does not know
//! before looking. What it must never do: run a pickle; an array of Python objects is refused.

const MAGIC: &[u8] = b"\x93NUMPY";

/// What the items of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `f4`, `f8`.
    Float,
    /// `i1` to `i8`.
    Signed,
    /// `u1` to `u8`.
    Unsigned,
    /// `b1`.
    Bool,
    /// `U`: four bytes a character.
    Text,
}

/// The head of an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// What the items are.
    pub kind: Kind,
    /// Bytes of one item.
    pub item_bytes: usize,
    big_endian: bool,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Bytes before the first item.
    pub data_at: usize,
}

impl Header {
    /// Of bytes that begin with it; `None` when they are no `.npy`.
    ///
    /// # Errors
    /// What is wrong with the head.
    pub fn of(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes.starts_with(MAGIC) { parse(bytes).map(Some) } else { Ok(None) }
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.shape.iter().product()
    }

    /// True for little-endian float32, which can be read as it lies.
    pub fn is_plain_f32(&self) -> bool {
        self.kind == Kind::Float && self.item_bytes == 4 && !self.big_endian
    }
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    let cut = || "the .npy header is cut off".to_string();
    let major = *bytes.get(6).ok_or_else(cut)?;
    let (from, length): (usize, usize) = if major == 1 {
        let field = bytes.get(8..10).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
        (10, u16::from_le_bytes(field) as usize)
    } else {
        let field = bytes.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
        (12, u32::from_le_bytes(field) as usize)
    };
    let text = bytes.get(from..from.saturating_add(length)).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| "the .npy header is not text".to_string())?;
    let (kind, item_bytes, big_endian) = parse_type(quoted(text, "descr").ok_or_else(|| refused(text))?)?;
    let fortran = after(text, "fortran_order").is_some_and(|rest| rest.starts_with("True"));
    let shape = after(text, "shape").and_then(parse_shape).ok_or_else(|| format!("no shape in the header {text:?}"))?;
    shape.iter().try_fold(item_bytes, |product, &n| product.checked_mul(n)).ok_or("the shape is impossibly large")?;
    if fortran && shape.iter().filter(|&&n| n > 1).count() > 1 {
        return Err("is column-major (fortran_order); save it with np.save(name, np.ascontiguousarray(array))".into());
    }
    Ok(Header { kind, item_bytes, big_endian, shape, data_at: from + length })
}

/// What follows `'key':` in the header.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

fn quoted<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    after(text, key)?.strip_prefix('\'')?.split('\'').next()
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.split(')').next()?;
    inside.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| t.parse().ok()).collect()
}

fn refused(what: &str) -> String {
    format!("holds items of type {what}; readable are numbers, bool and text (an array of Python objects is a pickle)")
}

fn parse_type(text: &str) -> Result<(Kind, usize, bool), String> {
    let refuse = || refused(text);
    let (order, rest) = text.split_at_checked(1).ok_or_else(refuse)?;
    let (letter, digits) = rest.split_at_checked(1).ok_or_else(refuse)?;
    let size: usize = digits.parse().map_err(|_| refuse())?;
    let kind = match letter {
        "f" if [4, 8].contains(&size) => Kind::Float,
        "i" if [1, 2, 4, 8].contains(&size) => Kind::Signed,
        "u" if [1, 2, 4, 8].contains(&size) => Kind::Unsigned,
        "b" if size == 1 => Kind::Bool,
        "U" if (1..=1024).contains(&size) => return Ok((Kind::Text, 4 * size, order == ">")),
        _ => return Err(refuse()),
    };
    Ok((kind, size, order == ">"))
}

/// An array in memory.
pub struct Array {
    /// Its head.
    pub header: Header,
    bytes: Vec<u8>,
}

impl Array {
    /// Of all bytes of a file; `None` when they are no `.npy`.
    ///
    /// # Errors
    /// What is wrong with the head, or that items are missing.
    pub fn of(mut bytes: Vec<u8>) -> Result<Option<Self>, String> {
        let Some(header) = Header::of(&bytes)? else { return Ok(None) };
        bytes.drain(..header.data_at);
        let needed = header.items() * header.item_bytes;
        if bytes.len() < needed {
            return Err(format!("its header promises {needed} bytes, {} are there: it was cut off", bytes.len()));
        }
        bytes.truncate(needed);
        Ok(Some(Self { header, bytes }))
    }

    /// Every item as a number; bool is 0 and 1, text is `None`.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let header = &self.header;
        let number = move |item: &[u8]| match (header.kind, header.item_bytes) {
            (Kind::Text, _) => None,
            (Kind::Float, 4) => Some(f64::from(f32::from_bits(self.unsigned(item) as u32))),
            (Kind::Float, _) => Some(f64::from_bits(self.unsigned(item))),
            (Kind::Signed, _) => Some(self.signed(item) as f64),
            (Kind::Unsigned | Kind::Bool, _) => Some(self.unsigned(item) as f64),
        };
        self.bytes.chunks_exact(header.item_bytes).map(number).collect()
    }

    /// Every item as a whole number; `None` for floating point and text.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let integer = |item: &[u8]| match self.header.kind {
            Kind::Signed => Some(self.signed(item)),
            Kind::Unsigned | Kind::Bool => i64::try_from(self.unsigned(item)).ok(),
            Kind::Float | Kind::Text => None,
        };
        self.bytes.chunks_exact(self.header.item_bytes).map(integer).collect()
    }

    /// Every item as text; `None` for numbers.
    pub fn texts(&self) -> Option<Vec<String>> {
        if self.header.kind != Kind::Text {
            return None;
        }
        let text = |item: &[u8]| {
            let characters = item.chunks_exact(4).map(|c| self.unsigned(c) as u32).take_while(|&c| c != 0);
            characters.map(|c| char::from_u32(c).unwrap_or('\u{fffd}')).collect()
        };
        Some(self.bytes.chunks_exact(self.header.item_bytes).map(text).collect())
    }

    fn unsigned(&self, item: &[u8]) -> u64 {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.header.big_endian { item.iter().fold(0, fold) } else { item.iter().rev().fold(0, fold) }
    }

    fn signed(&self, item: &[u8]) -> i64 {
        let unused = 64 - 8 * item.len() as u32;
        (self.unsigned(item) << unused) as i64 >> unused
    }
}
