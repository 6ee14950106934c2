//! Which TIFF files a recording has: folders, patterns and lists; which of them are channels; and which do not belong.
//!
//! Why it exists: labs keep one file per page, per channel, per gigabyte or per trial in a folder, with averages of them beside. What it
//! must never do: append a file whose name does not fit, or take channels for times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::about::file_name;
use super::recording::{extension, file_error, natural_order};

/// Readable formats, for messages.
const READABLE: &str = "readable formats: .tif/.tiff files, a folder of them, a pattern such as 'run_*.tif'; a recorded session (.mcap); an NWB file (one of \
    several series: FILE.nwb#NAME); a ThorImage folder (with Experiment.xml) or a .raw file in it; any raw file if you give its layout (--raw uint16:512x512)";

pub(super) fn is_tiff(path: &Path) -> bool {
    matches!(extension(path).as_str(), "tif" | "tiff" | "btf" | "tf8")
}

/// Replaces folders and patterns by their files.
///
/// # Errors
/// Nothing there, a format that is not read, or names that do not belong together.
pub(super) fn tiff_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = listed(path, is_tiff)?;
            belong_together(path, &found)?;
            files.extend(found);
        } else if path.is_file() && is_tiff(path) {
            files.push(path.clone());
        } else if path.is_file() {
            return Err(file_error(path, unread(path)));
        } else {
            let found = matching(path)?;
            belong_together(path, &found)?;
            files.extend(found);
        }
    }
    Ok(files)
}

/// Formats of other programs, and what exports them.
const FOREIGN: [(&str, &str); 11] = [
    (
        "sbx",
        "Scanbox: give its layout as a raw file (--raw uint16:CHANNELSxROWSxCOLUMNS; pixels are inverted), or export TIFF with sbxread",
    ),
    ("isxd", "Inscopix: export TIFF with the Inscopix Data Processing Software (isx.export_movie_to_tiff)"),
    ("czi", "Zeiss: export OME-TIFF with ZEN, or bfconvert of Bio-Formats"),
    ("nd2", "Nikon: export TIFF with NIS-Elements, or bfconvert of Bio-Formats"),
    ("lif", "Leica: export TIFF with LAS X, or bfconvert of Bio-Formats"),
    ("oir", "Olympus: export OME-TIFF with FluoView, or bfconvert of Bio-Formats"),
    ("oib", "Olympus: export OME-TIFF with FluoView, or bfconvert of Bio-Formats"),
    ("avi", "a movie: save it as a TIFF stack with ImageJ, if it was never compressed with losses"),
    ("mp4", "a movie compressed with losses: use the original recording"),
    ("tiffs", "no TIFF file: rename it, if it is one"),
    ("dat", "no format by itself: a raw file needs its layout (--raw uint16:512x512)"),
];

/// Why a file of this kind is not read, and the way out.
fn unread(path: &Path) -> String {
    let extension = extension(path);
    match FOREIGN.iter().find(|(foreign, _)| *foreign == extension) {
        Some((_, way_out)) => format!("no reader for this type of file ({way_out}); {READABLE}"),
        None => format!("no reader for this type of file; {READABLE}"),
    }
}

/// A name with every number replaced by `#`.
fn pattern_of(path: &Path) -> String {
    let mut pattern = String::new();
    for letter in file_name(path).chars() {
        match letter.is_ascii_digit() {
            true if pattern.ends_with('#') => {}
            true => pattern.push('#'),
            false => pattern.push(letter),
        }
    }
    pattern
}

/// Do the names differ by their numbers and channels only? An average of a movie lies in the same folder, and so do other runs.
///
/// # Errors
/// The patterns that were found, with the number of files of each.
fn belong_together(asked: &Path, files: &[PathBuf]) -> Result<(), SourceError> {
    let mut patterns: BTreeMap<String, Vec<&PathBuf>> = BTreeMap::new();
    for file in files {
        let pattern = match channel_of(&file_name(file)) {
            Some((_, rest)) => pattern_of(Path::new(&rest)),
            None => pattern_of(file),
        };
        patterns.entry(pattern).or_default().push(file);
    }
    // Micro-Manager and others give the second file of a run a number, and the first none.
    let stem = |pattern: &str| pattern.split('.').next().unwrap_or_default().to_owned();
    let (all, mut count) = (patterns.keys().map(|pattern| stem(pattern)).collect::<Vec<_>>(), patterns.len());
    if let [a, b] = all.as_slice() {
        let continues = |first: &str, then: &str| ["_#", "-#", "#"].iter().any(|end| *then == format!("{first}{end}"));
        count -= usize::from(continues(a, b) || continues(b, a));
    }
    if count <= 1 {
        return Ok(());
    }
    let words = patterns.values().map(|files| match files.as_slice() {
        [one] => file_name(one),
        [first, .., last] => format!("{} files from {} to {}", files.len(), file_name(first), file_name(last)),
        [] => String::new(),
    });
    let cause = format!(
        "contains TIFF files that do not belong together by their names: {}; which of them are the recording? Name them: a list of files in \
         their order, or a pattern such as 'run_*.tif'",
        words.collect::<Vec<_>>().join("; ")
    );
    Err(file_error(asked, cause))
}

