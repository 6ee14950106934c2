//! The memory layout of every map, decided once for a network.
//!
//! Why it exists: the kernels see rows and runs only; strides, borders and padded channels are defined here. What it must never
//! do: depend on weights or on the number of frames.
//!
//! Maps are channels-last, `[frame, y, x, channel]`, channels padded to a multiple of a panel ([`padded`]) with zeros. A layer
//! works on a block of frames at a time. Its input has a border of one pixel of zeros; the gradient of its output has one
//! row and one column of zeros behind the last, which the gradient of the input reads at even sides.

use super::kernel::{Run, padded};
use crate::train::spec::{NetworkSpec, PATCH_PX};

/// Rows of a product that are worked on together: enough to pay for reading the gradient, few enough to stay in cache.
const BLOCK_ROWS: usize = 64;
/// Most frames in a block.
const BLOCK_FRAMES_MAX: usize = 8;
/// Frames in a block of the linear layer.
pub(super) const LINEAR_FRAMES: usize = 24;
/// Values between the rows of the linear layer's input, so that rows do not fall onto the same cache lines.
const LINEAR_GAP: usize = 16;

/// The pixels of a layer's input with the same parity: the same kernel taps reach them.
#[derive(Debug)]
pub(super) struct Parity {
    /// Rows in the bordered gradient of the output, for each pixel.
    pub rows: Vec<usize>,
    /// The same pixels in the input's map without border.
    pub out_rows: Vec<usize>,
    /// Runs of the gradient under the taps.
    pub runs: Vec<Run>,
    /// The taps (ky, kx) in the order of the runs.
    pub taps: Vec<[usize; 2]>,
    /// Pixels per frame.
    pub each: usize,
}

/// One convolution.
#[derive(Debug)]
pub(super) struct Layer {
    /// Channels of the input, as it is and as it lies.
    pub channels: [usize; 2],
    /// Channels of the output, as it is, as it lies, and the panel.
    pub width: usize,
    pub columns: usize,
    pub panel: usize,
    /// Height and width of the input and of the output.
    pub input: [usize; 2],
    pub map: [usize; 2],
    /// Frames in a block.
    pub block: usize,
    /// Start of each output pixel's rows in the (bordered, or cut into patches) input of a block.
    pub rows: Vec<usize>,
    /// Start of each output pixel in the map.
    pub map_rows: Vec<usize>,
    /// Start of each output pixel in the bordered gradient.
    pub gradient_rows: Vec<usize>,
    /// Runs of the input under the kernel.
    pub runs: Vec<Run>,
    /// What the gradient of the input is made of; empty for the patch layer.
    pub parities: Vec<Parity>,
}

impl Layer {
    /// Products summed for one output.
    pub fn depth(&self) -> usize {
        self.runs.iter().map(|run| run.length).sum()
    }

    /// Pixels of one frame's output.
    pub fn pixels(&self) -> usize {
        self.map[0] * self.map[1]
    }

    /// Values of one frame's output as it lies.
    pub fn each(&self) -> usize {
        self.pixels() * self.columns
    }

    /// Values of one frame's input with its border, or cut into patches.
    pub fn input_each(&self) -> usize {
        if self.parities.is_empty() {
            self.pixels() * self.depth()
        } else {
            (self.input[0] + 2) * (self.input[1] + 2) * self.channels[1]
        }
    }

    /// Values of one frame's bordered gradient.
    pub fn gradient_each(&self) -> usize {
        (self.map[0] + 1) * (self.map[1] + 1) * self.columns
    }

    fn patches(spec: &NetworkSpec) -> Self {
        let channels = spec.input.channels;
        let depth = channels * PATCH_PX * PATCH_PX;
        let mut layer = Self::new([channels; 2], spec.widths[0], [spec.input.height, spec.input.width], spec.maps()[0]);
        layer.runs = vec![Run { offset: 0, length: depth }];
        layer.rows = (0..layer.block * layer.pixels()).map(|row| row * depth).collect();
        layer
    }

