//! Plain values that travel down the corridor: frames, tensors, embeddings, decodes.
//!
//! Why it exists: every stage speaks of the same few nouns, so they live in one place that depends on nothing.
//! What it must never do: IO, threads, clocks. Memory is taken when a value is made and kept for its life, because the
//! frame path may not allocate.

pub mod animal;
pub mod event;
mod event_text;
pub mod placement;
pub mod slot;

mod decision;
mod distrust;
mod embedding;
mod geometry;
mod model_tag;
mod observation;
mod preview;
mod round_trip;
mod scene;
mod sender_clock;
mod sentence;
mod timed_mark;
mod window;

use std::fmt;
use std::str::FromStr;

pub use animal::{AnimalState, Mismatch, SavedAnimal, TakenUp};
pub use decision::{Decision, RULES_MAX, Switch, Switches, TERMS_MAX, Withheld};
pub use distrust::{Distrust, FrameTime, Marks, Relearn, Shown};
pub use embedding::Embedding;
pub use geometry::Geometry;
pub use model_tag::ModelTag;
pub use observation::Observation;
pub use preview::{PREVIEW_SIDE_MAX, PREVIEW_VALUES_MAX, Picture, Preview};
pub use round_trip::{Decided, RoundTrip, RoundTrips, Stage};
pub use scene::Scene;
pub use sender_clock::SenderClock;
pub use sentence::{SENTENCE_BYTES_MAX, Sentence};
pub use slot::{FrameSlot, Request, Requests};
pub use timed_mark::TimedMark;
pub use window::{MISSING_SHARE_MAX, Restart};

/// Channels of one microscope that the corridor understands (functional, and one anatomical for registration).
pub const CHANNELS_MAX: usize = 2;
/// Largest height or width of a frame, px. Beyond it a header is taken for damaged.
pub const SIDE_PX_MAX: usize = 4096;
/// Longest name of a source, a series or a channel, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// How a pixel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PixelType {
    /// 8-bit unsigned counts.
    U8,
    /// 16-bit unsigned counts.
    U16,
    /// 16-bit signed counts; ScanImage sends negative values.
    I16,
    /// 32-bit floating point; may hold NaN, which preprocessing counts.
    F32,
}

impl PixelType {
    /// Bytes of one pixel.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::F32 => 4,
        }
    }

    /// The numpy name, as it stands in headers and manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::F32 => "float32",
        }
    }
}

impl fmt::Display for PixelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Channels × height × width; pixels lie in C order (width fastest).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Number of channels, 1 to [`CHANNELS_MAX`].
    pub channels: usize,
    /// Rows, px.
    pub height: usize,
    /// Columns, px.
    pub width: usize,
}

impl Shape {
    /// A shape; nothing is checked here.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// Pixels of one channel.
    pub const fn plane(self) -> usize {
        self.height * self.width
    }

    /// Pixels of all channels.
    pub const fn pixels(self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// A name that may become part of a topic: `[A-Za-z0-9_.-]`, 1 to 64 bytes, kept inline so that copying never allocates.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    length: u8,
}

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or more than 64 bytes.
    #[error("is {0} bytes long; a name has 1 to {NAME_BYTES_MAX}")]
    Length(usize),
    /// A byte that could forge a topic or break a line.
    #[error("holds the byte {0:#04x}; allowed are A-Z a-z 0-9 _ . -")]
    Byte(u8),
}

impl Name {
    /// A name known when the program is compiled; meant for constants, where an invalid one does not compile.
    ///
    /// # Panics
    /// Outside a constant, when `text` is not a name.
    pub const fn literal(text: &'static str) -> Self {
        let from = text.as_bytes();
        assert!(!from.is_empty() && from.len() <= NAME_BYTES_MAX, "a name has 1 to 64 bytes");
        let mut bytes = [0; NAME_BYTES_MAX];
        let mut index = 0;
        while index < from.len() {
            let byte = from[index];
            assert!(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'), "not a name");
            bytes[index] = byte;
            index += 1;
        }
        Self { bytes, length: from.len() as u8 }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII ever gets in, so the conversion cannot fail.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let length = text.len();
        if length == 0 || length > NAME_BYTES_MAX {
            return Err(NameError::Length(length));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if let Some(byte) = text.bytes().find(|&b| !allowed(b)) {
            return Err(NameError::Byte(byte));
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..length].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: length as u8 })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(|cause| serde::de::Error::custom(format!("{text:?} {cause}")))
    }
}

