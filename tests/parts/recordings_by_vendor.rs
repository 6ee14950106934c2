//! Method: folders as ThorImage and PrairieView leave them, whole and aborted, written here; what is read compared with the pages that are
//! right. Formats of other programs are named with the way out.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::{Path, PathBuf};

use haltere::source::{RecordingSpec, open_recording};

use crate::recordings::{Found, frames, read};
use crate::support::tiffs::Tiff;

/// ThorImage's folder: an XML with what matters, and the given files.
fn thor(folder: &Path, stages: &str, channels: u8, streaming: &str) {
    let xml = format!(
        r#"<?xml version="1.0"?><ThorImageExperiment><Wavelengths><ChannelEnable Set="{channels}"/></Wavelengths>{stages}
        <LSM pixelX="24" pixelY="16" frameRate="30"/><Streaming enable="1" {streaming}/><RawData onlyEnabledChannels="1"/></ThorImageExperiment>"#
    );
    std::fs::write(folder.join("Experiment.xml"), xml).unwrap();
}

fn raw(pages: std::ops::Range<usize>) -> Vec<u8> {
    pages.flat_map(|page| (0..16 * 24).flat_map(move |i| ((100 * page + i % 50) as u16).to_le_bytes())).collect()
}

fn read_folder(folder: &Path, plane: Option<u64>) -> Result<Found, String> {
    read(&RecordingSpec { plane, ..RecordingSpec::new(folder, "rig".parse().unwrap()) })
}

