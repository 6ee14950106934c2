//! A recorded decode as a rule sees it, which is what the daemon showed it.

use crate::decide::{Moment, Seen};
use crate::session::messages::DecodeRecord;

/// What a rule sees of a recorded decode; `None` of a neutral one.
pub(super) fn seen_in(record: &DecodeRecord) -> Option<Seen<'_>> {
    let (frame, decoded) = (record.frame?, record.decoded.as_ref()?);
    let moment = Moment {
        device: record.t_device_ns.zip(record.t_device_clock),
        received_ns: record.t_recv_ns,
        number: frame,
        ordinal: frame,
    };
    Some(Seen {
        moment,
        quality: decoded.quality,
        distrust: decoded.distrust,
        action: decoded.action_id,
        probabilities: &decoded.probs,
        outputs: &decoded.outputs,
        novelty: decoded.novelty,
        embedding: &decoded.embedding,
        shift_px: record.shift_px,
        shift_peak: record.shift_peak.unwrap_or(0.0),
        light: decoded.light,
    })
}
