//! The true actions of a simulated recording, to score a decoder against.

use super::behaviour::ACTIONS;
use super::spec::Spec;
use super::trial::Trial;

/// What the animal truly does, two-photon frame by frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Names of the actions.
    pub labels: Vec<String>,
    /// For each two-photon frame, the action at its end: index into `labels`.
    pub action_of_frame: Vec<u8>,
}

/// The truth of a recording, to score a decoder against.
pub fn truth(spec: &Spec) -> Truth {
    Truth {
        labels: ACTIONS.iter().map(|&name| name.to_owned()).collect(),
        action_of_frame: Trial::new(spec).action_of_frame(),
    }
}
