//! A closed loop on this machine without any equipment: a microscope, the daemon and a stimulus controller, for a first look.
//!
//! Why it exists: whoever has just installed the program sees it decode within a minute. Microscope and daemon are processes of their
//! own and this one is the controller, over real sockets, as on a rig. What it must never do: reach anything of the user's rig. It
//! reads none of its configuration, opens no port unless the page is asked for, and leaves no file.

mod processes;
mod rules;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::subscribe::subscribe;
use super::watch::{WatchError, WatchOptions, WatchReport, truth_of, watch};
use crate::frame::Quality;
use crate::model::labels::LabelsError;
use crate::model::{Manifest, Model, ModelError};
use crate::simulate::is_simulated;
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{FileError, temporary_folder};
use crate::wire::subscriber::{Content, parse};
use processes::Part;

/// The simulated fly that is shown unless another is asked for. No model was trained on an animal of seed 9001. Of its recordings this one
/// is the first (animal by animal, twenty trials each) with at least four different actions of a second or more each while it is watched
/// (frames 113 to 433). So it was chosen by what the fly does, not by what a model makes of it; `tests/parts/demo.rs` is that search.
pub const FLY: &str = "sim:seed=9001,animal=1,trial=4,seconds=60";
/// Lines per second for people.
const LINES_PER_S: f64 = 5.0;
/// Longest warm-up, s: the shipped model takes 8.
const WARM_UP_S: u64 = 120;
/// The microscope stops by itself this long after the demo must have ended, and the daemon with it, in case this process is killed.
const LEFT_ALONE_S: f64 = 30.0;
/// Longest wait for a message, ms.
const WAIT_MS: i32 = 50;
/// Between two numbers of the countdown.
const COUNTDOWN: Duration = Duration::from_secs(2);

/// What to show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Manifest of the model.
    pub model: PathBuf,
    /// The recording that the microscope plays, over and over; a simulated fly (`sim:…`) has its truth shown beside the decodes.
    pub recording: Vec<PathBuf>,
    /// Its second channel.
    pub channel_file: Option<PathBuf>,
    /// Frames per second, instead of the recording's.
    pub rate_hz: Option<f64>,
    /// Seconds to show after the warm-up.
    pub seconds: f64,
    /// Where to serve the page as well.
    pub page: Option<SocketAddr>,
    /// Keys for the daemon's configuration, `section.key=value`.
    pub set: Vec<String>,
}

/// Why there was nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The name of the simulated fly.
    #[error(transparent)]
    Truth(#[from] LabelsError),
    /// No folder for logs and sockets.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// Watching.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Standard output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// A process cannot be started.
    #[error("the {name} cannot be started: {cause}")]
    Start {
        /// Which.
        name: &'static str,
        /// The system's message.
        cause: io::Error,
    },
    /// A process ended too early, or otherwise than in order.
    #[error("the {name} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// The number it left with.
        code: ExitCode,
        /// Its last lines.
        log: String,
    },
    /// A process does not end.
    #[error("the {name} did not end within {seconds} s and was killed; the end of its log:\n{log}")]
    Hangs {
        /// Which.
        name: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// Its last lines.
        log: String,
    },
    /// The warm-up never ended.
    #[error(
        "no decode could be trusted within {WARM_UP_S} s: is this machine too busy for {rate_hz} frames a second, or the warm-up of \
         this model longer? The end of the daemon's log:\n{log}"
    )]
    NotReady {
        /// The model's frame rate.
        rate_hz: f64,
        /// The daemon's last lines.
        log: String,
    },
    /// The daemon takes no frame of this recording.
    #[error("the daemon rejects the frames, {reason}: {message}")]
    Rejected {
        /// The reason, as in the status.
        reason: String,
        /// The daemon's sentence: what is wrong, and what to do.
        message: String,
    },
    /// Nothing was decoded while it was shown.
    #[error("no decode could be trusted in the {seconds} s that were shown; the end of the daemon's log:\n{log}")]
    Nothing {
        /// How long it was.
        seconds: f64,
        /// The daemon's last lines.
        log: String,
    },
    /// Ctrl-C before there was anything to see.
    #[error("interrupted before the first decode that can be trusted")]
    Interrupted,
}

impl HasExitCode for DemoError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::Truth(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::Watch(error) => error.exit_code(),
            Self::Output(_) => ExitCode::Sink,
            Self::Start { .. } => ExitCode::Other,
            Self::Ended { code, .. } => *code,
            Self::Hangs { .. } => ExitCode::Stage,
            Self::NotReady { .. } | Self::Rejected { .. } | Self::Nothing { .. } => ExitCode::Unmet,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }
}

