//! From what was typed to what is done: one function per subcommand, each as short as its arguments allow.
//!
//! Why it exists: the modules that act take plain values and know nothing of clap. What it must never do: act itself.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::model;
use crate::cli::model::{AdoptArguments, InspectArguments};
use crate::cli::monitor::MonitorArgs;
use crate::cli::simulate_command::open as open_recording;
#[cfg(feature = "train")]
use crate::cli::train_command;
use crate::cli::{
    BenchArgs, BenchPart, Cli, Command, ControlArgs, EmbedArgs, ModelAdoptArgs, ModelCommand, PlayArgs, Progress,
    RecordingArgs, RunArgs, WatchArgs,
};
use crate::cli::{bench, check, diff_command, log, simulate_command};
use crate::client::monitor::{MonitorOptions, monitor};
use crate::client::play;
use crate::client::play::{Burst, Pace, Pattern, PlayOptions, PlayProgress};
use crate::client::watch::{WatchOptions, screen, truth_of, watch};
use crate::config::endpoint::Endpoint;
use crate::config::{Attach, Config, Warning};
use crate::corridor::supervisor::control;
use crate::corridor::{offline, supervisor};
use crate::decoder::Decoder;
use crate::frame::Name;
use crate::session::is_session;
use crate::session::unpacked::Unpacked;
use crate::session::{export, unpacked};
use crate::source::RecordingSpec;
use crate::source::limit::Limited;
use crate::source::{Source, SourceError};
use crate::sys::exit::ExitCode;

/// What a person can read, lines per second.
const LINES_PER_S: f64 = 5.0;

/// Does what was asked.
///
/// # Errors
/// Whatever the subcommand could not do; [`ExitCode::of`] says with which number to leave.
pub fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => daemon(&args)?,
        Command::Play(args) => microscope(&args)?,
        Command::Watch(args) => listener(args)?,
        Command::Monitor(args) => look(&args)?,
        Command::Embed(args) => offline(&args)?,
        Command::Diff(args) => {
            log::start(&Config::default().log)?;
            return diff_command::command(&args);
        }
        Command::Export(args) => {
            log::start(&Config::default().log)?;
            export::command(&args)?;
        }
        #[cfg(feature = "train")]
        Command::Calibrate(args) => adapt(args)?,
        Command::Check(args) => return check::command(&args),
        Command::Control(args) => return ask(&args),
        Command::Model(args) => model(args)?,
        #[cfg(feature = "train")]
        Command::Train(args) => learn(|stop| train_command::train(&args, stop))?,
        #[cfg(feature = "train")]
        Command::Eval(args) => learn(|_| train_command::eval(&args))?,
        #[cfg(feature = "train")]
        Command::Compare(args) => learn(|stop| train_command::compare(&args, stop))?,
        #[cfg(feature = "train")]
        Command::Report(args) if is_session(&args.report) => {
            log::start(&Config::default().log)?;
            return crate::report::session::report(&args.report, args.out.as_deref(), &mut stdout());
        }
        #[cfg(feature = "train")]
        Command::Report(args) => crate::cli::report_command::report(&args, &mut stdout())?,
        Command::Simulate(args) => simulate_command::simulate(&args, &mut stdout())?,
        Command::Bench(args) => measure(&args)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "haltere", &mut stdout());
        }
    }
    Ok(ExitCode::Ok)
}

fn daemon(args: &RunArgs) -> anyhow::Result<()> {
    let (mut config, warnings) = args.config.load()?;
    if let Some(folder) = &args.record {
        config.record.folder = Some(folder.clone());
    }
    log::start(&config.log)?;
    let silence = if args.silence == 0 { Duration::MAX } else { Duration::from_secs(args.silence) };
    supervisor::run(&config, &warnings, args.once.then_some(silence), args.report.as_deref())
}

/// Training tells what it does on standard error; a first Ctrl-C ends it in order.
#[cfg(feature = "train")]
fn learn(work: impl FnOnce(&Arc<AtomicBool>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    log::start(&Config::default().log)?;
    work(&stop_flag()?)
}

fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    supervisor::stop_on_signals(&stop)?;
    Ok(stop)
}

fn recording_spec(args: &RecordingArgs, source: Name) -> RecordingSpec {
    let second = args.channel_file.iter().map(|file| vec![file.clone()]);
    RecordingSpec {
        channels: std::iter::once(args.recording.clone()).chain(second).collect(),
        raw: args.raw,
        rate_hz: args.rate,
        plane: args.plane,
        source,
    }
}

