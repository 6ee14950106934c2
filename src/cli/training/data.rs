//! The recordings that `train`, `eval` and `compare` read, and how they are loaded.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::usage;
use crate::cli::parse::rate;
use crate::cli::progress::Progress;
use crate::dataset;
use crate::dataset::trials::Dataset;
use crate::dataset::{DataSpec, LoadOptions, Mc2pOptions, Target};
use crate::frame::{CHANNELS_MAX, SIDE_PX_MAX, Shape};
use crate::model::parameters::Parameters;
use crate::sys::progress::progress_bar;
use crate::train::NetworkKind;
use crate::train::settings::Method;

/// Which recordings, and how to read them. Shared by `train`, `eval` and `compare`.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Data set in MC2P layout, one folder per trial, read without conversion; repeatable.
    #[arg(long, value_name = "FOLDER", required_unless_present = "data", conflicts_with = "data")]
    pub mc2p: Vec<PathBuf>,
    /// Data set as a list of trials, TOML; repeatable. config/dataset-example.toml explains every key.
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Use only these animals; --hold-out and --unseen choose among them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub animals: Vec<String>,
    /// Two-photon frame rate of MC2P folders.
    #[arg(long, value_name = "HZ", default_value = "16", value_parser = rate)]
    pub frame_rate: f64,
    /// Behaviour frame rate of MC2P folders [default: by the index of the frames].
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub behaviour_rate: Option<f64>,
    /// Channels x height x width of one model frame [default: one channel of at most 64 x 64].
    #[arg(long, value_name = "CxHxW", value_parser = shape)]
    pub input: Option<Shape>,
    /// Use precomputed ΔF/F even where raw channels exist. No daemon can compute it live, so `run` refuses the model.
    #[arg(long)]
    pub ready_made: bool,
    /// Set one parameter of the preprocessing, as it will stand in the model's manifest; repeatable. Examples:
    /// --preprocess baseline=off, --preprocess registration.reach_px=8
    #[arg(long, value_name = "KEY=VALUE")]
    pub preprocess: Vec<String>,
    /// Lay every animal on one atlas, made of the registration templates of the training animals. The model's manifest keeps
    /// it, and the daemon lays the next animal on it, without labels [default: on for the methods `supervised` and `lda-atlas`].
    #[arg(long, value_enum, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub atlas: Option<AtlasArg>,
    /// Decode these numbers beside or instead of actions: columns of each trial's targets.csv or targets.npy in MC2P folders, where there is
    /// one, else of its behaviour. A dataset.toml names them itself, in [[target]].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "data")]
    pub targets: Vec<String>,
    /// Leave out the frames that rest.npy marks.
    #[arg(long)]
    pub mask_rest: bool,
    /// Folder for preprocessed frames [default: .haltere-cache beside the data].
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
}

/// What a user says of the atlas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AtlasArg {
    /// Every animal on one atlas.
    On,
    /// Every animal as it lies.
    Off,
}

/// Whether animals are laid on an atlas of the training animals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnAtlas {
    No,
    Yes,
    /// Unless the recordings do not allow it, which is told.
    IfPossible,
}

/// No F₀.
const NO_BASELINE: &str = "baseline=off";
/// Pixels by their share of signal.
const SIGNAL_SHARE: &str = "normalise.signal_share=true";
/// Side of a frame that the network of pixels reads, px: finer ones did not help it.
const PIXELS_SIDE_PX: usize = 32;

/// A data set that can be loaded, whole or in part.
#[derive(Clone)]
pub(super) struct Loader<'a> {
    spec: DataSpec,
    args: &'a DataArgs,
    /// Preprocessing of a model, instead of the default.
    pub(super) parameters: Option<Parameters>,
    /// Input of a model, instead of the default.
    pub(super) input: Option<Shape>,
    /// Side of a model frame where nobody says its size, px.
    side_px_max: usize,
    /// Parameters of the preprocessing that were set one by one.
    set: Vec<String>,
    atlas: OnAtlas,
    /// What else is set where animals are laid on an atlas.
    set_on_atlas: Vec<String>,
    shown: bool,
}

