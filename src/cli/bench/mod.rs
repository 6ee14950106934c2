//! `haltere bench`: the numbers of this machine, by the same code that decodes.
//!
//! Why it exists: a rig owner must be able to see what their machine does before an animal is under the objective. What
//! it must never do: time work it has not checked; every frame of the corridor must be answered, and shifts are judged
//! against the truth.

pub mod client;
pub mod corridor;
pub mod device;
pub mod movie;
pub mod reading;
pub mod registration;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};

use super::config::ConfigArgs;
use super::parse::rate;
use super::training::with_untrained_model;
use crate::config::{Config, Device};
use crate::decoder::Decoder;
use crate::encode;
use crate::frame::{Frame, Pixels};
use crate::model::parameters;
use crate::preprocess::registration::Registrar;
use crate::source::{Next, RecordingSpec, Source};
use crate::sys::exit::ExitCode;
use crate::sys::files::{temporary_folder, write_whole};

use client::{Mode, quantile};
use movie::Movie;

/// Side of the frames, px: what resonant two-photon microscopes send.
const SIDE_PX: usize = 512;
/// Frames of the movie that the corridor is fed with, over and over.
const CORRIDOR_FRAMES: usize = 60;
/// Light of that movie, photons per pixel and frame.
const CORRIDOR_PHOTONS: f64 = 2.0;
const SEED: u64 = 0;

/// `haltere bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  haltere bench                      closed loop over sockets, at 30 Hz and as fast as possible
  haltere bench --quick --json
  haltere bench device --quick       preprocessing and encoding alone, on the configured device
  haltere bench reading              how fast recordings are read, against a plain copy
  haltere bench registration movie.tif --template template.tif --out shifts.csv")]
pub struct BenchArgs {
    /// Run one part only.
    #[command(subcommand)]
    pub part: Option<BenchPart>,
    /// What is measured, and how long.
    #[command(flatten)]
    pub load: Load,
}

/// The model and the frames of a measurement.
#[derive(Debug, Args)]
pub struct Load {
    /// Configuration. Its model is measured; where there is none, an untrained one is made.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Frames to measure in each part, after warm-up.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    pub frames: u64,
    /// Frame rate of the paced part.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = rate)]
    pub hz: f64,
    /// Measure a tenth of the frames: seconds instead of a minute, with less precise tails.
    #[arg(long)]
    pub quick: bool,
    /// Print JSON; the table goes to standard error.
    #[arg(long)]
    pub json: bool,
}

/// Parts of the bench that stand alone.
#[derive(Debug, Subcommand)]
pub enum BenchPart {
    /// Time preprocessing and encoding on the configured device, memory to memory: at --hz, at 1000 Hz and without
    /// pause, and while models are being opened beside it.
    Device {
        /// What is measured, and how long.
        #[command(flatten)]
        load: Load,
        /// Maximum number of paced frames at --hz; 20,000 frames at 30 Hz would take eleven minutes.
        #[arg(long, value_name = "N", default_value_t = 6000)]
        paced_frames: usize,
    },
    /// Time the readers of recordings against a plain copy of the same bytes.
    Reading {
        /// Print JSON; the table goes to standard error.
        #[arg(long)]
        json: bool,
    },
    /// Measure the shift of every frame of a movie against a template.
    Registration {
        /// Movie, TIFF.
        #[arg(value_name = "MOVIE.tif")]
        movie: PathBuf,
        /// Template, TIFF with one page.
        #[arg(long, value_name = "TEMPLATE.tif")]
        template: PathBuf,
        /// Output file with the columns frame, dy, dx, peak, us.
        #[arg(long, value_name = "SHIFTS.csv")]
        out: PathBuf,
    },
}

/// Measures what was asked for.
///
/// # Errors
/// As [`bench()`], [`bench_device`] and [`register`].
pub fn run(args: &BenchArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let (load, paced_frames) = match &args.part {
        Some(BenchPart::Registration { movie, template, out: shifts }) => {
            let rig = args.load.config.load()?.0.rig;
            let open = |path: &Path| super::recording::open(&RecordingSpec::new(path, rig));
            return register(open(movie)?, open(template)?, shifts, out).map(|()| ExitCode::Ok);
        }
        Some(BenchPart::Reading { json }) => return read(*json, out),
        Some(BenchPart::Device { load, paced_frames }) => (load, Some(*paced_frames)),
        None => (&args.load, None),
    };
    let frames = if load.quick { (load.frames / 10).max(10) } else { load.frames } as usize;
    let folder = temporary_folder("bench")?;
    let config = with_a_model(load.config.load()?.0, folder.path())?;
    let mut stderr = std::io::stderr();
    let table: &mut dyn Write = if load.json { &mut stderr } else { &mut *out };
    let results = match paced_frames {
        Some(paced) => serde_json::to_string_pretty(&bench_device(&config, frames, load.hz, paced, table)?)?,
        None => serde_json::to_string_pretty(&bench(&config, frames, load.hz, table)?)?,
    };
    if load.json {
        writeln!(out, "{results}")?;
    }
    Ok(ExitCode::Ok)
}

