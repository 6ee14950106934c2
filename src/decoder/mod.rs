//! The engine: from a frame to its decode, with everything learnt of one animal.
//!
//! Why it exists: `run`, `embed`, `calibrate`, `eval`, `bench`, a model on trial and one that stands by must step one and the same
//! object, so that the same frames give the same decodes. What it must never do: open a socket, read a clock to compute (only to
//! stamp), or allocate once it is warm.

mod believed;
mod embeddings;
mod network;
mod open;

use crate::encode::{EncodeError, EncodeInfo};
use crate::frame::placement::Placement;
use crate::frame::{
    AnimalState, Decode, Frame, FrameInfo, Geometry, ModelTag, PixelMemory, Quality, Request, Restart, Shown,
    StageTimes, Tensor,
};
use crate::model::Model;
use crate::preprocess::{KernelAlone, Preprocess, PreprocessError, Template, takes};
use crate::sys::clock::now_ns;
use crate::sys::exit::{ExitCode, HasExitCode};

use believed::Believed;
pub use embeddings::Embeddings;
use network::Network;
pub use open::place;

/// Preprocessing and network of one model, warmed, with what they have learnt of the animal.
pub struct Decoder {
    model: Model,
    preprocess: Box<dyn Preprocess>,
    network: Network,
    believed: Believed,
    on_device: bool,
}

/// What came of one frame. The tensor is what the network read.
#[derive(Debug)]
pub enum Step<'a> {
    /// A decode.
    Decoded(Tensor<'a>),
    /// The frame is not believed (see [`crate::frame::Observation::distrust`]): nothing was learnt from it, the network has not seen
    /// it, and the decode shows the last believed one. The window goes on without this frame.
    Distrusted,
    /// An observation only: preprocessing averages frames, and this was not the last of its group.
    Averaged,
    /// No decode, because the tensor or what the network made of it holds NaN or infinity. The window goes on without this frame.
    NonFinite(Tensor<'a>),
    /// Preprocessing cannot take such a frame; nothing has changed.
    Refused(PreprocessError),
}

/// What a decoder may do while there is no frame. Neither changes a decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleWork {
    /// Run once through code and data, so that they are in the caches when the next frame comes: about as long as one frame.
    KeepWarm,
    /// Something short for the device, so that it does not slow down; nothing on the CPU.
    Pulse,
}

/// A decoder that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The device that preprocesses failed.
    #[error("preprocessing failed: {0}")]
    Preprocess(#[from] PreprocessError),
    /// The model could not be run.
    #[error("the encoder failed: {0}")]
    Encode(#[from] EncodeError),
}

impl HasExitCode for DecodeError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Preprocess(error) => error.exit_code(),
            Self::Encode(error) => error.exit_code(),
        }
    }
}

impl DecodeError {
    /// True when the next frame may well succeed.
    pub fn is_survivable(&self) -> bool {
        match self {
            Self::Preprocess(error) => error.is_survivable(),
            Self::Encode(error) => error.is_survivable(),
        }
    }

    /// True when it is a device that failed, and the CPU would have gone on.
    pub fn is_of_a_device(&self) -> bool {
        match self {
            Self::Preprocess(error) => !error.is_survivable(),
            Self::Encode(error) => error.is_of_a_device(),
        }
    }
}

