//! Small tools without a domain: counters and clock, files written whole, random numbers, signals, progress, exit codes.

pub mod calendar;
pub mod exit;
pub mod partial_file;
pub mod progress;
pub mod random;
pub mod replace_folder;
pub mod revision;
pub mod signals;
pub mod stats;
pub mod steady_file;