/// Shows the loop until its time is over or `stop` is set.
///
/// # Errors
/// Any [`DemoError`]; so too if no decode could be trusted.
pub fn demo(options: &DemoOptions, stop: &AtomicBool, out: &mut dyn Write) -> Result<(), DemoError> {
    let manifest = Model::load(&options.model)?.manifest;
    let fly = options.recording.first().and_then(|path| path.to_str()).filter(|text| is_simulated(Path::new(text)));
    let truth = fly.map(truth_of).transpose()?;
    introduce(options, &manifest, fly.is_some(), out)?;
    let folder = temporary_folder("demo")?;
    let mut cast = Cast::start(options, &manifest, folder.path())?;
    if let Err(error) = cast.warm_up(&manifest, stop, out) {
        writeln!(out)?;
        if stop.load(Relaxed) {
            cast.end_with_us();
        }
        return Err(error);
    }
    if truth.is_some() {
        writeln!(out, "Every decode is scored; at most five per second are shown:")?;
        writeln!(out, "{:>8}  {:<18} {:>4}  {:<20}  {:<34}", "frame", "decoded", "prob", "truth", "so far")?;
    }
    let watched = WatchOptions {
        endpoint: cast.decodes.clone(),
        source: None,
        duration: Some(Duration::from_secs_f64(options.seconds)),
        frames: None,
        json: false,
        lines_per_s: LINES_PER_S,
        truth,
        look_ahead: manifest.look_ahead_frames as u64,
        labels: manifest.labels.clone(),
        keys: None,
    };
    let report = watch(&watched, stop, out)?;
    let judged = cast.judge(&report, options.seconds);
    if stop.load(Relaxed) {
        cast.end_with_us();
        return judged.map_err(|_| DemoError::Interrupted);
    }
    cast.end()?;
    judged?;
    rules::conclude(&report, out)?;
    conclude(&manifest, fly.is_some(), out)
}

/// Microscope, daemon and, if it was asked for, the page.
struct Cast {
    /// The daemon's PUB endpoint.
    decodes: String,
    daemon: Part,
    microscope: Part,
    page: Option<Part>,
}

impl Cast {
    fn start(options: &DemoOptions, manifest: &Manifest, folder: &Path) -> Result<Self, DemoError> {
        let [frames, decodes] = ["frames", "decodes"].map(|name| format!("ipc://{}/{name}", folder.display()));
        let model = options.model.display().to_string();
        let own = [
            "rig=demo".to_owned(),
            format!("source.endpoint={frames}"),
            format!("publish.endpoint={decodes}"),
            "control.endpoint=off".to_owned(),
        ];
        let labels = if manifest.provenance.trained { manifest.labels.as_slice() } else { &[] };
        let rules = rules::keys(labels);
        // What the user sets comes after the demo's rules, and overrides them.
        let sets = rules.iter().chain(&options.set).chain(&own).flat_map(|set| ["--set".to_owned(), set.clone()]);
        // It ends with its microscope.
        let daemon = words(&["run", "--once", "--model", &model]).into_iter().chain(sets).collect::<Vec<_>>();
        let longest_s = WARM_UP_S as f64 + options.seconds + LEFT_ALONE_S;
        let mut play = words(&["play", "--source", "demo", "--endpoint", &frames, "--loop", "0"]);
        play.extend(words(&["--seconds", &longest_s.to_string()]));
        play.extend(options.rate_hz.iter().flat_map(|hz| words(&["--rate", &hz.to_string()])));
        play.extend(
            options.channel_file.iter().flat_map(|file| words(&["--channel-file", &file.display().to_string()])),
        );
        play.extend(options.recording.iter().map(|path| path.display().to_string()));
        let page = options.page.map(|bind| {
            let arguments = ["monitor", "--endpoint", &decodes, "--model", &model, "--bind", &bind.to_string()];
            Part::start("page", folder, &words(&arguments))
        });
        let daemon = Part::start("daemon", folder, &daemon)?;
        let microscope = Part::start("microscope", folder, &play)?;
        Ok(Self { decodes, daemon, microscope, page: page.transpose()? })
    }

