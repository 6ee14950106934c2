//! The sizes of a network, their limits, and its cost.
//!
//! Why it exists: a few numbers determine a network, and every limit is checked here once, before any memory is taken. What it
//! must never do: depend on a device or hold a weight.

use serde::{Deserialize, Serialize};

use crate::evaluate::pixels::recent_bins;
use crate::frame::{CHANNELS_MAX, Shape};
use crate::model::{LABELS_MAX, WINDOW_FRAMES_MAX};
use crate::sys::exit::{ExitCode, HasExitCode};

/// Side of the patches that the first layer cuts a frame into, px; also its stride.
pub const PATCH_PX: usize = 4;
/// Smallest and largest side of a model frame, px; sides are multiples of [`PATCH_PX`].
pub const SIDE_PX: std::ops::RangeInclusive<usize> = 32..=512;
/// Convolutions are added until no side of the map is longer than this.
pub const MAP_SIDE: usize = 4;
/// Maximum number of channels of a layer, features, or values of an embedding.
const WIDTH_MAX: usize = 4096;
/// Default channels of the layers, of which the last ones are used: four at 128×128, about 38 MFLOP per frame.
const WIDTHS: [usize; 6] = [16, 32, 48, 80, 128, 160];

/// Longest side that the network of pixels reads, px: a larger frame is binned to it first.
pub const BINNED_SIDE_PX: usize = 32;
/// Frames that the short filters over time of the network of pixels cover, and frames between two places of them.
const SHORT_FRAMES: usize = 8;
const SHORT_STEP: usize = 3;

/// What a network reads from a frame, and how it puts the frames of a window together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// A patch layer and 3×3 convolutions on each frame, then convolutions over time that do not overlap.
    #[default]
    Patches,
    /// A linear map of binned pixels with batch normalisation, then overlapping filters over time beside means of a few stretches
    /// of the window: for animals that lie on one atlas.
    Pixels,
}

/// Everything that determines the shape of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Which network.
    #[serde(default)]
    pub kind: NetworkKind,
    /// One model frame: 1 or 2 channels, sides 32 to 512 px in steps of 4.
    pub input: Shape,
    /// Channels of the patch layer and of each 3×3 layer after it; [`NetworkSpec::layers`] gives their number. Without patches: none.
    pub widths: Vec<usize>,
    /// Length of the feature vector of one frame.
    pub features: usize,
    /// Frames in a window: 2 to 1024; with patches a product of 2, 3, 5 and 7.
    pub window_frames: usize,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// Action labels; empty = no classifier.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// Frames of a window that a short filter over time covers.
pub fn short_frames(window_frames: usize) -> usize {
    SHORT_FRAMES.min(window_frames)
}

/// The frame of a window at which each place of the short filters begins, in order of time; the last place ends with the newest frame.
/// A long filter reads them all: eight frames at nine places three apart are 32 frames.
pub fn short_starts(window_frames: usize) -> Vec<usize> {
    let last = window_frames - short_frames(window_frames);
    (0..=last / SHORT_STEP).rev().map(|back| last - back * SHORT_STEP).collect()
}

/// The frames of a window in the order in which the short filters read them, place by place.
pub fn frames_read(window_frames: usize) -> Vec<usize> {
    let short = short_frames(window_frames);
    short_starts(window_frames).into_iter().flat_map(|start| start..start + short).collect()
}

/// A network that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network.{key} = {value}: {bound}")]
pub struct SpecError {
    /// Key of the specification.
    pub key: &'static str,
    /// What was written.
    pub value: String,
    /// What is allowed.
    pub bound: String,
}

impl HasExitCode for SpecError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

impl NetworkSpec {
    /// The default network for a frame of this shape: 128 features, 32 frames, 128 dimensions, no labels.
    pub fn for_input(input: Shape) -> Self {
        let layers = Self::layers(input).min(WIDTHS.len());
        let widths = WIDTHS[WIDTHS.len() - layers..].to_vec();
        let kind = NetworkKind::Patches;
        Self { kind, input, widths, features: 128, window_frames: 32, embedding: 128, labels: Vec::new() }
    }

    /// Layers with a width: the patch layer, and halvings until no side is longer than [`MAP_SIDE`].
    pub fn layers(input: Shape) -> usize {
        let mut side = input.height.max(input.width) / PATCH_PX;
        let mut layers = 1;
        while side > MAP_SIDE {
            side = side.div_ceil(2);
            layers += 1;
        }
        layers
    }

    /// Pixels along each axis of a frame that are averaged into one that the network of pixels reads.
    pub fn bin_px(&self) -> usize {
        let side = self.input.height.max(self.input.width);
        let fits = |bin: &usize| self.input.height.is_multiple_of(*bin) && self.input.width.is_multiple_of(*bin);
        (1..=side).find(|bin| fits(bin) && side / bin <= BINNED_SIDE_PX).unwrap_or(1)
    }

