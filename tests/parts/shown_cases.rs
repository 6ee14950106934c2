//! Method: the small inputs that were found wrong, each with its right value, kept outside the repository (`../shared/cases`, or
//! `$HALTERE_SHARED/cases`): what is read of each is right, or the sentence of the refusal names what is wrong and what to do. The same kinds are
//! written by the tests of `recordings`, `recordings_by_vendor` and `behaviour_files`, which need no file from outside.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::{Path, PathBuf};

use haltere::dataset::{DataSpec, inspect};
use haltere::source::RecordingSpec;

use crate::recordings::{frames, pairs, read};
use crate::support::process::shared;
use crate::support::tiffs::Tiff;

/// What is right of a recording.
enum Right {
    /// The pages of every channel of every frame.
    Pages(Option<u64>, Vec<Vec<usize>>),
    /// So many frames, which say something.
    Frames(usize, &'static str),
    Refused(&'static [&'static str]),
}
use Right::{Frames, Pages, Refused};

fn recordings() -> Vec<(&'static str, &'static str, Right)> {
    let count = |frames_there: usize| frames(&(0..frames_there).collect::<Vec<_>>());
    vec![
        ("bruker_multipage_folder", "TSeries-003", Frames(6, "")),
        ("comp_zstd", "x.tif", Refused(&["ZSTD", "compression='zlib'"])),
        ("float16", "x.tif", Refused(&["16 bit floating point", "astype"])),
        ("imagej_latin1_unit", "x.tif", Pages(None, pairs(5))),
        ("int32", "x.tif", Refused(&["32 bit signed", "astype"])),
        ("miniswhite_u16", "x.tif", Frames(6, "")),
        ("nwb_blosc", "x.nwb", Refused(&["filter 32015", "h5repack"])),
        ("nwb_tyx_square", "x.nwb", Frames(7, "--orientation rows-first")),
        ("ome_tiffdata_ifd_order", "x.ome.tif", Pages(None, frames(&[4, 3, 2, 1, 0]))),
        ("series_numbering_natural", "", Refused(&["AVG_run.tif", "run_*.tif"])),
        ("si_5_1_prefix_two_channels", "x.tif", Pages(None, pairs(6))),
        ("si_fastz_framesperslice", "x.tif", Pages(Some(1), frames(&[2, 3, 8, 9, 14, 15, 20, 21]))),
        ("si_last_page_cut", "x.tif", Pages(None, count(9))),
        ("si_midvolume_split", "", Pages(Some(0), frames(&[0, 4, 8, 12, 16]))),
        ("si_mroi", "x.tif", Refused(&["regions", "--axes T"])),
        ("si_slow_stack_average", "x.tif", Pages(None, count(3))),
        ("si_two_channels_odd", "x.tif", Pages(None, pairs(5))),
        ("thor_preallocated", "", Frames(12, "last 8 of 20")),
        ("thor_tif_one_missing", "", Frames(5, "1 file(s) are missing")),
        ("thor_two_zstage_elements", "", Refused(&["3 planes"])),
        ("tifffile_shaped_tcyx", "x.tif", Pages(None, pairs(5))),
        ("truncated_midfile_plain", "x.tif", Pages(None, count(6))),
        ("twelve_bit_packed", "x.tif", Refused(&["12 bit", "packed"])),
    ]
}

/// Data sets: words of the refusal, or of a warning.
const DATA_SETS: [(&str, bool, &[&str]); 9] = [
    ("behaviour_rate_wrong", true, &["2812 rows", "50 Hz"]),
    ("boris_two_subjects", true, &["2 subjects", "label_subject"]),
    ("csv_index_gap", false, &["150 of 5775"]),
    ("dlc_multi_single", true, &["2 individuals", "track ="]),
    ("fictrac_dat", true, &["20 columns"]),
    ("label_case_spaces", true, &["\"Walk\" and \"walk\""]),
    ("semicolon_decimal_comma", true, &["2 columns"]),
    ("sleap_csv", false, &["120 of 5625"]),
    ("times_in_ms", true, &["in ms", "divide them by 1000"]),
];

fn all_words(name: &str, text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{name}: {word:?} is not in {text:?}"));
}

fn recording(name: &str, folder: &Path, path: &str, right: &Right) {
    let path = if path.is_empty() { folder.to_path_buf() } else { folder.join(path) };
    let open = |plane| read(&RecordingSpec { plane, ..RecordingSpec::new(&path, "rig".parse().unwrap()) });
    match right {
        Pages(plane, pages) => assert_eq!(&open(*plane).unwrap().0, pages, "{name}"),
        Frames(count, word) => {
            // Some of them hold other values than the number of the page.
            let mut source =
                haltere::source::open_recording(&RecordingSpec::new(&path, "rig".parse().unwrap())).unwrap();
            let mut slot = haltere::frame::Frame::with_capacity(source.frame_bytes_max());
            let mut found = 0;
            while source.next(&mut slot).unwrap() == haltere::source::Next::Frame {
                found += 1;
            }
            assert_eq!(found, *count, "{name}");
            all_words(name, &source.about().warnings.join("; "), &[word]);
        }
        Refused(words) => all_words(name, &open(None).unwrap_err(), words),
    }
}

/// A copy with the recordings that the data sets name and that are not there.
fn copied(from: &Path, into: &Path) -> PathBuf {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::write(into.join(entry.file_name().unwrap()), std::fs::read(&entry).unwrap()).unwrap();
    }
    for name in ["a.tif", "b.tif"] {
        Tiff { bits: 8, ..Tiff::pages(900) }.write(&into.join(name));
    }
    into.join("dataset.toml")
}

/// Is a data set refused, and with which words; otherwise its warnings.
fn says(described: &Path) -> (bool, String) {
    let spec = match DataSpec::from_toml(described) {
        Ok(spec) => spec,
        Err(error) => return (true, error.to_string()),
    };
    match inspect(&spec) {
        Ok((_, warnings)) => (false, warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        Err(error) => (true, error.to_string()),
    }
}

#[test]
fn every_input_that_was_read_wrong_is_right_or_refused() {
    let Some(cases) = shared("../cases") else { return };
    for (name, path, right) in recordings() {
        recording(name, &cases.join(name), path, &right);
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, is_refused, words) in DATA_SETS {
        let (refused, said) = says(&copied(&cases.join(name), &dir.path().join(name)));
        assert_eq!(refused, is_refused, "{name}: {said}");
        all_words(name, &said, words);
    }
    let known: Vec<&str> =
        recordings().iter().map(|(name, ..)| *name).chain(DATA_SETS.map(|(name, ..)| name)).collect();
    for entry in std::fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!entry.path().is_dir() || known.contains(&name.as_str()), "{name} has no row here");
    }
}
