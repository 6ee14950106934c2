//! Names in the ONNX files that this program writes: by them the encoder binds, and `calibrate` finds what it exchanges.

/// Output `[1, E]`, a row of length 1.
pub const EMBEDDING: &str = "embedding";
/// Output `[1, L]`: the softmax of [`LOGITS`].
pub const PROBABILITIES: &str = "probabilities";
/// Output `[1, 1]`, 0 to 1.
pub const NOVELTY: &str = "novelty";
/// Output `[1, K]`: continuous outputs, in their units. Its constants are `outputs.weight` and `outputs.bias`.
pub const OUTPUTS: &str = "outputs";
/// Output `[1, R, D]` of a streaming model: what the next step takes as its state.
pub const NEXT_STATE: &str = "next_state";
/// Inside: the embedding before it is brought to length 1. Its last layer's bias is `embedding.raw.bias`.
pub const RAW: &str = "embedding.raw";
/// Inside: what the classifier says, its temperature included. Its constants are `logits.weight` and `logits.bias`.
pub const LOGITS: &str = "logits";
/// Key of the metadata: mean of each dimension of the raw embedding in training, separated by commas.
pub const ALIGNMENT_MEAN: &str = "alignment.mean";
/// Key of the metadata: their standard deviations.
pub const ALIGNMENT_SD: &str = "alignment.sd";
