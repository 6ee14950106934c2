//! Method: behaviour and label files as trackers and annotators write them, each beside 900 two-photon frames at 16 Hz (56.25 s); what is
//! read compared with what is right, by the facts that `haltere info` prints, or the words of the refusal. Rows of behaviour hold their
//! own number, so that a row that moved is seen.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fmt::Write as _;
use std::path::Path;

use haltere::dataset::{DataSpec, TrialFacts, inspect};

use crate::support::tiffs::Tiff;

/// Two-photon frames, and rows of behaviour at 100 Hz that last as long.
const FRAMES: usize = 900;
const ROWS: usize = 5625;

/// One row of the table.
struct Case {
    report: &'static str,
    behaviour: (&'static str, Vec<u8>),
    labels: (&'static str, Vec<u8>),
    /// Further files.
    more: Vec<(&'static str, Vec<u8>)>,
    /// Further keys of the trial.
    keys: &'static str,
    /// The list of labels; empty: none.
    list: &'static str,
    right: Right,
}

enum Right {
    /// Rows, columns, and two-photon frames with behaviour.
    Read(usize, &'static [&'static str]),
    /// The same with a warning.
    Told(usize, &'static [&'static str], &'static str),
    Refused(&'static [&'static str]),
}
use Right::{Read, Refused, Told};

const BOUTS: &str = "start_s,stop_s,label\n0,10,rest\n10,25,walk\n";

fn case(report: &'static str, name: &'static str, behaviour: String, right: Right) -> Case {
    Case {
        report,
        behaviour: (name, behaviour.into_bytes()),
        labels: ("labels.csv", BOUTS.into()),
        more: Vec::new(),
        keys: "",
        list: r#"["rest", "walk"]"#,
        right,
    }
}

fn labelled(report: &'static str, labels: &str, right: Right) -> Case {
    Case { labels: ("labels.csv", labels.into()), ..case(report, "b.csv", csv("x,y", wave), right) }
}

/// A header and, for each row, what `fields` makes of its number.
fn csv(header: &str, fields: impl Fn(usize) -> String) -> String {
    let mut text = if header.is_empty() { String::new() } else { format!("{header}\n") };
    (0..ROWS).for_each(|row| writeln!(text, "{}", fields(row)).unwrap());
    text
}

fn wave(row: usize) -> String {
    let t = row as f64 / 9.0;
    format!("{:.4},{:.4}", t.sin(), t.cos())
}

fn numbered(row: usize) -> String {
    format!("{row},{}", wave(row))
}

/// Without the rows from 2000 to 2499.
fn with_a_gap(text: &str, header_rows: usize) -> String {
    let keep = |line: usize| !(2000 + header_rows..2500 + header_rows).contains(&line);
    text.lines().enumerate().filter(|(line, _)| keep(*line)).map(|(_, text)| format!("{text}\n")).collect()
}

fn fictrac() -> String {
    csv("", |row| {
        let rest: Vec<String> = (1..25).map(|n| format!("{:.6}", ((row + n) as f64 / 9.0).sin())).collect();
        format!("{row}, {}", rest.join(", "))
    })
}

fn ethovision() -> String {
    let mut text = "\"Number of header lines:\";\"5\";\n\"Experiment\";\"fly\";\n\"Arena\";\"1\";\n".to_owned();
    text += "\"Recording time\";\"X center\";\"Velocity\";\n\"s\";\"cm\";\"cm/s\";\n";
    let row = |row: usize| format!("{:.2};{:.3};1,5;", row as f64 * 0.01, (row as f64).sin()).replace('.', ",");
    text + &csv("", row)
}

/// As `BOUTS` says it.
fn of_row(row: usize) -> i32 {
    match row {
        ..1000 => 0,
        1000..2500 => 1,
        _ => -1,
    }
}

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn npy_f4(row: impl Fn(usize) -> [f32; 2]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\0\x76\0".to_vec();
    let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ROWS}, 2), }}");
    bytes.extend(format!("{head:<117}\n").bytes());
    bytes.extend((0..ROWS).flat_map(row).flat_map(f32::to_le_bytes));
    bytes
}

