//! MATLAB's files of version 5 (also called 6 and 7): the numbers in them, by their paths, `info.sz`.
//!
//! Why it exists: Scanbox describes its recordings in such a file. What it must never do: trust a length in it, or run anything.
//!
//! The format is public ("MAT-File Format", The MathWorks): a head of 128 bytes, then elements of a type, a length and data; a matrix
//! is an element of elements, and a compressed element is one behind zlib.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Bytes of the head.
const HEAD: usize = 128;
/// Most bytes of a compressed element.
const INFLATED_MAX: u64 = 64 << 20;
/// Deepest nesting of structures.
const DEPTH_MAX: usize = 8;
/// Most numbers of one array; longer ones are cut, because only their lengths and first values matter.
const NUMBERS_MAX: usize = 1 << 16;

/// All numbers of a file by their paths.
pub(super) type Numbers = BTreeMap<String, Vec<f64>>;

/// Reads a file.
///
/// # Errors
/// Not such a file; one of version 7.3 is named.
pub(super) fn numbers(bytes: &[u8]) -> Result<Numbers, String> {
    if bytes.starts_with(b"\x89HDF") || bytes.windows(4).take(1024).any(|four| four == b"\x89HDF") {
        return Err("is a MATLAB file of version 7.3: save it again with save(name, 'info', '-v7')".to_owned());
    }
    let Some(head) = bytes.get(..HEAD).filter(|head| head.starts_with(b"MATLAB") || head[126..] == *b"IM") else {
        return Err("is not a MATLAB file of version 5 to 7".to_owned());
    };
    let big_endian = match &head[126..] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err("is a MATLAB file without a mark of its byte order: it is damaged".to_owned()),
    };
    let mut found = Numbers::new();
    let mut reader = Elements { bytes: &bytes[HEAD..], big_endian };
    while let Some((kind, data)) = reader.next() {
        top(kind, data, big_endian, &mut found);
    }
    Ok(found)
}

fn top(kind: u32, data: &[u8], big_endian: bool, found: &mut Numbers) {
    match kind {
        14 => {
            matrix(data, None, big_endian, 0, found);
        }
        15 => {
            let mut plain = Vec::new();
            let read = ZlibDecoder::new(data).take(INFLATED_MAX).read_to_end(&mut plain);
            let mut inner = Elements { bytes: &plain, big_endian };
            if let (Ok(_), Some((14, data))) = (read, inner.next()) {
                matrix(data, None, big_endian, 0, found);
            }
        }
        _ => {}
    }
}

/// Elements one after the other.
struct Elements<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Elements<'a> {
    fn word(&self, at: usize) -> Option<u32> {
        let four: [u8; 4] = self.bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    /// Type and data of the next element.
    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        let (kind, length) = (self.word(0)?, self.word(4)?);
        // Up to four bytes stand in the head itself.
        if kind >> 16 != 0 {
            let data = self.bytes.get(4..4 + (kind >> 16).min(4) as usize)?;
            self.bytes = self.bytes.get(8..).unwrap_or_default();
            return Some((kind & 0xffff, data));
        }
        let length = length as usize;
        let data = self.bytes.get(8..8_usize.checked_add(length)?)?;
        let padded = if kind == 15 { length } else { length.next_multiple_of(8) };
        self.bytes = self.bytes.get(8 + padded..).unwrap_or_default();
        Some((kind, data))
    }
}

/// Takes the numbers of a matrix, of whatever class. `name`: its path, where a structure gave it one.
fn matrix(data: &[u8], name: Option<&str>, big_endian: bool, depth: usize, found: &mut Numbers) -> Option<()> {
    let mut parts = Elements { bytes: data, big_endian };
    let (_, flags) = parts.next()?;
    let of_flags = Elements { bytes: flags, big_endian };
    let class = of_flags.word(0)? & 0xff;
    let (_, sizes) = parts.next()?;
    let (_, own) = parts.next()?;
    let own = String::from_utf8_lossy(own).into_owned();
    let name = name.map_or(own, str::to_owned);
    match class {
        2 if depth < DEPTH_MAX => {
            let (_, length) = parts.next()?;
            let length = Elements { bytes: length, big_endian }.word(0)? as usize;
            let (_, names) = parts.next()?;
            let single = sizes.chunks(4).all(|four| (Elements { bytes: four, big_endian }).word(0) == Some(1));
            for field in names.chunks(length.max(1)).filter(|_| single) {
                let field: String = field.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
                let (_, value) = parts.next()?;
                matrix(value, Some(&format!("{name}.{field}")), big_endian, depth + 1, found);
            }
        }
        6..=15 => {
            let (kind, values) = parts.next()?;
            found.insert(name, values_of(kind, values, big_endian));
        }
        _ => {}
    }
    Some(())
}

fn values_of(kind: u32, data: &[u8], big_endian: bool) -> Vec<f64> {
    let bytes = match kind {
        1 | 2 => 1,
        3 | 4 => 2,
        5..=7 => 4,
        9 | 12 | 13 => 8,
        _ => return Vec::new(),
    };
    let one = |item: &[u8]| {
        let mut eight = [0; 8];
        eight[..bytes].copy_from_slice(item);
        if big_endian {
            eight[..bytes].reverse();
        }
        let number = u64::from_le_bytes(eight);
        match kind {
            1 => f64::from(number as i8),
            3 => f64::from(number as i16),
            5 => f64::from(number as i32),
            7 => f64::from(f32::from_bits(number as u32)),
            9 => f64::from_bits(number),
            12 => number as i64 as f64,
            _ => number as f64,
        }
    };
    data.chunks_exact(bytes).take(NUMBERS_MAX).map(one).collect()
}
