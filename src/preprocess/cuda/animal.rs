//! What is saved of an animal on a device, and a saved state taken up there.
//!
//! Why it exists: F₀ and statistics lie on the device, everything else on the host. What it must never do: run while a frame is
//! computed; every copy waits for what was asked of the device before.

use super::super::baseline::Pace;
use super::super::normalise::Census;
use super::super::{TakeUpError, memory};
use super::CudaPreprocess;
use super::stage::Stage;
use crate::cuda::Fault;
use crate::frame::animal::{BaselineState, StatisticsState};
use crate::frame::{AnimalState, FrameInfo, Mismatch};
use crate::model::parameters::{Estimator, Scope};

impl CudaPreprocess {
    /// Forgets an animal whose saved state its frames did not match, or of which frames of another geometry come.
    pub(super) fn forget_mismatch(&mut self, info: &FrameInfo) {
        let (Some(animal), Some(stage)) = (&self.animal, &self.stage) else { return };
        let other = animal.host.trial.is_some() && (stage.shape, stage.pixel_type) != (info.shape, info.pixel_type);
        if other {
            self.refused = Some(Mismatch::Geometry);
        }
        if other || animal.host.spent {
            self.animal = None;
        }
    }

    /// F₀ from the device.
    fn keep_baseline(&self, stage: &Stage, pace: &Pace) -> Result<Option<BaselineState>, Fault> {
        let Some(baseline) = &self.parameters.baseline else { return Ok(None) };
        let pixels = self.input.pixels();
        let (mut ring, mut deviation) = (Vec::new(), Vec::new());
        match baseline.estimator {
            Estimator::RunningMinimum => {
                ring = self.download(stage.learnt.ring, baseline.average_frames * pixels)?;
            }
            Estimator::RunningQuantile => deviation = self.download(stage.learnt.deviation, pixels)?,
        }
        let f0 = self.download(stage.learnt.f0, pixels)?;
        Ok(Some(BaselineState { frames: pace.frames(), f0, ring, deviation }))
    }

    fn keep_statistics(&self, stage: &Stage, census: &Census) -> Result<Option<StatisticsState>, Fault> {
        let Some(normalise) = &self.parameters.normalise else { return Ok(None) };
        let groups = if normalise.scope == Scope::Pixel { self.input.pixels() } else { self.input.channels };
        let (mean, m2) = (self.download(stage.learnt.mean, groups)?, self.download(stage.learnt.m2, groups)?);
        let signal = if normalise.signal_share { groups } else { 0 };
        let (joint, last) = (self.download(stage.learnt.joint, signal)?, self.download(stage.learnt.last, signal)?);
        Ok(Some(StatisticsState { mean, m2, joint, last, ..census.keep() }))
    }

    fn download<T: bytemuck::Pod>(&self, from: u64, values: usize) -> Result<Vec<T>, Fault> {
        let mut into = vec![T::zeroed(); values];
        if values == 0 {
            return Ok(into);
        }
        self.machine.download(from, bytemuck::cast_slice_mut(&mut into))?;
        Ok(into)
    }

    /// Memory, an animal, and in both the state, which fits.
    fn go_on_from(&mut self, state: &AnimalState, info: &FrameInfo) -> Result<(), Fault> {
        self.prepare(info)?;
        let (Some(animal), Some(stage)) = (&mut self.animal, &self.stage) else { return Ok(()) };
        animal.host.take_up(state);
        let upload = |to: u64, bytes: &[u8]| if bytes.is_empty() { Ok(()) } else { self.machine.upload(to, bytes) };
        if let (Some(pace), Some(saved)) = (&mut animal.pace, &state.baseline) {
            pace.take_up(saved.frames);
            upload(stage.learnt.f0, bytemuck::cast_slice(&saved.f0))?;
            upload(stage.learnt.ring, bytemuck::cast_slice(&saved.ring))?;
            upload(stage.learnt.deviation, bytemuck::cast_slice(&saved.deviation))?;
        }
        if let (Some(census), Some(saved)) = (&mut animal.census, &state.statistics) {
            census.take_up(saved);
            upload(stage.learnt.mean, bytemuck::cast_slice(&saved.mean))?;
            upload(stage.learnt.m2, bytemuck::cast_slice(&saved.m2))?;
            upload(stage.learnt.joint, bytemuck::cast_slice(&saved.joint))?;
            upload(stage.learnt.last, bytemuck::cast_slice(&saved.last))?;
        }
        Ok(())
    }

    /// See [`Preprocess::keep`].
    pub(super) fn keep_animal(&self) -> Result<Option<AnimalState>, Fault> {
        let (Some(animal), Some(stage)) = (&self.animal, &self.stage) else { return Ok(None) };
        let host = animal.host.keep(stage.shape, stage.pixel_type, animal.progress());
        let Some(host) = host else { return Ok(None) };
        let baseline = animal.pace.as_ref().map(|pace| self.keep_baseline(stage, pace)).transpose()?.flatten();
        let statistics =
            animal.census.as_ref().map(|census| self.keep_statistics(stage, census)).transpose()?.flatten();
        Ok(Some(AnimalState { preprocessing: self.fingerprint.clone(), baseline, statistics, ..host }))
    }

    /// See [`Preprocess::take_up`]; the animal before is forgotten already.
    pub(super) fn take_up_animal(&mut self, state: &AnimalState) -> Result<(), TakeUpError> {
        let (parameters, refused) = (&self.parameters, &mut self.refused);
        let info = memory::frames_of(state, parameters, self.input, &self.fingerprint, refused)?;
        if let Some(info) = info {
            self.go_on_from(state, &info).inspect_err(|_| self.animal = None)?;
        }
        Ok(())
    }
}
