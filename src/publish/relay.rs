//! Decodes for devices that cannot read the wire format: the action as text or bytes, with a fail-safe of its own.
//!
//! Why it exists: a relay box, a Bonsai workflow or a sound program needs "walking 0.93", not an embedding. A relay feeds each
//! such outlet, so that one place decides which decodes can be trusted. What it must never do: wait for a device, end the run
//! because a device is gone (that is counted and reported), or relay an action that cannot be trusted: a decode that is neither
//! `ok` nor `degraded` becomes the neutral action, and so does every decode of a model without actions.

use std::convert::Infallible;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::NeutralAction;
use super::decisions::{Outputs, RuleTable};
use super::failsafe::{FailSafe, Verdict};
use super::{Sink, SinkError};
use crate::frame::event::{Event, StaleReason};
use crate::frame::{Decode, ModelTag, Quality};
use crate::sys::clock::now_ns;
use crate::sys::counters::{Stats, count};
use crate::wire::decision::DecisionHeader;
use crate::wire::decode::confidence;

/// Id of a neutral action that is none of the model's labels.
pub const NEUTRAL_ID: i32 = -1;

/// What is sent to a device for one decode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelayedDecode<'a> {
    /// Without gaps from the start of the daemon, 0 first.
    pub seq: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub t_pub_ns: u64,
    /// When its frame was received, on the same clock; `None` when there was none.
    pub t_received_ns: Option<u64>,
    /// The frame; `None` when there was none (fail-safe, end).
    pub frame: Option<u64>,
    /// Which model since the start, counted from 1.
    pub generation: u64,
    /// How far to trust it.
    pub quality: Quality,
    /// The action, or the neutral one.
    pub action: &'a str,
    /// Its index among the model's labels; [`NEUTRAL_ID`] for a neutral action that is none of them.
    pub action_id: i32,
    /// Probability of the action; 0 for the neutral one.
    pub confidence: f32,
    /// Zeros where there is no decode.
    pub embedding: &'a [f32],
}

/// A device or socket that takes relayed decodes.
pub trait Outlet: Send {
    /// Name of its section in the configuration.
    fn name(&self) -> &'static str;

    /// Sends one decode, without waiting.
    ///
    /// # Errors
    /// When it could not be sent; the relay counts it and continues.
    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()>;

    /// Sends a decision of the rule at this place in the configuration, or the end of its output, without waiting.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    fn decision(&mut self, _rule: usize, _decision: &DecisionHeader<'_>) -> std::io::Result<()> {
        Ok(())
    }

    /// The rules whose outputs go on are others than before: bit n is the n-th rule. Called again until it succeeds.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    fn outputs(&mut self, _going_on: u16, _now_ns: u64) -> std::io::Result<()> {
        Ok(())
    }

    /// Called about every 5 ms: a lost device can be looked for.
    fn tick(&mut self, _now_ns: u64) {}
}

/// What a device is sent where there is no decode to trust, and when that is.
#[derive(Clone, Copy, Debug)]
pub struct Fallback<'a> {
    /// Age at which a decode is stale, ns.
    pub deadline_ns: u64,
    /// The action then.
    pub neutral_action: &'a str,
    /// How long a decode may be held for frames that are not believed, ns.
    pub hold_ns: Option<u64>,
}

/// A sink that feeds one outlet.
pub struct Relay {
    outlet: Box<dyn Outlet>,
    failsafe: FailSafe,
    model: ModelTag,
    neutral: NeutralAction,
    zeros: Vec<f32>,
    hold_ns: Option<u64>,
    seq: u64,
    /// Decisions, if the outlet is to have them.
    outputs: Option<Outputs>,
    /// The rules whose outputs go on, as the outlet was last told.
    going_on: u16,
    lost: bool,
    /// Until then the daemon rehearses, ns.
    rehearses_until_ns: u64,
    stats: Arc<Stats>,
    events: Arc<ArrayQueue<Event>>,
}

