//! `haltere run`: the daemon. Opens everything, says `ready`, supervises until it is stopped.
//!
//! Why it exists: signals, control socket, log and exit code are one thread's work, and that thread never touches a frame.
//! What it must never do: go on after a stage failed, or say `ready` before the first frame would be decoded at full speed.

pub mod animals;
pub mod control;
pub mod load_model;
pub mod rehearse;

mod about;
mod doors;
mod inlet;
mod outlets;
mod service;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::config::{Config, OnDeviceFault, Warning};
use crate::corridor;
use crate::corridor::realtime;
use crate::corridor::summary::Summary;
use crate::corridor::supervisor::animals::Animals;
use crate::corridor::supervisor::control::{Control, LoadModel};
use crate::corridor::supervisor::doors::Doors;
use crate::corridor::supervisor::inlet::Inlet;
use crate::corridor::supervisor::load_model::Swapper;
use crate::corridor::{Corridor, Handles};
use crate::decide::Decider;
use crate::decoder::Decoder;
use crate::frame::event::Event;
use crate::preprocess::Chosen;
use crate::publish::Sink;
use crate::publish::decisions::RuleTable;
use crate::publish::status::standings;
use crate::publish::zmq::ZmqSink;
use crate::session::recorder::{About, Buffers, Recorder};
use crate::source::thorimage::{FollowSettings, Follower};
use crate::source::zmq::ZmqSource;
use crate::source::{Source, SourceError};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::write_whole;
use crate::sys::signals;
use service::Service;
use waiting::Waiting;

/// SCHED_FIFO priority of the recorder's thread, where the others have one: the lowest there is.
const RECORDER_PRIORITY: u8 = 1;

/// Runs the daemon until it is stopped, a stage fails, or, with `once`, its sender ends or has been silent for so long.
///
/// # Errors
/// What could not be opened, the stage that failed, or that the sender fell silent without an end message.
pub fn run(config: &Config, warnings: &[Warning], once: Option<Duration>, report: Option<&Path>) -> anyhow::Result<()> {
    report.map_or(Ok(()), expect_folder)?;
    let mut handles = Handles::default();
    signals::stop_on_signals(&handles.stop)?;
    let decoder = Decoder::open(config)?;
    fit(config, &decoder)?;
    if let Some(standby) = standby(config, &decoder)? {
        let _ = handles.standby.push(standby);
    }
    let denied = realtime::try_out(&config.realtime);
    let warnings: Vec<String> =
        warnings.iter().map(ToString::to_string).chain(denied.iter().map(ToString::to_string)).collect();
    warnings.iter().for_each(|warning| warn!("{warning}"));

    let doors = Doors::of(&config.curve, &handles.stats.connections)?;
    let priority = config.realtime.priority;
    let (source, frames_at) = realtime::with_priority(priority, || source(config, once.is_some(), &doors))?;
    let writer = recorder(config, &decoder, &mut handles)?;
    let (sinks, decodes_at) = sinks(config, &decoder, &handles, &doors, warnings)?;
    let swapper = Arc::new(Swapper::new(config, &handles, &decoder.model().manifest));
    let mut control = control(config, &swapper, &doors)?;
    let inlet = Inlet::open(config, &doors, &handles)?;
    let began = Instant::now();
    let mut service = announce(&decoder, &frames_at, &decodes_at);
    let mut animals = Animals::begin_run(&config.animal, &handles);
    let settings = corridor::Settings { end_with_series: once, ..corridor::Settings::of(&decoder, config) };
    let corridor = Corridor { source, decoder, sinks, settings, handles: handles.clone() };
    let (mut end_missing, mut waiting) = (false, Waiting::new(&config.source, &frames_at));
    let ended = corridor::run(corridor, || {
        while let Some(event) = handles.log.pop() {
            log(&event);
            end_missing |= matches!(event, Event::EndMissing { .. });
        }
        service.look(handles.stats.compute.turns.load(Relaxed), began.elapsed());
        waiting.look(handles.stats.intake.received.load(Relaxed), began.elapsed());
        doors::log(&handles.stats.connections);
        // Models that were replaced are dropped here, where nothing waits.
        drop(handles.retired.pop());
        animals.tick(&handles);
        if let Some(control) = &mut control {
            control.answer(&handles, &mut animals, || status(&handles, &swapper, began));
        }
    });
    inlet.into_iter().for_each(Inlet::end);
    service.stopping();
    end_recording(&handles, writer);
    let summary = Summary::of(&handles.stats, &swapper.running(), began.elapsed());
    info!("{summary}");
    report.map_or(Ok(()), |path| write_report(path, &summary))?;
    let what = "the corridor ended before its source did".to_owned();
    ended.context(Failure { code: ExitCode::Stage, what })?;
    let what =
        "--once: the sender's end message never arrived (see above); --silence sets how long to wait for it".to_owned();
    if end_missing { Err(Failure { code: ExitCode::Source, what }.into()) } else { Ok(()) }
}

