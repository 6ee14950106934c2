//! Messages: bytes to headers and values and back. Pure functions over slices, every limit stated.

pub mod subscriber;

pub mod control;
pub mod decision;
pub mod decode;
pub mod frame_header;
pub mod inlet;
pub mod pixels;
pub mod preview;
pub mod report;
pub mod round_trip;
