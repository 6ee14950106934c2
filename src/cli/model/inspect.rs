//! `haltere model inspect`: what a manifest says, and whether its file runs.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::CommandError;
use crate::encode::{EncodeError, EncodeInfo, Encoder};
use crate::frame::Tensor;
use crate::model::ModelError;
use crate::model::{Calibration, InputOrigin, Kind, Manifest, Model, Novelty};
use crate::sys::files::sha256_of;

/// Timed steps of `inspect`.
const STEPS: usize = 200;

/// `haltere model inspect`.
#[derive(Debug, Args)]
pub struct ModelInspectArgs {
    /// Manifest, or the .onnx beside it.
    pub path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl From<ModelInspectArgs> for InspectArguments {
    fn from(args: ModelInspectArgs) -> Self {
        Self { model: args.path, json: args.json, runtime: None, threads: 1 }
    }
}

/// Arguments of [`inspect`].
#[derive(Clone, Debug)]
pub struct InspectArguments {
    /// Manifest, or the ONNX file beside it.
    pub model: PathBuf,
    /// One JSON document instead of text.
    pub json: bool,
    /// ONNX Runtime's library; `None` searches.
    pub runtime: Option<PathBuf>,
    /// Threads that compute.
    pub threads: usize,
}

/// What `inspect` found out; its JSON is this.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inspection {
    /// Where the manifest is.
    pub manifest_path: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// Size of the ONNX file, bytes.
    pub size_bytes: u64,
    /// SHA-256 of the ONNX file.
    pub sha256_found: String,
    /// Is it the one in the manifest?
    pub sha256_agrees: bool,
    /// May its probabilities be called actions?
    pub decodes_actions: bool,
    /// What ONNX Runtime says; absent when it cannot run the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A model that ran.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Run {
    /// Runtime, provider, inputs and outputs.
    pub info: EncodeInfo,
    /// Steps timed.
    pub steps: usize,
    /// Median of one step, µs.
    pub step_us_p50: f64,
    /// 99th percentile of one step, µs.
    pub step_us_p99: f64,
}

impl Inspection {
    /// True when the daemon would take this model.
    pub fn is_sound(&self) -> bool {
        self.sha256_agrees && self.run.is_some()
    }
}

/// Shows a model: its manifest, its hash, its inputs and outputs, whether it runs and how fast. A model that would not
/// run is shown as well; [`Inspection::is_sound`] tells.
///
/// # Errors
/// When the manifest cannot be read or the output not be written.
pub fn inspect(arguments: &InspectArguments, out: &mut impl Write) -> Result<Inspection, CommandError> {
    let model = Model::load_unverified(&arguments.model)?;
    let sha256_found = sha256_of(&model.onnx_path).map_err(ModelError::from)?;
    let size_bytes = std::fs::metadata(&model.onnx_path).map_or(0, |m| m.len());
    // A file that is not the manifest's is not run: that is what the hash is for.
    let sha256_agrees = sha256_found.eq_ignore_ascii_case(&model.manifest.sha256);
    let run = match sha256_agrees {
        true => time_steps(&model, arguments).map_err(|error| error.to_string()),
        false => Err("the ONNX file does not match its manifest, so it was not run".into()),
    };
    let decodes_actions = model.decodes_actions();
    let (run, problem) = match run {
        Ok(run) => (Some(run), None),
        Err(problem) => (None, Some(problem)),
    };
    let (manifest_path, manifest) = (model.manifest_path, model.manifest);
    let found =
        Inspection { manifest_path, manifest, size_bytes, sha256_found, sha256_agrees, decodes_actions, run, problem };
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        print(&found, out)?;
    }
    Ok(found)
}

fn time_steps(model: &Model, arguments: &InspectArguments) -> Result<Run, EncodeError> {
    let mut encoder = Encoder::open(model, arguments.runtime.as_deref(), arguments.threads)?;
    let frame = vec![0.1; model.manifest.input.pixels()];
    let mut embedding = encoder.new_embedding();
    let mut steps_us = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let began = Instant::now();
        encoder.encode(&Tensor::Host(&frame), &mut embedding)?;
        steps_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    steps_us.sort_by(f64::total_cmp);
    let (step_us_p50, step_us_p99) = (steps_us[STEPS / 2], steps_us[STEPS * 99 / 100]);
    Ok(Run { info: encoder.info().clone(), steps: STEPS, step_us_p50, step_us_p99 })
}

