//! Tracks of SLEAP (Pereira et al. 2022): the HDF5 analysis file that SLEAP and sleap-io export.
//!
//! What it must never do: choose among several animals, or guess which axis is which: SLEAP writes `tracks` as [tracks, 2, nodes,
//! frames]; newer writers use any order and state it in the attribute `dims`.
//!
//! Columns are `node_x`, `node_y` of one track, the only one or the one that the key `track` names. `point_scores`,
//! `instance_scores`, `tracking_scores` and `track_occupancy` are the tracker's confidence, not behaviour, and are left out, like
//! DeepLabCut's likelihood. A node that was not found is NaN.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ndarray::Array2;
use rust_hdf5::{H5Dataset, H5File};

use crate::dataset::error::DatasetError;
use crate::dataset::table::Table;

/// The first bytes of an HDF5 file.
const MAGIC: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
/// Largest `tracks`, values: 4 GiB of float64.
const VALUES_MAX: usize = 1 << 29;

/// Is it HDF5?
pub(crate) fn is_hdf5(path: &Path) -> Result<bool, DatasetError> {
    let mut head = [0; MAGIC.len()];
    let file = File::open(path).map_err(|e| DatasetError::file(path, e))?;
    Ok(file.read_exact_at(&mut head, 0).is_ok() && head == MAGIC)
}

/// Reads the poses of one track.
pub(crate) fn table(path: &Path, track: Option<&str>) -> Result<Table, DatasetError> {
    is_whole(path).and_then(|()| read(path, track)).map_err(|cause| DatasetError::file(path, cause))
}

/// Lengths and strides of the axes of `tracks`.
struct Axes {
    lengths: [usize; 4],
    strides: [usize; 4],
}

/// Places in [`Axes`].
const TRACK: usize = 0;
const XY: usize = 1;
const NODE: usize = 2;
const FRAME: usize = 3;

fn read(path: &Path, track: Option<&str>) -> Result<Table, String> {
    let file = H5File::open(path).map_err(|e| format!("is not a readable HDF5 file: {e}"))?;
    let names = file.dataset_names();
    let has = |wanted: &str| names.iter().any(|name| name.trim_start_matches('/') == wanted);
    if !has("tracks") || !has("node_names") {
        return Err(without_tracks(&names));
    }
    let tracks = file.dataset("tracks").map_err(|e| format!("\"tracks\": {e}"))?;
    let nodes = strings(&file, "node_names")?;
    let track_names = if has("track_names") { strings(&file, "track_names")? } else { Vec::new() };
    let axes = axes(&tracks, nodes.len(), track_names.len())?;
    let values = numbers(&tracks)?;
    let count = axes.lengths[TRACK];
    let named = track_names.len() == count;
    let track_names = if named { track_names } else { (0..count).map(|track| track.to_string()).collect() };
    let chosen = choose(track, &track_names, |track| occupied(&axes, &values, track))?;
    let at = |frame: usize, column: usize| {
        let place = [(TRACK, chosen), (XY, column % 2), (NODE, column / 2), (FRAME, frame)];
        values[place.iter().map(|(axis, index)| axes.strides[*axis] * index).sum::<usize>()] as f32
    };
    let shape = (axes.lengths[FRAME], 2 * axes.lengths[NODE]);
    let names = nodes.iter().flat_map(|node| ["x", "y"].map(|end| format!("{node}_{end}"))).collect();
    Ok(Table::new(Array2::from_shape_fn(shape, |(frame, column)| at(frame, column)), names))
}

/// What an HDF5 file without tracks probably is.
fn without_tracks(names: &[String]) -> String {
    let is = |part: &str| names.iter().any(|name| name.contains(part));
    let advice = match () {
        () if is("pred_points") || is("instances") => {
            "it looks like a SLEAP project; export it: `sleap-convert --format analysis`"
        }
        () if is("df_with_missing") => "it looks like a DeepLabCut table; use its CSV (`save_as_csv=True`)",
        () => "only SLEAP's analysis file can be read as behaviour",
    };
    format!("is HDF5 without `tracks` and `node_names`: {advice}; its datasets are: {}", names.join(", "))
}

/// Which length belongs to which axis: by `dims`, otherwise by the three orders that are written without it.
fn axes(tracks: &H5Dataset, nodes: usize, named: usize) -> Result<Axes, String> {
    let shape = tracks.shape();
    let &[a, b, c, d] = shape.as_slice() else {
        return Err(format!("\"tracks\" has the shape {shape:?}; it has four axes: tracks, 2, nodes, frames"));
    };
    let shape = [a, b, c, d];
    let order = match dims(tracks)? {
        Some(order) => order,
        None => by_lengths(shape, nodes, named)?,
    };
    let mut stride = [1; 4];
    (0..3).rev().for_each(|axis| stride[axis] = stride[axis + 1] * shape[axis + 1]);
    let place = |what: usize| order.iter().position(|axis| *axis == what).unwrap_or(0);
    let axes = Axes {
        lengths: [0, 1, 2, 3].map(|what| shape[place(what)]),
        strides: [0, 1, 2, 3].map(|what| stride[place(what)]),
    };
    if axes.lengths[XY] != 2 || axes.lengths[NODE] != nodes {
        return Err(format!(
            "\"tracks\" has the shape {shape:?}, which has no axis of 2 for x and y, or none of {nodes} for the nodes of `node_names`"
        ));
    }
    Ok(axes)
}

