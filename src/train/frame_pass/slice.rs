//! One sixteenth of a batch: everything between two statistics of the whole batch.
//!
//! Why it exists: batch normalisation needs every frame before the next layer may begin; between those points the slices are
//! independent. A batch is always cut into the same number of slices and their sums are added in their order, so that the
//! result does not depend on the number of threads. What it must never do: read another slice.

use pulp::Arch;

use super::kernel::{Gather, accumulate, multiply};
use super::norm::{Activate, AddValues, Before, Mask, Norm, Slope};
use super::packed::Packed;
use super::plan::{LINEAR_FRAMES, Plan};
use crate::train::spec::PATCH_PX;

/// What one layer keeps for a slice.
#[derive(Debug, Default)]
struct Kept {
    /// Before normalisation, `[frame, y, x, channel]`.
    map: Vec<f32>,
    /// Gradient of what ReLU made of it, masked; the same shape.
    gradient: Vec<f32>,
    /// Bordered input of a block (or patches). The border is zero and never written.
    input: Vec<f32>,
    /// Bordered gradient of a block's output; its border is zero as well.
    bordered: Vec<f32>,
}

/// Some of the frames of a batch.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// First frame and number of frames in the batch.
    first: usize,
    frames: usize,
    kept: Vec<Kept>,
    flat: Vec<f32>,
    rows: Vec<f32>,
    /// Two sums for each channel: of values and squares, or of gradients and gradients × values; first all of the one.
    pub sums: Vec<f64>,
    /// Weight gradients `[k, column]`, layer by layer, then the linear layer's.
    pub gradients: Vec<Vec<f32>>,
    /// Gradient of the linear layer's bias.
    pub bias: Vec<f64>,
}

fn resize(values: &mut Vec<f32>, length: usize) {
    if values.len() < length {
        values.resize(length, 0.0);
    }
}

impl Slice {
    /// Takes frames `first..first + frames`; memory grows to the largest batch and stays.
    pub fn prepare(&mut self, plan: &Plan, first: usize, frames: usize, training: bool) {
        (self.first, self.frames) = (first, frames);
        self.kept.resize_with(plan.layers.len(), Kept::default);
        for (layer, kept) in plan.layers.iter().zip(&mut self.kept) {
            resize(&mut kept.map, frames * layer.each());
            resize(&mut kept.input, layer.block * layer.input_each());
            if training {
                resize(&mut kept.gradient, frames * layer.each());
                resize(&mut kept.bordered, layer.block * layer.gradient_each());
            }
        }
        resize(&mut self.flat, LINEAR_FRAMES * plan.stride);
        resize(&mut self.rows, LINEAR_FRAMES * plan.columns);
    }

    /// Frames of this slice.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Layer `index` on the batch `frames`, and the sums of its values and squares.
    pub fn convolve(&mut self, plan: &Plan, packed: &Packed, index: usize, norms: &[Norm], frames: &[f32]) {
        let layer = &plan.layers[index];
        self.sums.clear();
        self.sums.resize(2 * layer.columns, 0.0);
        for start in (0..self.frames).step_by(layer.block) {
            let count = layer.block.min(self.frames - start);
            self.gather(plan, index, norms, frames, start, count);
            let rows = count * layer.pixels();
            let Kept { map, input, .. } = &mut self.kept[index];
            let gather = Gather { values: input, rows: &layer.rows[..rows], runs: &layer.runs };
            let map = &mut map[start * layer.each()..(start + count) * layer.each()];
            multiply(gather, &packed.forward[index], map, &layer.map_rows[..rows]);
            Arch::new().dispatch(AddValues { rows: map, sums: &mut self.sums });
        }
    }

