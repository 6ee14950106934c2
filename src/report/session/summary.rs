//! The numbers of a session's report.
//!
//! Why it exists: what is drawn and what is judged must be the same numbers. What it must never do: draw.
//!
//! A session meets its deadline if every decode was published within the deadline after its frame was received, no frame with a
//! time stamp was too old by it, there was no silence longer than the deadline while frames arrived and were skipped, and no stage failed. A pause of the microscope does
//! not count against it: the fail-safe acts, as it must.

use std::collections::BTreeMap;

use crate::frame::Quality;
use crate::session::messages::{DecodeRecord, MarkRecord};

use crate::session::rows::Recorded;
use crate::sys::statistics::quantiles;

/// One decode as it is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Receipt of its frame, s after the first.
    pub at_s: f64,
    /// From receipt to publishing, ms.
    pub total_ms: f64,
    /// [dy, dx], px.
    pub shift_px: Option<[f64; 2]>,
    /// 0 to 1.
    pub shift_peak: Option<f64>,
    /// As published.
    pub quality: Quality,
    /// Index of the decoded label.
    pub action: Option<usize>,
}

/// What a session was.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Every decode of a frame.
    pub moments: Vec<Moment>,
    /// The deadline promised, ms.
    pub deadline_ms: f64,
    /// Labels of the model.
    pub labels: Vec<String>,
    /// p50, p99, p99.9 and largest latency from receipt to publishing, ms.
    pub quantiles_ms: [f64; 4],
    /// The same of the stages: name and the four.
    pub stages_ms: Vec<(&'static str, [f64; 4])>,
    /// Decodes published later than the deadline.
    pub late: u64,
    /// Decodes in time of frames that were already too old when they arrived, by their time stamps.
    pub aged: u64,
    /// p50, p99, p99.9 and largest age of the frames at publication, ms; NaN where none is known.
    pub ages_ms: [f64; 4],
    /// Silences longer than the deadline although frames came.
    pub overdue: u64,
    /// Frames missing by the sender's numbers, and skipped by overload.
    pub missing: u64,
    /// Skipped by overload.
    pub skipped: u64,
    /// Decodes by quality.
    pub qualities: BTreeMap<&'static str, u64>,
    /// Name and s of every event worth a mark.
    pub events: Vec<(String, f64)>,
    /// Words and s.
    pub marks: Vec<(String, f64)>,
    /// Stages that failed.
    pub faults: u64,
    /// From the first to the last frame, s.
    pub seconds: f64,
    /// What is missing because the file is damaged, in words; the sum last.
    pub unreadable: Vec<String>,
    /// Receipt of the first decoded frame, `CLOCK_MONOTONIC`, ns: zero of all times in s.
    begin_ns: u64,
}

