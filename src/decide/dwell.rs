//! How long something must hold before it counts: in N of the last M frames, and for T without a break.

use super::rule::Hold;

/// Remembers the last frames that were looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dwell {
    hold: Hold,
    /// One bit for each of the last frames, the newest lowest.
    frames: u64,
    /// Since when it has held without a break, ns.
    since_ns: Option<u64>,
}

impl Dwell {
    pub fn new(hold: Hold) -> Self {
        Self { hold, frames: 0, since_ns: None }
    }

    /// One more frame. True when it has held for long enough, this frame included.
    pub fn push(&mut self, holds: bool, now_ns: u64) -> bool {
        let Hold { frames, ms } = self.hold;
        let window = u64::MAX >> (64 - frames.of);
        self.frames = (self.frames << 1 | u64::from(holds)) & window;
        if !holds {
            self.since_ns = None;
            return false;
        }
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        self.frames.count_ones() >= frames.least && now_ns - since_ns >= u64::from(ms) * 1_000_000
    }

    /// Nothing was seen yet.
    pub fn forget(&mut self) {
        (self.frames, self.since_ns) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::FrameShare;
    use super::*;

    fn pushed(frames: &str, ms: u32, holds: &[u8]) -> Vec<bool> {
        let frames: FrameShare = frames.parse().unwrap();
        let mut dwell = Dwell::new(Hold { frames, ms });
        holds.iter().zip(0..).map(|(holds, frame)| dwell.push(*holds == 1, frame * 10_000_000)).collect()
    }

    #[test]
    fn n_of_m_frames_and_a_time_without_a_break() {
        assert_eq!(pushed("1 of 1", 0, &[0, 1, 0]), [false, true, false]);
        assert_eq!(pushed("3 of 4", 0, &[1, 1, 0, 1, 0, 1]), [false, false, false, true, false, false]);
        assert_eq!(pushed("3 of 4", 0, &[1, 0, 0, 1, 0, 1, 1]), [false, false, false, false, false, false, true]);
        assert_eq!(pushed("1 of 1", 20, &[1, 1, 0, 1, 1, 1, 1]), [false, false, false, false, false, true, true]);
        assert_eq!(pushed("64 of 64", 0, &[1; 65])[62..], [false, true, true]);
    }
}