    fn halving(before: &Self, width: usize, map: [usize; 2]) -> Self {
        let mut layer = Self::new([before.width, before.columns], width, before.map, map);
        let (channels, line) = (before.columns, (before.map[1] + 2) * before.columns);
        layer.runs = (0..3).map(|ky| Run { offset: ky * line, length: 3 * channels }).collect();
        for frame in 0..layer.block {
            let start = frame * (before.map[0] + 2) * line;
            layer.rows.extend(pixels(map).map(|[y, x]| start + 2 * y * line + 2 * x * channels));
        }
        layer.parities = [[0, 0], [0, 1], [1, 0], [1, 1]].into_iter().filter_map(|odd| layer.parity(odd)).collect();
        layer
    }

    fn new(channels: [usize; 2], width: usize, input: [usize; 2], map: [usize; 2]) -> Self {
        let (columns, panel) = padded(width);
        let block = (BLOCK_ROWS / (map[0] * map[1])).clamp(1, BLOCK_FRAMES_MAX);
        let each = map[0] * map[1];
        let map_rows = (0..block * each).map(|row| row * columns).collect();
        let line = map[1] + 1;
        let gradient_row =
            |frame: usize| pixels(map).map(move |[y, x]| ((frame * (map[0] + 1) + y) * line + x) * columns);
        let gradient_rows = (0..block).flat_map(gradient_row).collect();
        let (rows, runs, parities) = (Vec::new(), Vec::new(), Vec::new());
        Self { channels, width, columns, panel, input, map, block, rows, map_rows, gradient_rows, runs, parities }
    }

    /// Input pixel i reaches the output through tap 1 at i/2 when it is even, through tap 2 at (i−1)/2 and tap 0 at (i+1)/2
    /// when it is odd.
    fn parity(&self, odd: [usize; 2]) -> Option<Parity> {
        let (line, [height, width]) = ((self.map[1] + 1) * self.columns, self.input);
        let taps = |odd: usize| if odd == 1 { vec![2, 0] } else { vec![1] };
        let inside: Vec<[usize; 2]> = pixels(self.input).filter(|[y, x]| [y % 2, x % 2] == odd).collect();
        let runs = (0..=odd[0]).map(|dy| Run { offset: dy * line, length: (1 + odd[1]) * self.columns }).collect();
        let taps_x = taps(odd[1]);
        let taps = taps(odd[0]).into_iter().flat_map(|ky| taps_x.iter().map(move |&kx| [ky, kx])).collect();
        let (mut rows, mut out_rows) = (Vec::new(), Vec::new());
        for frame in 0..self.block {
            let start = frame * (self.map[0] + 1) * line;
            rows.extend(inside.iter().map(|[y, x]| start + y / 2 * line + x / 2 * self.columns));
            out_rows.extend(inside.iter().map(|[y, x]| ((frame * height + y) * width + x) * self.channels[1]));
        }
        (!inside.is_empty()).then_some(Parity { rows, out_rows, runs, taps, each: inside.len() })
    }
}

fn pixels(map: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    (0..map[0]).flat_map(move |y| (0..map[1]).map(move |x| [y, x]))
}

/// The whole frame network.
#[derive(Debug)]
pub(super) struct Plan {
    /// The patch layer, then the halvings.
    pub layers: Vec<Layer>,
    /// Features, as they are, as they lie, and the panel.
    pub features: usize,
    pub columns: usize,
    pub panel: usize,
    /// Values of the last map as it lies, and from one row of a block to the next.
    pub flattened: usize,
    pub stride: usize,
    /// Starts of a block's rows: in the linear layer's input, in the last map, in the features.
    pub rows: [Vec<usize>; 3],
}

impl Plan {
    pub fn new(spec: &NetworkSpec) -> Self {
        let mut layers = vec![Layer::patches(spec)];
        for (&width, map) in spec.widths.iter().zip(spec.maps()).skip(1) {
            let next = Layer::halving(&layers[layers.len() - 1], width, map);
            layers.push(next);
        }
        let (columns, panel) = padded(spec.features);
        let flattened = layers[layers.len() - 1].each();
        let stride = flattened + LINEAR_GAP;
        let rows = [stride, flattened, columns].map(|each| (0..LINEAR_FRAMES).map(|frame| frame * each).collect());
        Self { layers, features: spec.features, columns, panel, flattened, stride, rows }
    }

    /// The whole last map as one run.
    pub fn linear_runs(&self) -> [Run; 1] {
        [Run { offset: 0, length: self.flattened }]
    }

    /// All features as one run.
    pub fn feature_runs(&self) -> [Run; 1] {
        [Run { offset: 0, length: self.columns }]
    }
}