impl Relay {
    /// `fallback` is that of the decodes; `events` takes the events that a device is lost or back.
    pub fn new(
        outlet: Box<dyn Outlet>,
        fallback: Fallback<'_>,
        model: ModelTag,
        stats: Arc<Stats>,
        events: Arc<ArrayQueue<Event>>,
    ) -> Self {
        let Fallback { deadline_ns, neutral_action, hold_ns } = fallback;
        Self {
            outlet,
            failsafe: FailSafe::new(deadline_ns),
            zeros: vec![0.0; model.embedding],
            neutral: NeutralAction::of(neutral_action, &model),
            model,
            hold_ns,
            seq: 0,
            outputs: None,
            going_on: 0,
            lost: false,
            rehearses_until_ns: 0,
            stats,
            events,
        }
    }

    /// The same, which sends the decisions of these rules as well.
    #[must_use]
    pub fn deciding(self, table: RuleTable) -> Self {
        let outputs = Outputs::repeating(table, self.stats.clone());
        Self { outputs: Some(outputs), ..self }
    }

    /// Sends the decisions that were made with a decode, before it; a stale one ends all outputs.
    fn relay_decisions(&mut self, decode: &Decode, stale: Option<&'static str>, now_ns: u64) {
        if stale.is_some() {
            self.end_outputs(stale, now_ns);
        }
        let Self { outputs: Some(outputs), outlet, seq, .. } = self else { return };
        let mut lost = false;
        let sent = outputs.issue(decode, (*seq, stale), now_ns, |rule, header| {
            lost |= outlet.decision(rule, header).is_err();
            Ok::<(), Infallible>(())
        });
        let Ok(()) = sent;
        if lost {
            self.count_lost(true);
        }
        self.show_outputs(now_ns);
    }

    /// Ends outputs that go on: all of them for `reason`, or without one those of rules that were switched off or disarmed.
    fn end_outputs(&mut self, reason: Option<&'static str>, now_ns: u64) {
        let Self { outputs: Some(outputs), outlet, .. } = self else { return };
        let mut lost = false;
        let ended = outputs.end(reason, now_ns, |rule, header| {
            lost |= outlet.decision(rule, header).is_err();
            Ok::<(), Infallible>(())
        });
        let Ok(()) = ended;
        if lost {
            self.count_lost(true);
        }
        self.show_outputs(now_ns);
    }

    /// Tells the outlet which outputs go on, if that has changed; what it does not take is told again at the next tick.
    fn show_outputs(&mut self, now_ns: u64) {
        let Some(outputs) = &self.outputs else { return };
        let going_on = outputs.going_on();
        if going_on != self.going_on && self.outlet.outputs(going_on, now_ns).is_ok() {
            self.going_on = going_on;
        }
    }

    fn relay(&mut self, decode: Option<&Decode>, quality: Quality, now_ns: u64) {
        let young = decode.is_none_or(|decode| decode.shown.is_young(self.hold_ns));
        let trusted = matches!(quality, Quality::Ok | Quality::Degraded) && young;
        let action = decode.filter(|_| trusted && self.model.trained).and_then(|decode| {
            let id = decode.published_action()?;
            let confidence = confidence(&decode.embedding.probabilities, Some(id))?;
            Some((self.model.labels.get(id)?.as_str(), i32::try_from(id).ok()?, confidence))
        });
        let (action, action_id, confidence) = action.unwrap_or((&self.neutral.label, self.neutral.code(), 0.0));
        let embedding = decode.filter(|_| trusted || quality == Quality::Warmup);
        let relayed = RelayedDecode {
            seq: self.seq,
            t_pub_ns: now_ns,
            t_received_ns: decode.map(|decode| decode.frame.t_received_ns),
            frame: decode.map(|decode| decode.frame.number),
            generation: self.model.generation,
            quality,
            action,
            action_id,
            confidence,
            embedding: embedding.map_or(&self.zeros, |decode| &decode.embedding.values),
        };
        let sent = self.outlet.send(&relayed);
        self.seq += 1;
        self.count_lost(sent.is_err());
    }

