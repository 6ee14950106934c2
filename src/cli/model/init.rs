//! `haltere model init`: the network with random weights, written, run and compared, so that a rig can be set up and timed
//! before anything was trained. What it must never do: let anybody take its output for an action.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::CommandError;
use crate::encode::Encoder;
use crate::frame::Shape;
use crate::model::parameters::Parameters;
use crate::model::{Kind, Model, Provenance};
use crate::train::export::{Details, measure_parity, seeded_frames, write};
use crate::train::{Network, NetworkSpec};

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
/// Any [`CommandError`].
pub fn init(arguments: &InitArguments, out: &mut impl Write) -> Result<PathBuf, CommandError> {
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
    std::fs::create_dir_all(&arguments.folder)?;
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
        "The daemon's encoder reproduces it within {:e} over {} frames.",
        parity.max_abs_difference, parity.frames
    )?;
    model.manifest.parity = Some(parity);
    model.manifest.save(&path)?;
    writeln!(out, "Its weights are random: its decodes carry no action.")?;
    Ok(path)
}

/// Refuses to write over what is there.
fn unless_there(path: &Path, force: bool) -> Result<(), CommandError> {
    if path.exists() && !force { Err(CommandError::Exists(path.into())) } else { Ok(()) }
}