fn behaviour() -> Vec<Case> {
    [tables(), counters(), clocks(), times(), rates_and_time_files(), foreign(), deeplabcut(), sleap()]
        .into_iter()
        .flatten()
        .collect()
}

fn tables() -> Vec<Case> {
    vec![
        case("a plain table", "b.csv", csv("x,y", wave), Read(ROWS, &["x", "y"])),
        case("FicTrac's .dat is text", "b.dat", fictrac(), Read(ROWS, &["delta_rotation_cam_x", "speed"])),
        case("a table under another name is text too", "b.txt", csv("x,y", wave), Read(ROWS, &["x", "y"])),
        case(
            "no header: the first row is data",
            "b.csv",
            csv("", wave),
            Refused(&["first line", "holds numbers", "header"]),
        ),
    ]
}

fn counters() -> Vec<Case> {
    vec![
        case(
            "a frame column that jumps (sleap#2795, BORIS#544)",
            "b.csv",
            with_a_gap(&csv("frame,x,y", numbered), 1),
            Told(ROWS, &["x", "y"], "500 of 5625 behaviour frames have no row"),
        ),
        case(
            "frame numbers that go back",
            "b.csv",
            csv("frame,x,y", |row| format!("{},{}", row % 3000, wave(row))),
            Refused(&["goes from 2999 to 0", "several animals"]),
        ),
        case(
            "frame numbers that begin in the middle",
            "b.csv",
            csv("frame,x,y", |row| format!("{},{}", row + 700, wave(row))),
            Refused(&["begins with 700"]),
        ),
        case("frame numbers under another name", "b.csv", csv("Frame_Number,x,y", numbered), Read(ROWS, &["x", "y"])),
        case(
            "a counter that no name tells",
            "b.csv",
            csv("n,x,y", numbered),
            Refused(&["\"n\" goes up by the same step", "column_names = [\"x\", \"y\"]"]),
        ),
        Case {
            keys: "column_names = [\"x\", \"y\"]",
            ..case("the same, chosen by name", "b.csv", csv("n,x,y", numbered), Read(ROWS, &["x", "y"]))
        },
    ]
}

/// A camera's own clock: about 10 ms a row, and a jitter.
fn jittering(row: usize) -> f64 {
    row as f64 * 0.01 + 0.001 * (row * 7 % 3) as f64
}

fn clocks() -> Vec<Case> {
    let late = csv("time,x,y", |row| format!("{:.2},{}", 12.3 + row as f64 * 0.01, wave(row)));
    vec![
        case(
            "a camera's time stamps jitter and have no known name",
            "b.csv",
            csv("cam_ts,x,y", |row| format!("{:.4},{}", jittering(row), wave(row))),
            Refused(&["\"cam_ts\" goes up by the same step", "or nearly", "column_names"]),
        ),
        case(
            "unix times stand still in float32, and would pass as a constant",
            "b.csv",
            csv("cam_ts,x,y", |row| format!("{:.4},{}", 1.7e9 + jittering(row), wave(row))),
            Refused(&["\"cam_ts\" goes up by the same step"]),
        ),
        case(
            "a distance goes up as well, and is behaviour",
            "b.csv",
            csv("walked,y", |row| format!("{},0.5", 0.02 * (row as f64 + 30.0 * (row as f64 / 30.0).sin()))),
            Read(ROWS, &["walked", "y"]),
        ),
        case(
            "a time column that begins in the middle of the trial",
            "b.csv",
            late.clone(),
            Refused(&["begins with 12.3", "offset_s = 0.0"]),
        ),
        Case { keys: "offset_s = 0.0", ..case("the same, meant", "b.csv", late, Read(ROWS, &["x", "y"])) },
        Case {
            keys: "column_names = [\"x\"]",
            ..case(
                "two columns of one name (two animals side by side)",
                "b.csv",
                csv("x,y,x,y", |row| format!("{},{}", wave(row), wave(row))),
                Refused(&["2 columns \"x\""]),
            )
        },
    ]
}