/// The channel in a file's name, and the name without it: `_Ch1_`, `-chan2`, `ChanA_`, `channel0`.
fn channel_of(name: &str) -> Option<(String, String)> {
    let lower = name.to_ascii_lowercase();
    for word in ["channel", "chan", "ch"] {
        for (at, _) in lower.match_indices(word) {
            let free = !lower[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            let after = &lower[at + word.len()..];
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let letter = usize::from(after.starts_with(['a', 'b', 'c', 'd']));
            let length = if digits > 0 { digits } else { letter };
            let ends = !after[length..].starts_with(|c: char| c.is_ascii_alphanumeric());
            if free && length > 0 && ends && digits < 4 {
                let end = at + word.len() + length;
                return Some((lower[at + word.len()..end].to_owned(), format!("{}{}", &name[..at], &name[end..])));
            }
        }
    }
    None
}

/// Files that are named by channel, as channels; others as they are.
///
/// # Errors
/// Channels and files without one.
pub(super) fn by_channel(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, SourceError> {
    let mut channels: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut without = None;
    for file in files {
        match channel_of(&file_name(file)) {
            Some((channel, _)) => channels.entry(channel).or_default().push(file.clone()),
            None => without = Some(file),
        }
    }
    match (channels.len(), without) {
        (0 | 1, _) => Ok(vec![files.to_vec()]),
        (_, None) => Ok(channels.into_values().collect()),
        (n, Some(file)) => Err(file_error(
            file,
            format!(
                "has no channel in its name, but the other files are named by {n} channels: name the files of one recording"
            ),
        )),
    }
}

/// Files of a folder that satisfy `wanted`, in natural order; at least one.
pub(super) fn listed(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, SourceError> {
    let entries = std::fs::read_dir(folder).map_err(|e| file_error(folder, e.to_string()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file() && wanted(p)).collect();
    files.sort_by(|a, b| natural_order(a, b));
    if files.is_empty() {
        return Err(file_error(folder, format!("contains no readable file; {READABLE}")));
    }
    Ok(files)
}

/// Files whose name matches the last part of `path`, if that is a pattern.
fn matching(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let pattern = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !pattern.contains(['*', '?']) {
        return Err(file_error(path, "no such file or folder"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fits = |p: &Path| is_tiff(p) && p.file_name().is_some_and(|n| like(&pattern, &n.to_string_lossy()));
    listed(folder, fits).map_err(|_| file_error(path, format!("no file matches this pattern; {READABLE}")))
}

/// `*` stands for any text, `?` for one byte.
fn like(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
            ([b'?', p @ ..], [_, n @ ..]) => fits(p, n),
            ([a, p @ ..], [b, n @ ..]) if a == b => fits(p, n),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_word_of_its_own_in_a_name() {
        let channel = |name| channel_of(name).map(|(channel, _)| channel);
        assert_eq!(channel("TSeries-003_Cycle00001_Ch2_000001.ome.tif").as_deref(), Some("2"));
        assert_eq!(channel("ChanA_0001_0001.tif").as_deref(), Some("a"));
        assert_eq!(channel("fly channel0.tif").as_deref(), Some("0"));
        for name in ["run_00001.tif", "march1.tif", "chart.tif", "Ch.tif", "fly_ch1x.tif"] {
            assert_eq!(channel(name), None, "{name}");
        }
        let files = ["a_Ch1_1.tif", "a_Ch1_2.tif", "a_Ch2_1.tif", "a_Ch2_2.tif"].map(PathBuf::from);
        assert_eq!(by_channel(&files).unwrap(), [files[..2].to_vec(), files[2..].to_vec()]);
        assert_eq!(by_channel(&files[..2]).unwrap().len(), 1);
    }

    #[test]
    fn a_stranger_among_numbered_files_is_named() {
        let fits = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            belong_together(Path::new("folder"), &files).map_err(|e| e.to_string())
        };
        for names in [
            &["a_1.tif", "a_10.tif"][..],
            &["a_Ch1_1.tif", "a_Ch2_1.tif"],
            &["a.ome.tif", "a_1.ome.tif", "a_2.ome.tif"],
            &["x.tif"],
        ] {
            assert_eq!(fits(names), Ok(()), "{names:?}");
        }
        assert!(
            fits(&["AVG_run.tif", "run_1.tif", "run_2.tif"])
                .unwrap_err()
                .contains("AVG_run.tif; 2 files from run_1.tif")
        );
        assert!(fits(&["green.tif", "red.tif"]).is_err());
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("run_*.tif", "run_001.tif", true),
            ("run_*.tif", "run_.tif", true),
            ("run_?.tif", "run_10.tif", false),
            ("*", "a.tif", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b", "a", false),
        ] {
            assert_eq!(like(pattern, name), fits, "{pattern} {name}");
        }
    }
}
