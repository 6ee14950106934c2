//! TIFF recordings: classic and BigTIFF, ImageJ, OME and ScanImage stacks, one file or many, one channel per file or both.
//!
//! Why it exists: every lab has TIFF. Pages are decoded one by one, so a recording may be larger than memory.
//! What it must never do: skip an unreadable page; the error names the damaged file and the page.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingSampleType};
use tiff::tags::Tag;

use crate::frame::{CHANNELS_MAX, Clock, DeviceTime, Frame, Name, PixelType, SIDE_PX_MAX, Shape, Stamp};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

use super::recording::{Axis, Stamper, Walk, choose_plane, file_error};
use super::scanimage::{ScanImage, page_time_s};
use super::tiff_order::{PageOrder, imagej_images, order_of};
use super::{Next, Source, SourceError};

/// Frames of one or several TIFF files.
pub struct TiffSource {
    /// One stack per channel; a single stack may hold both channels.
    stacks: Vec<Stack>,
    stamper: Stamper,
    next: usize,
    total: usize,
}

impl TiffSource {
    /// Opens a recording: for each channel its files in temporal order.
    ///
    /// `rate_hz` overrides the rate in the file.
    ///
    /// # Errors
    /// Files that cannot be read, or do not match each other.
    pub fn open(
        channels: Vec<Vec<PathBuf>>,
        rate_hz: Option<f64>,
        plane: Option<u64>,
        source: Name,
    ) -> Result<Self, SourceError> {
        let stacks: Result<Vec<Stack>, SourceError> =
            channels.into_iter().map(|f| Stack::open(f, plane, true)).collect();
        Self::join(stacks?, rate_hz, source)
    }

    /// As [`TiffSource::open`], for files of one page each, whose descriptions cover other files too.
    pub(super) fn open_pages(
        channels: Vec<Vec<PathBuf>>,
        rate_hz: Option<f64>,
        source: Name,
    ) -> Result<Self, SourceError> {
        let stacks: Result<Vec<Stack>, SourceError> =
            channels.into_iter().map(|f| Stack::open(f, None, false)).collect();
        Self::join(stacks?, rate_hz, source)
    }

    fn join(stacks: Vec<Stack>, rate_hz: Option<f64>, source: Name) -> Result<Self, SourceError> {
        let Some(first) = stacks.first() else {
            return Err(file_error(Path::new("recording"), "no file was given"));
        };
        let (total, side, pixel_type) = (first.total(), first.side, first.pixel_type);
        for other in &stacks[1..] {
            if (other.total(), other.side, other.pixel_type) != (total, side, pixel_type) {
                let cause = format!(
                    "channels must match: this one has {}, {} has {}",
                    other.describe(),
                    first.path().display(),
                    first.describe()
                );
                return Err(file_error(other.path(), cause));
            }
        }
        let channels = stacks.iter().map(|s| s.channels).sum();
        if channels > CHANNELS_MAX {
            return Err(file_error(
                first.path(),
                format!("has {channels} channels; at most {CHANNELS_MAX} are supported"),
            ));
        }
        let rate_hz = rate_hz.or(first.rate_hz);
        let stamper = Stamper { source, rate_hz, shape: Shape::new(channels, side[0], side[1]), pixel_type };
        Ok(Self { stacks, stamper, next: 0, total })
    }
}

impl Source for TiffSource {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        if self.next == self.total {
            return Ok(Next::End);
        }
        self.stamper.stamp(self.next as u64, self.stacks[0].path(), into)?;
        let mut slot = into.bytes_mut();
        for stack in &mut self.stacks {
            let (own, rest) = slot.split_at_mut(stack.page_bytes() * stack.channels);
            stack.read(self.next, own)?;
            slot = rest;
        }
        // The file's time stamp is better than frame / rate; both channels of a frame share it.
        if let Some(time_s) = self.stacks[0].open.1.time_s() {
            let ns = (time_s * 1e9).round() as i64;
            into.info.t_device = Some(DeviceTime { ns, clock: Clock::Device, stamp: Some(Stamp::Start) });
        }
        self.next += 1;
        Ok(Next::Frame)
    }

    fn frame_bytes_max(&self) -> usize {
        self.stamper.frame_bytes()
    }

    fn frames_total(&self) -> Option<u64> {
        Some(self.total as u64)
    }

    fn frame_rate_hz(&self) -> Option<f64> {
        self.stamper.rate_hz
    }
}

