//! The encoder's tensors in the memory of a device: frames, state and window never leave it.
//!
//! Why it exists: a frame that was preprocessed on a device is encoded there, on the same stream; only embedding, probabilities
//! and novelty come back. The steps around the session – advance the window, check the outputs, advance the state unless a value
//! is not a number, tell the host – are four kernels of `kernels.cu`.
//! What it must never do: allocate after construction, except when preprocessing passes another tensor than before.

use std::sync::Arc;

use super::{EncodeError, Tensors};
use crate::cuda::{Answer, DeviceMemory, Fault, HostMemory, Launch, Machine, Program};
use crate::frame::{Embedding, Tensor};

/// What can be not a number, in the order of the kernels' verdict.
const JUDGED: [&str; 5] = ["the embedding", "the probabilities", "the outputs", "the novelty", "the state"];

/// Argument of the kernels `accept`, `judge`, `deliver` and `tell`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Exchange {
    tensor: u64,
    frames: u64,
    outputs: [u64; 4],
    state_after: u64,
    state_before: u64,
    verdict: u64,
    answer: u64,
    host_verdict: u64,
    runs: u64,
    host_runs: u64,
    pixels: i32,
    window: i32,
    lengths: [i32; 4],
    state: i32,
    /// No byte is left to chance.
    padding: i32,
}

/// The programs around the session, and the memory that is not the session's own.
pub(super) struct DeviceSide {
    machine: Arc<dyn Machine>,
    exchange: Exchange,
    /// For the tensor at this address.
    accept: (u64, Box<dyn Program>),
    deliver: Box<dyn Program>,
    /// For tensors that come from the host.
    inbox: DeviceMemory,
    answer: HostMemory,
    host_verdict: HostMemory,
    /// How often outputs were delivered: as the device counts, and as the host does.
    host_runs: HostMemory,
    runs: u64,
    zeros: Vec<u8>,
    _verdict: DeviceMemory,
    _runs: DeviceMemory,
}

impl From<Fault> for EncodeError {
    fn from(fault: Fault) -> Self {
        Self::Device { cause: fault.to_string() }
    }
}

impl DeviceSide {
    /// Around the bound tensors of a session; `pixels` are those of one model frame.
    pub(super) fn new(machine: &Arc<dyn Machine>, tensors: &Tensors, pixels: usize) -> Result<Self, Fault> {
        let Tensors { embedding, probabilities, outputs, novelty, .. } = tensors;
        let outputs = [Some(embedding), probabilities.as_ref(), outputs.as_ref(), novelty.as_ref()];
        let addresses = outputs.map(|output| output.map_or(0, |value| value.data_ptr() as u64));
        let lengths = outputs.map(|output| output.map_or(0, super::values));
        let (before, after, state) = match &tensors.state {
            Some((before, after)) => (before.data_ptr() as u64, after.data_ptr() as u64, super::values(before)),
            None => (0, 0, 0),
        };
        let frames = super::values(&tensors.frames);
        let verdict = DeviceMemory::new(machine, JUDGED.len() * size_of::<u32>())?;
        let answer = HostMemory::new(machine, lengths.iter().sum::<usize>() * size_of::<f32>())?;
        let host_verdict = HostMemory::new(machine, JUDGED.len() * size_of::<u32>())?;
        let (runs, host_runs) =
            (DeviceMemory::new(machine, size_of::<u64>())?, HostMemory::new(machine, size_of::<u64>())?);
        let inbox = DeviceMemory::new(machine, pixels * size_of::<f32>())?;
        let exchange = Exchange {
            tensor: inbox.address(),
            frames: tensors.frames.data_ptr() as u64,
            outputs: addresses,
            state_after: after,
            state_before: before,
            verdict: verdict.address(),
            answer: answer.address(),
            host_verdict: host_verdict.address(),
            runs: runs.address(),
            host_runs: host_runs.address(),
            pixels: pixels as i32,
            window: (frames / pixels.max(1)) as i32,
            lengths: lengths.map(|length| length as i32),
            state: state as i32,
            padding: 0,
        };
        let items = (lengths.iter().sum::<usize>() + state).max(JUDGED.len());
        let launches = [Launch::over("judge", items, 0), Launch::over("deliver", items, 0), Launch::new("tell", 1, 0)];
        let deliver = machine.program(&launches, bytemuck::bytes_of(&exchange))?;
        let accept = (inbox.address(), accepting(machine, &exchange)?);
        let side = Self {
            machine: machine.clone(),
            exchange,
            accept,
            deliver,
            inbox,
            answer,
            host_verdict,
            host_runs,
            runs: 0,
            zeros: vec![0; frames.max(state) * size_of::<f32>()],
            _verdict: verdict,
            _runs: runs,
        };
        side.reset()?;
        side.clear_outputs()?;
        Ok(side)
    }