    /// Counts decodes that were not sent; an event reports the first loss and the recovery.
    fn count_lost(&mut self, lost: bool) {
        count(&self.stats.publish.relay_lost, u64::from(lost));
        let before = std::mem::replace(&mut self.lost, lost);
        let outlet = self.outlet.name();
        let event = match (before, lost) {
            (false, true) => Event::OutletLost { outlet },
            (true, false) => Event::OutletBack { outlet },
            _ => return,
        };
        let _ = self.events.force_push(event);
    }
}

impl Sink for Relay {
    fn model_changed(&mut self, model: &ModelTag) {
        self.model = model.clone();
    }

    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError> {
        let now_ns = now_ns();
        let frame = &decode.frame;
        let age_ns = frame.age_ns.unwrap_or(0);
        let Verdict { stale, .. } = self.failsafe.decode(frame.number, frame.t_received_ns, age_ns, now_ns);
        // An outlet has no word for a rehearsal.
        let rehearses = (now_ns < self.rehearses_until_ns).then_some("rehearsal");
        let stale = stale.map(StaleReason::name).or(rehearses);
        self.relay_decisions(decode, stale, now_ns);
        self.relay(Some(decode), if stale.is_none() { decode.quality } else { Quality::Stale }, now_ns);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Rehearsal { seconds, .. } => {
                self.rehearses_until_ns = now_ns() + u64::from(*seconds) * 1_000_000_000;
                self.end_outputs(Some("rehearsal"), now_ns());
            }
            Event::RehearsalOver => self.rehearses_until_ns = 0,
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, now_ns: u64) -> Result<(), SinkError> {
        self.outlet.tick(now_ns);
        self.end_outputs(None, now_ns);
        if self.failsafe.tick(now_ns).is_some() {
            self.end_outputs(Some(StaleReason::NoFrame.name()), now_ns);
            self.relay(None, Quality::Stale, now_ns);
        }
        Ok(())
    }

    fn finish(&mut self, fault: Option<&'static str>) -> Result<(), SinkError> {
        if self.failsafe.finish() {
            self.end_outputs(Some(fault.unwrap_or("shutdown")), now_ns());
            self.relay(None, Quality::Fail, now_ns());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::testing::decode;
    use super::*;

    type Heard = Arc<Mutex<Vec<(Quality, String, i32, f32)>>>;

    struct Ear {
        heard: Heard,
        deaf: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Outlet for Ear {
        fn name(&self) -> &'static str {
            "plain"
        }

        fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
            if self.deaf.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            let entry = (decode.quality, decode.action.to_owned(), decode.action_id, decode.confidence);
            self.heard.lock().unwrap().push(entry);
            Ok(())
        }
    }

    fn model(trained: bool) -> ModelTag {
        let labels = ["resting", "walking"].map(str::to_owned).to_vec();
        ModelTag {
            name: "m".into(),
            sha256: String::new(),
            generation: 1,
            labels,
            outputs: Vec::new(),
            embedding: 2,
            trained,
        }
    }

    fn fallback(neutral_action: &str) -> Fallback<'_> {
        Fallback { deadline_ns: 50_000_000, neutral_action, hold_ns: Some(50_000_000) }
    }

    fn walking(number: u64, quality: Quality) -> Decode {
        let mut decode = decode(number, &[0.6, 0.8]);
        decode.embedding.probabilities = vec![0.1, 0.9];
        decode.action = Some(1);
        decode.quality = quality;
        decode
    }