#[test]
fn thorimage_is_read_by_the_stage_in_use_without_its_blank_end_and_with_whole_times_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let image = folder.join("Image_0001_0001.raw");
    // hong2p: several <ZStage>, one with a name (ThorImage 4.3.2023); 3 planes and 1 flyback.
    thor(
        folder,
        r#"<ZStage steps="1"/><ZStage name="ThorZPiezo" steps="3"/>"#,
        1,
        r#"frames="12" zFastEnable="1" flybackFrames="1""#,
    );
    std::fs::write(&image, raw(0..12)).unwrap();
    assert_eq!(read_folder(folder, Some(1)).unwrap(), (frames(&[1, 5, 9]), vec![]));
    assert!(read_folder(folder, None).unwrap_err().contains("3 planes"));
    thor(folder, r#"<ZStage name="a" steps="2"/><ZStage name="b" steps="3"/>"#, 1, r#"frames="12" zFastEnable="1""#);
    assert!(read_folder(folder, Some(0)).unwrap_err().contains("{2, 3}"));
    // A file allocated for 20 frames, of which 12 were recorded. (Frame 0 of the writer is not zero everywhere.)
    thor(folder, "", 1, r#"frames="20" zFastEnable="0""#);
    for recorded in [1, 12, 19] {
        let mut bytes = raw(0..recorded);
        bytes.resize(20 * 768, 0);
        std::fs::write(&image, bytes).unwrap();
        let (found, warnings) = read_folder(folder, None).unwrap();
        assert_eq!(found, frames(&(0..recorded).collect::<Vec<_>>()));
        assert!(warnings[0].contains(&format!("last {} of 20", 20 - recorded)), "{warnings:?}");
    }
    // One channel is enabled, but the file has exactly two of the frames that were asked for.
    std::fs::write(&image, raw(0..40)).unwrap();
    let error = read_folder(folder, None).unwrap_err();
    assert!(error.contains("1 channel(s)") && error.contains("2 channel(s)") && error.contains("--raw"), "{error}");
    std::fs::write(&image, &raw(0..15)[..15 * 768 - 100]).unwrap();
    let (found, warnings) = read_folder(folder, None).unwrap();
    assert_eq!(found.len(), 14);
    assert!(warnings[0].contains("within time point 14") && warnings[1].contains("20 time points"), "{warnings:?}");
}

#[test]
fn a_thorimage_folder_of_tiffs_gives_the_times_that_all_channels_have() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    thor(folder, "", 3, r#"frames="6""#);
    let name = |channel: char, time: usize| PathBuf::from(format!("Chan{channel}_0001_0001_0001_{time:04}.tif"));
    for time in 1..=6 {
        Tiff { first: time, ..Tiff::pages(1) }.write(&folder.join(name('A', time)));
        Tiff { first: 10 + time, ..Tiff::pages(1) }.write(&folder.join(name('B', time)));
    }
    std::fs::remove_file(folder.join(name('B', 6))).unwrap();
    let (found, warnings) = read_folder(folder, None).unwrap();
    assert_eq!(found, (1..=5).map(|t| vec![t, 10 + t]).collect::<Vec<_>>());
    assert!(warnings[0].contains("1 file(s) are missing"), "{warnings:?}");
    assert!(read(&RecordingSpec { strict: true, ..RecordingSpec::new(folder, "rig".parse().unwrap()) }).is_err());
    thor(folder, "", 5, r#"frames="6""#);
    let error = read_folder(folder, None).unwrap_err();
    assert!(error.contains("ChanC") && error.contains("ChanA ChanB"), "{error}");
}

#[test]
fn what_other_programs_write_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    for (name, word) in [
        ("a.sbx", "Scanbox"),
        ("a.isxd", "Inscopix Data Processing"),
        ("a.czi", "ZEN"),
        ("a.lsm", "ZEN"),
        ("a.nd2", "NIS-Elements"),
        ("a.lif", "LAS X"),
        ("a.oir", "FluoView"),
        ("a.oif", "FluoView"),
        ("a.oib", "FluoView"),
        ("a.mesc", "Femtonics"),
        ("a.ims", "Imaris"),
        ("a.sld", "SlideBook"),
        ("a.dcimg", "HCImage"),
        ("a.h5", "pynwb"),
        ("a.npy", "tifffile.imwrite"),
        ("a.bin", "int16"),
        ("a.mmap", "order_F"),
        ("a.mat", "Scanbox"),
        ("a.xml", "PVScan"),
        ("a.raw", "--raw"),
        ("a.avi", "never compressed"),
        ("a.mkv", "with losses"),
        ("a.nii", "vox_offset"),
        ("a.nii.gz", "unpack"),
        ("a.mdf", "MView"),
        ("a.doric", "Doric"),
        ("a.tdms", "npTDMS"),
        ("a.seq", "bfconvert"),
        ("a.xyz", "readable formats"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, b"something").unwrap();
        let error = read(&RecordingSpec::new(&path, "rig".parse().unwrap())).unwrap_err();
        assert!(error.contains(word) && error.contains("no reader"), "{name}: {error}");
    }
}

/// PrairieView's XML: `cycles` of frames of two channels, each page in a file of its own or all pages of a channel in one.
fn prairie(folder: &Path, kind: &str, cycles: usize, frames: usize, one_file: bool) {
    let mut xml = "<?xml version=\"1.1\" encoding=\"utf-8\"?><PVScan version=\"5.8.64.800\">".to_owned();
    for cycle in 1..=cycles {
        xml += &format!("<Sequence type=\"{kind}\" cycle=\"{cycle}\" bidirectionalZ=\"False\">");
        for index in 1..=frames {
            let number = (cycle - 1) * frames + index - 1;
            xml += &format!(
                "<Frame relativeTime=\"0\" absoluteTime=\"{:.4}\" index=\"{index}\">",
                1.5 + number as f64 * 0.05
            );
            for channel in 1..=2 {
                let first = 100 * (channel - 1) + number;
                let (name, page) = match one_file {
                    true => (format!("T_Cycle{cycle:05}_Ch{channel}_000001.ome.tif"), index),
                    false => (format!("T_Cycle{cycle:05}_Ch{channel}_{index:06}.ome.tif"), 1),
                };
                if page == 1 {
                    let pages = if one_file { frames } else { 1 };
                    Tiff { first, ..Tiff::pages(pages) }.write(&folder.join(&name));
                }
                xml += &format!(
                    "<File channel=\"{channel}\" channelName=\"Ch{channel}\" page=\"{page}\" filename=\"{name}\"/>"
                );
            }
            xml += "</Frame>";
        }
        xml += "</Sequence>";
    }
    std::fs::write(folder.join("T.xml"), xml + "</PVScan>").unwrap();
    std::fs::write(folder.join("T_VoltageRecording_001.xml"), "<VRecSessionEntry/>").unwrap();
}

#[test]
fn prairieview_is_read_as_its_xml_says_with_its_times() {
    for one_file in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        prairie(folder, "TSeries Timed Element", 1, 6, one_file);
        let right: Vec<Vec<usize>> = (0..6).map(|t| vec![t, 100 + t]).collect();
        assert_eq!(read_folder(folder, None).unwrap(), (right.clone(), vec![]));
        let mut source = open_recording(&RecordingSpec::new(folder, "rig".parse().unwrap())).unwrap();
        assert_eq!(source.times_ns().unwrap()[..2], [1_500_000_000, 1_550_000_000]);
        assert!((source.frame_rate_hz().unwrap() - 20.0).abs() < 1e-6);
        // The last file is missing, or its last page cut.
        let last =
            folder.join(if one_file { "T_Cycle00001_Ch2_000001.ome.tif" } else { "T_Cycle00001_Ch2_000006.ome.tif" });
        let bytes = std::fs::read(&last).unwrap();
        std::fs::write(&last, &bytes[..bytes.len() - 9]).unwrap();
        let (found, warnings) = read_folder(folder, None).unwrap();
        assert_eq!(found, right[..5]);
        assert!(warnings[0].contains("first 5 are whole"), "{warnings:?}");
        // Three volumes of four planes.
        let dir = tempfile::tempdir().unwrap();
        prairie(dir.path(), "TSeries ZSeries Element", 3, 4, one_file);
        assert!(read_folder(dir.path(), None).unwrap_err().contains("4 planes × 3 times"));
        assert_eq!(read_folder(dir.path(), Some(2)).unwrap().0, [[2, 102], [6, 106], [10, 110]]);
    }
}
