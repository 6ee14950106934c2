//! One TwoPhotonSeries: its geometry, and its frames in blocks of whole chunks.
//!
//! Why it exists: NWB's chunks hold many frames, and decompressing a chunk for each of them would repeat the work. What it must never
//! do: hold more than one block.

use std::path::{Path, PathBuf};

use bytemuck::try_cast_slice_mut;
use rust_hdf5::swmr::SwmrFileReader;
use rust_hdf5::{ByteOrder, DatatypeMessage, FileLocking, H5Dataset, H5File};

use super::find::{find, split};
use super::times::Times;
use crate::frame::{PixelType, SIDE_PX_MAX, Shape};
use crate::source::SourceError;
use crate::source::recording::{Axis, Walk, choose_plane, file_error};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

/// Most bytes decompressed at once, unless a single frame is larger.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// Largest chunk of a file, bytes.
const CHUNK_BYTES_MAX: usize = 1 << 30;

/// The frames of one series.
pub(super) struct Series {
    path: PathBuf,
    /// Path in the file.
    name: String,
    reader: SwmrFileReader,
    /// For frames that lie in the file as they go into a slot: they are read there at once, without a block between.
    direct: Option<H5Dataset>,
    geometry: Geometry,
    /// Frame numbers in `block`.
    held: std::ops::Range<u64>,
    block: Vec<u8>,
}

/// Which axis of a frame the data set has first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// (time, rows, columns), as arrays are usually written.
    RowsFirst,
    /// (time, x, y), as NWB orders them.
    ColumnsFirst,
}

impl Orientation {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowsFirst => "rows-first",
            Self::ColumnsFirst => "columns-first",
        }
    }
}

impl std::str::FromStr for Orientation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::RowsFirst, Self::ColumnsFirst]
            .into_iter()
            .find(|orientation| orientation.name() == text)
            .ok_or_else(|| format!("{text:?} is neither rows-first nor columns-first"))
    }
}

/// Nothing in the file decides.
pub(super) const BY_DEFAULT: &str = "NWB's own order, because the file does not say";

