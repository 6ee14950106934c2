//! All memory of one geometry on the device, and its programs.
//!
//! Why it exists: everything is allocated once, when the first frame gives the geometry, and its addresses are fixed in the
//! programs. What it must never do: allocate after that, or compute: the tables are those of the CPU's registration.

use std::sync::Arc;

use super::plan::{Axis, Grid, Order, Outcome, PER_CHANNEL, PER_PIXEL, Plan, RUNNING_MINIMUM, RUNNING_QUANTILE};
use crate::cuda::{DeviceMemory, Fault, HostMemory, Machine, Program};
use crate::frame::{PixelType, Shape};
use crate::model::parameters::{Estimator, Parameters, Scope};
use crate::preprocess::affine::Laying;
use crate::preprocess::alone::KernelAlone;
use crate::preprocess::baseline::{LEAST_DISTANCE, bound};
use crate::preprocess::convert::planes;
use crate::preprocess::correlation::BLANK;
use crate::preprocess::registration::Registrar;
use crate::preprocess::{resample, spectrum};

/// Memory and programs for frames of one geometry.
pub(super) struct Stage {
    pub shape: Shape,
    /// The model's frame.
    pub input: Shape,
    pub pixel_type: PixelType,
    /// Written by the host before, read by the device during a run.
    pub order: HostMemory,
    /// Written by the device during, read by the host after a run.
    pub outcome: HostMemory,
    pub raw: u64,
    pub reference: Option<DeviceMemory>,
    /// Where the samples of an animal that is laid on the atlas lie; filled once its placement is found.
    pub laying: Option<DeviceMemory>,
    pub tensor: DeviceMemory,
    /// Where F₀ and the statistics lie.
    pub learnt: Learnt,
    pub frame: Box<dyn Program>,
    /// Bytes moved and kernels run for one frame.
    pub work: (usize, usize),
    plan: Plan,
    /// Warms code and tables; changes nothing. `None` without registration.
    pub rehearsal: Option<Box<dyn Program>>,
    _memory: Vec<DeviceMemory>,
}

/// Addresses of everything on the device that is learnt over many frames; 0 = not there.
#[derive(Clone, Copy)]
pub(super) struct Learnt {
    pub f0: u64,
    pub ring: u64,
    pub deviation: u64,
    pub mean: u64,
    pub m2: u64,
    /// 0 where the signal's share is not taken; so is the next.
    pub joint: u64,
    pub last: u64,
}

/// Takes memory and remembers it.
struct Taker<'a> {
    machine: &'a Arc<dyn Machine>,
    taken: Vec<DeviceMemory>,
}

impl Taker<'_> {
    fn room<T>(&mut self, values: usize) -> Result<u64, Fault> {
        self.keep(DeviceMemory::new(self.machine, values * size_of::<T>())?)
    }

    fn table<T: bytemuck::Pod>(&mut self, values: &[T]) -> Result<u64, Fault> {
        self.keep(DeviceMemory::of(self.machine, values)?)
    }

    fn keep(&mut self, memory: DeviceMemory) -> Result<u64, Fault> {
        let address = memory.address();
        self.taken.push(memory);
        Ok(address)
    }
}

/// What does not change from frame to frame, beside the geometry.
pub(super) struct Terms<'a> {
    pub parameters: &'a Parameters,
    /// The model's frame.
    pub input: Shape,
    /// Model frames per second.
    pub frame_rate_hz: f64,
}

impl Stage {
    /// Each kernel of a frame alone, `times` times over.
    pub(super) fn kernels(&self, machine: &Arc<dyn Machine>, times: usize) -> Result<Vec<KernelAlone>, Fault> {
        let alone = |launch| KernelAlone::new(machine, launch, times, bytemuck::bytes_of(&self.plan));
        self.plan.launches().into_iter().map(alone).collect()
    }

