//! Writes TIFF files tag by tag, as the programs of the field write them, whole, cut or hostile. Knows nothing of the reader.

use std::path::Path;

/// A file of greyscale pages; pixel i of page p is 100 p + i % 50, and `plus` more.
#[derive(Clone)]
pub struct Tiff {
    pub pages: usize,
    pub height: usize,
    pub width: usize,
    pub bits: u16,
    /// 1 unsigned, 2 signed, 3 floating point.
    pub format: u16,
    pub photometric: u16,
    pub compression: u16,
    /// ImageDescription of the first page, or of every page from a closure.
    pub description: Vec<u8>,
    pub of_page: Option<fn(usize) -> String>,
    pub software: String,
    pub artist: String,
    /// What ImageJ kept of a file's former texts (tag 50839).
    pub kept: String,
    /// What Micro-Manager writes into every page (tag 51123).
    pub page_metadata: Option<fn(usize) -> String>,
    /// 2: the bits of every byte are reversed.
    pub fill_order: u16,
    /// Added to every pixel: 32768 is how ImageJ keeps signed values.
    pub plus: usize,
    pub samples: u16,
    pub big: bool,
    /// Directories behind the pixels of all pages, as tifffile writes them, instead of before each page.
    pub directories_last: bool,
    /// Only the first page has a directory; the others follow as one block.
    pub one_directory: bool,
    /// Number of the first page, for files that go on.
    pub first: usize,
}

impl Default for Tiff {
    fn default() -> Self {
        Self {
            pages: 1,
            height: 16,
            width: 24,
            bits: 16,
            format: 1,
            photometric: 1,
            compression: 1,
            description: Vec::new(),
            of_page: None,
            software: String::new(),
            artist: String::new(),
            kept: String::new(),
            page_metadata: None,
            fill_order: 1,
            plus: 0,
            samples: 1,
            big: false,
            directories_last: false,
            one_directory: false,
            first: 0,
        }
    }
}

/// ScanImage's description of a page: all channels of a frame have its number.
fn numbered<const CHANNELS: usize>(page: usize) -> String {
    format!("frameNumbers = {}\nframeTimestamps_sec = {:.6}\n", page / CHANNELS + 1, page as f64 * 0.033)
}

impl Tiff {
    pub fn pages(pages: usize) -> Self {
        Self { pages, ..Self::default() }
    }

    pub fn described(pages: usize, description: &str) -> Self {
        Self { pages, description: description.as_bytes().to_vec(), ..Self::default() }
    }

    /// ScanImage from 2016 on: header in `Software`, number and time of each frame in the description of each of its channels.
    pub fn scanimage(pages: usize, header: &[&str]) -> Self {
        let software: String = header.iter().map(|line| format!("SI.{line}\n")).collect();
        let saved = software.lines().find(|line| line.contains("channelSave")).unwrap_or_default();
        let of_page = match saved.chars().filter(char::is_ascii_digit).count() {
            2 => numbered::<2>,
            4 => numbered::<4>,
            _ => numbered::<1>,
        };
        Self { pages, software, of_page: Some(of_page), format: 2, big: true, ..Self::default() }
    }

    fn pixels(&self, page: usize) -> Vec<u8> {
        let value = |i: usize| 100 * (page + self.first) + i % 50 + self.plus;
        let bits = self.height * self.width * usize::from(self.bits);
        match (self.bits, self.format) {
            (16, 1 | 2) => (0..self.height * self.width).flat_map(|i| (value(i) as u16).to_le_bytes()).collect(),
            (32, 3) => (0..self.height * self.width).flat_map(|i| (value(i) as f32).to_le_bytes()).collect(),
            (8, _) => (0..self.height * self.width).map(|i| value(i) as u8).collect(),
            _ => vec![page as u8; bits.div_ceil(8)],
        }
    }

    /// Tags of text of a page.
    fn texts(&self, page: usize) -> [(u16, Vec<u8>); 5] {
        let description = match self.of_page {
            Some(text) => text(page + self.first).into_bytes(),
            None if page == 0 => self.description.clone(),
            None => Vec::new(),
        };
        let mut kept = Vec::new();
        if page == 0 && !self.kept.is_empty() {
            kept.extend(b"IJIJinfo\0\0\0\x01");
            kept.extend(self.kept.encode_utf16().flat_map(u16::to_le_bytes));
        }
        [
            (270, description),
            (305, self.software.clone().into_bytes()),
            (315, self.artist.clone().into_bytes()),
            (50839, kept),
            (51123, self.page_metadata.map(|text| text(page).into_bytes()).unwrap_or_default()),
        ]
    }

    /// Tags with one number; the place of the pixels is filled in later.
    fn numbers(&self, pixel_bytes: u64) -> [(u16, u64); 11] {
        [
            (256, self.width as u64),
            (257, self.height as u64),
            (258, u64::from(self.bits)),
            (259, u64::from(self.compression)),
            (262, u64::from(self.photometric)),
            (266, u64::from(self.fill_order)),
            (273, 0),
            (277, u64::from(self.samples)),
            (278, self.height as u64),
            (279, pixel_bytes),
            (339, u64::from(self.format)),
        ]
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let offset_bytes = if self.big { 8 } else { 4 };
        let mut data = if self.big { b"II\x2b\0\x08\0\0\0".to_vec() } else { b"II\x2a\0".to_vec() };
        let mut link = data.len();
        data.extend(vec![0; offset_bytes]);
        let put = |data: &mut Vec<u8>, at: usize, value: u64| {
            data[at..at + offset_bytes].copy_from_slice(&value.to_le_bytes()[..offset_bytes]);
        };
        let mut pixels_at: Vec<usize> = Vec::new();
        if self.directories_last {
            for page in 0..self.pages {
                pixels_at.push(data.len());
                data.extend(self.pixels(page));
            }
        }
        for page in 0..if self.one_directory { 1 } else { self.pages } {
            let mut entries: Vec<(u16, u16, u64, u64)> = Vec::new();
            for (tag, mut text) in self.texts(page) {
                if !text.is_empty() {
                    text.push(0);
                    text.resize(text.len().max(9), 0);
                    entries.push((tag, 2, text.len() as u64, data.len() as u64));
                    data.extend(text);
                }
            }
            data.resize(data.len().next_multiple_of(8), 0);
            let directory = data.len();
            let bytes = self.pixels(page).len() as u64;
            entries.extend(self.numbers(bytes).map(|(tag, value)| (tag, 4, 1, value)));
            entries.sort();
            let count_bytes = if self.big { 8 } else { 2 };
            let after = directory + count_bytes + entries.len() * (4 + 2 * offset_bytes) + offset_bytes;
            let at = pixels_at.get(page).copied().unwrap_or(after);
            entries.iter_mut().filter(|entry| entry.0 == 273).for_each(|entry| entry.3 = at as u64);
            put(&mut data, link, directory as u64);
            data.extend(&(entries.len() as u64).to_le_bytes()[..count_bytes]);
            for (tag, kind, count, value) in entries {
                data.extend(tag.to_le_bytes());
                data.extend(kind.to_le_bytes());
                data.extend(&count.to_le_bytes()[..offset_bytes]);
                data.extend(&value.to_le_bytes()[..offset_bytes]);
            }
            link = data.len();
            data.extend(vec![0; offset_bytes]);
            if !self.directories_last {
                data.extend(self.pixels(page));
            }
        }
        if self.one_directory {
            (1..self.pages).for_each(|page| data.extend(self.pixels(page)));
        }
        data
    }

    #[allow(clippy::unwrap_used)]
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }
}
