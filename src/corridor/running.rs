//! What decodes now, what is on trial beside it, and what takes over when the device fails.
//!
//! Why it exists: with `compute.on_device_fault` = "cpu" a lost GPU must not end an experiment, but it must not go unnoticed either, so
//! it is an event, and decodes are warm-up until all adaptive state is built up again. What it must never do: let the CPU take over for
//! anything but a device that failed, or for another model than the one it was made for.

use std::sync::atomic::Ordering::Relaxed;

use crate::decoder::{DecodeError, Decoder};
use crate::frame::event::{Event, TrialFault};
use crate::frame::{Frame, Request};

use super::shadow::{Ran, Shadow, SharedInput};
use super::{DriftSettings, Failure, Shared};

/// The decoder, its shadow and its stand-by.
pub(super) struct Running<'a> {
    pub(super) decoder: &'a mut Decoder,
    pub(super) shadow: Option<Shadow>,
    /// Takes over when the device fails.
    standby: Option<Box<Decoder>>,
    /// Was replaced, or will never be needed. Kept to the end of the run: to free what lies on a lost device may take long.
    spent: Option<Box<Decoder>>,
}

impl<'a> Running<'a> {
    /// What runs from the start, with what stands by.
    pub(super) fn new(decoder: &'a mut Decoder, shared: &Shared<'_>) -> Self {
        shared.handles.stats.compute.generation.store(decoder.tag().generation, Relaxed);
        Self { decoder, shadow: None, standby: shared.handles.standby.pop(), spent: None }
    }

    /// Carries out a request, in everything that may decode the next frames.
    pub(super) fn request(&mut self, request: Request) {
        self.decoder.request(request.clone());
        if let Some(shadow) = &mut self.shadow {
            shadow.request(request.clone());
        }
        // A frozen normalisation must stay frozen when the CPU takes over; all other state is built up from nothing there.
        if let Some(standby) = &mut self.standby {
            standby.request(if request.begins_animal() { Request::Reset } else { request });
        }
    }

    /// Takes a model that waits into the shadow, and lets the one there take over when it is warm. `Some` when the model
    /// changed: when its drift is an event.
    pub(super) fn exchange(&mut self, shared: &Shared<'_>) -> Option<Option<DriftSettings>> {
        if self.shadow.is_none() {
            self.shadow = shared.handles.swaps.pop().map(Shadow::new);
        }
        let mut swap = self.shadow.take_if(|shadow| shadow.is_warm())?.into_swap();
        if swap.shares_preprocessing {
            self.decoder.exchange_preprocessing(&mut swap.decoder);
        }
        std::mem::swap(self.decoder, &mut swap.decoder);
        // What stands by is the model before; from now on a failing device ends the run.
        if let Some(standby) = self.standby.take() {
            self.spent = Some(standby);
        }
        let generation = self.decoder.tag().generation;
        shared.handles.stats.end_trial(generation, generation);
        shared.emit(Event::Swapped { generation });
        let _ = shared.tags.force_push(std::mem::take(&mut swap.tag));
        let _ = shared.handles.retired.force_push(swap);
        Some(DriftSettings::of(&self.decoder.model().manifest))
    }

    /// Goes on on the CPU after `failure` at `frame`, which is lost.
    ///
    /// # Errors
    /// The failure, when it is not of a device or nothing stands by.
    pub(super) fn fall_back(&mut self, failure: DecodeError, frame: u64, shared: &Shared<'_>) -> Result<(), Failure> {
        if !failure.is_of_a_device() {
            return Err(failure.into());
        }
        let Some(mut standby) = self.standby.take() else { return Err(failure.into()) };
        // Rare, and the only place where the cause is still known.
        tracing::error!("frame {frame}: {failure}; the CPU takes over and all adaptive state is built up again");
        std::mem::swap(self.decoder, &mut standby);
        if let Some(shadow) = self.shadow.take() {
            give_up(shadow, TrialFault::Device, shared);
        }
        self.spent = Some(standby);
        shared.emit(Event::DeviceFault { frame });
        Ok(())
    }
}

/// The model in the shadow sees the frame as well, after the decode of the running one has left; one that fails is given up.
pub(super) fn follow(
    shadow: &mut Option<Shadow>,
    frame: &Frame,
    input: &SharedInput<'_>,
    ran: Ran,
    shared: &Shared<'_>,
) {
    let Some(model) = shadow else { return };
    if let Err(fault) = model.follow(frame, input, ran)
        && let Some(model) = shadow.take()
    {
        give_up(model, fault, shared);
    }
}

/// A model fails on live frames: the one that runs goes on.
fn give_up(model: Shadow, reason: TrialFault, shared: &Shared<'_>) {
    let (swap, stats) = (model.into_swap(), &shared.handles.stats);
    let generation = swap.tag.generation;
    stats.end_trial(generation, stats.generation());
    shared.emit(Event::SwapFailed { generation, reason });
    let _ = shared.handles.retired.force_push(swap);
}
