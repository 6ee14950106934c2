//! `haltere model init`: the network with random weights, written, run and compared, so that a rig can be set up and timed
//! before anything was trained. What it must never do: let its output pass for an action.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use clap::{Args, ValueEnum};

use super::data::shape;
use crate::cli::parse::rate;
use crate::config::Config;
use crate::encode::{EncodeError, Encoder};
use crate::frame::{Name, Shape};
use crate::model::parameters::Parameters;
use crate::model::{Kind, Model, ModelError, Provenance};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::train::export::{Details, ExportError, measure_parity, seeded_frames, write};
use crate::train::spec::SpecError;
use crate::train::{Network, NetworkSpec};

/// `haltere model init`.
#[derive(Debug, Args)]
pub struct ModelInitArgs {
    /// Seed for the random weights; the same seed gives the same file.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Name of the model and of its two files.
    #[arg(long, value_name = "NAME", default_value = "untrained")]
    pub name: Name,
    /// Folder for NAME.onnx and NAME.toml.
    #[arg(long, short, value_name = "FOLDER", default_value = "models")]
    pub out: PathBuf,
    /// Channels x height x width of one model frame.
    #[arg(long, value_name = "CxHxW", default_value = "1x128x128", value_parser = shape)]
    pub input: Shape,
    /// Channels of a frame that the model reads, as many as it has input channels [default: the first ones].
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub channels: Option<Vec<usize>>,
    /// Number of frames in a window.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub window: usize,
    /// Frame rate the model is made for.
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = rate)]
    pub frame_rate: f64,
    /// How the model receives frames.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ModelKind::Streaming)]
    pub kind: ModelKind,
    /// Overwrite existing files.
    #[arg(long)]
    pub force: bool,
}

/// How a model receives frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelKind {
    /// One frame and the state per step: (frame, state) → (embedding, next state).
    Streaming,
    /// The whole window at every step.
    Windowed,
}

impl From<ModelKind> for Kind {
    fn from(kind: ModelKind) -> Self {
        match kind {
            ModelKind::Streaming => Self::Streaming,
            ModelKind::Windowed => Self::Windowed,
        }
    }
}

impl From<ModelInitArgs> for InitArguments {
    fn from(args: ModelInitArgs) -> Self {
        Self {
            name: args.name.to_string(),
            folder: args.out,
            seed: args.seed,
            kind: args.kind.into(),
            channels: args.channels.unwrap_or_else(|| (0..args.input.channels).collect()),
            input: args.input,
            frame_rate_hz: args.frame_rate,
            window_frames: args.window,
            force: args.force,
            runtime: None,
        }
    }
}

/// Why no untrained model was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The manifest or the file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// ONNX Runtime or the session.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Something is there already.
    #[error("{} is there already: choose another --name or --out, or overwrite it with --force", .0.display())]
    Exists(PathBuf),
    /// The network cannot be made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The network cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The folder cannot be made.
    #[error("{}: cannot be made: {cause}; choose another --out", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Standard output cannot be written.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
}

impl HasExitCode for InitError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Model(error) => error.exit_code(),
            Self::Encode(error) => error.exit_code(),
            Self::Spec(error) => error.exit_code(),
            Self::Export(error) => error.exit_code(),
            Self::Exists(_) => ExitCode::Other,
            Self::Folder { .. } | Self::Output(_) => ExitCode::Sink,
        }
    }
}

/// Frames compared beyond the first full window.
const PARITY_FRAMES: usize = 16;

/// Arguments of [`init`].
#[derive(Clone, Debug)]
pub struct InitArguments {
    /// Name of the model and of its two files.
    pub name: String,
    /// Folder they go to; made if it is not there.
    pub folder: PathBuf,
    /// Same seed, same bytes.
    pub seed: u64,
    /// Streaming (what the daemon runs best) or windowed (for comparison).
    pub kind: Kind,
    /// One model frame: 1 or 2 channels, sides 32 to 512 px in steps of 4.
    pub input: Shape,
    /// Frame channels the model reads, as many as `input.channels`.
    pub channels: Vec<usize>,
    /// Model frames per second.
    pub frame_rate_hz: f64,
    /// Frames in a window: a product of 2, 3, 5 and 7.
    pub window_frames: usize,
    /// Overwrite a model that is there.
    pub force: bool,
    /// ONNX Runtime's library; `None` searches.
    pub runtime: Option<PathBuf>,
}

/// Writes an untrained model and its manifest with the measured parity; returns the manifest's path.
///
/// # Errors
/// Any [`InitError`].
pub fn init(arguments: &InitArguments, out: &mut impl Write) -> Result<PathBuf, InitError> {
    for extension in ["toml", "onnx"] {
        unless_there(&arguments.folder.join(format!("{}.{extension}", arguments.name)), arguments.force)?;
    }
    let mut spec = NetworkSpec::for_input(arguments.input);
    spec.window_frames = arguments.window_frames;
    let device = Device::flex();
    let network = Network::new(&spec, arguments.seed, &device)?;
    let details = Details {
        name: arguments.name.clone(),
        kind: arguments.kind,
        frame_rate_hz: arguments.frame_rate_hz,
        look_ahead_frames: 0,
        provenance: Provenance {
            trained: false,
            made_by: format!("haltere {} model init --seed {}", env!("CARGO_PKG_VERSION"), arguments.seed),
            trained_on: String::new(),
            note: "untrained: random weights, decodes no action".into(),
        },
        preprocess: Parameters { channels: arguments.channels.clone(), ..Parameters::default() },
    };
    std::fs::create_dir_all(&arguments.folder)
        .map_err(|cause| InitError::Folder { folder: arguments.folder.clone(), cause })?;
    let path = write(&network, &spec, &details, &arguments.folder)?;
    writeln!(
        out,
        "wrote {}: an untrained network, {:.1} + {:.1} MFLOP a frame.",
        path.display(),
        spec.mflop_per_frame(),
        spec.mflop_per_window()
    )?;
    let mut model = Model::load(&path)?;
    let mut encoder = Encoder::open(&model, arguments.runtime.as_deref(), 1)?;
    let frames = seeded_frames(spec.input, spec.window_frames - 1 + PARITY_FRAMES, arguments.seed);
    let parity = measure_parity(&network, &spec, &mut encoder, &frames, &device)?;
    writeln!(
        out,
        "The daemon's encoder reproduces it to within {:e} over {} frames.",
        parity.max_abs_difference, parity.frames
    )?;
    model.manifest.parity = Some(parity);
    model.manifest.save(&path)?;
    writeln!(out, "Its weights are random: its decodes carry no action.")?;
    Ok(path)
}

/// Refuses to write over what is there.
fn unless_there(path: &Path, force: bool) -> Result<(), InitError> {
    if path.exists() && !force { Err(InitError::Exists(path.into())) } else { Ok(()) }
}

/// The network of the default size, with random weights: its time is that of a trained one.
pub(crate) fn with_untrained_model(mut config: Config, folder: &Path) -> anyhow::Result<Config> {
    let arguments = InitArguments {
        name: "untrained".to_owned(),
        folder: folder.to_owned(),
        seed: 1,
        kind: Kind::Streaming,
        input: Shape::new(1, 128, 128),
        channels: vec![0],
        frame_rate_hz: 30.0,
        window_frames: 32,
        force: true,
        runtime: config.compute.onnxruntime.clone(),
    };
    config.model = init(&arguments, &mut std::io::sink())?;
    Ok(config)
}
