//! Events: plain values that become `event/<source>` messages, log lines and counters.
//!
//! Why it exists: a fault that the daemon survives must still be seen. Every way to reject a frame has a [`Reason`] of its own.
//! What it must never do: hold text that needs memory; events are made on the frame path, which may not allocate.

use super::{Restart, Sentence};

use super::{Distrust, Mismatch, Name, Relearn};

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

/// Why a model on trial was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialFault {
    /// Its decodes were NaN or infinite, of frames that the running model could decode.
    NonFinite,
    /// It could not be run.
    Encoder,
    /// It was still warming up long after it should have been warm.
    NotWarm,
    /// The device on which both ran failed.
    Device,
}

impl TrialFault {
    /// The word under `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonFinite => "non_finite",
            Self::Encoder => "encoder",
            Self::NotWarm => "not_warm",
            Self::Device => "device",
        }
    }

    /// For people: what it did.
    const fn sentence(self) -> &'static str {
        match self {
            Self::NonFinite => "returned NaN or infinity for frames that the running model decodes",
            Self::Encoder => "could not be run on live frames",
            Self::NotWarm => "was still warming up long after its warm-up should have ended",
            Self::Device => "was lost with the device",
        }
    }
}

/// Why frames were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipCause {
    /// Decoding takes longer than the stream allows.
    Slow,
    /// More frames arrived at once than could be held or decoded in time.
    Burst,
}

impl SkipCause {
    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Burst => "burst",
        }
    }
}

/// Why a recording ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The disk is full, or the file may not grow.
    DiskFull,
    /// The file was removed while it was being written.
    FileRemoved,
    /// The file could not be written.
    Write,
}

impl RecordFault {
    /// The word under `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::FileRemoved => "file_removed",
            Self::Write => "write",
        }
    }

    /// For people: what happened, and what to do before the next `record start`.
    const fn sentence(self) -> &'static str {
        match self {
            Self::DiskFull => "the disk is full: free some space",
            Self::FileRemoved => "its file was removed while it was being written: see who removes files there",
            Self::Write => "its file could not be written: see the log",
        }
    }
}

/// Why there is no fresh decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// No frame came within the deadline.
    NoFrame,
    /// It was decoded later than the deadline after its receipt.
    Late,
    /// It had waited before it arrived: its age at receipt and since then exceeds the deadline.
    Aged,
}

