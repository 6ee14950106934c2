//! Where frames come from: the trait of the sources, and the one place that opens a recording.
//!
//! Why it exists: live sockets and files must look the same to everything downstream, so that offline decoding reproduces live
//! decoding. A source fills a slot of the lane in place and stamps its time; nothing else reads a clock for a frame.
//! What it must never do: block longer than [`IDLE_MS_MAX`], unpickle, or let a damaged message end the stream.

pub mod about;
pub mod age;
pub mod arrival;
pub mod axes;
mod axes_decision;
mod bruker;
mod chosen;
mod file_names;
pub mod session_index;

pub mod continuity;
mod grid;
pub mod limit;
pub mod mcap;
pub mod nwb;
pub mod open;
mod page_list;
pub mod raw;
mod recording;
mod regions;
mod scanbox;
mod scanimage;
pub mod thorimage;
pub mod tiff;
mod tiff_files;
mod xml;
pub mod zmq;

use crate::frame::event::Refusal;
use crate::frame::{Frame, Requests, SenderClock};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::wire::frame_header::HeaderError;

pub use self::about::{About, Fact};
pub use self::nwb::Orientation;
pub use self::open::{RecordingSpec, files_of, open_recording, series_of, session_of, voltage_begins_s};
pub use self::session_index::{FrameClock, FrameIndex, SessionIndex};
pub use self::zmq::ZmqSource;

/// Longest time one call of [`Source::next`] may wait for a frame, ms.
pub const IDLE_MS_MAX: u64 = 50;

/// Result of one call of [`Source::next`].
#[expect(clippy::large_enum_variant, reason = "a box would allocate on the frame path")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// The slot holds a new frame.
    Frame,
    /// Nothing arrived for a while; the slot is untouched.
    Idle,
    /// A message was rejected; the slot's content is undefined, the stream continues.
    Rejected(Refusal),
    /// The sender announced an acquisition.
    SeriesBegan,
    /// The sender ended the acquisition; another may follow.
    SeriesEnded,
    /// The followed file was removed, truncated or replaced (as the word says): what follows is a new acquisition.
    FileLost(&'static str),
    /// The followed file cannot be read at the moment, by the system's word; it is tried again.
    FileUnreachable(&'static str),
    /// It can be read again, after so long.
    FileBack(std::time::Duration),
    /// There will be no more frames.
    End,
}

/// A source of frames. Files end, sockets do not.
pub trait Source: Send {
    /// Fills `into` with the next frame, waiting at most [`IDLE_MS_MAX`].
    ///
    /// # Errors
    /// Only what ends the stream for good (socket closed, file unreadable); everything else is a [`Next`].
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError>;

    /// Requests carried out just before the last frame of [`Source::next`]: a recorded session has them, and its replay repeats
    /// them at the same place.
    fn requests(&self) -> Requests {
        Requests::default()
    }

    /// What was left out of the header of the last frame of [`Source::next`] because it could not be read.
    fn ignored(&self) -> Option<HeaderError> {
        None
    }

    /// How the clock of the sender's time stamps lies to ours, where both are known.
    fn sender_clock(&self) -> Option<SenderClock> {
        None
    }

    /// Bytes that a slot must hold for any frame of this source.
    fn frame_bytes_max(&self) -> usize;

    /// Total number of frames, if known: for progress bars.
    fn frames_total(&self) -> Option<u64> {
        None
    }

    /// Frames per second from the file's metadata or the user, if known.
    fn frame_rate_hz(&self) -> Option<f64> {
        None
    }

    /// What is known about it, and by which text.
    fn about(&self) -> About {
        About::default()
    }

    /// The recording's own time of every frame, ns, where it has them; it is read from all over the file.
    ///
    /// # Errors
    /// A file that can no longer be read.
    fn times_ns(&mut self) -> Result<Vec<i64>, SourceError> {
        Ok(Vec::new())
    }
}

/// Why a source ended.
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
    /// A socket that cannot be opened or has failed.
    #[error("{endpoint}: {cause}")]
    Socket {
        /// Which endpoint.
        endpoint: String,
        /// Why, and what to do.
        cause: String,
    },
}

impl HasExitCode for SourceError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::File { .. } | Self::Socket { .. } => ExitCode::Source,
        }
    }
}
