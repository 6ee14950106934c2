//! From bytes in host memory to an embedding in host memory: the compute thread's work alone, beside what physics asks
//! for.
//!
//! Why it exists: on a GPU the corridor must be limited by copy, memory traffic and launch, not by us; so the three are
//! measured on the same device and printed beside the latency. What it must never do: count a frame that has no decode,
//! or leave pauses out: a GPU that idles between frames is a slow one.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::corridor::Settings;
use crate::cuda::{DeviceMemory, Fault, HostMemory, Machine, Program, floor};
use crate::decoder::{Decoder, IdleWork, Step};
use crate::frame::{Decode, Distrust, Frame, PixelMemory, PixelType, Shape};
use crate::preprocess::choose;

use super::client::quantile;

/// Frames after those that template, baseline and statistics need, before anything is counted.
const WARM_FRAMES: usize = 200;
/// Longest sleep of a paced load; the rest of a pause is spent looking at the clock.
const SLEEP_UNTIL: Duration = Duration::from_micros(300);

/// One load.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    /// How frames came.
    pub load: String,
    /// Frames that were decoded.
    pub frames: usize,
    /// Bytes to embedding, p50, p99, p99.9, max, µs.
    pub latency_us: [f64; 4],
    /// Preprocessing alone, p50, µs.
    pub preprocess_us_p50: f64,
    /// Encoding alone, p50, µs.
    pub encode_us_p50: f64,
    /// Frames per second that this latency allows.
    pub fps: f64,
    /// Models that were opened and given back beside it.
    pub swaps: usize,
}

/// What `haltere bench device` measured.
#[derive(Debug, serde::Serialize)]
pub struct DeviceResults {
    /// Manifest of the model.
    pub model: String,
    /// Where it ran.
    pub device: String,
    /// ONNX Runtime's execution provider.
    pub provider: &'static str,
    /// What the device asks for at least; `None` on the CPU.
    pub floor: Option<Floor>,
    /// The loads.
    pub rows: Vec<Row>,
}

/// Decodes by `decoder`, which `config` says, `movie` (square frames of `side` px) at `hz`, at 1000 Hz and without pause, `frames` frames each, but at
/// `hz` no more than `paced_frames`.
///
/// # Errors
/// When a frame is not decoded, or another model of the configuration cannot be opened.
pub fn measure(
    config: &Config,
    decoder: Decoder,
    (side, movie): (usize, &[Vec<u16>]),
    (frames, hz, paced_frames): (usize, f64, usize),
    out: &mut dyn Write,
) -> anyhow::Result<DeviceResults> {
    let mut bench = Bench::new(config, decoder, side, movie);
    let (device, provider) = (bench.decoder.device().to_owned(), bench.decoder.encode_info().provider);
    writeln!(out, "\nbytes in host memory → embedding in host memory, {device}, encoder by {provider}\n")?;
    writeln!(out, "| load | frames | p50 µs | p99 | p99.9 | max | preprocess p50 | encode p50 | frames/s |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    bench.warm_up()?;
    let mut rows = Vec::new();
    for (pace, count) in [(Some(hz), frames.min(paced_frames)), (Some(1000.0), frames), (None, frames)] {
        let row = bench.load(pace, count)?;
        print(&row, out)?;
        rows.push(row);
    }
    let row = bench.during_swaps(config, hz, frames.min(paced_frames))?;
    print(&row, out)?;
    let floor = bench.floor(config, &rows, out)?;
    rows.push(row);
    Ok(DeviceResults { model: config.model.display().to_string(), device, provider, floor, rows })
}

fn print(row: &Row, out: &mut dyn Write) -> std::io::Result<()> {
    let [p50, p99, p999, max] = row.latency_us;
    writeln!(
        out,
        "| {} | {} | {p50:.1} | {p99:.1} | {p999:.1} | {max:.1} | {:.1} | {:.1} | {:.0} |",
        row.load, row.frames, row.preprocess_us_p50, row.encode_us_p50, row.fps
    )
}

struct Bench<'a> {
    decoder: Decoder,
    movie: &'a [Vec<u16>],
    frame: Frame,
    pulse: Option<Duration>,
    /// Why the last frame that was not trusted was not.
    distrusted: Option<Distrust>,
    next: u64,
}

impl<'a> Bench<'a> {
    fn new(config: &Config, decoder: Decoder, side: usize, movie: &'a [Vec<u16>]) -> Self {
        let shape = Shape::new(1 + decoder.model().manifest.preprocess.last_channel(), side, side);
        let bytes = 2 * shape.pixels();
        let memory = decoder.frame_memory(bytes);
        let mut frame = memory.map_or_else(|| Frame::with_capacity(bytes), Frame::in_memory);
        (frame.info.shape, frame.info.pixel_type) = (shape, PixelType::U16);
        let pulse = Settings::of(&decoder, config).pulse;
        Self { decoder, movie, frame, pulse, next: 0, distrusted: None }
    }

