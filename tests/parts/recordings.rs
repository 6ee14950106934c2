//! Method: small files as public bug reports of the field describe them (each row names its report), written tag by tag, and what is
//! read compared with the pages that are right: the number of the page in every channel of every frame, or the words of the refusal.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use haltere::frame::{Frame, Pixels};
use haltere::source::{Next, RecordingSpec, open_recording};

use crate::support::tiffs::Tiff;

/// What is right: for each frame the pages of its channels, or words of the refusal.
pub enum Right {
    Pages(Vec<Vec<usize>>),
    Told(Vec<Vec<usize>>, &'static [&'static str]),
    Refused(&'static [&'static str]),
}

impl Default for Right {
    fn default() -> Self {
        Self::Refused(&[])
    }
}
use Right::{Pages, Refused, Told};

/// One row: a kind of file with its report, its files, what the user says, and what is right.
#[derive(Default)]
pub struct Case {
    pub report: &'static str,
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Empty: the folder of all files.
    pub path: &'static str,
    pub plane: Option<u64>,
    pub axes: Option<&'static str>,
    pub channels: &'static [usize],
    pub roi: Option<usize>,
    pub right: Right,
}

pub fn case(report: &'static str, files: Vec<(&'static str, Tiff)>, right: Right) -> Case {
    let files = files.into_iter().map(|(name, tiff)| (name, tiff.bytes())).collect();
    Case { report, files, right, ..Case::default() }
}

pub fn one(report: &'static str, tiff: Tiff, right: Right) -> Case {
    Case { path: "x.tif", ..case(report, vec![("x.tif", tiff)], right) }
}

pub fn cut(report: &'static str, tiff: Tiff, bytes: usize, right: Right) -> Case {
    let mut whole = tiff.bytes();
    whole.truncate(whole.len() - bytes);
    Case { report, files: vec![("x.tif", whole)], path: "x.tif", right, ..Case::default() }
}

pub fn frames(pages: &[usize]) -> Vec<Vec<usize>> {
    pages.iter().map(|page| vec![*page]).collect()
}

pub fn pairs(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|frame| vec![2 * frame, 2 * frame + 1]).collect()
}

const OME: &str = r#"<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" Type="uint16" SizeX="24" SizeY="16""#;

pub fn ome(sizes: [usize; 3], inside: &str) -> String {
    let [c, z, t] = sizes;
    format!("{OME} SizeC=\"{c}\" SizeZ=\"{z}\" SizeT=\"{t}\">{inside}</Pixels></Image></OME>")
}

fn bruker(channel: usize) -> Tiff {
    let data = |c: usize, t: usize| {
        format!(
            r#"<TiffData FirstC="{c}" FirstT="{t}" IFD="{t}" PlaneCount="1"><UUID FileName="T_Cycle00001_Ch{}_000001.ome.tif">u</UUID></TiffData>"#,
            c + 1
        )
    };
    let inside: String = (0..2).flat_map(|c| (0..6).map(move |t| data(c, t))).collect();
    Tiff { first: 10 * channel, ..Tiff::described(6, &ome([2, 1, 6], &inside)) }
}

const FAST: [&str; 5] = [
    "hChannels.channelSave = 1",
    "hFastZ.enable = true",
    "hStackManager.enable = true",
    "hStackManager.numSlices = 3",
    "hRoiManager.scanFrameRate = 30",
];

pub fn fast(pages: usize, more: &[&str]) -> Tiff {
    Tiff::scanimage(pages, &[&FAST, more].concat())
}

pub fn texts() -> Vec<Case> {
    [of_imagej(), of_tifffile(), of_ome(), of_pixels()].into_iter().flatten().collect()
}

