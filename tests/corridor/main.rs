//! The corridor within this process, from a source that does what the test says to sinks that keep everything, and the models that are
//! made for it.

#[path = "../support/mod.rs"]
mod support;

mod bursts;
mod calibrate;
mod device;
mod drift;
mod light;
mod memory;
mod overload;
mod replay;
mod series;
mod stop;
mod window;
