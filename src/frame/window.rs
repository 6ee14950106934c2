//! What a window of frames may hold.
//!
//! Why it exists: live decoding, replay and training must leave out the same windows. What it must never do: look at a frame itself.

/// Share of a window that may be missing: live a decode is `degraded` beyond it, and training leaves the window out.
pub const MISSING_SHARE_MAX: f64 = 0.1;

/// Why the network's window begins anew with a frame, while template, F₀ and statistics stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// More time has passed since the frame before it than a window may span.
    Pause,
    /// It is the first of a series.
    NewSeries,
}

impl Restart {
    /// The word in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::NewSeries => "new_series",
        }
    }
}
