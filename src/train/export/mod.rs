//! Writes a network as the ONNX file and manifest that the daemon runs, and proves that the daemon reproduces it.
//!
//! Why it exists: training may only accept a model that the daemon's own encoder has reproduced. Both forms, streaming and
//! windowed, are written from the same weights. What it must never do: write weights that are not finite, or a manifest that
//! claims an unmeasured parity.

pub mod accept;
pub mod head;
pub mod outputs;

mod details;
mod error;

use std::path::{Path, PathBuf};

use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, TensorData};

use self::head::{FittedHead, FittedNovelty, FittedOutputs, form_and_labels};
use super::network::{Head, NORM_MIN, Network, StreamingHead};
use super::spec::{NetworkSpec, PATCH_PX, frames_read, short_frames, short_starts};
use super::time_filters::TimeFilters;
use crate::encode::Encoder;
use crate::evaluate::pixels::recent_bins;
use crate::frame::{Shape, Tensor as Input};
use crate::model::names::{EMBEDDING, LOGITS, NEXT_STATE, NOVELTY, OUTPUTS, PROBABILITIES, RAW};
use crate::model::onnx::{Attribute, FLOAT, Graph};
use crate::model::{FORMAT, Kind, Manifest, ModelError, Parity};
use crate::sys::files::{sha256_of, write_whole};
use crate::sys::random::SplitMix;

pub use self::details::Details;
pub use self::error::ExportError;

/// Writes `<folder>/<name>.onnx` and `<name>.toml` (without parity) and returns the manifest's path.
///
/// # Errors
/// Any [`ExportError`] but [`ExportError::Encode`].
pub fn write(network: &Network, spec: &NetworkSpec, details: &Details, folder: &Path) -> Result<PathBuf, ExportError> {
    write_with_head(network, spec, details, &FittedHead::default(), folder)
}

/// As [`write()`], with what was fitted on the frozen embedding.
///
/// # Errors
/// Any [`ExportError`] but [`ExportError::Encode`].
pub fn write_with_head(
    network: &Network,
    spec: &NetworkSpec,
    details: &Details,
    head: &FittedHead,
    folder: &Path,
) -> Result<PathBuf, ExportError> {
    let file = PathBuf::from(format!("{}.onnx", details.name));
    head.check(spec)?;
    let (onnx_path, manifest_path) = (folder.join(&file), folder.join(format!("{}.toml", details.name)));
    let mut manifest = Manifest {
        format: FORMAT,
        name: details.name.clone(),
        file,
        sha256: "0".repeat(64),
        kind: details.kind,
        frame_rate_hz: details.frame_rate_hz,
        window_frames: spec.window_frames,
        look_ahead_frames: details.look_ahead_frames,
        input: spec.input,
        embedding: spec.embedding,
        state: (details.kind == Kind::Streaming).then_some([spec.window_frames - 1, spec.features]),
        labels: spec.labels.clone(),
        outputs: head.outputs.as_ref().map_or_else(Vec::new, |outputs| outputs.described.clone()),
        provenance: details.provenance.clone(),
        parity: None,
        input_origin: head.input_origin,
        calibration: head.calibration.clone(),
        novelty: head.novelty.as_ref().map(FittedNovelty::manifest),
        drift: head.drift,
        adapted: None,
        preprocess: details.preprocess.clone(),
    };
    // Before anything is written: an invalid name must not become a file.
    manifest.check(&manifest_path)?;
    write_whole(&onnx_path, &to_onnx_with_head(network, spec, details, head)?).map_err(ModelError::from)?;
    manifest.sha256 = sha256_of(&onnx_path).map_err(ModelError::from)?;
    manifest.save(&manifest_path)?;
    Ok(manifest_path)
}