/// The order of the axes by the attribute `dims`: JSON, or words with commas.
fn dims(tracks: &H5Dataset) -> Result<Option<[usize; 4]>, String> {
    let failed = |e: rust_hdf5::Hdf5Error| format!("the attribute `dims` of \"tracks\": {e}");
    if !tracks.attr_names().map_err(failed)?.iter().any(|name| name == "dims") {
        return Ok(None);
    }
    let text = tracks.attr("dims").and_then(|dims| dims.read_string()).map_err(failed)?;
    let words: Vec<String> = serde_json::from_str(&text)
        .unwrap_or_else(|_| text.split([',', ' ', '(', ')']).filter(|w| !w.is_empty()).map(str::to_owned).collect());
    let what = |word: &String| match word.to_lowercase().trim_end_matches('s') {
        "track" => Some(TRACK),
        "xy" | "coord" | "coordinate" | "space" => Some(XY),
        "node" | "keypoint" => Some(NODE),
        "frame" | "time" => Some(FRAME),
        _ => None,
    };
    let order: Option<Vec<usize>> = words.iter().map(what).collect();
    let order: Option<[usize; 4]> = order.and_then(|order| order.try_into().ok());
    let whole = order.filter(|order| (0..4).all(|axis| order.contains(&axis)));
    whole
        .map(Some)
        .ok_or_else(|| format!("the attribute `dims` of \"tracks\" is {text:?}; it names track, xy, node and frame"))
}

fn by_lengths(shape: [usize; 4], nodes: usize, named: usize) -> Result<[usize; 4], String> {
    let known = [[TRACK, XY, NODE, FRAME], [FRAME, NODE, XY, TRACK], [FRAME, TRACK, NODE, XY]];
    let fits = |order: &&[usize; 4]| {
        order.iter().zip(shape).all(|(what, length)| match *what {
            XY => length == 2,
            NODE => length == nodes,
            TRACK => named == 0 || length == named,
            _ => true,
        })
    };
    match known.iter().filter(fits).collect::<Vec<_>>().as_slice() {
        [one] => Ok(**one),
        [] => Err(format!(
            "\"tracks\" has the shape {shape:?} for {nodes} nodes and {named} named tracks; SLEAP writes [tracks, 2, nodes, frames]"
        )),
        _ => Err(format!(
            "\"tracks\" has the shape {shape:?}, in which more than one axis could be x and y, nodes or tracks, and no attribute `dims` \
             that tells them apart: export it with sleap-io, which writes `dims`"
        )),
    }
}

fn numbers(tracks: &H5Dataset) -> Result<Vec<f64>, String> {
    let count = tracks.shape().iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if count.is_none_or(|count| count > VALUES_MAX) {
        return Err(format!("\"tracks\" has the shape {:?}; at most {VALUES_MAX} values are read", tracks.shape()));
    }
    let values = tracks.read_numeric_as::<f64>().map_err(|e| format!("\"tracks\": {e}"))?;
    if Some(values.len()) == count { Ok(values) } else { Err("\"tracks\" holds fewer values than its shape".into()) }
}

fn strings(file: &H5File, name: &str) -> Result<Vec<String>, String> {
    let failed = |e: rust_hdf5::Hdf5Error| format!("{name:?}: {e}");
    let set = file.dataset(name).map_err(failed)?;
    // An empty data set may have any type.
    if set.total_elements() == 0 {
        return Ok(Vec::new());
    }
    if set.total_elements().saturating_mul(set.element_size()) > VALUES_MAX {
        return Err(format!("{name:?} claims {} names", set.total_elements()));
    }
    let texts = set.read_strings_lossy().map_err(failed)?;
    Ok(texts.into_iter().map(|text| text.trim_end_matches('\0').trim().to_owned()).collect())
}

/// Frames in which a track has a point.
fn occupied(axes: &Axes, values: &[f64], track: usize) -> usize {
    let found = |frame: &usize| {
        (0..axes.lengths[NODE]).any(|node| {
            values[axes.strides[TRACK] * track + axes.strides[NODE] * node + axes.strides[FRAME] * frame].is_finite()
        })
    };
    (0..axes.lengths[FRAME]).filter(found).count()
}

fn choose(asked: Option<&str>, names: &[String], occupied: impl Fn(usize) -> usize) -> Result<usize, String> {
    let list = || {
        let each = names.iter().enumerate().map(|(at, name)| format!("{name} ({} frames)", occupied(at)));
        each.collect::<Vec<_>>().join(", ")
    };
    match asked {
        Some(asked) => {
            let by_name = names.iter().position(|name| name == asked);
            let by_number = || asked.parse().ok().filter(|at| *at < names.len());
            by_name
                .or_else(by_number)
                .ok_or_else(|| format!("has no track {asked:?}; `track` must name one of: {}", list()))
        }
        None if names.len() == 1 => Ok(0),
        None if names.is_empty() => Err("contains no track".into()),
        None => {
            let example = &names[0];
            Err(format!("contains {} tracks: {}: choose one with `track = {example:?}`", names.len(), list()))
        }
    }
}

/// The header of an HDF5 file states its length.
fn is_whole(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut head = [0; 48];
    let cut = |told: String| format!("has {length} bytes{told}: it is truncated; copy or export it again");
    file.read_exact_at(&mut head, 0).map_err(|_| cut(String::new()))?;
    // Position of the end address, and width of addresses, by the version of the superblock.
    let (place, width) = match head[8] {
        0 => (40, head[13]),
        2 | 3 => (28, head[9]),
        // The rare others are left to the reader of the format.
        _ => return Ok(()),
    };
    if width != 8 {
        return Ok(());
    }
    let mut end = [0; 8];
    end.copy_from_slice(&head[place..place + 8]);
    let end = u64::from_le_bytes(end);
    if end != u64::MAX && end > length { Err(cut(format!(" and should have {end}"))) } else { Ok(()) }
}
