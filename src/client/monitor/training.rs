//! The training embedding out of a model's file: the prototypes of its novelty, named by its own classifier.
//!
//! Why it exists: a live trajectory means something only beside where training was. What it must never do: fail the monitor;
//! without a training embedding it shows another plane and says why.

use std::path::Path;

use crate::client::state::plane::Training;
use crate::model::Model;
use crate::model::onnx::{Floats, OnnxFile};

/// Prototypes by the manifest's model, or why there are none, for people.
pub(super) fn load(manifest: &Path) -> Result<Training, String> {
    let model = Model::load(manifest).map_err(|error| error.to_string())?;
    let file = OnnxFile::read(&model.onnx_path).map_err(|error| error.to_string())?;
    let floats = |name: &str| file.floats(name).map_err(|error| error.to_string());
    let name = &model.manifest.name;
    let (shape, values) = floats("novelty.prototypes")?.ok_or_else(|| {
        let what = if model.manifest.provenance.trained { "holds no training embedding" } else { "is untrained" };
        format!("the model {name} {what}")
    })?;
    let classifier = floats("logits.weight")?.zip(floats("logits.bias")?);
    let rows = values.chunks_exact(shape.last().copied().unwrap_or(1).max(1));
    let prototypes = rows.map(|row| (row.to_vec(), classifier.as_ref().and_then(|c| action_of(row, c)))).collect();
    Ok(Training { sha256: model.manifest.sha256, prototypes })
}

/// The label with the largest logit; weights are embedding × labels.
fn action_of(row: &[f32], ((_, weights), (_, biases)): &(Floats, Floats)) -> Option<usize> {
    let labels = biases.len();
    if labels == 0 || weights.len() != row.len() * labels {
        return None;
    }
    let logit = |label: usize| {
        biases[label] + row.iter().zip(weights.chunks_exact(labels)).map(|(v, w)| v * w[label]).sum::<f32>()
    };
    (0..labels).max_by(|a, b| logit(*a).total_cmp(&logit(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
    }

    #[test]
    fn the_shipped_model_has_a_training_embedding_with_more_than_one_action() {
        let training = load(&shipped("fly.toml")).unwrap();
        let mut actions: Vec<usize> = training.prototypes.iter().map(|(_, action)| action.unwrap()).collect();
        actions.sort_unstable();
        actions.dedup();
        assert!(training.prototypes.len() == 64 && actions.len() > 2, "{actions:?}");
        assert!(training.prototypes.iter().all(|(row, _)| row.len() == 64));
    }

    #[test]
    fn a_model_without_one_says_why() {
        assert_eq!(load(&shipped("untrained.toml")).unwrap_err(), "the model untrained is untrained");
        assert!(load(Path::new("nowhere.toml")).unwrap_err().contains("nowhere.toml"));
    }
}
