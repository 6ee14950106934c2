//! What rules see of a decode, live or recorded.

use super::clock::Moment;
use crate::frame::{Decode, Distrust, Quality};

/// What a rule sees of a decode.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When its frame was.
    pub moment: Moment,
    /// How far to trust it, before its age was judged.
    pub quality: Quality,
    /// Why its frame is not believed.
    pub distrust: Option<Distrust>,
    /// The most probable action.
    pub action: Option<usize>,
    /// Of every action.
    pub probabilities: &'a [f32],
    /// Continuous outputs of the model.
    pub outputs: &'a [f32],
    /// 0 to 1.
    pub novelty: Option<f32>,
    /// The embedding.
    pub embedding: &'a [f32],
    /// [dy, dx], px.
    pub shift_px: Option<[f32; 2]>,
    /// 0 to 1.
    pub shift_peak: f32,
    /// Mean light of the registered channel, counts.
    pub light: Option<f32>,
}

impl<'a> Seen<'a> {
    /// Of a decode that came down the corridor.
    pub fn of(decode: &'a Decode) -> Self {
        let (info, seen) = (&decode.frame, &decode.observation);
        let moment = Moment {
            device: info.t_device.map(|time| (time.ns, time.clock)),
            received_ns: info.t_live_ns,
            number: info.number,
            ordinal: info.ordinal(),
        };
        Self {
            moment,
            quality: decode.quality,
            distrust: seen.distrust,
            action: decode.action,
            probabilities: &decode.embedding.probabilities,
            outputs: &decode.embedding.outputs,
            novelty: decode.embedding.novelty,
            embedding: &decode.embedding.values,
            shift_px: seen.shift_px,
            shift_peak: seen.shift_peak,
            light: seen.light,
        }
    }
}
