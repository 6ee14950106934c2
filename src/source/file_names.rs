//! What the names of files say: which channel a file holds, which files do not belong together, and what their numbers count.
//!
//! Why it exists: programs that write a file for each page, plane, position or run put all of them into one folder, and only their names tell
//! them apart. What it must never do: take planes, positions or channels for times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::SourceError;
use super::about::file_name;
use super::recording::file_error;

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
pub(super) fn belong_together(asked: &Path, files: &[PathBuf]) -> Result<(), SourceError> {
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

/// The numbers in a name, each as it is written with the letters before it: `_t012` 12, `_z3` 3.
fn numbers(name: &str) -> Vec<(String, u64)> {
    let stem = name.split('.').next().unwrap_or(name);
    let (mut found, mut word, mut digits) = (Vec::new(), String::new(), String::new());
    for letter in stem.chars().chain(['.']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            let number = digits.parse().unwrap_or(u64::MAX);
            found.push((std::mem::take(&mut word) + &digits, number));
            digits.clear();
        }
        word.push(letter);
    }
    found
}

/// Do the numbers in the names of files, in natural order, count one thing only? Planes and times, or runs and files, are two.
///
/// # Errors
/// Two numbers that vary independently, with the way out.
pub(super) fn count_one_thing(files: &[PathBuf]) -> Result<(), SourceError> {
    let all: Vec<Vec<(String, u64)>> = files
        .iter()
        .map(|file| {
            let name = file_name(file);
            numbers(&channel_of(&name).map_or(name, |(_, rest)| rest))
        })
        .collect();
    let Some(first) = all.first() else { return Ok(()) };
    // Names of another form were judged by their form.
    if all.iter().any(|own| own.len() != first.len()) {
        return Ok(());
    }
    let column = |at: usize| all.iter().map(move |own| own[at].1);
    let varying: Vec<usize> = (0..first.len()).filter(|at| column(*at).any(|n| n != first[*at].1)).collect();
    // A time beside a number grows with it.
    let grow_together = varying.iter().all(|at| column(*at).zip(column(*at).skip(1)).all(|(a, b)| a < b));
    if varying.len() < 2 || grow_together {
        return Ok(());
    }
    let what = varying.iter().map(|at| {
        let values: BTreeSet<u64> = column(*at).collect();
        format!("{:?} with {} values", first[*at].0, values.len())
    });
    let inner = varying.last().map_or(1, |at| column(*at).collect::<BTreeSet<u64>>().len());
    let cause = format!(
        "its {} files are numbered twice ({}): planes, positions or runs beside times? Nobody knows which; give the files of one of them by a \
         pattern, or state the order of all pages: --axes T,Z{inner} with --plane where the last number is a plane (`axes` in a dataset.toml)",
        files.len(),
        what.collect::<Vec<_>>().join(", "),
    );
    let folder = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("."));
    Err(file_error(folder, cause))
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
    fn planes_beside_times_are_not_one_count() {
        let counts = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            count_one_thing(&files).map_err(|e| e.to_string())
        };
        for names in [
            &["a_1.tif", "a_2.tif", "a_3.tif"][..],
            &["a_0001_t0.033.tif", "a_0002_t0.066.tif"],
            &["img_000000000_Default_000.tif", "img_000000001_Default_000.tif"],
            &["x.tif"],
        ] {
            assert_eq!(counts(names), Ok(()), "{names:?}");
        }
        let error = counts(&["a_t0_z0.tif", "a_t0_z1.tif", "a_t1_z0.tif", "a_t1_z1.tif"]).unwrap_err();
        assert!(error.contains("numbered twice") && error.contains("--axes T,Z2"), "{error}");
        assert!(counts(&["a_1_1.tif", "a_1_2.tif", "a_2_1.tif"]).is_err(), "two runs");
    }
}