    /// Height and width of the map after each layer of [`NetworkSpec::widths`].
    pub fn maps(&self) -> Vec<[usize; 2]> {
        let first = [self.input.height / PATCH_PX, self.input.width / PATCH_PX];
        let halved = |map: &[usize; 2]| Some([map[0].div_ceil(2), map[1].div_ceil(2)]);
        std::iter::successors(Some(first), halved).take(self.widths.len()).collect()
    }

    /// Values of the flattened last map, or the binned pixels.
    pub fn flattened(&self) -> usize {
        if self.kind == NetworkKind::Pixels {
            return self.input.pixels() / self.bin_px().pow(2);
        }
        let map = self.maps().last().copied().unwrap_or_default();
        self.widths.last().copied().unwrap_or_default() * map[0] * map[1]
    }

    /// Kernel (and stride) of each convolution over time: fours first, then what remains, smallest first; their product is
    /// the window. 32 = 4·4·2. `None` when the window has a prime factor other than 2, 3, 5 and 7.
    pub fn kernels(&self) -> Option<Vec<usize>> {
        let (mut rest, mut kernels) = (self.window_frames, Vec::new());
        for factor in [4, 2, 3, 5, 7] {
            while rest > 1 && rest.is_multiple_of(factor) {
                kernels.push(factor);
                rest /= factor;
            }
        }
        (rest == 1 && !kernels.is_empty()).then_some(kernels)
    }

    /// Million floating-point operations (2 × multiply-add) of the frame network, for each new frame.
    pub fn mflop_per_frame(&self) -> f64 {
        let maps = self.maps();
        let (mut before, mut kernel, mut products) = (self.input.channels, PATCH_PX * PATCH_PX, 0);
        for (&width, map) in self.widths.iter().zip(&maps) {
            products += map[0] * map[1] * kernel * before * width;
            (before, kernel) = (width, 9);
        }
        2e-6 * (products + self.flattened() * self.features) as f64
    }

