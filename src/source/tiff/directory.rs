//! The directories of a TIFF file, read without trusting them: their chain, and the tags that are needed.
//!
//! Why it exists: a file that was cut still has whole pages, a hostile one leads in circles, and both must be noticed at once, before
//! a decoder is asked. What it must never do: read beyond the file, or follow a chain twice.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::frame::{PixelType, SIDE_PX_MAX};

/// Most entries of a directory that are read.
const ENTRIES_MAX: u64 = 4096;
/// Most strips or tiles of a page.
const PARTS_MAX: u64 = 1 << 20;
/// Most bytes of a text.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are read of a directory before its length is known: most are shorter.
const GUESS_BYTES: usize = 512;

/// Tags by their number (TIFF 6.0).
pub(super) mod tag {
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const DESCRIPTION: u16 = 270;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTES: u16 = 279;
    pub const SOFTWARE: u16 = 305;
    pub const ARTIST: u16 = 315;
    pub const PREDICTOR: u16 = 317;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTES: u16 = 325;
    pub const FORMAT: u16 = 339;
    pub const IMAGEJ: u16 = 50839;
    pub const MICRO_MANAGER: u16 = 51123;
}

/// A file of directories.
#[derive(Debug)]
pub(super) struct Directories {
    file: File,
    pub length: u64,
    pub big_endian: bool,
    /// Bytes of an entry count, of an entry, of an offset: classic TIFF or BigTIFF.
    sizes: [usize; 3],
    first: u64,
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its value lies.
    at: u64,
    /// The value itself, where it is short enough to stand in the directory: most are, and each would be a read of the file.
    inline: Option<[u8; 8]>,
}

/// One directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    entries: Vec<Entry>,
    next: u64,
    bytes: u64,
}

/// What must be the same in all pages, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub height: usize,
    pub width: usize,
    bits: u64,
    /// 1 unsigned, 2 signed, 3 floating point.
    format: u64,
    samples: u64,
    pub compression: u64,
    /// 0: white is zero.
    pub photometric: u64,
    predictor: u64,
    tiled: bool,
}

/// The chain of directories.
#[derive(Debug)]
pub(super) struct Chain {
    /// Where the directory of each whole page lies.
    pub pages: Vec<u64>,
    /// Of every page.
    pub form: Form,
    /// Why the chain ends early.
    pub cut: Option<String>,
}

