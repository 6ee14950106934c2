//! What `haltere model init`, `inspect` and `adopt` do: plain functions with plain arguments, printing to whatever is given.
//!
//! Why it exists: a user must be able to look at a model, to make one without training, and to bring one of their own, without
//! writing a manifest by hand. What it must never do: overwrite a model unasked, or call random weights trained.

#[cfg(feature = "train")]
mod init;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

#[cfg(feature = "train")]
pub use init::{InitArguments, init};

use crate::encode::{EncodeError, EncodeInfo, Encoder, Signature, TensorInfo, read_signature};
use crate::frame::{Name, Shape, Tensor};
use crate::model::parameters::Parameters;
use crate::model::{Calibration, FORMAT, InputOrigin, Kind, Manifest, Model, ModelError, Novelty, Provenance};
use crate::sys::files::sha256_of;

/// Timed steps of `inspect`.
const STEPS: usize = 200;

/// What a `model` command could not do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The manifest or the file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// ONNX Runtime or the session.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Something is there already.
    #[error("{} is there already: choose another name or folder, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    /// The file's inputs and outputs are not those of a model that the daemon can feed.
    #[error("{}: {cause}", path.display())]
    Unfit {
        /// The ONNX file.
        path: PathBuf,
        /// What is there, and what would be needed.
        cause: String,
    },
    /// The network cannot be made.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Spec(#[from] crate::train::spec::SpecError),
    /// The network cannot be exported.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Export(#[from] crate::train::export::ExportError),
    /// The output cannot be written.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
    /// The report cannot be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
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

