//! The frames as TwoPhotonSeries, one for each channel, written frame by frame.
//!
//! Why it exists: a session may be larger than memory. What it must never do: hold more than a chunk of pixels, or write a row for a
//! frame that is missing.
//!
//! NWB's order is (time, x, y): a frame lies transposed.

use std::path::Path;

use anyhow::{Context, anyhow};
use rust_hdf5::{DatatypeMessage, H5Dataset, H5Group, Result};

use super::h5::{DEFLATE_LEVEL, Nwb, Series, Times, array, text, times_of, unit};
use super::timeline::Timeline;
use crate::frame::{Clock, DeviceTime, FrameInfo, PixelType, Shape};
use crate::session::{Item, Reader, Topic, layout};
use crate::sys::exit::{ExitCode, Failure};
use crate::wire::frame_header::Order;
use crate::wire::pixels::{self, Layout};

/// Bytes of a chunk, if a frame is not larger.
const CHUNK_BYTES: usize = 512 << 10;

/// The channels' imaging planes, and the names of their series.
pub(super) struct Channels<'a> {
    /// `/acquisition`.
    pub acquisition: &'a H5Group,
    /// Suffixes of the names, such as `-green`; empty for a single channel.
    pub suffixes: Vec<String>,
    /// Path of each channel's ImagingPlane.
    pub planes: Vec<String>,
}

/// Writes all frames of a session; returns their number.
pub(super) fn write(
    nwb: &Nwb,
    session: &Path,
    channels: &Channels<'_>,
    timeline: Timeline,
    mut each: impl FnMut(u64),
) -> anyhow::Result<u64> {
    let no_source = || Failure { code: ExitCode::Source, what: session.display().to_string() };
    let no_sink = || Failure { code: ExitCode::Sink, what: "the NWB file cannot be written".to_owned() };
    let mut reader = Reader::open(session).with_context(no_source)?;
    let (mut part, mut parts, mut written) = (None::<Part>, 0, 0);
    while let Some(item) = reader.read().with_context(no_source)? {
        let Item::Message { topic: Topic::Frames, data, .. } = item else { continue };
        let info = layout::read(&data).map_err(|cause| anyhow!("a frame {cause}")).with_context(no_source)?.0;
        if let Some(done) = part.take_if(|part| !part.takes(&info)) {
            done.end(nwb, channels, timeline).with_context(no_sink)?;
        }
        let part = match &mut part {
            Some(part) => part,
            none => {
                parts += 1;
                none.insert(Part::begin(nwb, channels, &info, parts).with_context(no_sink)?)
            }
        };
        part.take(&info, &data[layout::HEAD_BYTES..]).with_context(no_sink)?;
        written += 1;
        each(written);
    }
    if let Some(part) = part {
        part.end(nwb, channels, timeline).with_context(no_sink)?;
    }
    Ok(written)
}

/// Frames of one geometry.
struct Part {
    /// Suffix of the names: empty for the first part.
    suffix: String,
    shape: Shape,
    pixel_type: PixelType,
    movies: Vec<Movie>,
    t_received_ns: Vec<u64>,
    numbers: Vec<u64>,
    devices: Vec<Option<DeviceTime>>,
}

impl Part {
    fn begin(nwb: &Nwb, channels: &Channels<'_>, info: &FrameInfo, number: usize) -> Result<Self> {
        let suffix = if number == 1 { String::new() } else { format!("-part{number}") };
        let (shape, pixel_type) = (info.shape, info.pixel_type);
        let named = channels.suffixes.iter().zip(&channels.planes).take(shape.channels);
        let movies = named.map(|(name, plane)| {
            let name = format!("TwoPhotonSeries{name}{suffix}");
            Movie::begin(nwb, channels.acquisition, &name, plane, shape, pixel_type)
        });
        let movies = movies.collect::<Result<_>>()?;
        let (t_received_ns, numbers, devices) = Default::default();
        Ok(Self { suffix, shape, pixel_type, movies, t_received_ns, numbers, devices })
    }

    fn takes(&self, info: &FrameInfo) -> bool {
        (self.shape, self.pixel_type) == (info.shape, info.pixel_type)
    }

    fn take(&mut self, info: &FrameInfo, pixels: &[u8]) -> Result<()> {
        let plane_bytes = self.shape.plane() * self.pixel_type.bytes();
        for (movie, plane) in self.movies.iter_mut().zip(pixels.chunks_exact(plane_bytes)) {
            movie.take(plane)?;
        }
        self.t_received_ns.push(info.t_received_ns);
        self.numbers.push(info.number);
        self.devices.push(info.t_device);
        Ok(())
    }

