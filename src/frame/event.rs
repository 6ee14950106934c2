//! What happened beside the decodes: plain values that become `event/<source>` messages, log lines and counters.
//!
//! Why it exists: what is survivable must still be seen. Every way a frame can be refused has a [`Reason`] of its own.
//! What it must never do: hold text that was made at run time; an event is made on the frame path, which may not allocate.

/// Why a message or frame was refused. Each has a counter of its own in the status.
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
    /// A frame number that was seen last.
    Repeated,
    /// A frame number that went back.
    Backwards,
}

impl Reason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 13] = [
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
        }
    }
}

/// One thing that happened. `Copy`, so that it crosses threads without memory of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A message was refused (the first of a run of equal reasons, then every hundredth).
    Rejected {
        /// Why.
        reason: Reason,
        /// Refused for this reason since start.
        count: u64,
    },
    /// The sender's numbers jumped.
    Gap {
        /// First frame after the gap.
        frame: u64,
        /// Frames missing.
        missing: u64,
    },
    /// Frames were skipped because computing was slower than the stream.
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
    /// The sender said that the acquisition is over.
    SeriesEnded,
    /// The file that is followed is no more the one that it was; what comes is another acquisition.
    FileLost {
        /// What became of it: removed, truncated, replaced.
        how: &'static str,
    },
    /// With `--once`: the sender fell silent and never said that its series ended; the run ends without that word.
    EndMissing {
        /// How long it had been silent, s.
        silent_s: u64,
    },
    /// The warm-up is over: decodes count from here.
    Ready {
        /// First such frame.
        frame: u64,
    },
    /// The stream's rate is more than 10 % off the model's.
    FrameRateOff {
        /// Frames per second that come.
        measured_hz: f32,
        /// Frames per second that the model needs: its own rate times the frames it averages.
        needed_hz: f32,
    },
    /// The rate fits again.
    FrameRateBack {
        /// Frames per second that come.
        measured_hz: f32,
    },
    /// Frames hold NaN or infinite pixels (said when it begins).
    NonFinitePixels {
        /// The frame.
        frame: u64,
        /// Pixels in it.
        pixels: u32,
    },
    /// The encoder gave NaN or infinite values: this frame has no decode.
    NonFiniteEmbedding {
        /// The frame.
        frame: u64,
    },
    /// The running mean of the novelty exceeded the model's limit: this animal is not like those of training.
    Drift {
        /// The frame.
        frame: u64,
        /// The mean, 0 to 1; 0.5 is expected.
        novelty_mean: f32,
        /// The model's limit.
        limit: f32,
    },
    /// The mean fell back.
    DriftBack {
        /// The frame.
        frame: u64,
        /// The mean.
        novelty_mean: f32,
    },
    /// The measured shift touches the search bound (said when it begins).
    ShiftAtBound {
        /// The frame.
        frame: u64,
    },
    /// No fresh frame within the deadline: the neutral action was published and the heartbeat stopped.
    Stale {
        /// Age of the last decode, ms.
        age_ms: u64,
    },
    /// Frames are back: the heartbeat runs again.
    Recovered {
        /// First frame after the silence.
        frame: u64,
    },
    /// Another model took over, between two frames.
    Swapped {
        /// Its generation.
        generation: u64,
    },
    /// A model that was to take over failed in the shadow of the old one, which goes on.
    SwapFailed {
        /// The generation that it would have had.
        generation: u64,
    },
    /// The GPU failed, and the CPU took over because the configuration says so; the cause is in the log. Everything is learnt anew.
    DeviceFault {
        /// The frame that was lost.
        frame: u64,
    },
    /// A device that decodes are relayed to does not take them (said when it begins; the status counts).
    OutletLost {
        /// The configuration's section.
        outlet: &'static str,
    },
    /// It takes them again.
    OutletBack {
        /// The configuration's section.
        outlet: &'static str,
    },
    /// A request over the control socket was carried out.
    Request {
        /// Its name.
        what: &'static str,
    },
    /// A recording has begun.
    RecordBegan,
    /// A recording has been ended in order.
    RecordEnded,
    /// The recorder is behind: frames are decoded and not recorded (said when it begins).
    RecordLost {
        /// First such frame.
        frame: u64,
        /// Frames lost to the recording since start, this one included.
        count: u64,
    },
    /// The disk refused: the recording has ended, decoding goes on.
    RecordFailed,
    /// The experimenter has set a mark; its words are in the recording.
    Mark {
        /// Counted from 1 in each recording.
        number: u64,
    },
    /// A stage failed; the corridor ends. The cause is in the log and the exit code.
    Fault {
        /// Which stage.
        stage: &'static str,
    },
    /// The daemon is going down in order.
    Shutdown,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected { reason, count } => write!(f, "message refused: {} ({count} so far)", reason.name()),
            Self::Gap { frame, missing } => write!(f, "{missing} frame(s) missing before frame {frame}"),
            Self::Skipped { frame, count } => {
                write!(f, "{count} frame(s) skipped before frame {frame}: computing is slower than the stream")
            }
            Self::SeriesBegan { frame } => write!(f, "a series began with frame {frame}"),
            Self::SeriesEnded => write!(f, "the sender ended its series"),
            Self::FileLost { how } => {
                write!(f, "the file that is followed was {how}: what comes is taken for another acquisition")
            }
            Self::EndMissing { silent_s } => write!(
                f,
                "the sender has been silent for {silent_s} s and never said that its series ended: its end message was lost, or it \
                 stopped in mid-series; frames at the end may be missing"
            ),
            Self::Ready { frame } => write!(f, "warm-up over: decodes count from frame {frame}"),
            Self::FrameRateOff { measured_hz, needed_hz } => write!(
                f,
                "frame rate {measured_hz:.2} Hz, the model needs {needed_hz:.2} Hz: decodes are degraded; average frames (`preprocess.average_frames`) or use a model of that rate"
            ),
            Self::FrameRateBack { measured_hz } => write!(f, "frame rate fits again: {measured_hz:.2} Hz"),
            Self::NonFinitePixels { frame, pixels } => write!(f, "frame {frame} holds {pixels} NaN or infinite pixels"),
            Self::NonFiniteEmbedding { frame } => {
                write!(f, "the encoder gave NaN for frame {frame}: it has no decode")
            }
            Self::Drift { frame, novelty_mean, limit } => write!(
                f,
                "drift at frame {frame}: mean novelty {novelty_mean:.2} is above the model's limit of {limit:.2}, so this animal or rig is not like those of training; look at the image, then `haltere calibrate`"
            ),
            Self::DriftBack { frame, novelty_mean } => {
                write!(f, "drift is over at frame {frame}: mean novelty {novelty_mean:.2}")
            }
            Self::ShiftAtBound { frame } => {
                write!(
                    f,
                    "the shift of frame {frame} is at the bound of the search (`registration.reach_px`): it may be larger"
                )
            }
            Self::Stale { age_ms } => {
                write!(f, "no fresh decode for {age_ms} ms: neutral action published, heartbeat stopped")
            }
            Self::Recovered { frame } => write!(f, "frames are back with frame {frame}: heartbeat runs again"),
            Self::Swapped { .. } | Self::SwapFailed { .. } | Self::DeviceFault { .. } => self.of_takeover(f),
            Self::OutletLost { outlet } => {
                write!(f, "the {outlet} outlet does not take decodes: what hangs on it keeps its last action")
            }
            Self::OutletBack { outlet } => write!(f, "the {outlet} outlet takes decodes again"),
            Self::Request { what } => write!(f, "carried out: {what}"),
            Self::RecordBegan | Self::RecordEnded | Self::RecordLost { .. } | Self::RecordFailed => {
                self.of_recording(f)
            }
            Self::Mark { number } => write!(f, "mark {number}"),
            Self::Fault { stage } => write!(f, "the {stage} stage failed: neutral action published, going down"),
            Self::Shutdown => write!(f, "going down in order"),
        }
    }
}

impl Event {
    /// The words of who decodes from now on.
    fn of_takeover(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Swapped { generation } => write!(f, "another model took over: generation {generation}"),
            Self::SwapFailed { generation } => {
                write!(f, "the model of generation {generation} failed on live frames: the old one goes on")
            }
            Self::DeviceFault { frame } => {
                write!(
                    f,
                    "the device failed at frame {frame}: the CPU took over, template, F₀ and statistics are learnt anew"
                )
            }
            _ => Ok(()),
        }
    }

    /// The words of what happened to the recording.
    fn of_recording(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RecordBegan => write!(f, "recording"),
            Self::RecordEnded => write!(f, "the recording has ended"),
            Self::RecordLost { frame, count } => write!(
                f,
                "the recorder is behind: frame {frame} is decoded and not recorded ({count} so far): use a faster disk, or raise `record.queue_frames`"
            ),
            Self::RecordFailed => {
                write!(
                    f,
                    "the disk refused: the recording has ended, decoding goes on; free space, then `record start`"
                )
            }
            _ => Ok(()),
        }
    }
}