    /// Takes all memory for frames of `shape` and makes the programs ready.
    pub(super) fn new(
        machine: &Arc<dyn Machine>,
        terms: &Terms<'_>,
        (shape, pixel_type): (Shape, PixelType),
        registrar: Option<&Registrar>,
    ) -> Result<Self, Fault> {
        let mut taker = Taker { machine, taken: Vec::new() };
        let order = HostMemory::new(machine, size_of::<Order>())?;
        let outcome = HostMemory::new(machine, size_of::<Outcome>())?;
        let tensor = DeviceMemory::new(machine, terms.input.pixels() * size_of::<f32>())?;
        let mut plan = Plan {
            host_order: order.address(),
            host_outcome: outcome.address(),
            order: taker.room::<Order>(1)?,
            outcome: taker.room::<Outcome>(1)?,
            raw: taker.room::<u8>(shape.pixels() * pixel_type.bytes())?,
            tensor: tensor.address(),
            ..Plan::default()
        };
        lay_out_frame(&mut plan, &mut taker, terms, shape, pixel_type)?;
        lay_out_model(&mut plan, &mut taker, terms, shape)?;
        let reference = match registrar {
            Some(registrar) => Some(lay_out_registration(&mut plan, &mut taker, terms, registrar)?),
            None => None,
        };
        let laying = lay_out_atlas(&mut plan, machine, terms, shape)?;
        let argument = bytemuck::bytes_of(&plan);
        let correlation = plan.correlation();
        let rehearsal = (!correlation.is_empty()).then(|| machine.program(&correlation, argument)).transpose()?;
        let launches = plan.launches();
        let frame = machine.program(&launches, argument)?;
        let averaged = terms.parameters.baseline.as_ref().map_or(0, |baseline| baseline.average_frames);
        let work = (plan.traffic_bytes(shape.pixels() * pixel_type.bytes(), averaged), launches.len());
        let (raw, _memory) = (plan.raw, taker.taken);
        let Plan { f0, ring, deviation, mean, m2, joint, last, .. } = plan;
        let learnt = Learnt { f0, ring, deviation, mean, m2, joint, last };
        let input = terms.input;
        Ok(Self {
            shape,
            input,
            pixel_type,
            order,
            outcome,
            raw,
            reference,
            laying,
            tensor,
            learnt,
            frame,
            work,
            plan,
            rehearsal,
            _memory,
        })
    }
}

fn lay_out_frame(
    plan: &mut Plan,
    taker: &mut Taker<'_>,
    terms: &Terms<'_>,
    shape: Shape,
    pixel_type: PixelType,
) -> Result<(), Fault> {
    let (channels, guide) = planes(terms.parameters);
    let convert = &terms.parameters.convert;
    let (code, top) = match pixel_type {
        PixelType::U8 => (0, 255.0),
        PixelType::U16 => (1, 65535.0),
        PixelType::I16 => (2, 32767.0),
        PixelType::F32 => (3, f32::INFINITY),
    };
    plan.light = taker.room::<f32>(channels.len() * shape.plane())?;
    (plan.height, plan.width) = (shape.height as i32, shape.width as i32);
    (plan.planes, plan.guide, plan.pixel_type) = (channels.len() as i32, guide as i32, code);
    for (to, channel) in plan.plane_channel.iter_mut().zip(channels) {
        *to = channel as i32;
    }
    (plan.dark, plan.top) = (convert.dark_level, top);
    // Floating-point pixels have no top: they are never inverted.
    let inverts = convert.invert && pixel_type != PixelType::F32;
    (plan.sign, plan.lift) = if inverts { (-1.0, top) } else { (1.0, 0.0) };
    Ok(())
}

fn lay_out_model(plan: &mut Plan, taker: &mut Taker<'_>, terms: &Terms<'_>, shape: Shape) -> Result<(), Fault> {
    let (parameters, input) = (terms.parameters, terms.input);
    let sides = [(shape.height, input.height), (shape.width, input.width)];
    for (grid, (from, to)) in plan.grid.iter_mut().zip(sides) {
        let taps = resample::taps(from, to);
        let (first, weights) = (taker.room::<i32>(to)?, taker.room::<f32>(to * taps)?);
        *grid = Grid { first, weights, from: from as i32, to: to as i32, taps: taps as i32, pad: 0 };
    }
    (plan.channels, plan.model_plane) = (input.channels as i32, input.plane() as i32);
    plan.averaged = i32::from(parameters.average_frames > 1);
    plan.group_share = 1.0 / parameters.average_frames as f32;
    plan.group_sum = taker.room::<f32>(input.pixels())?;
    if let Some(baseline) = &parameters.baseline {
        plan.f0 = taker.room::<f64>(input.pixels())?;
        (plan.floor_counts, plan.baseline_floor) = (baseline.floor_counts, f64::from(baseline.floor_counts));
        plan.leak = f64::from(baseline.leak_per_s) / terms.frame_rate_hz;
        plan.fall = bound(baseline.fall_per_s) / terms.frame_rate_hz;
        plan.least_distance = f64::from(baseline.floor_counts) * LEAST_DISTANCE;
        plan.quantile = f64::from(baseline.quantile);
        match baseline.estimator {
            Estimator::RunningMinimum => {
                plan.baseline = RUNNING_MINIMUM;
                plan.ring = taker.room::<f32>(baseline.average_frames * input.pixels())?;
            }
            Estimator::RunningQuantile => {
                plan.baseline = RUNNING_QUANTILE;
                plan.deviation = taker.room::<f64>(input.pixels())?;
            }
        }
    }
    if let Some(normalise) = &parameters.normalise {
        plan.sd_floor = f64::from(normalise.sd_floor);
        let groups = match normalise.scope {
            Scope::Pixel => input.pixels(),
            Scope::Channel => input.channels,
        };
        plan.statistics = if normalise.scope == Scope::Pixel { PER_PIXEL } else { PER_CHANNEL };
        (plan.mean, plan.m2) = (taker.room::<f64>(groups)?, taker.room::<f64>(groups)?);
        if normalise.signal_share {
            (plan.joint, plan.last) = (taker.room::<f64>(groups)?, taker.room::<f64>(groups)?);
        }
    }
    Ok(())
}