    fn end(self, nwb: &Nwb, channels: &Channels<'_>, timeline: Timeline) -> Result<()> {
        let seconds: Vec<f64> = self.t_received_ns.iter().map(|ns| timeline.seconds(*ns)).collect();
        let mut at = None::<String>;
        for movie in self.movies {
            let times = at.as_deref().map_or(Times::Own(&seconds), Times::At);
            at = Some(movie.end(&times)?);
        }
        let times = at.as_deref().map_or(Times::Own(&seconds), Times::At);
        let (name, description) = (
            format!("FrameNumber{}", self.suffix),
            "Frame numbers as sent by the microscope: a step above 1 is a gap.",
        );
        let about = Series { name: &name, description, unit: "n.a.", conversion: 1.0 };
        nwb.series(channels.acquisition, &about, None, &self.numbers, &times)?;
        for (clock, words) in CLOCKS {
            let stamped = self.devices.iter().zip(&seconds).filter_map(|(device, at)| Some((device.as_ref()?, *at)));
            let (ns, own): (Vec<i64>, Vec<f64>) =
                stamped.filter(|(device, _)| device.clock == clock).map(|(device, at)| (device.ns, at)).unzip();
            if ns.is_empty() {
                continue;
            }
            let name = format!("MicroscopeTime-{}{}", name_of(clock), self.suffix);
            let description = format!("The microscope's time stamp of each frame, {words}; at the times of receipt.");
            let about = Series { name: &name, description: &description, unit: "nanoseconds", conversion: 1.0 };
            let times = if ns.len() == seconds.len() { &times } else { &Times::Own(&own) };
            nwb.series(channels.acquisition, &about, None, &ns, times)?;
        }
        Ok(())
    }
}

const CLOCKS: [(Clock, &str); 4] = [
    (Clock::Monotonic, "by CLOCK_MONOTONIC of the sending machine"),
    (Clock::Unix, "since 1970, UTC"),
    (Clock::Device, "by a counter of the microscope with unknown origin"),
    (Clock::Ptp, "by a PTP clock"),
];

fn name_of(clock: Clock) -> &'static str {
    match clock {
        Clock::Monotonic => "monotonic",
        Clock::Unix => "unix",
        Clock::Device => "device",
        Clock::Ptp => "ptp",
    }
}

/// One series being written.
struct Movie {
    group: H5Group,
    data: H5Dataset,
    /// Transposed: width × height.
    layout: Layout,
    frames_per_chunk: usize,
    /// The incomplete chunk.
    chunk: Vec<u8>,
    frames: usize,
}

impl Movie {
    fn begin(
        nwb: &Nwb,
        acquisition: &H5Group,
        name: &str,
        plane: &str,
        shape: Shape,
        pixel_type: PixelType,
    ) -> Result<Self> {
        let group = nwb.object(acquisition, name, ("core", "TwoPhotonSeries"))?;
        group.set_attr_string(
            "description",
            "Raw frames as received, (time, x, y); a frame that was lost or skipped has no row.",
        )?;
        group.create_soft_link("imaging_plane", plane)?;
        text(&group, "format", "raw")?;
        array(&group, "dimension", &[2], &[shape.width as i32, shape.height as i32])?;
        // A frame of height × width, read column by column, is one of width × height.
        let turned = Shape::new(1, shape.width, shape.height);
        let layout = Layout { shape: turned, pixel_type, big_endian: cfg!(target_endian = "big"), order: Order::F };
        let frames_per_chunk = (CHUNK_BYTES / layout.bytes()).max(1);
        let sides = [shape.width, shape.height];
        let builder = group
            .new_dataset::<u8>()
            .datatype(stored(pixel_type))
            .shape([0, sides[0], sides[1]])
            .chunk(&[frames_per_chunk, sides[0], sides[1]])
            .max_shape(&[None, Some(sides[0]), Some(sides[1])]);
        let data = builder.shuffle_deflate(DEFLATE_LEVEL).create("data")?;
        unit(&data, "n.a.", 1.0)?;
        let chunk = Vec::with_capacity(frames_per_chunk * layout.bytes());
        Ok(Self { group, data, layout, frames_per_chunk, chunk, frames: 0 })
    }

    fn take(&mut self, plane: &[u8]) -> Result<()> {
        let from = self.chunk.len();
        self.chunk.resize(from + self.layout.bytes(), 0);
        pixels::copy(&self.layout, plane, &mut self.chunk[from..]);
        self.frames += 1;
        if self.frames.is_multiple_of(self.frames_per_chunk) {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the chunk, padded with zeros beyond the end.
    fn flush(&mut self) -> Result<()> {
        self.chunk.resize(self.frames_per_chunk * self.layout.bytes(), 0);
        self.data.write_chunk((self.frames - 1) / self.frames_per_chunk, &self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    fn end(mut self, times: &Times<'_>) -> Result<String> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        self.data.extend(&[self.frames, self.layout.shape.height, self.layout.shape.width])?;
        times_of(&self.group, times)
    }
}

fn stored(pixel_type: PixelType) -> DatatypeMessage {
    match pixel_type {
        PixelType::U8 => DatatypeMessage::u8_type(),
        PixelType::U16 => DatatypeMessage::u16_type(),
        PixelType::I16 => DatatypeMessage::i16_type(),
        PixelType::F32 => DatatypeMessage::f32_type(),
    }
}
