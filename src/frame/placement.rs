//! Where an animal lies under the objective.

/// How an animal lies relative to the atlas of its model: five numbers, and how well it fits. A point of the atlas lies in the
/// animal's frame where scale, then turn, then shift take it, about the middle of the frame.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Placement {
    /// Turn of the animal, degrees; + turns right towards down.
    pub turn_deg: f32,
    /// [dy, dx], frame px; + is down and right.
    pub shift_px: [f32; 2],
    /// Magnification along y and x.
    pub scale: [f32; 2],
    /// Correlation of the animal's picture, laid on the atlas, with the atlas: 1 is a copy.
    pub likeness: f32,
    /// The likeness is at least what the model asks for.
    pub fits: bool,
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { turn_deg, shift_px: [dy, dx], scale: [y, x], likeness, .. } = self;
        write!(f, "turn {turn_deg:.1}°, shift {dy:.1} and {dx:.1} px, scale {y:.3} and {x:.3}, likeness {likeness:.2}")
    }
}