/// Whoever decodes are published to, and where the first of them, ZeroMQ, is bound.
fn sinks(
    config: &Config,
    decoder: &Decoder,
    handles: &Handles,
    doors: &Doors,
    warnings: Vec<String>,
) -> anyhow::Result<(Vec<Box<dyn Sink>>, String)> {
    let priority = config.realtime.priority;
    let (tag, stats) = (decoder.tag().clone(), handles.stats.clone());
    let (context, door, publish) = (zmq::Context::new(), doors.at(&config.publish.endpoint), &config.publish);
    let bind = || ZmqSink::bind_at(&context, door, publish, config.rig, tag.clone(), stats, warnings);
    let sink = realtime::with_priority(priority, bind)?;
    let sink = witnessed(sink, handles).deciding(RuleTable::new(&config.decision, &tag));
    let decodes_at = sink.endpoint();
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(sink)];
    sinks.extend(realtime::with_priority(priority, || outlets::relays(config, &tag, handles, doors))?);
    Ok((sinks, decodes_at))
}

/// The publisher, with the recorder as its witness, where there is one.
fn witnessed(sink: ZmqSink, handles: &Handles) -> ZmqSink {
    match &handles.recorder {
        Some(recorder) => sink.witnessed_by(Box::new(recorder.clone())),
        None => sink,
    }
}

/// The rules must fit the model; that is better known before any socket is opened.
fn fit(config: &Config, decoder: &Decoder) -> anyhow::Result<()> {
    let rate_hz = decoder.model().manifest.stream_rate_hz();
    Decider::new(&config.decision, decoder.tag(), rate_hz)
        .map(drop)
        .context(Failure { code: ExitCode::Config, what: "the rules do not fit the model".to_owned() })
}

/// The summary as a file (`--report`).
fn write_report(path: &Path, summary: &Summary) -> anyhow::Result<()> {
    let written = write_whole(path, format!("{:#}\n", summary.to_json()).as_bytes());
    written.with_context(|| Failure { code: ExitCode::Sink, what: format!("--report {}", path.display()) })
}

/// How the run stands, for the control socket.
fn status(handles: &Handles, swapper: &Swapper, began: Instant) -> Value {
    let mut status = Summary::of(&handles.stats, &swapper.running(), began.elapsed()).to_json();
    let decisions = &handles.stats.decisions;
    if !decisions.names().is_empty()
        && let Some(object) = status.as_object_mut()
    {
        object.insert("decisions".to_owned(), json!(standings(decisions)));
    }
    if let (Some((model, generation)), Some(object)) = (swapper.on_trial(), status.as_object_mut()) {
        object.insert("on_trial".to_owned(), json!({ "model": model, "generation": generation }));
    }
    status
}

/// What takes over when the device fails, if the configuration wants that.
fn standby(config: &Config, decoder: &Decoder) -> anyhow::Result<Option<Box<Decoder>>> {
    if !decoder.on_device() || config.compute.on_device_fault == OnDeviceFault::Stop {
        return Ok(None);
    }
    let on_cpu = Chosen::cpu("the device that was chosen failed");
    Ok(Some(Box::new(Decoder::open_on(decoder.model(), &config.compute, &on_cpu)?)))
}

/// Where frames come from, and its name for people.
fn source(config: &Config, once: bool, doors: &Doors) -> Result<(Box<dyn Source>, String), SourceError> {
    let (settings, wait) = (&config.source, config.realtime.wait);
    if let Some(path) = &settings.follow {
        let how = FollowSettings::new(settings, config.lane.overload, wait, once);
        let follower = Follower::open(path, how, config.rig)?;
        let at = follower.describe();
        return Ok((Box::new(follower), at));
    }
    let socket = ZmqSource::open_with(settings, config.rig, wait, &doors.frames(&settings.endpoint))?
        .silent_after(config.publish.deadline);
    let at = socket.endpoint().to_owned();
    Ok((Box::new(socket), at))
}