impl Decoder {
    /// One frame, decoded `into`, which [`Decoder::new_decode`] made for this model or one of the same sizes.
    ///
    /// Unless the frame is refused, `into` then holds the frame's header, what was observed and where the time went. With
    /// [`Step::Decoded`] or [`Step::Distrusted`] it also holds embedding, action, generation and quality: `Warmup`, or `Ok` as far as the decoder
    /// alone can tell. Whether frames are missing or the rate is off only the corridor, which sees the whole stream, can tell.
    ///
    /// # Errors
    /// What no later frame could survive: the device or ONNX Runtime failed.
    pub fn step(&mut self, frame: &Frame, into: &mut Decode) -> Result<Step<'_>, DecodeError> {
        let began_ns = now_ns();
        let prepared = match self.preprocess.apply(frame) {
            Ok(prepared) => prepared,
            Err(refusal) if refusal.is_survivable() => return Ok(Step::Refused(refusal)),
            Err(fault) => return Err(fault.into()),
        };
        let prepared_ns = now_ns();
        into.frame = frame.info;
        into.observation = prepared.observation;
        into.times = StageTimes {
            queue_ns: began_ns.saturating_sub(frame.info.t_received_ns),
            preprocess_ns: prepared_ns - began_ns,
            encode_ns: 0,
        };
        let seen = prepared.observation;
        if seen.distrust.is_some() {
            self.network.hold(seen.warming_up, &mut self.believed, into);
            self.network.judge_trial(&seen, into);
            return Ok(Step::Distrusted);
        }
        into.shown = Shown::Own;
        if let Some(why) = prepared.observation.restart {
            self.network.restart(why);
        }
        let Some(tensor) = prepared.tensor else { return Ok(Step::Averaged) };
        match self.network.step(&tensor, prepared.observation.warming_up, into) {
            Ok(()) => {}
            Err(cause) if cause.is_survivable() => return Ok(Step::NonFinite(tensor)),
            Err(cause) => return Err(cause.into()),
        }
        self.network.judge_trial(&seen, into);
        into.times.encode_ns = now_ns() - prepared_ns;
        match into.quality {
            Quality::Ok => self.believed.keep(into),
            _ => self.believed.forget(),
        }
        Ok(Step::Decoded(tensor))
    }

    /// As [`Decoder::step`], of a frame that was preprocessed before, by parameters that are those of this model. `warming_up`: it
    /// was one of preprocessing's warm-up. Writes embedding, action, generation and quality.
    ///
    /// # Errors
    /// Any [`EncodeError`]; [`EncodeError::NonFinite`] is survivable and leaves `into` as it was.
    pub fn step_tensor(&mut self, tensor: &Tensor<'_>, warming_up: bool, into: &mut Decode) -> Result<(), EncodeError> {
        self.network.step(tensor, warming_up, into)
    }

    /// The network's window begins anew with the next tensor; what preprocessing has learnt stays. [`Decoder::step`] does this
    /// itself where a frame's [`Observation`](crate::frame::Observation) says so; beside [`Decoder::step_tensor`] the caller does.
    pub fn restart_window(&mut self, why: Restart) {
        self.network.restart(why);
    }

    /// Carries out a request; takes effect with the next frame.
    pub fn request(&mut self, request: Request) {
        let begins_animal = request.begins_animal();
        self.preprocess.request(request);
        if begins_animal {
            self.network.reset();
            self.believed.forget();
        }
    }

    /// What was learnt of this animal, to be taken up later by [`Request::TakeUp`]; `None` until all of it has warmed up and is
    /// believed. Allocates.
    ///
    /// # Errors
    /// The device failed.
    pub fn keep(&self) -> Result<Option<AnimalState>, DecodeError> {
        self.preprocess.keep().map_err(|fault| PreprocessError::from(fault).into())
    }

    /// Uses the time while there is no frame.
    pub fn idle(&mut self, work: IdleWork) {
        match work {
            IdleWork::KeepWarm => {
                self.preprocess.keep_warm();
                self.network.keep_warm();
            }
            IdleWork::Pulse => self.preprocess.rest(),
        }
    }

    /// A decode of this model's sizes, to be written by [`Decoder::step`].
    pub fn new_decode(&self) -> Decode {
        self.network.new_decode()
    }

    /// Gives this one's preprocessing, with what it has learnt, to `other`, and takes that of `other`.
    pub fn exchange_preprocessing(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.preprocess, &mut other.preprocess);
    }

    /// The same decoder around another preprocessing, made from the one it has: to observe or to disturb it.
    #[must_use]
    pub fn with_preprocessing(self, wrap: impl FnOnce(Box<dyn Preprocess>) -> Box<dyn Preprocess>) -> Self {
        Self { preprocess: wrap(self.preprocess), ..self }
    }

    /// The same decoder as the model of this generation.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.network.tag.generation = generation;
        self
    }

    /// The model with its manifest.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How the model is named in decodes.
    pub fn tag(&self) -> &ModelTag {
        &self.network.tag
    }

    /// Do preprocessing and network run on a device?
    pub fn on_device(&self) -> bool {
        self.on_device
    }

    /// The name of the device that preprocesses, for people.
    pub fn device(&self) -> &str {
        self.preprocess.device()
    }

    /// Bytes that the kernels of one frame move at least, and how many kernels there are; `None` on the CPU and before the first
    /// frame.
    pub fn device_work(&self) -> Option<(usize, usize)> {
        self.preprocess.device_work()
    }

    /// Each preprocessing kernel alone, `times` times over; none on the CPU and before the first frame.
    ///
    /// # Errors
    /// The device's error.
    pub fn device_kernels(&self, times: usize) -> Result<Vec<KernelAlone>, PreprocessError> {
        Ok(self.preprocess.device_kernels(times)?)
    }

    /// What runs the network, for people.
    pub fn encode_info(&self) -> &EncodeInfo {
        self.network.info()
    }

    /// Memory for a frame of up to `bytes` that preprocessing reads fastest; `None` = any memory.
    pub fn frame_memory(&self, bytes: usize) -> Option<Box<dyn PixelMemory>> {
        self.preprocess.frame_memory(bytes)
    }

    /// What this animal's frames have in common; `None` before its first.
    pub fn geometry(&self) -> Option<Geometry> {
        self.preprocess.geometry()
    }

    /// Has this frame another shape or pixel type than this animal's, and could the model take it? If a series begins with it,
    /// nothing learnt so far applies to it.
    pub fn is_of_another_animal(&self, info: &FrameInfo) -> bool {
        self.geometry().is_some_and(|known| known != info.geometry())
            && takes(&self.model.manifest.preprocess, info.shape).is_ok()
    }

    /// How the animal lies on the model's atlas, once that is found; `None` for a model without an atlas.
    pub fn placement(&self) -> Option<Placement> {
        self.preprocess.placement()
    }

    /// The registration template in use, if there is one.
    pub fn template(&self) -> Option<Template<'_>> {
        self.preprocess.template()
    }
}