    /// Waits for the first decode that can be trusted, and counts down to it.
    fn warm_up(&mut self, manifest: &Manifest, stop: &AtomicBool, out: &mut dyn Write) -> Result<(), DemoError> {
        let fault = |cause| WatchError::Socket { endpoint: self.decodes.clone(), cause };
        let socket = subscribe(&self.decodes, WAIT_MS, None).map_err(fault)?;
        let (began, mut shown) = (Instant::now(), None::<Instant>);
        write!(out, "warming up; seconds left:")?;
        out.flush()?;
        loop {
            if stop.load(Relaxed) {
                return Err(DemoError::Interrupted);
            }
            let (daemon, microscope) = (&mut self.daemon, &mut self.microscope);
            [Some(daemon), Some(microscope), self.page.as_mut()].into_iter().flatten().try_for_each(Part::must_run)?;
            if began.elapsed() > Duration::from_secs(WARM_UP_S) {
                return Err(DemoError::NotReady { rate_hz: manifest.frame_rate_hz, log: self.daemon.log() });
            }
            let parts = match socket.recv_multipart(0) {
                Ok(parts) => parts,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => continue,
                Err(cause) => return Err(WatchError::Socket { endpoint: self.decodes.clone(), cause }.into()),
            };
            let Ok(message) = parse(&parts) else { continue };
            if message.header["event"] == "rejected" {
                let said = |key: &str| message.header[key].as_str().unwrap_or_default().to_owned();
                return Err(DemoError::Rejected { reason: said("reason"), message: said("message") });
            }
            let Content::Decode(decode, _) = message.content else { continue };
            if matches!(decode.quality, Quality::Ok | Quality::Degraded) {
                writeln!(out, " 0")?;
                return Ok(());
            }
            let due = shown.is_none_or(|shown| shown.elapsed() >= COUNTDOWN);
            if let Some(left) = decode.warmup_frames_left.filter(|_| due) {
                shown = Some(Instant::now());
                write!(out, " {:.0}", left as f64 / manifest.frame_rate_hz)?;
                out.flush()?;
            }
        }
    }

    /// Was there anything to see?
    fn judge(&self, report: &WatchReport, seconds: f64) -> Result<(), DemoError> {
        let trusted: u64 = report.qualities[..2].iter().sum();
        if trusted > 0 { Ok(()) } else { Err(DemoError::Nothing { seconds, log: self.daemon.log() }) }
    }

    fn end(&mut self) -> Result<(), DemoError> {
        self.page.as_mut().map_or(Ok(()), Part::end)?;
        self.daemon.end()?;
        self.microscope.end()
    }

    fn end_with_us(&mut self) {
        [Some(&mut self.daemon), Some(&mut self.microscope), self.page.as_mut()]
            .into_iter()
            .flatten()
            .for_each(Part::end_with_us);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn introduce(options: &DemoOptions, manifest: &Manifest, simulated: bool, out: &mut dyn Write) -> io::Result<()> {
    let recording: Vec<String> = options.recording.iter().map(|path| path.display().to_string()).collect();
    let what = if simulated { "a simulated fly, two channels" } else { "a recording, over and over" };
    writeln!(out, "microscope            {what} ({})", recording.join(" "))?;
    let names = if manifest.labels.is_empty() { "gives an embedding; it names no actions" } else { "names the action" };
    let steps = [
        (manifest.preprocess.registration.is_some(), "registers"),
        (manifest.preprocess.atlas.is_some(), "lays the animal on an atlas"),
        (manifest.preprocess.baseline.is_some(), "computes ΔF/F"),
    ];
    let steps: Vec<&str> = steps.into_iter().filter_map(|(there, step)| there.then_some(step)).collect();
    let steps = steps.join(", ");
    writeln!(out, "daemon                {steps}, encodes and {names} ({})", options.model.display())?;
    writeln!(out, "stimulus controller   shows the decodes it receives for {} seconds", options.seconds)?;
    options.page.map_or(Ok(()), |bind| writeln!(out, "page                  http://{bind}"))
}

fn conclude(manifest: &Manifest, simulated: bool, out: &mut dyn Write) -> Result<(), DemoError> {
    if simulated {
        writeln!(
            out,
            "\nThe fly is simulated frame by frame by the code of `haltere simulate`; its true actions are known, so every decode can be \
             scored.\nThe model was trained on other flies of the same kind: {}.\nBalanced accuracy: the mean over the actions that \
             occurred. One fly for a few seconds is a small sample.",
            manifest.provenance.trained_on
        )?;
    }
    writeln!(
        out,
        "Next: `haltere demo YOUR.tif` plays a recording of yours; `haltere check` says what your rig still needs."
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_failing_leaves_with_a_number_of_its_own() {
        let log = String::new;
        let ended = |code| DemoError::Ended { name: "daemon", status: ExitStatus::default(), code, log: log() };
        assert_eq!(ended(ExitCode::OnnxRuntime).exit_code(), ExitCode::OnnxRuntime);
        assert_eq!(DemoError::NotReady { rate_hz: 16.0, log: log() }.exit_code(), ExitCode::Unmet);
        assert_eq!(DemoError::Nothing { seconds: 20.0, log: log() }.exit_code(), ExitCode::Unmet);
        assert_eq!(DemoError::Interrupted.exit_code(), ExitCode::Interrupted);
    }
}