/// The ONNX file of a network: same weights, same bytes.
///
/// Streaming: (`frame` `[1,C,H,W]`, `state` `[1,T−1,D]`) → (`embedding` `[1,E]`, `probabilities` `[1,L]` if there are labels,
/// `next_state` `[1,T−1,D]`). Windowed: `frames` `[1,T,C,H,W]` → the same without state.
///
/// # Errors
/// [`ExportError::NonFinite`] or [`ExportError::Values`].
pub fn to_onnx(network: &Network, spec: &NetworkSpec, kind: Kind) -> Result<Vec<u8>, ExportError> {
    Ok(finish(graph_of(network, spec, kind, &FittedHead::default())?, &form_and_labels(spec, kind)))
}

/// As [`to_onnx`], with what was fitted on the frozen embedding, and with metadata that describe the file. A novelty reference
/// adds the output `novelty` `[1,1]`.
///
/// # Errors
/// [`ExportError::NonFinite`], [`ExportError::Values`] or [`ExportError::Unfit`].
pub fn to_onnx_with_head(
    network: &Network,
    spec: &NetworkSpec,
    details: &Details,
    head: &FittedHead,
) -> Result<Vec<u8>, ExportError> {
    head.check(spec)?;
    Ok(finish(graph_of(network, spec, details.kind, head)?, &head.metadata(spec, details)))
}