fn of_imagej() -> Vec<Case> {
    let imagej = "ImageJ=1.53t\nimages=10\nchannels=2\nframes=5\nhyperstack=true\nunit=";
    let mut latin1 = imagej.as_bytes().to_vec();
    latin1.extend(b"\xb5m\nfinterval=0.05\n");
    vec![
        one(
            "ImageJ writes unit=µm as Latin-1",
            Tiff { pages: 10, description: latin1, ..Tiff::default() },
            Pages(pairs(5)),
        ),
        one(
            "ImageJ order=zct (tifffile reads the same)",
            Tiff::described(12, "ImageJ=1.53\nimages=12\nchannels=2\nslices=3\nframes=2\norder=zct\n"),
            Refused(&["3 planes × 2 times", "plane 0 to 2"]),
        ),
        Case {
            plane: Some(1),
            ..one(
                "the same, one plane",
                Tiff::described(12, "ImageJ=1.53\nimages=12\nchannels=2\nslices=3\nframes=2\norder=zct\n"),
                Pages(vec![vec![1, 4], vec![7, 10]]),
            )
        },
        one(
            "ImageJ's description of another file: 24 images, 13 pages",
            Tiff::described(13, "ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4\n"),
            Refused(&["24 pages", "13 pages", "--axes"]),
        ),
        one(
            "a channel taken out of a hyperstack by a program that kept the description",
            Tiff::described(10, "ImageJ=1.53\nimages=20\nchannels=2\nframes=10\n"),
            Refused(&["20 pages", "10 pages"]),
        ),
        one(
            "ImageJ says 12 images and sizes that make 10",
            Tiff::described(10, "ImageJ=1.53\nimages=12\nchannels=2\nframes=5\n"),
            Refused(&["10 pages", "12 images"]),
        ),
        one(
            "hostile ImageJ sizes whose product is zero in 64 bits",
            Tiff::described(4, "ImageJ=1.53\nchannels=4294967296\nslices=4294967296\n"),
            Refused(&["more than can be counted", "4 pages"]),
        ),
        one(
            "hostile OME sizes",
            Tiff::described(4, &ome([4_294_967_296, 4_294_967_296, 1], "")),
            Refused(&["more than can be counted"]),
        ),
    ]
}