/// Files of other programs, taken for a memory map because the user says the number of its columns.
fn foreign() -> Vec<Case> {
    let of = |report, name, begin: &[u8], word| {
        let bytes = [begin, &vec![7; 8 * ROWS - begin.len()][..]].concat();
        let right = Refused(match word {
            "MATLAB" => &["is no array of numbers", "MATLAB"],
            "Excel" => &["is no array of numbers", "Excel"],
            _ => &["is no array of numbers", "unpack"],
        });
        Case { behaviour: (name, bytes), keys: "columns = 2", ..case(report, "", String::new(), right) }
    };
    vec![
        of("MATLAB's file as a memory map", "b.mat", b"MATLAB 5.0 MAT-file, Platform: PCWIN64", "MATLAB"),
        of("an Excel workbook as a memory map", "b.xlsx", b"PK\x03\x04\x14\0\x06\0", "Excel"),
        of("a packed array as a memory map", "b.dat.gz", b"\x1f\x8b\x08\0", "unpack"),
    ]
}

fn times() -> Vec<Case> {
    vec![
        case(
            "time stamps among the columns",
            "b.csv",
            csv("timestamp,x,y", |row| format!("{:.3},{}", row as f64 * 0.01, wave(row))),
            Read(ROWS, &["x", "y"]),
        ),
        case(
            "unix time without a known name",
            "b.csv",
            csv("cam_ts,x,y", |row| format!("{:.2},{}", row as f64 * 0.01, wave(row))),
            Refused(&["cam_ts", "goes up by the same step"]),
        ),
        case(
            "a time column that says another rate",
            "b.csv",
            csv("time,x,y", |row| format!("{:.3},{}", row as f64 * 0.02, wave(row))),
            Refused(&["50.0000 Hz", "behaviour_rate_hz is 100 Hz"]),
        ),
        case(
            "a time column that jumps",
            "b.csv",
            with_a_gap(&csv("time,x,y", |row| format!("{:.2},{}", row as f64 * 0.01, wave(row))), 1),
            Refused(&["jumps from 19.99 to 25", "behaviour_times_s"]),
        ),
        case(
            "; and decimal comma (BORIS, EthoVision, Excel)",
            "b.csv",
            csv("time;x;y", |row| format!("{:.2};{:.3};1,5", row as f64 * 0.01, (row as f64).sin()).replace('.', ",")),
            Read(ROWS, &["x", "y"]),
        ),
        Case {
            behaviour: ("b.txt", utf16(&ethovision())),
            ..case(
                "EthoVision's text: UTF-16, a head, units, and - for what is missing",
                "",
                String::new(),
                Read(ROWS, &["x center", "velocity"]),
            )
        },
        Case {
            behaviour: ("b.npy", npy_f4(|row| [row as f32, (row as f32 / 9.0).sin()])),
            ..case(
                "an array whose first column counts the frames",
                "",
                String::new(),
                Refused(&["\"0\" goes up by the same step"]),
            )
        },
        case("tabs", "b.csv", csv("x\ty", |row| wave(row).replace(',', "\t")), Read(ROWS, &["x", "y"])),
        case("Excel's BOM", "b.csv", format!("\u{feff}{}", csv("x,y", wave)), Read(ROWS, &["x", "y"])),
    ]
}