fn finish(graph: Graph, metadata: &[(&'static str, String)]) -> Vec<u8> {
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    graph.finish("haltere", &metadata)
}

fn graph_of(network: &Network, spec: &NetworkSpec, kind: Kind, head: &FittedHead) -> Result<Graph, ExportError> {
    let Shape { channels, height, width } = spec.input;
    let (window, features) = (spec.window_frames, spec.features);
    let mut writer = Writer { graph: Graph::default() };
    let rows = match kind {
        Kind::Streaming => {
            writer.graph.input("frame", &[1, channels, height, width]);
            writer.graph.input("state", &[1, window - 1, features]);
            writer.frame_net(network, spec, "frame")?;
            writer.state(spec);
            "window"
        }
        Kind::Windowed => {
            writer.graph.input("frames", &[1, window, channels, height, width]);
            writer.reshape("frames", "frames_apart", &[window, channels, height, width]);
            writer.frame_net(network, spec, "frames_apart")?;
            "features"
        }
    };
    writer.head(network, spec, rows)?;
    writer.classifier(network, spec, head)?;
    writer.outputs(spec, head)?;
    writer.novelty(head)?;
    if kind == Kind::Streaming {
        writer.graph.output(NEXT_STATE, &[1, window - 1, features]);
    }
    Ok(writer.graph)
}

struct Writer {
    graph: Graph,
}

impl Writer {
    /// Adds a float constant if all its values are finite.
    fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), ExportError> {
        if values.iter().all(|v| v.is_finite()) {
            self.graph.floats(name, shape, values);
            Ok(())
        } else {
            Err(ExportError::NonFinite { weight: name.into() })
        }
    }

    fn reshape(&mut self, from: &str, to: &str, shape: &[usize]) {
        let sides: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
        let constant = format!("{to}.shape");
        self.graph.integers(&constant, &sides);
        self.graph.node("Reshape", &[from, &constant], to, &[]);
    }

    /// `from` `[N,C,H,W]` → `features` `[N,D]`.
    fn frame_net(&mut self, network: &Network, spec: &NetworkSpec, from: &str) -> Result<(), ExportError> {
        let mut before = String::from(from);
        for (index, block) in network.frame.blocks.iter().enumerate() {
            let name = format!("frame.{index}");
            let shape = block.convolution.weight.val().dims();
            let (weights, biases) = fold(block)?;
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            self.weight(&weight, &shape, &weights)?;
            self.weight(&bias, &[shape[0]], &biases)?;
            let (stride, padding) = if index == 0 { (PATCH_PX as i64, 0) } else { (2, 1) };
            let attributes = [
                ("kernel_shape", Attribute::Ints(&[shape[2] as i64, shape[3] as i64])),
                ("pads", Attribute::Ints(&[padding; 4])),
                ("strides", Attribute::Ints(&[stride; 2])),
            ];
            self.graph.node("Conv", &[&before, &weight, &bias], &name, &attributes);
            before = format!("{name}.relu");
            self.graph.node("Relu", &[&name], &before, &[]);
        }
        let (frame, bin) = (&network.frame, network.frame.bin_px as i64);
        if bin > 1 {
            let attributes = [("kernel_shape", Attribute::Ints(&[bin; 2])), ("strides", Attribute::Ints(&[bin; 2]))];
            self.graph.node("AveragePool", &[&before], "binned", &attributes);
            before = "binned".into();
        }
        self.graph.node("Flatten", &[&before], "map", &[("axis", Attribute::Int(1))]);
        let shape = [spec.flattened(), spec.features];
        let Some(norm) = &frame.norm else { return self.linear("map", "features", &frame.linear, shape) };
        let (mut weights, mut biases) = values_of_linear(&frame.linear)?;
        let folded = Folded::of(norm)?;
        weights.chunks_exact_mut(spec.features).for_each(|row| folded.scale(row));
        folded.offset(&mut biases);
        self.gemm("map", "features", shape, &weights, &biases)
    }

    /// `features` `[1,D]` and `state` `[1,T−1,D]` → `window` `[1,T,D]` and `next_state`, which is the window without its oldest row.
    fn state(&mut self, spec: &NetworkSpec) {
        self.reshape("features", "newest", &[1, 1, spec.features]);
        self.graph.node("Concat", &["state", "newest"], "window", &[("axis", Attribute::Int(1))]);
        self.graph.integers("second", &[1]);
        self.graph.integers("end", &[spec.window_frames as i64]);
        self.graph.node("Slice", &["window", "second", "end", "second"], NEXT_STATE, &[]);
    }

    /// T rows of features → `embedding` `[1,E]`.
    fn head(&mut self, network: &Network, spec: &NetworkSpec, from: &str) -> Result<(), ExportError> {
        match &network.head {
            Head::Strided(head) => self.strided(head, spec, from)?,
            Head::Filters(filters) => self.filters(filters, spec, from)?,
        }
        let axes = [("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))];
        self.graph.node("ReduceL2", &[RAW], "length", &axes);
        self.weight("length.min", &[1, 1], &[NORM_MIN as f32])?;
        self.graph.node("Max", &["length", "length.min"], "divisor", &[]);
        self.graph.node("Div", &[RAW, "divisor"], EMBEDDING, &[]);
        self.graph.output(EMBEDDING, &[1, spec.embedding]);
        Ok(())
    }

    /// T rows of features → the raw embedding `[1,E]`. A convolution whose kernel equals its stride is a matrix product on k rows
    /// side by side: the same sums without rearranging anything.
    fn strided(&mut self, head: &StreamingHead, spec: &NetworkSpec, from: &str) -> Result<(), ExportError> {
        let (mut before, mut length) = (String::from(from), spec.window_frames);
        let last = head.convolutions.len() - 1;
        for (index, convolution) in head.convolutions.iter().enumerate() {
            let name = if index == last { RAW.into() } else { format!("head.{index}") };
            let [out, columns, kernel] = convolution.weight.val().dims();
            length /= kernel;
            let wide = format!("{name}.rows");
            self.reshape(&before, &wide, &[length, kernel * columns]);
            let values = values_of(convolution.weight.val())?;
            let at = |row: usize, o: usize| values[(o * columns + row % columns) * kernel + row / columns];
            let matrix: Vec<f32> =
                (0..kernel * columns).flat_map(|row| (0..out).map(move |o| (row, o))).map(|(r, o)| at(r, o)).collect();
            let bias = convolution.bias.as_ref().map(|b| values_of(b.val())).transpose()?;
            self.gemm(&wide, &name, [kernel * columns, out], &matrix, &bias.unwrap_or_else(|| vec![0.0; out]))?;
            before = name;
            if index < last {
                let next = format!("{before}.relu");
                self.graph.node("Relu", &[&before], &next, &[]);
                before = next;
            }
        }
        Ok(())
    }

    /// T rows of features → the raw embedding `[1,E]`: the rows that the short filters read, side by side; then one product for each
    /// layer, and the means of the window's bins beside the last.
    fn filters(&mut self, filters: &TimeFilters, spec: &NetworkSpec, from: &str) -> Result<(), ExportError> {
        let (window, width) = (spec.window_frames, spec.features);
        let (places, covered) = (short_starts(window).len(), short_frames(window) * width);
        self.reshape(from, "head.window", &[window, width]);
        let read: Vec<i64> = frames_read(window).into_iter().map(|row| row as i64).collect();
        self.graph.integers("head.frames", &read);
        self.graph.node("Gather", &["head.window", "head.frames"], "head.read", &[("axis", Attribute::Int(0))]);
        self.reshape("head.read", "head.places", &[places, covered]);
        self.linear("head.places", "head.short", &filters.short, [covered, width])?;
        self.graph.node("Relu", &["head.short"], "head.short.relu", &[]);
        self.reshape("head.short.relu", "head.all_places", &[1, places * width]);
        self.linear("head.all_places", "head.long", &filters.long, [places * width, width])?;
        self.graph.node("Relu", &["head.long"], "head.long.relu", &[]);
        let (bins, shares) = shares_of_bins(window);
        self.weight("head.bins", &[bins, window], &shares)?;
        self.graph.node("MatMul", &["head.bins", "head.window"], "head.means", &[]);
        self.reshape("head.means", "head.all_means", &[1, bins * width]);
        let side_by_side = [("axis", Attribute::Int(1))];
        self.graph.node("Concat", &["head.long.relu", "head.all_means"], "head.joined", &side_by_side);
        self.linear("head.joined", RAW, &filters.out, [(1 + bins) * width, spec.embedding])
    }

    /// `embedding` → `probabilities` `[1,L]`; the temperature goes into weights and biases, divided in f64.
    fn classifier(&mut self, network: &Network, spec: &NetworkSpec, head: &FittedHead) -> Result<(), ExportError> {
        let labels = spec.labels.len();
        let (mut weight, mut bias) = match (&head.classifier, &network.classifier) {
            (Some(probe), _) => (probe.weight.iter().copied().collect(), probe.bias.clone()),
            (None, Some(own)) => {
                let bias = own.bias.as_ref().map(|b| values_of(b.val())).transpose()?;
                (values_of(own.weight.val())?, bias.unwrap_or_else(|| vec![0.0; labels]))
            }
            (None, None) => return Ok(()),
        };
        let temperature = head.temperature();
        weight.iter_mut().chain(&mut bias).for_each(|v| *v = (f64::from(*v) / temperature) as f32);
        self.gemm(EMBEDDING, LOGITS, [spec.embedding, labels], &weight, &bias)?;
        self.graph.node("Softmax", &[LOGITS], PROBABILITIES, &[("axis", Attribute::Int(1))]);
        self.graph.output(PROBABILITIES, &[1, labels]);
        Ok(())
    }

    /// `embedding` → `outputs` `[1,K]`, in their units.
    fn outputs(&mut self, spec: &NetworkSpec, head: &FittedHead) -> Result<(), ExportError> {
        let Some(FittedOutputs { layer, .. }) = &head.outputs else { return Ok(()) };
        let count = layer.bias.len();
        let weight: Vec<f32> = layer.weight.iter().copied().collect();
        self.gemm(EMBEDDING, OUTPUTS, [spec.embedding, count], &weight, &layer.bias)?;
        self.graph.output(OUTPUTS, &[1, count]);
        Ok(())
    }

    /// `embedding` → `novelty` `[1,1]`: the share of thresholds strictly below 1 − max cosine with the prototypes.
    fn novelty(&mut self, head: &FittedHead) -> Result<(), ExportError> {
        let Some(FittedNovelty { reference, .. }) = &head.novelty else { return Ok(()) };
        let (rows, columns) = reference.prototypes.dim();
        let prototypes: Vec<f32> = reference.prototypes.iter().copied().collect();
        self.weight("novelty.prototypes", &[rows, columns], &prototypes)?;
        self.weight("novelty.thresholds", &[1, reference.thresholds.len()], &reference.thresholds)?;
        self.weight("novelty.one", &[1, 1], &[1.0])?;
        let along = [("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))];
        let transposed = [("transB", Attribute::Int(1))];
        let graph = &mut self.graph;
        graph.node("Gemm", &[EMBEDDING, "novelty.prototypes"], "novelty.cosines", &transposed);
        graph.node("ReduceMax", &["novelty.cosines"], "novelty.cosine", &along);
        graph.node("Sub", &["novelty.one", "novelty.cosine"], "novelty.distance", &[]);
        graph.node("Greater", &["novelty.distance", "novelty.thresholds"], "novelty.above", &[]);
        graph.node("Cast", &["novelty.above"], "novelty.counts", &[("to", Attribute::Int(FLOAT as i64))]);
        graph.node("ReduceMean", &["novelty.counts"], NOVELTY, &along);
        graph.output(NOVELTY, &[1, 1]);
        Ok(())
    }

    fn linear(
        &mut self,
        from: &str,
        to: &str,
        linear: &burn::nn::Linear,
        shape: [usize; 2],
    ) -> Result<(), ExportError> {
        let (weights, biases) = values_of_linear(linear)?;
        self.gemm(from, to, shape, &weights, &biases)
    }

    fn gemm(
        &mut self,
        from: &str,
        to: &str,
        shape: [usize; 2],
        matrix: &[f32],
        bias: &[f32],
    ) -> Result<(), ExportError> {
        let (weight, offset) = (format!("{to}.weight"), format!("{to}.bias"));
        self.weight(&weight, &shape, matrix)?;
        self.weight(&offset, &[shape[1]], bias)?;
        self.graph.node("Gemm", &[from, &weight, &offset], to, &[]);
        Ok(())
    }
}

/// Batch normalisation with its running statistics, folded into the layer before it: w·γ/√(σ²+ε), β + (b − μ)·γ/√(σ²+ε).
/// In f64, so that only the result is rounded.
struct Folded {
    factors: Vec<f64>,
    mean: Vec<f32>,
    beta: Vec<f32>,
}

impl Folded {
    fn of(norm: &BatchNorm) -> Result<Self, ExportError> {
        let (gamma, beta) = (values_of(norm.gamma.val())?, values_of(norm.beta.val())?);
        let (mean, variance) = (values_of(norm.running_mean.value())?, values_of(norm.running_var.value())?);
        let factor = |(&g, &v): (&f32, &f32)| f64::from(g) / (f64::from(v) + norm.epsilon).sqrt();
        Ok(Self { factors: gamma.iter().zip(&variance).map(factor).collect(), mean, beta })
    }

    /// One weight of each output.
    fn scale(&self, weights: &mut [f32]) {
        weights.iter_mut().zip(&self.factors).for_each(|(w, factor)| *w = (f64::from(*w) * factor) as f32);
    }

    /// The bias of each output.
    fn offset(&self, biases: &mut [f32]) {
        for (index, bias) in biases.iter_mut().enumerate() {
            let centred = f64::from(*bias) - f64::from(self.mean[index]);
            *bias = (f64::from(self.beta[index]) + centred * self.factors[index]) as f32;
        }
    }
}

fn fold(block: &super::network::Block) -> Result<(Vec<f32>, Vec<f32>), ExportError> {
    let folded = Folded::of(&block.norm)?;
    let mut weights = values_of(block.convolution.weight.val())?;
    let each = weights.len() / folded.factors.len();
    for (filter, factor) in weights.chunks_mut(each).zip(&folded.factors) {
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
    let mut biases = vec![0.0; folded.factors.len()];
    folded.offset(&mut biases);
    Ok((weights, biases))
}

/// Bins of a window, and the matrix `[bins, frames]` that takes their means, newest bin first.
fn shares_of_bins(window: usize) -> (usize, Vec<f32>) {
    let bins = recent_bins(window);
    let (mut shares, mut end) = (vec![0.0; bins.len() * window], window);
    for (row, &frames) in shares.chunks_exact_mut(window).zip(&bins) {
        row[end - frames..end].fill(1.0 / frames as f32);
        end -= frames;
    }
    (bins.len(), shares)
}

/// Matrix `[in, out]` and bias.
fn values_of_linear(linear: &burn::nn::Linear) -> Result<(Vec<f32>, Vec<f32>), ExportError> {
    let [_, out] = linear.weight.val().dims();
    let bias = linear.bias.as_ref().map(|b| values_of(b.val())).transpose()?;
    Ok((values_of(linear.weight.val())?, bias.unwrap_or_else(|| vec![0.0; out])))
}

fn values_of<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExportError> {
    let data = tensor.try_into_data().map_err(|error| ExportError::Values(error.to_string()))?;
    data.try_to_vec().map_err(|error| ExportError::Values(format!("{error:?}")))
}

/// Runs the daemon's encoder over `frames` (one C×H×W frame after the other) and compares every embedding of a full window
/// with the network's own. The network must be on a plain device (`valid()`): on an autodiff device its running statistics would
/// change.
///
/// # Errors
/// [`ExportError::Encode`] or [`ExportError::Values`].
pub fn measure_parity(
    network: &Network,
    spec: &NetworkSpec,
    encoder: &mut Encoder,
    frames: &[f32],
    device: &Device,
) -> Result<Parity, ExportError> {
    let mut features = Vec::new();
    for frame in frames.chunks_exact(spec.input.pixels()) {
        let Shape { channels, height, width } = spec.input;
        let tensor = Tensor::from_data(TensorData::new(frame.to_vec(), [1, channels, height, width]), device);
        features.extend(values_of(network.forward_frame(tensor))?);
    }
    let (mut embedding, mut compared, mut worst) = (encoder.new_embedding(), 0, 0.0_f32);
    encoder.reset();
    for (index, frame) in frames.chunks_exact(spec.input.pixels()).enumerate() {
        encoder.encode(&Input::Host(frame), &mut embedding)?;
        if encoder.warming_up() {
            continue;
        }
        let window = &features[(index + 1 - spec.window_frames) * spec.features..(index + 1) * spec.features];
        let window = TensorData::new(window.to_vec(), [1, spec.window_frames, spec.features]);
        let own = values_of(network.forward_features(Tensor::from_data(window, device)))?;
        let differences = own.iter().zip(&embedding.values).map(|(a, b)| (a - b).abs());
        worst = differences.fold(worst, f32::max);
        compared += 1;
    }
    encoder.reset();
    Ok(Parity { against: "the network in burn (flex)".into(), frames: compared, max_abs_difference: worst })
}

/// Frames for the comparison when there is no recording: blobs of light that change from frame to frame, and noise. C order.
pub fn seeded_frames(shape: Shape, count: usize, seed: u64) -> Vec<f32> {
    const GRID: usize = 8;
    let mut random = SplitMix(seed);
    let mut frames = Vec::with_capacity(count * shape.pixels());
    for _ in 0..count * shape.channels {
        let grid: Vec<f32> = (0..GRID * GRID).map(|_| 2.0 * random.signed()).collect();
        for y in 0..shape.height {
            for x in 0..shape.width {
                let cell = grid[y * GRID / shape.height * GRID + x * GRID / shape.width];
                frames.push(cell + 0.5 * random.signed());
            }
        }
    }
    frames
}