/// Measures the readers of recordings.
fn read(json: bool, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let folder = temporary_folder("bench")?;
    let mut stderr = std::io::stderr();
    let rows = reading::measure(folder.path(), SIDE_PX, if json { &mut stderr } else { &mut *out })?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(ExitCode::Ok)
}

/// The configured model; an untrained one where nobody configured any and there is none of the default name.
fn with_a_model(config: Config, folder: &Path) -> anyhow::Result<Config> {
    if config.model.exists() || config.model != Config::default().model {
        return Ok(config);
    }
    // A process has one ONNX Runtime: the one that the device needs, before the untrained model is held against any.
    encode::load_runtime(config.compute.onnxruntime.as_deref(), config.compute.device != Device::Cpu)?;
    with_untrained_model(config, folder)
}

/// What `haltere bench` measured.
#[derive(Debug, serde::Serialize)]
pub struct Results {
    /// Processor, cores, system.
    pub machine: String,
    /// Version of haltere.
    pub version: &'static str,
    /// Manifest of the model.
    pub model: String,
    /// Time and error of registration by light level.
    pub registration: Vec<registration::Row>,
    /// Latency of the corridor by load.
    pub corridor: Vec<corridor::Row>,
}

/// Measures registration at five light levels, then the corridor under three loads; prints each row as it comes.
///
/// # Errors
/// When the model cannot be opened, a socket fails, or `out` cannot be written.
pub fn bench(config: &Config, frames: usize, hz: f64, out: &mut dyn Write) -> anyhow::Result<Results> {
    let machine = machine();
    writeln!(out, "{machine}; haltere {}; {SIDE_PX}×{SIDE_PX} u16", env!("CARGO_PKG_VERSION"))?;
    let movie = Movie::new(SIDE_PX, frames.clamp(CORRIDOR_FRAMES, 200), SEED);
    writeln!(out, "\nregistration, one thread, known motion, {} frames a row\n", movie.frames())?;
    writeln!(out, "| photons/px | estimate µs p50 | p99 | RMS px, whole shifts | RMS px, fractions | > 1 px off |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    let mut rows = Vec::new();
    for photons in registration::LIGHT_LEVELS {
        let row = registration::measure(&movie, photons, SEED);
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.3} | {:.3} | {:.1} % |",
            row.photons,
            row.estimate_us_p50,
            row.estimate_us_p99,
            row.rms_px_whole,
            row.rms_px_fraction,
            100.0 * row.off_over_1px
        )?;
        rows.push(row);
    }
    let frames_to_send: Vec<Vec<u16>> =
        (0..CORRIDOR_FRAMES).map(|frame| movie.expose(frame, CORRIDOR_PHOTONS, SEED)).collect();
    let corridor = bench_corridor(config, &frames_to_send, frames, hz, out)?;
    let model = config.model.display().to_string();
    Ok(Results { machine, version: env!("CARGO_PKG_VERSION"), model, registration: rows, corridor })
}

