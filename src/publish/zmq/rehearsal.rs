//! A rehearsal of the running daemon: its own decodes, changed as if something were wrong.
//!
//! Why it exists: a controller, its cables and its author are seen as they are, with the real rig, before an animal depends on them. What it must
//! never do: say anything without the key `rehearsal`, change what is recorded, or outlast its time.

use super::{LastFrame, Quality, SinkError, ZmqSink};
use crate::frame::event::Event;
use crate::frame::{Decode, Scene};
use crate::publish::failsafe::{FailSafe, Verdict};
use crate::wire::decode::{Kind, Rehearsed, reason_of};
use crate::wire::report::EventHeader;

/// The stage that a rehearsed fault names.
const FAULT: &str = "compute";
/// Why a decision was not published.
const WHY: &str = "rehearsal";

/// What is rehearsed now, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) scene: Scene,
    began_ns: u64,
    until_ns: u64,
    /// The number from which a restarted daemon counts anew.
    base: Option<u64>,
}

impl Act {
    pub(super) fn new(scene: Scene, seconds: u32, now_ns: u64) -> Self {
        let until_ns = now_ns.saturating_add(u64::from(seconds) * 1_000_000_000);
        Self { scene, began_ns: now_ns, until_ns, base: None }
    }

    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }

    /// A third of a restart is silence, another one warm-up.
    fn part(&self, now_ns: u64) -> u64 {
        let part_ns = (self.until_ns - self.began_ns) / u64::from(Scene::RESTART_PARTS);
        now_ns.saturating_sub(self.began_ns) / part_ns.max(1)
    }

    /// Is the daemon as good as dead: no decode, no heartbeat, nothing?
    pub(super) fn is_dead(&self, now_ns: u64) -> bool {
        match self.scene {
            Scene::Faulty => true,
            Scene::Restarted => self.part(now_ns) == 0,
            _ => false,
        }
    }

    /// Does no decode come?
    pub(super) fn is_silent(&self, now_ns: u64) -> bool {
        self.scene == Scene::Silent || self.is_dead(now_ns)
    }

    /// How much longer ago a frame was received, and how much older it was then, ns.
    pub(super) fn older_ns(&self, deadline_ns: u64) -> [u64; 2] {
        match self.scene {
            Scene::Late => [2 * deadline_ns, 0],
            Scene::Stale => [0, 2 * deadline_ns],
            _ => [0, 0],
        }
    }

    /// Quality and reason of a decode that is not stale.
    pub(super) fn quality(&self, decode: &Decode, now_ns: u64) -> (Quality, Option<&'static str>) {
        let trusted = matches!(decode.quality, Quality::Ok | Quality::Degraded);
        match self.scene {
            Scene::Degraded if trusted => (Quality::Degraded, Some("registration")),
            Scene::Restarted if self.part(now_ns) == 1 => (Quality::Warmup, Some("warming_up")),
            _ => (decode.quality, reason_of(decode)),
        }
    }

    /// How the header of a decode is changed whose frame is so much older.
    pub(super) fn change(&self, [since_ns, older_ns]: [u64; 2]) -> Rehearsed {
        Rehearsed {
            since_ns,
            older_ns,
            another_model: self.scene == Scene::Swapped,
            novelty: (self.scene == Scene::Novel).then_some(Scene::STRANGE),
        }
    }

    /// A restarted daemon counts from here.
    fn count_from(&mut self, seq: u64) -> bool {
        let begins = self.scene == Scene::Restarted && self.base.is_none();
        if begins {
            self.base = Some(seq);
        }
        begins
    }

    fn base(&self) -> u64 {
        self.base.unwrap_or(0)
    }
}

