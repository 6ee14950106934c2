//! Results for people: the run's folder, plots, the report and the model card.
//!
//! Why it exists: what a run found must be readable years later without this program: a folder of plain files, and one HTML
//! file that needs nothing else. What it must never do: train, compute a score, or leave a half-written file where a whole one
//! stood.

pub mod data;
pub mod events;
pub mod html;
pub mod metrics;
pub mod model_card;
pub mod pca;
pub mod plot;
pub mod provenance;
pub mod replace;
pub mod run_folder;

#[cfg(test)]
mod demo;
