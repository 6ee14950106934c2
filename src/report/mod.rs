//! Pages and plots for people, from plain values: training, comparison and session reports, and the model card.
//!
//! Why it exists: results must be readable years later without this program, in one HTML file that needs nothing else. What it
//! must never do: train, compute a score, or replace a complete file by an incomplete one.

#[cfg(test)]
pub(crate) mod example;
pub mod session;
pub mod tensorboard;

pub mod data;
pub mod decisions;
pub mod html;
pub mod latency;
pub mod model_card;
pub mod pca;
pub mod picture;
pub mod plot;
pub mod provenance;
