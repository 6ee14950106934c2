//! The columns before the embedding, the same in every tabular format.

use std::fmt;

use crate::publish::npy::of_output;
use crate::session::messages::DecodeRecord;

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned,
    Signed,
    Float,
    Double,
    Text,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f32),
    Double(f64),
    Text(&'a str),
}

impl fmt::Display for Cell<'_> {
    /// With enough digits to read back the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// One column.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "Parquet alone has types; a test reads them as well"))]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Does every decode have a value here?
    pub(super) always: bool,
    /// Its value in a row.
    pub(super) of: for<'a> fn(&'a DecodeRecord) -> Option<Cell<'a>>,
}

const fn always(name: &'static str, kind: Kind, of: for<'a> fn(&'a DecodeRecord) -> Option<Cell<'a>>) -> Column {
    Column { name, kind, always: true, of }
}

const fn maybe(name: &'static str, kind: Kind, of: for<'a> fn(&'a DecodeRecord) -> Option<Cell<'a>>) -> Column {
    Column { name, kind, always: false, of }
}

/// All of them, in their order.
pub(super) const COLUMNS: [Column; 23] = [
    always("seq", Kind::Unsigned, |d| Some(Cell::Unsigned(d.seq))),
    maybe("frame", Kind::Unsigned, |d| d.frame.map(Cell::Unsigned)),
    maybe("frame_gap", Kind::Unsigned, |d| d.frame_gap.map(Cell::Unsigned)),
    maybe("skipped", Kind::Unsigned, |d| d.skipped.map(Cell::Unsigned)),
    maybe("series", Kind::Text, |d| d.series.as_deref().map(Cell::Text)),
    maybe("t_device_ns", Kind::Signed, |d| d.t_device_ns.map(Cell::Signed)),
    maybe("t_recv_ns", Kind::Unsigned, |d| d.t_recv_ns.map(Cell::Unsigned)),
    always("t_pub_ns", Kind::Unsigned, |d| Some(Cell::Unsigned(d.t_pub_ns))),
    always("quality", Kind::Text, |d| Some(Cell::Text(d.quality.name()))),
    maybe("reason", Kind::Text, |d| d.reason.as_deref().map(Cell::Text)),
    maybe("action", Kind::Text, |d| d.action.as_deref().map(Cell::Text)),
    maybe("confidence", Kind::Float, |d| d.confidence.map(Cell::Float)),
    maybe("novelty", Kind::Float, |d| d.decoded.as_ref().and_then(|decoded| decoded.novelty).map(Cell::Float)),
    maybe("shift_dy_px", Kind::Float, |d| d.shift_px.map(|[dy, _]| Cell::Float(dy))),
    maybe("shift_dx_px", Kind::Float, |d| d.shift_px.map(|[_, dx]| Cell::Float(dx))),
    maybe("shift_peak", Kind::Float, |d| d.shift_peak.map(Cell::Float)),
    maybe("queue_us", Kind::Double, |d| d.latency_us.map(|latency| Cell::Double(latency.queue))),
    maybe("preprocess_us", Kind::Double, |d| d.latency_us.map(|latency| Cell::Double(latency.preprocess))),
    maybe("encode_us", Kind::Double, |d| d.latency_us.map(|latency| Cell::Double(latency.encode))),
    maybe("total_us", Kind::Double, |d| d.latency_us.map(|latency| Cell::Double(latency.total))),
    maybe("age_us", Kind::Double, |d| d.age_us.map(Cell::Double)),
    maybe("caught_up", Kind::Unsigned, |d| d.caught_up.map(Cell::Unsigned)),
    maybe("decisions", Kind::Text, |d| d.decisions.as_deref().map(Cell::Text)),
];

/// The columns behind [`COLUMNS`]: the continuous outputs, then the dimensions of the embedding.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers {
    pub(super) outputs: Vec<String>,
    pub(super) dimensions: usize,
}

impl Numbers {
    /// Those of a session whose first decode this is. `outputs` are the names that the session states.
    pub(super) fn of(decode: &DecodeRecord, outputs: Vec<String>) -> Self {
        let decoded = decode.decoded.as_ref();
        let (count, dimensions) = decoded.map_or((0, 0), |decoded| (decoded.outputs.len(), decoded.embedding.len()));
        let named = outputs.into_iter().chain(std::iter::repeat("(not named)".to_owned()));
        Self { outputs: named.take(count).collect(), dimensions }
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.outputs.iter().map(|name| of_output(name)).chain((0..self.dimensions).map(|index| format!("e{index}")))
    }

    /// Their values in a row. A session holds one model; a decode of another size would shift every column behind it.
    ///
    /// # Errors
    /// When it has another size.
    pub(super) fn values<'a>(&self, decode: &'a DecodeRecord) -> Result<impl Iterator<Item = f32> + use<'a>, String> {
        let decoded = decode.decoded.as_ref();
        let (outputs, embedding) = decoded.map_or((&[][..], &[][..]), |own| (&own.outputs[..], &own.embedding[..]));
        let sizes = [(embedding.len(), self.dimensions, "dimensions"), (outputs.len(), self.outputs.len(), "outputs")];
        if let Some((own, first, what)) = sizes.into_iter().find(|(own, first, _)| own != first) {
            let seq = decode.seq;
            return Err(format!("decode {seq} has {own} {what}, the first one {first}: the session is damaged"));
        }
        Ok(outputs.iter().chain(embedding).copied())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A decode as it stands in a session: every second one lacks what a decode may lack.
    pub(in super::super) fn decode(seq: u64) -> DecodeRecord {
        let more = serde_json::json!({
            "frame_gap": 2, "series": "s1", "t_device_ns": -5, "t_recv_ns": u64::MAX, "action": "walk, \"fast\"",
            "confidence": 0.1_f32, "shift_px": [0.25, -1.5], "shift_peak": 0.5, "age_us": 6.5, "caught_up": 3,
            "latency_us": { "queue": 0.1, "preprocess": 2.0, "encode": 3.0, "total": 5.1 },
        });
        let decoded = serde_json::json!({
            "quality": "ok", "action_id": 1, "probs": [0.5], "outputs": [1.25, seq as f32 - 2.0], "novelty": seq.is_multiple_of(2).then_some(0.75),
            "shift_at_bound": false, "shift_doubtful": false, "line_phase_px": 0.0, "non_finite_pixels": 0,
            "saturated_pixels": 0, "frame_rate_hz": 16.0, "series_began": false, "embedding": [seq as f32, 0.1_f32],
        });
        let mut record = serde_json::json!({
            "seq": seq, "frame": seq + 7, "source": "rig1", "t_pub_ns": 9, "quality": "degraded", "decoded": decoded,
        });
        if seq.is_multiple_of(2) {
            record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let mut record: DecodeRecord = serde_json::from_value(record).unwrap();
        record.decisions = seq.is_multiple_of(2).then(|| "walk:output;rest:sham".to_owned());
        record
    }

    /// The columns of these decodes.
    pub(in super::super) fn numbers() -> Numbers {
        Numbers::of(&decode(0), vec!["speed".into(), "turning".into()])
    }

    #[test]
    fn a_column_holds_its_type_and_is_filled_wherever_it_must_be() {
        for (decode, column) in [decode(0), decode(1)].iter().flat_map(|d| COLUMNS.iter().map(move |c| (d, c))) {
            let kind = (column.of)(decode).map(|cell| match cell {
                Cell::Unsigned(_) => Kind::Unsigned,
                Cell::Signed(_) => Kind::Signed,
                Cell::Float(_) => Kind::Float,
                Cell::Double(_) => Kind::Double,
                Cell::Text(_) => Kind::Text,
            });
            assert!(kind.map_or(!column.always, |kind| kind == column.kind), "{}: {kind:?}", column.name);
        }
    }
}