fn rates_and_time_files() -> Vec<Case> {
    vec![
        case(
            "a rate that gives half the length",
            "b.csv",
            csv("x,y", wave).lines().take(2813).map(|line| format!("{line}\n")).collect(),
            Refused(&["2812 rows at 100 Hz last 28.1 s", "900 frames at 16 Hz last 56.2 s", "50 Hz"]),
        ),
        Case {
            keys: "offset_s = 0.0",
            ..case(
                "the same, meant",
                "b.csv",
                csv("x,y", wave).lines().take(2813).map(|line| format!("{line}\n")).collect(),
                Told(2812, &["x", "y"], "lasts 28.1 s"),
            )
        },
        Case {
            keys: "behaviour_times_s = \"t.csv\"",
            more: vec![("t.csv", csv("time", |row| format!("{:.1}", row as f64 * 10.0)).into_bytes())],
            ..case(
                "time stamps in ms (BORIS#544)",
                "b.csv",
                csv("x,y", wave),
                Refused(&["advance by 10", "they are in ms", "divide them by 1000"]),
            )
        },
        Case {
            keys: "behaviour_times_s = \"t.csv\"",
            more: vec![(
                "t.csv",
                csv("time", |row| format!("{:.12}", 738_000.0 + row as f64 * 0.01 / 86_400.0)).into_bytes(),
            )],
            ..case(
                "MATLAB's datenum counts days",
                "b.csv",
                csv("x,y", wave),
                Refused(&["days (MATLAB's datenum)", "multiply them by 86400"]),
            )
        },
        Case {
            keys: "behaviour_times_s = \"t.csv\"",
            more: vec![("t.csv", csv("time", |row| format!("{:.2}", row as f64 * 0.01)).into_bytes())],
            ..case("time stamps in seconds", "b.csv", csv("x,y", wave), Read(ROWS, &["x", "y"]))
        },
        Case {
            keys: "index = \"i.dat\"",
            more: vec![("i.dat", csv("", |row| (row * 16 / 100).to_string()).into_bytes())],
            ..case(
                "an index as text where int64 is expected",
                "b.csv",
                csv("x,y", wave),
                Refused(&["is text", "int64"]),
            )
        },
    ]
}

fn deeplabcut() -> Vec<Case> {
    let dlc = "scorer,n,n,n,n,n,n,n\nindividuals,f1,f1,f1,f2,f2,f2,single\nbodyparts,h,h,h,h,h,h,food\ncoords,x,y,likelihood,x,y,likelihood,x";
    let dlc_row = |row: usize| format!("{row},{},0.9,,,,7", wave(row));
    let collected = "scorer,me,me\nbodyparts,h,h\ncoords,x,y";
    vec![
        case(
            "DeepLabCut's CollectedData holds points of single pictures (#486)",
            "b.csv",
            csv(collected, |row| format!("labeled-data/fly/img{:04}.png,{}", 31 * row, wave(row))),
            Refused(&["labeled-data/fly/img0000.png", "CollectedData", "analyze_videos"]),
        ),
        case(
            "DeepLabCut with two animals (#952)",
            "b.csv",
            csv(dlc, dlc_row),
            Refused(&["2 individuals (\"f1\", \"f2\")", "track = \"f1\""]),
        ),
        Case {
            keys: "track = \"f1\"",
            ..case("the same, one chosen", "b.csv", csv(dlc, dlc_row), Read(ROWS, &["f1_h_x", "f1_h_y"]))
        },
        Case {
            keys: "track = \"f3\"",
            ..case(
                "the same, none of them",
                "b.csv",
                csv(dlc, dlc_row),
                Refused(&["no individual \"f3\"", "\"f1\", \"f2\""]),
            )
        },
    ]
}

fn sleap() -> Vec<Case> {
    let sleap_header = "track,frame_idx,instance.score,head.x,head.y,head.score,tail.x,tail.y,tail.score";
    let sleap = |track: &str, row: usize| {
        format!(
            "{track},{row},0.9,{:.2},{:.2},0.9,{:.2},{:.2},0.8",
            row as f64 % 97.0,
            row as f64 % 13.0,
            row as f64 % 89.0,
            row as f64 % 11.0
        )
    };
    vec![
        case(
            "SLEAP's CSV (#2173)",
            "b.csv",
            csv(sleap_header, |row| sleap("", row)),
            Read(ROWS, &["head_x", "head_y", "tail_x", "tail_y"]),
        ),
        case(
            "SLEAP leaves out frames without an instance",
            "b.csv",
            with_a_gap(&csv(sleap_header, |row| sleap("", row)), 1),
            Told(ROWS, &["head_x"], "500 of 5625"),
        ),
        case(
            "SLEAP with two tracks",
            "b.csv",
            csv(sleap_header, |row| format!("{}\n{}", sleap("track_0", row), sleap("track_1", row))),
            Refused(&["2 tracks", "track = \"track_0\""]),
        ),
        Case {
            keys: "track = \"track_1\"",
            ..case(
                "the same, one chosen",
                "b.csv",
                csv(sleap_header, |row| format!("{}\n{}", sleap("track_0", row), sleap("track_1", row))),
                Read(ROWS, &["head_x"]),
            )
        },
        Case {
            keys: "track = \"f1\"",
            ..case("a track where there are none", "b.csv", csv("x,y", wave), Refused(&["leave `track` out"]))
        },
    ]
}

