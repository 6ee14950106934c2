//! Small tools without a domain: counters and clock, files written whole, random numbers, exit codes.

pub mod calendar;
pub mod exit;
pub mod partial_file;
pub mod random;
pub mod replace_folder;
pub mod stats;
pub mod steady_file;
