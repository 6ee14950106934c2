//! The daemon as a process, with a microscope, a subscriber and an operator. Some tests here measure times, so whatever trains or opens a
//! browser is tested in another program.

#[path = "../support/mod.rs"]
mod support;

mod decisions;
mod errors;
mod failsafe;
mod follow;
mod inlet;
mod light;
mod live;
mod models;
mod qualities;
mod record;
mod senders;
mod swap;
mod time;
mod unattended;
mod warm_start;
