//! A rehearsal: the daemon's own publisher, and decodes that nobody made.
//!
//! Why it exists: what a controller does when decodes are late, missing, of another model or from a daemon that was started again is better seen
//! before an animal is under the objective. What it must never do: say anything that does not say that it is a rehearsal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::doors::Doors;
use crate::config::Config;
use crate::frame::event::Event;
use crate::frame::{Decision, Decode, Embedding, Frame, FrameInfo, ModelTag, Quality, Scene, TERMS_MAX};
use crate::model::Manifest;
use crate::publish::decisions::RuleTable;
use crate::publish::zmq::ZmqSink;
use crate::publish::{Sink, SinkError};
use crate::sys::clock::now_ns;
use crate::sys::counters::Stats;

/// How often the publisher looks at its clock.
const TICK: Duration = Duration::from_millis(2);
/// How long the endpoint of a publisher that was closed may stay taken.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// An action goes on for so long.
const ACTION: Duration = Duration::from_secs(2);
/// One publisher after the other, and the numbers that go on.
struct Stage<'a> {
    config: &'a Config,
    doors: Doors,
    model: ModelTag,
    period: Duration,
    stats: Arc<Stats>,
    sink: Option<ZmqSink>,
    frame: FrameInfo,
    decisions: u64,
}

/// Plays the scenes, each between two of `ok`, for `seconds` each. `say` hears which.
///
/// # Errors
/// A model that cannot be read, or an endpoint that cannot be bound.
pub fn rehearse(
    config: &Config,
    scenes: &[Scene],
    seconds: Duration,
    stop: &AtomicBool,
    say: &mut dyn FnMut(Scene) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let manifest = Manifest::read(&config.model)?;
    let stats = Arc::new(Stats::default());
    stats.decisions.name(config.decision.rules.iter().map(|rule| rule.name));
    let mut stage = Stage {
        config,
        doors: Doors::of(&config.curve, &stats.connections)?,
        model: manifest.tag(),
        period: Duration::from_secs_f64(1.0 / manifest.stream_rate_hz()),
        frame: FrameInfo { source: config.rig, ..Frame::with_capacity(0).info },
        sink: None,
        decisions: 0,
        stats,
    };
    for rule in stage.stats.decisions.rules.iter() {
        rule.on.store(true, Relaxed);
        rule.armed.store(true, Relaxed);
    }
    for &scene in scenes {
        for part in [Some(Scene::Ok).filter(|ok| *ok != scene), Some(scene)].into_iter().flatten() {
            if stop.load(Relaxed) {
                return Ok(());
            }
            say(part)?;
            stage.play(part, seconds, stop)?;
        }
    }
    stage.sink.as_mut().map_or(Ok(()), |sink| sink.finish(None))?;
    Ok(())
}