/// Files in temporal order.
struct Stack {
    files: Vec<Part>,
    /// The file being read, after its index in `files`.
    open: (usize, Pages),
    channels: usize,
    side: [usize; 2],
    pixel_type: PixelType,
    rate_hz: Option<f64>,
}

/// One file of a stack.
struct Part {
    path: PathBuf,
    /// Frames in the files before it.
    first: usize,
    walk: Walk,
    channel_step: usize,
}

impl Stack {
    fn open(paths: Vec<PathBuf>, plane: Option<u64>, described: bool) -> Result<Self, SourceError> {
        let mut stack: Option<Self> = None;
        for path in paths {
            let (pages, order) = Pages::open(&path, described)?;
            let walk = choose_plane(order.slices, order.times, plane).map_err(|c| file_error(&path, c))?;
            let Axis { count: channels, step: channel_step } = order.channels;
            let part = Part { path, first: stack.as_ref().map_or(0, Self::total), walk, channel_step };
            match &mut stack {
                Some(stack) => stack.append(part, &pages, channels)?,
                None => {
                    let (side, pixel_type) = (pages.side, pages.pixel_type);
                    let rate_hz = order.rate_hz;
                    let files = vec![part];
                    stack = Some(Self { files, open: (0, pages), channels, side, pixel_type, rate_hz });
                }
            }
        }
        stack.ok_or_else(|| file_error(Path::new("recording"), "no file was given"))
    }

    fn append(&mut self, part: Part, pages: &Pages, channels: usize) -> Result<(), SourceError> {
        if (pages.side, pages.pixel_type, channels) != (self.side, self.pixel_type, self.channels) {
            let cause = format!(
                "has {channels} channel(s) of {}×{} {}, which cannot continue {}",
                pages.side[0],
                pages.side[1],
                pages.pixel_type,
                self.describe()
            );
            return Err(file_error(&part.path, cause));
        }
        self.files.push(part);
        Ok(())
    }

    fn total(&self) -> usize {
        self.files.last().map_or(0, |part| part.first + part.walk.count)
    }

    fn path(&self) -> &Path {
        &self.files[0].path
    }

    fn page_bytes(&self) -> usize {
        self.side[0] * self.side[1] * self.pixel_type.bytes()
    }

    fn describe(&self) -> String {
        let [height, width] = self.side;
        format!("{} frames of {} channel(s), {height}×{width} {}", self.total(), self.channels, self.pixel_type)
    }

    /// Reads all channels of one frame.
    fn read(&mut self, frame: usize, slot: &mut [u8]) -> Result<(), SourceError> {
        let index = self.files.partition_point(|part| part.first <= frame) - 1;
        let part = &self.files[index];
        if self.open.0 != index {
            self.open = (index, Pages::open(&part.path, false)?.0);
        }
        let page = part.walk.first + (frame - part.first) * part.walk.step;
        let page_bytes = self.side[0] * self.side[1] * self.pixel_type.bytes();
        for (channel, into) in slot.chunks_exact_mut(page_bytes).enumerate() {
            self.open.1.read(page + channel * part.channel_step, into).map_err(|c| file_error(&part.path, c))?;
        }
        Ok(())
    }
}

/// The pages of one file.
struct Pages {
    decoder: Decoder<BufReader<File>>,
    at: usize,
    count: usize,
    side: [usize; 2],
    pixel_type: PixelType,
    /// Consecutive pages with a single directory: ImageJ beyond 4 GB.
    contiguous: Option<Contiguous>,
    /// Each page holds its own time.
    timed: bool,
}

