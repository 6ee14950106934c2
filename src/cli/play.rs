//! `haltere play`: a recording, sent as a microscope would.

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::curve::SenderCurveArgs;
use super::parse::{milliseconds, seconds};
use super::recording::{RecordingArgs, open, warn};
use super::{log, stop_flag};
use crate::client::play::{Burst, Pace, Pattern, PlayOptions, PlayProgress, play};
use crate::config::Attach;
use crate::config::endpoint::Endpoint;
use crate::frame::Name;
use crate::sys::exit::ExitCode;
use crate::sys::progress::{FRAMES, progress_bar};

/// `haltere play`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere play fly_00001.tif fly_00002.tif           once, at the recorded frame rate
  haltere play green.tif --channel-file red.tif      two channels from two files
  haltere play fly.tif --rate 60 --loop 0            at 60 Hz, repeated until Ctrl-C
  haltere play session.mcap                          a recorded session, with its frame numbers and gaps
  haltere play fly.nwb#/acquisition/TwoPhotonSeries1    one series of an NWB file with several
  haltere play sim:seed=7,animal=9,seconds=60        a simulated fly with known ground truth
  haltere play fly.tif --jitter-ms 5 --skip-every 50 --burst 3     a faulty microscope, reproducible by --seed
  haltere play movie.raw --raw uint16:512x512 --push --connect --endpoint tcp://10.0.0.1:5710")]
pub struct PlayArgs {
    /// Recording.
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// How many times to play the recording; 0 repeats it until interrupted. Frame numbers continue.
    #[arg(long = "loop", value_name = "N", default_value_t = 1)]
    pub repeat: u64,
    /// Stop after this many seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Delay each frame by a random time up to this.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub jitter_ms: f64,
    /// Skip every N-th frame, leaving a gap in the frame numbers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub skip_every: Option<u64>,
    /// Send every N-th frame twice.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat_every: Option<u64>,
    /// Send frames in bursts of N, one burst every N frame periods.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub burst: u64,
    /// ZeroMQ endpoint to send to.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5710")]
    pub endpoint: Endpoint,
    /// Send with PUSH instead of PUB, waiting for a slow daemon (whose `source.pattern` must be "pull").
    #[arg(long)]
    pub push: bool,
    /// Connect to the endpoint instead of binding it (the daemon's `source.attach` must be "bind").
    #[arg(long)]
    pub connect: bool,
    /// Name of the source in every header.
    #[arg(long, value_name = "NAME", default_value = "play")]
    pub source: Name,
    /// Name of the series in every header [default: made from the current time].
    #[arg(long, value_name = "NAME")]
    pub series: Option<Name>,
    /// Name of the animal in every header: the daemon takes up what was learnt of it before.
    #[arg(long, value_name = "NAME")]
    pub animal: Option<Name>,
    /// Send as fast as the socket accepts instead of at a fixed rate.
    #[arg(long, conflicts_with = "rate")]
    pub flood: bool,
    /// Start at once instead of waiting for the first subscriber.
    #[arg(long)]
    pub no_wait: bool,
    /// Seed for the random delays.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Keys.
    #[command(flatten)]
    pub keys: SenderCurveArgs,
}

/// Sends the recording and reports what was sent, and how late.
///
/// # Errors
/// The recording or the socket.
pub fn run(args: &PlayArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_flag()?;
    let spec = args.recording.spec(args.source);
    let attach = if args.connect { Attach::Connect } else { Attach::Bind };
    let (access, connections) = args.keys.access(&args.endpoint, attach)?;
    let options = PlayOptions {
        access,
        endpoint: args.endpoint.to_string(),
        pattern: if args.push { Pattern::Push } else { Pattern::Pub },
        attach,
        series: args.series.or_else(series_of_now),
        animal: args.animal,
        pace: if args.flood { Pace::Flood } else { args.recording.rate.map_or(Pace::Recording, Pace::Hz) },
        loops: (args.repeat > 0).then_some(args.repeat),
        duration: args.seconds.map(Duration::from_secs_f64),
        frames: args.recording.frames,
        jitter_ms: args.jitter_ms,
        seed: args.seed,
        skip_every: args.skip_every,
        repeat_every: args.repeat_every,
        burst: (args.burst > 1).then_some(Burst { frames: args.burst, every: args.burst }),
        wait_for_receiver: if args.no_wait { Duration::ZERO } else { PlayOptions::default().wait_for_receiver },
        ..PlayOptions::default()
    };
    let bar = progress_bar(None, std::io::stderr().is_terminal(), FRAMES);
    let mut progress = |so_far: &PlayProgress| {
        so_far.total.into_iter().for_each(|total| bar.set_length(total));
        bar.set_position(so_far.sent);
    };
    let mut told = false;
    let mut again = || {
        let recording = open(&spec)?;
        if !std::mem::replace(&mut told, true) {
            warn(&spec, recording.as_ref());
        }
        Ok(recording)
    };
    let report = play(&options, &mut again, &stop, &mut progress)?;
    bar.finish_and_clear();
    let us = |ns: u64| ns as f64 / 1e3;
    let late = report.lateness;
    log::say(&format!(
        "sent {} frames in {:.1} s ({:.1} Hz), skipped {}, repeated {}; late by p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
        report.progress.sent,
        report.elapsed_s,
        report.rate_hz,
        report.progress.skipped,
        report.progress.repeated,
        us(late.p50_ns),
        us(late.p99_ns),
        us(late.max_ns)
    ));
    while let Some(note) = connections.notes.pop() {
        log::say(&note.text.to_string());
    }
    if !report.receiver_seen && !args.no_wait {
        log::say(&format!("nobody was listening on {} when the first frame was sent", args.endpoint));
    }
    Ok(ExitCode::Ok)
}

/// A series of its own for each start, so that a restarted microscope is never mistaken for the previous one.
fn series_of_now() -> Option<Name> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    format!("play-{}", since_1970.as_millis()).parse().ok()
}
