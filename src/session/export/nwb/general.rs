//! `/general`: animal, lab, microscope, and how the data were acquired.
//!
//! Why it exists: NWB requires a description of the imaging plane and the optical channel of every series. What it must never do:
//! claim more than the session or the user knows; a required text that nobody entered is "unknown", a number NaN.

use rust_hdf5::{H5Group, Result};

use super::frames::Channels;
use super::h5::{Nwb, array, attribute, number, text, texts};
use super::metadata::{Channel, Metadata};
use crate::session::rows::Recorded;

const UNKNOWN: &str = "unknown";

/// Writes the group, with an imaging plane for each of `channels` channels.
pub(super) fn write<'a>(
    nwb: &Nwb,
    recorded: &Recorded,
    metadata: &Metadata,
    acquisition: &'a H5Group,
    channels: usize,
) -> Result<Channels<'a>> {
    let general = nwb.group(&nwb.file.root_group(), "general")?;
    for (key, value) in metadata.general() {
        text(&general, key, value)?;
    }
    for (key, list) in metadata.lists() {
        texts(&general, key, list)?;
    }
    text(&general, "data_collection", &acquisition_text(recorded))?;
    if let Some(subject) = &metadata.subject {
        let group = nwb.object(&general, "subject", ("core", "Subject"))?;
        subject.texts().into_iter().try_for_each(|(key, value)| text(&group, key, value))?;
    }
    microscope(nwb, &nwb.group(&general, "devices")?, recorded, metadata)?;
    let planes = nwb.group(&general, "optophysiology")?;
    let suffixes: Vec<String> = (0..channels).map(|index| suffix(metadata, index, channels)).collect();
    let rate_hz = recorded.outline.frame_rate_hz;
    let made = suffixes.iter().enumerate().map(|(index, suffix)| {
        let channel = metadata.channels.get(index).cloned().unwrap_or_default();
        plane(nwb, &planes, &format!("ImagingPlane{suffix}"), index, &channel, metadata, rate_hz)
    });
    Ok(Channels { acquisition, planes: made.collect::<Result<_>>()?, suffixes })
}

/// Suffix of the names of a channel's series and imaging plane.
fn suffix(metadata: &Metadata, index: usize, channels: usize) -> String {
    match metadata.channels.get(index).and_then(|channel| channel.name) {
        Some(name) => format!("-{name}"),
        None if channels == 1 => String::new(),
        None => (index + 1).to_string(),
    }
}

/// How the session was acquired, from its own metadata.
fn acquisition_text(recorded: &Recorded) -> String {
    let about = |key: &str| recorded.outline.about.get(key).map_or(UNKNOWN, String::as_str);
    let mut text = format!(
        "Recorded and decoded live by haltere {} (revision {}) on the rig {}, device {}; model {} (SHA-256 {}); deadline {} ms. Exported by haltere {}. \
         Times are times of receipt on the machine's CLOCK_MONOTONIC, converted to calendar time by one offset measured at the start.",
        about("haltere"),
        about("git_revision"),
        about("rig"),
        about("device"),
        about("model"),
        about("model_sha256"),
        about("deadline_ms"),
        env!("CARGO_PKG_VERSION"),
    );
    for warning in recorded.warnings() {
        text.push_str(" Note: ");
        text.push_str(&warning);
        text.push('.');
    }
    text
}

fn microscope(nwb: &Nwb, devices: &H5Group, recorded: &Recorded, metadata: &Metadata) -> Result<()> {
    let device = nwb.object(devices, "Microscope", ("core", "Device"))?;
    let source = recorded.decodes.first().map_or(UNKNOWN, |decode| decode.source.as_str());
    let own = format!("The two-photon microscope that sent the frames of source {source}.");
    device.set_attr_string("description", metadata.microscope.description.as_deref().unwrap_or(&own))?;
    match &metadata.microscope.manufacturer {
        Some(name) => device.set_attr_string("manufacturer", name),
        None => Ok(()),
    }
}

/// Writes one channel's imaging plane with its optical channel; returns its path.
fn plane(
    nwb: &Nwb,
    planes: &H5Group,
    name: &str,
    index: usize,
    channel: &Channel,
    metadata: &Metadata,
    rate_hz: Option<f64>,
) -> Result<String> {
    let plane = nwb.object(planes, name, ("core", "ImagingPlane"))?;
    let microscope = &metadata.microscope;
    text(&plane, "description", &format!("The imaging plane, channel {} of the frames.", index + 1))?;
    text(&plane, "indicator", channel.indicator.as_deref().unwrap_or(UNKNOWN))?;
    text(&plane, "location", microscope.location.as_deref().unwrap_or(UNKNOWN))?;
    number(&plane, "excitation_lambda", microscope.excitation_nm.unwrap_or(f32::NAN))?;
    // Measured: the median rate of the frames' times of receipt.
    if let Some(rate) = rate_hz {
        number(&plane, "imaging_rate", rate as f32)?;
    }
    if let Some(um) = microscope.pixel_um {
        let spacing = array(&plane, "grid_spacing", &[2], &um.map(|um| um * 1e-6))?;
        attribute(&spacing, "unit", "meters")?;
    }
    plane.create_soft_link("device", "/general/devices/Microscope")?;
    let optical = nwb.object(&plane, "OpticalChannel", ("core", "OpticalChannel"))?;
    let own = format!("Channel {} of the frames.", index + 1);
    text(&optical, "description", channel.description.as_deref().unwrap_or(&own))?;
    number(&optical, "emission_lambda", channel.emission_nm.unwrap_or(f32::NAN))?;
    Ok(plane.name().to_owned())
}