/// Layout of the frames in the data set.
struct Geometry {
    /// Sides of the data set after its time axis.
    sides: Vec<usize>,
    layout: Layout,
    orientation: (Orientation, &'static str),
    /// What the file's `dimension` says, where that is not the data's sides in any order.
    contradicting: Option<[i64; 2]>,
    planes: usize,
    /// Positions along time or depth.
    walk: Walk,
    /// Frames follow each other along depth: a stack without time.
    deep: bool,
    plane: usize,
    frames_per_block: u64,
}

impl Series {
    /// Opens a series and reads its times, unless a rate is given.
    pub fn open(
        path: &Path,
        plane: Option<u64>,
        rate_hz: Option<f64>,
        orientation: Option<Orientation>,
    ) -> Result<(Self, Times), SourceError> {
        let (path, wanted) = split(path);
        let fail = |cause: String| file_error(&path, cause);
        if !path.is_file() {
            return Err(fail("no such file".to_owned()));
        }
        super::whole::check(&path).map_err(fail)?;
        let unreadable = |cause: rust_hdf5::Hdf5Error| {
            fail(format!(
                "cannot be read as HDF5 (the format of NWB): {cause}; it is damaged or truncated (an interrupted download?)"
            ))
        };
        let mut reader = SwmrFileReader::open_with_locking(&path, FileLocking::BestEffort).map_err(unreadable)?;
        let name = find(&mut reader, &path, wanted.as_deref()).map_err(fail)?;
        let file = H5File::options().best_effort_locking().open(&path).map_err(unreadable)?;
        let of_series = |cause: String| fail(format!("/{name}: {cause}"));
        let geometry = Geometry::read(&file, &name, plane, orientation).map_err(of_series)?;
        let times = match rate_hz {
            Some(rate_hz) => Times::of_rate(rate_hz),
            // The single time of a stack does not apply to its planes.
            None if geometry.deep => Times::Unknown,
            None => Times::read(&file, &name, geometry.walk.count as u64).map_err(of_series)?,
        };
        let direct = geometry.lies_as_it_goes().then(|| file.dataset(&format!("{name}/data")).ok()).flatten();
        let (held, block) = (0..0, Vec::new());
        Ok((Self { path, name, reader, direct, geometry, held, block }, times))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The series in it.
    pub fn name(&self) -> String {
        format!("/{}", self.name)
    }

    /// Height and width, px.
    pub fn sides(&self) -> [usize; 2] {
        let shape = self.geometry.layout.shape;
        [shape.height, shape.width]
    }

    /// How a pixel is stored.
    pub fn pixel_type(&self) -> PixelType {
        self.geometry.layout.pixel_type
    }

    /// Number of frames.
    pub fn frames(&self) -> u64 {
        self.geometry.walk.count as u64
    }

    /// Planes of a volume.
    pub fn planes(&self) -> usize {
        self.geometry.planes
    }

    /// Which axis comes first, and what decided that.
    pub fn orientation(&self) -> (Orientation, &'static str) {
        self.geometry.orientation
    }

    /// What the file's `dimension` (x, y) says, where the data have other sides.
    pub fn contradicting_dimension(&self) -> Option<[i64; 2]> {
        self.geometry.contradicting
    }

    /// Can both be channels of one recording?
    pub fn is_like(&self, other: &Self) -> bool {
        let traits = |series: &Self| (series.sides(), series.pixel_type(), series.frames());
        traits(self) == traits(other)
    }

    /// For messages.
    pub fn describe(&self) -> String {
        let [height, width] = self.sides();
        format!("{} frames of {height}×{width} {}", self.frames(), self.pixel_type())
    }

    /// Reads one frame into its part of a slot.
    pub fn read(&mut self, frame: u64, slot: &mut [u8]) -> Result<(), SourceError> {
        if let Some(read) = self.read_direct(frame, slot) {
            return read.map_err(|cause| self.unreadable(frame, cause));
        }
        if !self.held.contains(&frame) {
            self.fetch(frame)?;
        }
        let bytes = self.geometry.layout.bytes();
        let at = (frame - self.held.start) as usize * bytes;
        let Some(payload) = self.block.get(at..at + bytes) else {
            return Err(self.unreadable(frame, "its data are shorter than declared"));
        };
        pixels::copy(&self.geometry.layout, payload, slot);
        Ok(())
    }

    /// Reads a frame into its slot without a block between; `None` where that is not possible.
    fn read_direct(&self, frame: u64, slot: &mut [u8]) -> Option<rust_hdf5::Result<()>> {
        let data = self.direct.as_ref()?;
        let starts = [frame as usize, 0, 0];
        let counts = [1, *self.geometry.sides.first()?, *self.geometry.sides.get(1)?];
        Some(match self.geometry.layout.pixel_type {
            PixelType::U8 => data.read_slice_into::<u8>(slot, &starts, &counts),
            PixelType::U16 => data.read_slice_into::<u16>(try_cast_slice_mut(slot).ok()?, &starts, &counts),
            PixelType::I16 => data.read_slice_into::<i16>(try_cast_slice_mut(slot).ok()?, &starts, &counts),
            PixelType::F32 => data.read_slice_into::<f32>(try_cast_slice_mut(slot).ok()?, &starts, &counts),
        })
    }

    /// Reads the block that holds a frame.
    fn fetch(&mut self, frame: u64) -> Result<(), SourceError> {
        let geometry = &self.geometry;
        let first = frame / geometry.frames_per_block * geometry.frames_per_block;
        let count = geometry.frames_per_block.min(self.frames() - first);
        let (starts, counts) = geometry.selection(first, count);
        // Freed before the next block is allocated.
        self.block = Vec::new();
        let read = self.reader.read_slice_raw(&format!("{}/data", self.name), &starts, &counts);
        self.block = read.map_err(|cause| self.unreadable(frame, cause))?;
        self.held = first..first + count;
        Ok(())
    }

    fn unreadable(&self, frame: u64, cause: impl std::fmt::Display) -> SourceError {
        let of = self.frames();
        file_error(
            &self.path,
            format!("/{}: frame {frame} of {of} cannot be read: {cause}; the file is damaged or truncated", self.name),
        )
    }
}

impl Geometry {
    fn read(file: &H5File, series: &str, plane: Option<u64>, orientation: Option<Orientation>) -> Result<Self, String> {
        if let Ok(external) = file.dataset(&format!("{series}/external_file")) {
            let files = external.read_strings_lossy().unwrap_or_default();
            return Err(format!(
                "its frames are not in this file but in {}; if that is a TIFF, use it instead",
                files.join(", ")
            ));
        }
        let data = file.dataset(&format!("{series}/data")).map_err(|cause| format!("has no readable data: {cause}"))?;
        let (pixel_type, big_endian) = pixel(&data)?;
        let shape = data.shape();
        let (times, first, second, depth) = match *shape.as_slice() {
            [times, first, second] => (times, first, second, None),
            [times, first, second, depth] => (times, first, second, Some(depth)),
            _ => {
                return Err(format!(
                    "its data have the shape {shape:?}; frames are (time, x, y), volumes (time, x, y, z)"
                ));
            }
        };
        if [first, second].iter().any(|side| !(1..=SIDE_PX_MAX).contains(side)) {
            return Err(format!("is {first}×{second} px; sides of 1 to {SIDE_PX_MAX} px are supported"));
        }
        if times == 0 || depth == Some(0) {
            return Err("contains no frame".to_owned());
        }
        check_filters(&data)?;
        let planes = depth.unwrap_or(1);
        let walk = choose_plane(Axis::new(planes, 1), Axis::new(times, 1), plane)?;
        let deep = plane.is_none() && times == 1 && depth.is_some_and(|depth| depth > 1);
        let plane = plane.unwrap_or(0) as usize;
        let dimension = dimension(file, series);
        let orientation = match orientation {
            Some(orientation) => (orientation, "--orientation"),
            None => written(dimension, [first, second]).unwrap_or((Orientation::ColumnsFirst, BY_DEFAULT)),
        };
        let sides = [first as i64, second as i64];
        let contradicting = dimension.filter(|[x, y]| ![[*x, *y], [*y, *x]].contains(&sides));
        let (order, height, width) = match orientation.0 {
            Orientation::RowsFirst => (Order::C, first, second),
            Orientation::ColumnsFirst => (Order::F, second, first),
        };
        let layout = Layout { shape: Shape::new(1, height, width), pixel_type, big_endian, order };
        let chunk = data.chunk_dims().unwrap_or_default();
        let chunk_bytes = chunk.iter().try_fold(pixel_type.bytes(), |bytes, side| bytes.checked_mul(*side));
        if chunk_bytes.is_none_or(|bytes| bytes > CHUNK_BYTES_MAX) {
            return Err(format!(
                "is stored in chunks of {chunk:?} pixels; each is read into memory whole and may have at most {CHUNK_BYTES_MAX} bytes"
            ));
        }
        let chunked = chunk.first().copied().unwrap_or(1);
        let fit = (BLOCK_BYTES_MAX / layout.bytes()).max(1);
        let frames_per_block = if deep { 1 } else { chunked.clamp(1, fit) as u64 };
        let sides = shape[1..].to_vec();
        Ok(Self { sides, layout, orientation, contradicting, planes, walk, deep, plane, frames_per_block })
    }