impl Stage<'_> {
    fn play(&mut self, scene: Scene, seconds: Duration, stop: &AtomicBool) -> anyhow::Result<()> {
        if scene == Scene::Restarted {
            // As after a kill: no last word.
            self.sink = None;
            pause(seconds / Scene::RESTART_PARTS, stop);
        }
        let mut sink = match self.sink.take() {
            Some(sink) => sink,
            None => self.bind()?,
        };
        sink.rehearse(scene.name());
        self.begin(scene, &mut sink)?;
        let length = if scene == Scene::Restarted { seconds - seconds / Scene::RESTART_PARTS } else { seconds };
        let (began, mut due, mut decides) = (Instant::now(), Duration::ZERO, Duration::ZERO);
        // Outputs that go on when all falls silent must end.
        let falls_silent = matches!(scene, Scene::Silent | Scene::Faulty);
        while began.elapsed() < length && !stop.load(Relaxed) {
            let elapsed = began.elapsed();
            if elapsed >= due && (due.is_zero() || !falls_silent) {
                due = elapsed + self.period;
                let warm = scene != Scene::Restarted || elapsed > seconds / Scene::RESTART_PARTS;
                let decides_now = warm && elapsed >= decides;
                decides = if decides_now { elapsed + ACTION } else { decides };
                sink.publish(&self.decode(scene, decides_now, warm))?;
            }
            if scene == Scene::Faulty {
                break;
            }
            sink.tick(now_ns())?;
            std::thread::sleep(TICK);
        }
        if scene == Scene::Faulty {
            sink.finish(Some("compute"))?;
            drop(sink);
            pause(length, stop);
        } else {
            self.sink = Some(sink);
        }
        Ok(())
    }

    /// What is said when a scene begins.
    fn begin(&mut self, scene: Scene, sink: &mut ZmqSink) -> Result<(), SinkError> {
        let frame = self.frame.number;
        match scene {
            Scene::Swapped => {
                self.model.generation += 1;
                sink.model_changed(&self.model);
                sink.event(&Event::Swapped { generation: self.model.generation })
            }
            Scene::Novel => sink.event(&Event::Drift { frame, novelty_mean: Scene::STRANGE, limit: 0.9 }),
            _ => Ok(()),
        }
    }

    fn bind(&self) -> anyhow::Result<ZmqSink> {
        let publish = &self.config.publish;
        let warnings = vec!["this is a rehearsal".to_owned()];
        let until = Instant::now() + CLOSED_WITHIN;
        loop {
            let (context, door) = (zmq::Context::new(), self.doors.at(&publish.endpoint));
            let (model, stats) = (self.model.clone(), self.stats.clone());
            match ZmqSink::bind_at(&context, door, publish, self.config.rig, model, stats, warnings.clone()) {
                Ok(sink) => return Ok(sink.deciding(RuleTable::new(&self.config.decision, &self.model))),
                Err(_) if self.frame.number > 0 && Instant::now() < until => std::thread::sleep(TICK),
                Err(cause) => {
                    return Err(cause).context("the rehearsal speaks in place of the daemon, which must not run");
                }
            }
        }
    }

    /// The decode of one scene; `decides`: with an output of every rule.
    fn decode(&mut self, scene: Scene, decides: bool, warm: bool) -> Decode {
        let deadline_ns = self.config.publish.deadline.as_nanos() as u64;
        let labels = self.model.labels.len();
        self.frame.number += 1;
        self.frame.t_received_ns = now_ns();
        let mut decode = Decode::with_embedding(self.embedding(scene));
        decode.frame = self.frame;
        decode.generation = self.model.generation;
        decode.quality = if warm { Quality::Ok } else { Quality::Warmup };
        decode.action = Some(self.action()).filter(|_| labels > 0 && warm);
        match scene {
            Scene::Late => decode.frame.t_received_ns -= 2 * deadline_ns,
            Scene::Stale => decode.frame.age_ns = Some(2 * deadline_ns),
            Scene::Degraded => {
                decode.quality = Quality::Degraded;
                decode.observation.shift_doubtful = true;
            }
            _ => {}
        }
        if decides {
            self.decisions += 1;
            decode.decisions.extend((0..self.config.decision.rules.len()).map(|rule| self.decision(rule)));
        }
        decode
    }

    /// One action after the other.
    fn action(&self) -> usize {
        let frames = (ACTION.as_secs_f64() / self.period.as_secs_f64()).max(1.0) as u64;
        (self.frame.number / frames) as usize % self.model.labels.len().max(1)
    }

    fn embedding(&self, scene: Scene) -> Embedding {
        let labels = self.model.labels.len();
        let mut probabilities = vec![0.1 / labels.saturating_sub(1).max(1) as f32; labels];
        if let Some(probability) = probabilities.get_mut(self.action()) {
            *probability = 0.9;
        }
        let mut values = vec![0.0; self.model.embedding];
        let at = self.action() % self.model.embedding.max(1);
        if let Some(value) = values.get_mut(at) {
            *value = 1.0;
        }
        let novelty = Some(if scene == Scene::Novel { Scene::STRANGE } else { 0.5 });
        Embedding { values, probabilities, outputs: vec![0.0; self.model.outputs.len()], novelty }
    }

    fn decision(&self, rule: usize) -> Decision {
        let train = self.config.decision.rules[rule].train;
        Decision {
            rule,
            number: self.decisions,
            withheld: None,
            armed: true,
            sham: false,
            yoked: None,
            delay_us: train.delay_ms * 1000,
            minute_left_ms: None,
            session_left_ms: None,
            values: [f32::NAN; TERMS_MAX],
            t_decided_ns: now_ns(),
        }
    }
}

/// Says nothing for a while.
fn pause(length: Duration, stop: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < length && !stop.load(Relaxed) {
        std::thread::sleep(TICK);
    }
}
