//! Writes the new model's two files, after the daemon's own encoder reproduced it on the whole recording.
//!
//! What it must never do: leave an unproven file behind, or overwrite one unasked.

use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, Axis};
use tempfile::TempDir;

use super::{CalibrateError, Embed, Embeddings, unit_rows};
use crate::frame::Name;
use crate::model::head::Classifier;
use crate::model::head::{set_classifier, shift_raw};
use crate::model::onnx::OnnxFile;
use crate::model::{Adapted, Model, Parity};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::{sha256_of, temporary_folder, write_whole};

/// Maximum difference between encoder and arithmetic: the same f32 sums in another order.
const PARITY_MAX: f32 = 1e-5;

/// Where the new model goes.
pub(super) struct Target {
    name: String,
    onnx: PathBuf,
    manifest: PathBuf,
}

impl Target {
    pub(super) fn new(out: &Path, force: bool) -> anyhow::Result<Self> {
        let known = out.extension().is_some_and(|e| e == "onnx" || e == "toml");
        let out = if known { out.with_extension("") } else { out.to_owned() };
        let name = out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let usage = |what: String| Failure { code: ExitCode::Usage, what };
        if let Err(error) = name.parse::<Name>() {
            return Err(usage(format!("--out {}: the name {name:?} {error}", out.display())).into());
        }
        let folder = out.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        if !folder.is_dir() {
            let what = format!("--out {}: the folder does not exist; create it first", out.display());
            return Err(Failure { code: ExitCode::Sink, what }.into());
        }
        let [onnx, manifest] = ["onnx", "toml"].map(|extension| folder.join(format!("{name}.{extension}")));
        if let Some(path) = [&onnx, &manifest].into_iter().find(|path| path.exists() && !force) {
            return Err(CalibrateError::Exists(path.clone()).into());
        }
        Ok(Self { name, onnx, manifest })
    }
}

/// A temporary folder, removed when dropped.
pub(super) struct Scratch(TempDir);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(temporary_folder("calibrate")?))
    }

    /// `like` with a file that gives its raw embedding and nothing else.
    pub(super) fn raw_model(&self, like: &Model, file: &OnnxFile) -> anyhow::Result<Model> {
        let mut model = self.model(like, file, "raw")?;
        let m = &mut model.manifest;
        (m.labels, m.calibration, m.novelty, m.drift) = (Vec::new(), None, None, None);
        m.outputs.clear();
        Ok(model)
    }

    /// `like` with another file.
    fn model(&self, like: &Model, file: &OnnxFile, name: &str) -> anyhow::Result<Model> {
        let mut model = like.clone();
        model.onnx_path = self.0.path().join(format!("{name}.onnx"));
        write_whole(&model.onnx_path, &file.bytes())?;
        model.manifest.sha256 = sha256_of(&model.onnx_path)?;
        Ok(model)
    }
}

/// What differs from the original model.
pub(super) struct Changes {
    pub shift: Option<Vec<f32>>,
    pub classifier: Option<Classifier>,
    pub refitted_on: usize,
    pub unchanged: bool,
}

/// What was written.
pub(super) struct Written {
    pub manifest: PathBuf,
    pub parity: f32,
}

/// The model that is to be written.
pub(super) struct NewModel<'a> {
    /// The model it is made from.
    pub from: &'a Model,
    /// The file of that model, which is changed.
    pub file: OnnxFile,
    /// The changes.
    pub changes: &'a Changes,
    /// Where it goes.
    pub target: &'a Target,
    /// The recording, as provenance names it.
    pub recording: &'a str,
}

/// Changes the file, proves it and writes it with its manifest.
pub(super) fn write(
    new: NewModel<'_>,
    scratch: &Scratch,
    embeddings: &Embeddings,
    embed: &mut Embed<'_>,
) -> anyhow::Result<Written> {
    let NewModel { from, mut file, changes, target, recording } = new;
    if let Some(shift) = &changes.shift {
        shift_raw(&mut file, shift)?;
    }
    if let Some(classifier) = &changes.classifier {
        set_classifier(&mut file, classifier)?;
        file.remove_metadata("temperature");
    }
    file.set_metadata("name", &target.name);
    file.set_metadata("calibrated_from", &from.manifest.sha256);
    file.set_metadata("calibrated_on", recording);
    let mut changed = scratch.model(from, &file, "changed")?;
    let parity = prove(&changed, changes, embeddings, embed)?;

    let m = &mut changed.manifest;
    m.name.clone_from(&target.name);
    m.file = target.onnx.file_name().map(PathBuf::from).unwrap_or_default();
    m.adapted = Some(Adapted {
        from_name: from.manifest.name.clone(),
        from_sha256: from.manifest.sha256.clone(),
        recording: recording.to_owned(),
        frames: embeddings.good.nrows(),
        aligned: changes.shift.is_some(),
        refitted_on: changes.refitted_on,
    });
    if changes.classifier.is_some() {
        // The temperature was measured for another classifier.
        m.calibration = None;
    }
    let max_abs_difference = parity.max_abs_difference;
    m.parity = Some(parity);
    m.check(&target.manifest)?;
    write_whole(&target.onnx, &file.bytes())?;
    m.save(&target.manifest)?;
    Ok(Written { manifest: target.manifest.clone(), parity: max_abs_difference })
}

/// Runs the whole recording through the new model; every embedding must be what arithmetic makes of the raw ones.
fn prove(changed: &Model, changes: &Changes, embeddings: &Embeddings, embed: &mut Embed<'_>) -> anyhow::Result<Parity> {
    let again = embed(changed)?;
    let width = changed.manifest.embedding;
    let raw = ArrayView2::from_shape((embeddings.all.len() / width, width), &embeddings.all)?;
    let found = ArrayView2::from_shape((again.all.len() / width, width), &again.all)?;
    let still = vec![0.0; width];
    let expected = unit_rows(raw, changes.shift.as_deref().unwrap_or(&still));
    let worst = expected
        .axis_iter(Axis(0))
        .zip(found.axis_iter(Axis(0)))
        .flat_map(|(a, b)| a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>());
    let worst = worst.fold(0.0, f32::max);
    if expected.nrows() != found.nrows() || worst > PARITY_MAX {
        let what = format!(
            "the daemon's encoder does not reproduce the calibrated model (difference {worst:e} over {} of {} embeddings; at most \
             {PARITY_MAX:e} is allowed): nothing was written; please report this",
            found.nrows(),
            expected.nrows()
        );
        return Err(Failure { code: ExitCode::Model, what }.into());
    }
    let against = "raw embeddings of the model it was calibrated from, shifted and brought to length 1".into();
    Ok(Parity { against, frames: found.nrows(), max_abs_difference: worst })
}