    fn warm_up(&mut self) -> anyhow::Result<()> {
        let manifest = &self.decoder.model().manifest;
        let frames = super::corridor::warm_frames(&self.decoder) + WARM_FRAMES * manifest.preprocess.average_frames;
        let mut decode = self.decoder.new_decode();
        (0..frames).try_for_each(|_| self.step(&mut decode).map(|_| ()))
    }

    /// One frame; when preprocessing and when everything was done. The pixels lie ready before the clock starts.
    fn step(&mut self, decode: &mut Decode) -> anyhow::Result<(Duration, Duration)> {
        let pixels = &self.movie[self.next as usize % self.movie.len()];
        let plane: &[u8] = bytemuck::cast_slice(pixels);
        // The same in every channel.
        self.frame.bytes_mut().chunks_exact_mut(plane.len()).for_each(|channel| channel.copy_from_slice(plane));
        self.frame.info.number = self.next;
        self.frame.info.t_received_ns = self.next * 33_333_333;
        self.next += 1;
        let began = Instant::now();
        match self.decoder.step(&self.frame, decode)? {
            Step::Decoded(_) | Step::Averaged => {}
            Step::Distrusted => self.distrusted = decode.observation.distrust,
            Step::Refused(refusal) => return Err(refusal.into()),
            Step::NonFinite(_) => anyhow::bail!("frame {} has no finite decode", self.frame.info.number),
        }
        Ok((Duration::from_nanos(decode.times.preprocess_ns), began.elapsed()))
    }

    fn load(&mut self, hz: Option<f64>, count: usize) -> anyhow::Result<Row> {
        let mut decode = self.decoder.new_decode();
        let (mut whole, mut parts) =
            (Vec::with_capacity(count), [Vec::with_capacity(count), Vec::with_capacity(count)]);
        self.distrusted = None;
        let began = Instant::now();
        for n in 0..count {
            if let Some(hz) = hz {
                self.wait_until(began + Duration::from_secs_f64(n as f64 / hz));
            }
            let (preprocessed, done) = self.step(&mut decode)?;
            whole.push(done.as_nanos() as u64);
            parts[0].push(preprocessed.as_nanos() as u64);
            parts[1].push((done - preprocessed).as_nanos() as u64);
        }
        if let Some(reason) = self.distrusted {
            anyhow::bail!("frames were not trusted ({}) and so not encoded", reason.name());
        }
        let mean_s = whole.iter().sum::<u64>() as f64 / 1e9 / count.max(1) as f64;
        whole.sort_unstable();
        parts.iter_mut().for_each(|part| part.sort_unstable());
        let us = |sorted: &[u64], share| quantile(sorted, share) as f64 / 1e3;
        Ok(Row {
            load: hz.map_or("without pause".to_owned(), |hz| format!("paced {hz} Hz")),
            frames: count,
            latency_us: [0.5, 0.99, 0.999, 1.0].map(|share| us(&whole, share)),
            preprocess_us_p50: us(&parts[0], 0.5),
            encode_us_p50: us(&parts[1], 0.5),
            fps: 1.0 / mean_s,
            swaps: 0,
        })
    }

    /// Frames at `hz` while another thread opens the same model on the same device and gives it back, again and again: what a swap
    /// asks of both.
    fn during_swaps(&mut self, config: &Config, hz: f64, count: usize) -> anyhow::Result<Row> {
        let ended = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let swapper = threads.spawn(|| {
                let mut swaps = 0;
                while swaps == 0 || !ended.load(Ordering::Relaxed) {
                    drop(Decoder::open(config)?);
                    swaps += 1;
                }
                anyhow::Ok(swaps)
            });
            let row = self.load(Some(hz), count);
            ended.store(true, Ordering::Relaxed);
            let swaps = swapper.join().map_err(|_| anyhow::anyhow!("the thread that opened models panicked"))??;
            Ok(Row { load: "during swaps".to_owned(), swaps, ..row? })
        })
    }

    /// As the compute thread of a corridor waits: asleep, with a pulse for the device now and then.
    fn wait_until(&mut self, due: Instant) {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if let Some(pause) = left.checked_sub(SLEEP_UNTIL) {
                if self.pulse.is_some() {
                    self.decoder.idle(IdleWork::Pulse);
                }
                std::thread::sleep(pause.min(self.pulse.unwrap_or(pause)));
            }
        }
    }

    /// The floor on the bench's device, and the time of each kernel; last of all, because decodes are worth nothing afterwards.
    fn floor(&self, config: &Config, rows: &[Row], out: &mut dyn Write) -> anyhow::Result<Option<Floor>> {
        let work = self.decoder.device_work();
        let machine = choose(config.compute.device, &self.decoder.model().manifest.preprocess)?.machine;
        let (Some((traffic_bytes, launches)), Some(machine), true) = (work, machine, self.decoder.on_device()) else {
            return Ok(None);
        };
        let mut floor = Floor::measured(&machine, self.frame.len_bytes(), traffic_bytes, launches)?;
        let [once, often] = [1, KERNEL_RUNS].map(|times| self.decoder.device_kernels(times));
        for (once, often) in once?.iter().zip(&often?) {
            let longer_us = median_us(&|| often.run())? - median_us(&|| once.run())?;
            floor.kernels_us.push((once.name, longer_us.max(0.0) / (KERNEL_RUNS - 1) as f64));
        }
        floor.print(
            rows.last().map_or(0.0, |row| row.latency_us[0]),
            (self.frame.len_bytes(), traffic_bytes, launches),
            out,
        )?;
        Ok(Some(floor))
    }
}