impl StaleReason {
    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFrame => "no_frame",
            Self::Late => "late",
            Self::Aged => "aged",
        }
    }
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
    /// Frames were skipped because a newer one was there.
    Skipped {
        /// First frame decoded after them.
        frame: u64,
        /// Frames skipped.
        count: u64,
        /// Why they were not decoded as well.
        cause: SkipCause,
    },
    /// Frames were decoded without being published, because newer ones had already arrived (the first backlog, then every hundredth).
    CaughtUp {
        /// The frame whose decode was published.
        frame: u64,
        /// Such frames since start.
        count: u64,
    },
    /// The network's window begins anew: decodes are warm-up until it is full.
    WindowRestarted {
        /// The first frame of the new window.
        frame: u64,
        /// Why.
        reason: Restart,
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
    /// The followed file, or its folder, cannot be read at the moment; it is tried again.
    FileUnreachable {
        /// The system's word for it.
        cause: &'static str,
    },
    /// The followed file can be read again.
    FileBack {
        /// How long it could not, ms.
        after_ms: u64,
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
    /// The correlation peak has been far below that of the start for a minute: the picture has drifted out of focus, or out of plane.
    FocusDrift {
        /// The frame.
        frame: u64,
        /// The peak, averaged over some seconds.
        shift_peak: f32,
        /// What it was at the start.
        start: f32,
    },
    /// It is back.
    FocusBack {
        /// The frame.
        frame: u64,
        /// The peak, averaged over some seconds.
        shift_peak: f32,
    },
    /// Frames are not believed, from this one on (reported when it begins).
    FramesDistrusted {
        /// Why the first of them is not.
        reason: Distrust,
        /// The first of them.
        frame: u64,
    },
    /// Frames are believed again.
    FramesTrusted {
        /// Why the first that was not believed was not.
        reason: Distrust,
        /// The first believed frame.
        frame: u64,
        /// Frames that were not believed.
        count: u64,
    },
    /// Something is learnt anew, by itself.
    Relearning {
        /// What.
        what: Relearn,
        /// The first frame of it.
        frame: u64,
    },
    /// The measured shift is at the search bound (reported when it begins).
    ShiftAtBound {
        /// The frame.
        frame: u64,
    },
    /// Warm-up: how long it will take (at its beginning, then now and then).
    WarmingUp {
        /// The frame.
        frame: u64,
        /// Frames left until a decode is `ok`.
        frames_left: u32,
        /// The same at the model's rate, s.
        seconds_left: f32,
    },
    /// The first frames match the saved state that was taken up.
    AnimalKnown {
        /// Whose.
        animal: Name,
        /// The last frame of the trial.
        frame: u64,
        /// Median correlation peak of the trial.
        peak: f32,
        /// Its level when the state was saved.
        saved_peak: f32,
    },
    /// The saved state does not fit: everything is learnt anew.
    AnimalMismatch {
        /// Whose.
        animal: Name,
        /// The frame with which it was found out.
        frame: u64,
        /// What does not fit.
        mismatch: Mismatch,
    },
    /// What was learnt of an animal was saved.
    AnimalSaved {
        /// Its name.
        animal: Name,
    },
    /// It was not.
    AnimalNotSaved {
        /// Its name, if it has one.
        animal: Option<Name>,
        /// Why.
        why: &'static str,
    },
    /// No fresh frame within the deadline: the neutral action was published and the heartbeat stopped.
    Stale {
        /// Age of the last frame, ms.
        age_ms: u64,
        /// Why.
        reason: StaleReason,
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
        /// Why.
        reason: TrialFault,
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
    /// The recording has ended before it was stopped, decoding continues. The system's message is in the log.
    RecordFailed {
        /// Why.
        reason: RecordFault,
    },
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
            | Self::SeriesBegan { .. }
            | Self::SeriesEnded
            | Self::FileLost { .. }
            | Self::FileUnreachable { .. }
            | Self::FileBack { .. }
            | Self::EndMissing { .. } => self.fmt_intake(f),
            Self::Skipped { .. } | Self::CaughtUp { .. } | Self::WindowRestarted { .. } | Self::Stale { .. } => {
                self.fmt_time(f)
            }
            Self::Ready { frame } => write!(f, "warm-up over: decodes are valid from frame {frame}"),
            Self::FrameRateOff { .. } | Self::FrameRateBack { .. } | Self::Drift { .. } | Self::DriftBack { .. } => {
                self.fmt_model(f)
            }
            Self::NonFinitePixels { frame, pixels } => {
                write!(f, "frame {frame} contains {pixels} NaN or infinite pixels")
            }
            Self::NonFiniteEmbedding { frame } => {
                write!(f, "the encoder returned NaN or infinity for frame {frame}, which has no decode")
            }
            Self::ShiftAtBound { frame } => {
                write!(
                    f,
                    "the shift of frame {frame} is at the search bound (`registration.reach_px`): the true shift may be larger"
                )
            }
            Self::FramesDistrusted { .. }
            | Self::FramesTrusted { .. }
            | Self::Relearning { .. }
            | Self::FocusDrift { .. }
            | Self::FocusBack { .. } => self.fmt_trust(f),
            Self::WarmingUp { .. }
            | Self::AnimalKnown { .. }
            | Self::AnimalMismatch { .. }
            | Self::AnimalSaved { .. }
            | Self::AnimalNotSaved { .. } => self.fmt_animal(f),
            Self::Recovered { frame } => write!(f, "frames arrive again from frame {frame}: heartbeat resumed"),
            Self::Swapped { .. } | Self::SwapFailed { .. } | Self::DeviceFault { .. } => self.fmt_takeover(f),
            Self::OutletLost { outlet } => {
                write!(f, "the {outlet} outlet does not accept decodes: its device keeps the last action")
            }
            Self::OutletBack { outlet } => write!(f, "the {outlet} outlet accepts decodes again"),
            Self::Request { what } => write!(f, "request carried out: {what}"),
            Self::RecordBegan | Self::RecordEnded | Self::RecordLost { .. } | Self::RecordFailed { .. } => {
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
            Self::SeriesBegan { frame } => write!(f, "series began with frame {frame}"),
            Self::SeriesEnded => write!(f, "the sender ended the series"),
            Self::FileLost { how } => {
                write!(f, "the followed file was {how}: what follows is treated as a new acquisition")
            }
            Self::FileUnreachable { cause } => write!(
                f,
                "the followed file cannot be read ({cause}): trying again for `source.follow_retry_s`; check the network share"
            ),
            Self::FileBack { after_ms } => write!(f, "the followed file can be read again after {after_ms} ms"),
            Self::EndMissing { silent_s } => write!(
                f,
                "the sender has been silent for {silent_s} s without ending its series: its end message was lost, or it stopped \
                 mid-series; frames at the end may be missing"
            ),
            _ => Ok(()),
        }
    }

    /// The text of an event about frames that came too fast, too late or not at all.
    fn fmt_time(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Skipped { frame, count, cause: SkipCause::Slow } => {
                write!(f, "{count} frame(s) skipped before frame {frame}: decoding is slower than the stream")
            }
            Self::Skipped { frame, count, cause: SkipCause::Burst } => write!(
                f,
                "{count} frame(s) skipped before frame {frame}: they arrived in a burst, of which no more could be held or decoded in \
                 time; a deeper lane (`lane.depth_frames`) holds longer bursts"
            ),
            Self::CaughtUp { frame, count } => write!(
                f,
                "caught up with a burst at frame {frame}: {count} frame(s) so far were decoded without being published, because newer \
                 ones had arrived"
            ),
            Self::WindowRestarted { frame, reason } => {
                let why = match reason {
                    Restart::Pause => "the stream paused",
                    Restart::NewSeries => "a new series began",
                };
                write!(f, "{why}: the window begins anew with frame {frame}, and decodes are warm-up until it is full")
            }
            Self::Stale { age_ms, reason } => {
                match reason {
                    StaleReason::NoFrame => write!(f, "no frame for {age_ms} ms")?,
                    StaleReason::Late => write!(f, "a frame was decoded only when it was {age_ms} ms old")?,
                    StaleReason::Aged => write!(
                        f,
                        "a frame was already too old when it arrived ({age_ms} ms with its decoding): frames wait on the way here; \
                         if its time stamp is of another machine's clock, the sender must not call that clock `monotonic`"
                    )?,
                }
                write!(f, ": published the neutral action and stopped the heartbeat")
            }
            _ => Ok(()),
        }
    }

    /// The text of an event about which model or device decodes from now on.
    fn fmt_takeover(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Swapped { generation } => write!(f, "a new model took over: generation {generation}"),
            Self::SwapFailed { generation, reason } => {
                write!(f, "the model of generation {generation} {}: the old model keeps running", reason.sentence())
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

    /// The text of an event about frames that are not tissue.
    fn fmt_trust(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FramesDistrusted { reason, frame } => write!(
                f,
                "frames are not believed from frame {frame} on ({}): nothing is learnt from them, and their decodes are degraded",
                reason.name()
            ),
            Self::FocusDrift { frame, shift_peak, start } => write!(
                f,
                "the picture matches its template less than at the start: peak {shift_peak:.2} at frame {frame}, {start:.2} then; check the focus, then `haltere control template reset`"
            ),
            Self::FocusBack { frame, shift_peak } => {
                write!(f, "the picture matches its template again: peak {shift_peak:.2} at frame {frame}")
            }
            Self::FramesTrusted { reason, frame, count } => {
                write!(f, "frames are believed again from frame {frame} on; {count} were not ({})", reason.name())
            }
            Self::Relearning { what, frame } => match what {
                Relearn::Light => write!(
                    f,
                    "the light has stayed at another level: F₀ and statistics are learnt again from frame {frame} on"
                ),
                Relearn::Everything => write!(
                    f,
                    "what was learnt before frame {frame} was darkness: template, F₀ and statistics are learnt again"
                ),
                Relearn::Template => write!(
                    f,
                    "the registration template built at frame {frame} shows no tissue, or its frames do not agree: the next frames make another"
                ),
            },
            _ => Ok(()),
        }
    }

    /// The text of an event about a stream that is unlike those of training.
    fn fmt_model(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FrameRateOff { measured_hz, needed_hz } => write!(
                f,
                "frame rate is {measured_hz:.2} Hz, the model needs {needed_hz:.2} Hz: decodes are degraded; average frames (`preprocess.average_frames`) or use a model trained at this rate"
            ),
            Self::FrameRateBack { measured_hz } => write!(f, "frame rate is right again: {measured_hz:.2} Hz"),
            Self::Drift { frame, novelty_mean, limit } => write!(
                f,
                "drift at frame {frame}: mean novelty {novelty_mean:.2} is above the model's limit of {limit:.2}: this animal or rig differs from those in training; check the image, then run `haltere calibrate`"
            ),
            Self::DriftBack { frame, novelty_mean } => {
                write!(f, "drift ended at frame {frame}: mean novelty {novelty_mean:.2}")
            }
            _ => Ok(()),
        }
    }

    /// The text of an event about warm-up and saved animals.
    fn fmt_animal(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WarmingUp { frames_left, seconds_left, .. } => {
                write!(f, "warming up: decodes begin in about {seconds_left:.0} s ({frames_left} frames)")
            }
            Self::AnimalKnown { animal, peak, saved_peak, .. } => write!(
                f,
                "the tissue is that of {animal} (correlation peak {peak:.2}, {saved_peak:.2} when it was saved): no warm-up but one window"
            ),
            Self::AnimalMismatch { animal, frame, mismatch } => {
                let numbers =
                    mismatch.numbers().map(|[found, expected]| format!(": {found:.2}, expected {expected:.2}"));
                write!(
                    f,
                    "the saved state of {animal} does not fit frame {frame} ({}{}): everything is learnt anew and will replace it; if \
                     this is another animal, name it: `haltere control animal NAME`",
                    mismatch.name(),
                    numbers.unwrap_or_default()
                )
            }
            Self::AnimalSaved { animal } => write!(f, "saved what was learnt of {animal}"),
            Self::AnimalNotSaved { animal: Some(animal), why } => write!(f, "{animal} was not saved: {why}"),
            Self::AnimalNotSaved { animal: None, why } => write!(f, "the animal was not saved: {why}"),
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
            Self::RecordFailed { reason } => write!(
                f,
                "the recording has ended by itself, decoding continues: {}, then `record start`",
                reason.sentence()
            ),
            _ => Ok(()),
        }
    }
}
