//! What the manifest of an exported model states besides shapes.

use crate::model::parameters::Parameters;
use crate::model::{Kind, Provenance};

/// What a manifest says beside the shapes.
#[derive(Clone, Debug)]
pub struct Details {
    /// Name of the model and of its files.
    pub name: String,
    /// Which form to write.
    pub kind: Kind,
    /// Model frames per second.
    pub frame_rate_hz: f64,
    /// Future frames the windows of training saw.
    pub look_ahead_frames: usize,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What happens to a frame before it reaches the model.
    pub preprocess: Parameters,
}
