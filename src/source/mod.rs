//! Where frames come from: the seam, and the one place that opens a source by its configuration.
//!
//! Why it exists: live sockets and files must look alike to everything behind them, so that what is decoded offline is what
//! was decoded live. A source fills a slot of the lane in place and stamps its time; nobody else reads a clock for a frame.
//! What it must never do: block longer than [`IDLE_MS_MAX`], unpickle, or let a damaged message end the stream.

pub mod arrival;
pub mod session_index;

pub mod continuity;
pub mod limit;
pub mod mcap;
pub mod nwb;
pub mod open;
pub mod raw;
mod recording;
mod scanimage;
pub mod thorimage;
pub mod tiff;
mod tiff_order;
mod xml;
pub mod zmq;

use crate::frame::event::Reason;
use crate::frame::{Frame, Requests};

pub use self::open::{RecordingSpec, files_of, open_recording, series_of, session_of};
pub use self::session_index::{FrameClock, FrameIndex, SessionIndex};
pub use self::zmq::ZmqSource;

/// Longest time one call of [`Source::next`] may wait for a frame, ms.
pub const IDLE_MS_MAX: u64 = 50;

/// What one call of [`Source::next`] brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// The slot holds a new frame.
    Frame,
    /// Nothing came for a while; the slot is untouched.
    Idle,
    /// A message came and was refused; the slot's content is undefined, the stream goes on.
    Rejected(Reason),
    /// The sender announced an acquisition.
    SeriesBegan,
    /// The sender ended the acquisition; another may follow.
    SeriesEnded,
    /// The file that is followed was removed, truncated or replaced (in that word): what comes is another acquisition.
    FileLost(&'static str),
    /// There will be no more frames.
    End,
}

/// A source of frames. Files end, sockets do not.
pub trait Source: Send {
    /// Fills `into` with the next frame, waiting at most [`IDLE_MS_MAX`].
    ///
    /// # Errors
    /// Only what ends the stream for good (socket closed, file unreadable); everything survivable is a [`Next`].
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError>;

    /// What was carried out just before the frame that [`Source::next`] gave last: recorded sessions know, and a replay does
    /// it again at the same place.
    fn requests(&self) -> Requests {
        Requests::default()
    }

    /// Bytes that a slot must hold for any frame of this source.
    fn frame_bytes_max(&self) -> usize;

    /// Frames there will be, if known: for progress bars.
    fn frames_total(&self) -> Option<u64> {
        None
    }

    /// Frames per second by the file's own metadata or the user's word, if known.
    fn frame_rate_hz(&self) -> Option<f64> {
        None
    }
}

/// What ends a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file that cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// Why, and what to do.
        cause: String,
    },
    /// A socket that cannot be opened or has died.
    #[error("{endpoint}: {cause}")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// Why, and what to do.
        cause: String,
    },
}
