//! The header of a picture for people. It always states the full size of a reduced picture.

use serde::Serialize;

use super::decode::CLOCK;
use crate::frame::{Name, Picture, Preview};

/// `preview/<source>`: a picture follows as little-endian float32.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PreviewHeader {
    htype: &'static str,
    dtype: &'static str,
    /// Channels, rows, columns.
    shape: [usize; 3],
    what: Picture,
    /// Shape before it was reduced for the preview.
    full_shape: [usize; 3],
    frame: u64,
    source: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<Name>,
    /// Counts the templates; left out for frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    t_recv_ns: u64,
    t_pub_ns: u64,
    clock: &'static str,
}

impl PreviewHeader {
    /// The header of `preview`, published at `t_pub_ns`.
    pub fn of(preview: &Preview, t_pub_ns: u64) -> Self {
        let sides = |shape: crate::frame::Shape| [shape.channels, shape.height, shape.width];
        Self {
            htype: "preview-1.0",
            dtype: "float32",
            shape: sides(preview.shape),
            what: preview.what,
            full_shape: sides(preview.full),
            frame: preview.frame,
            source: preview.source,
            series: preview.series,
            generation: (preview.generation > 0).then_some(preview.generation),
            t_recv_ns: preview.t_received_ns,
            t_pub_ns,
            clock: CLOCK,
        }
    }
}
