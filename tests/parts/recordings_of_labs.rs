//! Method: as in `recordings`, a third table: what programs write beside the pixels and a reader easily overlooks (units, signs, numbers that
//! jump, axes of other names), each row with the text or the report that it follows; and folders of PrairieView whose volumes are not plain.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;

use haltere::dataset::{DataSpec, inspect};
use haltere::source::{RecordingSpec, open_recording};
use rust_hdf5::H5File;

use crate::recordings::Right::{Pages, Refused, Told};
use crate::recordings::{Case, case, check, fast, frames, ome, one, pairs, read};
use crate::support::tiffs::Tiff;

const RATE: &str = "hRoiManager.scanFrameRate = 30";

fn page(first: usize) -> Tiff {
    Tiff { first, ..Tiff::pages(1) }
}

/// Two channels, one after the other.
fn ndtiff_channel(page: usize) -> String {
    let channel = if page.is_multiple_of(2) { "GFP" } else { "RFP" };
    format!("{{\"Axes\":{{\"channel\":\"{channel}\",\"time\":{}}}}}", page / 2)
}

fn texts() -> Vec<Case> {
    let ndtiff = || Tiff { page_metadata: Some(ndtiff_channel), ..Tiff::pages(6) };
    let times = |page: usize| format!("{{\"Axes\":{{\"time\":{page}}}}}");
    let scifio = "SCIFIO=0.41.0\naxes=X,Y,Channel,Time\nlengths=24,16,2,3\nscales=1.0,1.0,1.0,1.0\nunits=null,null,null,null\nbitsPerPixel=16\n\
                  images=6\nchannels=2\nslices=1\nframes=3\nhyperstack=true\nmode=composite\nunit=null\n";
    vec![
        one("Fiji writes TIFF by SCIFIO: its lines are ImageJ's", Tiff::described(6, scifio), Pages(pairs(3))),
        one(
            "SCIFIO with another order of its axes",
            Tiff::described(6, &scifio.replace("Channel,Time", "Time,Channel").replace("16,2,3", "16,3,2")),
            Pages(vec![vec![0, 3], vec![1, 4], vec![2, 5]]),
        ),
        one(
            "SCIFIO with lifetimes",
            Tiff::described(6, &scifio.replace("Channel", "Lifetime").replace("channels=2", "channels=1")),
            Refused(&["Lifetime of 2", "--axes"]),
        ),
        one(
            "tifffile: an array whose time is last (MATLAB, HDF5)",
            Tiff::described(5, r#"{"shape": [5, 16, 24], "axes": "YXT"}"#),
            Refused(&["YXT", "must be the last two", "moveaxis"]),
        ),
        one(
            "tifffile: lifetimes are no times",
            Tiff::described(5, r#"{"shape": [5, 16, 24], "axes": "HYX"}"#),
            Refused(&["H is neither", "--axes T"]),
        ),
        one(
            "tifffile: an axis without a meaning is time",
            Tiff::described(5, r#"{"shape": [5, 16, 24], "axes": "QYX"}"#),
            Pages(frames(&[0, 1, 2, 3, 4])),
        ),
        one(
            "OME: lifetimes within the times (ModuloAlongT)",
            Tiff::described(
                6,
                &ome([1, 1, 6], "").replace("</OME>", "<ModuloAlongT Type=\"lifetime\" Start=\"0\" End=\"2\"/></OME>"),
            ),
            Refused(&["ModuloAlongT (lifetime)"]),
        ),
        one(
            "micro-manager/NDStorage#10, cgohlke/tifffile#23: NDTiff's axes stand in its pages only",
            ndtiff(),
            Refused(&["channel (2 values)", "--axes T,C2"]),
        ),
        Case { axes: Some("T,C2"), ..one("the same, said by the user", ndtiff(), Pages(pairs(3))) },
        one("NDTiff of times alone", Tiff { page_metadata: Some(times), ..Tiff::pages(3) }, Pages(frames(&[0, 1, 2]))),
        one(
            "TIFF 6.0, FillOrder 2: fax machines and some cameras",
            Tiff { fill_order: 2, ..Tiff::pages(2) },
            Refused(&["FillOrder 2"]),
        ),
        one(
            "ImageJ's `fps` is the speed at which it shows the stack",
            Tiff::described(6, "ImageJ=1.53\nimages=6\nframes=6\nfps=7\nloop=false\n"),
            Told(frames(&[0, 1, 2, 3, 4, 5]), &["7 Hz is its `fps`", "--rate"]),
        ),
    ]
}

/// Frame 8 of a recording of volumes of three planes is lost: its number is missing.
fn lost_in_a_volume(page: usize) -> String {
    let number = page + 1 + usize::from(page > 6);
    format!("frameNumbers = {number}\nframeTimestamps_sec = {:.6}\n", number as f64 * 0.033)
}

/// Two averaged frames a page.
fn averaged(page: usize) -> String {
    format!("frameNumbers = {}\nframeTimestamps_sec = {:.6}\n", 2 * page + 2, page as f64 * 0.066)
}

/// Every page counts by itself, as when a program took one channel out and kept the header.
fn of_one_channel(page: usize) -> String {
    format!("frameNumbers = {}\nframeTimestamps_sec = {:.6}\n", page + 1, page as f64 * 0.033)
}

fn scanimage() -> Vec<Case> {
    let both = ["hChannels.channelSave = [1;2]", RATE];
    let plain = |first| Tiff { first, ..Tiff::scanimage(3, &["hChannels.channelSave = 1", RATE]) };
    vec![
        Case {
            plane: Some(1),
            ..one(
                "MouseLand/suite2p#138: the planes change places in the middle of a recording (a frame was dropped)",
                Tiff { of_page: Some(lost_in_a_volume), ..fast(12, &[]) },
                Told(frames(&[1, 4, 9]), &["1 frame number(s) are missing", "3 page(s) of volumes that lack a frame"]),
            )
        },
        Case {
            plane: Some(0),
            ..case(
                "volumes: a file is missing between two others",
                vec![("x_00001.tif", fast(4, &[])), ("x_00003.tif", Tiff { first: 8, ..fast(4, &[]) })],
                Told(frames(&[0, 9]), &["begins with frame number 9", "ends with 4", "lack a frame"]),
            )
        },
        case(
            "a file is missing between two others",
            vec![("x_00001.tif", plain(0)), ("x_00003.tif", plain(6))],
            Told(frames(&[0, 1, 2, 6, 7, 8]), &["begins with frame number 7", "a file?"]),
        ),
        one(
            "averaged frames count all that went into them, which is no loss",
            Tiff {
                of_page: Some(averaged),
                ..Tiff::scanimage(6, &["hChannels.channelSave = 1", "hScan2D.logAverageFactor = 2", RATE])
            },
            Pages(frames(&[0, 1, 2, 3, 4, 5])),
        ),
        one(
            "the header says two channels, the pages number themselves as one",
            Tiff { of_page: Some(of_one_channel), ..Tiff::scanimage(6, &both) },
            Told(pairs(3), &["2 channels", "frame numbers of their own", "--axes T"]),
        ),
        Case {
            plane: Some(1),
            ..one(
                "ScanImage 3: an averaged stack",
                Tiff::described(
                    6,
                    "state.software.version=3.8\rstate.acq.savingChannel1=1\rstate.acq.numberOfZSlices=3\rstate.acq.numberOfFrames=4\r\
                     state.acq.averaging=1\rstate.acq.numAvgFramesSave=4\r",
                ),
                Pages(frames(&[1, 4])),
            )
        },
    ]
}

fn names() -> Vec<Case> {
    vec![
        case(
            "a file of a numbered series was lost in copying",
            vec![("a_1.tif", page(0)), ("a_2.tif", page(1)), ("a_3.tif", page(2)), ("a_5.tif", page(4))],
            Told(frames(&[0, 1, 2, 4]), &["1 file(s) are missing", "a_3.tif and a_5.tif"]),
        ),
        case(
            "one channel lacks a file in the middle: what follows would be paired wrong",
            vec![
                ("a_Ch1_1.tif", page(0)),
                ("a_Ch1_2.tif", page(1)),
                ("a_Ch1_3.tif", page(2)),
                ("a_Ch2_1.tif", page(5)),
                ("a_Ch2_3.tif", page(7)),
            ],
            Told(vec![vec![0, 5]], &["the first 1 are in all of them", "a_Ch1_2.tif beside a_Ch2_3.tif"]),
        ),
    ]
}

#[test]
fn units_signs_and_axes_of_other_names_are_read_or_asked_about() {
    texts().iter().for_each(check);
}

#[test]
fn scanimages_frame_numbers_keep_the_planes_apart_where_frames_were_lost() {
    scanimage().iter().for_each(check);
}

#[test]
fn files_that_are_missing_are_told_and_shift_nothing() {
    names().iter().for_each(check);
}

fn rate(tiff: &Tiff) -> Option<f64> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    tiff.write(&path);
    open_recording(&RecordingSpec::new(path, "rig".parse().unwrap())).unwrap().frame_rate_hz()
}

#[test]
fn imagej_counts_its_frame_interval_in_its_unit_of_time() {
    let of = |unit: &str| rate(&Tiff::described(6, &format!("ImageJ=1.53\nimages=6\nframes=6\nfinterval=40\n{unit}")));
    assert_eq!(
        [of("tunit=ms\n"), of("tunit=msec\n"), of(""), of("tunit=min\n")],
        [Some(25.0), Some(25.0), Some(1.0 / 40.0), Some(1.0 / 2400.0)]
    );
    assert_eq!(of("tunit=frame\n"), None, "that is no time");
}

/// The description of ScanImageTiffReader's own test file (9ketamineoriginalcropped.tif): int16 of ScanImage, cropped with ImageJ.
#[test]
fn signed_values_that_imagej_kept_as_unsigned_ones_are_signed_again() {
    let text = "ImageJ=1.49v\nimages=3\nslices=3\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\nloop=false\nmin=32556.0\nmax=34238.0\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    Tiff { plus: 32768, ..Tiff::described(3, text) }.write(&path);
    let spec = RecordingSpec::new(&path, "rig".parse().unwrap());
    assert_eq!(read(&spec), Ok((frames(&[0, 1, 2]), vec![])));
    let about = open_recording(&spec).unwrap().about();
    assert_eq!(about.get("pixel_offset").unwrap().value, -32768);
    // Other calibrations (optical density) change no pixel.
    Tiff::described(3, &text.replace("c0=-32768.0", "c0=2.0")).write(&path);
    assert_eq!(read(&spec), Ok((frames(&[0, 1, 2]), vec![])));
}

/// PrairieView's folder of volumes of three planes, one channel, a page a file: for each cycle its kind, and for each frame the z position, µm.
fn prairie(folder: &Path, to_and_fro: bool, cycles: &[(&str, &[f64])]) {
    let mut xml = "<?xml version=\"1.0\"?><PVScan version=\"5.5.64.500\"><PVStateShard><PVStateValue key=\"positionCurrent\">\
                   <SubindexedValues index=\"ZAxis\"><SubindexedValue subindex=\"0\" value=\"77\"/></SubindexedValues></PVStateValue></PVStateShard>"
        .to_owned();
    let mut number = 0;
    for (cycle, (kind, depths)) in cycles.iter().enumerate() {
        xml += &format!(
            "<Sequence type=\"{kind}\" cycle=\"{}\" bidirectionalZ=\"{}\">",
            cycle + 1,
            if to_and_fro { "True" } else { "False" }
        );
        for (index, z) in depths.iter().enumerate() {
            let name = format!("T_Cycle{:05}_Ch1_{:06}.ome.tif", cycle + 1, index + 1);
            page(number).write(&folder.join(&name));
            let shard = format!(
                "<PVStateShard><PVStateValue key=\"laserPower\"><IndexedValue index=\"0\" value=\"9\"/></PVStateValue><PVStateValue \
                 key=\"positionCurrent\"><SubindexedValues index=\"XAxis\"><SubindexedValue subindex=\"0\" value=\"5\"/></SubindexedValues>\
                 <SubindexedValues index=\"ZAxis\"><SubindexedValue subindex=\"0\" value=\"100\" description=\"Z Focus\"/><SubindexedValue \
                 subindex=\"1\" value=\"{z}\" description=\"Piezo\"/></SubindexedValues></PVStateValue></PVStateShard>"
            );
            let shard = if z.is_finite() { shard } else { String::new() };
            xml += &format!(
                "<Frame absoluteTime=\"{:.2}\" index=\"{}\"><File channel=\"1\" page=\"1\" filename=\"{name}\"/>{shard}</Frame>",
                number as f64 * 0.1,
                index + 1
            );
            number += 1;
        }
        xml += "</Sequence>";
    }
    std::fs::write(folder.join("T.xml"), xml + "</PVScan>").unwrap();
}

const Z: &str = "TSeries ZSeries Element";
/// The XML gives no position.
const UNKNOWN: [f64; 3] = [f64::NAN; 3];

fn plane(folder: &Path, plane: u64) -> Result<crate::recordings::Found, String> {
    read(&RecordingSpec { plane: Some(plane), ..RecordingSpec::new(folder, "rig".parse().unwrap()) })
}

/// brukerbridge turns every second cycle round; the positions of the frames say the same, or better.
#[test]
fn prairieviews_volumes_that_run_back_and_forth_have_each_plane_at_its_depth() {
    let pages = |folder: &Path, at| plane(folder, at).unwrap().0;
    let forth = [0.0, 10.0, 20.0];
    let back = [20.0, 10.0, 0.0];
    for (to_and_fro, cycles, first, last) in [
        (true, [UNKNOWN; 4], [0, 5, 6, 11], [2, 3, 8, 9]),
        (true, [forth, back, forth, back], [0, 5, 6, 11], [2, 3, 8, 9]),
        // Listed in the order of their depth already.
        (true, [forth, forth, forth, forth], [0, 3, 6, 9], [2, 5, 8, 11]),
        // The attribute is missing or wrong, the depths are not.
        (false, [forth, back, forth, back], [0, 5, 6, 11], [2, 3, 8, 9]),
        (false, [UNKNOWN; 4], [0, 3, 6, 9], [2, 5, 8, 11]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        prairie(dir.path(), to_and_fro, &cycles.each_ref().map(|depths| (Z, depths.as_slice())));
        assert_eq!(pages(dir.path(), 0), frames(&first), "{to_and_fro} {cycles:?}");
        assert_eq!(pages(dir.path(), 2), frames(&last), "{to_and_fro} {cycles:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    prairie(dir.path(), true, &[(Z, &forth), (Z, &back), (Z, &forth), (Z, &back)]);
    let spec = RecordingSpec { plane: Some(0), ..RecordingSpec::new(dir.path(), "rig".parse().unwrap()) };
    let mut source = open_recording(&spec).unwrap();
    assert_eq!(source.times_ns().unwrap(), [0, 500_000_000, 600_000_000, 1_100_000_000], "by turns near and far");
    assert!((source.frame_rate_hz().unwrap() - 3.0 / 1.1).abs() < 1e-6, "the mean, because no step is the usual one");
    assert_eq!(source.about().get("volumes_reversed").unwrap().value, 2);
}

#[test]
fn prairieviews_cycles_that_are_not_alike_rotate_no_plane() {
    let dir = tempfile::tempdir().unwrap();
    prairie(dir.path(), false, &[(Z, &UNKNOWN), (Z, &UNKNOWN), (Z, &UNKNOWN[..2]), (Z, &UNKNOWN)]);
    let (found, warnings) = plane(dir.path(), 1).unwrap();
    assert_eq!(found, frames(&[1, 4]));
    assert!(warnings[0].contains("11 frames") && warnings[0].contains("first 6 are whole"), "{warnings:?}");
    let dir = tempfile::tempdir().unwrap();
    prairie(dir.path(), false, &[(Z, &UNKNOWN), ("TSeries Timed Element", &UNKNOWN), (Z, &UNKNOWN)]);
    let error = plane(dir.path(), 1).unwrap_err();
    assert!(error.contains("2 cycles that are z-series and 1 that are not"), "{error}");
}

/// 60 frames at 10 Hz from 2.5 s on, and a voltage recording from 1.5 s on whose camera gives a pulse every 50 ms after 3 s.
fn with_voltages(folder: &Path, pulses: usize) {
    let mut xml = "<?xml version=\"1.0\"?><PVScan version=\"5.5.64.500\"><Sequence type=\"TSeries Timed Element\" cycle=\"1\"><VoltageRecording \
                   name=\"cam\" cycle=\"1\" index=\"1\" configurationFile=\"v.env\" dataFile=\"T_Cycle00001_VoltageRecording_001.csv\" \
                   relativeTime=\"0\" absoluteTime=\"1.5\"/>"
        .to_owned();
    for frame in 0..60 {
        let name = format!("T_Cycle00001_Ch1_{:06}.ome.tif", frame + 1);
        page(frame).write(&folder.join(&name));
        xml += &format!(
            "<Frame absoluteTime=\"{:.2}\" index=\"{}\"><File channel=\"1\" page=\"1\" filename=\"{name}\"/></Frame>",
            2.5 + frame as f64 * 0.1,
            frame + 1
        );
    }
    std::fs::write(folder.join("T.xml"), xml + "</Sequence></PVScan>").unwrap();
    let pulse = |ms: usize| ms >= 3000 && (ms - 3000) % 50 < 10 && (ms - 3000) / 50 < pulses;
    let rows: String = (0..8000).map(|ms| format!("{ms},0.01,{}\n", if pulse(ms) { 3.3 } else { 0.02 })).collect();
    std::fs::write(folder.join("T_Cycle00001_VoltageRecording_001.csv"), format!("Time(ms), Input 0, Input 1\n{rows}"))
        .unwrap();
    let rows: String = (0..40).map(|row| format!("{:.3}\n", (f64::from(row) / 9.0).sin())).collect();
    std::fs::write(folder.join("b.csv"), format!("speed\n{rows}")).unwrap();
}

#[test]
fn prairieviews_voltage_recording_ties_the_cameras_pulses_to_the_frames() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let facts = |keys: &str| {
        let toml = format!(
            "frame_rate_hz = 10.0\nbehaviour_rate_hz = 20.0\n[[trial]]\nanimal = \"a\"\nframes = {{ path = \".\" }}\nbehaviour = \"b.csv\"\n\
             voltage_recording = \"T_Cycle00001_VoltageRecording_001.csv\"\n{keys}\n"
        );
        std::fs::write(folder.join("dataset.toml"), toml).unwrap();
        let spec = DataSpec::from_toml(&folder.join("dataset.toml")).map_err(|e| e.to_string())?;
        let (trials, _) = inspect(&spec).map_err(|e| e.to_string())?;
        Ok::<_, String>((trials[0].with_behaviour, trials[0].first_with_behaviour, trials[0].last_with_behaviour))
    };
    with_voltages(folder, 40);
    // The first pulse at 1.5 + 3 s is 2 s after the first frame; forty of them last 2 s.
    assert_eq!(facts("camera_line = \"Input 1\""), Ok((20, Some(20), Some(39))));
    assert!(facts("").unwrap_err().contains("Input 0, Input 1"));
    assert!(facts("camera_line = \"Input 0\"").unwrap_err().contains("no camera pulse"));
    assert!(facts("camera_line = \"Input 1\"\noffset_s = 1.0").unwrap_err().contains("more than one way"));
    with_voltages(folder, 39);
    let error = facts("camera_line = \"Input 1\"").unwrap_err();
    assert!(error.contains("39 camera pulses") && error.contains("40"), "{error}");
}

/// A TwoPhotonSeries of 3 frames, and what its `dimension` says.
fn nwb(path: &Path, sides: [usize; 2], dimension: Option<[i32; 2]>) {
    let file = H5File::create(path).unwrap();
    file.root_group().set_attr_string("neurodata_type", "NWBFile").unwrap();
    let series = file.root_group().create_group("acquisition").unwrap().create_group("TwoPhotonSeries").unwrap();
    series.set_attr_string("neurodata_type", "TwoPhotonSeries").unwrap();
    let pixels = vec![7_u16; 3 * sides[0] * sides[1]];
    series.new_dataset::<u16>().shape([3, sides[0], sides[1]]).create("data").unwrap().write_raw(&pixels).unwrap();
    if let Some(dimension) = dimension {
        series.new_dataset::<i32>().shape([2]).create("dimension").unwrap().write_raw(&dimension).unwrap();
    }
    file.close().unwrap();
}

/// NeurodataWithoutBorders/nwb-schema#660: most programs write (time, rows, columns), the format says (time, x, y).
#[test]
fn frames_whose_file_does_not_say_their_orientation_are_told_square_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.nwb");
    let warnings = || open_recording(&RecordingSpec::new(&path, "rig".parse().unwrap())).unwrap().about().warnings;
    nwb(&path, [40, 30], None);
    assert!(
        warnings()[0].contains("30 rows and 40 columns") && warnings()[0].contains("--orientation rows-first"),
        "{:?}",
        warnings()
    );
    nwb(&path, [40, 30], Some([512, 512]));
    assert!(warnings()[0].contains("`dimension` says 512×512"), "{:?}", warnings());
    nwb(&path, [40, 30], Some([30, 40]));
    assert!(warnings().is_empty(), "the dimension shows the order: {:?}", warnings());
    nwb(&path, [30, 30], Some([30, 30]));
    assert!(warnings()[0].contains("are square"), "{:?}", warnings());
}