impl<'a> Loader<'a> {
    /// One for each data set that was named.
    pub(super) fn all(args: &'a DataArgs, progress: Progress) -> anyhow::Result<Vec<(String, Self)>> {
        let shown = progress.is_shown();
        let name = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let options = mc2p_options(args);
        let folders = args.mc2p.iter().map(|folder| Ok((name(folder), DataSpec::mc2p(folder, &options)?)));
        let files = args.data.iter().map(|file| Ok((name(file), DataSpec::from_toml(file)?)));
        let loader = |(name, spec)| (name, Self::new(spec, args, shown));
        let loaders: anyhow::Result<Vec<_>> = folders.chain(files).map(|found| found.map(loader)).collect();
        loaders
    }

    fn new(spec: DataSpec, args: &'a DataArgs, shown: bool) -> Self {
        let atlas = if args.atlas == Some(AtlasArg::On) { OnAtlas::Yes } else { OnAtlas::No };
        let side_px_max = LoadOptions::default().side_px_max;
        Self {
            spec,
            args,
            parameters: None,
            input: args.input,
            side_px_max,
            set: args.preprocess.clone(),
            atlas,
            set_on_atlas: Vec::new(),
            shown,
        }
    }

    /// Trials of the animals that were asked for, and how many of them have labels.
    pub(super) fn labelled_trials(&self) -> (usize, usize) {
        self.spec.labelled_trials(&self.args.animals)
    }

    /// The same, prepared as a method decodes the next animal best. For one that reads an atlas: laid on it without F₀ where that is possible,
    /// each pixel by its share of signal, 32 px a side for the network of pixels. What the user asked for stays.
    pub(super) fn for_method(mut self, method: Method, network: NetworkKind) -> Self {
        if !method.reads_an_atlas() {
            return self;
        }
        if self.args.atlas.is_none() {
            self.atlas = OnAtlas::IfPossible;
        }
        let asked = |step| self.spec.parameters.is_some() || self.set.iter().any(|set| set.starts_with(step));
        let (baseline, normalise) = (asked("baseline"), asked("normalise"));
        self.set_on_atlas.extend((!baseline).then(|| NO_BASELINE.to_owned()));
        self.set.extend((!normalise).then(|| SIGNAL_SHARE.to_owned()));
        if network == NetworkKind::Pixels {
            self.side_px_max = PIXELS_SIDE_PX;
        }
        self
    }

    /// The same for one rung of a ladder: frames of 32 px a side, laid on an atlas or as they lie, with F₀ or without, all pixels alike or
    /// each by its share of signal.
    pub(super) fn for_rung(mut self, on_atlas: bool, baseline: bool, signal_share: bool) -> Self {
        self.atlas = if on_atlas { OnAtlas::Yes } else { OnAtlas::No };
        self.set.extend((!baseline).then(|| NO_BASELINE.to_owned()));
        self.set.extend(signal_share.then(|| SIGNAL_SHARE.to_owned()));
        self.side_px_max = PIXELS_SIDE_PX;
        self
    }

    /// Folders of the trials that were asked for, in the order of a loaded data set.
    pub(super) fn trial_folders(&self) -> Vec<PathBuf> {
        self.spec.trial_folders(&self.args.animals)
    }

    /// The only one that was named.
    pub(super) fn one(args: &'a DataArgs, progress: Progress) -> anyhow::Result<Self> {
        let mut all = Self::all(args, progress)?;
        if all.len() != 1 {
            return Err(usage(format!("this command takes one data set, but {} were given", all.len())));
        }
        all.pop().map(|(_, loader)| loader).context("no data set was given")
    }

    /// Animals in the order of their trials, of those that were asked for.
    pub(super) fn animals(&self) -> Vec<String> {
        let chosen = |animal: &String| self.args.animals.is_empty() || self.args.animals.contains(animal);
        self.spec.animals().into_iter().filter(chosen).collect()
    }

