//! `haltere export`: a session as NWB, its decodes as a table or as an array.
//!
//! Why it exists: an analysis begins in pandas or numpy, not in MCAP. What it must never do: leave half a file under the name of a
//! whole one, or round a value.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use ndarray::Array2;
use ndarray_npy::WriteNpyExt;

use super::rows::Recorded;
use super::warn_of;
use crate::cli::{ExportArgs, ExportForm};
use crate::exit::{ExitCode, Failure};
use crate::session::messages::DecodeRecord;

/// Columns of the table before the embedding.
const COLUMNS: &str = "seq,frame,frame_gap,skipped,series,t_device_ns,t_recv_ns,t_pub_ns,quality,reason,action,confidence,novelty,shift_dy_px,shift_dx_px,shift_peak,queue_us,preprocess_us,encode_us,total_us";

/// Writes what was asked for.
///
/// # Errors
/// A file that is no session or holds no decode, or one that cannot be written.
pub fn command(args: &ExportArgs) -> anyhow::Result<()> {
    warn_of(&args.session)?;
    if let (Some(file), ExportForm::Csv | ExportForm::Npy) = (&args.metadata, args.to) {
        let what =
            format!("--metadata {}: only NWB has a place for it; leave it out, or export --to nwb", file.display());
        bail!(Failure { code: ExitCode::Usage, what });
    }
    let recorded = Recorded::read(&args.session)?;
    if args.to == ExportForm::Nwb {
        return super::nwb::export(&recorded, &args.out, args.metadata.as_deref());
    }
    let of_frames: Vec<&DecodeRecord> = recorded.decodes.iter().filter(|decode| decode.decoded.is_some()).collect();
    if of_frames.is_empty() {
        let what = format!("{}: holds no decode of a frame", args.session.display());
        bail!(Failure { code: ExitCode::Source, what });
    }
    let bytes = match args.to {
        ExportForm::Csv => table(&of_frames).into_bytes(),
        ExportForm::Npy | ExportForm::Nwb => array(&of_frames)?,
    };
    let written = crate::model::write_whole(&args.out, &bytes);
    written.with_context(|| Failure {
        code: ExitCode::Sink,
        what: format!("{}: cannot be written", args.out.display()),
    })?;
    println!("{} rows  {}", of_frames.len(), Path::new(&args.out).display());
    Ok(())
}

fn table(decodes: &[&DecodeRecord]) -> String {
    let dimensions = decodes.iter().filter_map(|d| d.decoded.as_ref()).map(|d| d.embedding.len()).max().unwrap_or(0);
    let mut text = COLUMNS.to_owned();
    // Writing to a String cannot fail, here and below.
    (0..dimensions).for_each(|index| write!(text, ",e{index}").unwrap_or_default());
    text.push('\n');
    for decode in decodes {
        row(decode, &mut text);
    }
    text
}

fn row(decode: &DecodeRecord, text: &mut String) {
    fn maybe<T: std::fmt::Display>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let (shift, latency) = (decode.shift_px, decode.latency_us);
    let fields = [
        decode.seq.to_string(),
        maybe(decode.frame),
        maybe(decode.frame_gap),
        maybe(decode.skipped),
        maybe(decode.series.as_deref()),
        maybe(decode.t_device_ns),
        maybe(decode.t_recv_ns),
        decode.t_pub_ns.to_string(),
        decode.quality.name().to_owned(),
        maybe(decode.reason.as_deref()),
        quoted(decode.action.as_deref().unwrap_or_default()),
        maybe(decode.confidence),
        maybe(decode.decoded.as_ref().and_then(|decoded| decoded.novelty)),
        maybe(shift.map(|shift| shift[0])),
        maybe(shift.map(|shift| shift[1])),
        maybe(decode.shift_peak),
        maybe(latency.map(|latency| latency.queue)),
        maybe(latency.map(|latency| latency.preprocess)),
        maybe(latency.map(|latency| latency.encode)),
        maybe(latency.map(|latency| latency.total)),
    ];
    text.push_str(&fields.join(","));
    let values = decode.decoded.iter().flat_map(|decoded| &decoded.embedding);
    values.for_each(|value| write!(text, ",{value}").unwrap_or_default());
    text.push('\n');
}

/// A label may hold anything.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn array(decodes: &[&DecodeRecord]) -> anyhow::Result<Vec<u8>> {
    let embeddings: Vec<&[f32]> =
        decodes.iter().filter_map(|d| d.decoded.as_ref()).map(|decoded| decoded.embedding.as_slice()).collect();
    let dimensions = embeddings.first().map_or(0, |embedding| embedding.len());
    let array = Array2::from_shape_vec((embeddings.len(), dimensions), embeddings.concat())
        .context("the model was exchanged in mid-run for one of another size: export to csv")?;
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes)?;
    Ok(bytes)
}