fn microscope(args: &PlayArgs) -> anyhow::Result<()> {
    let stop = stop_flag()?;
    let spec = recording_spec(&args.recording, args.source);
    let options = PlayOptions {
        endpoint: args.endpoint.to_string(),
        pattern: if args.push { Pattern::Push } else { Pattern::Pub },
        attach: if args.connect { Attach::Connect } else { Attach::Bind },
        series: args.series.or_else(series_of_now),
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
    let bar = offline::progress_bar(None, std::io::stderr().is_terminal());
    let mut progress = |so_far: &PlayProgress| {
        so_far.total.into_iter().for_each(|total| bar.set_length(total));
        bar.set_position(so_far.sent);
    };
    let report = play::play(&options, &mut || open_recording(&spec), &stop, &mut progress)?;
    bar.finish_and_clear();
    let us = |ns: u64| ns as f64 / 1e3;
    let late = report.lateness;
    eprintln!(
        "sent {} frames in {:.1} s ({:.1} Hz), left out {}, repeated {}; sent late by p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
        report.progress.sent,
        report.elapsed_s,
        report.rate_hz,
        report.progress.skipped,
        report.progress.repeated,
        us(late.p50_ns),
        us(late.p99_ns),
        us(late.max_ns)
    );
    if !report.receiver_seen && !args.no_wait {
        eprintln!("nobody listened on {} when the first frame went out", args.endpoint);
    }
    Ok(())
}

/// A series of this start's own: a microscope that was started anew is then never taken for the one before.
fn series_of_now() -> Option<Name> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    format!("play-{}", since_1970.as_millis()).parse().ok()
}

fn listener(args: WatchArgs) -> anyhow::Result<()> {
    let stop = stop_flag()?;
    let options = WatchOptions {
        endpoint: args.endpoint.to_string(),
        source: args.source.map(|name| name.to_string()),
        json: args.json,
        duration: args.seconds.map(Duration::from_secs_f64),
        frames: args.frames,
        lines_per_s: if args.every_line { f64::INFINITY } else { LINES_PER_S },
        truth: args.truth.as_deref().map(truth_of).transpose()?,
        look_ahead: args.look_ahead,
    };
    if args.screen {
        screen(&options, &stop, &mut stdout())?;
    } else {
        watch(&options, &stop, &mut stdout())?;
    }
    Ok(())
}

fn look(args: &MonitorArgs) -> anyhow::Result<()> {
    let config = args.config.load()?.0;
    let stop = stop_flag()?;
    let control = match config.control.endpoint {
        Some(endpoint) if args.allow_control => Some(endpoint),
        None if args.allow_control => anyhow::bail!("--allow-control: `control.endpoint` is off in this configuration"),
        _ => None,
    };
    let endpoint = args.endpoint.clone().map_or_else(|| to_connect(&config.publish.endpoint), |e| e.to_string());
    // Asked for by name, a model must be one; that of a configuration may be on the daemon's machine only.
    if args.config.model.is_some() {
        crate::model::Model::load(&config.model)?;
    }
    let options = MonitorOptions {
        endpoint: endpoint.clone(),
        bind: args.bind,
        allow_remote: args.allow_remote,
        control,
        model: config.model,
    };
    monitor(&options, &stop, |address| eprintln!("http://{address} shows what {endpoint} says; Ctrl-C ends it"))?;
    Ok(())
}

/// Every interface is where a daemon binds; here it is reached on this machine.
fn to_connect(bound: &str) -> String {
    match bound.parse::<Endpoint>() {
        Ok(endpoint @ Endpoint::Tcp { port, .. }) if endpoint.is_wildcard() => format!("tcp://127.0.0.1:{port}"),
        _ => bound.to_owned(),
    }
}

fn offline(args: &EmbedArgs) -> anyhow::Result<()> {
    let session = match args.recording.recording.as_slice() {
        [one] if is_session(one) && args.recording.raw.is_none() => Some(one),
        _ => None,
    };
    // Lives until the model has been read.
    let unpacked = session.map(|session| Unpacked::of(session)).transpose()?;
    let (config, warnings) = match &unpacked {
        Some(unpacked) => unpacked.config(&args.config)?,
        None => args.config.load()?,
    };
    log::start(&config.log)?;
    tell(&warnings);
    session.map_or(Ok(()), |session| unpacked::warn_of(session))?;
    let decoder = Decoder::open(&config)?;
    let recording = open_limited(&args.recording, config.rig, Some(decoder.model.manifest.frame_rate_hz))?;
    let shown = is_shown(args.progress);
    let report = offline::embed(&config, decoder, recording, &args.out, args.csv.as_deref(), shown)?;
    tracing::info!("{report}");
    Ok(())
}

fn is_shown(progress: Progress) -> bool {
    match progress {
        Progress::Auto => std::io::stderr().is_terminal(),
        Progress::Always => true,
        Progress::Never => false,
    }
}

