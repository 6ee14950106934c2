//! Simulated flies with known truth.
//!
//! Why it exists: no public data set pairs two-photon movies of many animals with behaviour, and the accuracy of a running daemon
//! can only be measured where the truth is known. Animals of one species perform the same actions with the same kinds of neurons;
//! what differs between them is the domain gap, and each source of it is a parameter of the [`Recipe`].
//! What it must never do: let a clock influence the data, or flatter a method. Everything is a pure function of (seed, animal,
//! trial, recipe); frame k is the same on disk and live.

pub mod behaviour;
pub mod limbs;
pub mod neurons;
pub mod optics;
pub mod recipe;
mod source;
mod spec;
mod stream;
mod tissue;
mod trial;
mod truth;
pub mod write;

pub use self::behaviour::ACTIONS;
pub use self::recipe::{Recipe, RecipeError};
pub use self::source::SimulatedSource;
pub use self::spec::{SECONDS_DEFAULT, Spec, is_simulated};
pub use self::trial::{Animal, Trial};
pub use self::truth::{Truth, truth};

#[cfg(test)]
mod tests;