    /// Writes the input of layer `index` for `count` frames from `start` on.
    fn gather(&mut self, plan: &Plan, index: usize, norms: &[Norm], frames: &[f32], start: usize, count: usize) {
        let layer = &plan.layers[index];
        let (before, rest) = self.kept.split_at_mut(index);
        let input = &mut rest[0].input;
        let Some(before) = before.last() else {
            let [height, width] = layer.input;
            let pixels = layer.channels[0] * height * width;
            for (frame, patches) in (start..start + count).zip(input.chunks_exact_mut(layer.input_each())) {
                let frame = &frames[(self.first + frame) * pixels..][..pixels];
                cut(frame, layer.input, patches);
            }
            return;
        };
        let (each, norm) = (plan.layers[index - 1].each(), &norms[index - 1]);
        for (frame, bordered) in (start..start + count).zip(input.chunks_exact_mut(layer.input_each())) {
            let map = &before.map[frame * each..(frame + 1) * each];
            let (line, columns) = ((layer.input[1] + 2) * layer.channels[1], layer.channels[1]);
            let rows = bordered.chunks_exact_mut(line).skip(1);
            for (from, to) in map.chunks_exact(layer.input[1] * columns).zip(rows) {
                Arch::new().dispatch(Activate { from, to: &mut to[columns..line - columns], norm });
            }
        }
    }

    /// Writes the linear layer's input for `count` frames from `start` on.
    fn flatten(&mut self, plan: &Plan, norms: &[Norm], start: usize, count: usize) {
        let (map, norm) = (&self.kept[plan.layers.len() - 1].map, &norms[plan.layers.len() - 1]);
        let maps = map[start * plan.flattened..].chunks_exact(plan.flattened);
        for (map, row) in maps.zip(self.flat.chunks_exact_mut(plan.stride)).take(count) {
            Arch::new().dispatch(Activate { from: map, to: &mut row[..plan.flattened], norm });
        }
    }

    /// The features of this slice's frames, into `features` `[frames, D]`.
    pub fn features(&mut self, plan: &Plan, packed: &Packed, norms: &[Norm], bias: &[f32], features: &mut [f32]) {
        let runs = plan.linear_runs();
        for (block, out) in features.chunks_mut(LINEAR_FRAMES * plan.features).enumerate() {
            let count = out.len() / plan.features;
            self.flatten(plan, norms, block * LINEAR_FRAMES, count);
            let gather = Gather { values: &self.flat, rows: &plan.rows[0][..count], runs: &runs };
            multiply(gather, &packed.linear, &mut self.rows, &plan.rows[2][..count]);
            for (out, row) in out.chunks_exact_mut(plan.features).zip(self.rows.chunks_exact(plan.columns)) {
                out.iter_mut().zip(row).zip(bias).for_each(|((out, row), bias)| *out = row + bias);
            }
        }
    }

    /// Gradients of the linear layer, and of the last map, from the features' gradient `[frames, D]` of this slice.
    pub fn linear_back(&mut self, plan: &Plan, packed: &Packed, norms: &[Norm], d_features: &[f32]) {
        let last = plan.layers.len() - 1;
        self.clear_gradients(plan);
        for (block, d) in d_features.chunks(LINEAR_FRAMES * plan.features).enumerate() {
            let (start, count) = (block * LINEAR_FRAMES, d.len() / plan.features);
            self.flatten(plan, norms, start, count);
            for (d, row) in d.chunks_exact(plan.features).zip(self.rows.chunks_exact_mut(plan.columns)) {
                row[..plan.features].copy_from_slice(d);
                row[plan.features..].fill(0.0);
                self.bias.iter_mut().zip(d).for_each(|(sum, &d)| *sum += f64::from(d));
            }
            let runs = plan.linear_runs();
            let gather = Gather { values: &self.flat, rows: &plan.rows[0][..count], runs: &runs };
            let (columns, gradient) = ((plan.columns, plan.panel), &mut self.gradients[last + 1]);
            accumulate(gather, &self.rows, &plan.rows[2][..count], columns, gradient);
            let runs = plan.feature_runs();
            let gather = Gather { values: &self.rows, rows: &plan.rows[2][..count], runs: &runs };
            let part = start * plan.flattened..(start + count) * plan.flattened;
            let Kept { map, gradient, .. } = &mut self.kept[last];
            multiply(gather, &packed.linear_back, &mut gradient[part.clone()], &plan.rows[1][..count]);
            let (map, gradient) = (&map[part.clone()], &mut gradient[part]);
            Arch::new().dispatch(Mask { map, gradient, norm: &norms[last], sums: &mut self.sums });
        }
    }

