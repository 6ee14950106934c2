//! Writes recordings as Scanbox does: raw and inverted, with a MATLAB file beside. Knows nothing of the reader.

use std::io::Write;
use std::path::{Path, PathBuf};

/// A recording; pixel i of page p of channel c is 100 (p + 10 c) + i % 50.
#[derive(Clone)]
pub struct Scanbox {
    pub pages: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    /// Fields of `info`, beside `sz`.
    pub info: Vec<(&'static str, Vec<f64>)>,
    /// Behind zlib, as MATLAB 7 writes.
    pub compressed: bool,
}

impl Default for Scanbox {
    fn default() -> Self {
        let info = vec![
            ("recordsPerBuffer", vec![16.0]),
            ("channels", vec![2.0]),
            ("scanmode", vec![1.0]),
            ("resfreq", vec![480.0]),
        ];
        Self { pages: 6, rows: 16, columns: 24, channels: 1, info, compressed: true }
    }
}

impl Scanbox {
    /// With another value of a field.
    pub fn with(mut self, field: &'static str, values: &[f64]) -> Self {
        self.info.retain(|(name, _)| *name != field);
        self.info.push((field, values.to_vec()));
        self
    }

    pub fn pixels(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for page in 0..self.pages {
            for at in 0..self.rows * self.columns {
                for channel in 0..self.channels {
                    let value = 100 * (page + 10 * channel) + at % 50;
                    bytes.extend((u16::MAX - value as u16).to_le_bytes());
                }
            }
        }
        bytes
    }

    /// The .mat: a structure of arrays of doubles.
    #[allow(clippy::unwrap_used)]
    pub fn mat(&self) -> Vec<u8> {
        let mut head = b"MATLAB 5.0 MAT-file, Platform: PCWIN64".to_vec();
        head.resize(124, b' ');
        head.extend(b"\0\x01IM");
        let mut fields = vec![("sz", vec![self.rows as f64, self.columns as f64])];
        fields.extend(self.info.clone());
        let mut body = [flags(2), element(5, &words(&[1, 1])), element(1, b"info")].concat();
        body.extend(element(5, &words(&[32])));
        let mut names = Vec::new();
        for (name, _) in &fields {
            let mut name = name.as_bytes().to_vec();
            name.resize(32, 0);
            names.extend(name);
        }
        body.extend(element(1, &names));
        for (_, values) in &fields {
            let sizes = words(&[1, values.len() as u32]);
            let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            body.extend(element(14, &[flags(6), element(5, &sizes), element(1, b""), element(9, &numbers)].concat()));
        }
        let whole = element(14, &body);
        if self.compressed {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            zlib.write_all(&whole).unwrap();
            let packed = zlib.finish().unwrap();
            head.extend(words(&[15, packed.len() as u32]));
            head.extend(packed);
        } else {
            head.extend(whole);
        }
        head
    }

    /// Writes both files and names the recording.
    #[allow(clippy::unwrap_used)]
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("x.sbx");
        std::fs::write(&path, self.pixels()).unwrap();
        std::fs::write(folder.join("x.mat"), self.mat()).unwrap();
        path
    }
}

fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn flags(class: u32) -> Vec<u8> {
    element(6, &words(&[class, 0]))
}

/// An element; up to four bytes stand in its head, as MATLAB writes them.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes;
    if (1..=4).contains(&data.len()) {
        bytes = words(&[kind | (data.len() as u32) << 16]);
        bytes.extend(data);
        bytes.resize(8, 0);
    } else {
        bytes = words(&[kind, data.len() as u32]);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}
