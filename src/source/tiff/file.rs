//! One TIFF file: its whole pages, and what its texts say.
//!
//! Why it exists: `axes` decides for all files of a recording together and needs to know the same of each. Pixels that lie in the
//! file as they are, are read without a decoder. What it must never do: invert pixels: WhiteIsZero tells how to show them, and every
//! program of the field takes the stored values.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tiff::decoder::Decoder;

use super::directory::{Chain, Directories, Form, tag};
use super::{page_metadata, texts};
use crate::frame::{PixelType, Shape};
use crate::source::SourceError;
use crate::source::about::file_name;
use crate::source::axes::{Asked, Letter, Seen};
use crate::source::recording::file_error;
use crate::source::regions;
use crate::source::scanimage::{ScanImage, lost, page_number, page_time_s};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

/// An open file.
pub(super) struct TiffFile {
    directories: Directories,
    pages: Vec<u64>,
    form: Form,
    pixel_type: PixelType,
    /// Stored unsigned, plus 32768.
    signed: bool,
    /// Consecutive pages with a single directory.
    block: Option<u64>,
    /// Pages hold times of their own (ScanImage).
    timed: bool,
    /// Rows of the chosen region, and a whole page.
    rows: Option<Range<usize>>,
    page: Vec<u8>,
    /// For pages that are compressed, and the page where it is.
    decoder: Option<(Decoder<BufReader<File>>, usize)>,
}

/// What opening a file gives.
pub(super) struct Opened {
    pub file: TiffFile,
    pub seen: Seen,
}

