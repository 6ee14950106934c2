//! Where decodes go: the trait of the sinks.
//!
//! Why it exists: a stimulus controller, a recorder and a file look the same to the corridor. Sinks run on the publish thread.
//! What it must never do: wait for a reader. A slow or dead subscriber loses its own messages and affects nobody else.

pub mod decisions;
pub mod failsafe;
pub mod npy;
pub mod outlet;
pub mod relay;
pub mod status;
pub mod zmq;

use crate::frame::event::Event;
use crate::frame::{Decode, ModelTag, Preview};
use crate::sys::exit::{ExitCode, HasExitCode};
use crate::wire::decode::Kind;

/// What is published where there is no action to trust.
struct NeutralAction {
    label: String,
    /// Its place in the model's labels, if it is one of them.
    id: Option<usize>,
}

impl NeutralAction {
    fn of(label: &str, model: &ModelTag) -> Self {
        Self { label: label.to_owned(), id: model.labels.iter().position(|known| known == label) }
    }

    /// Its id as the outlets send it.
    fn code(&self) -> i32 {
        self.id.and_then(|id| i32::try_from(id).ok()).unwrap_or(relay::NEUTRAL_ID)
    }
}

/// A receiver of decodes, events and the passing of time.
pub trait Sink: Send {
    /// Takes one decode, in order, exactly once.
    ///
    /// # Errors
    /// Only what makes the sink unusable.
    fn publish(&mut self, decode: &Decode) -> Result<(), SinkError>;

    /// A new model: the next decode comes from it. Labels and embedding are those of the previous model.
    fn model_changed(&mut self, _model: &ModelTag) {}

    /// Takes one event.
    ///
    /// # Errors
    /// As [`Sink::publish`].
    fn event(&mut self, _event: &Event) -> Result<(), SinkError> {
        Ok(())
    }

    /// Takes a picture for people, when no decode waits.
    ///
    /// # Errors
    /// As [`Sink::publish`].
    fn preview(&mut self, _preview: &Preview) -> Result<(), SinkError> {
        Ok(())
    }

    /// Called at least every 10 ms with `CLOCK_MONOTONIC`, ns: heartbeats, deadlines, status.
    ///
    /// # Errors
    /// As [`Sink::publish`].
    fn tick(&mut self, _now_ns: u64) -> Result<(), SinkError> {
        Ok(())
    }

    /// The last call. `fault` names the stage that failed; `None` is a normal end.
    ///
    /// # Errors
    /// As [`Sink::publish`].
    fn finish(&mut self, _fault: Option<&'static str>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Sees every message as it was published, with its number, its time stamps and the verdict on its age. Called on the publish
/// thread after the message has been sent; it delays the next message, so it must neither wait nor allocate.
pub trait Witness: Send {
    /// One message. `header` is its JSON; `decode` what came down the corridor, for a decode of a frame.
    fn published(&mut self, kind: Kind, header: &[u8], t_pub_ns: u64, decode: Option<&Decode>);
}

/// What ends a sink, and with it the run.
#[derive(Debug, thiserror::Error)]
#[error("{sink}: {cause}")]
pub struct SinkError {
    /// Endpoint or file.
    pub sink: String,
    /// Why, and what to do.
    pub cause: String,
}

impl HasExitCode for SinkError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Sink
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Decodes for the tests of sinks.

    use crate::frame::{Decode, Embedding, FIRST_GENERATION, Frame, Observation, Quality, Shown, StageTimes};

    /// A decode of quality `ok` of a frame received just now.
    pub(crate) fn decode(number: u64, values: &[f32]) -> Decode {
        let mut frame = Frame::with_capacity(0).info;
        frame.number = number;
        frame.source = "rig1".parse().unwrap();
        frame.t_received_ns = crate::sys::clock::now_ns();
        Decode {
            frame,
            observation: Observation::default(),
            embedding: Embedding { values: values.to_vec(), probabilities: Vec::new(), ..Embedding::default() },
            quality: Quality::Ok,
            restart: None,
            skipped: 0,
            caught_up: 0,
            action: None,
            generation: FIRST_GENERATION,
            times: StageTimes { queue_ns: 1_000, preprocess_ns: 20_000, encode_ns: 300_000 },
            shown: Shown::Own,
            warmup_left: 0,
            decisions: Vec::new(),
            smoothed: None,
        }
    }
}