/// Shows a model: its manifest, its hash, its inputs and outputs, whether it runs and how fast. A model that would not run
/// is shown as well; [`Inspection::is_sound`] tells.
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
        false => Err("the ONNX file is not the one the manifest was written for, so it was not run".into()),
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
        serde_json::to_writer_pretty(&mut *out, &found)?;
        writeln!(out)?;
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
        writeln!(out, "origin      ready-made ΔF/F: no running daemon can make this input")?;
    }
    if let Some(c) = &m.calibration {
        let Calibration { temperature, measured_on, moments, ece_before, ece_after } = c;
        writeln!(
            out,
            "calibration temperature {temperature:.3}, expected error {ece_before:.3} → {ece_after:.3} over {moments} moments of {measured_on}"
        )?;
    }
    if let Some(n) = &m.novelty {
        let Novelty { prototypes, thresholds, measured_on } = n;
        writeln!(out, "novelty     {prototypes} prototypes, {thresholds} thresholds from {measured_on}")?;
    }
    if let Some(d) = &m.drift {
        writeln!(out, "drift       told when the mean novelty over {} s exceeds {}", d.time_constant_s, d.limit)?;
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

/// Arguments of [`adopt`].
#[derive(Clone, Debug)]
pub struct AdoptArguments {
    /// Somebody's ONNX file; the manifest is written beside it.
    pub onnx: PathBuf,
    /// Name of the model; `None` = the file's.
    pub name: Option<String>,
    /// Model frames per second it was made for: no file says it.
    pub frame_rate_hz: f64,
    /// Streaming models: frames its state remembers, the newest included. `None` = rows of the state, plus one.
    pub window_frames: Option<usize>,
    /// Labels in the order of the probabilities; empty = none.
    pub labels: Vec<String>,
    /// Was it trained? False marks its decodes as carrying no action.
    pub trained: bool,
    /// Overwrite a manifest that is there.
    pub force: bool,
    /// ONNX Runtime's library; `None` searches.
    pub runtime: Option<PathBuf>,
}

/// Writes a manifest beside somebody's own ONNX file and runs the file once to prove it; returns the manifest's path.
///
/// Streaming: inputs `frame` `[1,C,H,W]` and `state` `[1,R,D]`. Windowed: one input `[1,T,C,H,W]`. Preprocessing is the default
/// and must be set to what the model was trained with.
///
/// # Errors
/// Any [`CommandError`]; [`CommandError::Unfit`] says what the file has and what it would need.
pub fn adopt(arguments: &AdoptArguments, out: &mut impl Write) -> Result<PathBuf, CommandError> {
    let path = arguments.onnx.with_extension("toml");
    if path.exists() && !arguments.force {
        return Err(CommandError::Exists(path));
    }
    let signature = read_signature(&arguments.onnx, arguments.runtime.as_deref())?;
    let unfit = |cause| CommandError::Unfit { path: arguments.onnx.clone(), cause };
    let mut manifest = derive(&signature, arguments).map_err(unfit)?;
    manifest.sha256 = sha256_of(&arguments.onnx).map_err(ModelError::from)?;
    manifest.check(&path)?;
    let onnx_path = arguments.onnx.clone();
    let model = Model { manifest, onnx_path, manifest_path: path.clone() };
    let mut encoder = Encoder::open(&model, arguments.runtime.as_deref(), 1)?;
    let frame = vec![0.1; model.manifest.input.pixels()];
    let mut embedding = encoder.new_embedding();
    encoder.encode(&Tensor::Host(&frame), &mut embedding)?;
    model.manifest.save(&path)?;
    let kind = if model.manifest.kind == Kind::Streaming { "streaming" } else { "windowed" };
    writeln!(out, "wrote {}: a {kind} model that runs.", path.display())?;
    writeln!(
        out,
        "Now set in it what no ONNX file says: [preprocess] as the model was trained, look_ahead_frames, provenance."
    )?;
    if arguments.labels.is_empty() {
        writeln!(out, "It has no labels, so it decodes no action.")?;
    }
    Ok(path)
}

/// The manifest that a file's inputs and outputs imply; `Err` is the sentence for the user.
fn derive(signature: &Signature, arguments: &AdoptArguments) -> Result<Manifest, String> {
    let find = |all: &[TensorInfo], name: &str| all.iter().find(|tensor| tensor.name == name).cloned();
    let state = find(&signature.inputs, "state");
    let frames = match &state {
        Some(_) => find(&signature.inputs, "frame").ok_or("it has an input `state` but none called `frame`")?,
        None => match signature.inputs.as_slice() {
            [only] => only.clone(),
            all => return Err(format!("it has {} inputs; needed are `frame` and `state`, or one window", all.len())),
        },
    };
    let rank = if state.is_some() { 4 } else { 5 };
    let sides = fixed(&frames, rank, if rank == 4 { "[1,C,H,W]" } else { "[1,T,C,H,W]" })?;
    let state = state.map(|tensor| fixed(&tensor, 3, "[1,R,D]").map(|s| [s[1], s[2]])).transpose()?;
    let [.., channels, height, width] = sides[..] else { return Err("its input has no C, H and W".into()) };
    let windowed = signature.outputs.len() == 1 && state.is_none();
    let output = if windowed { signature.outputs.first().cloned() } else { find(&signature.outputs, "embedding") };
    let output = output.ok_or("it has no output called `embedding`")?;
    let embedding = fixed(&output, 2, "[1,E]")?[1];
    let window = state.map_or(sides[1], |[rows, _]| arguments.window_frames.unwrap_or(rows + 1));
    let stem = arguments.onnx.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let name = arguments.name.clone().unwrap_or(stem);
    if let Err(error) = name.parse::<Name>() {
        return Err(format!("the name {name:?} {error}: give one with --name"));
    }
    let channels_read = (0..channels).collect();
    Ok(Manifest {
        format: FORMAT,
        name,
        file: arguments.onnx.file_name().map(PathBuf::from).unwrap_or_default(),
        sha256: String::new(),
        kind: if state.is_some() { Kind::Streaming } else { Kind::Windowed },
        frame_rate_hz: arguments.frame_rate_hz,
        window_frames: window,
        look_ahead_frames: 0,
        input: Shape::new(channels, height, width),
        embedding,
        state,
        labels: arguments.labels.clone(),
        provenance: Provenance { trained: arguments.trained, note: "adopted".into(), ..Provenance::default() },
        parity: None,
        input_origin: InputOrigin::Live,
        calibration: None,
        novelty: None,
        drift: None,
        adapted: None,
        preprocess: Parameters { channels: channels_read, ..Parameters::default() },
    })
}

/// The sides of a tensor of this rank. A free first side is the batch, and is 1; any other free side is an error.
fn fixed(tensor: &TensorInfo, rank: usize, wanted: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("`{tensor}` is not float32 {wanted} with every side but the first fixed");
    let sides = tensor.shape.iter().enumerate().map(|(index, &side)| match (index, side) {
        (0, -1 | 1) => Some(1),
        (0, _) => None,
        (_, side) => usize::try_from(side).ok().filter(|&s| s > 0),
    });
    let sides: Option<Vec<usize>> = sides.collect();
    sides.filter(|s| s.len() == rank && tensor.dtype == "float32").ok_or_else(wrong)
}