struct Contiguous {
    file: File,
    offset: u64,
    layout: Layout,
    payload: Vec<u8>,
}

impl Pages {
    fn open(path: &Path, described: bool) -> Result<(Self, PageOrder), SourceError> {
        let fail = |cause: String| file_error(path, cause);
        let file = File::open(path).map_err(|e| fail(e.to_string()))?;
        let directories = count_directories(&file).map_err(fail)?;
        let again = file.try_clone().map_err(|e| fail(e.to_string()))?;
        let mut decoder = Decoder::new(BufReader::new(file)).map_err(|e| fail(format!("page 0: {e}")))?;
        let (side, pixel_type) = geometry(&mut decoder).map_err(|c| fail(format!("page 0 {c}")))?;
        // The decoder rejects text that is not ASCII; the description is then empty.
        let mut text_of =
            |tag, wanted| if wanted { decoder.get_tag_ascii_string(tag).unwrap_or_default() } else { String::new() };
        let description = text_of(Tag::ImageDescription, described || directories == 1);
        let software = text_of(Tag::Software, true);
        let scanimage = ScanImage::of(&software).or_else(|| ScanImage::of(&description));
        let timed = scanimage.is_some();
        let order = scanimage.filter(|_| described).map(|own| own.order(directories)).transpose().map_err(fail)?;
        let mut pages = Self { decoder, at: 0, count: directories, side, pixel_type, contiguous: None, timed };
        if let Some(order) = order {
            return Ok((pages, order));
        }
        if let Some(images) = imagej_images(&description).filter(|&n| directories == 1 && n > 1) {
            pages.contiguous = Some(pages.one_block(again, images).map_err(fail)?);
            pages.count = images;
        }
        let text = if described { description.as_str() } else { "" };
        let order = order_of(text, pages.count).map_err(fail)?;
        Ok((pages, order))
    }

    /// The raw block of the single directory, checked against the length of the file.
    fn one_block(&mut self, file: File, images: usize) -> Result<Contiguous, String> {
        let offsets = self.decoder.get_tag_u64_vec(Tag::StripOffsets).map_err(|e| format!("page 0: {e}"))?;
        let compression = self.decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(|e| e.to_string())?;
        let big_endian = matches!(self.decoder.byte_order(), tiff::tags::ByteOrder::BigEndian);
        let shape = Shape::new(1, self.side[0], self.side[1]);
        let layout = Layout { shape, pixel_type: self.pixel_type, big_endian, order: Order::C };
        let offset = offsets.first().copied().unwrap_or(0);
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let needed = (layout.bytes() as u64).saturating_mul(images as u64).saturating_add(offset);
        if compression.unwrap_or(1) != 1 || needed > length {
            return Err(format!(
                "declares images={images} but has one page, and its {length} bytes are not {images} uncompressed pages \
                 ({needed} bytes): the file is damaged or truncated"
            ));
        }
        Ok(Contiguous { file, offset, layout, payload: vec![0; layout.bytes()] })
    }

    fn read(&mut self, page: usize, slot: &mut [u8]) -> Result<(), String> {
        if let Some(block) = &mut self.contiguous {
            let at = block.offset + (page * block.payload.len()) as u64;
            block.file.read_exact_at(&mut block.payload, at).map_err(|e| self.unreadable(page, e))?;
            let Some(block) = &self.contiguous else { return Ok(()) };
            pixels::copy(&block.layout, &block.payload, slot);
            return Ok(());
        }
        if page != self.at {
            let moved = if page == self.at + 1 { self.decoder.next_image() } else { self.decoder.seek_to_image(page) };
            moved.map_err(|e| self.unreadable(page, e))?;
            self.at = page;
        }
        let found = geometry(&mut self.decoder).map_err(|c| format!("page {page} of {} {c}", self.count))?;
        if found != (self.side, self.pixel_type) {
            let ([h, w], kind) = found;
            let [height, width] = self.side;
            return Err(format!("page {page} is {h}×{w} {kind}, the first is {height}×{width} {}", self.pixel_type));
        }
        self.decoder.read_image_bytes(slot).map_err(|e| self.unreadable(page, e))
    }