/// Which clock a device time stamp was read from. Times of different clocks are never subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// `CLOCK_MONOTONIC` of the sending machine; comparable with ours only on the same machine.
    Monotonic,
    /// Nanoseconds since 1970 UTC.
    Unix,
    /// A counter of the microscope, origin unknown.
    Device,
    /// A PTP-disciplined clock.
    Ptp,
}

/// Which point of the exposure a device time stamp marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stamp {
    /// First pixel.
    Start,
    /// Middle of the frame.
    Mid,
    /// Last pixel.
    End,
}

/// The microscope's time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTime {
    /// Nanoseconds on `clock`.
    pub ns: i64,
    /// Clock of the nanoseconds.
    pub clock: Clock,
    /// Which point of the frame, if known.
    pub stamp: Option<Stamp>,
}

/// Everything about a frame but its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameInfo {
    /// Channels × height × width.
    pub shape: Shape,
    /// How the pixels are stored.
    pub pixel_type: PixelType,
    /// Number of the frame: the sender's, or counted by the source when the sender gives none.
    pub number: u64,
    /// Frames missing just before this one, by the sender's numbers.
    pub gap: u64,
    /// What must be added to the number to count frames one by one, see [`FrameInfo::ordinal`]; 0 where the sender does.
    pub ordinal_offset: i64,
    /// The microscope's time, if it sent one (files: derived from their frame rate, `Clock::Device`).
    pub t_device: Option<DeviceTime>,
    /// `CLOCK_MONOTONIC` of this machine when the whole frame had arrived, ns. Stamped by the source.
    pub t_received_ns: u64,
    /// The same in the live run: recorded with the frame, while a replay receives it again. `None` for a frame of a file that holds no
    /// such time. What is computed may depend on this one only.
    pub t_live_ns: Option<u64>,
    /// How old the frame was when it had arrived, ns: by its time stamp, where the clocks can be compared; without a stamp, how
    /// long it may have waited after a standstill. `None` = not known. Only the fail-safe reads it.
    pub age_ns: Option<u64>,
    /// Decoded without being published, because newer frames had already arrived: the compute thread sets it, a replay repeats it.
    pub unpublished: bool,
    /// Which rig.
    pub source: Name,
    /// Which acquisition of the rig; a change may start a new animal.
    pub series: Option<Name>,
    /// True on the first frame of a series, as seen by this daemon.
    pub series_began: bool,
    /// What the sender said of it.
    pub marks: Marks,
    /// The animal, if the sender names it. Not recorded: what a name changes is recorded as requests.
    pub animal: Option<Name>,
}

impl FrameInfo {
    /// The frame's place in its series, counted in frames, missing ones included: the difference of two says how many frame
    /// periods lie between them. The numbers alone do not: a sender may number the planes of a volume one after the other, or
    /// give all of them the same number.
    pub const fn ordinal(&self) -> u64 {
        self.number.wrapping_add_signed(self.ordinal_offset)
    }

    /// Shape and pixel type.
    pub const fn geometry(&self) -> Geometry {
        Geometry { shape: self.shape, pixel_type: self.pixel_type }
    }
}

/// One slot of the lane: the pixels of a frame in aligned memory of fixed capacity, and what is known of it.
///
/// Pixels are native-endian and in C order: sources undo whatever the sender did.
pub struct Frame {
    /// What is known of the frame.
    pub info: FrameInfo,
    memory: Memory,
}

/// Memory for pixels from another allocator, such as memory that a GPU reads directly. Aligned to 64 bytes.
pub trait PixelMemory: Send {
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// All of it, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
}

enum Memory {
    Heap(Vec<CacheLine>),
    Foreign(Box<dyn PixelMemory>),
}

