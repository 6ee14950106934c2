//! The publish thread: decodes, events and pictures to the sinks, in that order of urgency.
//!
//! Why it exists: a sink that takes its time must not take the compute thread's. What it must never do: hold a decode up for a
//! picture, or end without having finished every sink.

use std::sync::atomic::Ordering::Relaxed;

use super::lane::{Consumer, Received};
use super::realtime::Idle;
use super::{Failure, IDLE_MAX, Shared};
use crate::frame::event::Event;
use crate::frame::{Decode, FIRST_GENERATION};
use crate::publish::Sink;
use crate::sys::clock::now_ns;

/// Hands decodes and events to the sinks until the compute thread is gone, then finishes every sink: one that failed does not
/// keep the others from publishing the end.
pub(super) fn publish(
    sinks: &mut [Box<dyn Sink>],
    lane: &mut Consumer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    shared.settle("publish", shared.settings.realtime.publish_core);
    let mut ended = hand_on(sinks, lane, idle, shared);
    let fault = shared.fault.get().copied().or(ended.is_err().then_some("publish"));
    // For the log only: each sink publishes it itself, after its last decode.
    let _ = shared.handles.log.force_push(fault.map_or(Event::Shutdown, |stage| Event::Fault { stage }));
    for sink in sinks {
        // The first failure is the cause; the other sinks are finished all the same.
        ended = ended.and(sink.finish(fault).map_err(Failure::from));
    }
    ended
}

/// The work of the publish thread until there is nothing more to come.
fn hand_on(
    sinks: &mut [Box<dyn Sink>],
    lane: &mut Consumer<Decode>,
    idle: &Idle,
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    let (mut ticked_ns, mut generation) = (0, FIRST_GENERATION);
    loop {
        send_events(sinks, shared)?;
        match lane.oldest() {
            Received::Slot(decode) => {
                while generation < decode.generation {
                    let Some(model) = shared.tags.pop() else { break };
                    generation = model.generation;
                    for sink in sinks.iter_mut() {
                        sink.model_changed(&model);
                    }
                }
                for sink in sinks.iter_mut() {
                    sink.publish(decode)?;
                }
            }
            Received::Empty if shared.decoding.load(Relaxed) => std::thread::yield_now(),
            Received::Empty if show_picture(sinks, shared)? => {}
            Received::Empty => idle.idle(IDLE_MAX),
            Received::Closed => return send_events(sinks, shared),
        }
        let now = now_ns();
        if now - ticked_ns >= IDLE_MAX.as_nanos() as u64 {
            ticked_ns = now;
            // Under full load there is no idle moment: a picture now and then is shown all the same.
            if shared.previews.are_stuck() {
                show_picture(sinks, shared)?;
            }
            for sink in sinks.iter_mut() {
                sink.tick(now)?;
            }
        }
    }
}

/// Sends one picture, when no decode waits. True if there was one.
fn show_picture(sinks: &mut [Box<dyn Sink>], shared: &Shared<'_>) -> Result<bool, Failure> {
    let Some(picture) = shared.previews.pop() else { return Ok(false) };
    for sink in sinks.iter_mut() {
        sink.preview(&picture)?;
    }
    shared.previews.give_back(picture);
    Ok(true)
}

fn send_events(sinks: &mut [Box<dyn Sink>], shared: &Shared<'_>) -> Result<(), Failure> {
    while let Some(event) = shared.handles.events.pop() {
        // The log is the supervisor's work: a terminal that does not read must not delay a decode.
        let _ = shared.handles.log.force_push(event);
        for sink in sinks.iter_mut() {
            sink.event(&event)?;
        }
    }
    Ok(())
}
