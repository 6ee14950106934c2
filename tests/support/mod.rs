//! What the test programs share; each of them uses its part.
#![allow(dead_code, reason = "every test program uses its part")]

pub mod conformance;
#[cfg(feature = "train")]
pub mod corridor;
pub mod emulator;
pub mod fly;
pub mod nwb;
pub mod nwb_session;
pub mod oracle;
pub mod process;
pub mod scene;
pub mod web;