impl Directories {
    /// # Errors
    /// Not a TIFF file.
    pub fn open(file: File) -> Result<Self, String> {
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut head = [0; 16];
        let got = file.read_at(&mut head, 0).map_err(|e| e.to_string())?;
        let big_endian = match &head[..2] {
            b"II" => false,
            b"MM" => true,
            _ if head.starts_with(b"version https://") => {
                let cause = "is a pointer of Git LFS in place of the file: fetch the file itself (git lfs pull)";
                return Err(cause.to_owned());
            }
            _ => return Err("is not a TIFF file (its first bytes are neither II nor MM)".to_string()),
        };
        let number = |bytes: &[u8]| number(bytes, big_endian);
        let (sizes, first) = match number(&head[2..4]) {
            42 if got >= 8 => ([2, 12, 4], number(&head[4..8])),
            43 if got >= 16 => ([8, 20, 8], number(&head[8..16])),
            other => return Err(format!("is not a TIFF file (version {other}; 42 and 43 are known)")),
        };
        Ok(Self { file, length, big_endian, sizes, first })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The directory at a place; `None` where the file ends before it does.
    pub fn at(&self, at: u64) -> Option<Directory> {
        let [count_bytes, entry_bytes, offset_bytes] = self.sizes;
        let mut bytes = vec![0; GUESS_BYTES.min(self.length.saturating_sub(at) as usize)];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        let count = number(bytes.get(..count_bytes)?, self.big_endian);
        if count > ENTRIES_MAX {
            return None;
        }
        let whole = count_bytes + count as usize * entry_bytes + offset_bytes;
        if whole > bytes.len() {
            if at.saturating_add(whole as u64) > self.length {
                return None;
            }
            bytes.resize(whole, 0);
            self.file.read_exact_at(&mut bytes, at).ok()?;
        }
        let entries = bytes[count_bytes..whole - offset_bytes].chunks_exact(entry_bytes).enumerate();
        let entries = entries.map(|(n, entry)| self.entry(entry, at + (count_bytes + n * entry_bytes) as u64));
        let next = number(&bytes[whole - offset_bytes..whole], self.big_endian);
        Some(Directory { entries: entries.collect(), next, bytes: whole as u64 })
    }

    fn entry(&self, bytes: &[u8], at: u64) -> Entry {
        let offset_bytes = self.sizes[2];
        let number = |bytes: &[u8]| number(bytes, self.big_endian);
        let (tag, kind, count) =
            (number(&bytes[..2]) as u16, number(&bytes[2..4]) as u16, number(&bytes[4..4 + offset_bytes]));
        let inline = item_bytes(kind).saturating_mul(count) <= offset_bytes as u64;
        let value_at = 4 + offset_bytes;
        let value = &bytes[value_at..value_at + offset_bytes];
        let at = if inline { at + value_at as u64 } else { number(value) };
        let inline = inline.then(|| {
            let mut own = [0; 8];
            own[..offset_bytes].copy_from_slice(value);
            own
        });
        Entry { tag, kind, count, at, inline }
    }

    /// Up to `most` bytes of a tag's value.
    fn bytes(&self, entry: Entry, most: u64) -> Option<Vec<u8>> {
        let bytes = item_bytes(entry.kind).checked_mul(entry.count)?.min(most);
        if let Some(value) = entry.inline {
            return Some(value.get(..bytes as usize)?.to_vec());
        }
        if entry.at.checked_add(bytes)? > self.length {
            return None;
        }
        let mut value = vec![0; bytes as usize];
        self.file.read_exact_at(&mut value, entry.at).ok()?;
        Some(value)
    }

    /// All numbers of a tag.
    pub fn numbers(&self, directory: &Directory, tag: u16) -> Option<Vec<u64>> {
        let entry = directory.entry(tag).filter(|entry| entry.count <= PARTS_MAX && entry.count > 0)?;
        let item = item_bytes(entry.kind) as usize;
        let bytes = self.bytes(entry, u64::MAX)?;
        Some(bytes.chunks_exact(item.max(1)).map(|one| number(one, self.big_endian)).collect())
    }

    /// The first number of a tag.
    fn first_number(&self, directory: &Directory, tag: u16) -> Option<u64> {
        let entry = directory.entry(tag)?;
        let bytes = self.bytes(Entry { count: entry.count.min(1), ..entry }, 8)?;
        (!bytes.is_empty()).then(|| number(&bytes, self.big_endian))
    }

    /// A text, whatever its encoding: bytes that are not UTF-8 are taken as Latin-1, in which ImageJ writes `unit=µm`.
    pub fn text(&self, directory: &Directory, tag: u16) -> String {
        let Some(mut bytes) = directory.entry(tag).and_then(|entry| self.bytes(entry, TEXT_BYTES_MAX)) else {
            return String::new();
        };
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().iter().map(|byte| char::from(*byte)).collect())
    }

