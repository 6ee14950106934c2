//! Events: plain values that become `event/<source>` messages, log lines and counters.
//!
//! Why it exists: a fault that the daemon survives must still be seen. Every way to reject a frame has a [`Reason`] of its own.
//! What it must never do: hold text that needs memory; events are made on the frame path, which may not allocate.

use super::Sentence;

use super::placement::Placement;

/// Why a message or frame was rejected. Each has a counter of its own in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Reason {
    /// Not 1 to 3 parts.
    Parts,
    /// Header longer than 16 KiB.
    HeaderSize,
    /// Header is not UTF-8 JSON of the documented form.
    HeaderSyntax,
    /// `dtype`/`type` missing, unknown, or contradicting each other.
    PixelType,
    /// `shape` missing, of another rank, zero or too large.
    Shape,
    /// Byte length is not shape × item size.
    Length,
    /// `source`, `series` or a channel name is not a name.
    Name,
    /// `clock`, `stamp`, `order` or `endianness` holds an unknown word, or a number is out of range.
    Field,
    /// Larger than the slots of the lane.
    TooLarge,
    /// Fewer channels, or another plane, than configured.
    Channel,
    /// Geometry or pixel type changed within a series.
    Geometry,
    /// The same frame number as the last frame.
    Repeated,
    /// A frame number below the last one.
    Backwards,
    /// A frame number too far above the last one.
    Jumped,
    /// A frame of another source than the one being decoded.
    OtherSource,
}

impl Reason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 15] = [
        Self::Parts,
        Self::HeaderSize,
        Self::HeaderSyntax,
        Self::PixelType,
        Self::Shape,
        Self::Length,
        Self::Name,
        Self::Field,
        Self::TooLarge,
        Self::Channel,
        Self::Geometry,
        Self::Repeated,
        Self::Backwards,
        Self::Jumped,
        Self::OtherSource,
    ];

    /// The key under `rejected` in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parts => "parts",
            Self::HeaderSize => "header_size",
            Self::HeaderSyntax => "header_syntax",
            Self::PixelType => "pixel_type",
            Self::Shape => "shape",
            Self::Length => "length",
            Self::Name => "name",
            Self::Field => "field",
            Self::TooLarge => "too_large",
            Self::Channel => "channel",
            Self::Geometry => "geometry",
            Self::Repeated => "repeated",
            Self::Backwards => "backwards",
            Self::Jumped => "jumped",
            Self::OtherSource => "other_source",
        }
    }
}

/// Why one message or frame was rejected, for the counter and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its counter.
    pub reason: Reason,
    /// Key, value, bound and what to do.
    pub message: Sentence,
}

