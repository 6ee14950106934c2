//! How long a sender has been silent, for a run that ends with its series.
//!
//! Why it exists: a publisher's end message can be lost like any frame, and `--once` would wait for it for ever.
//! What it must never do: call a sender silent that has not started, or that waits because nothing is being read.

use std::time::Duration;

use crate::sys::clock::now_ns;

/// Knows since when nothing came.
pub(super) struct Silence {
    longest: Option<Duration>,
    /// `None` until the first frame: a microscope may be armed for hours.
    since_ns: Option<u64>,
}

impl Silence {
    /// `longest`: how long it may last; `None` = for ever.
    pub(super) fn new(longest: Option<Duration>) -> Self {
        Self { longest, since_ns: None }
    }

    /// A frame came.
    pub(super) fn broken_by_frame(&mut self) {
        if self.longest.is_some() {
            self.since_ns = Some(now_ns());
        }
    }

    /// Something else arrived, or nothing was being read: the silence is measured from now.
    pub(super) fn is_not_the_senders(&mut self) {
        if self.since_ns.is_some() {
            self.since_ns = Some(now_ns());
        }
    }

    /// How long it has lasted, when that is longer than it may.
    pub(super) fn too_long(&self) -> Option<Duration> {
        let silent = Duration::from_nanos(now_ns().saturating_sub(self.since_ns?));
        self.longest.filter(|longest| silent > *longest).map(|_| silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_frame_and_never_before_the_first() {
        let mut silence = Silence::new(Some(Duration::ZERO));
        silence.is_not_the_senders();
        assert_eq!(silence.too_long(), None, "nothing has begun");
        silence.broken_by_frame();
        std::thread::sleep(Duration::from_millis(1));
        assert!(silence.too_long().is_some());
        let mut patient = Silence::new(Some(Duration::from_secs(3600)));
        patient.broken_by_frame();
        assert_eq!(patient.too_long(), None);
        let mut for_ever = Silence::new(None);
        for_ever.broken_by_frame();
        assert_eq!(for_ever.too_long(), None);
    }
}