    /// What ImageJ kept of the file's former texts, in UTF-16 of the file's own order, with a head of numbers.
    pub fn imagej_info(&self, directory: &Directory) -> Option<String> {
        let bytes = self.bytes(directory.entry(tag::IMAGEJ)?, TEXT_BYTES_MAX)?;
        let unit = |pair: &[u8; 2]| if self.big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(unit).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// How the page of a directory is stored.
    ///
    /// # Errors
    /// A tag without which there is no page.
    pub fn form(&self, directory: &Directory) -> Result<Form, String> {
        let of = |tag, default| self.first_number(directory, tag).unwrap_or(default);
        let side = |tag| self.first_number(directory, tag).filter(|side| *side > 0);
        let (Some(height), Some(width)) = (side(tag::HEIGHT), side(tag::WIDTH)) else {
            return Err("has no height or no width".to_owned());
        };
        if [height, width].iter().any(|side| *side > SIDE_PX_MAX as u64) {
            return Err(format!("is {height}×{width} px; sides of 1 to {SIDE_PX_MAX} px are supported"));
        }
        if of(tag::FILL_ORDER, 1) == 2 {
            let cause = "has the bits of every byte reversed (FillOrder 2), which is not read: save it again with tifffile or ImageJ";
            return Err(cause.to_owned());
        }
        Ok(Form {
            height: height as usize,
            width: width as usize,
            bits: of(tag::BITS, 1),
            format: of(tag::FORMAT, 1),
            samples: of(tag::SAMPLES, 1),
            compression: of(tag::COMPRESSION, 1),
            photometric: of(tag::PHOTOMETRIC, 1),
            predictor: of(tag::PREDICTOR, 1),
            tiled: directory.entry(tag::TILE_OFFSETS).is_some(),
        })
    }

    /// Where the parts of an uncompressed page of strips lie: offset and bytes of each, neighbours joined.
    pub fn strips(&self, directory: &Directory, form: &Form, page_bytes: u64) -> Option<Vec<(u64, u64)>> {
        let offsets = self.numbers(directory, tag::STRIP_OFFSETS)?;
        let row_bytes = page_bytes / form.height as u64;
        let rows = self.first_number(directory, tag::ROWS_PER_STRIP).unwrap_or(u64::MAX).clamp(1, form.height as u64);
        let mut left = page_bytes;
        let mut strips: Vec<(u64, u64)> = Vec::new();
        for offset in offsets {
            let bytes = left.min(rows * row_bytes);
            left -= bytes;
            match strips.last_mut() {
                Some((begin, before)) if *begin + *before == offset => *before += bytes,
                _ => strips.push((offset, bytes)),
            }
        }
        (left == 0).then_some(strips)
    }

    /// Bytes that a page occupies; an error where they end beyond the file.
    fn extent(&self, directory: &Directory, form: &Form) -> Result<u64, String> {
        let beyond = |end: u64| format!("its pixels end at byte {end}, beyond the file's {} bytes", self.length);
        let (parts, ends): (Vec<u64>, Vec<u64>) = if let Some(page_bytes) = form.plain_bytes() {
            let strips = self.strips(directory, form, page_bytes).ok_or("its pixels are not where it says")?;
            strips.iter().map(|(at, bytes)| (*bytes, at.saturating_add(*bytes))).unzip()
        } else {
            let tags =
                if form.tiled { [tag::TILE_OFFSETS, tag::TILE_BYTES] } else { [tag::STRIP_OFFSETS, tag::STRIP_BYTES] };
            let [offsets, bytes] = tags.map(|tag| self.numbers(directory, tag).unwrap_or_default());
            if offsets.is_empty() || offsets.len() != bytes.len() {
                return Err("its pixels are not where it says".to_owned());
            }
            bytes.iter().zip(&offsets).map(|(bytes, at)| (*bytes, at.saturating_add(*bytes))).unzip()
        };
        match ends.iter().find(|end| **end > self.length) {
            Some(end) => Err(beyond(*end)),
            None => Ok(parts.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes))),
        }
    }

    /// Follows the chain to its end, or to where it is cut.
    ///
    /// # Errors
    /// No whole page, a circle, or pages of different forms.
    pub fn chain(&self) -> Result<Chain, String> {
        let (mut pages, mut form, mut cut) = (Vec::new(), None, None);
        let (mut at, mut known, mut taken) = (self.first, HashSet::new(), 0_u64);
        while at != 0 {
            let page = pages.len();
            if !known.insert(at) {
                return Err(format!(
                    "page {page}: its directory is that of an earlier page: the directories form a loop, the file is damaged"
                ));
            }
            let Some(directory) = self.at(at) else {
                cut = Some(format!(
                    "page {page}: its directory at byte {at} is beyond the file's {} bytes: the file was cut off",
                    self.length
                ));
                break;
            };
            let own = self.form(&directory).map_err(|cause| format!("page {page} {cause}"))?;
            let first = *form.get_or_insert(own);
            if own != first {
                return Err(format!("page {page} is {own}, the first is {first}"));
            }
            match self.extent(&directory, &own) {
                Ok(bytes) => taken = taken.saturating_add(bytes).saturating_add(directory.bytes),
                Err(cause) => {
                    cut = Some(format!("page {page}: {cause}: the file was cut off"));
                    break;
                }
            }
            // Pages that share their bytes are no recording, and a chain of them could be endless.
            if taken > self.length {
                return Err(format!(
                    "page {page}: the pages so far need {taken} bytes, but the file has {}: it is damaged",
                    self.length
                ));
            }
            pages.push(at);
            at = directory.next;
        }
        match (form, pages.is_empty()) {
            (Some(form), false) => Ok(Chain { pages, form, cut }),
            _ => Err(cut.unwrap_or_else(|| "contains no page".to_owned())),
        }
    }
}

