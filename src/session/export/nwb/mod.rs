//! `haltere export --to nwb`: a session as one file of Neurodata Without Borders.
//!
//! Why it exists: labs share and archive NWB, and its readers know nothing of sessions. What it must never do: invent what nobody
//! measured or entered, mix times of different clocks, or leave an incomplete file under the final name.
//!
//! | where | what |
//! |---|---|
//! | `acquisition/TwoPhotonSeries…` | raw frames of each channel, (time, x, y), at the times of their receipt |
//! | `acquisition/FrameNumber`, `MicroscopeTime-…`, `marks` | the sender's numbers and times; the experimenter's notes |
//! | `acquisition/sender_clock` | how the clock of the sender's times lay to the daemon's |
//! | `processing/behavior/…` | one row for each decoded frame: embedding, probabilities, action, quality, shift, latency …; events |
//! | `processing/behavior/decisions` | what the rules decided, and the ends of outputs |
//! | `intervals/decided_outputs` | each output from its first pulse to the end of its last, or to where it had to end |
//! | `intervals/decoded_bouts` | frame after frame decoded as the same action, of quality ok |
//!
//! It uses only what NWB has had since 2.0, and no extension, so that every reader can open it.

mod bouts;
mod clocks;
mod decisions;
mod decodes;
mod events;
mod frames;
mod general;
mod h5;
mod metadata;
mod timeline;

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, bail};
use rust_hdf5::H5File;

use self::h5::{Nwb, text, texts};
use self::metadata::Metadata;
use self::timeline::Timeline;
use crate::session::rows::Recorded;
use crate::session::{Item, Reader, Topic, layout};
use crate::sys::calendar::unix_ns;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::{put_in_place, unfinished};
use crate::wire::decision::What;

/// The version whose types are used; later ones have them, too.
const NWB_VERSION: &str = "2.8.0";

/// Writes `recorded` and the frames of its session into `out`; returns what is in it, in words.
///
/// # Errors
/// A session without frames and decodes, or without calendar time; invalid metadata; a file that cannot be written.
pub fn export(recorded: &Recorded, out: &Path, metadata: Option<&Path>) -> anyhow::Result<String> {
    let metadata = metadata.map(Metadata::read).transpose()?.unwrap_or_default();
    let session = &recorded.outline.path;
    let first = first_and_channels(session)?;
    if first.is_none() && recorded.decodes.iter().all(|decode| decode.decoded.is_none()) {
        let what = format!("{}: contains neither frames nor decodes", session.display());
        bail!(Failure { code: ExitCode::Source, what });
    }
    let timeline = Timeline::of(recorded, first.map(|(received, _)| received))?;
    let partial = unfinished(out);
    let channels = first.map_or(0, |(_, channels)| channels);
    let written = write(&partial, recorded, &metadata, (timeline, channels));
    let written = written.and_then(|summary| {
        put_in_place(&partial, out)?;
        Ok(summary)
    });
    let summary = written.map_err(|cause| {
        // It may not even exist.
        let _ = std::fs::remove_file(&partial);
        let of_session = cause.downcast_ref::<Failure>().is_some_and(|failure| failure.code == ExitCode::Source);
        let what = format!(
            "{}: cannot be written; check that the folder exists, may be written to, and has room",
            out.display()
        );
        if of_session { cause } else { cause.context(Failure { code: ExitCode::Sink, what }) }
    })?;
    let missing = metadata.missing();
    if !missing.is_empty() {
        tracing::warn!(
            "{} not given: the file is complete, but archives require it; add it with --metadata FILE.toml (see config/nwb-example.toml)",
            missing.join(", ")
        );
    }
    Ok(summary)
}

