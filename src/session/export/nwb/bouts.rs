//! Bouts: consecutive frames decoded as the same action.
//!
//! Why it exists: behaviour is analysed in intervals, not in frames. What it must never do: bridge a gap; a missing frame, a decode
//! that cannot be trusted and a neutral decode each end a bout.

use crate::frame::Quality;
use crate::session::messages::DecodeRecord;

/// One bout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bout {
    /// Receipt of its first frame, on the machine's clock, ns.
    pub start_ns: u64,
    /// Receipt of the frame that ended it, if that frame followed directly; else one frame period after its last frame.
    pub stop_ns: u64,
    /// As published.
    pub action: String,
    /// Mean over its frames; NaN where none was published.
    pub confidence: f64,
    /// Number of frames.
    pub frames: u64,
}

/// A bout that has not ended yet.
struct Open<'a> {
    start_ns: u64,
    last_ns: u64,
    action: &'a str,
    confidences: Vec<f64>,
    frames: u64,
}

impl<'a> Open<'a> {
    fn begin(t_ns: u64, action: &'a str) -> Self {
        Self { start_ns: t_ns, last_ns: t_ns, action, confidences: Vec::new(), frames: 0 }
    }

    fn take(&mut self, t_ns: u64, confidence: Option<f32>) {
        self.last_ns = t_ns;
        self.frames += 1;
        self.confidences.extend(confidence.map(f64::from));
    }

    fn end(self, stop_ns: u64) -> Bout {
        let confidence = self.confidences.iter().sum::<f64>() / self.confidences.len() as f64;
        let (start_ns, action, frames) = (self.start_ns, self.action.to_owned(), self.frames);
        Bout { start_ns, stop_ns, action, confidence, frames }
    }
}

/// The bouts of a session, of all its decodes in the order of publishing, neutral ones too.
pub(super) fn bouts(decodes: &[DecodeRecord]) -> Vec<Bout> {
    let period_ns = period_ns(decodes);
    let (mut found, mut open) = (Vec::new(), None::<Open>);
    for decode in decodes {
        let follows = follows(decode);
        let action = trusted_action(decode);
        if let Some(bout) = open.take() {
            match action {
                Some((t_ns, action)) if follows && action == bout.action => {
                    let mut bout = bout;
                    bout.take(t_ns, decode.confidence);
                    open = Some(bout);
                    continue;
                }
                _ => {
                    let lasted = bout.last_ns + period_ns;
                    let next = decode.t_recv_ns.filter(|next| *next > bout.last_ns && decode.decoded.is_some());
                    let stop_ns = next.map_or(lasted, |next| if follows { next } else { lasted.min(next) });
                    found.push(bout.end(stop_ns));
                }
            }
        }
        open = action.map(|(t_ns, action)| {
            let mut bout = Open::begin(t_ns, action);
            bout.take(t_ns, decode.confidence);
            bout
        });
    }
    found.extend(open.map(|bout| {
        let stop_ns = bout.last_ns + period_ns;
        bout.end(stop_ns)
    }));
    // A frame can come sooner than one period after the last.
    for at in 1..found.len() {
        found[at - 1].stop_ns = found[at - 1].stop_ns.min(found[at].start_ns);
    }
    found
}

/// No frame is missing between this decode and the one before.
fn follows(decode: &DecodeRecord) -> bool {
    let began = decode.decoded.as_ref().is_none_or(|decoded| decoded.series_began);
    !began && decode.frame_gap.unwrap_or(0) == 0 && decode.skipped.unwrap_or(0) == 0
}

/// Time of receipt and action of a decode that can be trusted.
fn trusted_action(decode: &DecodeRecord) -> Option<(u64, &str)> {
    let trusted = decode.quality == Quality::Ok && decode.decoded.is_some();
    trusted.then_some((decode.t_recv_ns?, decode.action.as_deref()?))
}

/// Median time between frames, ns; 0 with a single frame.
fn period_ns(decodes: &[DecodeRecord]) -> u64 {
    let times: Vec<u64> = decodes.iter().filter(|d| d.decoded.is_some()).filter_map(|d| d.t_recv_ns).collect();
    let mut periods: Vec<u64> = times.windows(2).filter_map(|pair| pair[1].checked_sub(pair[0])).collect();
    periods.sort_unstable();
    periods.get(periods.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::messages::Decoded;

    /// Frames every 10 ns; `0` as action is a decode that cannot be trusted, `-` a neutral one.
    fn session(actions: &str) -> Vec<DecodeRecord> {
        let decode = |(at, action): (usize, char)| {
            let (quality, t) = (if action == '0' { "degraded" } else { "ok" }, 100 + 10 * at);
            let text = format!(
                r#"{{"seq":{at},"frame":{at},"source":"r","t_recv_ns":{t},"t_pub_ns":{},"quality":"{quality}","action":"{action}","confidence":0.5}}"#,
                t + 5
            );
            let mut decode: DecodeRecord = serde_json::from_str(&text).unwrap();
            decode.decoded = Some(Decoded::default()).filter(|_| action != '-');
            if action == '-' {
                (decode.t_recv_ns, decode.frame, decode.quality) = (None, None, Quality::Stale);
            }
            decode
        };
        actions.chars().enumerate().map(decode).collect()
    }

    fn found(decodes: &[DecodeRecord]) -> Vec<(u64, u64, String, u64)> {
        bouts(decodes).into_iter().map(|b| (b.start_ns, b.stop_ns, b.action, b.frames)).collect()
    }

    #[test]
    fn a_bout_lasts_until_the_frame_that_says_something_else() {
        let expected = [(100, 130, "a".to_owned(), 3), (130, 150, "b".to_owned(), 2), (150, 160, "a".to_owned(), 1)];
        assert_eq!(found(&session("aaabba")), expected);
        assert_eq!(bouts(&session("aa"))[0].confidence, 0.5);
        assert!(bouts(&[]).is_empty());
    }

    #[test]
    fn a_decode_that_cannot_be_trusted_ends_a_bout_and_starts_none() {
        assert_eq!(found(&session("aa0a")), [(100, 120, "a".to_owned(), 2), (130, 140, "a".to_owned(), 1)]);
        assert_eq!(found(&session("aa-a")), [(100, 120, "a".to_owned(), 2), (130, 140, "a".to_owned(), 1)]);
        assert!(found(&session("0-0")).is_empty());
    }

    #[test]
    fn frames_that_are_missing_are_not_bridged() {
        let change: [fn(&mut DecodeRecord); 3] = [
            |decode| decode.frame_gap = Some(3),
            |decode| decode.skipped = Some(1),
            |decode| decode.decoded.as_mut().unwrap().series_began = true,
        ];
        for change in change {
            let mut decodes = session("aaaaa");
            change(&mut decodes[2]);
            for decode in &mut decodes[2..] {
                decode.t_recv_ns = decode.t_recv_ns.map(|t| t + 30);
            }
            assert_eq!(found(&decodes), [(100, 120, "a".to_owned(), 2), (150, 180, "a".to_owned(), 3)]);
        }
    }
}