impl Summary {
    /// The summary of a session; `None` when it contains no decode.
    pub fn of(recorded: &Recorded) -> Option<Self> {
        let of_frames: Vec<&DecodeRecord> =
            recorded.decodes.iter().filter(|d| d.decoded.is_some() && d.t_recv_ns.is_some()).collect();
        let begin = of_frames.first()?.t_recv_ns?;
        let deadline_ms = recorded.outline.number("deadline_ms").unwrap_or(0) as f64;
        let moments: Vec<Moment> = of_frames.iter().filter_map(|decode| moment(decode, begin)).collect();
        let stage = |name, of: fn(&crate::session::messages::Latency) -> f64| {
            (name, quantiles(of_frames.iter().filter_map(|d| d.latency_us.as_ref()).map(|l| of(l) / 1e3)))
        };
        let mut qualities = BTreeMap::new();
        moments.iter().for_each(|moment| *qualities.entry(moment.quality.name()).or_insert(0) += 1);
        let seconds_of = |t_ns: u64| (t_ns as f64 - begin as f64) / 1e9;
        let labels = recorded.outline.about.get("labels").and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            deadline_ms,
            labels: labels.unwrap_or_default(),
            quantiles_ms: quantiles(moments.iter().map(|moment| moment.total_ms)),
            stages_ms: vec![
                stage("queue", |l| l.queue),
                stage("preprocess", |l| l.preprocess),
                stage("encode", |l| l.encode),
            ],
            late: moments.iter().filter(|moment| moment.total_ms > deadline_ms).count() as u64,
            aged: of_frames.iter().filter(|d| d.reason.as_deref() == Some("aged") && d.t_device_ns.is_some()).count()
                as u64,
            ages_ms: quantiles(of_frames.iter().filter_map(|d| d.age_us).map(|us| us / 1e3)),
            overdue: overdue(&of_frames, deadline_ms),
            missing: of_frames.iter().filter_map(|d| d.frame_gap).sum(),
            skipped: of_frames.iter().filter_map(|d| d.skipped).sum(),
            qualities,
            events: recorded.events.iter().map(|e| (e.event.clone(), seconds_of(e.t_pub_ns))).collect(),
            marks: recorded.marks.iter().map(|m| (mark_text(m), seconds_of(m.t_ns))).collect(),
            faults: recorded.events.iter().filter(|e| e.event == "fault").count() as u64,
            seconds: moments.last().map_or(0.0, |moment| moment.at_s),
            unreadable: recorded.damage.warnings(&recorded.outline),
            begin_ns: begin,
            moments,
        })
    }

    /// A time of the daemon's clock, s after the first decoded frame.
    pub(super) fn seconds_of(&self, t_ns: u64) -> f64 {
        (t_ns as f64 - self.begin_ns as f64) / 1e9
    }

    /// Did it meet its deadline? Of what is missing nobody knows.
    pub fn met(&self) -> bool {
        self.late + self.aged + self.overdue + self.faults == 0 && self.unreadable.is_empty()
    }

    /// The same in words.
    pub fn verdict(&self) -> String {
        let [p50, p99, p999, most] = self.quantiles_ms;
        let said = format!(
            "{} decodes in {:.1} s; receipt to publication p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {most:.2} ms",
            self.moments.len(),
            self.seconds
        );
        let deadline = self.deadline_ms;
        if let Some(sum) = self.unreadable.last().filter(|_| self.late + self.aged + self.overdue + self.faults == 0) {
            return format!(
                "deadline of {deadline:.0} ms UNKNOWN, because the session is damaged ({sum}); of the rest: {said}"
            );
        }
        if self.met() {
            return format!("deadline of {deadline:.0} ms met: {said}");
        }
        format!(
            "deadline of {deadline:.0} ms MISSED: {} decodes late, {} of frames that arrived too old, {} silences although frames \
             arrived, {} stages failed; {said}",
            self.late, self.aged, self.overdue, self.faults
        )
    }
}

/// The note, or what came in and from whom.
fn mark_text(mark: &MarkRecord) -> String {
    mark.inlet.map_or_else(|| mark.text.clone(), |inlet| format!("{} (from {})", mark.text, inlet.from))
}

fn moment(decode: &DecodeRecord, begin: u64) -> Option<Moment> {
    let received = decode.t_recv_ns?;
    Some(Moment {
        at_s: received.saturating_sub(begin) as f64 / 1e9,
        total_ms: decode.t_pub_ns.saturating_sub(received) as f64 / 1e6,
        shift_px: decode.shift_px.map(|shift| shift.map(f64::from)),
        shift_peak: decode.shift_peak.map(f64::from),
        quality: decode.quality,
        action: decode.decoded.as_ref()?.action_id.filter(|_| decode.action.is_some()),
    })
}

