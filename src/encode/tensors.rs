//! The memory that a session reads and writes, made and bound once.
//!
//! Why it exists: in host memory the window and the state are advanced here; on a device its kernels do it. What it must never do:
//! bind a borrowed tensor (`ort` 2.0.0-rc.15 deadlocks), or allocate after construction.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::Tensor as Value;

use super::signature::{Bound, Plan};
use super::{EncodeError, finite};
use crate::frame::Embedding;

/// `frames` is one frame (streaming) or the window, oldest first.
pub(super) struct Tensors {
    pub frames: Value<f32>,
    pub embedding: Value<f32>,
    pub probabilities: Option<Value<f32>>,
    pub outputs: Option<Value<f32>>,
    pub novelty: Option<Value<f32>>,
    /// What the session reads, what it wrote.
    pub state: Option<(Value<f32>, Value<f32>)>,
}

/// Values of a tensor, wherever it lies.
pub(super) fn values(tensor: &Value<f32>) -> usize {
    tensor.shape().num_elements()
}

impl Tensors {
    /// Makes the tensors of `plan` with `allocator` and binds them.
    pub(super) fn bind(session: &Session, allocator: &Allocator, plan: &Plan) -> ort::Result<(IoBinding, Self)> {
        let mut binding = session.create_binding()?;
        let make = |bound: &Bound| Value::<f32>::new(allocator, bound.shape.as_slice());
        let frames = make(&plan.frames)?;
        binding.bind_input(plan.frames.name.as_str(), &frames)?;
        let mut embedding = make(&plan.embedding)?;
        binding.bind_output(plan.embedding.name.as_str(), &mut embedding)?;
        let mut probabilities = plan.probabilities.as_ref().map(make).transpose()?;
        if let (Some(tensor), Some(bound)) = (&mut probabilities, &plan.probabilities) {
            binding.bind_output(bound.name.as_str(), tensor)?;
        }
        let mut outputs = plan.outputs.as_ref().map(make).transpose()?;
        if let (Some(tensor), Some(bound)) = (&mut outputs, &plan.outputs) {
            binding.bind_output(bound.name.as_str(), tensor)?;
        }
        let mut novelty = plan.novelty.as_ref().map(make).transpose()?;
        if let (Some(tensor), Some(bound)) = (&mut novelty, &plan.novelty) {
            binding.bind_output(bound.name.as_str(), tensor)?;
        }
        let mut state = None;
        if let Some((read, written)) = &plan.state {
            let (before, mut after) = (make(read)?, make(written)?);
            binding.bind_input(read.name.as_str(), &before)?;
            binding.bind_output(written.name.as_str(), &mut after)?;
            state = Some((before, after));
        }
        Ok((binding, Self { frames, embedding, probabilities, outputs, novelty, state }))
    }

    /// An embedding of the right sizes.
    pub(super) fn new_embedding(&self) -> Embedding {
        Embedding {
            values: vec![0.0; values(&self.embedding)],
            probabilities: vec![0.0; self.probabilities.as_ref().map_or(0, values)],
            outputs: vec![0.0; self.outputs.as_ref().map_or(0, values)],
            novelty: self.novelty.as_ref().map(|_| 0.0),
        }
    }

    /// In host memory: sets everything to 0.
    pub(super) fn clear(&mut self) {
        let written =
            [Some(&mut self.embedding), self.probabilities.as_mut(), self.outputs.as_mut(), self.novelty.as_mut()];
        written.into_iter().flatten().for_each(|tensor| tensor.extract_tensor_mut().1.fill(0.0));
        if let Some((_, after)) = &mut self.state {
            after.extract_tensor_mut().1.fill(0.0);
        }
        self.reset();
    }

    /// In host memory: forgets state and window.
    pub(super) fn reset(&mut self) {
        self.frames.extract_tensor_mut().1.fill(0.0);
        if let Some((before, _)) = &mut self.state {
            before.extract_tensor_mut().1.fill(0.0);
        }
    }

    /// In host memory: puts the frame where the session reads it.
    pub(super) fn accept(&mut self, frame: &[f32]) -> Result<(), EncodeError> {
        let streaming = self.state.is_some();
        let (shape, frames) = self.frames.extract_tensor_mut();
        let window = if streaming { 1 } else { usize::try_from(shape[1]).unwrap_or(1) };
        let (found, expected) = (frame.len(), frames.len() / window);
        if found != expected {
            return Err(EncodeError::Length { found, expected });
        }
        frames.copy_within(expected.., 0);
        let newest = frames.len() - expected;
        frames[newest..].copy_from_slice(frame);
        Ok(())
    }

    /// In host memory: hands the outputs over and advances the state, or does neither.
    pub(super) fn deliver(&mut self, into: &mut Embedding) -> Result<(), EncodeError> {
        let embedding = self.embedding.extract_tensor().1;
        finite(embedding, "the embedding")?;
        let probabilities = self.probabilities.as_ref().map_or(&[][..], |p| p.extract_tensor().1);
        finite(probabilities, "the probabilities")?;
        let outputs = self.outputs.as_ref().map_or(&[][..], |o| o.extract_tensor().1);
        finite(outputs, "the outputs")?;
        let novelty = self.novelty.as_ref().map_or(&[][..], |n| n.extract_tensor().1);
        finite(novelty, "the novelty")?;
        if let Some((before, after)) = &mut self.state {
            let after = after.extract_tensor().1;
            finite(after, "the state")?;
            before.extract_tensor_mut().1.copy_from_slice(after);
        }
        // No allocation: an embedding of `new_embedding` has the room.
        into.values.clear();
        into.values.extend_from_slice(embedding);
        into.probabilities.clear();
        into.probabilities.extend_from_slice(probabilities);
        into.outputs.clear();
        into.outputs.extend_from_slice(outputs);
        into.novelty = novelty.first().copied();
        Ok(())
    }
}
