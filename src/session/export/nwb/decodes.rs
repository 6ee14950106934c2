//! The decodes as series: one row for each decoded frame, at the time of its receipt. A frame that was not decoded has no row, and no
//! value is rounded.

use rust_hdf5::{H5Group, Result};

use super::h5::{Nwb, Series, Times};
use super::timeline::Timeline;
use crate::frame::Quality;
use crate::session::messages::{DecodeRecord, Decoded, ModelRecord};
use crate::session::rows::Recorded;

/// One decode of a frame.
struct Row<'a> {
    decode: &'a DecodeRecord,
    decoded: &'a Decoded,
    seconds: f64,
}

/// Writes the series into the module; returns their number of rows.
pub(super) fn write(nwb: &Nwb, module: &H5Group, recorded: &Recorded, timeline: Timeline) -> Result<usize> {
    let row = |decode| row(decode, timeline);
    let rows: Vec<Row> = recorded.decodes.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let times: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let about = Series { name: "Quality", description: &qualities("as published"), unit: "n.a.", conversion: 1.0 };
    let published: Vec<u8> = rows.iter().map(|row| row.decode.quality.code()).collect();
    let at = nwb.series(module, &about, None, &published, &Times::Own(&times))?;
    plain(nwb, module, &rows, &at)?;
    optional(nwb, module, &rows, &at)?;
    let runs: Vec<&[Row]> = rows.chunk_by(|a, b| same_outputs(a, b)).collect();
    for (index, run) in runs.iter().enumerate() {
        let suffix = if index == 0 { String::new() } else { (index + 1).to_string() };
        let own = runs.len() > 1;
        let named = (&labels(recorded, run)[..], &recorded.outputs()[..]);
        by_model(nwb, module, run, &suffix, named, if own { None } else { Some(&at) })?;
    }
    Ok(rows.len())
}

fn row(decode: &DecodeRecord, timeline: Timeline) -> Option<Row<'_>> {
    Some(Row { decode, decoded: decode.decoded.as_ref()?, seconds: timeline.seconds(decode.t_recv_ns?) })
}

/// Decodes of one model, of one size.
fn same_outputs(a: &Row, b: &Row) -> bool {
    let sizes = |row: &Row| (row.decoded.embedding.len(), row.decoded.probs.len(), row.decoded.outputs.len());
    a.decode.model == b.decode.model && sizes(a) == sizes(b)
}

fn qualities(which: &str) -> String {
    let codes = Quality::ALL.map(|quality| format!("{} {}", quality.code(), quality.name()));
    format!("How far to trust each decode, {which}: {}.", codes.join(", "))
}

/// Series with a value in every row.
fn plain(nwb: &Nwb, module: &H5Group, rows: &[Row], at: &str) -> Result<()> {
    let about = |name, description, unit| Series { name, description, unit, conversion: 1.0 };
    let times = Times::At(at);
    let decoded: Vec<u8> = rows.iter().map(|row| row.decoded.quality.code()).collect();
    let text = qualities("as decoded, before the age of the decode was judged");
    nwb.series(module, &about("DecodedQuality", &text, "n.a."), None, &decoded, &times)?;
    let numbers: Vec<u64> = rows.iter().map(|row| row.decode.frame.unwrap_or_default()).collect();
    let text = "Frame number of each decode, as sent by the microscope.";
    nwb.series(module, &about("DecodedFrame", text, "n.a."), None, &numbers, &times)?;
    let missing = |decode: &DecodeRecord| decode.frame_gap.unwrap_or(0).max(decode.skipped.unwrap_or(0));
    let missing: Vec<u64> = rows.iter().map(|row| missing(row.decode)).collect();
    let text = "Frames missing just before the frame of each decode, either lost on the way or skipped under overload.";
    nwb.series(module, &about("FramesMissing", text, "n.a."), None, &missing, &times)?;
    Ok(())
}