fn print(found: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    let m = &found.manifest;
    let kind = if m.kind == Kind::Streaming { "streaming" } else { "windowed" };
    writeln!(out, "model       {} ({kind})", m.name)?;
    writeln!(out, "manifest    {}", found.manifest_path.display())?;
    let agrees = if found.sha256_agrees { "as in the manifest" } else { "NOT the one in the manifest" };
    writeln!(out, "file        {}, {} bytes", m.file.display(), found.size_bytes)?;
    writeln!(out, "SHA-256     {} ({agrees})", found.sha256_found)?;
    if !found.sha256_agrees {
        writeln!(out, "  manifest  {}", m.sha256)?;
    }
    let seconds = m.window_frames as f64 / m.frame_rate_hz;
    writeln!(out, "input       {} px at {} Hz, channels {:?}", m.input, m.frame_rate_hz, m.preprocess.channels)?;
    writeln!(out, "window      {} frames ({seconds:.2} s), look-ahead {}", m.window_frames, m.look_ahead_frames)?;
    writeln!(out, "embedding   {}", m.embedding)?;
    let labels = if m.labels.is_empty() { "none".into() } else { m.labels.join(", ") };
    let decodes = if found.decodes_actions { "decodes actions" } else { "decodes no action" };
    writeln!(out, "labels      {labels} ({decodes})")?;
    let p = &m.provenance;
    let trained = if p.trained { "trained" } else { "untrained" };
    writeln!(
        out,
        "provenance  {trained}; made by {}; trained on {}",
        or_unknown(&p.made_by),
        or_unknown(&p.trained_on)
    )?;
    if !p.note.is_empty() {
        writeln!(out, "note        {}", p.note)?;
    }
    match &m.parity {
        Some(p) => {
            writeln!(out, "parity      ≤ {:e} over {} frames, against {}", p.max_abs_difference, p.frames, p.against)?
        }
        None => writeln!(out, "parity      not measured")?,
    }
    print_trained(m, out)?;
    if let Some(run) = &found.run {
        print_run(run, out)?;
    }
    found.problem.iter().try_for_each(|problem| writeln!(out, "PROBLEM     {problem}"))
}

/// What training measured, as far as it did.
fn print_trained(m: &Manifest, out: &mut impl Write) -> std::io::Result<()> {
    if m.input_origin == InputOrigin::ReadyMade {
        writeln!(out, "origin      precomputed ΔF/F: the daemon cannot compute this input")?;
    }
    if let Some(a) = &m.preprocess.atlas {
        writeln!(
            out,
            "atlas       animals are laid on it without labels; a likeness under {} is reported",
            a.likeness_min
        )?;
    }
    if let Some(c) = &m.calibration {
        let Calibration { temperature, measured_on, moments, ece_before, ece_after } = c;
        writeln!(
            out,
            "calibration temperature {temperature:.3}, expected error {ece_before:.3} → {ece_after:.3} over {moments} samples of {measured_on}"
        )?;
    }
    if let Some(n) = &m.novelty {
        let Novelty { prototypes, thresholds, measured_on } = n;
        writeln!(out, "novelty     {prototypes} prototypes, {thresholds} thresholds from {measured_on}")?;
    }
    if let Some(d) = &m.drift {
        writeln!(out, "drift       reported when mean novelty over {} s exceeds {}", d.time_constant_s, d.limit)?;
    }
    m.adapted.iter().try_for_each(|a| {
        let aligned = if a.aligned { "aligned" } else { "not aligned" };
        let (from, hash) = (&a.from_name, a.from_sha256.get(..12).unwrap_or_default());
        let refitted = a.refitted_on;
        writeln!(
            out,
            "adapted     from {from} ({hash}…) on {}, {} frames: {aligned}, classifier refitted on {refitted} labelled frames",
            a.recording, a.frames
        )
    })
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}

fn print_run(run: &Run, out: &mut impl Write) -> std::io::Result<()> {
    let info = &run.info;
    writeln!(out, "runtime     ONNX Runtime {}, {}", info.runtime_version, info.runtime_path.display())?;
    let threads = if info.threads == 1 { "thread" } else { "threads" };
    writeln!(out, "device      {}, {} {threads}", info.provider, info.threads)?;
    for tensor in &info.signature.inputs {
        writeln!(out, "  in        {tensor}")?;
    }
    for tensor in &info.signature.outputs {
        writeln!(out, "  out       {tensor}")?;
    }
    writeln!(out, "step        p50 {:.0} µs, p99 {:.0} µs over {} steps", run.step_us_p50, run.step_us_p99, run.steps)
}
