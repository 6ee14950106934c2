//! `haltere model adopt`: a manifest for your own ONNX file.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::cli::parse::rate;
use crate::encode::{Encoder, Signature, TensorInfo, read_signature};
use crate::frame::{Name, Shape, Tensor};
use crate::model::ModelError;
use crate::model::parameters::Parameters;
use crate::model::{FORMAT, InputOrigin, Kind, Manifest, Model, Provenance};
use crate::sys::files::sha256_of;

/// `haltere model adopt`.
#[derive(Debug, Args)]
pub struct ModelAdoptArgs {
    /// ONNX file.
    #[arg(value_name = "FILE.onnx")]
    pub file: PathBuf,
    /// Frame rate the model was made for.
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub frame_rate: f64,
    /// Name of the model [default: the file's].
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Action labels, in the order of the output probabilities.
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Mark the weights as random, so that decodes carry no action.
    #[arg(long)]
    pub untrained: bool,
    /// Shared library of ONNX Runtime [default: search].
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Overwrite an existing manifest.
    #[arg(long)]
    pub force: bool,
}

impl From<ModelAdoptArgs> for AdoptArguments {
    fn from(args: ModelAdoptArgs) -> Self {
        Self {
            onnx: args.file,
            name: args.name.map(|name| name.to_string()),
            frame_rate_hz: args.frame_rate,
            window_frames: None,
            labels: args.labels,
            trained: !args.untrained,
            force: args.force,
            runtime: args.onnxruntime,
        }
    }
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

/// Writes a manifest beside your own ONNX file and runs the file once to prove it; returns the manifest's path.
///
/// Streaming: inputs `frame` `[1,C,H,W]` and `state` `[1,R,D]`. Windowed: one input `[1,T,C,H,W]`. Preprocessing is the
/// default and must be set to what the model was trained with.
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
    writeln!(out, "wrote {}: a {kind} model, which runs.", path.display())?;
    writeln!(out, "Now complete it: set [preprocess] as the model was trained, look_ahead_frames and provenance.")?;
    if arguments.labels.is_empty() {
        writeln!(out, "Without labels it decodes no action.")?;
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
            all => return Err(format!("it has {} inputs; it needs `frame` and `state`, or one window", all.len())),
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
        outputs: Vec::new(),
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
