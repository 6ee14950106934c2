//! How a model is named wherever its decodes go.

/// The model whose decodes are published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelTag {
    /// Name in the manifest.
    pub name: String,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub sha256: String,
    /// 1 for the first model of this start.
    pub generation: u64,
    /// Action labels, in the order of the probabilities.
    pub labels: Vec<String>,
    /// Names of the continuous outputs, in their order.
    pub outputs: Vec<String>,
    /// Dimensions of the embedding.
    pub embedding: usize,
    /// False for random weights: no action is published but the neutral one in `stale` and `fail`.
    pub trained: bool,
}

impl ModelTag {
    /// Does it decode actions at all?
    pub fn decodes_actions(&self) -> bool {
        self.trained && !self.labels.is_empty()
    }
}