impl ZmqSink {
    /// From now on, every header says that this is a rehearsal, and of what.
    pub fn rehearse(&mut self, what: &str) {
        self.out.rehearsal = format!(r#","rehearsal":"{what}"}}"#).into_bytes();
    }

    /// The number of the next decode, as it is published.
    pub(super) fn shown_seq(&self) -> u64 {
        self.seq - self.act.map_or(0, |act| act.base())
    }

    pub(super) fn begin_rehearsal(&mut self, scene: Scene, seconds: u32, now_ns: u64) -> Result<(), SinkError> {
        self.end_rehearsal(now_ns)?;
        self.rehearse(scene.name());
        self.publish_event(&Event::Rehearsal { scene, seconds }, now_ns)?;
        self.act = Some(Act::new(scene, seconds, now_ns));
        let frame = self.last.map_or(0, |LastFrame { number, .. }| number);
        match scene {
            Scene::Swapped => self.tell(&Event::Swapped { generation: self.voice.model.generation + 1 }, now_ns),
            Scene::Novel => self.tell(&Event::Drift { frame, novelty_mean: Scene::STRANGE, limit: 0.9 }, now_ns),
            Scene::Faulty => {
                self.end_outputs(Some(FAULT), now_ns)?;
                self.publish_neutral(Quality::Fail, FAULT, now_ns)?;
                self.tell(&Event::Fault { stage: FAULT }, now_ns)
            }
            _ => Ok(()),
        }
    }

    /// Does nothing without one.
    pub(super) fn end_rehearsal(&mut self, now_ns: u64) -> Result<(), SinkError> {
        let Some(act) = self.act.take() else { return Ok(()) };
        if matches!(act.scene, Scene::Faulty | Scene::Restarted) {
            self.forget();
        }
        self.publish_event(&Event::RehearsalOver, now_ns)?;
        self.out.rehearsal.clear();
        Ok(())
    }

    /// After the silence of a restart all begins anew.
    pub(super) fn count_anew(&mut self) {
        let seq = self.seq;
        if self.act.as_mut().is_some_and(|act| act.count_from(seq)) {
            self.forget();
        }
    }

    /// As a daemon that has seen no frame yet.
    fn forget(&mut self) {
        self.failsafe = FailSafe::new(self.deadline_ns);
        (self.last, self.last_quality) = (None, None);
    }

    /// An event that did not happen: published, not recorded.
    fn tell(&mut self, event: &Event, now_ns: u64) -> Result<(), SinkError> {
        let header = EventHeader { event, source: self.source, t_pub_ns: now_ns };
        self.out.send(Kind::Event, &self.source, &header, None)
    }

    /// An event that is not to be heard: recorded, not published.
    pub(super) fn record_event(&mut self, event: &Event, now_ns: u64) -> Result<(), SinkError> {
        self.out.write(&EventHeader { event, source: self.source, t_pub_ns: now_ns })?;
        self.show_witness(Kind::Event, now_ns, None);
        Ok(())
    }

    /// A decode that is not to be heard, and its decisions.
    pub(super) fn record_unpublished(&mut self, decode: &Decode, now_ns: u64) -> Result<(), SinkError> {
        let Self { outputs, out, witness, seq, .. } = self;
        if let Some(outputs) = outputs {
            outputs.issue(decode, (*seq, Some(WHY)), now_ns, |_, header| {
                out.write(header)?;
                if let Some(witness) = witness {
                    witness.published(Kind::Decision, &out.header, now_ns, None);
                }
                Ok::<(), SinkError>(())
            })?;
        }
        self.record_truth(decode, self.failsafe, now_ns)?;
        self.seq += 1;
        Ok(())
    }

    /// What would have been published of a decode without the rehearsal: the session keeps that.
    pub(super) fn record_truth(&mut self, decode: &Decode, mut truth: FailSafe, now_ns: u64) -> Result<(), SinkError> {
        let (frame, age_ns) = (&decode.frame, decode.frame.age_ns.unwrap_or(0));
        let Verdict { stale, .. } = truth.decode(frame.number, frame.t_received_ns, age_ns, now_ns);
        let told = stale.map_or((decode.quality, reason_of(decode)), |why| (Quality::Stale, Some(why.name())));
        let (header, _) = self.voice.header(decode, told, self.seq, now_ns);
        self.out.write(&header)?;
        self.show_witness(Kind::Decode, now_ns, Some(decode));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_restart_is_silence_then_warm_up_then_decodes_with_numbers_of_its_own() {
        let mut act = Act::new(Scene::Restarted, 9, S);
        let decode = super::super::super::testing::decode(1, &[0.0]);
        assert!(act.is_dead(S) && act.is_silent(3 * S) && !act.is_dead(4 * S) && !act.is_over(10 * S - 1));
        assert!(act.count_from(77) && !act.count_from(78) && act.base() == 77);
        assert_eq!(act.quality(&decode, 5 * S), (Quality::Warmup, Some("warming_up")));
        assert_eq!(act.quality(&decode, 8 * S).0, decode.quality);
        assert!(act.is_over(10 * S));
    }

    #[test]
    fn only_a_fault_and_a_restart_stop_the_heartbeat_by_themselves() {
        let act = |scene| Act::new(scene, 3, 0);
        let dead = |scene: &Scene| act(*scene).is_dead(1);
        assert_eq!(Scene::ALL.into_iter().filter(dead).collect::<Vec<_>>(), [Scene::Faulty, Scene::Restarted]);
        assert!(act(Scene::Silent).is_silent(1) && !act(Scene::Late).is_silent(1));
        assert_eq!((act(Scene::Late).older_ns(5), act(Scene::Stale).older_ns(5)), ([10, 0], [0, 10]));
    }
}