    /// Time of the page read last, s; `None` if it has none.
    fn time_s(&mut self) -> Option<f64> {
        let text = self.timed.then(|| self.decoder.get_tag_ascii_string(Tag::ImageDescription).ok())??;
        page_time_s(&text)
    }

    fn unreadable(&self, page: usize, error: impl std::fmt::Display) -> String {
        format!("page {page} of {} cannot be read: {error}; the file is damaged or truncated", self.count)
    }
}

/// Height, width and pixel type of the decoder's current page.
fn geometry(decoder: &mut Decoder<BufReader<File>>) -> Result<([usize; 2], PixelType), String> {
    let (width, height) = decoder.dimensions().map_err(|e| e.to_string())?;
    let color = decoder.colortype().map_err(|e| e.to_string())?;
    let sample = decoder.image_buffer_layout().map_err(|e| e.to_string())?.sample_type;
    let pixel_type = match (color, sample) {
        (ColorType::Gray(8), Some(DecodingSampleType::U8)) => PixelType::U8,
        (ColorType::Gray(16), Some(DecodingSampleType::U16)) => PixelType::U16,
        (ColorType::Gray(16), Some(DecodingSampleType::I16)) => PixelType::I16,
        (ColorType::Gray(32), Some(DecodingSampleType::F32)) => PixelType::F32,
        _ => return Err(format!("is {color:?}; greyscale uint8, uint16, int16 and float32 are supported")),
    };
    let side = [height as usize, width as usize];
    if side.iter().any(|s| !(1..=SIDE_PX_MAX).contains(s)) {
        return Err(format!("is {height}×{width} px; sides of 1 to {SIDE_PX_MAX} px are supported"));
    }
    Ok((side, pixel_type))
}

/// Counts the directories by following their chain.
///
/// # Errors
/// Not a TIFF, or a chain that leaves the file or loops.
fn count_directories(file: &File) -> Result<usize, String> {
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut head = [0; 16];
    let got = file.read_at(&mut head, 0).map_err(|e| e.to_string())?;
    let big_endian = match &head[..2] {
        b"II" => false,
        b"MM" => true,
        _ => return Err("is not a TIFF file (its first bytes are neither II nor MM)".to_string()),
    };
    let number = |bytes: &[u8]| {
        let step = |sum: u64, &b: &u8| sum << 8 | u64::from(b);
        if big_endian { bytes.iter().fold(0, step) } else { bytes.iter().rev().fold(0, step) }
    };
    // (bytes of an entry count, of an entry, of an offset) of classic TIFF and BigTIFF.
    let (count_bytes, entry_bytes, offset_bytes, mut at) = match number(&head[2..4]) {
        42 if got >= 8 => (2, 12, 4, number(&head[4..8])),
        43 if got >= 16 => (8, 20, 8, number(&head[8..16])),
        other => return Err(format!("is not a TIFF file (version {other}; 42 and 43 are known)")),
    };
    let mut pages = 0;
    while at != 0 {
        let lost =
            |_| format!("page {pages}: its directory at byte {at} is beyond the file's {length} bytes: truncated");
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes[..count_bytes], at).map_err(lost)?;
        let entries = number(&bytes[..count_bytes]).min(length);
        let link = at.saturating_add(count_bytes as u64 + entries * entry_bytes);
        file.read_exact_at(&mut bytes[..offset_bytes], link).map_err(lost)?;
        at = number(&bytes[..offset_bytes]);
        pages += 1;
        // The smallest directory has one entry; more directories than fit into the file mean a loop.
        if pages as u64 > length / (count_bytes + offset_bytes) as u64 {
            return Err("its directories form a loop: the file is damaged".to_string());
        }
    }
    if pages == 0 { Err("contains no image".to_string()) } else { Ok(pages) }
}