    fn clear_gradients(&mut self, plan: &Plan) {
        self.gradients.resize_with(plan.layers.len() + 1, Vec::new);
        let sizes = plan.layers.iter().map(|layer| layer.depth() * layer.columns);
        for (gradient, size) in self.gradients.iter_mut().zip(sizes.chain([plan.flattened * plan.columns])) {
            gradient.clear();
            gradient.resize(size, 0.0);
        }
        self.bias.clear();
        self.bias.resize(plan.features, 0.0);
        self.sums.clear();
        self.sums.resize(2 * plan.layers[plan.layers.len() - 1].columns, 0.0);
    }

    /// Gradients of layer `index`, and of the map before it with its sums. `slope` is what normalisation makes of this layer's.
    pub fn convolve_back(
        &mut self,
        plan: &Plan,
        packed: &Packed,
        index: usize,
        norms: &[Norm],
        slope: &Slope,
        frames: &[f32],
    ) {
        let layer = &plan.layers[index];
        self.sums.clear();
        self.sums.resize(2 * layer.channels[1], 0.0);
        for start in (0..self.frames).step_by(layer.block) {
            let count = layer.block.min(self.frames - start);
            self.gather(plan, index, norms, frames, start, count);
            self.border(plan, index, slope, start, count);
            let rows = count * layer.pixels();
            let Kept { input, bordered, .. } = &self.kept[index];
            let gather = Gather { values: input, rows: &layer.rows[..rows], runs: &layer.runs };
            let (columns, gradient) = ((layer.columns, layer.panel), &mut self.gradients[index]);
            accumulate(gather, bordered, &layer.gradient_rows[..rows], columns, gradient);
            if index > 0 {
                self.input_gradient(plan, packed, index, norms, start, count);
            }
        }
    }

    /// The gradient before normalisation of `count` frames from `start` on, with its border.
    fn border(&mut self, plan: &Plan, index: usize, slope: &Slope, start: usize, count: usize) {
        let layer = &plan.layers[index];
        let Kept { map, gradient, bordered, .. } = &mut self.kept[index];
        let (each, line) = (layer.each(), (layer.map[1] + 1) * layer.columns);
        for (frame, bordered) in (start..start + count).zip(bordered.chunks_exact_mut(layer.gradient_each())) {
            let part = frame * each..(frame + 1) * each;
            let row = layer.map[1] * layer.columns;
            let rows = map[part.clone()].chunks_exact(row).zip(gradient[part].chunks_exact(row));
            for ((map, gradient), to) in rows.zip(bordered.chunks_exact_mut(line)) {
                Arch::new().dispatch(Before { map, gradient, to: &mut to[..row], slope });
            }
        }
    }

    fn input_gradient(
        &mut self,
        plan: &Plan,
        packed: &Packed,
        index: usize,
        norms: &[Norm],
        start: usize,
        count: usize,
    ) {
        let layer = &plan.layers[index];
        let (before, rest) = self.kept.split_at_mut(index);
        let each = plan.layers[index - 1].each();
        let part = start * each..(start + count) * each;
        let Kept { map, gradient, .. } = &mut before[index - 1];
        let (map, gradient) = (&map[part.clone()], &mut gradient[part]);
        for (parity, panels) in layer.parities.iter().zip(&packed.backward[index]) {
            let rows = count * parity.each;
            let gather = Gather { values: &rest[0].bordered, rows: &parity.rows[..rows], runs: &parity.runs };
            multiply(gather, panels, gradient, &parity.out_rows[..rows]);
        }
        Arch::new().dispatch(Mask { map, gradient, norm: &norms[index - 1], sums: &mut self.sums });
    }
}

/// A frame `[C,H,W]` → its 4×4 patches, one after the other, each in the order channel, row, column.
fn cut(frame: &[f32], [height, width]: [usize; 2], patches: &mut [f32]) {
    let channels = frame.len() / (height * width);
    let depth = channels * PATCH_PX * PATCH_PX;
    for (row, line) in frame.chunks_exact(width).enumerate() {
        let (channel, y) = (row / height, row % height);
        let patches = &mut patches[y / PATCH_PX * (width / PATCH_PX) * depth..][..width / PATCH_PX * depth];
        let at = (channel * PATCH_PX + y % PATCH_PX) * PATCH_PX;
        for (pixels, patch) in line.chunks_exact(PATCH_PX).zip(patches.chunks_exact_mut(depth)) {
            patch[at..at + PATCH_PX].copy_from_slice(pixels);
        }
    }
}
