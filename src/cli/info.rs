//! `haltere info`: what a recording or a data set holds, and by which text.
//!
//! Why it exists: frames of one channel taken for two, planes that rotate, or time stamps taken for behaviour spoil an experiment
//! without a word; printed with its reason, a wrong number is seen at once. What it must never do: read a recording differently from
//! the commands that use it, or read all of a large one.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::log;
use super::recording::{RecordingArgs, open};
use crate::dataset::{DataSpec, DatasetError, Mc2pOptions, TrialFacts, inspect};
use crate::frame::{Frame, Name, Pixels};
use crate::session::{Outline, is_session};
use crate::source::{About, Fact, Next, Source, SourceError};
use crate::sys::exit::ExitCode;
use crate::sys::statistics::median;

/// Frames whose pixels are looked at, and for how long at most.
const FRAMES_MAX: usize = 64;
const LOOKING: Duration = Duration::from_millis(700);
/// Frames of a recording whose every time stamp is read.
const TIMES_MAX: u64 = 2_000_000;
/// An interval longer than this many median intervals is a gap.
const GAP: f64 = 1.5;

/// `haltere info`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere info recording.tif            shape, channels, planes, rate, times, and the text that decided each
  haltere info folder/ --json           the same for scripts
  haltere info volume.tif --plane 2     as the other commands see it with these options
  haltere info dataset.toml             each trial: behaviour columns with their range, alignment, labels
  haltere info session.mcap             a recorded session

Every command reads the recording as shown here. If a number is wrong, say it: --axes, --plane, --orientation, --rate.")]
pub struct InfoArgs {
    /// Recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Described {
    /// As it was named.
    recording: Vec<String>,
    /// Facts about it.
    facts: Vec<Fact>,
    /// What its user must know.
    warnings: Vec<String>,
    /// Trials of a data set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trials: Vec<TrialFacts>,
}

/// Prints what is known.
///
/// # Errors
/// A recording or data set that is refused, with the reason.
pub fn run(args: &InfoArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    log::start_default()?;
    let recording = args.recording.recording.iter().map(|path| path.display().to_string()).collect();
    let described = match data_set(&args.recording.recording)? {
        Some(spec) => {
            let (trials, warnings) = inspect(&spec)?;
            let warnings = warnings.iter().map(ToString::to_string).collect();
            Described { recording, facts: Vec::new(), warnings, trials }
        }
        None => {
            let About { facts, warnings } = of_recording(&args.recording)?;
            Described { recording, facts, warnings, trials: Vec::new() }
        }
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&described)?)?;
    } else {
        print(&described, out)?;
    }
    Ok(ExitCode::Ok)
}

/// A `dataset.toml`, or a folder of MC2P trials; `None` for a recording.
#[expect(clippy::result_large_err, reason = "it fails once, on a cold path")]
fn data_set(paths: &[std::path::PathBuf]) -> Result<Option<DataSpec>, DatasetError> {
    let [path] = paths else { return Ok(None) };
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return DataSpec::from_toml(path).map(Some);
    }
    if !path.is_dir() {
        return Ok(None);
    }
    match DataSpec::mc2p(path, &Mc2pOptions::default()) {
        Ok(spec) => Ok(Some(spec)),
        Err(DatasetError::Empty { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

fn of_recording(args: &RecordingArgs) -> Result<About, SourceError> {
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
    let irregular = is("frames_per_slice") || is("planes") && about.get("plane").is_none();
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

/// Shape, pixel type and range, by the first frames.
fn pixels(source: &mut dyn Source, about: &mut About) -> Result<(), SourceError> {
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    let (began, mut seen) = (Instant::now(), 0);
    let (mut least, mut most, mut saturated, mut not_finite) = (f64::INFINITY, f64::NEG_INFINITY, 0_u64, 0_u64);
    while seen < FRAMES_MAX && (seen == 0 || began.elapsed() < LOOKING) {
        match source.next(&mut frame)? {
            Next::Frame => {}
            Next::End => break,
            _ => continue,
        }
        let mut each = |value: f64, top: f64| {
            (least, most) = (least.min(value), most.max(value));
            saturated += u64::from(value >= top);
            not_finite += u64::from(!value.is_finite());
        };
        match frame.pixels() {
            Pixels::U8(all) => all.iter().for_each(|v| each(f64::from(*v), f64::from(u8::MAX))),
            Pixels::U16(all) => all.iter().for_each(|v| each(f64::from(*v), f64::from(u16::MAX))),
            Pixels::I16(all) => all.iter().for_each(|v| each(f64::from(*v), f64::from(i16::MAX))),
            Pixels::F32(all) => all.iter().for_each(|v| each(f64::from(*v), f64::INFINITY)),
        }
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
    about.fact("range", vec![least, most], by.clone());
    about.fact("saturated_pixels", saturated, by.clone());
    if not_finite > 0 {
        about.fact("not_finite_pixels", not_finite, by);
        about.warn(format!("{not_finite} pixels of the first {seen} frame(s) are NaN or infinite"));
    }
    if least >= most {
        about.warn(format!("every pixel of the first {seen} frame(s) is {least}: is this the recording?"));
    }
    Ok(())
}

fn print(described: &Described, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "recording         {}", described.recording.join(" "))?;
    for Fact { name, value, by } in &described.facts {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(out, "{name:<17} {value:<24} by {by}")?;
    }
    for trial in &described.trials {
        print_trial(trial, out)?;
    }
    described.warnings.iter().try_for_each(|warning| writeln!(out, "warning           {warning}"))
}

fn print_trial(trial: &TrialFacts, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "trial             {} of animal {}", trial.name, trial.animal)?;
    writeln!(
        out,
        "  imaging         {:.2} s: {} frames of {} at {} Hz",
        trial.imaging_s, trial.frames, trial.shape, trial.frame_rate_hz
    )?;
    writeln!(
        out,
        "  behaviour       {:.2} s: {} rows of {} columns",
        trial.behaviour_s,
        trial.rows,
        trial.columns.len()
    )?;
    for column in &trial.columns {
        writeln!(out, "    {:<24} {} to {}", column.name, column.least, column.most)?;
    }
    if let Some((first, last)) = trial.first_with_behaviour.zip(trial.last_with_behaviour) {
        let second = |frame: usize| frame as f64 / trial.frame_rate_hz;
        writeln!(
            out,
            "  aligned         {} of {} frames have behaviour, from {:.2} s to {:.2} s of the imaging",
            trial.with_behaviour,
            trial.frames,
            second(first),
            second(last + 1)
        )?;
    }
    for (label, frames) in &trial.labels {
        writeln!(out, "  label           {label:<24} {frames} frames, {:.1} s", *frames as f64 / trial.frame_rate_hz)?;
    }
    writeln!(out, "  unlabelled      {} frames", trial.unlabelled)
}
