//! One ONNX session: bound once, warmed, its shapes checked against the manifest.
//!
//! Why it exists: the daemon, the trainer's acceptance test and the benches must run a model in exactly one way.
//! What it must never do: allocate on the Rust side once it is made, choose another device than it was told, or run a model
//! whose tensors differ from its manifest. Together with the device code it is the only place with `unsafe`.

use std::path::Path;

use crate::frame::{Embedding, Tensor};
use crate::model::Model;

/// A loaded model and its streaming state or window.
pub struct Encoder {}

/// A model that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// ONNX Runtime itself is not there or too old.
    #[error("ONNX Runtime: {cause}")]
    Runtime {
        /// What is missing and the command that fetches it.
        cause: String,
    },
    /// The file's tensors are not what the manifest says.
    #[error("{model}: {what} is {found}, the manifest says {expected}")]
    Mismatch {
        /// ONNX file.
        model: String,
        /// Which tensor or property.
        what: String,
        /// In the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// The embedding holds NaN or infinite values. Survivable: reset, and begin a new window.
    #[error("{model}: the embedding holds NaN or infinite values")]
    NonFinite {
        /// ONNX file.
        model: String,
    },
    /// ONNX Runtime refused to load or run the model.
    #[error("{model}: {cause}")]
    Session {
        /// ONNX file.
        model: String,
        /// ONNX Runtime's words.
        cause: String,
    },
}

impl Encoder {
    /// Opens, checks, binds and warms a model; the first real frame runs as fast as any later one.
    ///
    /// `runtime` is ONNX Runtime's shared library; `None` searches `ORT_DYLIB_PATH`, beside the executable, `.runtime/`.
    ///
    /// # Errors
    /// Any [`EncodeError`].
    pub fn open(model: &Model, runtime: Option<&Path>, threads: usize) -> Result<Self, EncodeError> {
        let _ = (model, runtime, threads);
        unimplemented!()
    }

    /// An embedding of the right sizes, to be written by [`Encoder::encode`].
    pub fn new_embedding(&self) -> Embedding {
        unimplemented!()
    }

    /// Encodes one model frame: one step of a streaming model, or the window that ends with this frame.
    ///
    /// # Errors
    /// [`EncodeError::Session`] when ONNX Runtime fails.
    pub fn encode(&mut self, input: &Tensor<'_>, into: &mut Embedding) -> Result<(), EncodeError> {
        let _ = (input, into);
        unimplemented!()
    }

    /// True until the window is full: embeddings before that saw zeros for frames that never were.
    pub fn warming_up(&self) -> bool {
        unimplemented!()
    }

    /// Forgets state and window: a new animal.
    pub fn reset(&mut self) {
        unimplemented!()
    }
}
