//! Models: training, evaluation, comparison and export, and the data that they learn from.

#[path = "../support/mod.rs"]
mod support;

mod bad_training;
#[cfg(feature = "train")]
mod bench;
mod evaluate_against_sklearn;
mod export;
mod model_command;
mod onnx_model;
mod outputs;
mod pixels;
mod poses;
mod resume;
mod run_folder;
mod session_trials;
mod sweep;
mod training;
mod write_failures;
