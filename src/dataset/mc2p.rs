//! MC2P folders: which folder is a trial, of which animal, and what each file is.
//!
//! Why it exists: names vary between releases (`2p_dff.mm`, `2p_dff_tif_padded.mm`, `*_resized.mm`, `angles*.pkl`, which is a
//! memory map, `sync_indices.pkl`), so files are matched by pattern and by the shapes that fit the index. What it must never
//! do: unpickle, convert, or write into the folder.
//!
//! - **A trial** is a folder that holds `indices.npy` or `sync_indices.*`.
//! - **Its animal** is its parent folder when trials are nested (`FOLDER/fly_01/001`: `fly_01`); else its own name up to `Fly<N>`
//!   (`FOLDER/210830_Fly1_003`: `210830_Fly1`). Everything else needs a `dataset.toml`.
//! - **Frames**: raw channels (a `.mm` with `green` and one with `red` in its name, without `dff`) are preferred to ready-made ΔF/F (`*dff*.mm`).
//!   Green is channel 0, red channel 1. They are float32 (N, S, S); S is the side for which N fits the index best.
//! - **Behaviour**: `*pose*` or `*angles*`; 3D before angles before 2D. Its rows are the entries of the index.
//! - **Labels**: `labels*.csv` or `labels*.npy`. **Targets**: `targets*.csv` or `targets*.npy`, only when asked for. **Mask**: `rest.npy`,
//!   only when asked for.

use std::path::{Path, PathBuf};

use super::arrays;
use super::error::DatasetError;
use super::spec::{DataSpec, LabelFile, Neural, Per, Synchrony, TrialSpec, Who};
use super::table::{Columns, Pick};
use super::targets::{self, Target};
use super::warning::DataWarning;
use crate::sys::statistics::median;

/// What the folders do not state themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Mc2pOptions {
    /// Two-photon frames per second.
    pub frame_rate_hz: f64,
    /// Behaviour frames per second; `None` = what the index says, at this frame rate.
    pub behaviour_rate_hz: Option<f64>,
    /// Side of the frames, px; `None` = the one that fits the index.
    pub side_px: Option<usize>,
    /// Leave out the frames that `rest.npy` marks.
    pub mask_rest: bool,
    /// Use ready-made ΔF/F even where there are raw channels.
    pub prefer_dff: bool,
    /// Part of the behaviour file's name, where several match.
    pub behaviour: Option<String>,
    /// Order of the labels.
    pub labels: Option<Vec<String>>,
    /// Numbers to decode: columns of `targets.csv` or `targets.npy` where the folders have one, else of the behaviour.
    pub targets: Vec<Target>,
}

impl Default for Mc2pOptions {
    fn default() -> Self {
        Self {
            frame_rate_hz: 16.0,
            behaviour_rate_hz: None,
            side_px: None,
            mask_rest: false,
            prefer_dff: false,
            behaviour: None,
            labels: None,
            targets: Vec::new(),
        }
    }
}

/// Behaviour frames per second of the published recordings.
const BEHAVIOUR_RATE_HZ: f64 = 100.0;
/// By how much the rate of an index may differ from what was stated or assumed.
const RATE_TOLERANCE: f64 = 0.1;
/// Maximum depth of the search for trials.
const DEPTH_MAX: usize = 6;
/// Sides tried, px.
const SIDES_PX: std::ops::RangeInclusive<usize> = 16..=1024;

impl DataSpec {
    /// Walks `folder` for trials.
    ///
    /// # Errors
    /// An empty folder, a trial that lacks a file, an animal that is not known, invalid rates.
    pub fn mc2p(folder: &Path, options: &Mc2pOptions) -> Result<Self, DatasetError> {
        super::checks::rate(folder, "frame_rate_hz", options.frame_rate_hz)?;
        if let Some(rate_hz) = options.behaviour_rate_hz {
            super::checks::rate(folder, "behaviour_rate_hz", rate_hz)?;
        }
        targets::check(folder, &options.targets)?;
        let mut found = Vec::new();
        walk(folder, 0, &mut found)?;
        if found.is_empty() {
            return Err(DatasetError::Empty { folder: folder.into(), hint: hint(folder) });
        }
        found.sort();
        let (mut trials, mut warnings, mut errors, mut per_frame) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for trial in &found {
            match trial_spec(folder, trial, options, &mut warnings) {
                Ok((spec, rows_per_frame)) => {
                    trials.push(spec);
                    per_frame.extend(rows_per_frame);
                }
                Err(error) => errors.push(error),
            }
        }
        DatasetError::gathered(errors)?;
        let behaviour_rate_hz = behaviour_rate(options, &mut per_frame, &mut warnings);
        trials.sort_by(|a, b| (&a.animal, &a.name).cmp(&(&b.animal, &b.name)));
        Ok(Self {
            path: folder.into(),
            home: folder.into(),
            labels: options.labels.clone(),
            targets: options.targets.clone(),
            parameters: None,
            frame_rate_hz: Some(options.frame_rate_hz),
            behaviour_rate_hz,
            trials,
            warnings,
        })
    }
}