/// Runs of one kernel in the longer of two programs, whose difference is its time.
const KERNEL_RUNS: usize = 21;

/// What the device asks for at least, and what our kernels take, µs, the median of many.
#[derive(Debug, serde::Serialize)]
pub struct Floor {
    /// A copy of the frame's bytes from page-locked memory.
    pub copy_us: f64,
    /// A kernel that reads the frame where it lies, in page-locked memory.
    pub reading_us: f64,
    /// The traffic of the kernels at the measured bandwidth.
    pub traffic_us: f64,
    /// One launch of one empty kernel, and the wait for it.
    pub node_us: f64,
    /// One launch of as many empty kernels as a frame has, and the wait for it.
    pub own_nodes_us: f64,
    /// Each kernel of a frame.
    pub kernels_us: Vec<(&'static str, f64)>,
}

impl Floor {
    /// Copy or reading, whichever is faster, traffic, and one node: the number of our nodes is no law of the device.
    pub fn sum_us(&self) -> f64 {
        self.copy_us.min(self.reading_us) + self.traffic_us + self.node_us
    }

    fn measured(
        machine: &Arc<dyn Machine>,
        frame_bytes: usize,
        traffic_bytes: usize,
        launches: usize,
    ) -> Result<Self, Fault> {
        let source = HostMemory::new(machine, frame_bytes)?;
        let target = DeviceMemory::new(machine, frame_bytes)?;
        let [one, own] = [1, launches].map(|nodes| floor::nothing(machine, nodes));
        let (one, own, reading) = (one?, own?, floor::reading(machine, &source, &target)?);
        let copying = floor::Copying::new(machine)?;
        let bytes = PixelMemory::bytes(&source);
        let program = |program: &dyn Program| median_us(&|| program.launch().and_then(|()| machine.wait()));
        let (node_us, own_nodes_us) = (program(&*one)?, program(&*own)?);
        let wait_us = median_us(&|| machine.wait())?;
        let large_us = median_us(&|| copying.launch().and_then(|()| machine.wait()))?;
        let bytes_per_us = floor::Copying::BYTES_MOVED as f64 / (large_us - node_us).max(1.0);
        Ok(Self {
            copy_us: (median_us(&|| machine.upload(target.address(), bytes))? - wait_us).max(0.0),
            reading_us: (program(&*reading)? - node_us).max(0.0),
            traffic_us: traffic_bytes as f64 / bytes_per_us,
            node_us,
            own_nodes_us,
            kernels_us: Vec::new(),
        })
    }

    fn print(
        &self,
        p50_us: f64,
        (bytes, traffic_bytes, launches): (usize, usize, usize),
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let Self { copy_us, reading_us, traffic_us, node_us, own_nodes_us, kernels_us } = self;
        let sum = self.sum_us();
        writeln!(
            out,
            "\nfloor of preprocessing: {bytes} bytes copied {copy_us:.1} µs, or read by a kernel where they lie {reading_us:.1} µs; \
             traffic of {traffic_bytes} bytes at the measured bandwidth {traffic_us:.1} µs; one launch of one empty kernel and the wait \
             for it {node_us:.1} µs: together {sum:.1} µs. p50 without pause is {:.1} times that, the encoder included. Our {launches} \
             kernels, empty, take {own_nodes_us:.1} µs.\n",
            p50_us / sum
        )?;
        writeln!(out, "| kernel | µs |\n|---|---|")?;
        kernels_us.iter().try_for_each(|(name, us)| writeln!(out, "| {name} | {us:.2} |"))
    }
}

/// The median of many runs, µs.
fn median_us(of: &dyn Fn() -> Result<(), Fault>) -> Result<f64, Fault> {
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        of()?;
        times.push(began.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    Ok(quantile(&times, 0.5) as f64 / 1e3)
}