    /// The same with everything that is learnt of `animals` before training: the atlas, if one was asked for.
    pub(super) fn fitted_to(&self, animals: &[String]) -> anyhow::Result<Self> {
        match self.atlas {
            OnAtlas::No => Ok(self.clone()),
            OnAtlas::Yes => self.on_atlas_of(animals),
            OnAtlas::IfPossible => Ok(self.on_atlas_of(animals).unwrap_or_else(|why| {
                tracing::warn!("the animals are not laid on an atlas, but decoded as they lie: {why:#}");
                self.clone()
            })),
        }
    }

    /// Are its animals laid on an atlas?
    pub(super) fn is_on_atlas(&self) -> bool {
        self.parameters.as_ref().is_some_and(|parameters| parameters.atlas.is_some())
    }

    /// The same with every animal laid on the atlas of `animals`.
    ///
    /// # Errors
    /// The user said otherwise, or the recordings allow none.
    pub(super) fn on_atlas_of(&self, animals: &[String]) -> anyhow::Result<Self> {
        if self.args.atlas == Some(AtlasArg::Off) {
            return Err(usage("lda-atlas reads animals on an atlas: leave out --atlas=off, or write lda".to_owned()));
        }
        let options = LoadOptions { accept_missing_classes: true, ..self.options(animals) };
        let options = LoadOptions { set: [&self.set[..], &self.set_on_atlas].concat(), ..options };
        let parameters = dataset::with_atlas(&self.spec, &options)?;
        Ok(Self { parameters: Some(parameters), ..self.clone() })
    }

    /// Refuses what a finished model decides.
    pub(super) fn refuse_preprocessing(args: &DataArgs) -> anyhow::Result<()> {
        let named = if args.atlas.is_some() {
            Some("--atlas")
        } else {
            (!args.preprocess.is_empty()).then_some("--preprocess")
        };
        named.map_or(Ok(()), |name| {
            Err(usage(format!("{name}: the model's manifest decides the preprocessing; leave it out")))
        })
    }

    fn options(&self, only: &[String]) -> LoadOptions {
        LoadOptions {
            input: self.input,
            side_px_max: self.side_px_max,
            parameters: self.parameters.clone(),
            set: self.set.clone(),
            animals: only.to_vec(),
            cache: self.args.cache.clone(),
            ..LoadOptions::default()
        }
    }

    /// Loads some animals.
    pub(super) fn load(&self, only: &[String], window_frames: usize, whole: bool) -> anyhow::Result<Dataset> {
        let options = LoadOptions { accept_missing_classes: !whole, window_frames, ..self.options(only) };
        let bar = progress_bar(None, self.shown, "{prefix:>12} {bar:40} {pos}/{len} frames, {eta} left");
        bar.set_prefix("preprocess");
        let tell = |progress: dataset::Progress<'_>| {
            bar.set_length(progress.frames_total);
            bar.set_position(progress.frames_done);
        };
        let loaded = dataset::load(&self.spec, &options, &tell);
        bar.finish_and_clear();
        let (data, warnings) = loaded?;
        if whole {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Ok(data)
    }
}

fn mc2p_options(args: &DataArgs) -> Mc2pOptions {
    Mc2pOptions {
        frame_rate_hz: args.frame_rate,
        behaviour_rate_hz: args.behaviour_rate,
        mask_rest: args.mask_rest,
        prefer_dff: args.ready_made,
        targets: args.targets.iter().map(|name| Target { name: name.clone(), ..Target::default() }).collect(),
        ..Mc2pOptions::default()
    }
}

/// `HxW` or `CxHxW`, within what a frame can be.
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let sides: Vec<usize> = text.split('x').map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
    let shape = match sides[..] {
        [height, width] => Shape::new(1, height, width),
        [channels, height, width] => Shape::new(channels, height, width),
        _ => return Err("write HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH, such as 1x128x128".to_owned()),
    };
    let sides_fit = [shape.height, shape.width].iter().all(|side| (1..=SIDE_PX_MAX).contains(side));
    if (1..=CHANNELS_MAX).contains(&shape.channels) && sides_fit {
        return Ok(shape);
    }
    Err(format!("{shape}: 1 to {CHANNELS_MAX} channels, 1 to {SIDE_PX_MAX} px a side"))
}
