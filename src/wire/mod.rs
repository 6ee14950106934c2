//! Bytes to headers and values and back: pure functions over slices, every limit stated.

pub mod subscriber;

pub mod control;
pub mod decode;
pub mod frame_header;
pub mod preview;
pub mod report;