    /// Million floating-point operations of everything after the features, once per step.
    pub fn mflop_per_window(&self) -> f64 {
        let (mut length, mut products) = (self.window_frames, self.embedding * self.labels.len());
        if self.kind == NetworkKind::Pixels {
            let (places, width) = (short_starts(self.window_frames).len(), self.features);
            let filters = places * width * width * (short_frames(self.window_frames) + 1);
            let bins = recent_bins(self.window_frames).len();
            let means = bins * self.window_frames * width;
            return 2e-6 * (products + filters + means + (1 + bins) * width * self.embedding) as f64;
        }
        for kernel in self.kernels().unwrap_or_default() {
            length /= kernel;
            let out = if length == 1 { self.embedding } else { self.features };
            products += length * kernel * self.features * out;
        }
        2e-6 * products as f64
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range.
    pub fn check(&self) -> Result<(), SpecError> {
        let Shape { channels, height, width } = self.input;
        let bound = format!("1 to {CHANNELS_MAX} channels");
        within((1..=CHANNELS_MAX).contains(&channels), "input.channels", &channels, &bound)?;
        for (key, side) in [("input.height", height), ("input.width", width)] {
            let bound = format!("{} to {} px, a multiple of {PATCH_PX}", SIDE_PX.start(), SIDE_PX.end());
            within(SIDE_PX.contains(&side) && side.is_multiple_of(PATCH_PX), key, &side, &bound)?;
        }
        let layers = if self.kind == NetworkKind::Pixels { 0 } else { Self::layers(self.input) };
        let sound = self.widths.len() == layers && self.widths.iter().all(|w| (1..=WIDTH_MAX).contains(w));
        let bound = format!("{layers} widths for this input, each 1 to {WIDTH_MAX}");
        within(sound, "widths", &self.widths, &bound)?;
        let bound = format!("1 to {WIDTH_MAX}");
        within((1..=WIDTH_MAX).contains(&self.features), "features", &self.features, &bound)?;
        within((1..=WIDTH_MAX).contains(&self.embedding), "embedding", &self.embedding, &bound)?;
        let (window, patches) = (self.window_frames, self.kind == NetworkKind::Patches);
        let factors = if patches { ", a product of 2, 3, 5 and 7" } else { "" };
        let fits = (2..=WINDOW_FRAMES_MAX).contains(&window) && (!patches || self.kernels().is_some());
        within(fits, "window_frames", &window, &format!("2 to {WINDOW_FRAMES_MAX} frames{factors}"))?;
        let labels = self.labels.len();
        within(labels <= LABELS_MAX, "labels", &format!("{labels} labels"), &format!("at most {LABELS_MAX}"))
    }
}

fn within(good: bool, key: &'static str, value: &dyn std::fmt::Debug, bound: &str) -> Result<(), SpecError> {
    if good { Ok(()) } else { Err(SpecError { key, value: format!("{value:?}"), bound: bound.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_at_128_px_costs_what_the_hand_computation_says() {
        let spec = NetworkSpec::for_input(Shape::new(1, 128, 128));
        assert_eq!(spec.widths, [48, 80, 128, 160]);
        assert_eq!(spec.maps(), [[32, 32], [16, 16], [8, 8], [4, 4]]);
        // 32²·16·48 + 16²·9·48·80 + 8²·9·80·128 + 4²·9·128·160 + 2560·128 multiply-adds
        let products = 786_432 + 8_847_360 + 5_898_240 + 2_949_120 + 327_680;
        assert_eq!(spec.mflop_per_frame(), 2e-6 * products as f64);
        assert!((spec.mflop_per_frame() - 38.0).abs() < 0.5);
        // 8·4·128² + 2·4·128² + 1·2·128²
        assert_eq!(spec.mflop_per_window(), 2e-6 * (42 * 128 * 128) as f64);
    }

    #[test]
    fn every_side_from_32_to_512_px_has_a_default_that_is_sound() {
        for side in SIDE_PX.step_by(PATCH_PX) {
            for input in [Shape::new(1, side, side), Shape::new(2, side, 32), Shape::new(1, 32, side)] {
                let spec = NetworkSpec::for_input(input);
                assert_eq!(spec.check(), Ok(()), "{input}");
                let last = spec.maps()[spec.widths.len() - 1];
                assert!((1..=MAP_SIDE).contains(&last[0]) && (1..=MAP_SIDE).contains(&last[1]), "{input}: {last:?}");
            }
        }
    }

    #[test]
    fn windows_factorise_into_kernels_or_are_refused() {
        let kernels =
            |window_frames| NetworkSpec { window_frames, ..NetworkSpec::for_input(Shape::new(1, 32, 32)) }.kernels();
        assert_eq!(kernels(32), Some(vec![4, 4, 2]));
        assert_eq!(kernels(2), Some(vec![2]));
        assert_eq!(kernels(30), Some(vec![2, 3, 5]));
        for bad in [0, 1, 11, 22, 121] {
            assert_eq!(kernels(bad), None, "{bad}");
        }
    }

    #[test]
    fn filters_over_time_end_with_the_newest_frame_and_the_cost_is_the_hand_computation() {
        let mut spec = NetworkSpec {
            kind: NetworkKind::Pixels,
            widths: Vec::new(),
            features: 64,
            embedding: 64,
            ..NetworkSpec::for_input(Shape::new(1, 64, 64))
        };
        assert_eq!(spec.check(), Ok(()));
        assert_eq!((spec.bin_px(), spec.flattened()), (2, 1024));
        assert_eq!(short_starts(32), [0, 3, 6, 9, 12, 15, 18, 21, 24]);
        assert_eq!(spec.mflop_per_frame(), 2e-6 * (1024.0 * 64.0));
        assert_eq!(spec.mflop_per_window(), 2e-6 * (9 * 64 * 64 * 8 + 9 * 64 * 64 + 6 * 32 * 64 + 7 * 64 * 64) as f64);
        for window in 2..40 {
            spec.window_frames = window;
            let (starts, short) = (short_starts(window), short_frames(window));
            assert_eq!(starts[starts.len() - 1] + short, window);
            assert!(spec.check().is_ok() && starts[0] < SHORT_STEP, "{window}: {starts:?}");
        }
        for (input, bin) in [((1, 32, 32), 1), ((2, 128, 96), 4), ((1, 48, 64), 2), ((1, 100, 100), 4)] {
            spec.input = Shape::new(input.0, input.1, input.2);
            assert_eq!(spec.bin_px(), bin, "{input:?}");
        }
        spec.widths = vec![8];
        assert_eq!(spec.check().unwrap_err().key, "widths");
    }

    #[test]
    fn every_value_that_cannot_be_is_refused_by_its_key() {
        type Edit = fn(&mut NetworkSpec);
        let cases: [(&str, Edit); 9] = [
            ("input.channels", |s| s.input.channels = 3),
            ("input.height", |s| s.input.height = 28),
            ("input.width", |s| s.input.width = 130),
            ("widths", |s| s.widths.push(8)),
            ("widths", |s| s.widths[0] = 0),
            ("features", |s| s.features = 0),
            ("embedding", |s| s.embedding = 4097),
            ("window_frames", |s| s.window_frames = 2048),
            ("labels", |s| s.labels = vec!["x".into(); 257]),
        ];
        for (key, edit) in cases {
            let mut spec = NetworkSpec::for_input(Shape::new(1, 128, 128));
            edit(&mut spec);
            assert_eq!(spec.check().unwrap_err().key, key);
        }
    }
}
