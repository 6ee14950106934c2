//! Method: as in `recordings`, a second table of kinds of files that public reports of the field describe (each row names its report in words):
//! what the names of files count, channels and regions that are chosen, re-saves, strangers; and recordings of Scanbox, written here.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use haltere::source::{RecordingSpec, open_recording};

use crate::recordings::Right::{Pages, Refused, Told};
use crate::recordings::{Case, case, check, cut, fast, frames, ome, one, pairs, read};
use crate::support::scanbox::Scanbox;
use crate::support::tiffs::Tiff;

const RATE: &str = "hRoiManager.scanFrameRate = 30";

fn page(first: usize) -> Tiff {
    Tiff { first, ..Tiff::pages(1) }
}

/// The channels of four that stand at these places.
fn of_four(times: usize, channels: &[usize]) -> Vec<Vec<usize>> {
    (0..times).map(|time| channels.iter().map(|channel| 4 * time + channel).collect()).collect()
}

fn chosen() -> Vec<Case> {
    let four = || Tiff::scanimage(12, &["hChannels.channelSave = [1;2;3;4]", RATE]);
    let regions = r#"{"RoiGroups":{"imagingRoiGroup":{"rois":[
        {"enable":1,"scanfields":{"pixelResolutionXY":[24,40]}},{"enable":1,"scanfields":{"pixelResolutionXY":[24,40]}}]}}}"#;
    let mroi = |channels: &str| Tiff {
        height: 88,
        artist: regions.into(),
        ..Tiff::scanimage(6, &[channels, "hRoiManager.mroiEnable = true", RATE])
    };
    let two = "hChannels.channelSave = [1;2]";
    let alone = "hChannels.channelSave = 1";
    vec![
        one("four channels saved, none chosen", four(), Refused(&["4 channels", "--channels 0"])),
        Case { channels: &[2], ..one("the third of them", four(), Pages(of_four(3, &[2]))) },
        Case { channels: &[3, 0], ..one("two of them, in the order asked", four(), Pages(of_four(3, &[3, 0]))) },
        Case {
            channels: &[4],
            ..one("one that does not exist", four(), Refused(&["4 channel(s), 0 to 3", "channel 4"]))
        },
        Case { channels: &[1, 1], ..one("the same twice", four(), Refused(&["chosen twice"])) },
        Case { channels: &[0, 1, 2], ..one("three at once", four(), Refused(&["3 channels are chosen", "1 to 2"])) },
        Case {
            channels: &[1],
            ..case(
                "one of two channels in files of their own",
                vec![("a_Ch1_1.tif", Tiff::pages(3)), ("a_Ch2_1.tif", Tiff { first: 5, ..Tiff::pages(3) })],
                Pages(frames(&[5, 6, 7])),
            )
        },
        one("suite2p's mesoscope: two regions, none chosen", mroi(alone), Refused(&["2 regions", "--roi 0 to 1"])),
        Case { roi: Some(0), ..one("the first region", mroi(alone), Pages(frames(&[0, 1, 2, 3, 4, 5]))) },
        Case { roi: Some(1), ..one("the second region", mroi(alone), Pages(frames(&[0, 1, 2, 3, 4, 5]))) },
        Case { roi: Some(1), ..one("the second region of two channels", mroi(two), Pages(pairs(3))) },
        Case { roi: Some(2), ..one("a region that does not exist", mroi(alone), Refused(&["0 to 1"])) },
        Case {
            roi: Some(1),
            ..one(
                "regions that do not add up to the page",
                Tiff { height: 79, ..mroi(alone) },
                Refused(&["do", "79×24", "--axes T"]),
            )
        },
        Case { axes: Some("T"), ..one("the stacked image as it is", mroi(alone), Pages(frames(&[0, 1, 2, 3, 4, 5]))) },
        Case { roi: Some(0), ..one("a region of a plain file", Tiff::pages(3), Refused(&["--roi"])) },
        Case {
            roi: Some(1),
            ..one("a second region where there is one", Tiff::scanimage(3, &[alone, RATE]), Refused(&["leave it out"]))
        },
    ]
}

fn names() -> Vec<Case> {
    [of_micro_manager(), of_runs(), among_strangers()].into_iter().flatten().collect()
}

