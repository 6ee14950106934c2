//! Targets as training sees them: each with mean 0 and standard deviation 1 over the training samples.
//!
//! Why it exists: an embedding that is trained on actions alone keeps little of what its animal's numbers need (turning is gone), so the
//! encoder learns them as well. What it must never do: look at a sample that is not trained on.

use crate::dataset::trials::{Dataset, Sample};

/// Mean and standard deviation of each target.
#[derive(Debug)]
pub(super) struct Standardised(Vec<[f32; 2]>);

impl Standardised {
    /// Over the samples where a target is known.
    pub fn of(data: &Dataset, samples: &[Sample]) -> Self {
        let scale = |target: usize| {
            let value = |m: &Sample| f64::from(data.trials[m.trial].targets[[m.frame, target]]);
            let known: Vec<f64> = samples.iter().map(value).filter(|value| value.is_finite()).collect();
            let count = known.len().max(1) as f64;
            let mean = known.iter().sum::<f64>() / count;
            let sd = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
            [mean as f32, if sd > 0.0 { sd as f32 } else { 1.0 }]
        };
        Self((0..data.targets.len()).map(scale).collect())
    }

    /// The targets of samples, `[samples, targets]`; NaN where one is not known.
    pub fn rows(&self, data: &Dataset, samples: &[Sample]) -> Vec<f32> {
        let row = |m: &Sample| {
            let own = data.trials[m.trial].targets.row(m.frame).to_vec();
            own.into_iter().zip(&self.0).map(|(value, [mean, sd])| (value - mean) / sd).collect::<Vec<f32>>()
        };
        samples.iter().flat_map(row).collect()
    }
}
