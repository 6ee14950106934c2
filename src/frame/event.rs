//! Events: plain values that become `event/<source>` messages, log lines and counters.
//!
//! Why it exists: a fault that the daemon survives must still be seen. Every way to reject a frame has a [`Reason`] of its own.
//! What it must never do: hold text that needs memory; events are made on the frame path, which may not allocate.

use super::{Distrust, Mismatch, Name, Relearn, Restart, Scene, Sentence, TimedMark};

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
    /// A frame of a series that was left, whose sender goes on.
    OtherSeries,
}

impl Reason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 16] = [
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
        Self::OtherSeries,
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
            Self::OtherSeries => "other_series",
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
    pub(super) const fn sentence(self) -> &'static str {
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
    pub(super) const fn sentence(self) -> &'static str {
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
    /// A switch of a rule was thrown.
    DecisionSwitched {
        /// The rule.
        rule: Name,
        /// `on`, `off`, `arm` or `disarm`.
        what: &'static str,
    },
    /// A rehearsal begins: what is published is made up, and says so.
    Rehearsal {
        /// What is rehearsed.
        scene: Scene,
        /// For how long.
        seconds: u32,
    },
    /// It is over.
    RehearsalOver,
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
    /// The experimenter set a mark; its whole text is in the recording.
    Mark {
        /// Counted from 1 in each recording.
        number: u64,
        /// What it says, cut if it is long.
        text: Sentence,
    },
    /// Somebody beside the microscope said that something happened.
    Inlet {
        /// What.
        name: Name,
        /// When, `CLOCK_MONOTONIC`, ns.
        t_ns: u64,
        /// Who says so, and how the time was found.
        mark: TimedMark,
    },
    /// A stage failed and the run ends. The cause is in the log and the exit code.
    Fault {
        /// Which stage.
        stage: &'static str,
    },
    /// The daemon is shutting down normally.
    Shutdown,
}
