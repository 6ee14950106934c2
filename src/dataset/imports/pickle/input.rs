//! Reads the bytes of a pickle from front to back, and decodes its text arguments.
//!
//! What it must never do: trust a length before the bytes are there.

/// Where the reader stands.
pub(super) struct Input<'f> {
    bytes: &'f [u8],
    at: usize,
}

impl<'f> Input<'f> {
    pub(super) fn new(bytes: &'f [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes of the whole.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'f [u8], String> {
        let left = &self.bytes[self.at..];
        let taken = left.get(..length).ok_or_else(|| {
            format!(
                "needs {length} more bytes but {} are left: the file is truncated after {} bytes",
                left.len(),
                self.len()
            )
        })?;
        self.at += length;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "internal: a slice of another length".to_owned())
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length of `N` bytes, little-endian.
    pub(super) fn length<const N: usize>(&mut self) -> Result<usize, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "holds a length beyond this machine".to_owned())
    }

    /// Protocol 4 puts its opcodes into frames; only their completeness is checked.
    pub(super) fn frame(&mut self) -> Result<(), String> {
        let length = self.length::<8>()?;
        let before = self.at;
        self.take(length)?;
        self.at = before;
        Ok(())
    }

    /// Up to the end of the line, which is skipped.
    pub(super) fn raw_line(&mut self) -> Result<&'f [u8], String> {
        let left = &self.bytes[self.at..];
        let length = left.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| {
            format!("contains a line without an end: the file is truncated after {} bytes", self.len())
        })?;
        self.at += length + 1;
        Ok(&left[..length])
    }

    /// The same as text.
    pub(super) fn line(&mut self) -> Result<&'f str, String> {
        let line = self.raw_line()?;
        std::str::from_utf8(line)
            .map(|line| line.trim_end_matches('\r'))
            .map_err(|_| "contains a line that is not text".into())
    }
}

/// The bytes of a text that Python 2 wrote as source code: `'a\x00b'`.
pub(super) fn unquoted(line: &str) -> Result<Vec<u8>, String> {
    let damaged = || format!("holds {line:?} where a text in quotation marks stands: damaged");
    let inner =
        ['\'', '"'].iter().find_map(|mark| line.strip_prefix(*mark)?.strip_suffix(*mark)).ok_or_else(damaged)?;
    let (mut bytes, mut left) = (Vec::with_capacity(inner.len()), inner.bytes());
    while let Some(byte) = left.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match left.next().ok_or_else(damaged)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [left.next().ok_or_else(damaged)?, left.next().ok_or_else(damaged)?];
                hexadecimal(&digits).and_then(|n| u8::try_from(n).ok()).ok_or_else(damaged)?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return Err(damaged()),
        });
    }
    Ok(bytes)
}

/// Text as protocol 0 writes it: Latin-1, and `\u` or `\U` before the number of everything else.
pub(super) fn unescaped(line: &[u8]) -> Result<String, String> {
    let (mut text, mut at) = (String::with_capacity(line.len()), 0);
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(char::from(byte));
            at += 1;
            continue;
        }
        let number = line.get(at + 2..at + 2 + digits).and_then(hexadecimal);
        text.push(number.and_then(char::from_u32).ok_or("holds a text with an escape that is none: damaged")?);
        at += 2 + digits;
    }
    Ok(text)
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}