    #[test]
    fn only_a_trusted_action_is_sent_and_everything_else_is_neutral() {
        let (heard, deaf) = (Heard::default(), Arc::default());
        let (stats, log) = (Arc::<Stats>::default(), Arc::new(ArrayQueue::new(8)));
        let ear = Ear { heard: heard.clone(), deaf: Arc::clone(&deaf) };
        let mut relay = Relay::new(Box::new(ear), fallback("neutral"), model(true), stats.clone(), log.clone());
        relay.publish(&walking(1, Quality::Ok)).unwrap();
        relay.publish(&walking(2, Quality::Degraded)).unwrap();
        relay.publish(&walking(3, Quality::Warmup)).unwrap();
        let mut late = walking(4, Quality::Ok);
        late.frame.t_received_ns = late.frame.t_received_ns.saturating_sub(60_000_000);
        relay.publish(&late).unwrap();
        let mut aged = walking(5, Quality::Ok);
        aged.frame.age_ns = Some(60_000_000);
        relay.publish(&aged).unwrap();
        relay.publish(&walking(6, Quality::Ok)).unwrap();
        relay.tick(now_ns() + 51_000_000).unwrap();
        relay.tick(now_ns() + 52_000_000).unwrap();
        relay.finish(None).unwrap();
        let neutral = |quality| (quality, "neutral".to_owned(), NEUTRAL_ID, 0.0);
        let walks = |quality| (quality, "walking".to_owned(), 1, 0.9);
        let expected = [
            walks(Quality::Ok),
            walks(Quality::Degraded),
            neutral(Quality::Warmup),
            neutral(Quality::Stale),
            neutral(Quality::Stale),
            walks(Quality::Ok),
            neutral(Quality::Stale),
            neutral(Quality::Fail),
        ];
        assert_eq!(*heard.lock().unwrap(), expected);
    }

    #[test]
    fn a_lost_device_is_counted_and_told_once_and_its_return_too() {
        let deaf = Arc::<std::sync::atomic::AtomicBool>::default();
        let (stats, log) = (Arc::<Stats>::default(), Arc::new(ArrayQueue::new(8)));
        let ear = Ear { heard: Heard::default(), deaf: Arc::clone(&deaf) };
        let mut relay = Relay::new(Box::new(ear), fallback("resting"), model(true), stats.clone(), log.clone());
        for (number, lost) in [(1, false), (2, true), (3, true), (4, false)] {
            deaf.store(lost, std::sync::atomic::Ordering::Relaxed);
            relay.publish(&walking(number, Quality::Ok)).unwrap();
        }
        assert_eq!(stats.publish.relay_lost.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert_eq!(log.pop(), Some(Event::OutletLost { outlet: "plain" }));
        assert_eq!(log.pop(), Some(Event::OutletBack { outlet: "plain" }));
        assert_eq!(log.pop(), None);
    }

    #[test]
    fn while_the_daemon_rehearses_an_outlet_says_the_neutral_action() {
        let heard = Heard::default();
        let ear = Ear { heard: heard.clone(), deaf: Arc::default() };
        let log = Arc::new(ArrayQueue::new(8));
        let mut relay = Relay::new(Box::new(ear), fallback("resting"), model(true), Arc::default(), log);
        relay.publish(&walking(1, Quality::Ok)).unwrap();
        relay.event(&Event::Rehearsal { scene: crate::frame::Scene::Ok, seconds: 60 }).unwrap();
        relay.publish(&walking(2, Quality::Ok)).unwrap();
        relay.event(&Event::RehearsalOver).unwrap();
        relay.publish(&walking(3, Quality::Ok)).unwrap();
        let actions: Vec<i32> = heard.lock().unwrap().iter().map(|(_, _, action, _)| *action).collect();
        assert_eq!(actions, [1, 0, 1]);
    }

    #[test]
    fn an_untrained_model_says_the_neutral_action_only() {
        let heard = Heard::default();
        let ear = Ear { heard: heard.clone(), deaf: Arc::default() };
        let log = Arc::new(ArrayQueue::new(8));
        let mut relay = Relay::new(Box::new(ear), fallback("resting"), model(false), Arc::default(), log);
        relay.publish(&walking(1, Quality::Ok)).unwrap();
        assert_eq!(*heard.lock().unwrap(), [(Quality::Ok, "resting".to_owned(), 0, 0.0)]);
    }
}