impl TiffFile {
    /// Opens a file and collects what it says. With `described` false, its texts are those of other files too and are not read.
    ///
    /// # Errors
    /// A file that cannot be read, or whose texts cannot be understood.
    pub fn open(path: &Path, asked: &Asked, described: bool) -> Result<Opened, String> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let directories = Directories::open(file)?;
        let Chain { pages, form, cut } = directories.chain()?;
        let name = file_name(path);
        let stored = form.pixel_type(&name)?;
        form.check_compression(&name)?;
        let first = directories.at(pages[0]).ok_or("page 0 cannot be read")?;
        let [description, software, artist] =
            [tag::DESCRIPTION, tag::SOFTWARE, tag::ARTIST].map(|tag| directories.text(&first, tag));
        let signed = stored == PixelType::U16 && texts::is_signed_plus_32768(&description);
        let pixel_type = if signed { PixelType::I16 } else { stored };
        let header = ScanImage::of(&software).or_else(|| ScanImage::of(&description));
        let timed = header.is_some();
        let rows = match &header {
            Some(header) if asked.roi.is_some() || described && asked.axes.is_none() => {
                regions::rows(header, &artist, [form.height, form.width], asked.roi)?
            }
            None if asked.roi.is_some() => {
                return Err("is not of ScanImage, and only that has regions: leave out --roi".to_owned());
            }
            _ => None,
        };
        let page = Vec::new();
        let mut opened =
            Self { directories, pages, form, pixel_type, signed, block: None, timed, rows, page, decoder: None };
        let mut seen = Seen::of(path, opened.pages.len(), cut);
        if opened.pages.len() == 1 && !timed {
            opened.find_block(&description, &mut seen)?;
        }
        if described && asked.axes.is_none() {
            if let Some(header) = &header {
                seen.told.push(header.told()?);
            }
            seen.told.extend(texts::told(&description, seen.pages)?);
            seen.told.extend(opened.directories.imagej_info(&first).and_then(|info| texts::kept_by_imagej(&info)));
            if seen.told.is_empty() {
                page_metadata::times_only(&opened.page_metadata())?;
            }
        }
        if timed {
            opened.number(&mut seen);
        }
        Ok(Opened { file: opened, seen })
    }

    /// ScanImage's frame numbers: of the first and the last page, and of all where they jump within volumes.
    fn number(&self, seen: &mut Seen) {
        let last = self.pages.len() - 1;
        let number = |page| self.description(page).and_then(|text| page_number(&text));
        seen.numbers = number(0).zip(number(last)).map(|(first, last)| [first, last]);
        seen.paired = if last > 0 { number(0).zip(number(1)).map(|(a, b)| a == b) } else { None };
        let Some(told) = seen.told.first() else { return };
        let of_frame = if seen.paired == Some(true) { told.size(Letter::C) } else { 1 };
        // The smaller one, because either may be a jump.
        let ends = [(0, of_frame), (last.saturating_sub(of_frame), last)];
        let steps =
            ends.map(|(a, b)| number(a).zip(number(b)).and_then(|(a, b)| b.checked_sub(a)).filter(|step| *step > 0));
        seen.number_step = steps.into_iter().flatten().min().unwrap_or(1);
        if told.size(Letter::Z) > 1 && lost(seen, told) > 0 {
            seen.all_numbers = (0..self.pages.len()).map(number).collect();
        }
    }

    /// A single directory whose description tells of more pages behind it.
    fn find_block(&mut self, description: &str, seen: &mut Seen) -> Result<(), String> {
        let Some((images, page_bytes)) =
            texts::images_in_one_block(description).filter(|n| *n > 1).zip(self.form.plain_bytes())
        else {
            return Ok(());
        };
        let first = self.directories.at(self.pages[0]).ok_or("page 0 cannot be read")?;
        let strips = self.directories.strips(&first, &self.form, page_bytes).unwrap_or_default();
        let [(begin, _)] = strips[..] else { return Ok(()) };
        let there = (self.directories.length.saturating_sub(begin) / page_bytes) as usize;
        // One page of one: the description is of another file, which the decision then says.
        if there == 1 {
            return Ok(());
        }
        if there < images {
            let length = self.directories.length;
            seen.cut = Some(format!(
                "page {there}: of {images} pages in one block, {there} end within the file's {length} bytes: the file was cut off"
            ));
        }
        self.block = Some(begin);
        seen.pages = there.min(images);
        Ok(())
    }

    /// Height and width, px.
    pub fn side(&self) -> [usize; 2] {
        [self.rows.as_ref().map_or(self.form.height, ExactSizeIterator::len), self.form.width]
    }

    /// How a pixel is stored.
    pub fn pixel_type(&self) -> PixelType {
        self.pixel_type
    }

    /// Did ImageJ keep signed values as unsigned ones?
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// What Micro-Manager wrote about the first pages and the last; empty for other files.
    fn page_metadata(&self) -> Vec<String> {
        let last = self.pages.len() - 1;
        let looked_at = (0..self.pages.len().min(page_metadata::PAGES_MAX)).chain([last]);
        let text = |page: usize| {
            self.directories.at(self.pages[page]).map(|own| self.directories.text(&own, tag::MICRO_MANAGER))
        };
        looked_at.map_while(text).take_while(|text| !text.is_empty()).collect()
    }

    /// Reads a page.
    ///
    /// # Errors
    /// A page that cannot be read; the message names it.
    pub fn read(&mut self, page: usize, slot: &mut [u8]) -> Result<(), String> {
        let Some(rows) = self.rows.clone() else { return self.read_whole(page, slot) };
        let row_bytes = self.form.width * self.pixel_type.bytes();
        let mut whole = std::mem::take(&mut self.page);
        whole.resize(self.form.height * row_bytes, 0);
        let read = self.read_whole(page, &mut whole);
        slot.copy_from_slice(&whole[rows.start * row_bytes..rows.end * row_bytes]);
        self.page = whole;
        read
    }

    fn read_whole(&mut self, page: usize, slot: &mut [u8]) -> Result<(), String> {
        let read = match self.form.plain_bytes() {
            Some(_) => self.read_plain(page, slot),
            None => self.decode(page, slot),
        };
        read.map_err(|cause| {
            format!("page {page} of {} cannot be read: {cause}; the file is damaged or truncated", self.pages.len())
        })?;
        if self.signed {
            // Of value + 32768, the highest bit is the sign turned around.
            slot.as_chunks_mut::<2>().0.iter_mut().for_each(|v| *v = (u16::from_ne_bytes(*v) ^ 0x8000).to_ne_bytes());
        }
        Ok(())
    }

    fn read_plain(&mut self, page: usize, slot: &mut [u8]) -> Result<(), String> {
        let page_bytes = slot.len() as u64;
        let strips = match self.block {
            Some(begin) => vec![(begin + page as u64 * page_bytes, page_bytes)],
            None => {
                let directory = self.directories.at(self.pages[page]).ok_or("its directory is gone")?;
                self.directories.strips(&directory, &self.form, page_bytes).ok_or("its pixels are not where it says")?
            }
        };
        let mut done = 0;
        for (at, bytes) in strips {
            let part = slot.get_mut(done..done + bytes as usize).ok_or("its strips are longer than it")?;
            self.directories.file().read_exact_at(part, at).map_err(|e| e.to_string())?;
            done += bytes as usize;
        }
        let shape = Shape::new(1, self.form.height, self.form.width);
        let big_endian = self.directories.big_endian;
        pixels::in_place(&Layout { shape, pixel_type: self.pixel_type, big_endian, order: Order::C }, slot);
        Ok(())
    }

    fn decode(&mut self, page: usize, slot: &mut [u8]) -> Result<(), String> {
        let text = |e: tiff::TiffError| e.to_string();
        if self.decoder.is_none() {
            let file = self.directories.file().try_clone().map_err(|e| e.to_string())?;
            self.decoder = Some((Decoder::new(BufReader::new(file)).map_err(text)?, 0));
        }
        let Some((decoder, at)) = &mut self.decoder else { return Ok(()) };
        if page != *at {
            let moved = if page == *at + 1 { decoder.next_image() } else { decoder.seek_to_image(page) };
            moved.map_err(text)?;
            *at = page;
        }
        decoder.read_image_bytes(slot).map_err(text)?;
        if self.form.photometric == 0 {
            give_back(self.pixel_type, slot);
        }
        Ok(())
    }

    fn description(&self, page: usize) -> Option<String> {
        let directory = self.directories.at(*self.pages.get(page)?)?;
        Some(self.directories.text(&directory, tag::DESCRIPTION))
    }

    /// Time of a page, s; `None` if it has none.
    pub fn time_s(&self, page: usize) -> Option<f64> {
        self.timed.then(|| page_time_s(&self.description(page)?))?
    }
}

