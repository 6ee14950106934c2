//! What the encoder makes of a frame.

/// The encoder's output for one frame. Allocated once per model and written in place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedding {
    /// The action embedding, one value per dimension.
    pub values: Vec<f32>,
    /// Probability of each label of the model; empty for a model without labels.
    pub probabilities: Vec<f32>,
    /// Continuous outputs of the model, in its order; empty for a model without any.
    pub outputs: Vec<f32>,
    /// Novelty, 0 to 1: its rank among held-out samples of training; `None` if the model does not provide it.
    pub novelty: Option<f32>,
}