/// One event. `Copy`, so that it crosses threads without allocating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A message was rejected (the first of a run with the same reason, then every hundredth).
    Rejected {
        /// Why.
        reason: Reason,
        /// Rejected for this reason since start.
        count: u64,
        /// What is wrong with this one.
        message: Sentence,
    },
    /// A key of the header could not be read and was left out; the frame was taken (the first in a series).
    KeyIgnored {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        message: Sentence,
    },
    /// The shape of the frames is squeezed into another shape of the model's input.
    AspectRatio {
        /// Rows and columns of the frames, px.
        frame_px: [usize; 2],
        /// Of the model's input, px.
        input_px: [usize; 2],
        /// How many times more one direction is reduced than the other.
        ratio: f64,
    },
    /// The sender's numbers jumped.
    Gap {
        /// First frame after the gap.
        frame: u64,
        /// Frames missing.
        missing: u64,
    },
    /// Frames were skipped because decoding was slower than the stream.
    Skipped {
        /// First frame decoded after them.
        frame: u64,
        /// Frames skipped.
        count: u64,
    },
    /// A new acquisition began.
    SeriesBegan {
        /// Its first frame.
        frame: u64,
    },
    /// The sender ended the acquisition.
    SeriesEnded,
    /// The followed file is not the same file any more; what follows is a new acquisition.
    FileLost {
        /// What happened to it: removed, truncated, replaced.
        how: &'static str,
    },
    /// With `--once`: the sender fell silent without ending its series; the run ends all the same.
    EndMissing {
        /// Silence, s.
        silent_s: u64,
    },
    /// The warm-up is over: decodes are valid from here on.
    Ready {
        /// First such frame.
        frame: u64,
    },
    /// The stream's rate differs from the model's by more than 10 %.
    FrameRateOff {
        /// Frames per second received.
        measured_hz: f32,
        /// Frames per second that the model needs: its own rate times the frames it averages.
        needed_hz: f32,
    },
    /// The rate is right again.
    FrameRateBack {
        /// Frames per second received.
        measured_hz: f32,
    },
    /// Frames contain NaN or infinite pixels (reported when it begins).
    NonFinitePixels {
        /// The frame.
        frame: u64,
        /// Pixels in it.
        pixels: u32,
    },
    /// The encoder returned NaN or infinity: this frame has no decode.
    NonFiniteEmbedding {
        /// The frame.
        frame: u64,
    },
    /// The running mean of the novelty exceeded the model's limit: this animal differs from those in training.
    Drift {
        /// The frame.
        frame: u64,
        /// The mean, 0 to 1; 0.5 is expected.
        novelty_mean: f32,
        /// The model's limit.
        limit: f32,
    },
    /// The mean is below the limit again.
    DriftBack {
        /// The frame.
        frame: u64,
        /// The mean.
        novelty_mean: f32,
    },
    /// The animal was laid on the model's atlas.
    Placement {
        /// The frame after which it lies there.
        frame: u64,
        /// How it lies.
        placement: Placement,
    },
    /// The same, but the animal does not look like the atlas: its decodes deserve no trust.
    PlacementPoor {
        /// The frame after which it lies there.
        frame: u64,
        /// How it lies, as far as that can be said.
        placement: Placement,
    },
    /// The measured shift is at the search bound (reported when it begins).
    ShiftAtBound {
        /// The frame.
        frame: u64,
    },
    /// No fresh frame within the deadline: the neutral action was published and the heartbeat stopped.
    Stale {
        /// Age of the last decode, ms.
        age_ms: u64,
    },
    /// Frames arrive again: the heartbeat resumes.
    Recovered {
        /// First frame after the silence.
        frame: u64,
    },
    /// Another model took over, between two frames.
    Swapped {
        /// Its generation.
        generation: u64,
    },
    /// A new model failed in its trial run; the old model keeps running.
    SwapFailed {
        /// The generation it would have had.
        generation: u64,
    },
    /// The GPU failed and, as configured, the CPU took over; the cause is in the log. The warm-up starts again.
    DeviceFault {
        /// The frame that was lost.
        frame: u64,
    },
    /// An outlet's device does not accept decodes (reported when it begins; the status counts).
    OutletLost {
        /// The configuration's section.
        outlet: &'static str,
    },
    /// It accepts them again.
    OutletBack {
        /// The configuration's section.
        outlet: &'static str,
    },
    /// A request over the control socket was carried out.
    Request {
        /// Its name.
        what: &'static str,
    },
    /// A recording started.
    RecordBegan,
    /// A recording was finished properly.
    RecordEnded,
    /// The recorder is behind: frames are decoded but not recorded (reported when it begins).
    RecordLost {
        /// First such frame.
        frame: u64,
        /// Frames not recorded since start, this one included.
        count: u64,
    },
    /// Writing failed: the recording has ended, decoding continues.
    RecordFailed,
    /// The experimenter set a mark; its text is in the recording.
    Mark {
        /// Counted from 1 in each recording.
        number: u64,
    },
    /// A stage failed and the run ends. The cause is in the log and the exit code.
    Fault {
        /// Which stage.
        stage: &'static str,
    },
    /// The daemon is shutting down normally.
    Shutdown,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected { .. }
            | Self::KeyIgnored { .. }
            | Self::AspectRatio { .. }
            | Self::Gap { .. }
            | Self::Skipped { .. }
            | Self::SeriesBegan { .. }
            | Self::SeriesEnded
            | Self::FileLost { .. }
            | Self::EndMissing { .. } => self.fmt_intake(f),
            Self::Ready { frame } => write!(f, "warm-up over: decodes are valid from frame {frame}"),
            Self::FrameRateOff { measured_hz, needed_hz } => write!(
                f,
                "frame rate is {measured_hz:.2} Hz, the model needs {needed_hz:.2} Hz: decodes are degraded; average frames (`preprocess.average_frames`) or use a model trained at this rate"
            ),
            Self::FrameRateBack { measured_hz } => write!(f, "frame rate is right again: {measured_hz:.2} Hz"),
            Self::NonFinitePixels { frame, pixels } => {
                write!(f, "frame {frame} contains {pixels} NaN or infinite pixels")
            }
            Self::NonFiniteEmbedding { frame } => {
                write!(f, "the encoder returned NaN or infinity for frame {frame}, which has no decode")
            }
            Self::Drift { .. } | Self::DriftBack { .. } | Self::Placement { .. } | Self::PlacementPoor { .. } => {
                self.fmt_animal(f)
            }
            Self::ShiftAtBound { frame } => {
                write!(
                    f,
                    "the shift of frame {frame} is at the search bound (`registration.reach_px`): the true shift may be larger"
                )
            }
            Self::Stale { age_ms } => {
                write!(f, "no fresh decode for {age_ms} ms: published the neutral action and stopped the heartbeat")
            }
            Self::Recovered { frame } => write!(f, "frames arrive again from frame {frame}: heartbeat resumed"),
            Self::Swapped { .. } | Self::SwapFailed { .. } | Self::DeviceFault { .. } => self.fmt_takeover(f),
            Self::OutletLost { outlet } => {
                write!(f, "the {outlet} outlet does not accept decodes: its device keeps the last action")
            }
            Self::OutletBack { outlet } => write!(f, "the {outlet} outlet accepts decodes again"),
            Self::Request { what } => write!(f, "request carried out: {what}"),
            Self::RecordBegan | Self::RecordEnded | Self::RecordLost { .. } | Self::RecordFailed => {
                self.fmt_recording(f)
            }
            Self::Mark { number } => write!(f, "mark {number}"),
            Self::Fault { stage } => write!(f, "the {stage} stage failed: published the neutral action, shutting down"),
            Self::Shutdown => write!(f, "shutting down"),
        }
    }
}