fn labels() -> Vec<Case> {
    [annotators(), syllables(), numbered_labels()].into_iter().flatten().collect()
}

fn annotators() -> Vec<Case> {
    let boris = "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s)\n";
    let two = format!("{boris}o,male,walk,STATE,10,25\no,female,rest,STATE,0,10\no,male,rest,STATE,0,10\n");
    let by_row = |first: usize| {
        let mut text = "frame,label\n".to_owned();
        (first..first + ROWS)
            .for_each(|row| writeln!(text, "{row},{}", if row < 1000 { "rest" } else { "walk" }).unwrap());
        text
    };
    vec![
        labelled(
            "BORIS with two subjects",
            &two,
            Refused(&["2 subjects (\"female\", \"male\")", "label_subject = \"female\""]),
        ),
        Case { keys: "label_subject = \"male\"", ..labelled("the same, one chosen", &two, Read(ROWS, &["x", "y"])) },
        labelled(
            "BORIS with two observations",
            &format!("{boris}o1,fly,walk,STATE,10,25\no2,fly,rest,STATE,0,10\n"),
            Refused(&["2 observations", "label_observation = \"o1\""]),
        ),
        labelled(
            "BORIS by ; and decimal comma",
            &format!("{boris}o,fly,rest,STATE,0,10\no,fly,walk,STATE,10,25\n")
                .replace(',', ";")
                .replace("10;", "10,0;"),
            Read(ROWS, &["x", "y"]),
        ),
        labelled("bouts in ms", "start_s,stop_s,label\n0,10000,rest\n10000,25000,walk\n", Refused(&["in ms"])),
        labelled("frames counted from 1", &by_row(1), Refused(&["counted from 1"])),
        Case {
            list: "",
            ..labelled(
                "Walk, walk and walk_ of different annotators",
                "start_s,stop_s,label\n0,10,rest\n10,20,walk\n20,25,Walk\n",
                Refused(&["\"Walk\" and \"walk\"", "case, spaces"]),
            )
        },
    ]
}

fn syllables() -> Vec<Case> {
    vec![
        labelled(
            "keypoint-moseq: a syllable for every behaviour frame, whose names the list gives",
            &csv("syllable,centroid x,heading", |row| format!("{},0.5,0.1", of_row(row))),
            Read(ROWS, &["x", "y"]),
        ),
        labelled(
            "keypoint-moseq: more syllables than names",
            &csv("syllable,heading", |row| format!("{},0.1", row % 3)),
            Refused(&["label 2", "counted from 0 to 1"]),
        ),
        labelled(
            "keypoint-moseq: another number of frames",
            "syllable\n0\n1\n",
            Refused(&["2", "5625 (behaviour) or 900 (two-photon)"]),
        ),
        labelled(
            "B-SOiD: its labels beside the table of DeepLabCut",
            &csv(",B-SOiD labels,scorer,net\n0,,bodyparts,nose\n1,,coords,x", |row| {
                format!("{},{},{row},0.5", row + 2, of_row(row))
            }),
            Read(ROWS, &["x", "y"]),
        ),
        Case {
            list: "",
            ..labelled(
                "B-SOiD: runs",
                ",B-SOiD labels,Start time (frames),Run lengths\n0,rest,0,1000\n1,walk,1000,1500\n",
                Read(ROWS, &["x", "y"]),
            )
        },
    ]
}

