//! The facts of a recording, from its reader, its time stamps and its first frames.
//!
//! What it must never do: read all of a large recording.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::recording::{RecordingArgs, open};
use crate::frame::{Frame, Name, Pixels};
use crate::session::{Outline, is_session};
use crate::source::{About, Next, Source, SourceError};
use crate::sys::statistics::median;

/// Frames whose pixels are looked at, and for how long at most.
const FRAMES_MAX: usize = 64;
const LOOKING: Duration = Duration::from_millis(700);
/// Frames of a recording whose every time stamp is read.
const TIMES_MAX: u64 = 2_000_000;
/// An interval longer than this many median intervals is a gap.
const GAP: f64 = 1.5;

/// What is known about a recording.
///
/// # Errors
/// A recording that is refused, with the reason.
pub(super) fn of_recording(args: &RecordingArgs) -> Result<About, SourceError> {
    let mut source = open(&args.spec(Name::literal("info")))?;
    let mut about = source.about();
    let (total, rate_hz) = (source.frames_total(), source.frame_rate_hz());
    let by = about.get("times").map_or_else(|| "the recording".to_owned(), |fact| fact.by.clone());
    // The number of times says the same as that of frames, unless a stack is read along its depth.
    about.facts.retain(|fact| fact.name != "times" || fact.value.as_u64() != total);
    about.maybe("frames", total, by);
    if about.get("rate_hz").is_none() {
        match rate_hz {
            Some(rate_hz) => about.fact("rate_hz", rate_hz, "the recording"),
            None => about.warn("nothing says the frame rate: give it (--rate)"),
        }
    }
    if let Some((frames, rate_hz)) = total.zip(rate_hz) {
        about.fact("duration_s", frames as f64 / rate_hz, "frames and rate");
    }
    if total.is_none_or(|frames| frames <= TIMES_MAX) {
        times(&source.times_ns()?, rate_hz, &mut about);
    }
    if let [path] = args.recording.as_slice()
        && is_session(path)
    {
        session(path, &mut about);
    }
    pixels(source.as_mut(), &mut about)?;
    Ok(about)
}

fn session(path: &Path, about: &mut About) {
    let Ok(outline) = Outline::of(path) else { return };
    for (name, key) in [("rig", "rig"), ("model", "model"), ("deadline_ms", "deadline_ms")] {
        about.maybe(name, outline.about.get(key).cloned(), "the session's metadata");
    }
}

/// Gaps and restarts of the time stamps.
fn times(stamps_ns: &[i64], rate_hz: Option<f64>, about: &mut About) {
    let by = "the time stamps of all frames";
    let (Some(first), Some(last)) = (stamps_ns.first(), stamps_ns.last()) else {
        about.fact("time_stamps", "none: frame n is taken to begin at n / rate", "no text has any");
        return;
    };
    let steps: Vec<i64> = stamps_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
    about.fact("time_stamps", stamps_ns.len(), by);
    about.fact("first_s", *first as f64 / 1e9, by);
    about.fact("last_s", *last as f64 / 1e9, by);
    let mut forward: Vec<i64> = steps.iter().copied().filter(|step| *step > 0).collect();
    let Some(usual) = median(&mut forward, i64::cmp) else { return };
    let gaps: Vec<usize> = (0..steps.len()).filter(|at| steps[*at] as f64 > GAP * usual as f64).collect();
    let restarts: Vec<usize> = (0..steps.len()).filter(|at| steps[*at] <= 0).collect();
    about.fact("gaps", gaps.len(), by);
    about.fact("restarts", restarts.len(), by);
    // Frames of a slice follow each other faster than volumes, and a stack has no rate of its own.
    let is = |name: &str| about.get(name).is_some_and(|fact| fact.value.as_u64() > Some(1));
    let turned = about.get("volumes_reversed").is_some();
    let irregular = turned || is("frames_per_slice") || is("planes") && about.get("plane").is_none();
    let second = |ns: i64| ns as f64 / 1e9;
    if let Some(at) = gaps.first().filter(|_| !irregular) {
        let lost: f64 = gaps.iter().map(|at| steps[*at] as f64 / usual as f64 - 1.0).sum();
        about.warn(format!(
            "{} gap(s) in the time stamps, about {lost:.0} frames; the first from {:.3} s to {:.3} s, before frame {}",
            gaps.len(),
            second(stamps_ns[*at]),
            second(stamps_ns[at + 1]),
            at + 1
        ));
    }
    if let Some(at) = restarts.first() {
        about.warn(format!(
            "the time stamps go back or repeat {} time(s), first at frame {}: from {:.3} s to {:.3} s; are several runs in it?",
            restarts.len(),
            at + 1,
            second(stamps_ns[*at]),
            second(stamps_ns[at + 1])
        ));
    }
    let by_stamps = 1e9 / usual as f64;
    if let Some(rate_hz) = rate_hz.filter(|rate_hz| !irregular && (rate_hz / by_stamps - 1.0).abs() > 0.02) {
        about.warn(format!("the rate is {rate_hz:.3} Hz, but the time stamps advance at {by_stamps:.3} Hz"));
    }
}

