//! Which animal this is, and when what was learnt of it is kept.
//!
//! Why it exists: an animal is named by configuration, by a person or by the sender, and whatever names it, its state is kept before it
//! is forgotten, at the end of a series and at the end of the run. What it must never do: touch a file (the supervisor reads and
//! writes them), or keep while a frame waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;

use super::Shared;
use crate::config::NewSeries;
use crate::decoder::Decoder;
use crate::frame::event::Event;
use crate::frame::{AnimalState, FrameInfo, Name, Request, TakenUp};

/// Kept states, and names, that may wait for the supervisor.
const WAITING_MAX: usize = 4;

/// What the supervisor and the corridor share about animals. A clone shares the same queues.
#[derive(Clone)]
pub struct AnimalHandles {
    /// Keep the state as soon as no frame waits: of its animal, or under another name because a person asked for it.
    pub keep: Arc<ArrayQueue<Keep>>,
    /// What was kept, on its way to the disk.
    pub kept: Arc<ArrayQueue<Box<AnimalState>>>,
    /// Names that the sender gave: the supervisor answers each with a request.
    pub named: Arc<ArrayQueue<Name>>,
    /// The sender names the animal: then nobody else does.
    pub named_by_sender: Arc<AtomicBool>,
}

impl Default for AnimalHandles {
    fn default() -> Self {
        Self {
            keep: Arc::new(ArrayQueue::new(WAITING_MAX)),
            kept: Arc::new(ArrayQueue::new(WAITING_MAX)),
            named: Arc::new(ArrayQueue::new(WAITING_MAX)),
            named_by_sender: Arc::default(),
        }
    }
}

/// Why a state is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// An end: of a series, of this animal, of the run. Only of an animal with a name, and if the configuration wants it.
    AtEnd,
    /// A person asked for it, under this name or the animal's own.
    Asked(Option<Name>),
}

/// The animal under the microscope, as the compute thread knows it.
pub(super) struct Animal {
    name: Option<Name>,
    /// As the sender last named it.
    by_sender: Option<Name>,
    /// Frames were decoded since it was last kept.
    changed: bool,
}

impl Animal {
    pub(super) fn new() -> Self {
        Self { name: None, by_sender: None, changed: false }
    }

    /// A frame comes, whose recorded requests are carried out. Where it begins a series, what was learnt in the one before is kept as
    /// soon as nothing waits. A new animal begins where the sender names another one, or where a new series means one; unless it
    /// has just been named, as at the start of a run. `another`: its frames have another shape or pixel type.
    pub(super) fn arrives(&mut self, info: &FrameInfo, another: bool, shared: &Shared<'_>) -> Option<Request> {
        let animals = &shared.handles.animals;
        if info.series_began {
            let _ = animals.keep.push(Keep::AtEnd);
        }
        let just_named = self.name.is_some() && !self.changed;
        if let Some(name) = info.animal.filter(|name| self.by_sender != Some(*name)) {
            self.by_sender = Some(name);
            animals.named_by_sender.store(true, Relaxed);
            if self.name != Some(name) {
                let _ = animals.named.force_push(name);
                return Some(Request::NewAnimal(name));
            }
        }
        let other = info.series_began && shared.settings.new_series == NewSeries::Reset && !just_named;
        if other
            && !another
            && let Some(name) = self.by_sender
        {
            // The sender says that it is the same: it is taken up again, if its tissue says so, too.
            let _ = animals.named.force_push(name);
        }
        (other || another).then_some(Request::Reset)
    }

    /// Is this request about another animal than the one that the sender names?
    pub(super) fn contradicts(&self, request: &Request) -> bool {
        match (self.by_sender, request) {
            (Some(name), Request::TakeUp(saved)) => saved.name != name,
            (Some(name), Request::NewAnimal(other)) => *other != name,
            _ => false,
        }
    }

    /// Before a request is carried out: what it forgets is kept.
    pub(super) fn before(&mut self, request: &Request, decoder: &Decoder, shared: &Shared<'_>) {
        if !request.begins_animal() {
            return;
        }
        self.keep(Keep::AtEnd, decoder, shared);
        self.name = match request {
            Request::TakeUp(saved) => Some(saved.name),
            Request::NewAnimal(name) => Some(*name),
            // Of an animal that the sender names, it begins again.
            _ => self.by_sender,
        };
        self.changed = false;
    }

    /// One more frame was decoded; what became of a state that was taken up.
    pub(super) fn observe(&mut self, frame: u64, taken_up: Option<TakenUp>, shared: &Shared<'_>) {
        self.changed = true;
        let Some(animal) = self.name else { return };
        match taken_up {
            None | Some(TakenUp::OnTrial(_)) => {}
            Some(TakenUp::Known { peak, saved_peak }) => {
                shared.emit(Event::AnimalKnown { animal, frame, peak, saved_peak });
            }
            Some(TakenUp::Mismatch(mismatch)) => shared.emit(Event::AnimalMismatch { animal, frame, mismatch }),
        }
    }

    /// Keeps what was asked for, where nothing waits.
    pub(super) fn keep_when_asked(&mut self, decoder: &Decoder, shared: &Shared<'_>) {
        while let Some(why) = shared.handles.animals.keep.pop() {
            self.keep(why, decoder, shared);
        }
    }

    /// The run ends: keeps what is to be kept.
    pub(super) fn end(&mut self, decoder: &Decoder, shared: &Shared<'_>) {
        self.keep_when_asked(decoder, shared);
        self.keep(Keep::AtEnd, decoder, shared);
    }

    /// Keeps the state, if there is one to keep.
    pub(super) fn keep(&mut self, why: Keep, decoder: &Decoder, shared: &Shared<'_>) {
        let name = match why {
            Keep::AtEnd if !self.changed || !shared.settings.keeps_animals => return,
            Keep::AtEnd | Keep::Asked(None) => self.name,
            Keep::Asked(name) => name,
        };
        let Some(animal) = name else {
            if why != Keep::AtEnd {
                shared.emit(Event::AnimalNotSaved { animal: None, why: "it has no name: `animal save NAME`" });
            }
            return;
        };
        match decoder.keep() {
            Ok(Some(state)) => {
                let state = AnimalState { animal: animal.as_str().to_owned(), ..state };
                let _ = shared.handles.animals.kept.force_push(Box::new(state));
                self.changed = false;
            }
            Ok(None) => shared.emit(Event::AnimalNotSaved { animal: Some(animal), why: "it was still warming up" }),
            // A device that failed is reported at the next frame.
            Err(_) => shared.emit(Event::AnimalNotSaved { animal: Some(animal), why: "the device failed" }),
        }
    }
}