/// Returns the memory of the samples' places; `None` without an atlas.
fn lay_out_atlas(
    plan: &mut Plan,
    machine: &Arc<dyn Machine>,
    terms: &Terms<'_>,
    shape: Shape,
) -> Result<Option<DeviceMemory>, Fault> {
    if terms.parameters.atlas.is_none() {
        return Ok(None);
    }
    let laying = Laying::new((shape.height, shape.width), (terms.input.height, terms.input.width));
    let memory = DeviceMemory::new(machine, laying.table.len() * size_of::<f32>())?;
    plan.laying = memory.address();
    plan.samples = laying.samples() as i32;
    (plan.bins, plan.binned) = (laying.bins.map(|px| px as i32), laying.binned.map(|px| px as i32));
    Ok(Some(memory))
}

/// Returns the memory of the template's spectrum, which is filled whenever there is a new one.
fn lay_out_registration(
    plan: &mut Plan,
    taker: &mut Taker<'_>,
    terms: &Terms<'_>,
    registrar: &Registrar,
) -> Result<DeviceMemory, Fault> {
    let blueprint = registrar.blueprint();
    let (spectrum, reach) = (blueprint.spectrum, blueprint.reach);
    let smooth_px = terms.parameters.registration.as_ref().map_or(0.0, |r| r.smooth_px);
    plan.axis =
        [lay_out_axis(taker, spectrum, 0, reach, smooth_px)?, lay_out_axis(taker, spectrum, 1, reach, smooth_px)?];
    let [samples, kept] = [spectrum.y.samples, spectrum.x.kept];
    let (rows, lags) = (blueprint.grid.rows, 2 * reach + 1);
    let reference = DeviceMemory::new(taker.machine, 4 * rows * blueprint.grid.columns * size_of::<f32>())?;
    plan.reference = reference.address();
    plan.row_spectra = taker.room::<[f32; 2]>(kept * samples)?;
    plan.folded = taker.room::<f32>(4 * rows * kept)?;
    plan.summed = taker.room::<[f32; 2]>(lags * kept)?;
    plan.energy = taker.room::<f32>(kept)?;
    plan.surface = taker.room::<f32>(lags * lags)?;
    (plan.rows, plan.reach, plan.reach_px) = (rows as i32, reach as i32, reach as f32);
    plan.wide = (spectrum.x.samples * spectrum.x.factor + spectrum.x.taps.len()) as i32;
    plan.ones = spectrum.constant[0][0].re * spectrum.constant[1][0].re;
    let [y, x] = [0, 1].map(|axis| weights(spectrum, axis, smooth_px).iter().sum::<f32>());
    plan.blank = BLANK * (2.0 * y * x);
    plan.peak_min = terms.parameters.registration.as_ref().map_or(0.0, |r| r.peak_min);
    Ok(reference)
}

/// Gaussian weights of the kept frequencies; a real image's kx = 0 column holds every wave twice.
fn weights(spectrum: &spectrum::Spectrum, axis: usize, smooth_px: f32) -> Vec<f32> {
    let along = if axis == 0 { &spectrum.y } else { &spectrum.x };
    let halved = |k: usize| if axis == 1 && k == 0 { 0.5 } else { 1.0 };
    (0..along.kept).map(|k| along.weight(k, smooth_px) * halved(k)).collect()
}

fn lay_out_axis(
    taker: &mut Taker<'_>,
    spectrum: &spectrum::Spectrum,
    axis: usize,
    reach: usize,
    smooth_px: f32,
) -> Result<Axis, Fault> {
    let along = if axis == 0 { &spectrum.y } else { &spectrum.x };
    let turn = |n: usize| {
        let (sin, cos) = (-std::f64::consts::TAU * n as f64 / along.length as f64).sin_cos();
        [cos as f32, sin as f32]
    };
    let turns: Vec<[f32; 2]> = (0..along.length).map(turn).collect();
    let constant: Vec<[f32; 2]> = spectrum.constant[axis].iter().map(|c| [c.re, c.im]).collect();
    let angles = |k: usize| (0..=reach).map(move |lag| along.radians_per_px(k) * lag as f64);
    let waves = |of: fn(f64) -> f64| (0..along.kept).flat_map(|k| angles(k).map(of)).map(|v| v as f32).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = (waves(f64::cos), waves(f64::sin));
    Ok(Axis {
        taps: taker.table(&along.taps)?,
        window: taker.table(&along.window)?,
        weights: taker.table(&weights(spectrum, axis, smooth_px))?,
        turns: taker.table(&turns)?,
        constant: taker.table(&constant)?,
        lag_cos: taker.table(&cos)?,
        lag_sin: taker.table(&sin)?,
        px: along.px as i32,
        factor: along.factor as i32,
        length: along.length as i32,
        samples: along.samples as i32,
        kept: along.kept as i32,
        tap_count: along.taps.len() as i32,
        radians: along.radians_per_px(1) as f32,
        pad: 0,
    })
}