/// The values of the first frames.
#[derive(Default)]
struct Values {
    /// Least and largest finite value.
    range: Option<[f64; 2]>,
    /// Pixels with the largest value.
    at_most: u64,
    all: u64,
    not_finite: u64,
}

impl Values {
    fn take(&mut self, value: f64) {
        self.all += 1;
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        let [least, most] = self.range.unwrap_or([value; 2]);
        self.at_most = match value.total_cmp(&most) {
            std::cmp::Ordering::Greater => 1,
            std::cmp::Ordering::Equal => self.at_most + 1,
            std::cmp::Ordering::Less => self.at_most,
        };
        self.range = Some([least.min(value), most.max(value)]);
    }
}

/// Shape, pixel type and range, by the first frames.
fn pixels(source: &mut dyn Source, about: &mut About) -> Result<(), SourceError> {
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let (began, mut seen, mut values) = (Instant::now(), 0, Values::default());
    while seen < FRAMES_MAX && (seen == 0 || began.elapsed() < LOOKING) {
        match source.next(&mut frame)? {
            Next::Frame => {}
            Next::End => break,
            _ => continue,
        }
        each(&frame, |_, value| values.take(value));
        if seen == 0 {
            let info = &frame.info;
            about.fact("shape", info.shape.to_string(), "the first frame: channels × rows × columns");
            about.fact("pixel_type", info.pixel_type.name(), "the first frame");
            if about.get("channels").is_none() {
                about.fact("channels", info.shape.channels, "the first frame");
            }
        }
        seen += 1;
    }
    let by = format!("the first {seen} frame(s)");
    let Some([least, most]) = values.range else {
        about.warn(format!("{by}: no pixel is a number"));
        return Ok(());
    };
    about.fact("range", vec![least, most], by.clone());
    let end = detector_end(most, frame.info.pixel_type.bytes());
    let saturated = if end { values.at_most } else { 0 };
    about.fact("saturated_pixels", saturated, format!("{by}, whose largest value is {most}"));
    if saturated * 100 > values.all {
        about.warn(format!(
            "{:.1} % of the pixels of {by} are saturated (at {most})",
            100.0 * saturated as f64 / values.all as f64
        ));
    }
    if values.not_finite > 0 {
        about.fact("not_finite_pixels", values.not_finite, by.clone());
        about.warn(format!("{} pixels of {by} are NaN or infinite", values.not_finite));
    }
    if least >= most {
        about.warn(format!("every pixel of {by} is {least}: is this the recording?"));
    }
    Ok(())
}

/// Is this largest value the end of a detector of 8 to 16 bit, signed or not?
pub(super) fn detector_end(most: f64, pixel_bytes: usize) -> bool {
    let least_bits = if pixel_bytes == 1 { 8 } else { 10 };
    (least_bits..=16).any(|bits| most == f64::from((1_u32 << bits) - 1)) || pixel_bytes == 1 && most == 255.0
}

/// Every pixel of a frame with its place.
pub(super) fn each(frame: &Frame, mut take: impl FnMut(usize, f64)) {
    match frame.pixels() {
        Pixels::U8(all) => all.iter().enumerate().for_each(|(at, v)| take(at, f64::from(*v))),
        Pixels::U16(all) => all.iter().enumerate().for_each(|(at, v)| take(at, f64::from(*v))),
        Pixels::I16(all) => all.iter().enumerate().for_each(|(at, v)| take(at, f64::from(*v))),
        Pixels::F32(all) => all.iter().enumerate().for_each(|(at, v)| take(at, f64::from(*v))),
    }
}