/// The control socket, if the configuration wants one.
fn control(config: &Config, swapper: &Arc<Swapper>, doors: &Doors) -> anyhow::Result<Option<Control>> {
    let Some(endpoint) = &config.control.endpoint else { return Ok(None) };
    let swapper = Arc::clone(swapper);
    let load_model: LoadModel = Arc::new(move |path| swapper.swap(path));
    let control =
        Control::bind(doors.at(endpoint), endpoint, config.control.rehearse, load_model).map_err(|cause| {
            let what = format!("control socket: {cause}");
            anyhow::Error::new(cause).context(Failure { code: ExitCode::Sink, what })
        })?;
    Ok(Some(control))
}

/// The recorder, if the configuration wants one, and its thread. A folder that cannot be written is known before the first frame.
fn recorder(config: &Config, decoder: &Decoder, handles: &mut Handles) -> anyhow::Result<Option<JoinHandle<()>>> {
    if config.record.folder.is_none() {
        return Ok(None);
    }
    let about = About::of(config, decoder)?;
    let buffers = Buffers { frame_bytes_max: config.source.frame_bytes_max, decode: &decoder.new_decode() };
    let (recorder, mut worker) =
        Recorder::new(&config.record, buffers, about, handles.stats.clone(), handles.events.clone());
    if config.record.at_start {
        let failed = |cause: String| Failure { code: ExitCode::Sink, what: format!("record.folder: {cause}") };
        let path = worker.start().map_err(failed)?;
        info!("recording into {}", path.display());
    }
    handles.recorder = Some(recorder);
    // Behind the corridor's threads and before everything that is not real-time: else a busy machine would cost frames.
    let priority = config.realtime.priority.map(|_| RECORDER_PRIORITY);
    let thread = std::thread::Builder::new().name("record".into()).spawn(move || {
        // What is denied here was denied to the corridor's threads as well, which was reported at the start.
        realtime::settle("record", None, priority);
        worker.run();
    });
    Ok(Some(thread.context("cannot start the recorder's thread")?))
}

/// Lets the recorder write what waits and end its file, and logs its last events.
fn end_recording(handles: &Handles, writer: Option<JoinHandle<()>>) {
    if let Some(recorder) = &handles.recorder {
        recorder.end();
    }
    if writer.is_some_and(|writer| writer.join().is_err()) {
        warn!("internal error in the recorder: the end of the session may be missing; please report this");
    }
    while let Some(event) = handles.events.pop() {
        log(&event);
    }
}

/// What cannot be written at the end is better known before the experiment.
fn expect_folder(report: &Path) -> anyhow::Result<()> {
    let folder = report.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    let what =
        format!("--report {}: the folder {} does not exist; create it first", report.display(), folder.display());
    Err(Failure { code: ExitCode::Sink, what }.into())
}

/// Says that decodes can begin, on the log and to systemd.
fn announce(decoder: &Decoder, frames_at: &str, decodes_at: &str) -> Service {
    let manifest = &decoder.model().manifest;
    let model = format!("model {} ({} Hz, {})", manifest.name, manifest.frame_rate_hz, manifest.input);
    info!("ready: {model} on {}; frames from {frames_at}, decodes at {decodes_at}", decoder.device());
    if decoder.encode_info().partly_on_cpu {
        warn!("ONNX Runtime runs part of the model on the CPU instead of the GPU, which is slower");
    }
    if !decoder.tag().decodes_actions() {
        warn!("this model decodes no actions because it is untrained or has no labels; only embeddings are published");
    }
    let service = Service::from_environment();
    service.ready(&format!("frames from {frames_at}, decodes at {decodes_at}"));
    service
}

fn log(event: &Event) {
    match event {
        Event::Fault { .. } | Event::DeviceFault { .. } | Event::Stale { .. } | Event::RecordFailed { .. } => {
            tracing::error!("{event}")
        }
        Event::SeriesBegan { .. }
        | Event::SeriesEnded
        | Event::Ready { .. }
        | Event::WarmingUp { .. }
        | Event::AnimalKnown { .. }
        | Event::AnimalSaved { .. }
        | Event::Recovered { .. }
        | Event::FrameRateBack { .. }
        | Event::DriftBack { .. }
        | Event::Placement { .. }
        | Event::OutletBack { .. }
        | Event::FileBack { .. }
        | Event::Swapped { .. }
        | Event::Request { .. }
        | Event::DecisionSwitched { .. }
        | Event::RehearsalOver
        | Event::RecordBegan
        | Event::RecordEnded
        | Event::Mark { .. }
        | Event::Shutdown => info!("{event}"),
        // As many as somebody else likes.
        Event::Inlet { .. } => tracing::debug!("{event}"),
        _ => warn!("{event}"),
    }
}
