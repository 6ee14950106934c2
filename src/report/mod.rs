//! Results for people: the run's folder, plots, the report and the model card.
//!
//! Why it exists: what a run found must be readable years later without this program: a folder of plain files, and one HTML
//! file that needs nothing else. What it must never do: train, compute a score, or leave a half-written file where a whole one
//! stood.

#[cfg(test)]
pub(crate) mod example;
pub mod session;
pub mod tensorboard;

pub mod data;
pub mod html;
pub mod model_card;
pub mod pca;
pub mod plot;
pub mod provenance;