#[cfg(feature = "train")]
fn adapt(mut args: crate::cli::CalibrateArgs) -> anyhow::Result<()> {
    args.config.model = Some(args.base);
    let (config, warnings) = args.config.load()?;
    log::start(&config.log)?;
    tell(&warnings);
    let rate_hz = crate::model::Model::load(&config.model)?.manifest.frame_rate_hz;
    let named: Vec<String> = args.recording.recording.iter().map(|path| path.display().to_string()).collect();
    let arguments = crate::train::calibrate::CalibrateArguments {
        out: args.out,
        recording: named.join(", "),
        labels: args.labels,
        align: !args.no_align,
        force: args.force,
    };
    let mut open = || open_limited(&args.recording, config.rig, Some(rate_hz));
    let report = crate::cli::calibrate::calibrate(&config, &arguments, is_shown(args.progress), &mut open)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Opens a recording, at most `--frames` of it; one that knows no rate is taken at `rate_hz`.
fn open_limited(args: &RecordingArgs, rig: Name, rate_hz: Option<f64>) -> Result<Box<dyn Source>, SourceError> {
    let mut spec = recording_spec(args, rig);
    let mut recording = open_recording(&spec)?;
    if recording.frame_rate_hz().is_none() && rate_hz.is_some() {
        spec.rate_hz = rate_hz;
        recording = open_recording(&spec)?;
    }
    Ok(match args.frames {
        Some(frames) => Box::new(Limited::new(recording, frames)),
        None => recording,
    })
}

fn tell(warnings: &[Warning]) {
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

fn ask(args: &ControlArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.0;
    let endpoint = config.control.endpoint.context("`control.endpoint` is off in this configuration")?;
    let command = match args.command.as_slice() {
        // The daemon was started in another folder.
        [word, path] if word == "model" => {
            let path = std::path::absolute(path).with_context(|| format!("model {path}"))?;
            format!("model {}", path.display())
        }
        words => words.join(" "),
    };
    let answer = control::ask(&endpoint, &command, args.timeout_ms)?;
    println!("{answer:#}");
    Ok(if answer["ok"] == true { ExitCode::Ok } else { ExitCode::Other })
}

fn model(command: ModelCommand) -> anyhow::Result<()> {
    let out = &mut stdout();
    match command {
        ModelCommand::Inspect { path, json } => {
            model::inspect(&InspectArguments { model: path, json, runtime: None, threads: 1 }, out)?;
        }
        ModelCommand::Adopt(args) => adopt(args)?,
        #[cfg(feature = "train")]
        ModelCommand::Init(args) => {
            model::init(
                &model::InitArguments {
                    name: args.name.to_string(),
                    folder: args.out,
                    seed: args.seed,
                    kind: args.kind.into(),
                    input: args.input,
                    channels: args.channels.unwrap_or_else(|| (0..args.input.channels).collect()),
                    frame_rate_hz: args.frame_rate,
                    window_frames: args.window,
                    force: args.force,
                    runtime: None,
                },
                out,
            )?;
        }
    }
    Ok(())
}

fn adopt(args: ModelAdoptArgs) -> anyhow::Result<()> {
    let arguments = AdoptArguments {
        onnx: args.file,
        name: args.name.map(|name| name.to_string()),
        frame_rate_hz: args.frame_rate,
        window_frames: None,
        labels: args.labels,
        trained: !args.untrained,
        force: args.force,
        runtime: args.onnxruntime,
    };
    model::adopt(&arguments, &mut stdout())?;
    Ok(())
}

fn measure(args: &BenchArgs) -> anyhow::Result<()> {
    let config = args.config.load()?.0;
    if let Some(BenchPart::Registration { movie, template, out }) = &args.part {
        let open = |path: &Path| open_recording(&RecordingSpec::new(path, config.rig));
        return bench::register(open(movie)?, open(template)?, out, &mut stdout());
    }
    let frames = if args.quick { (args.frames / 10).max(10) } else { args.frames } as usize;
    let folder = std::env::temp_dir().join(format!("haltere-bench-{}", std::process::id()));
    let config = if args.config.model.is_some() { config } else { with_untrained_model(config, &folder)? };
    let out: &mut dyn Write = if args.json { &mut std::io::stderr() } else { &mut stdout() };
    let results = match args.part {
        Some(BenchPart::Device { paced_frames }) => bench::bench_device(&config, frames, args.hz, paced_frames, out)
            .and_then(|results| Ok(serde_json::to_string_pretty(&results)?)),
        _ => {
            bench::bench(&config, frames, args.hz, out).and_then(|results| Ok(serde_json::to_string_pretty(&results)?))
        }
    };
    // Only there if it was made for this bench.
    let _ = std::fs::remove_dir_all(&folder);
    let results = results?;
    if args.json {
        println!("{results}");
    }
    Ok(())
}

/// The network of the default size, with random weights: its time is that of a trained one.
#[cfg(feature = "train")]
fn with_untrained_model(mut config: Config, folder: &Path) -> anyhow::Result<Config> {
    let arguments = model::InitArguments {
        name: "untrained".to_owned(),
        folder: folder.to_owned(),
        seed: 1,
        kind: crate::model::Kind::Streaming,
        input: crate::frame::Shape::new(1, 128, 128),
        channels: vec![0],
        frame_rate_hz: 30.0,
        window_frames: 32,
        force: true,
        runtime: config.compute.onnxruntime.clone(),
    };
    config.model = model::init(&arguments, &mut std::io::sink())?;
    Ok(config)
}

/// Without the trainer no model can be made: the configuration's is measured.
#[cfg(not(feature = "train"))]
fn with_untrained_model(config: Config, _folder: &Path) -> anyhow::Result<Config> {
    Ok(config)
}
