//! What the manifest of an exported model states besides shapes.

use crate::model::parameters::Parameters;
use crate::model::{Kind, Provenance};

/// What a manifest states besides shapes.
#[derive(Clone, Debug)]
pub struct Details {
    /// Name of the model and of its files.
    pub name: String,
    /// Which form to write.
    pub kind: Kind,
    /// Model frames per second.
    pub frame_rate_hz: f64,
    /// Future frames in a window of training.
    pub look_ahead_frames: usize,
    /// Its origin.
    pub provenance: Provenance,
    /// The preprocessing of a frame before it reaches the model.
    pub preprocess: Parameters,
}
