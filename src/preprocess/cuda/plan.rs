//! The argument of every preprocessing kernel, and which kernel runs on how many blocks in which order.
//!
//! Why it exists: a GPU and the tests' emulator run the same description, so the tests check what the device does. What it must
//! never do: differ from the structs of `kernels.cu`, which have the same names and the same fields in the same order; sizes are
//! compared at every emulated launch.

use bytemuck::{Pod, Zeroable};

use crate::cuda::{Launch, THREADS};

const FLOAT: usize = size_of::<f32>();
const COMPLEX: usize = 2 * FLOAT;
const DOUBLE: usize = size_of::<f64>();

/// One axis of the frame in registration.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Axis {
    pub taps: u64,
    pub window: u64,
    pub weights: u64,
    pub turns: u64,
    pub constant: u64,
    pub lag_cos: u64,
    pub lag_sin: u64,
    pub px: i32,
    pub factor: i32,
    pub length: i32,
    pub samples: i32,
    pub kept: i32,
    pub tap_count: i32,
    pub radians: f32,
    pub pad: i32,
}

/// One axis of the model's frame in resampling.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Grid {
    pub first: u64,
    pub weights: u64,
    pub from: i32,
    pub to: i32,
    pub taps: i32,
    pub pad: i32,
}

/// The host's decisions about one frame.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Order {
    pub sequence: u64,
    pub quantile_alpha: f64,
    pub quantile_gain: f64,
    pub quantile_influence: f64,
    pub frames_before: f64,
    pub frames_after: f64,
    pub frames_now: f64,
    pub fade: f64,
    pub influence_sd: f64,
    pub offset: f32,
    pub reference_energy: f32,
    pub correction: [f32; 4],
    pub believed: [f32; 2],
    pub origin: [f32; 2],
    pub registers: i32,
    pub reference_blank: i32,
    pub line_shift: i32,
    pub group_begins: i32,
    pub group_full: i32,
    pub ring_slot: i32,
    pub ring_filled: i32,
    pub baseline_begins: i32,
    pub learns: i32,
    pub lowest: f32,
    pub laid: i32,
    pub pad: i32,
}

/// What came of one frame.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Outcome {
    pub sequence: u64,
    pub shift: [f32; 2],
    pub believed: [f32; 2],
    pub undo: [f32; 2],
    pub peak: f32,
    pub at_bound: i32,
    pub doubtful: i32,
    pub non_finite: u32,
    pub saturated: u32,
    pub unusable: u32,
}

/// Where everything lies and how large it is.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Plan {
    pub host_order: u64,
    pub host_outcome: u64,
    pub order: u64,
    pub outcome: u64,
    pub raw: u64,
    pub light: u64,
    pub axis: [Axis; 2],
    pub grid: [Grid; 2],
    pub reference: u64,
    pub row_spectra: u64,
    pub folded: u64,
    pub summed: u64,
    pub energy: u64,
    pub surface: u64,
    pub group_sum: u64,
    pub ring: u64,
    pub f0: u64,
    pub deviation: u64,
    pub mean: u64,
    pub m2: u64,
    pub joint: u64,
    pub last: u64,
    pub tensor: u64,
    pub laying: u64,
    pub leak: f64,
    pub fall: f64,
    pub least_distance: f64,
    pub baseline_floor: f64,
    pub quantile: f64,
    pub sd_floor: f64,
    pub dark: f32,
    pub sign: f32,
    pub lift: f32,
    pub top: f32,
    pub floor_counts: f32,
    pub blank: f32,
    pub ones: f32,
    pub peak_min: f32,
    pub reach_px: f32,
    pub group_share: f32,
    pub plane_channel: [i32; 2],
    pub height: i32,
    pub width: i32,
    pub planes: i32,
    pub guide: i32,
    pub pixel_type: i32,
    pub rows: i32,
    pub reach: i32,
    pub averaged: i32,
    pub channels: i32,
    pub model_plane: i32,
    pub baseline: i32,
    pub statistics: i32,
    pub wide: i32,
    pub samples: i32,
    pub bins: [i32; 2],
    pub binned: [i32; 2],
}

/// `baseline` of a [`Plan`].
pub(super) const RUNNING_MINIMUM: i32 = 1;
/// `baseline` of a [`Plan`].
pub(super) const RUNNING_QUANTILE: i32 = 2;
/// `statistics` of a [`Plan`].
pub(super) const PER_PIXEL: i32 = 1;
/// `statistics` of a [`Plan`].
pub(super) const PER_CHANNEL: i32 = 2;

impl Plan {
    /// Does this plan register?
    fn registers(&self) -> bool {
        self.axis[0].kept > 0
    }

