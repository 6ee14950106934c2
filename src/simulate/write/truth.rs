//! What only a simulation knows of a trial, beside its recording: the light of every axon, where the animal lies, how it moves.
//!
//! Why it exists: what a decoder loses to optics, placement and motion can be told apart only where each is known. What it must never do:
//! stand in a file that training reads.

use std::path::Path;

use super::WriteError;
use super::files::{Output, npy_f32};
use crate::simulate::trial::Trial;

/// One thing that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Known {
    /// truth_activity.npy: ΔF/F of every axon in every two-photon frame, before optics, `[frames, axons]`; truth_axons.csv: which axon of
    /// the species each column is, and where it lies.
    Activity,
    /// truth_placement.csv: rotation, shift and scale of the animal under the objective.
    Placement,
    /// truth_motion.npy: how far the content of every two-photon frame has moved, `[frames, 2]`, down and right, px.
    Motion,
}

pub(super) fn write_truth(trial: &Trial, known: &[Known], folder: &Path) -> Result<(), WriteError> {
    known.iter().try_for_each(|known| match known {
        Known::Activity => {
            write_axons(trial, &folder.join("truth_axons.csv"))?;
            let axons = trial.animal().population.axons.len();
            let rows = (0..trial.frames()).flat_map(|frame| trial.activity(frame).iter().copied());
            npy_f32(&folder.join("truth_activity.npy"), [trial.frames(), axons], rows)
        }
        Known::Placement => write_placement(trial, &folder.join("truth_placement.csv")),
        Known::Motion => {
            let rows = (0..trial.frames()).flat_map(|frame| trial.motion_px(frame)).map(|px| px as f32);
            npy_f32(&folder.join("truth_motion.npy"), [trial.frames(), 2], rows)
        }
    })
}

fn write_axons(trial: &Trial, path: &Path) -> Result<(), WriteError> {
    let mut table = Output::create(path)?;
    table.write(b"axon,y_px,x_px,radius_px\n")?;
    for axon in &trial.animal().population.axons {
        let [y, x] = axon.place_px;
        table.write(format!("{},{y},{x},{}\n", axon.id, axon.radius_px).as_bytes())?;
    }
    table.finish()
}

fn write_placement(trial: &Trial, path: &Path) -> Result<(), WriteError> {
    let view = &trial.animal().view;
    let ([dy, dx], [sy, sx]) = (view.shift_px, view.scale);
    let mut table = Output::create(path)?;
    table.write(b"rotation_deg,shift_y_px,shift_x_px,scale_y,scale_x\n")?;
    table.write(format!("{},{dy},{dx},{sy},{sx}\n", view.rotation_deg).as_bytes())?;
    table.finish()
}
