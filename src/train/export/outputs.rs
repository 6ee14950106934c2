//! The continuous outputs of a model: ridge regression on the frozen embedding of the training animals.
//!
//! Why it exists: a number is read from the embedding as an action is, by one linear layer in the same file. What it must never do: learn
//! from a sample whose target is not known, or from a held-out animal.

use ndarray::{Array2, Axis};

use super::head::FittedOutputs;
use crate::dataset::Target;
use crate::dataset::trials::Representation;
use crate::evaluate::evaluate_published;
use crate::evaluate::ridge::{Numbers, Ridge};
use crate::model::Output;
use crate::model::head::OutputLayer;

/// A target from which nothing can be learnt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target {name} has the same value in all {samples} samples of training where it is known: check its column, or leave it out of the \
     targets"
)]
pub struct NothingToLearn {
    /// Its name.
    name: String,
    /// Samples of training where it is known.
    samples: usize,
}

/// Fits the outputs to the samples of training; `None` without targets. `held_out` says what they are worth.
pub(super) fn fit_outputs(
    targets: &[Target],
    own: &Representation,
    held_out: Option<&Representation>,
) -> Result<Option<FittedOutputs>, NothingToLearn> {
    if targets.is_empty() {
        return Ok(None);
    }
    let (mut weight, mut bias) = (Array2::zeros((own.values.ncols(), targets.len())), Vec::new());
    let mut described = Vec::new();
    for (output, target) in targets.iter().enumerate() {
        let known: Vec<usize> = (0..own.animal.len()).filter(|&row| own.target[[row, output]].is_finite()).collect();
        let truth: Vec<f64> = known.iter().map(|&row| f64::from(own.target[[row, output]])).collect();
        let values = own.values.select(Axis(0), &known);
        let rows = Numbers { values: values.view(), truth: &truth };
        let ridge = Ridge::fit(rows, &groups(own, &known));
        let ridge = ridge.ok_or_else(|| NothingToLearn { name: target.name.clone(), samples: known.len() })?;
        weight.column_mut(output).iter_mut().zip(&ridge.weights).for_each(|(to, from)| *to = *from as f32);
        bias.push(ridge.intercept as f32);
        described.push(described_by(target, &truth));
    }
    let layer = OutputLayer { weight, bias };
    if let Some(others) = held_out {
        measure(&layer, others, &mut described);
    }
    Ok(Some(FittedOutputs { layer, described }))
}

/// What a penalty is chosen by: animals left out, or the trials of one animal.
fn groups(own: &Representation, rows: &[usize]) -> Vec<usize> {
    let alone = rows.iter().all(|&row| own.animal[row] == own.animal[rows[0]]);
    rows.iter().map(|&row| if alone { own.trial[row] } else { own.animal[row] }).collect()
}

fn described_by(target: &Target, truth: &[f64]) -> Output {
    let count = truth.len() as f64;
    let mean = truth.iter().sum::<f64>() / count;
    let sd = (truth.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let (name, unit) = (target.name.clone(), target.unit.clone());
    Output { name, unit, mean, sd, r2: None, correlation: None, measured_on: String::new() }
}

/// What the outputs are worth on held-out animals: means over the animals.
fn measure(layer: &OutputLayer, others: &Representation, described: &mut [Output]) {
    let animals: Vec<usize> = (0..others.animals.len()).collect();
    let scores = evaluate_published(others, &animals, &layer.read(others.values.view()));
    for output in described {
        let own: Vec<_> = scores.iter().filter(|score| score.output == output.name).collect();
        if own.is_empty() {
            continue;
        }
        let count = own.len() as f64;
        output.r2 = Some(own.iter().map(|score| score.r2).sum::<f64>() / count);
        output.correlation = Some(own.iter().map(|score| score.correlation).sum::<f64>() / count);
        let names: Vec<&str> = own.iter().map(|score| score.animal.as_str()).collect();
        output.measured_on = format!("held-out {}", names.join(", "));
    }
}