    /// Is every frame stored by itself, in the order of a slot?
    fn lies_as_it_goes(&self) -> bool {
        self.sides.len() == 2 && self.frames_per_block == 1 && self.layout.order == Order::C && !self.layout.big_endian
    }

    /// Start and count along each axis for `count` frames from `first` on.
    fn selection(&self, first: u64, count: u64) -> (Vec<u64>, Vec<u64>) {
        let sides = &self.sides;
        let (mut starts, mut counts) = (vec![first, 0, 0], vec![count, sides[0] as u64, sides[1] as u64]);
        if sides.len() == 3 {
            starts.push(if self.deep { first } else { self.plane as u64 });
            counts.push(1);
        }
        if self.deep {
            (starts[0], counts[0]) = (0, 1);
        }
        (starts, counts)
    }
}

/// How pixels are stored, and whether their most significant byte comes first.
fn pixel(data: &H5Dataset) -> Result<(PixelType, bool), String> {
    let kind = data.datatype().map_err(|cause| format!("its data are of a type that cannot be read: {cause}"))?;
    let big = |order: ByteOrder| order != ByteOrder::LittleEndian;
    let float = DatatypeMessage::f32_type().ieee_format();
    match kind {
        DatatypeMessage::FixedPoint { size: 1, signed: false, bit_offset: 0, bit_precision: 8, .. } => {
            Ok((PixelType::U8, false))
        }
        DatatypeMessage::FixedPoint { size: 2, signed, byte_order, bit_offset: 0, bit_precision: 16 } => {
            Ok((if signed { PixelType::I16 } else { PixelType::U16 }, big(byte_order)))
        }
        DatatypeMessage::FloatingPoint { size: 4, byte_order, .. } if kind.ieee_format() == float => {
            Ok((PixelType::F32, big(byte_order)))
        }
        other => Err(format!("its pixels are {other}; uint8, uint16, int16 and float32 are supported")),
    }
}

/// The file's `dimension`: x, y.
fn dimension(file: &H5File, series: &str) -> Option<[i64; 2]> {
    let all = file.dataset(&format!("{series}/dimension")).and_then(|data| data.read_numeric_as::<i64>()).ok()?;
    all.first_chunk().copied()
}

/// What `dimension` (x, y) shows: NWB orders data (time, x, y), but many files hold (time, y, x). Square frames show nothing.
fn written(dimension: Option<[i64; 2]>, [first, second]: [usize; 2]) -> Option<(Orientation, &'static str)> {
    let [x, y] = dimension?;
    let by = "the series' `dimension`";
    if first == second {
        return None;
    }
    match (x, y) {
        _ if (x, y) == (second as i64, first as i64) => Some((Orientation::RowsFirst, by)),
        _ if (x, y) == (first as i64, second as i64) => Some((Orientation::ColumnsFirst, by)),
        _ => None,
    }
}

/// Filters that are read (numbers by The HDF Group's list): deflate, shuffle, Fletcher's checksum, szip, n-bit, scale-offset, LZF,
/// Bitshuffle, BitGroom, BitRound.
const FILTERS_READ: [u16; 10] = [1, 2, 3, 4, 5, 6, 32000, 32008, 32022, 32023];

/// # Errors
/// The name of a compression that is not read, and how to save the file otherwise.
fn check_filters(data: &H5Dataset) -> Result<(), String> {
    let Ok(filters) = data.filters() else { return Ok(()) };
    let Some(other) = filters.iter().map(|filter| filter.id).find(|id| !FILTERS_READ.contains(id)) else {
        return Ok(());
    };
    let name = match other {
        305 => "LZO",
        307 => "bzip2",
        32001 | 32026 => "Blosc",
        32004 => "LZ4",
        32013 => "ZFP",
        32015 => "Zstandard",
        32019 => "JPEG",
        _ => "an unknown filter",
    };
    Err(format!(
        "its data are compressed with {name} (HDF5 filter {other}), which this program does not read; deflate (gzip), LZF and szip are \
         read: rewrite the file with one of them, e.g. h5repack -f GZIP=4 old.nwb new.nwb (with the filter's plugin, from hdf5plugin, installed)"
    ))
}