    /// Everything that happens to a frame once it lies on the device.
    pub(super) fn launches(&self) -> Vec<Launch> {
        let (planes, channels) = (self.planes as usize, self.channels as usize);
        let pixels = planes * (self.height * self.width) as usize;
        let mut launches =
            vec![Launch::new("begin", 1, 0), Launch::over("convert", pixels, THREADS as usize * size_of::<i32>())];
        if self.registers() {
            launches.extend(self.correlation());
            launches.push(self.peak());
        }
        launches.push(Launch::new("aim", 2, 0));
        launches.push(Launch::over("develop", channels * self.model_plane as usize, 0));
        if self.statistics == PER_CHANNEL {
            launches.push(Launch::new("normalise_channels", channels, THREADS as usize * DOUBLE));
        }
        launches.push(Launch::new("finish", 1, 0));
        launches
    }

    /// Bytes that the kernels read and write for one frame, if each touches its data once: `raw` are those of the frame,
    /// `averaged` the slots of the running minimum's ring.
    pub(super) fn traffic_bytes(&self, raw: usize, averaged: usize) -> usize {
        let (plane, planes) = ((self.height * self.width) as usize, self.planes as usize);
        let pixels = (self.channels * self.model_plane) as usize;
        let mut bytes = raw + 2 * planes * plane * FLOAT + pixels * FLOAT;
        if self.registers() {
            let (samples, kept) = (self.axis[0].samples as usize, self.axis[1].kept as usize);
            // The guide once more, spectra and folded written and read (the latter by three steps of the climb), the reference.
            bytes += plane * FLOAT + 2 * samples * kept * COMPLEX + 6 * 4 * (self.rows as usize) * kept * FLOAT;
        }
        if self.laying != 0 {
            bytes += 2 * self.model_plane as usize * FLOAT;
        }
        if self.baseline == RUNNING_MINIMUM {
            bytes += (averaged + 1) * pixels * FLOAT + 2 * pixels * DOUBLE;
        } else if self.baseline == RUNNING_QUANTILE {
            bytes += 4 * pixels * DOUBLE;
        }
        let sums = if self.joint != 0 { 4 } else { 2 };
        bytes + if self.statistics == PER_PIXEL { 2 * sums * pixels * DOUBLE } else { 0 }
    }

    /// The costly part of registration, up to the correlation at every lag. It only writes what the next frame overwrites, so
    /// it may also run between two frames, to keep code and tables in the device's caches.
    pub(super) fn correlation(&self) -> Vec<Launch> {
        if !self.registers() {
            return Vec::new();
        }
        let ([y, x], reach) = (&self.axis, self.reach as usize);
        let (threads, samples) = (THREADS as usize, [y.samples as usize, x.samples as usize]);
        let rows = threads * COMPLEX + (self.wide as usize + samples[1]) * FLOAT;
        let column = (samples[0] * COMPLEX).max(4 * (reach + 1) * FLOAT);
        let columns = 2 * threads * COMPLEX + threads * FLOAT + column;
        vec![
            Launch::new("rows", samples[0], rows),
            Launch::new("columns", x.kept as usize, columns),
            Launch::new("lags", 2 * reach + 1, 2 * (reach + 1) * FLOAT),
        ]
    }

    fn peak(&self) -> Launch {
        let (threads, waves) = (THREADS as usize, 2 * (self.axis[0].kept + self.axis[1].kept) as usize * FLOAT);
        // Candidates of the search lie where the waves do later.
        Launch::new("peak", 1, 6 * threads * FLOAT + waves.max(threads * 2 * FLOAT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Registration;
    use crate::preprocess::registration::Registrar;

    /// Shared memory that every device gives a block without being asked, bytes.
    const SHARED_BYTES_MAX: usize = 48 * 1024;

    /// The plan of the largest frame with as many frequencies as may be kept, and of others between.
    #[test]
    fn no_frame_needs_more_shared_memory_than_every_device_gives() {
        for (side, frequencies) in [(4096, 2048), (4096, 80), (2048, 409), (2048, 410), (512, 2048), (144, 8)] {
            let parameters = Registration { frequencies, reach_px: 64, ..Registration::default() };
            let registrar = Registrar::new(&parameters, side, side);
            let blueprint = registrar.blueprint();
            let axis = |a: &crate::preprocess::spectrum::Axis| Axis {
                factor: a.factor as i32,
                samples: a.samples as i32,
                kept: a.kept as i32,
                tap_count: a.taps.len() as i32,
                ..Axis::default()
            };
            let axis = [axis(&blueprint.spectrum.y), axis(&blueprint.spectrum.x)];
            let wide = axis[1].samples * axis[1].factor + axis[1].tap_count;
            let plan = Plan { axis, wide, reach: blueprint.reach as i32, planes: 1, channels: 1, ..Plan::default() };
            for launch in plan.launches() {
                assert!(launch.shared_bytes as usize <= SHARED_BYTES_MAX, "{side} px, {frequencies}: {launch:?}");
            }
        }
    }
}