fn bench_corridor(
    config: &Config,
    frames: &[Vec<u16>],
    count: usize,
    hz: f64,
    out: &mut dyn Write,
) -> anyhow::Result<Vec<corridor::Row>> {
    writeln!(out, "\nthe whole loop over tcp, publisher's time stamp → decode received, {}\n", config.model.display())?;
    writeln!(out, "| load | sent | missing | p50 µs | p90 | p99 | p99.9 | max | fps | late | sender lag p99 µs |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    let mut rows = Vec::new();
    for mode in [Mode::Paced(hz), Mode::Closed, Mode::Flood] {
        let row = corridor::measure(config, SIDE_PX, frames, mode, count)?;
        let [p50, p90, p99, p999, max] = row.latency_us;
        writeln!(
            out,
            "| {} | {} | {} | {p50:.0} | {p90:.0} | {p99:.0} | {p999:.0} | {max:.0} | {:.1} | {} | {:.0} |",
            row.load, row.sent, row.missing, row.fps, row.late, row.sender_lag_p99_us
        )?;
        anyhow::ensure!(row.missing == 0, "{} of {} frames were never answered: see the log", row.missing, row.sent);
        rows.push(row);
    }
    writeln!(out, "\nthe daemon's stages in the same runs, µs p50 / p99 / p99.9 / max\n")?;
    for row in &rows {
        for (name, [p50, p99, p999, max]) in &row.stages {
            writeln!(out, "{:>14} {name:>12} {p50:>9.1} {p99:>9.1} {p999:>9.1} {max:>9.1}", row.load)?;
        }
    }
    Ok(rows)
}

/// Measures the compute thread's work alone, from bytes to embedding, and on a device its floor. At `hz` no more than
/// `paced_frames` frames: 20,000 at 30 Hz are eleven minutes.
///
/// # Errors
/// When the device or the model cannot be had, or `out` cannot be written.
pub fn bench_device(
    config: &Config,
    frames: usize,
    hz: f64,
    paced_frames: usize,
    out: &mut dyn Write,
) -> anyhow::Result<device::DeviceResults> {
    writeln!(out, "{}; haltere {}; {SIDE_PX}×{SIDE_PX} u16", machine(), env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "model: {}", config.model.display())?;
    // First: what is missing is told at once.
    let decoder = Decoder::open(config)?;
    let movie = Movie::new(SIDE_PX, CORRIDOR_FRAMES, SEED);
    let exposed: Vec<Vec<u16>> = (0..CORRIDOR_FRAMES).map(|n| movie.expose(n, CORRIDOR_PHOTONS, SEED)).collect();
    device::measure(config, decoder, (SIDE_PX, &exposed), (frames, hz, paced_frames), out)
}

/// Measures the shift of every frame of a recording against a template and writes `frame,dy,dx,peak,us`.
///
/// # Errors
/// When a file cannot be read or written, or the geometries differ.
pub fn register(
    mut recording: Box<dyn Source>,
    mut template: Box<dyn Source>,
    path: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (first, height, width) =
        next_image(template.as_mut())?.ok_or_else(|| anyhow::anyhow!("the template is empty"))?;
    let mut registrar = Registrar::new(&parameters::Registration::default(), height, width);
    registrar.set_template(&first);
    let mut table = b"frame,dy,dx,peak,us\n".to_vec();
    let (mut times_ns, mut number) = (Vec::new(), 0);
    while let Some((image, h, w)) = next_image(recording.as_mut())? {
        anyhow::ensure!((h, w) == (height, width), "frame {number} is {h}×{w}, the template {height}×{width}");
        let began = Instant::now();
        let shift = registrar.estimate(&image);
        let ns = began.elapsed().as_nanos() as u64;
        times_ns.push(ns);
        writeln!(table, "{number},{:.6},{:.6},{:.4},{:.1}", shift.dy, shift.dx, shift.peak, ns as f64 / 1e3)?;
        number += 1;
    }
    write_whole(path, &table)?;
    times_ns.sort_unstable();
    let us = |share| quantile(&times_ns, share) as f64 / 1e3;
    writeln!(
        out,
        "{number} frames {height}×{width}: estimate p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
        us(0.5),
        us(0.99),
        us(1.0)
    )?;
    Ok(())
}

/// The next frame's first channel as light, with height and width.
fn next_image(source: &mut dyn Source) -> anyhow::Result<Option<(Vec<f32>, usize, usize)>> {
    let mut frame = Frame::with_capacity(source.frame_bytes_max());
    loop {
        match source.next(&mut frame)? {
            Next::Frame => break,
            Next::End => return Ok(None),
            _ => {}
        }
    }
    let shape = frame.info.shape;
    let light: Vec<f32> = match frame.pixels() {
        Pixels::U8(v) => v.iter().map(|&v| f32::from(v)).collect(),
        Pixels::U16(v) => v.iter().map(|&v| f32::from(v)).collect(),
        Pixels::I16(v) => v.iter().map(|&v| f32::from(v)).collect(),
        Pixels::F32(v) => v.to_vec(),
    };
    Ok(Some((light[..shape.plane()].to_vec(), shape.height, shape.width)))
}

/// Processor, cores and system, as far as Linux tells.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, {} {}", name.unwrap_or(std::env::consts::ARCH), std::env::consts::OS, system.trim())
}
