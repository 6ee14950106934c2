//! The daemon as other programs find it: clients in Python, a browser, Lab Streaming Layer, OSC, a serial port.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod decided;
mod doors;
mod foreign_session;
mod lsl;
mod monitor;
mod outlets;
mod packages;
mod page;
mod python_package;
mod rehearse;
mod rig_without_training;