impl Event {
    /// The text of an event about what is sent.
    fn fmt_intake(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected { reason, count, message } => {
                write!(f, "message rejected ({}, {count} so far): {message}", reason.name())
            }
            Self::KeyIgnored { message, .. } => {
                write!(f, "left out of the header, the frame is taken without it: {message}")
            }
            Self::AspectRatio { frame_px: [height, width], input_px: [rows, columns], ratio } => write!(
                f,
                "frames of {height}×{width} px are squeezed into the model's input of {rows}×{columns} px: one direction is \
                 reduced {ratio:.2} times as much as the other; right only if the model was trained on frames of this shape"
            ),
            Self::Gap { frame, missing } => write!(f, "{missing} frame(s) missing before frame {frame}"),
            Self::Skipped { frame, count } => {
                write!(f, "{count} frame(s) skipped before frame {frame}: decoding is slower than the stream")
            }
            Self::SeriesBegan { frame } => write!(f, "series began with frame {frame}"),
            Self::SeriesEnded => write!(f, "the sender ended the series"),
            Self::FileLost { how } => {
                write!(f, "the followed file was {how}: what follows is treated as a new acquisition")
            }
            Self::EndMissing { silent_s } => write!(
                f,
                "the sender has been silent for {silent_s} s without ending its series: its end message was lost, or it stopped \
                 mid-series; frames at the end may be missing"
            ),
            _ => Ok(()),
        }
    }

    /// The text of an event about which model or device decodes from now on.
    fn fmt_takeover(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Swapped { generation } => write!(f, "a new model took over: generation {generation}"),
            Self::SwapFailed { generation } => {
                write!(f, "the model of generation {generation} failed on live frames: the old model keeps running")
            }
            Self::DeviceFault { frame } => {
                write!(
                    f,
                    "the device failed at frame {frame}: the CPU took over; template, F₀ and statistics start again"
                )
            }
            _ => Ok(()),
        }
    }

    /// The text of an event about the animal.
    fn fmt_animal(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drift { frame, novelty_mean, limit } => write!(
                f,
                "drift at frame {frame}: mean novelty {novelty_mean:.2} is above the model's limit of {limit:.2}: this animal or rig differs from those in training; check the image, then run `haltere calibrate`"
            ),
            Self::DriftBack { frame, novelty_mean } => {
                write!(f, "drift ended at frame {frame}: mean novelty {novelty_mean:.2}")
            }
            Self::Placement { frame, placement } => {
                write!(f, "the animal is laid on the model's atlas after frame {frame}: {placement}")
            }
            Self::PlacementPoor { frame, placement } => write!(
                f,
                "this animal does not fit the model's atlas (frame {frame}): {placement}; its decodes deserve little trust: check field of view, focus and the channel of registration, then `haltere control reset`"
            ),
            _ => Ok(()),
        }
    }

    /// The text of an event about the recording.
    fn fmt_recording(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RecordBegan => write!(f, "recording started"),
            Self::RecordEnded => write!(f, "recording ended"),
            Self::RecordLost { frame, count } => write!(
                f,
                "the recorder is behind: frame {frame} is decoded but not recorded ({count} so far); use a faster disk or raise `record.queue_frames`"
            ),
            Self::RecordFailed => {
                write!(
                    f,
                    "writing failed: the recording has ended, decoding continues; free disk space, then `record start`"
                )
            }
            _ => Ok(()),
        }
    }
}