/// Behaviour frames per second, from what was stated and from the behaviour frames for each two-photon frame in the index of each trial.
fn behaviour_rate(options: &Mc2pOptions, per_frame: &mut [f64], warnings: &mut Vec<DataWarning>) -> f64 {
    let assumed_hz = options.behaviour_rate_hz.unwrap_or(BEHAVIOUR_RATE_HZ);
    let Some(per_frame) = median(per_frame, f64::total_cmp) else { return assumed_hz };
    let index_hz = per_frame * options.frame_rate_hz;
    if (index_hz / assumed_hz - 1.0).abs() <= RATE_TOLERANCE {
        return assumed_hz;
    }
    let used_hz = options.behaviour_rate_hz.unwrap_or(index_hz);
    let frame_rate_hz = options.frame_rate_hz;
    warnings.push(DataWarning::BehaviourRate { per_frame, frame_rate_hz, index_hz, assumed_hz, used_hz });
    used_hz
}

/// Behaviour frames for each two-photon frame between the first and the last one in an index; `None` without one.
fn rows_per_frame(index: &[i64]) -> Option<f64> {
    let of_frames = || index.iter().filter(|&&frame| frame >= 0);
    let (first, last) = (of_frames().min()?, of_frames().max()?);
    Some(of_frames().count() as f64 / (last - first + 1) as f64)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let entries = listed(folder)?;
    if entries.iter().any(|path| path.is_file() && is_index(&lower(path))) {
        found.push(folder.into());
    }
    let mut inner = entries.iter().filter(|path| path.is_dir() && !lower(path).starts_with('.'));
    if depth < DEPTH_MAX { inner.try_for_each(|path| walk(path, depth + 1, found)) } else { Ok(()) }
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let entries = std::fs::read_dir(folder).map_err(|e| DatasetError::file(folder, e))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

fn lower(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn is_index(name: &str) -> bool {
    name == "indices.npy" || name.starts_with("sync_indices")
}

fn hint(folder: &Path) -> String {
    let names: Vec<String> = listed(folder).unwrap_or_default().iter().map(|p| lower(p)).take(8).collect();
    if names.is_empty() { "it is empty".into() } else { format!("it contains {}", names.join(", ")) }
}

/// `fly_01/001` below the folder, or the folder's own name when it is the trial itself.
fn trial_name(root: &Path, folder: &Path) -> Vec<String> {
    let relative = folder.strip_prefix(root).unwrap_or(folder);
    let parts: Vec<String> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.is_empty() {
        let whole = root.canonicalize().unwrap_or_else(|_| root.into());
        return vec![whole.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    }
    parts
}

fn animal_of(parts: &[String]) -> Option<String> {
    match parts {
        [one] => up_to_fly_number(one).map(str::to_owned),
        _ => Some(parts[..parts.len() - 1].join("_")),
    }
}

/// `210830_Fly1_003` → `210830_Fly1`.
fn up_to_fly_number(name: &str) -> Option<&str> {
    let small = name.to_ascii_lowercase();
    for (at, word) in small.match_indices("fly") {
        let rest = &small[at + word.len()..];
        let gap = rest.len() - rest.trim_start_matches(['_', '-']).len();
        let digits = rest[gap..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            return Some(&name[..at + word.len() + gap + digits]);
        }
    }
    None
}

/// The files of one trial folder, and its name in messages.
struct Folder<'a> {
    path: &'a Path,
    trial: String,
    files: Vec<PathBuf>,
}

impl Folder<'_> {
    fn lacks(&self, what: &'static str) -> DatasetError {
        let found: Vec<String> = self.files.iter().map(|p| lower(p)).collect();
        DatasetError::Lacks { trial: self.trial.clone(), folder: self.path.into(), what, found: found.join(", ") }
    }

    /// Files whose lower-case name matches, lowest rank first.
    fn fitting(&self, rank: impl Fn(&str) -> Option<usize>) -> Vec<PathBuf> {
        let mut fitting: Vec<(usize, &PathBuf)> =
            self.files.iter().filter_map(|path| Some((rank(&lower(path))?, path))).collect();
        fitting.sort();
        fitting.into_iter().map(|(_, path)| path.clone()).collect()
    }

    /// The first of them, with a warning that lists the others.
    fn choose(&self, what: &'static str, fitting: &[PathBuf], warnings: &mut Vec<DataWarning>) -> Option<PathBuf> {
        let (chosen, others) = fitting.split_first()?;
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(|p| lower(p)).collect();
            let (trial, others) = (self.trial.clone(), others.join(", "));
            warnings.push(DataWarning::Chosen { trial, what, chosen: lower(chosen), others });
        }
        Some(chosen.clone())
    }
}