/// Silences that were ours: longer than the deadline, and frames that came meanwhile were skipped.
fn overdue(decodes: &[&DecodeRecord], deadline_ms: f64) -> u64 {
    let silent = |pair: &&[&DecodeRecord]| {
        let silence_ms = pair[1].t_pub_ns.saturating_sub(pair[0].t_pub_ns) as f64 / 1e6;
        silence_ms > deadline_ms && pair[1].skipped.unwrap_or(0) > 0
    };
    decodes.windows(2).filter(silent).count() as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 100 decodes at 10 Hz with 5 ms each, a deadline of 50 ms.
    pub(in super::super) fn recorded() -> Recorded {
        let decode = |n: u64| {
            let text = format!(
                r#"{{"seq":{n},"frame":{n},"source":"rig","t_recv_ns":{},"t_pub_ns":{},"quality":"ok","action":"walk",
                "shift_px":[0.5,-1.0],"shift_peak":0.8,"latency_us":{{"queue":10,"preprocess":900,"encode":4000,"total":5000}},
                "decoded":{{"quality":"ok","action_id":{},"probs":[0.2,0.8],"novelty":null,"shift_at_bound":false,"shift_doubtful":false,
                "line_phase_px":0,"non_finite_pixels":0,"saturated_pixels":0,"frame_rate_hz":10,"series_began":false,"embedding":[{},1,0.5]}}}}"#,
                n * 100_000_000,
                n * 100_000_000 + 5_000_000,
                n % 2,
                n as f32 / 10.0,
            );
            serde_json::from_str(&text).unwrap()
        };
        let mut recorded = Recorded { decodes: (0..100).map(decode).collect(), ..Recorded::default() };
        recorded.outline.about =
            [("deadline_ms", "50"), ("labels", r#"["rest","walk"]"#)].map(|(k, v)| (k.into(), v.into())).into();
        recorded
    }

    #[test]
    fn a_session_that_met_its_deadline_says_so() {
        let summary = Summary::of(&recorded()).unwrap();
        assert!(summary.met() && summary.verdict().contains("met"), "{}", summary.verdict());
        assert_eq!(summary.quantiles_ms, [5.0; 4]);
        assert!((summary.seconds - 9.9).abs() < 1e-9);
        assert_eq!(summary.qualities["ok"], 100);
    }

    #[test]
    fn one_late_decode_one_silence_with_frames_or_one_fault_breaks_it_and_a_pause_does_not() {
        let mut late = recorded();
        late.decodes[40].t_pub_ns += 46_000_000;
        assert_eq!(Summary::of(&late).map(|s| (s.late, s.met())), Some((1, false)));
        // Frames 40 to 49 never came: no decode for a second.
        let mut pause = recorded();
        pause.decodes.drain(40..50);
        assert!(Summary::of(&pause).unwrap().met());
        // They came and were skipped.
        pause.decodes[40].skipped = Some(10);
        assert_eq!(Summary::of(&pause).map(|s| (s.overdue, s.skipped, s.met())), Some((1, 10, false)));
        let mut aged = recorded();
        (aged.decodes[40].reason, aged.decodes[40].age_us) = (Some("aged".into()), Some(60_000.0));
        assert!(Summary::of(&aged).unwrap().met(), "the first frame after a pause, without a stamp, may have waited");
        aged.decodes[40].t_device_ns = Some(5);
        assert_eq!(Summary::of(&aged).map(|s| (s.aged, s.ages_ms[3], s.met())), Some((1, 60.0, false)));
        let mut fault = recorded();
        fault.events.push(serde_json::from_str(r#"{"event":"fault","t_pub_ns":5,"stage":"compute"}"#).unwrap());
        assert!(!Summary::of(&fault).unwrap().met());
        assert!(Summary::of(&Recorded::default()).is_none());
    }

    #[test]
    fn a_session_with_a_hole_is_never_said_to_have_met_its_deadline() {
        let mut damaged = recorded();
        damaged.decodes.drain(40..60);
        damaged.damage.holes.push(crate::session::Hole {
            chunk: 2,
            messages: Some([20, 0, 20, 0, 0, 0, 0]),
            ..Default::default()
        });
        let summary = Summary::of(&damaged).unwrap();
        assert!(!summary.met() && !summary.verdict().contains(" met"), "{}", summary.verdict());
        assert!(summary.verdict().contains("20 decodes"), "{}", summary.verdict());
    }
}