/// Series that only some sessions have; NaN in rows without a value.
fn optional(nwb: &Nwb, module: &H5Group, rows: &[Row], at: &str) -> Result<()> {
    let times = Times::At(at);
    let write = |about: Series, row: Option<usize>, values: &[f32]| -> Result<()> {
        if values.iter().any(|value| !value.is_nan()) {
            nwb.series(module, &about, row, values, &times)?;
        }
        Ok(())
    };
    let about = |name, description, unit| Series { name, description, unit, conversion: 1.0 };
    let confidence: Vec<f32> = rows.iter().map(|row| row.decode.confidence.unwrap_or(f32::NAN)).collect();
    let text = "Probability of the published action; NaN where none was published.";
    write(about("Confidence", text, "n.a."), None, &confidence)?;
    let novelty: Vec<f32> = rows.iter().map(|row| row.decoded.novelty.unwrap_or(f32::NAN)).collect();
    let text = "Novelty of the embedding, 0 to 1: its rank among held-out samples of the model's training.";
    write(about("Novelty", text, "n.a."), None, &novelty)?;
    let shift: Vec<f32> = rows.iter().flat_map(|row| row.decode.shift_px.unwrap_or([f32::NAN; 2])).collect();
    let text = "Shift of the image relative to the template: down (dy), right (dx).";
    write(about("Shift", text, "pixels"), Some(2), &shift)?;
    if rows.iter().any(|row| row.decode.latency_us.is_some()) {
        let latency = |row: &Row| {
            row.decode.latency_us.map_or([f64::NAN; 4], |us| [us.queue, us.preprocess, us.encode, us.total])
        };
        let values: Vec<f64> = rows.iter().flat_map(latency).collect();
        let description = "Latency of each decode: waiting, preprocessing, encoding, and total from receipt to publishing. Stored in microseconds.";
        let about = Series { name: "Latency", description, unit: "seconds", conversion: 1e-6 };
        nwb.series(module, &about, Some(4), &values, &times)?;
    }
    if rows.iter().any(|row| row.decode.age_us.is_some()) {
        let values: Vec<f64> = rows.iter().map(|row| row.decode.age_us.unwrap_or(f64::NAN)).collect();
        let description = "Age of the frame of each decode at publication, by the microscope's time stamps; NaN where it is not known. Stored in microseconds.";
        let about = Series { name: "Age", description, unit: "seconds", conversion: 1e-6 };
        nwb.series(module, &about, None, &values, &times)?;
    }
    Ok(())
}

/// The outputs of one model, for its own rows.
fn by_model(
    nwb: &Nwb,
    module: &H5Group,
    rows: &[Row],
    suffix: &str,
    (labels, outputs): (&[String], &[String]),
    at: Option<&str>,
) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let own: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let times = at.map_or(Times::Own(&own), Times::At);
    let model = model_words(first.decode.model.as_ref());
    let write = |name: &str, description: String, unit, values: Vec<f32>, columns: usize| -> Result<()> {
        if columns > 0 {
            let name = format!("{name}{suffix}");
            let about = Series { name: &name, description: &description, unit, conversion: 1.0 };
            nwb.series(module, &about, Some(columns), &values, &times)?;
        }
        Ok(())
    };
    let dimensions = first.decoded.embedding.len();
    let values = rows.iter().flat_map(|row| row.decoded.embedding.iter().copied()).collect();
    write("Embedding", format!("Action embedding of {model}, {dimensions} dimensions."), "a.u.", values, dimensions)?;
    let named = labels.join(", ");
    let values = rows.iter().flat_map(|row| row.decoded.probs.iter().copied()).collect();
    let text = format!("Probability of each action by {model}: {named}.");
    write("ActionProbabilities", text, "n.a.", values, first.decoded.probs.len())?;
    let values = rows.iter().flat_map(|row| row.decoded.outputs.iter().copied()).collect();
    let text = format!("Continuous outputs of {model}, as decoded, each in its own unit: {}.", outputs.join(", "));
    write("Outputs", text, "a.u.", values, first.decoded.outputs.len())?;
    let actions: Vec<i16> =
        rows.iter().map(|row| row.decoded.action_id.and_then(|id| i16::try_from(id).ok()).unwrap_or(-1)).collect();
    if actions.iter().all(|action| *action < 0) {
        return Ok(());
    }
    let description =
        format!("Index of the most probable action by {model}, from 0: {named}; -1 where none was decoded.");
    let name = format!("Action{suffix}");
    let about = Series { name: &name, description: &description, unit: "n.a.", conversion: 1.0 };
    nwb.series(module, &about, None, &actions, &times)?;
    Ok(())
}

/// Describes a model.
pub(super) fn model_words(model: Option<&ModelRecord>) -> String {
    let Some(ModelRecord { name, sha256, generation }) = model else {
        return "a model that the session does not name".to_owned();
    };
    format!("the model {name} (SHA-256 {sha256}, the daemon's number {generation})")
}

/// Labels of a model: those in the session's metadata, else those that were published.
fn labels(recorded: &Recorded, rows: &[Row]) -> Vec<String> {
    let count = rows.first().map_or(0, |row| row.decoded.probs.len());
    let about = &recorded.outline.about;
    let model = rows.first().and_then(|row| row.decode.model.as_ref());
    let own = model.is_none_or(|model| about.get("model_sha256") == Some(&model.sha256));
    let listed: Option<Vec<String>> = about.get("labels").and_then(|text| serde_json::from_str(text).ok());
    if let Some(labels) = listed.filter(|labels| own && labels.len() == count) {
        return labels;
    }
    let mut labels = vec!["(never published)".to_owned(); count];
    for row in rows.iter().filter(|row| row.decode.quality == Quality::Ok) {
        if let (Some(id), Some(action)) = (row.decode.action_id.or(row.decoded.action_id), &row.decode.action)
            && let Some(label) = labels.get_mut(id)
        {
            label.clone_from(action);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quality_has_a_code_of_its_own() {
        assert_eq!(Quality::ALL.map(Quality::code), [0, 1, 2, 3, 4]);
        assert!(qualities("as published").contains("0 ok, 1 degraded, 2 warmup, 3 stale, 4 fail"));
    }
}