fn trial_spec(
    root: &Path,
    path: &Path,
    options: &Mc2pOptions,
    warnings: &mut Vec<DataWarning>,
) -> Result<(TrialSpec, Option<f64>), DatasetError> {
    let parts = trial_name(root, path);
    let files = listed(path)?.into_iter().filter(|p| p.is_file()).collect();
    let folder = Folder { path, trial: parts.join("/"), files };
    let lone = || (path == root).then(|| parts[0].clone());
    let animal = animal_of(&parts).or_else(lone).ok_or(DatasetError::AnimalOf { trial: folder.trial.clone() })?;

    let rank = |n: &str| is_index(n).then_some(usize::from(n != "indices.npy"));
    let index = folder.choose("index", &folder.fitting(rank), warnings);
    let index = index.ok_or_else(|| folder.lacks("index (indices.npy, sync_indices.*)"))?;
    let entries = arrays::integers(&index)?;
    let neural = neural(&folder, &entries, options, warnings)?;
    let wanted = options.behaviour.as_deref().map(str::to_lowercase);
    let rank = |n: &str| behaviour_rank(n, wanted.as_deref());
    let behaviour = folder.choose("behaviour", &folder.fitting(rank), warnings);
    let behaviour = behaviour.ok_or_else(|| folder.lacks("behaviour (*pose*, *angles*)"))?;
    let table = |begins: &'static str| {
        move |n: &str| n.starts_with(begins).then(|| [".csv", ".npy"].iter().position(|e| n.ends_with(e))).flatten()
    };
    let labels = folder.choose("labels", &folder.fitting(table("labels")), warnings);
    let of_targets = if options.targets.is_empty() { Vec::new() } else { folder.fitting(table("targets")) };
    let targets = folder.choose("targets", &of_targets, warnings);
    let mask = path.join("rest.npy");
    let spec = TrialSpec {
        animal,
        neural,
        behaviour,
        columns: Columns::Rows(entries.len()),
        pick: Pick::default(),
        synchrony: Synchrony::Index(index),
        labels: labels.map(|path| LabelFile { path, per: Per::Behaviour, who: Who::default() }),
        targets,
        mask: (options.mask_rest && mask.is_file()).then_some(mask),
        name: folder.trial,
    };
    Ok((spec, rows_per_frame(&entries)))
}

fn behaviour_rank(name: &str, wanted: Option<&str>) -> Option<usize> {
    let data = [".mm", ".npy", ".pkl", ".csv"].iter().any(|e| name.ends_with(e));
    let fits = match wanted {
        Some(part) => name.contains(part),
        None => name.contains("pose") || name.contains("angle"),
    };
    let rank = match () {
        () if name.contains("3d") => 0,
        () if name.contains("angle") => 1,
        () => 2,
    };
    (data && fits).then_some(rank)
}

fn neural(
    folder: &Folder<'_>,
    index: &[i64],
    options: &Mc2pOptions,
    warnings: &mut Vec<DataWarning>,
) -> Result<Neural, DatasetError> {
    let raw = |colour: &str| {
        folder.fitting(|n| (n.ends_with(".mm") && n.contains(colour) && !n.contains("dff")).then_some(n.len()))
    };
    let green = folder.choose("green channel", &raw("green"), warnings);
    let red = folder.choose("red channel", &raw("red"), warnings);
    let ready = folder.fitting(|n| (n.contains("dff") && n.ends_with(".mm")).then_some(n.len()));
    let frames = index.iter().max().map_or(0, |last| usize::try_from(last + 1).unwrap_or(0));
    if let Some(green) = green.filter(|_| !options.prefer_dff || ready.is_empty()) {
        let (side, _) = side(folder, &green, frames, options)?;
        let layout = format!("float32:{side}x{side}").parse().map_err(|e| DatasetError::file(&green, e))?;
        return Ok(Neural::Planar { channels: [Some(green), red].into_iter().flatten().collect(), layout });
    }
    let path = folder.choose("ready-made ΔF/F", &ready, warnings);
    let path = path.ok_or_else(|| folder.lacks("frames (green.mm with red.mm, or *dff*.mm)"))?;
    let (side, frames) = side(folder, &path, frames, options)?;
    Ok(Neural::Ready { path, frames, height: side, width: side, data_at: 0 })
}