/// Alignment unit of pixel memory: one cache line, one AVX-512 register.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl Frame {
    /// A slot that holds at most `capacity_bytes` of pixels. The only allocation of its life.
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        let info = FrameInfo {
            shape: Shape::default(),
            pixel_type: PixelType::U8,
            number: 0,
            gap: 0,
            ordinal_offset: 0,
            t_device: None,
            t_received_ns: 0,
            t_live_ns: None,
            age_ns: None,
            unpublished: false,
            source: Name { bytes: [0; NAME_BYTES_MAX], length: 0 },
            series: None,
            series_began: false,
            marks: Marks::default(),
            animal: None,
        };
        Self { info, memory: Memory::Heap(vec![CacheLine([0; 64]); capacity_bytes.div_ceil(64)]) }
    }

    /// A slot in memory from another allocator. Memory that is not aligned to 64 bytes is not used: the slot then has the same
    /// size, on the heap.
    pub fn in_memory(memory: Box<dyn PixelMemory>) -> Self {
        let length = memory.bytes().len();
        if memory.bytes().as_ptr().align_offset(64) != 0 {
            return Self::with_capacity(length);
        }
        Self { memory: Memory::Foreign(memory), ..Self::with_capacity(0) }
    }

    /// Bytes this slot can hold.
    pub fn capacity_bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(lines) => lines.len() * 64,
            Memory::Foreign(memory) => memory.bytes().len(),
        }
    }

    /// Bytes the frame occupies, by its shape and pixel type.
    pub fn len_bytes(&self) -> usize {
        self.info.shape.pixels() * self.info.pixel_type.bytes()
    }

    /// The pixels as raw bytes, native-endian, C order.
    ///
    /// # Panics
    /// If `info` describes more than the slot holds; sources check that before they fill a slot.
    pub fn bytes(&self) -> &[u8] {
        let all = match &self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice(lines),
            Memory::Foreign(memory) => memory.bytes(),
        };
        &all[..self.len_bytes()]
    }

    /// The pixels as raw bytes, to be written by a source.
    ///
    /// # Panics
    /// As [`Frame::bytes`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.len_bytes();
        let all = match &mut self.memory {
            Memory::Heap(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Foreign(memory) => memory.bytes_mut(),
        };
        &mut all[..length]
    }

    /// The pixels with their type.
    pub fn pixels(&self) -> Pixels<'_> {
        let bytes = self.bytes();
        // The memory is 64-byte aligned and `len_bytes` is a multiple of the pixel size: no cast can fail.
        match self.info.pixel_type {
            PixelType::U8 => Pixels::U8(bytes),
            PixelType::U16 => Pixels::U16(bytemuck::cast_slice(bytes)),
            PixelType::I16 => Pixels::I16(bytemuck::cast_slice(bytes)),
            PixelType::F32 => Pixels::F32(bytemuck::cast_slice(bytes)),
        }
    }
}

