//! Poses and labels as other programs write them.

pub mod deepfly3d;
pub mod foreign;
pub mod pickle;
pub mod sleap;