fn numbered_labels() -> Vec<Case> {
    let npy = |numbers: &dyn Fn(usize) -> i64| {
        let head = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({ROWS},), }}");
        let head = format!("{head:<117}\n");
        let mut bytes = b"\x93NUMPY\x01\0\x76\0".to_vec();
        bytes.extend(head.as_bytes());
        (0..ROWS).for_each(|row| bytes.extend(numbers(row).to_le_bytes()));
        bytes
    };
    vec![
        labelled(
            "columns of 0 and 1 (BORIS's binary table, DeepEthogram)",
            "time,rest,walk\n0,1,0\n0.1,0,1\n",
            Refused(&["time, rest, walk", "Columns of 0 and 1"]),
        ),
        labelled(
            "another spelling than the list",
            "start_s,stop_s,label\n0,10,rest\n10,25,Walk\n",
            Refused(&["\"Walk\"", "did you mean \"walk\""]),
        ),
        Case {
            labels: ("labels.npy", npy(&|row| 1 + i64::from(row >= 1000))),
            ..labelled("numbers counted from 1", "", Refused(&["label 2", "counted from 1", "labels - 1"]))
        },
        Case {
            labels: ("labels.npy", npy(&|row| i64::from(row >= 1000))),
            ..labelled("numbers counted from 0", "", Read(ROWS, &["x", "y"]))
        },
    ]
}

fn facts(case: &Case, folder: &Path) -> Result<(TrialFacts, Vec<String>), String> {
    let list = if case.list.is_empty() { String::new() } else { format!("labels = {}\n", case.list) };
    let toml = format!(
        "{list}frame_rate_hz = 16.0\nbehaviour_rate_hz = 100.0\n[[trial]]\nanimal = \"a\"\nname = \"a/1\"\nframes = {{ path = \"a.tif\" }}\n\
         behaviour = \"{}\"\nlabels = \"{}\"\n{}\n",
        case.behaviour.0, case.labels.0, case.keys
    );
    let mut files = vec![(case.behaviour.0, &case.behaviour.1), (case.labels.0, &case.labels.1)];
    files.extend(case.more.iter().map(|(name, bytes)| (*name, bytes)));
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    std::fs::write(folder.join("dataset.toml"), toml).unwrap();
    let spec = DataSpec::from_toml(&folder.join("dataset.toml")).map_err(|e| e.to_string())?;
    let (trials, warnings) = inspect(&spec).map_err(|e| e.to_string())?;
    Ok((trials.into_iter().next().unwrap(), warnings.iter().map(ToString::to_string).collect()))
}

fn check(case: &Case, folder: &Path) {
    let report = case.report;
    let found = facts(case, folder);
    let read = |(trial, warnings): &(TrialFacts, Vec<String>), rows: usize, columns: &[&str]| {
        assert_eq!(trial.rows, rows, "{report}");
        let names: Vec<&str> = trial.columns.iter().map(|column| column.name.as_str()).collect();
        columns.iter().for_each(|name| assert!(names.contains(name), "{report}: {names:?}"));
        assert!(trial.columns.iter().all(|column| column.most < 200.0), "{report}: no counter is behaviour: {trial:?}");
        if rows == ROWS && warnings.is_empty() {
            assert_eq!(trial.labels, [("rest".to_owned(), 160), ("walk".to_owned(), 240)], "{report}");
        }
    };
    match (&case.right, &found) {
        (Read(rows, columns), Ok(found)) => {
            assert!(found.1.is_empty(), "{report}: {:?}", found.1);
            // An array labels every frame.
            if case.labels.0.ends_with("csv") {
                read(found, *rows, columns);
            }
        }
        (Told(rows, columns, word), Ok(found)) => {
            assert!(found.1.iter().any(|warning| warning.contains(word)), "{report}: {:?}", found.1);
            read(found, *rows, columns);
        }
        (Refused(words), Err(error)) => {
            words.iter().for_each(|word| assert!(error.contains(word), "{report}: {word:?} is not in {error:?}"));
        }
        _ => panic!("{report}: {found:?}"),
    }
}

fn check_all(cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    Tiff { bits: 8, ..Tiff::pages(FRAMES) }.write(&folder.path().join("a.tif"));
    cases.iter().for_each(|case| check(case, folder.path()));
}

#[test]
fn behaviour_is_aligned_right_or_refused_with_what_to_write() {
    check_all(&behaviour());
}

#[test]
fn labels_are_of_one_animal_by_names_and_numbers_that_are_meant() {
    check_all(&labels());
}
