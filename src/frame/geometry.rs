//! What all frames of a series have in common.

use std::fmt;

use super::{PixelType, Shape};

/// Shape and pixel type. One animal keeps both: counts of another type or another field of view are another recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Channels × height × width.
    pub shape: Shape,
    /// How pixels are stored.
    pub pixel_type: PixelType,
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shape, self.pixel_type)
    }
}
