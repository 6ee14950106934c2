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

/// Files of several channels as far as every channel has them, and what was left out. Names without their channel must be the same, or a file that
/// one channel lacks would pair all that follow with others.
pub(super) fn paired(mut channels: Vec<Vec<PathBuf>>) -> (Vec<Vec<PathBuf>>, Option<String>) {
    let rest = |file: &PathBuf| channel_of(&file_name(file)).map(|(_, rest)| rest);
    let [first, others @ ..] = channels.as_slice() else { return (channels, None) };
    let is_there = |at: usize| others.iter().all(|other| other.get(at).map(rest) == Some(rest(&first[at])));
    let whole = (0..first.len()).take_while(|at| is_there(*at)).count();
    let most = channels.iter().map(Vec::len).max().unwrap_or(0);
    // Numbers that go on from channel to channel pair nothing, and are paired by their order.
    if whole == 0 || whole == most || others.is_empty() {
        return (channels, None);
    }
    let lacking = channels.iter().filter_map(|files| files.get(whole)).map(|file| file_name(file)).collect::<Vec<_>>();
    let text = format!(
        "not every channel has the same files: the first {whole} are in all of them, then comes {}; what follows is left out",
        lacking.join(" beside ")
    );
    channels.iter_mut().for_each(|files| files.truncate(whole));
    (channels, Some(text))
}

/// Numbers that a series of files lacks, where the others follow each other regularly.
pub(super) fn missing_numbers(files: &[PathBuf]) -> Option<String> {
    let all: Vec<Vec<(String, u64)>> = files.iter().map(|file| numbers(&file_name(file))).collect();
    let length = all.first()?.len();
    let is_same = |own: &Vec<(String, u64)>| own.len() == length;
    let varying = (0..length).filter(|at| all.iter().all(is_same) && all.iter().any(|own| own[*at].1 != all[0][*at].1));
    let [at] = varying.collect::<Vec<_>>()[..] else { return None };
    let steps: Vec<u64> = all.windows(2).map(|pair| pair[1][at].1.saturating_sub(pair[0][at].1)).collect();
    let step = *steps.iter().min().filter(|step| **step > 0)?;
    let regular = steps.iter().filter(|own| **own == step).count();
    // Times in the names of files are not regular, and two files tell no step.
    if steps.len() < 2 || 2 * regular < steps.len() || steps.iter().any(|own| !own.is_multiple_of(step)) {
        return None;
    }
    let gaps: Vec<usize> = (0..steps.len()).filter(|gap| steps[*gap] > step).collect();
    let first = gaps.first()?;
    let lost: u64 = gaps.iter().map(|gap| steps[*gap] / step - 1).sum();
    Some(format!(
        "the numbers of its files jump: {lost} file(s) are missing, the first between {} and {}",
        file_name(&files[*first]),
        file_name(&files[first + 1])
    ))
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

    #[test]
    fn a_file_that_one_channel_lacks_shifts_nothing() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (green, red) =
            (files(&["a_Ch1_1.tif", "a_Ch1_2.tif", "a_Ch1_3.tif"]), files(&["a_Ch2_1.tif", "a_Ch2_3.tif"]));
        let (found, text) = paired(vec![green.clone(), red]);
        assert_eq!((found[0].len(), found[1].len()), (1, 1));
        assert!(text.unwrap().contains("a_Ch1_2.tif beside a_Ch2_3.tif"));
        let other_numbers = vec![files(&["a_Ch1_1.tif", "a_Ch1_3.tif"]), files(&["a_Ch2_2.tif", "a_Ch2_4.tif"])];
        assert_eq!(paired(other_numbers.clone()), (other_numbers, None));
        assert_eq!(paired(vec![green.clone()]), (vec![green], None));
    }

    #[test]
    fn a_number_that_is_missing_is_told_and_irregular_ones_are_not() {
        let missing = |names: &[&str]| missing_numbers(&names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert!(
            missing(&["a_1.tif", "a_2.tif", "a_5.tif", "a_6.tif"])
                .unwrap()
                .contains("2 file(s) are missing, the first between a_2.tif")
        );
        assert!(missing(&["a_10.tif", "a_20.tif", "a_40.tif"]).is_some(), "steps of ten");
        for names in [
            &["a_1.tif", "a_2.tif", "a_3.tif"][..],
            &["a_33.tif", "a_67.tif", "a_100.tif"],
            &["a_1.tif", "a_9.tif"],
            &["a_1_t3.tif", "a_2_t6.tif", "a_4_t9.tif"],
            &["a.ome.tif", "a_1.ome.tif", "a_2.ome.tif"],
        ] {
            assert_eq!(missing(names), None, "{names:?}");
        }
    }
}