fn of_micro_manager() -> Vec<Case> {
    let grid = || {
        vec![
            ("img_channel000_position000_time000000000_z000.tif", page(0)),
            ("img_channel000_position000_time000000000_z001.tif", page(1)),
            ("img_channel000_position000_time000000001_z000.tif", page(2)),
            ("img_channel000_position000_time000000001_z001.tif", page(3)),
        ]
    };
    vec![
        case(
            "Micro-Manager 2, separate files: planes beside times",
            grid(),
            Refused(&["numbered twice", "time000000000", "z000", "--axes T,Z2"]),
        ),
        Case {
            axes: Some("T,Z2"),
            plane: Some(1),
            ..case("the same, said by the user", grid(), Pages(frames(&[1, 3])))
        },
        case(
            "Micro-Manager 2, separate files: two channels and times",
            vec![
                ("img_channel000_position000_time000000000_z000.tif", page(0)),
                ("img_channel000_position000_time000000001_z000.tif", page(1)),
                ("img_channel001_position000_time000000000_z000.tif", page(5)),
                ("img_channel001_position000_time000000001_z000.tif", page(6)),
            ],
            Pages(vec![vec![0, 5], vec![1, 6]]),
        ),
        case(
            "Micro-Manager 1.4, separate files",
            vec![("img_000000000_Default_000.tif", page(0)), ("img_000000001_Default_000.tif", page(1))],
            Pages(frames(&[0, 1])),
        ),
        case(
            "Micro-Manager 1.4 with planes",
            vec![
                ("img_000000000_Default_000.tif", page(0)),
                ("img_000000000_Default_001.tif", page(1)),
                ("img_000000001_Default_000.tif", page(2)),
            ],
            Refused(&["numbered twice"]),
        ),
    ]
}

fn of_runs() -> Vec<Case> {
    vec![
        case(
            "two acquisitions with two files each, no header (re-saved)",
            vec![
                ("file_00001_00001.tif", page(0)),
                ("file_00001_00002.tif", page(1)),
                ("file_00002_00001.tif", page(2)),
                ("file_00002_00002.tif", page(3)),
            ],
            Refused(&["numbered twice", "runs"]),
        ),
        Case {
            path: "file_00002_*.tif",
            ..case(
                "one of them by a pattern",
                vec![
                    ("file_00001_00001.tif", page(0)),
                    ("file_00002_00001.tif", page(2)),
                    ("file_00002_00002.tif", page(3)),
                ],
                Pages(frames(&[2, 3])),
            )
        },
        case(
            "a number and a time that grow together (camera software)",
            vec![("a_1_t033.tif", page(0)), ("a_2_t066.tif", page(1)), ("a_10_t330.tif", page(2))],
            Pages(frames(&[0, 1, 2])),
        ),
        case(
            "numbers without leading zeros",
            vec![("9.tif", page(0)), ("10.tif", page(1)), ("11.tif", page(2))],
            Pages(frames(&[0, 1, 2])),
        ),
        case(
            "upper-case and long extensions",
            vec![("a_1.TIF", page(0)), ("a_2.TIF", page(1))],
            Pages(frames(&[0, 1])),
        ),
    ]
}

fn among_strangers() -> Vec<Case> {
    vec![
        case(
            "a max projection among the planes of a run",
            vec![("MAX_a_1.tif", page(0)), ("a_1.tif", page(1)), ("a_2.tif", page(2))],
            Refused(&["MAX_a_1.tif", "2 files from a_1.tif to a_2.tif"]),
        ),
        case(
            "a file of another size",
            vec![("a_1.tif", page(0)), ("a_2.tif", Tiff { width: 20, ..page(1) })],
            Refused(&["16×20", "16×24"]),
        ),
        case(
            "a file of another pixel type (a mean image in float32)",
            vec![("a_1.tif", page(0)), ("a_2.tif", Tiff { bits: 32, format: 3, ..page(1) })],
            Refused(&["float32", "uint16"]),
        ),
        case("an empty folder but for text", vec![], Refused(&["contains no readable file"])),
    ]
}

fn described() -> Vec<Case> {
    [by_imagej(), by_ome(), by_tifffile(), by_scanimage()].into_iter().flatten().collect()
}

