//! `haltere bench`: the numbers of this machine, by the same code that decodes.
pub mod client;
pub mod corridor;
pub mod movie;
pub mod registration;