    /// Puts the frame where the session reads it; returns before it is there.
    pub(super) fn accept(&mut self, input: &Tensor<'_>) -> Result<(), EncodeError> {
        let (expected, found) = (self.exchange.pixels as usize, length(input));
        if found != expected {
            return Err(EncodeError::Length { found, expected });
        }
        let address = match input {
            Tensor::Host(values) => {
                super::finite(values, "the frame")?;
                self.inbox.fill(values)?;
                self.inbox.address()
            }
            Tensor::Cuda(tensor) if !tensor.is_finite() => return Err(EncodeError::NonFinite { what: "the frame" }),
            Tensor::Cuda(tensor) => tensor.address(),
        };
        if self.accept.0 != address {
            self.exchange.tensor = address;
            self.accept = (address, accepting(&self.machine, &self.exchange)?);
        }
        Ok(self.accept.1.launch()?)
    }

    /// Checks what the session wrote, advances the state and returns the outputs, or names what was not a number.
    pub(super) fn deliver(&mut self, into: &mut Embedding) -> Result<(), EncodeError> {
        self.deliver.launch()?;
        self.runs += 1;
        self.machine.wait_for(Answer { address: self.host_runs.address(), value: self.runs })?;
        let verdict: [u32; JUDGED.len()] = self.host_verdict.get(0);
        if let Some((what, _)) = JUDGED.iter().zip(verdict).find(|(_, bad)| *bad > 0) {
            return Err(EncodeError::NonFinite { what });
        }
        let [embedding, probabilities, outputs, novelty] = self.exchange.lengths.map(|length| length as usize);
        // No allocation: an embedding of `new_embedding` has the room.
        let mut place = 0;
        let room =
            [(&mut into.values, embedding), (&mut into.probabilities, probabilities), (&mut into.outputs, outputs)];
        for (values, length) in room {
            values.resize(length, 0.0);
            self.answer.copy_to(place * size_of::<f32>(), values);
            place += length;
        }
        into.novelty = (novelty > 0).then(|| self.answer.get(place * size_of::<f32>()));
        Ok(())
    }

    /// Forgets state and window.
    pub(super) fn reset(&self) -> Result<(), Fault> {
        let Exchange { frames, pixels, window, state, state_before, .. } = self.exchange;
        self.clear(frames, (pixels * window) as usize)?;
        self.clear(state_before, state as usize)
    }

    fn clear_outputs(&self) -> Result<(), Fault> {
        self.clear(self.exchange.state_after, self.exchange.state as usize)
    }

    fn clear(&self, address: u64, values: usize) -> Result<(), Fault> {
        if values == 0 { Ok(()) } else { self.machine.upload(address, &self.zeros[..values * size_of::<f32>()]) }
    }

    /// The session's work as one program.
    pub(super) fn record(&self, work: &mut dyn FnMut() -> Result<(), Fault>) -> Result<Box<dyn Program>, Fault> {
        self.machine.record(work)
    }

    /// Did the device not answer in time?
    pub(super) fn is_lost(&self) -> bool {
        self.machine.is_lost()
    }

    /// Waits until the device has finished.
    pub(super) fn wait(&self) -> Result<(), Fault> {
        self.machine.wait()
    }
}

fn length(input: &Tensor<'_>) -> usize {
    match input {
        Tensor::Host(values) => values.len(),
        Tensor::Cuda(tensor) => tensor.len(),
    }
}

fn accepting(machine: &Arc<dyn Machine>, exchange: &Exchange) -> Result<Box<dyn Program>, Fault> {
    machine.program(&[Launch::over("accept", exchange.pixels as usize, 0)], bytemuck::bytes_of(exchange))
}