fn by_imagej() -> Vec<Case> {
    let stack = |text: &str| Tiff::described(12, text);
    let kept = |channels: &str| Tiff {
        kept: format!(" \nSI.hChannels.channelSave = {channels}\nSI.hRoiManager.scanFrameRate = 30\n"),
        ..Tiff::described(6, "ImageJ=1.54f\nimages=6\nframes=6\n")
    };
    vec![
        one(
            "Fiji re-save of a ScanImage file: the kept header says two channels",
            kept("[1;2]"),
            Refused(&["the ImageJ description says 1 channel(s)", "ImageJ kept says 2 channel(s)", "--axes"]),
        ),
        Case { axes: Some("T,C2"), ..one("the same, said by the user", kept("[1;2]"), Pages(pairs(3))) },
        one("the same of one channel", kept("1"), Pages(frames(&[0, 1, 2, 3, 4, 5]))),
        one(
            "ImageJ: a movie that was opened as a stack of slices",
            stack("ImageJ=1.53\nimages=12\nslices=12\n"),
            Pages(frames(&(0..12).collect::<Vec<_>>())),
        ),
        Case {
            plane: Some(1),
            ..one(
                "ImageJ order=ctz: all times of a plane before the next",
                stack("ImageJ=1.53\nimages=12\nchannels=2\nslices=3\nframes=2\norder=ctz\n"),
                Pages(vec![vec![4, 5], vec![6, 7]]),
            )
        },
        Case {
            plane: Some(0),
            ..one(
                "ImageJ order=tzc: the channels one after the other",
                stack("ImageJ=1.53\nimages=12\nchannels=2\nslices=3\nframes=2\norder=tzc\n"),
                Pages(vec![vec![0, 6], vec![1, 7]]),
            )
        },
        one("ImageJ with an order that is none", stack("ImageJ=1.53\nimages=12\norder=ccz\n"), Refused(&["order"])),
        one(
            "ImageJ with 0 frames",
            stack("ImageJ=1.53\nimages=12\nchannels=0\nframes=12\n"),
            Pages(frames(&(0..12).collect::<Vec<_>>())),
        ),
        one("ImageJ with CR LF", stack("ImageJ=1.53\r\nimages=12\r\nchannels=2\r\nframes=6\r\n"), Pages(pairs(6))),
        one(
            "a description that is prose",
            stack("fly 7, left antennal lobe, 920 nm\n"),
            Pages(frames(&(0..12).collect::<Vec<_>>())),
        ),
    ]
}