/// Side of the square frames of a float32 file, and their number: a usual side if it fits the `frames` of the index (within a
/// tenth), otherwise the side that fits best.
fn side(
    folder: &Folder<'_>,
    path: &Path,
    frames: usize,
    options: &Mc2pOptions,
) -> Result<(usize, usize), DatasetError> {
    let bytes = std::fs::metadata(path).map_err(|e| DatasetError::file(path, e))?.len() as usize;
    let values = bytes / 4;
    let off = |side: usize| (values / (side * side)).abs_diff(frames);
    let whole = |side: &usize| bytes.is_multiple_of(4) && values > 0 && values.is_multiple_of(side * side);
    let usual = [128, 64].into_iter().filter(whole).find(|&side| off(side) * 10 <= frames);
    let side = match options.side_px {
        Some(side) => Some(side).filter(|side| *side > 0 && whole(side)),
        None => usual.or_else(|| SIDES_PX.filter(whole).min_by_key(|&side| off(side))),
    };
    let fits = side.filter(|&side| options.side_px.is_some() || off(side) * 2 <= frames);
    let fits = fits.map(|side| (side, values / (side * side)));
    fits.ok_or_else(|| DatasetError::Lengths {
        trial: folder.trial.clone(),
        path: path.into(),
        found: format!("{bytes} bytes are not a float32 movie of square frames with about {frames}"),
        expected: frames.to_string(),
        unit: "two-photon frames",
        by: "the index".into(),
        advice: "state the side of the frames, or describe the trials in a dataset.toml",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_animal_is_the_parent_folder_or_the_name_up_to_its_fly_number() {
        let animal = |parts: &[&str]| animal_of(&parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(animal(&["fly_01", "001"]).as_deref(), Some("fly_01"));
        assert_eq!(animal(&["210830", "Fly1", "003_walk"]).as_deref(), Some("210830_Fly1"));
        assert_eq!(animal(&["210830_PR_Fly12_003"]).as_deref(), Some("210830_PR_Fly12"));
        assert_eq!(animal(&["butterfly_fly_7-2"]).as_deref(), Some("butterfly_fly_7"));
        assert_eq!(animal(&["session4"]), None);
    }

    #[test]
    fn the_index_says_how_many_behaviour_frames_belong_to_a_two_photon_frame() {
        // Two behaviour frames before the first two-photon frame, then 7 for each of four.
        let index: Vec<i64> = [-1, -1].into_iter().chain((0..28).map(|row| row / 7)).collect();
        assert_eq!(rows_per_frame(&index), Some(7.0));
        assert_eq!(rows_per_frame(&[-1, -1]), None);
        let rate = |stated, per_frame: f64| {
            let mut warnings = Vec::new();
            let options = Mc2pOptions { behaviour_rate_hz: stated, ..Mc2pOptions::default() };
            let used = behaviour_rate(&options, &mut [per_frame], &mut warnings);
            (used, warnings.len())
        };
        assert_eq!(rate(None, 6.2), (100.0, 0), "within a tenth of the usual rate");
        assert_eq!(rate(None, 8.75), (140.0, 1), "another rate is taken from the index, with a warning");
        assert_eq!(rate(Some(140.0), 8.75), (140.0, 0));
        assert_eq!(rate(Some(100.0), 8.75), (100.0, 1), "what was stated is used, with a warning");
    }

    #[test]
    fn three_dimensional_pose_goes_before_angles_and_two_dimensional_pose() {
        let rank = |n| behaviour_rank(n, None);
        assert!(rank("pose_3d.mm") < rank("angles_resized.pkl") && rank("angles.pkl") < rank("pose.mm"));
        assert_eq!(rank("pose.png"), None);
        assert_eq!(behaviour_rank("wings.mm", Some("wing")), Some(2));
    }
}
