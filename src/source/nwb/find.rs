//! Finds the file and the series in it.
//!
//! Why it exists: an NWB file holds many objects under names chosen by the lab; a series is recognised by its type. What it must
//! never do: choose among several.

use std::io::Read;
use std::path::{Path, PathBuf};

use rust_hdf5::swmr::SwmrFileReader;

/// NWB type of a series of frames.
const TYPE: &str = "TwoPhotonSeries";
/// The first bytes of every HDF5 file without a user block.
pub(super) const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Is this the path of an NWB file, with or without a series after it?
pub(in crate::source) fn is_nwb(path: &Path) -> bool {
    let (file, _) = split(path);
    let named = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("nwb"));
    named || file.is_file() && begins_as_hdf5(&file)
}

fn begins_as_hdf5(path: &Path) -> bool {
    let mut begin = [0; SIGNATURE.len()];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == SIGNATURE
}

/// Splits `fly.nwb#/acquisition/Green` into the file and the series in it, unless a file of that whole name exists.
pub(in crate::source) fn split(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_string_lossy();
    let is_file = |file: &str| {
        let file = Path::new(file);
        file.is_file() || file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("nwb"))
    };
    let cut = text.char_indices().filter(|(_, c)| *c == '#').map(|(at, _)| at).find(|at| is_file(&text[..*at]));
    match cut.filter(|_| !path.exists()) {
        Some(at) => (PathBuf::from(&text[..at]), Some(text[at + 1..].to_owned())),
        None => (path.into(), None),
    }
}

/// The path of the wanted series in the file, without a leading slash.
///
/// # Errors
/// No series, several, or not the wanted one; the message lists those in the file.
pub(super) fn find(reader: &mut SwmrFileReader, file: &Path, wanted: Option<&str>) -> Result<String, String> {
    let kinds: Vec<(String, String)> = reader
        .group_paths()
        .into_iter()
        .filter_map(|path| reader.group_attr_string(&path, "neurodata_type").ok().map(|kind| (path, kind)))
        .collect();
    let is_nwb = reader.group_attr_string("/", "neurodata_type").is_ok_and(|kind| kind == "NWBFile");
    let all: Vec<&String> = kinds.iter().filter(|(_, kind)| kind == TYPE).map(|(path, _)| path).collect();
    let Some(wanted) = wanted else {
        return match all.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(none(&kinds, is_nwb)),
            several => Err(format!(
                "contains {} {TYPE}: {}; choose one: {}#/{} (for a second channel use --channel-file, or `channels` in a dataset.toml)",
                several.len(),
                listed(several),
                file.display(),
                several[0]
            )),
        };
    };
    let plain = wanted.trim_matches('/');
    let whole: Vec<_> = all.iter().filter(|path| path.as_str() == plain).collect();
    let fits = if whole.is_empty() {
        all.iter().filter(|path| path.rsplit('/').next() == Some(plain)).collect()
    } else {
        whole
    };
    match fits.as_slice() {
        [one] => Ok((**one).clone()),
        [] if all.is_empty() => Err(none(&kinds, is_nwb)),
        [] => Err(format!("has no {TYPE} {wanted:?}; it has: {}", listed(&all))),
        several => {
            Err(format!("has {} {TYPE} named {wanted:?}; give the full path, one of: {}", several.len(), listed(&all)))
        }
    }
}

fn listed(paths: &[&String]) -> String {
    paths.iter().map(|path| format!("/{path}")).collect::<Vec<_>>().join(", ")
}

fn none(kinds: &[(String, String)], is_nwb: bool) -> String {
    if !is_nwb {
        return "is an HDF5 file but not NWB (its root is not an NWBFile)".to_owned();
    }
    let other = |kind: &str| kind.ends_with("Series") && kind != "TimeSeries";
    let others: Vec<&String> = kinds.iter().filter(|(_, kind)| other(kind)).map(|(path, _)| path).collect();
    let beside = if others.is_empty() { String::new() } else { format!("; it has other series: {}", listed(&others)) };
    format!("contains no {TYPE}{beside}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_written_behind_the_file() {
        let whole = |text: &str| {
            let (file, series) = split(Path::new(text));
            (file.display().to_string(), series)
        };
        assert_eq!(whole("a/fly.nwb"), ("a/fly.nwb".into(), None));
        assert_eq!(whole("a/fly.nwb#/acquisition/G"), ("a/fly.nwb".into(), Some("/acquisition/G".into())));
        assert_eq!(whole("fly#2.nwb#G"), ("fly#2.nwb".into(), Some("G".into())));
        assert_eq!(whole("fly#2.nwb"), ("fly#2.nwb".into(), None));
        assert_eq!(whole("run_#.tif"), ("run_#.tif".into(), None));
        assert!(is_nwb(Path::new("fly.NWB#G")) && !is_nwb(Path::new("fly.tif")));
    }

    #[test]
    fn a_file_that_is_called_like_a_choice_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nwb#G.nwb");
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(split(&path), (path, None));
    }
}