fn by_ome() -> Vec<Case> {
    vec![
        one(
            "OME in another order: all times of a channel first",
            Tiff::described(6, &ome([2, 1, 3], "").replace("XYCZT", "XYTZC")),
            Pages(vec![vec![0, 3], vec![1, 4], vec![2, 5]]),
        ),
        one(
            "OME sizes that the pages contradict",
            Tiff::described(4, &ome([2, 1, 5], "")),
            Refused(&["10 pages", "4 pages"]),
        ),
        one(
            "OME lists two pages for the same plane",
            Tiff::described(
                3,
                &ome(
                    [1, 1, 2],
                    r#"<TiffData IFD="0" FirstT="0"/><TiffData IFD="2" FirstT="0"/><TiffData IFD="1" FirstT="1"/>"#,
                ),
            ),
            Refused(&["two pages", "time 0"]),
        ),
        one(
            "OME with a prefix (bfconvert of old versions)",
            Tiff::described(6, &ome([2, 1, 3], "").replace("<OME", "<ome:OME").replace("</OME", "</ome:OME")),
            Pages(pairs(3)),
        ),
        one("OME that breaks off", Tiff::described(3, &ome([1, 1, 3], "")[..150]), Refused(&["OME"])),
        one(
            "OME of RGB",
            Tiff::described(3, &ome([3, 1, 3], r#"<Channel SamplesPerPixel="3"/>"#)),
            Refused(&["3 samples per pixel"]),
        ),
    ]
}

fn by_tifffile() -> Vec<Case> {
    vec![
        Case {
            plane: Some(2),
            ..one(
                "tifffile's volumes",
                Tiff::described(12, r#"{"shape": [2, 3, 2, 16, 24], "axes": "TZCYX"}"#),
                Pages(vec![vec![4, 5], vec![10, 11]]),
            )
        },
        one(
            "tifffile's axes of length one",
            Tiff::described(5, r#"{"shape": [1, 5, 1, 16, 24]}"#),
            Pages(frames(&[0, 1, 2, 3, 4])),
        ),
        one(
            "tifffile's shape with the samples last",
            Tiff::described(5, r#"{"shape": [5, 16, 24, 1]}"#),
            Refused(&["[5, 16, 24, 1]"]),
        ),
        one(
            "tifffile's shape with hostile sizes",
            Tiff::described(2, r#"{"shape": [4294967296, 4294967296, 2, 16, 24], "axes": "TZCYX"}"#),
            Refused(&["2 pages"]),
        ),
    ]
}

fn by_scanimage() -> Vec<Case> {
    vec![
        Case {
            plane: Some(1),
            ..one(
                "ScanImage 2015 (5.1): slicesPerAcq",
                Tiff::scanimage(
                    9,
                    &["hChannels.channelSave = 1", "hFastZ.enable = true", "hStackManager.slicesPerAcq = 3", RATE],
                ),
                Pages(frames(&[1, 4, 7])),
            )
        },
        one(
            "ScanImage: slices left over from a stack before",
            Tiff::scanimage(
                4,
                &[
                    "hChannels.channelSave = 1",
                    "hStackManager.enable = false",
                    "hFastZ.enable = false",
                    "hStackManager.numSlices = 30",
                    RATE,
                ],
            ),
            Pages(frames(&[0, 1, 2, 3])),
        ),
        one(
            "ScanImage: a volume that was aborted in its third",
            fast(8, &[]),
            Refused(&["3 planes × 2 times", "plane 0 to 2"]),
        ),
        Case {
            plane: Some(0),
            ..one(
                "the same, one plane",
                fast(8, &[]),
                Told(frames(&[0, 3]), &["2 page(s) at the end make no whole volume"]),
            )
        },
        one(
            "ScanImage: channels in a row of MATLAB",
            Tiff::scanimage(4, &["hChannels.channelSave = [1 2]", RATE]),
            Pages(pairs(2)),
        ),
    ]
}

fn strangers() -> Vec<Case> {
    let bytes = |report, content: &[u8], right| Case {
        report,
        files: vec![("x.tif", content.to_vec())],
        path: "x.tif",
        right,
        ..Case::default()
    };
    vec![
        bytes("an empty file: the disk was full", b"", Refused(&["not a TIFF"])),
        bytes(
            "a web page that was saved as .tif",
            b"<!DOCTYPE html><html>403 Forbidden</html>",
            Refused(&["not a TIFF"]),
        ),
        bytes(
            "a pointer of Git LFS or git-annex in place of the file",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            Refused(&["pointer", "git lfs pull"]),
        ),
        bytes("an archive named .tif", b"PK\x03\x04 and more", Refused(&["not a TIFF"])),
        cut("only the first bytes were copied", Tiff::pages(3), 2640, Refused(&["x.tif"])),
        one(
            "colour (a screen shot)",
            Tiff { samples: 3, bits: 8, ..Tiff::pages(2) },
            Refused(&["3 samples per pixel"]),
        ),
        one(
            "64 bit floating point (MATLAB)",
            Tiff { bits: 64, format: 3, ..Tiff::pages(2) },
            Refused(&["64 bit floating point"]),
        ),
        one("signed 8 bit", Tiff { bits: 8, format: 2, ..Tiff::pages(2) }, Refused(&["8 bit signed"])),
        one("1 bit masks", Tiff { bits: 1, ..Tiff::pages(2) }, Refused(&["1 bit"])),
        one("uint32 of an averaging camera", Tiff { bits: 32, ..Tiff::pages(2) }, Refused(&["32 bit unsigned"])),
        one("JPEG", Tiff { compression: 7, ..Tiff::pages(2) }, Refused(&["JPEG", "compression 7"])),
        one("LZMA", Tiff { compression: 34925, ..Tiff::pages(2) }, Refused(&["LZMA"])),
        one("LERC", Tiff { compression: 34887, ..Tiff::pages(2) }, Refused(&["LERC"])),
        one("JPEG 2000", Tiff { compression: 34712, ..Tiff::pages(2) }, Refused(&["JPEG 2000"])),
    ]
}

#[test]
fn channels_and_regions_are_chosen_or_asked_for() {
    chosen().iter().for_each(check);
}

#[test]
fn planes_positions_and_runs_in_the_names_of_files_are_not_taken_for_times() {
    names().iter().for_each(check);
}

#[test]
fn descriptions_of_other_programs_and_re_saves_decide_or_are_refused() {
    described().iter().for_each(check);
}

#[test]
fn what_is_no_recording_is_named_as_what_it_is() {
    strangers().iter().for_each(check);
}

fn scanbox(recording: &Scanbox, plane: Option<u64>) -> Result<crate::recordings::Found, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = recording.write(folder.path());
    read(&RecordingSpec { plane, ..RecordingSpec::new(path, "rig".parse().unwrap()) })
}

#[test]
fn scanbox_is_read_upright_with_its_channels_planes_and_rate() {
    let six = frames(&[0, 1, 2, 3, 4, 5]);
    for compressed in [true, false] {
        assert_eq!(scanbox(&Scanbox { compressed, ..Scanbox::default() }, None), Ok((six.clone(), vec![])));
    }
    // Lines in both directions: a record holds two of them.
    let both_ways = Scanbox::default().with("scanmode", &[0.0]).with("recordsPerBuffer", &[8.0]);
    assert_eq!(scanbox(&both_ways, None), Ok((six.clone(), vec![])));
    let two = Scanbox { channels: 2, ..Scanbox::default().with("channels", &[1.0]) };
    assert_eq!(scanbox(&two, None), Ok(((0..6).map(|n| vec![n, n + 10]).collect(), vec![])));
    let tuned = Scanbox::default().with("volscan", &[1.0]).with("otwave", &[0.0, 50.0, 100.0]);
    assert!(scanbox(&tuned, None).unwrap_err().contains("3 planes × 2 times"));
    assert_eq!(scanbox(&tuned, Some(1)), Ok((frames(&[1, 4]), vec![])));
    let rate = |recording: &Scanbox, plane| {
        let folder = tempfile::tempdir().unwrap();
        let spec =
            RecordingSpec { plane, ..RecordingSpec::new(recording.write(folder.path()), "rig".parse().unwrap()) };
        open_recording(&spec).unwrap().frame_rate_hz().unwrap()
    };
    assert_eq!([rate(&Scanbox::default(), None), rate(&both_ways, None), rate(&tuned, Some(0))], [30.0, 60.0, 10.0]);
}

#[test]
fn a_scanbox_recording_that_was_cut_or_contradicts_itself_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = Scanbox::default().write(folder.path());
    let spec = RecordingSpec::new(&path, "rig".parse().unwrap());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let (found, warnings) = read(&spec).unwrap();
    assert_eq!(found.len(), 5);
    assert!(warnings[0].contains("759 bytes"), "{warnings:?}");
    assert!(read(&RecordingSpec { strict: true, ..spec.clone() }).unwrap_err().contains("--strict"));
    let refused = |recording: Scanbox, word: &str| {
        let error = scanbox(&recording, None).unwrap_err();
        assert!(error.contains(word), "{error}");
    };
    refused(Scanbox::default().with("recordsPerBuffer", &[12.0]), "16 rows (info.sz), but 12 rows");
    refused(Scanbox::default().with("channels", &[9.0]), "channels = Some(9)");
    refused(Scanbox { pages: 0, ..Scanbox::default() }, "less than one time");
    for (mat, word) in [(&b"\x89HDF\r\n"[..], "-v7"), (b"MATLAB 5.0", "not a MATLAB file"), (b"", "not a MATLAB file")]
    {
        std::fs::write(folder.path().join("x.mat"), mat).unwrap();
        let error = read(&spec).unwrap_err();
        assert!(error.contains("x.mat") && error.contains(word), "{error}");
    }
    std::fs::remove_file(folder.path().join("x.mat")).unwrap();
    assert!(read(&spec).unwrap_err().contains(".mat of the same name"));
}