/// Earliest receipt of a frame, ns, and the largest number of channels.
fn first_and_channels(session: &Path) -> anyhow::Result<Option<(u64, usize)>> {
    let no_source = || Failure { code: ExitCode::Source, what: session.display().to_string() };
    let mut reader = Reader::open(session).with_context(no_source)?;
    let mut found = None;
    while let Some(item) = reader.read().with_context(no_source)? {
        let Item::Message { topic: Topic::Frames, data, .. } = item else { continue };
        let info = layout::read(&data).map_err(|cause| anyhow::anyhow!("a frame {cause}")).with_context(no_source)?.0;
        let (received, channels) = found.unwrap_or((info.t_received_ns, 0));
        found = Some((received.min(info.t_received_ns), channels.max(info.shape.channels)));
    }
    Ok(found)
}

fn write(
    path: &Path,
    recorded: &Recorded,
    metadata: &Metadata,
    (timeline, channels): (Timeline, usize),
) -> anyhow::Result<String> {
    let about = |key: &str| recorded.outline.about.get(key).map_or("unknown", String::as_str);
    let identifier = format!("haltere-{}-{}", about("rig"), about("began_unix_ns"));
    let nwb = Nwb { file: H5File::create(path)?, identifier };
    let root = nwb.file.root_group();
    nwb.mark(&root, ("core", "NWBFile"))?;
    root.set_attr_string("nwb_version", NWB_VERSION)?;
    head(&nwb, recorded, metadata, timeline)?;
    let [acquisition, processing] = ["acquisition", "processing"].map(|name| nwb.group(&root, name));
    let (acquisition, processing) = (acquisition?, processing?);
    nwb.group(&root, "analysis")?;
    let stimulus = nwb.group(&root, "stimulus")?;
    ["presentation", "templates"].iter().try_for_each(|name| nwb.group(&stimulus, name).map(drop))?;
    let channels = general::write(&nwb, recorded, metadata, &acquisition, channels)?;
    let bar = crate::sys::progress::progress_bar(
        Some(recorded.frames),
        std::io::stderr().is_terminal(),
        crate::sys::progress::FRAMES,
    );
    let session = &recorded.outline.path;
    let frames = frames::write(&nwb, session, &channels, timeline, |done| bar.set_position(done));
    bar.finish_and_clear();
    let frames = frames?;
    let module = nwb.object(&processing, "behavior", ("core", "ProcessingModule"))?;
    module.set_attr_string(
        "description",
        "What was decoded from the frames while they came, and what happened meanwhile.",
    )?;
    let rows = decodes::write(&nwb, &module, recorded, timeline)?;
    events::marks(&nwb, &acquisition, recorded, timeline)?;
    clocks::write(&nwb, &acquisition, recorded, timeline)?;
    events::events(&nwb, &module, recorded, timeline)?;
    decisions::decisions(&nwb, &module, recorded, timeline)?;
    let (bouts, outputs) = (bouts::bouts(&recorded.decodes), decisions::outputs(&recorded.decisions));
    if !(bouts.is_empty() && outputs.is_empty()) {
        let intervals = nwb.group(&root, "intervals")?;
        events::bouts(&nwb, &intervals, &bouts, timeline)?;
        decisions::intervals(&nwb, &intervals, &outputs, timeline)?;
    }
    nwb.file.close()?;
    let decided = recorded.decisions.iter().filter(|decision| decision.what != What::Ended).count();
    let decided = if decided > 0 { format!(", {decided} decisions") } else { String::new() };
    Ok(format!("{frames} frames, {rows} decodes, {} bouts{decided}", bouts.len()))
}

/// Writes the data sets at the root.
fn head(nwb: &Nwb, recorded: &Recorded, metadata: &Metadata, timeline: Timeline) -> anyhow::Result<()> {
    let root = nwb.file.root_group();
    let rig = recorded.outline.about.get("rig").map_or("unknown", String::as_str);
    let own = format!("Two-photon imaging, recorded and decoded live by haltere on the rig {rig}.");
    text(&root, "identifier", &nwb.identifier)?;
    text(&root, "session_description", metadata.session_description.as_deref().unwrap_or(&own))?;
    text(&root, "session_start_time", &timeline.zero())?;
    text(&root, "timestamps_reference_time", &timeline.zero())?;
    texts(&root, "file_create_date", &[timeline::iso(unix_ns().into())])?;
    Ok(())
}