fn of_tifffile() -> Vec<Case> {
    vec![
        one(
            "cgohlke/tifffile#50, #71, #322: tifffile.imwrite of (T, 2, Y, X)",
            Tiff::described(10, r#"{"shape": [5, 2, 16, 24], "axes": "TCYX"}"#),
            Pages(pairs(5)),
        ),
        one(
            "the same without the names of the axes",
            Tiff::described(10, r#"{"shape": [5, 2, 16, 24]}"#),
            Refused(&["--axes T,C2", "--axes T,Z2"]),
        ),
        Case {
            axes: Some("T,C2"),
            ..one("the same, said by the user", Tiff::described(10, r#"{"shape": [5, 2, 16, 24]}"#), Pages(pairs(5)))
        },
        Case {
            axes: Some("C2,T"),
            ..one("all of one channel, then the other", Tiff::pages(6), Pages(vec![vec![0, 3], vec![1, 4], vec![2, 5]]))
        },
        Case {
            axes: Some("T,C2"),
            ..one("an aborted run, said by the user", Tiff::pages(7), Told(pairs(3), &["1 page(s) at the end"]))
        },
        Case {
            axes: Some("C2,T"),
            ..one("all of one channel, but one page too many", Tiff::pages(7), Refused(&["6 pages", "7 pages"]))
        },
        Case {
            axes: Some("T,C4"),
            ..one("the user says more than there is", Tiff::pages(3), Refused(&["--axes says 4 channel(s)", "3 pages"]))
        },
        one(
            "tifffile's shape of one movie in a file of two",
            Tiff::described(7, r#"{"shape": [5, 16, 24]}"#),
            Refused(&["5 pages", "7 pages"]),
        ),
        one(
            "tifffile with truncate=True: one directory for all pages",
            Tiff {
                one_directory: true,
                ..Tiff::described(6, r#"{"shape": [3, 2, 16, 24], "axes": "TCYX", "truncated": true}"#)
            },
            Pages(pairs(3)),
        ),
    ]
}

fn of_ome() -> Vec<Case> {
    let reversed: String =
        (0..5).map(|t| format!(r#"<TiffData FirstT="{t}" IFD="{}" PlaneCount="1"/>"#, 4 - t)).collect();
    let ordered: String = (0..5).map(|t| format!(r#"<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"/>"#)).collect();
    vec![
        one(
            "tlnagy/OMETIFF.jl#1, micro-manager#910: TiffData in any order",
            Tiff::described(5, &ome([1, 1, 5], &reversed)),
            Pages(frames(&[4, 3, 2, 1, 0])),
        ),
        one(
            "an OME run that was aborted: 5 times planned, 3 there",
            Tiff::described(3, &ome([1, 1, 5], &ordered)),
            Told(frames(&[0, 1, 2]), &["5 times", "first 3"]),
        ),
        one(
            "several Images in one OME file",
            Tiff::described(4, &ome([1, 1, 2], "").replace("</OME>", "<Image ID=\"Image:1\"/></OME>")),
            Refused(&["2 images"]),
        ),
        one(
            "BinaryOnly: the description lies elsewhere",
            Tiff::described(4, r#"<OME><BinaryOnly MetadataFile="run.companion.ome" UUID="u"/></OME>"#),
            Refused(&["run.companion.ome"]),
        ),
    ]
}

fn of_pixels() -> Vec<Case> {
    vec![
        one(
            "image-rs/image-tiff#129, #297: WhiteIsZero keeps its stored values",
            Tiff { photometric: 0, ..Tiff::pages(3) },
            Pages(frames(&[0, 1, 2])),
        ),
        one(
            "MouseLand/suite2p#900: zstd",
            Tiff { compression: 50000, ..Tiff::pages(3) },
            Refused(&["ZSTD", "compression='zlib'"]),
        ),
        one(
            "float16 ΔF/F",
            Tiff { bits: 16, format: 3, ..Tiff::pages(2) },
            Refused(&["16 bit floating point", "astype('float32')"]),
        ),
        one("int32", Tiff { bits: 32, format: 2, ..Tiff::pages(2) }, Refused(&["32 bit signed", "astype('float32')"])),
        one(
            "12 bit packed (scientific cameras)",
            Tiff { bits: 12, ..Tiff::pages(2) },
            Refused(&["12 bit", "packed", "astype('uint16')"]),
        ),
    ]
}

fn several_files() -> Vec<Case> {
    [sets_of_files(), channels_in_files(), stacks_and_pages()].into_iter().flatten().collect()
}

fn sets_of_files() -> Vec<Case> {
    let movie = |first| Tiff { first, ..Tiff::pages(3) };
    let bruker_pages = (0..6).map(|t| vec![t, t + 10]).collect();
    vec![
        case(
            "suite2p#210 and others: an average among numbered files",
            vec![("AVG_run.tif", Tiff::pages(1)), ("run_00001.tif", movie(0)), ("run_00002.tif", movie(3))],
            Refused(&["AVG_run.tif", "2 files from run_00001.tif", "run_*.tif"]),
        ),
        Case {
            path: "run_*.tif",
            ..case(
                "the same by a pattern, in natural order",
                vec![("AVG_run.tif", Tiff::pages(1)), ("run_10.tif", movie(3)), ("run_9.tif", movie(0))],
                Pages(frames(&[0, 1, 2, 3, 4, 5])),
            )
        },
        case(
            "two channels in one folder under other names",
            vec![("green.tif", movie(0)), ("red.tif", movie(3))],
            Refused(&["green.tif; red.tif"]),
        ),
        case(
            "roiextractors#230, #589, #595: PrairieView writes one multi-page OME-TIFF a channel",
            vec![("T_Cycle00001_Ch1_000001.ome.tif", bruker(0)), ("T_Cycle00001_Ch2_000001.ome.tif", bruker(1))],
            Pages(bruker_pages),
        ),
        Case {
            path: "T_Cycle00001_Ch1_000001.ome.tif",
            ..case(
                "one file of such a set",
                vec![("T_Cycle00001_Ch1_000001.ome.tif", bruker(0))],
                Refused(&["2 files", "Ch2", "folder"]),
            )
        },
    ]
}

fn channels_in_files() -> Vec<Case> {
    let movie = |first| Tiff { first, ..Tiff::pages(3) };
    vec![
        case(
            "channels by name without any text",
            vec![("a_Ch1_001.tif", movie(0)), ("a_Ch2_001.tif", movie(5))],
            Pages(vec![vec![0, 5], vec![1, 6], vec![2, 7]]),
        ),
        case(
            "one channel a frame longer: stopped in between",
            vec![("a_Ch1_001.tif", movie(0)), ("a_Ch2_001.tif", Tiff { first: 5, ..Tiff::pages(2) })],
            Told(vec![vec![0, 5], vec![1, 6]], &["3 frames, the other channel 2"]),
        ),
        case(
            "channels of different length",
            vec![("a_Ch1_001.tif", Tiff::pages(9)), ("a_Ch2_001.tif", movie(5))],
            Refused(&["3 frames", "9 frames"]),
        ),
    ]
}

fn stacks_and_pages() -> Vec<Case> {
    let movie = |first| Tiff { first, ..Tiff::pages(3) };
    let stack = |first| Tiff { first, ..Tiff::described(3, "ImageJ=1.53\nimages=3\nslices=3\n") };
    let two = |first| Tiff { first, ..Tiff::described(4, "ImageJ=1.53\nimages=4\nchannels=2\nframes=2\n") };
    let page = |first| Tiff { first, ..Tiff::described(1, "ImageJ=1.53\nimages=4\nchannels=2\nframes=2\n") };
    vec![
        case(
            "stacks of equal size: movies, or volumes?",
            vec![("a_1.tif", stack(0)), ("a_2.tif", stack(3))],
            Refused(&["3 planes", "--axes T,Z3"]),
        ),
        case("two channels in every file", vec![("a_1.tif", two(0)), ("a_2.tif", two(4))], Pages(pairs(4))),
        case(
            "the second file has another number of channels",
            vec![("a_1.tif", two(0)), ("a_2.tif", stack(4))],
            Refused(&["1 channel", "2 channel"]),
        ),
        case(
            "the second file says nothing",
            vec![("a_1.tif", two(0)), ("a_2.tif", movie(4))],
            Refused(&["no description", "2 channel"]),
        ),
        case(
            "every file holds one page and the description of all",
            vec![("a_1.tif", page(0)), ("a_2.tif", page(1)), ("a_3.tif", page(2)), ("a_4.tif", page(3))],
            Pages(pairs(2)),
        ),
        case(
            "a cut file with another one behind it",
            vec![("a_1.tif", movie(0)), ("a_2.tif", movie(3))],
            Pages(frames(&[0, 1, 2, 3, 4, 5])),
        ),
    ]
}

pub fn scanimage() -> Vec<Case> {
    [volumes(), regions_and_stacks(), frame_numbers(), older_and_saved_again()].into_iter().flatten().collect()
}

fn volumes() -> Vec<Case> {
    let flyback = [
        "hFastZ.discardFlybackFrames = true",
        "hFastZ.numDiscardFlybackFrames = 1",
        "hStackManager.numFramesPerVolumeWithFlyback = 4",
    ];
    let of_5_1 = |page: usize| {
        format!(
            "frameNumbers = {}\nframeTimestamps = {:.6}\nscanimage.SI.hChannels.channelSave = [1;2]\nscanimage.SI.hFastZ.enable = false\nscanimage.SI.hStackManager.numSlices = 1\n",
            page / 2 + 1,
            page as f64 / 60.0
        )
    };
    let split = |first| Tiff { first, ..fast(10, &flyback) };
    vec![
        one(
            "blink1073/tifffile#37: lines begin with scanimage.SI.",
            Tiff { of_page: Some(of_5_1), ..Tiff::pages(12) },
            Pages(pairs(6)),
        ),
        Case {
            plane: Some(1),
            ..one(
                "roiextractors#417, #421, #428: frames of a slice in a fast volume",
                fast(24, &["hStackManager.framesPerSlice = 2"]),
                Pages(frames(&[2, 3, 8, 9, 14, 15, 20, 21])),
            )
        },
        Case {
            plane: Some(1),
            ..one(
                "the same, averaged two to a page",
                fast(12, &["hStackManager.framesPerSlice = 4", "hScan2D.logAverageFactor = 2"]),
                Pages(frames(&[2, 3, 8, 9])),
            )
        },
        Case {
            plane: Some(0),
            ..one(
                "flyback that contradicts itself",
                fast(12, &[flyback[0], flyback[1], "hStackManager.numFramesPerVolumeWithFlyback = 6"]),
                Refused(&["6 frames", "1 of flyback"]),
            )
        },
        Case {
            plane: Some(0),
            ..case(
                "roiextractors#299: a volume split over two files",
                vec![("x_00001.tif", split(0)), ("x_00002.tif", split(10))],
                Pages(frames(&[0, 4, 8, 12, 16])),
            )
        },
    ]
}

fn regions_and_stacks() -> Vec<Case> {
    let mroi =
        Tiff { height: 88, ..Tiff::scanimage(5, &["hChannels.channelSave = 1", "hRoiManager.mroiEnable = true"]) };
    vec![
        one(
            "MouseLand/suite2p#830, #1034: several regions one above the other",
            mroi.clone(),
            Refused(&["several regions", "--axes T"]),
        ),
        one(
            "one region with mroiEnable",
            Tiff { artist: r#"{"RoiGroups":{"imagingRoiGroup":{"rois":{"zs":0}}}}"#.into(), ..mroi },
            Pages(frames(&[0, 1, 2, 3, 4])),
        ),
        one(
            "an anatomical stack, averaged over all frames of a slice",
            Tiff::scanimage(
                3,
                &[
                    "hChannels.channelSave = 1",
                    "hStackManager.enable = true",
                    "hStackManager.numSlices = 3",
                    "hStackManager.framesPerSlice = 10",
                    "hScan2D.logAverageFactor = 10",
                ],
            ),
            Pages(frames(&[0, 1, 2])),
        ),
    ]
}

fn frame_numbers() -> Vec<Case> {
    let both = "hChannels.channelSave = [1;2]";
    let rate = "hRoiManager.scanFrameRate = 30";
    let paired =
        |page: usize| format!("frameNumbers = {}\nframeTimestamps_sec = {:.6}\n", page / 2 + 1, page as f64 / 60.0);
    let jumping = |page: usize| format!("frameNumbers = {}\n", page + 1 + 5 * usize::from(page > 2));
    let restarted = Tiff::scanimage(3, &["hChannels.channelSave = 1", rate]);
    let odd = Tiff::scanimage(11, &[both, rate]);
    vec![
        one(
            "ome/bioformats#217, ibllib#891: channel 2 of the last frame is missing",
            odd,
            Told(pairs(5), &["1 page(s) at the end"]),
        ),
        one(
            "the header says one channel, the pages two",
            Tiff { of_page: Some(paired), ..Tiff::scanimage(6, &["hChannels.channelSave = 1", rate]) },
            Refused(&["1 channel", "same frame number", "--axes T,C2"]),
        ),
        one(
            "dropped frames are told",
            Tiff { of_page: Some(jumping), ..Tiff::scanimage(6, &["hChannels.channelSave = 1", rate]) },
            Told(frames(&[0, 1, 2, 3, 4, 5]), &["5 frame number(s) are missing"]),
        ),
        case(
            "two acquisitions in one folder",
            vec![("x_00001.tif", restarted.clone()), ("x_00002.tif", restarted)],
            Refused(&["frame 1", "frame 3", "different acquisitions"]),
        ),
    ]
}

fn older_and_saved_again() -> Vec<Case> {
    let both = "hChannels.channelSave = [1;2]";
    let rate = "hRoiManager.scanFrameRate = 30";
    vec![
        one(
            "a re-save that says other channels than the header",
            Tiff {
                of_page: None,
                description: b"ImageJ=1.53\nimages=6\nframes=6\n".to_vec(),
                ..Tiff::scanimage(6, &[both, rate])
            },
            Refused(&["2 channel(s)", "1 channel(s)", "--axes"]),
        ),
        one(
            "ScanImage 4",
            Tiff::described(
                6,
                "scanimage.SI4.channelsSave = [1;2]\nscanimage.SI4.fastZEnable = 0\nscanimage.SI4.stackNumSlices = 1\n",
            ),
            Pages(pairs(3)),
        ),
        one(
            "ScanImage 3",
            Tiff::described(
                6,
                "state.software.version=3.8\rstate.acq.savingChannel1=1\rstate.acq.savingChannel2=1\rstate.acq.numberOfZSlices=1\r",
            ),
            Pages(pairs(3)),
        ),
    ]
}

pub fn damaged() -> Vec<Case> {
    let header = ["hChannels.channelSave = 1", "hRoiManager.scanFrameRate = 30"];
    let page = 16 * 24 * 2;
    let nine: Vec<usize> = (0..9).collect();
    let two = ["hChannels.channelSave = [1;2]", "hRoiManager.scanFrameRate = 30"];
    vec![
        cut(
            "ibllib#891: the last page is cut, the disk was full",
            Tiff::scanimage(10, &header),
            300,
            Told(frames(&nine), &["page 9", "cut off", "9 whole pages"]),
        ),
        cut(
            "the same between two channels",
            Tiff::scanimage(10, &two),
            300,
            Told(pairs(4), &["page 9", "1 page(s) at the end"]),
        ),
        cut("cut within a directory", Tiff::scanimage(10, &header), page + 60, Told(frames(&nine), &["page 9"])),
        cut(
            "directories behind the pixels, and gone with them",
            Tiff { directories_last: true, ..Tiff::pages(10) },
            1,
            Told(frames(&nine), &["page 9", "cut off"]),
        ),
        cut(
            "nothing whole is left",
            Tiff { directories_last: true, ..Tiff::pages(10) },
            10 * 200,
            Refused(&["page 0", "cut off"]),
        ),
        cut(
            "ImageJ beyond 4 GB, cut in page 7 of 10",
            Tiff { one_directory: true, ..Tiff::described(10, "ImageJ=1.53\nimages=10\nframes=10\n") },
            3 * page + 5,
            Told(frames(&[0, 1, 2, 3, 4, 5]), &["page 6", "6 whole pages"]),
        ),
    ]
}

/// The page in every channel of every frame, and the warnings.
pub type Found = (Vec<Vec<usize>>, Vec<String>);

/// What is read: the page in every channel of every frame, by its first pixel, and the warnings.
pub fn read(spec: &RecordingSpec) -> Result<Found, String> {
    let mut source = open_recording(spec).map_err(|e| e.to_string())?;
    let mut slot = Frame::with_capacity(source.frame_bytes_max());
    let mut found = Vec::new();
    while source.next(&mut slot).map_err(|e| e.to_string())? == Next::Frame {
        let plane = slot.info.shape.plane();
        let value = |at: usize| match slot.pixels() {
            Pixels::U16(p) => usize::from(p[at]),
            Pixels::I16(p) => p[at] as usize,
            Pixels::U8(p) => usize::from(p[at]),
            Pixels::F32(p) => p[at] as usize,
        };
        for channel in 0..slot.info.shape.channels {
            assert_eq!(value(channel * plane + 7), value(channel * plane) + 7, "pixels stand in their order");
        }
        found.push((0..slot.info.shape.channels).map(|c| value(c * plane) / 100).collect());
    }
    assert_eq!(source.frames_total(), Some(found.len() as u64));
    Ok((found, source.about().warnings))
}

pub fn check(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &case.files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = if case.path.is_empty() { folder.path().to_path_buf() } else { folder.path().join(case.path) };
    let axes = case.axes.map(|axes| axes.parse().unwrap());
    let (plane, use_channels, roi) = (case.plane, case.channels.to_vec(), case.roi);
    let spec = RecordingSpec { plane, axes, use_channels, roi, ..RecordingSpec::new(path, "rig".parse().unwrap()) };
    let found = read(&spec);
    let report = case.report;
    match (&case.right, found) {
        (Pages(right), Ok((found, warnings))) => {
            assert_eq!(&found, right, "{report}");
            assert!(warnings.is_empty(), "{report}: {warnings:?}");
        }
        (Told(right, words), Ok((found, warnings))) => {
            assert_eq!(&found, right, "{report}");
            let all = warnings.join("; ");
            words.iter().for_each(|word| assert!(all.contains(word), "{report}: {word:?} is not in {all:?}"));
            let strict = read(&RecordingSpec { strict: true, ..spec }).err();
            let is_note = |word: &&str| word.contains("frame number") || word.contains("--rate");
            assert!(strict.is_some() || words.iter().any(is_note), "{report}: --strict reads it");
        }
        (Refused(words), Err(error)) => {
            words.iter().for_each(|word| assert!(error.contains(word), "{report}: {word:?} is not in {error:?}"));
        }
        (_, found) => panic!("{report}: {found:?}"),
    }
}

#[test]
fn texts_that_agree_with_the_pages_decide_and_others_are_refused_with_both_numbers() {
    texts().iter().for_each(check);
}

#[test]
fn several_files_are_one_recording_only_if_they_are() {
    several_files().iter().for_each(check);
}

#[test]
fn scanimage_is_read_page_by_page_as_its_header_says() {
    scanimage().iter().for_each(check);
}

#[test]
fn a_file_that_was_cut_gives_what_is_whole_and_says_what_is_lost() {
    damaged().iter().for_each(check);
}

#[test]
fn a_file_cut_before_its_continuation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Tiff::pages(3).bytes();
    first.truncate(first.len() - 5);
    std::fs::write(folder.path().join("a_1.tif"), first).unwrap();
    Tiff { first: 3, ..Tiff::pages(3) }.write(&folder.path().join("a_2.tif"));
    let error = read(&RecordingSpec::new(folder.path(), "rig".parse().unwrap())).unwrap_err();
    assert!(error.contains("a_1.tif") && error.contains("a_2.tif follows it"), "{error}");
}

/// A chain of directories that leads back, or through shared pixels, in a file of 40 MB.
#[test]
fn a_circle_of_directories_is_noticed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tif");
    for back_to in [0_usize, 1] {
        let mut bytes = Tiff::pages(3).bytes();
        let directory = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (mut links, mut at) = (vec![4], 4);
        while directory(&bytes, at) != 0 {
            let place = directory(&bytes, at);
            at = place + 2 + 12 * usize::from(u16::from_le_bytes(bytes[place..place + 2].try_into().unwrap()));
            links.push(at);
        }
        let target = bytes[links[back_to]..links[back_to] + 4].to_vec();
        bytes[at..at + 4].copy_from_slice(&target);
        bytes.resize(40 << 20, 0);
        std::fs::write(&path, bytes).unwrap();
        let began = std::time::Instant::now();
        let error = read(&RecordingSpec::new(&path, "rig".parse().unwrap())).unwrap_err();
        assert!(error.contains("loop"), "{error}");
        assert!(began.elapsed().as_secs_f64() < 2.0, "{:?}", began.elapsed());
    }
}