impl Directory {
    fn entry(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.tag == tag).copied()
    }
}

impl Form {
    /// The pixel type.
    ///
    /// # Errors
    /// What the pixels are, and how to convert them.
    pub fn pixel_type(&self, name: &str) -> Result<PixelType, String> {
        match (self.samples, self.bits, self.format) {
            (1, 8, 1) => Ok(PixelType::U8),
            (1, 16, 1) => Ok(PixelType::U16),
            (1, 16, 2) => Ok(PixelType::I16),
            (1, 32, 3) => Ok(PixelType::F32),
            _ => {
                let to = if self.format == 1 && self.bits <= 16 { "uint16" } else { "float32" };
                Err(format!(
                    "has pixels of {}; greyscale uint8, uint16, int16 and float32 are read: convert it, e.g. \
                     tifffile.imwrite('new.tif', tifffile.imread('{name}').astype('{to}'), photometric='minisblack')",
                    self.pixels()
                ))
            }
        }
    }

    /// Is the compression one that is read?
    ///
    /// # Errors
    /// Its name, and how to save the file otherwise.
    pub fn check_compression(&self, name: &str) -> Result<(), String> {
        let known = match self.compression {
            1 | 5 | 8 | 32773 | 32946 => return Ok(()),
            50000 => "ZSTD",
            50001 => "WebP",
            7 | 6 => "JPEG",
            33003 | 33005 | 34712 => "JPEG 2000",
            34887 => "LERC",
            34925 => "LZMA",
            50002 => "JPEG XL",
            _ => "an unknown method",
        };
        Err(format!(
            "its pages are compressed with {known} (TIFF compression {}), which this program does not read; LZW, deflate and PackBits are \
             read: save it with one of them, e.g. tifffile.imwrite('new.tif', tifffile.imread('{name}'), compression='zlib')",
            self.compression
        ))
    }

    /// Bytes of a page whose pixels lie in the file as they are; `None` where a decoder is needed.
    pub fn plain_bytes(&self) -> Option<u64> {
        let plain = self.compression == 1
            && self.predictor == 1
            && self.samples == 1
            && !self.tiled
            && self.bits.is_multiple_of(8);
        plain.then(|| self.bits / 8 * self.height as u64 * self.width as u64)
    }

    fn pixels(&self) -> String {
        let kind = match self.format {
            1 => "unsigned integers",
            2 => "signed integers",
            3 => "floating point",
            _ => "an unknown kind",
        };
        let packed = if self.bits.is_multiple_of(8) { "" } else { ", packed" };
        let samples =
            if self.samples == 1 { String::new() } else { format!(", {} samples per pixel (colour)", self.samples) };
        format!("{} bit {kind}{packed}{samples}", self.bits)
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{} of {}, compression {}", self.height, self.width, self.pixels(), self.compression)
    }
}

fn number(bytes: &[u8], big_endian: bool) -> u64 {
    let step = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    if big_endian { bytes.iter().fold(0, step) } else { bytes.iter().rev().fold(0, step) }
}

/// Bytes of one item of a tag (TIFF 6.0, section 2; BigTIFF).
fn item_bytes(kind: u16) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}