/// The decoder inverts pixels whose white is zero; this undoes it.
fn give_back(pixel_type: PixelType, slot: &mut [u8]) {
    match pixel_type {
        PixelType::F32 => {
            for item in slot.as_chunks_mut::<4>().0 {
                *item = (1.0 - f32::from_ne_bytes(*item)).to_ne_bytes();
            }
        }
        _ => slot.iter_mut().for_each(|byte| *byte = !*byte),
    }
}

/// Most files of a recording that are open at once: channels in files of their own alternate.
const OPEN_MAX: usize = 8;

/// The files of a recording, of which a few are open.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    asked: Asked,
    /// The one used last is the first.
    open: Vec<(usize, TiffFile)>,
}

impl Files {
    pub fn new(paths: Vec<PathBuf>, asked: &Asked) -> Self {
        let asked = Asked { roi: asked.roi, ..Asked::default() };
        Self { paths, asked, open: Vec::with_capacity(OPEN_MAX) }
    }

    /// Keeps a file that is open already, as long as few are.
    pub fn keep(&mut self, index: usize, file: TiffFile) {
        if self.open.len() < OPEN_MAX {
            self.open.push((index, file));
        }
    }

    /// A file, opened again unless it is open.
    pub fn at(&mut self, index: usize) -> Result<&mut TiffFile, SourceError> {
        match self.open.iter().position(|(open, _)| *open == index) {
            Some(place) => self.open[..=place].rotate_right(1),
            None => {
                let path = &self.paths[index];
                let opened = TiffFile::open(path, &self.asked, false).map_err(|cause| file_error(path, cause))?;
                self.open.truncate(OPEN_MAX - 1);
                self.open.insert(0, (index, opened.file));
            }
        }
        Ok(&mut self.open[0].1)
    }

    /// Its path.
    pub fn path(&self, index: usize) -> &Path {
        self.paths.get(index).map_or(Path::new("recording"), PathBuf::as_path)
    }
}