/// Pixels of all channels, C order, by type.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// 8-bit unsigned.
    U8(&'a [u8]),
    /// 16-bit unsigned.
    U16(&'a [u16]),
    /// 16-bit signed.
    I16(&'a [i16]),
    /// 32-bit float.
    F32(&'a [f32]),
}

/// One preprocessed frame, channels × height × width of the model, C order, where the encoder wants it.
#[derive(Clone, Copy, Debug)]
pub enum Tensor<'a> {
    /// In host memory.
    Host(&'a [f32]),
    /// In the memory of a GPU.
    Cuda(&'a dyn DeviceTensor),
}

impl<'a> Tensor<'a> {
    /// The values in host memory: where they are, or copied into `staging`, which has room for all of them.
    ///
    /// # Errors
    /// The device's words.
    pub fn to_host(&self, staging: &'a mut [f32]) -> Result<&'a [f32], String> {
        match self {
            Self::Host(values) => Ok(values),
            Self::Cuda(tensor) => {
                let length = tensor.len();
                let staging = staging.get_mut(..length).ok_or("too little room for the tensor")?;
                tensor.copy_to(staging).map(|()| &*staging)
            }
        }
    }
}

/// A tensor in the memory of a GPU, finished: whatever is asked of its stream from now on sees it whole.
pub trait DeviceTensor: fmt::Debug {
    /// Where it lies, to the device.
    fn address(&self) -> u64;
    /// Its values.
    fn len(&self) -> usize;
    /// Has it none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Are all of them numbers?
    fn is_finite(&self) -> bool;
    /// Copies it to the host; waits for the device, so it is for pictures and tests, not for decodes.
    ///
    /// # Errors
    /// The device's words.
    fn copy_to(&self, into: &mut [f32]) -> Result<(), String>;
}

/// How far to trust a decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Everything is as the model expects.
    Ok,
    /// Template, baseline, statistics or window are still being filled.
    #[default]
    Warmup,
    /// No fresh frame within the deadline: the action is the neutral one.
    Stale,
    /// Decoded, but with a fault (frame rate, registration at its bound, non-finite pixels): see the event.
    Degraded,
    /// A stage failed or the daemon is shutting down: the action is the neutral one.
    Fail,
}

impl Quality {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Degraded, Self::Warmup, Self::Stale, Self::Fail];

    /// The code where text is not possible (Lab Streaming Layer, NWB): its index in [`Self::ALL`].
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::Warmup => 2,
            Self::Stale => 3,
            Self::Fail => 4,
        }
    }

    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warmup => "warmup",
            Self::Stale => "stale",
            Self::Degraded => "degraded",
            Self::Fail => "fail",
        }
    }
}

/// Latency of one decode by stage, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// From receipt to the start of preprocessing: waiting in the lane.
    pub queue_ns: u64,
    /// Preprocessing.
    pub preprocess_ns: u64,
    /// Encoding.
    pub encode_ns: u64,
}

/// One decode on its way to the sinks. Slots of the second lane; memory is made once.
#[derive(Clone, Debug)]
pub struct Decode {
    /// The frame it was decoded from.
    pub frame: FrameInfo,
    /// What preprocessing measured.
    pub observation: Observation,
    /// The encoder's output.
    pub embedding: Embedding,
    /// How far to trust it.
    pub quality: Quality,
    /// Why the window is being filled anew, while it is and preprocessing is ready.
    pub restart: Option<Restart>,
    /// Frames that the lane skipped since the decode published before this one (overload), by `skip-to-latest`.
    pub skipped: u64,
    /// Frames decoded without being published since then.
    pub caught_up: u64,
    /// Index of the most probable label; `None` when the model has no labels, is untrained, or still warms up.
    pub action: Option<usize>,
    /// Number of the model since the start, from [`FIRST_GENERATION`].
    pub generation: u64,
    /// Latency by stage.
    pub times: StageTimes,
    /// Whose embedding and action these are.
    pub shown: Shown,
    /// While it warms up: frames of the stream left until a decode is `ok`, this one's not counted.
    pub warmup_left: u32,
    /// What the rules decided with it; there is room for one decision of each.
    pub decisions: Vec<Decision>,
    /// The action by `[decision.action]`; `None` = that of the decode itself.
    pub smoothed: Option<usize>,
}

impl Decode {
    /// A slot of the decode lane; nothing in it is valid yet but the sizes of the embedding.
    pub fn with_embedding(embedding: Embedding) -> Self {
        Self {
            frame: Frame::with_capacity(0).info,
            observation: Observation::default(),
            embedding,
            quality: Quality::Warmup,
            restart: None,
            skipped: 0,
            caught_up: 0,
            action: None,
            generation: FIRST_GENERATION,
            times: StageTimes::default(),
            shown: Shown::Own,
            warmup_left: 0,
            decisions: Vec::with_capacity(RULES_MAX),
            smoothed: None,
        }
    }

    /// The action to be published, if any is.
    pub fn published_action(&self) -> Option<usize> {
        // Where the decode has none, neither has the rule.
        self.action.map(|action| self.smoothed.unwrap_or(action))
    }
}

/// Generation of the model that a daemon starts with.
pub const FIRST_GENERATION: u64 = 1;
