//! The sentence of every event, for logs and people.
//!
//! What it must never do: hold a fact that the event does not.

use super::event::{Event, SkipCause, StaleReason};
use super::{Relearn, Restart};

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
            Self::Skipped { .. }
            | Self::CaughtUp { .. }
            | Self::WindowRestarted { .. }
            | Self::Stale { .. }
            | Self::FrameRateOff { .. }
            | Self::FrameRateBack { .. } => self.fmt_time(f),
            Self::Ready { frame } => write!(f, "warm-up over: decodes are valid from frame {frame}"),
            Self::NonFinitePixels { frame, pixels } => {
                write!(f, "frame {frame} contains {pixels} NaN or infinite pixels")
            }
            Self::NonFiniteEmbedding { frame } => {
                write!(f, "the encoder returned NaN or infinity for frame {frame}, which has no decode")
            }
            Self::Drift { .. } | Self::DriftBack { .. } | Self::Placement { .. } | Self::PlacementPoor { .. } => {
                self.fmt_likeness(f)
            }
            Self::ShiftAtBound { .. }
            | Self::FramesDistrusted { .. }
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
            Self::DecisionSwitched { rule, what } => write!(f, "decision {rule}: {what}"),
            Self::Rehearsal { scene, seconds } => {
                write!(f, "rehearsal of {} for {seconds} s: the controller {}", scene.name(), scene.expected())
            }
            Self::RehearsalOver => write!(f, "the rehearsal is over"),
            Self::RecordBegan | Self::RecordEnded | Self::RecordLost { .. } | Self::RecordFailed { .. } => {
                self.fmt_recording(f)
            }
            Self::Mark { number, text } => write!(f, "mark {number}: {text}"),
            Self::Inlet { name, mark, .. } => write!(f, "{} says: {name}", mark.from),
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
                write!(f, "header key ignored, the frame is decoded without it: {message}")
            }
            Self::AspectRatio { frame_px: [height, width], input_px: [rows, columns], ratio } => write!(
                f,
                "frames of {height}×{width} px are squeezed into the model's input of {rows}×{columns} px: one axis \
                 shrinks {ratio:.2} times as much as the other; correct only if the model was trained on frames of this shape"
            ),
            Self::Gap { frame, missing } => write!(f, "{missing} frame(s) missing before frame {frame}"),
            Self::SeriesBegan { frame } => write!(f, "series began with frame {frame}"),
            Self::SeriesEnded => write!(f, "the sender ended the series"),
            Self::FileLost { how } => {
                write!(f, "the followed file was {how}: what follows is treated as a new acquisition")
            }
            Self::FileUnreachable { cause } => write!(
                f,
                "the followed file cannot be read ({cause}): retrying for `source.follow_retry_s`; check the network share"
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
                "{count} frame(s) skipped before frame {frame}: the burst was too long to be held or decoded in time; a deeper lane (`lane.depth_frames`) holds longer bursts"
            ),
            Self::CaughtUp { frame, count } => write!(
                f,
                "caught up with a burst at frame {frame}: {count} frame(s) so far were decoded but not published, because newer ones \
                 had arrived"
            ),
            Self::WindowRestarted { frame, reason } => {
                let why = match reason {
                    Restart::Pause => "the stream paused",
                    Restart::NewSeries => "a new series began",
                };
                write!(f, "{why}: the window starts over at frame {frame}, and decodes are warm-up until it is full")
            }
            Self::Stale { age_ms, reason } => {
                match reason {
                    StaleReason::NoFrame => write!(f, "no frame for {age_ms} ms")?,
                    StaleReason::Late => write!(f, "a frame was {age_ms} ms old by the time it was decoded")?,
                    StaleReason::Aged => write!(
                        f,
                        "a frame was already too old when it arrived ({age_ms} ms including decoding): frames queue up on their way \
                         here; if the time stamps come from another machine's clock, the sender must not call it `monotonic`"
                    )?,
                }
                write!(f, ": published the neutral action and stopped the heartbeat")
            }
            Self::FrameRateOff { measured_hz, needed_hz } => write!(
                f,
                "frame rate is {measured_hz:.2} Hz, the model needs {needed_hz:.2} Hz: decodes are degraded; average frames (`preprocess.average_frames`) or use a model trained at this rate"
            ),
            Self::FrameRateBack { measured_hz } => write!(f, "frame rate is right again: {measured_hz:.2} Hz"),
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
            Self::ShiftAtBound { frame } => write!(
                f,
                "the shift of frame {frame} is at the search bound (`registration.reach_px`): the true shift may be larger"
            ),
            Self::FramesDistrusted { reason, frame } => write!(
                f,
                "frames are not trusted from frame {frame} on ({}): nothing learns from them, and their decodes are degraded",
                reason.name()
            ),
            Self::FocusDrift { frame, shift_peak, start } => write!(
                f,
                "the picture matches its template less well than at the start: peak {shift_peak:.2} at frame {frame}, {start:.2} then; check the focus, then `haltere control template reset`"
            ),
            Self::FocusBack { frame, shift_peak } => {
                write!(f, "the picture matches its template again: peak {shift_peak:.2} at frame {frame}")
            }
            Self::FramesTrusted { reason, frame, count } => {
                write!(f, "frames are trusted again from frame {frame} on; {count} were not ({})", reason.name())
            }
            Self::Relearning { what, frame } => match what {
                Relearn::Light => write!(
                    f,
                    "the light has stayed at another level: F₀ and statistics are learnt from scratch from frame {frame} on"
                ),
                Relearn::Everything => write!(
                    f,
                    "everything learnt before frame {frame} was darkness: template, F₀ and statistics are learnt from scratch"
                ),
                Relearn::Template => write!(
                    f,
                    "the registration template built at frame {frame} shows no tissue, or its frames disagree: the next frames make another one"
                ),
            },
            _ => Ok(()),
        }
    }

    /// The text of an event about warm-up and saved animals.
    fn fmt_animal(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WarmingUp { frames_left, seconds_left, .. } => {
                write!(f, "warming up: decodes can be trusted in about {seconds_left:.0} s ({frames_left} frames)")
            }
            Self::AnimalKnown { animal, peak, saved_peak, .. } => write!(
                f,
                "this is {animal} (correlation peak {peak:.2}, {saved_peak:.2} when saved): only one window of warm-up"
            ),
            Self::AnimalMismatch { animal, frame, mismatch } => {
                let numbers =
                    mismatch.numbers().map(|[found, expected]| format!(": {found:.2}, expected {expected:.2}"));
                write!(
                    f,
                    "the saved state of {animal} does not fit frame {frame} ({}{}): everything is learnt from scratch and will replace it; if \
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

    /// The text of an event about how much the animal is like those of training.
    fn fmt_likeness(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
            Self::RecordFailed { reason } => {
                write!(f, "the recording stopped, decoding continues: {}, then `record start`", reason.sentence())
            }
            _ => Ok(()),
        }
    }
}
