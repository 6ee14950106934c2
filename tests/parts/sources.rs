//! Method: every source is read against an oracle that does not share its code: arrays of other programs beside the real
//! recordings, sums taken with numpy, files written by another crate or byte by byte, and numbers told by hand. Real
//! recordings are looked for in `../shared/data` (or `$HALTERE_SHARED/data`); without them those tests say SKIPPED.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use haltere::client::play;
use haltere::client::play::{Pace, PlayOptions, play};
use haltere::config::{Attach, NewSeries, Pattern, Source as Settings, Wait};
use haltere::frame::event::Reason;
use haltere::frame::{Clock, Frame, Name, PixelType, Pixels, Shape};
use haltere::source::{Next, RecordingSpec, Source, SourceError, ZmqSource, open_recording};
use tiff::encoder::{Compression, TiffEncoder, colortype};
use tiff::tags::Tag;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn spec(paths: &[&Path]) -> RecordingSpec {
    let channels = paths.iter().map(|p| vec![p.to_path_buf()]).collect();
    RecordingSpec { channels, ..RecordingSpec::new("", name("rig")) }
}

/// A file of the shared data, or `None` and a loud line.
fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("HALTERE_SHARED").map_or_else(beside, PathBuf::from);
    let found = root.join("data").join(path);
    if !found.exists() {
        eprintln!("SKIPPED: {} is not there; set HALTERE_SHARED", found.display());
        return None;
    }
    Some(found)
}

/// All frames of a recording as numbers, with the source.
fn read_all(spec: &RecordingSpec) -> (Box<dyn Source>, Vec<Vec<f64>>) {
    let mut source = open_recording(spec).unwrap();
    let mut slot = Frame::with_capacity(source.frame_bytes_max());
    let mut frames = Vec::new();
    loop {
        match source.next(&mut slot).unwrap() {
            Next::Frame => {
                assert_eq!((slot.info.number, slot.info.gap), (frames.len() as u64, 0));
                assert_eq!(slot.info.series_began, frames.is_empty());
                frames.push(numbers(&slot));
            }
            Next::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(source.frames_total(), Some(frames.len() as u64));
    (source, frames)
}

fn numbers(frame: &Frame) -> Vec<f64> {
    match frame.pixels() {
        Pixels::U8(p) => p.iter().map(|&v| v.into()).collect(),
        Pixels::U16(p) => p.iter().map(|&v| v.into()).collect(),
        Pixels::I16(p) => p.iter().map(|&v| v.into()).collect(),
        Pixels::F32(p) => p.iter().map(|&v| v.into()).collect(),
    }
}

fn fail(spec: &RecordingSpec) -> String {
    let run = || -> Result<(), SourceError> {
        let mut source = open_recording(spec)?;
        let mut slot = Frame::with_capacity(source.frame_bytes_max());
        while source.next(&mut slot)? != Next::End {}
        Ok(())
    };
    run().expect_err("must fail").to_string()
}

#[test]
fn two_one_channel_files_are_the_channels_of_one_recording() {
    let (Some(red), Some(green)) = (shared("fly_vnc_2p/tdTom.tif"), shared("fly_vnc_2p/GC6s.tif")) else { return };
    let (_, frames) = read_all(&spec(&[&red, &green]));
    assert_eq!(frames.len(), 10);
    let plane = 256 * 256;
    let sums: Vec<[f64; 2]> = frames.iter().map(|f| [f[..plane].iter().sum(), f[plane..].iter().sum()]).collect();
    assert_eq!(
        sums[..3],
        [[136234450.0, 163125045.0], [134520199.0, 159414130.0], [135598119.0, 158219437.0]],
        "numpy: sum over pixels of tifffile.imread"
    );
    let at = 100 * 256 + 50;
    assert_eq!(frames[9][at..at + 4], [2052.0, 1608.0, 1489.0, 3521.0]);
    assert_eq!(frames[9][plane + at..plane + at + 4], [3176.0, 3768.0, 3128.0, 3342.0]);
}

#[test]
fn a_movie_of_400_pages_is_read_page_by_page() {
    let Some(path) = shared("mouse_2p/mouse_2p_first400.tif") else { return };
    let (_, frames) = read_all(&spec(&[&path]));
    let sum = |t: usize| frames[t].iter().sum::<f64>();
    assert_eq!((frames.len(), [sum(0), sum(1), sum(399)]), (400, [175065047.0, 176405428.0, 184106825.0]));
    assert_eq!(frames[399][100 * 128 + 50..][..4], [9650.0, 15907.0, 6891.0, 15009.0]);
}

#[test]
fn a_thorimage_raw_file_has_as_many_times_as_bytes() {
    let Some(folder) = shared("thorimage_sync/mouse_kidney_raw/2p/Untitled_001") else { return };
    for path in [folder.clone(), folder.join("Experiment.xml"), folder.join("Image_0001_0001.raw")] {
        let (source, frames) = read_all(&spec(&[&path]));
        assert_eq!((frames.len(), source.frame_rate_hz()), (5, Some(1.426)));
        let sums: Vec<[f64; 2]> = frames.iter().map(|f| [0, 1].map(|c| f[c * 65536..][..65536].iter().sum())).collect();
        assert_eq!(
            sums,
            [
                [465863867.0, 342287463.0],
                [465031483.0, 342132928.0],
                [464913380.0, 341973076.0],
                [464703842.0, 341616155.0],
                [464805191.0, 341210473.0]
            ],
            "numpy.fromfile"
        );
        assert_eq!([0, 1].map(|c| frames[4][c * 65536 + 200 * 256 + 101]), [7119.0, 6738.0]);
    }
}

#[test]
fn thorimage_tiff_folders_equal_the_arrays_beside_them() {
    for (folder, times) in [("mouse_kidney_time_series_z_stack", 3), ("mouse_kidney_z_stack", 1)] {
        let Some(folder) = shared(&format!("thorimage_sync/{folder}")) else { return };
        let array: ndarray::ArrayD<u16> = ndarray_npy::read_npy(folder.join("z_stack.npy")).unwrap();
        let truth = array.into_shape_with_order((2, times, 3, 128 * 128)).unwrap();
        for plane in 0..3 {
            let (_, frames) = read_all(&RecordingSpec { plane: Some(plane as u64), ..spec(&[&folder]) });
            assert_eq!(frames.len(), times);
            for (time, channel) in (0..times).flat_map(|t| [(t, 0), (t, 1)]) {
                let found = &frames[time][channel * 128 * 128..][..128 * 128];
                let expected = truth.slice(ndarray::s![channel, time, plane, ..]);
                assert!(found.iter().zip(expected).all(|(a, b)| *a == f64::from(*b)), "plane {plane} time {time}");
            }
        }
    }
}

/// A grey TIFF whose page n, pixel i is n × 100 + i % 50, through the encoder of another crate.
fn write_u16(path: &Path, pages: usize, description: &str, compression: Compression, big: bool) {
    fn fill<K: tiff::encoder::TiffKind>(
        mut encoder: TiffEncoder<std::fs::File, K>,
        pages: usize,
        description: &str,
        compression: Compression,
    ) {
        encoder = encoder.with_compression(compression);
        for page in 0..pages {
            let pixels: Vec<u16> = (0..8 * 6).map(|i| (page * 100 + i % 50) as u16).collect();
            let mut image = encoder.new_image::<colortype::Gray16>(8, 6).unwrap();
            image.encoder().write_tag(Tag::ImageDescription, description).unwrap();
            image.write_data(&pixels).unwrap();
        }
    }
    let file = std::fs::File::create(path).unwrap();
    match big {
        true => fill(TiffEncoder::new_big(file).unwrap(), pages, description, compression),
        false => fill(TiffEncoder::new(file).unwrap(), pages, description, compression),
    }
}

/// First pixel of each frame and channel, as page numbers.
fn pages_of(spec: &RecordingSpec) -> Vec<Vec<f64>> {
    let plane = 48;
    read_all(spec).1.iter().map(|f| f.chunks(plane).map(|c| c[0] / 100.0).collect()).collect()
}

#[test]
fn classic_and_big_tiff_plain_and_compressed_hold_the_same_frames() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("movie.tif");
    for big in [false, true] {
        for compression in [Compression::Uncompressed, Compression::Lzw, Compression::Deflate(Default::default())] {
            write_u16(&path, 4, "", compression, big);
            let (_, frames) = read_all(&spec(&[&path]));
            let expected: Vec<Vec<f64>> =
                (0..4).map(|p| (0..48).map(|i| f64::from(p * 100 + i % 50)).collect()).collect();
            assert_eq!(frames, expected);
        }
    }
}

#[test]
fn every_pixel_type_arrives_with_its_sign_and_fraction() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.tif");
    let file = || std::fs::File::create(&path).unwrap();
    TiffEncoder::new(file()).unwrap().write_image::<colortype::GrayI16>(2, 1, &[-300, 300]).unwrap();
    assert_eq!(read_all(&spec(&[&path])).1, [[-300.0, 300.0]]);
    TiffEncoder::new(file()).unwrap().write_image::<colortype::Gray32Float>(2, 1, &[-0.5, 1e9]).unwrap();
    assert_eq!(read_all(&spec(&[&path])).1, [[-0.5, 1e9]]);
    TiffEncoder::new(file()).unwrap().write_image::<colortype::Gray8>(2, 1, &[7, 255]).unwrap();
    assert_eq!(read_all(&spec(&[&path])).1, [[7.0, 255.0]]);
    TiffEncoder::new(file()).unwrap().write_image::<colortype::RGB8>(1, 1, &[1, 2, 3]).unwrap();
    assert!(fail(&spec(&[&path])).contains("grey"));
}

#[test]
fn an_imagej_hyperstack_gives_the_channels_and_the_plane_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hyper.tif");
    let text = "ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\nfinterval=0.1\n";
    write_u16(&path, 24, text, Compression::Uncompressed, false);
    let plane = RecordingSpec { plane: Some(1), ..spec(&[&path]) };
    assert_eq!(pages_of(&plane), [[2.0, 3.0], [8.0, 9.0], [14.0, 15.0], [20.0, 21.0]]);
    assert!(fail(&spec(&[&path])).contains("volume of 3 planes"));
    let mut source = open_recording(&plane).unwrap();
    let mut slot = Frame::with_capacity(source.frame_bytes_max());
    let times = [0, 1, 2].map(|_| source.next(&mut slot).map(|_| slot.info.t_device.unwrap()).unwrap());
    assert_eq!(times.map(|t| t.ns), [0, 100_000_000, 200_000_000]);
    assert_eq!((times[0].clock, slot.info.shape), (Clock::Device, Shape::new(2, 6, 8)));
    let told = open_recording(&RecordingSpec { rate_hz: Some(50.0), ..plane }).unwrap();
    assert_eq!((source.frame_rate_hz(), told.frame_rate_hz()), (Some(10.0), Some(50.0)));
}

/// A BigTIFF of ScanImage, by a writer in Python that knows nothing of the reader.
fn scanimage(path: &Path, sizes: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/write_scanimage.py");
    let written = std::process::Command::new("python3").arg(script).arg(path).args(sizes.split(' ')).status().unwrap();
    assert!(written.success());
}

#[test]
fn a_scanimage_file_gives_its_channels_its_negative_pixels_and_the_time_of_each_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plane.tif");
    scanimage(&path, "2 1 0 5 16 24 30");
    let (source, frames) = read_all(&spec(&[&path]));
    assert_eq!((source.frames_total(), source.frame_rate_hz()), (Some(5), Some(30.0)));
    for (frame, pixels) in frames.iter().enumerate() {
        let [first, second] = [2 * frame, 2 * frame + 1].map(|page| page as f64 * 7.0 - 50.0);
        assert_eq!((pixels[0], pixels[16 * 24], pixels[1]), (first, second, first + 1.0));
    }
    let mut source = open_recording(&spec(&[&path])).unwrap();
    let mut frame = Frame::with_capacity(1 << 16);
    for number in 0..5 {
        source.next(&mut frame).unwrap();
        let expected = (f64::from(number) / 30.0 + 0.25) * 1e9;
        let found = frame.info.t_device.unwrap();
        assert!((found.ns as f64 - expected).abs() < 10.0, "{number}: {found:?}");
        assert_eq!(found.clock, Clock::Device);
    }
}

#[test]
fn a_scanimage_volume_gives_the_plane_asked_for_and_never_its_flyback() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume.tif");
    scanimage(&path, "1 3 2 4 16 24 30");
    assert!(fail(&spec(&[&path])).contains("choose one: plane 0 to 2"));
    let chosen = RecordingSpec { plane: Some(2), ..spec(&[&path]) };
    let (source, frames) = read_all(&chosen);
    assert_eq!(source.frame_rate_hz(), Some(6.0));
    let firsts: Vec<f64> = frames.iter().map(|pixels| pixels[0]).collect();
    assert_eq!(firsts, [2, 7, 12, 17].map(|page| f64::from(page) * 7.0 - 50.0));
}

#[test]
fn a_folder_and_a_pattern_are_one_recording_in_natural_order() {
    let dir = tempfile::tempdir().unwrap();
    for (n, pages) in [(1, 1), (2, 2), (10, 3)] {
        write_u16(&dir.path().join(format!("run_{n}.tif")), pages, "", Compression::Uncompressed, false);
    }
    std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
    let expected = [[0.0], [0.0], [1.0], [0.0], [1.0], [2.0]];
    assert_eq!(pages_of(&spec(&[dir.path()])), expected);
    assert_eq!(pages_of(&spec(&[&dir.path().join("run_*.tif")])), expected);
}

#[test]
fn an_imagej_stack_with_one_directory_is_read_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.tif");
    let text = b"ImageJ=1.53\nimages=3\nframes=3\n\0";
    let mut bytes = b"MM\0\x2a\0\0\0\x08".to_vec();
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        let value = if kind == 3 { value << 16 } else { value };
        [&tag.to_be_bytes()[..], &kind.to_be_bytes(), &count.to_be_bytes(), &value.to_be_bytes()].concat()
    };
    let entries = [
        entry(256, 3, 1, 4),
        entry(257, 3, 1, 2),
        entry(258, 3, 1, 16),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, 1),
        entry(270, 2, text.len() as u32, 200),
        entry(273, 4, 1, 300),
        entry(277, 3, 1, 1),
        entry(278, 3, 1, 2),
        entry(279, 4, 1, 16),
    ];
    bytes.extend((entries.len() as u16).to_be_bytes());
    bytes.extend(entries.concat());
    bytes.extend([0; 4]);
    bytes.resize(200, 0);
    bytes.extend(text);
    bytes.resize(300, 0);
    bytes.extend((0..24u16).flat_map(|v| (v * 1000).to_be_bytes()));
    std::fs::write(&path, &bytes).unwrap();
    let (_, frames) = read_all(&spec(&[&path]));
    let expected: Vec<Vec<f64>> = (0..3).map(|t| (0..8).map(|i| f64::from((t * 8 + i) * 1000)).collect()).collect();
    assert_eq!(frames, expected);
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(read_all(&spec(&[&path])).1, expected[..2]);
    assert!(fail(&RecordingSpec { strict: true, ..spec(&[&path]) }).contains("cut off"));
}

#[test]
fn damaged_files_are_named_with_their_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.tif");
    write_u16(&path, 4, "", Compression::Uncompressed, false);
    let whole = std::fs::read(&path).unwrap();
    for keep in 0..whole.len() {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let strict = RecordingSpec { strict: true, ..spec(&[&path]) };
        let error = fail(&strict);
        assert!(error.contains("cut.tif"), "{keep}: {error}");
        assert!(keep < 8 || error.contains("page"), "{keep} of {}: {error}", whole.len());
        // Without `strict` what is whole is read, and told.
        if let Ok(source) = open_recording(&spec(&[&path])) {
            assert!(source.about().warnings[0].contains("page"), "{keep}");
            assert!(pages_of(&spec(&[&path])).iter().enumerate().all(|(n, page)| page == &[n as f64]), "{keep}");
        }
    }
    let other = dir.path().join("other.tif");
    TiffEncoder::new(std::fs::File::create(&other).unwrap())
        .unwrap()
        .write_image::<colortype::Gray8>(2, 1, &[7, 9])
        .unwrap();
    std::fs::write(&path, &whole).unwrap();
    assert!(fail(&spec(&[&path, &other])).contains("channels must match"));
    let mixed = RecordingSpec { channels: vec![vec![path.clone(), other.clone()]], ..spec(&[&path]) };
    assert!(fail(&mixed).contains("cannot continue"));
    // A directory chain that bites its tail: the last link points at the first directory.
    let first = u32::from_ne_bytes(whole[4..8].try_into().unwrap());
    let mut circle = whole.clone();
    let (mut at, mut link) = (first as usize, 0);
    while at != 0 {
        link = at + 2 + 12 * usize::from(u16::from_ne_bytes(circle[at..at + 2].try_into().unwrap()));
        at = u32::from_ne_bytes(circle[link..link + 4].try_into().unwrap()) as usize;
    }
    circle[link..link + 4].copy_from_slice(&first.to_ne_bytes());
    std::fs::write(&path, &circle).unwrap();
    assert!(fail(&spec(&[&path])).contains("loop"));
}

#[test]
fn a_raw_file_is_read_by_its_layout_and_a_wrong_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.bin");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"HEADER").unwrap();
    // Two frames of 2 rows × 3 columns, column-major, big-endian.
    for v in [1i16, 4, 2, 5, 3, 6, -1, -4, -2, -5, -3, -6] {
        file.write_all(&v.to_be_bytes()).unwrap();
    }
    drop(file);
    let raw = |layout: &str| RecordingSpec { raw: Some(layout.parse().unwrap()), ..spec(&[&path]) };
    assert_eq!(read_all(&raw("int16be:2x3:6:F")).1, [[1., 2., 3., 4., 5., 6.], [-1., -2., -3., -4., -5., -6.]]);
    assert!(fail(&raw("int16:2x3:0")).contains("6 bytes left over"));
    assert!(fail(&raw("int16:64x64:0")).contains("0 frame(s)"));
}

fn settings(endpoint: &str, pattern: Pattern, attach: Attach) -> Settings {
    Settings {
        endpoint: endpoint.to_string(),
        pattern,
        attach,
        topic: String::new(),
        hwm: 1000,
        frame_bytes_max: 1 << 20,
        follow: None,
        follow_poll: Duration::from_millis(2),
        follow_idle: Duration::from_secs(10),
        follow_retry: Duration::from_secs(60),
        plane: None,
        new_series: NewSeries::Keep,
    }
}

/// The next thing that is not `Idle`.
fn next(source: &mut dyn Source, slot: &mut Frame) -> Next {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match source.next(slot).unwrap() {
            Next::Idle => assert!(Instant::now() < until, "nothing came for 20 s"),
            next => return next,
        }
    }
}

/// Why a message was refused.
fn refused(next: Next) -> Reason {
    let Next::Rejected(refusal) = next else { panic!("{next:?} was to be refused") };
    refusal.reason
}

/// A bound PULL source and a PUSH socket connected to it.
fn push_to(change: impl Fn(&mut Settings), wait: Wait) -> (ZmqSource, zmq::Socket) {
    let mut settings = settings("tcp://127.0.0.1:*", Pattern::Pull, Attach::Bind);
    change(&mut settings);
    let source = ZmqSource::open(&settings, name("rig"), wait).unwrap();
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.connect(source.endpoint()).unwrap();
    (source, socket)
}

#[test]
fn a_live_stream_tells_its_series_planes_gaps_and_repeats() {
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        let (mut source, socket) = push_to(|s| s.plane = Some(1), wait);
        let mut slot = Frame::with_capacity(1 << 20);
        let send = |header: &str| {
            let header = header.replace("{", r#"{"dtype":"u1","shape":[1,2],"#);
            socket.send_multipart([header.as_bytes(), b"ab"], 0).unwrap();
        };
        socket.send(r#"{"htype":"header"}"#, 0).unwrap();
        send(r#"{"frame":7,"plane":1,"source":"other","timestamp_ns":5.0,"clock":"ptp"}"#);
        send(r#"{"frame":8,"plane":0,"source":"other"}"#);
        send(r#"{"frame":9,"plane":1}"#);
        send(r#"{"frame":9,"plane":1,"source":"other"}"#);
        send(r#"{"frame":9,"plane":1,"source":"other"}"#);
        send(r#"{"frame":15,"plane":1,"source":"other"}"#);
        socket.send(r#"{"htype":"end"}"#, 0).unwrap();
        assert_eq!(next(&mut source, &mut slot), Next::SeriesBegan);
        let before_ns = haltere::sys::clock::now_ns();
        assert_eq!(next(&mut source, &mut slot), Next::Frame);
        assert_eq!((slot.info.number, slot.info.series_began, slot.bytes()), (7, true, &b"ab"[..]));
        assert_eq!((slot.info.source, slot.info.t_device.unwrap().clock), (name("other"), Clock::Ptp));
        assert!(slot.info.t_received_ns >= before_ns && slot.info.t_received_ns <= haltere::sys::clock::now_ns());
        assert_eq!(refused(next(&mut source, &mut slot)), Reason::OtherSource);
        assert_eq!(next(&mut source, &mut slot), Next::Frame);
        assert_eq!((slot.info.number, slot.info.gap, slot.info.source), (9, 0, name("other")));
        assert_eq!(refused(next(&mut source, &mut slot)), Reason::Repeated);
        assert_eq!(next(&mut source, &mut slot), Next::Frame);
        assert_eq!((slot.info.number, slot.info.gap, slot.info.series_began), (15, 2, false));
        assert_eq!(slot.info.ordinal(), 7 + 1 + 3, "counted in volumes");
        assert_eq!(next(&mut source, &mut slot), Next::SeriesEnded);
        assert_eq!(source.next(&mut slot).unwrap(), Next::Idle);
    }
}

#[test]
fn a_column_major_big_endian_frame_arrives_in_its_own_order() {
    let (mut source, socket) = push_to(|_| {}, Wait::Park);
    let mut slot = Frame::with_capacity(64);
    let pixels: Vec<u8> = [1i16, 4, 2, 5, 3, -6].iter().flat_map(|v| v.to_be_bytes()).collect();
    let header: &[u8] = br#"{"dtype":">i2","shape":[2,3],"order":"F"}"#;
    socket.send_multipart([b"frames", header, &pixels], 0).unwrap();
    assert_eq!(next(&mut source, &mut slot), Next::Frame);
    assert_eq!(slot.info.pixel_type, PixelType::I16);
    assert_eq!(numbers(&slot), [1., 2., 3., 4., 5., -6.]);
}

#[test]
fn a_sender_that_leaves_while_its_frames_wait_to_be_read_ends_nothing() {
    // The receiving side has stopped reading the connection when it is lost. Were libzmq's heartbeats on, the next one would
    // end the process.
    let (mut source, socket) = push_to(|s| s.hwm = 4, Wait::Park);
    socket.set_linger(0).unwrap();
    for frame in 0..500 {
        let header = format!(r#"{{"dtype":"u1","shape":[64,64],"frame":{frame}}}"#);
        socket.send_multipart([header.as_bytes(), &[7; 64 * 64]], 0).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    drop(socket);
    std::thread::sleep(Duration::from_millis(2500));
    let mut slot = Frame::with_capacity(64 * 64);
    assert_eq!(next(&mut source, &mut slot), Next::Frame);
    while source.next(&mut slot).unwrap() != Next::Idle {}
}

#[test]
fn a_port_in_use_is_named() {
    let (source, _socket) = push_to(|_| {}, Wait::Park);
    let settings = settings(source.endpoint(), Pattern::Pull, Attach::Bind);
    let error = ZmqSource::open(&settings, name("rig"), Wait::Park).err().unwrap().to_string();
    let port = source.endpoint().rsplit_once(':').unwrap().1;
    assert!(error.contains(&format!("port {port} is in use")), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let ipc = settings_of_ipc(dir.path());
    let _first = ZmqSource::open(&ipc, name("rig"), Wait::Park).unwrap();
    let error = ZmqSource::open(&ipc, name("rig"), Wait::Park).err().unwrap().to_string();
    assert!(error.contains("listens on this path"), "{error}");
}

fn settings_of_ipc(folder: &Path) -> Settings {
    settings(&format!("ipc://{}", folder.join("frames").display()), Pattern::Pull, Attach::Bind)
}

/// Plays four pages to a receiver and returns the numbers and page contents that arrived, with the report.
fn played(options: PlayOptions, source: &mut ZmqSource) -> (Vec<(u64, f64)>, usize, play::PlayReport) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("movie.tif");
    write_u16(&path, 4, "", Compression::Uncompressed, false);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| {
            let mut opened = 0;
            let mut open = || {
                opened += 1;
                open_recording(&spec(&[&path]))
            };
            let report = play(&options, &mut open, &stop, &mut |_| {}).unwrap();
            (opened, report)
        });
        let mut slot = Frame::with_capacity(1 << 20);
        let mut frames = Vec::new();
        loop {
            match next(source, &mut slot) {
                Next::Frame => frames.push((slot.info.number, numbers(&slot)[0] / 100.0)),
                Next::Rejected(refusal) if refusal.reason == Reason::Repeated => frames.push((u64::MAX, 0.0)),
                Next::SeriesEnded => break,
                other => panic!("{other:?}"),
            }
        }
        let (opened, report) = playing.join().unwrap();
        (frames, opened, report)
    })
}

#[test]
fn play_skips_repeats_and_loops_as_told_from_memory_and_from_the_file() {
    for (memory_bytes_max, opened_times) in [(1 << 30, 1), (0, 3)] {
        let mut source =
            ZmqSource::open(&settings("tcp://127.0.0.1:*", Pattern::Pull, Attach::Bind), name("rig"), Wait::Park)
                .unwrap();
        let options = PlayOptions {
            endpoint: source.endpoint().to_string(),
            pattern: play::Pattern::Push,
            attach: Attach::Connect,
            pace: Pace::Hz(2000.0),
            loops: Some(3),
            skip_every: Some(5),
            repeat_every: Some(6),
            memory_bytes_max,
            ..PlayOptions::default()
        };
        let (frames, opened, report) = played(options, &mut source);
        let again = (u64::MAX, 0.0);
        let n = |i: u64| (i, (i % 4) as f64);
        let expected = [n(0), n(1), n(2), n(3), n(5), again, n(6), n(7), n(8), n(10), n(11), again];
        assert_eq!(frames, expected);
        assert_eq!(opened, opened_times);
        let counts = report.progress;
        assert_eq!((counts.sent, counts.skipped, counts.repeated, counts.total), (12, 2, 2, Some(12)));
        assert_eq!(report.lateness.count, 10);
    }
}

#[test]
fn a_publisher_waits_for_its_subscriber_so_that_the_first_frame_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}", dir.path().join("frames").display());
    let settings = Settings { topic: "two".into(), ..settings(&endpoint, Pattern::Sub, Attach::Connect) };
    let mut source = ZmqSource::open(&settings, name("rig"), Wait::Park).unwrap();
    let options = PlayOptions {
        endpoint,
        topic: "two-photon".into(),
        pace: Pace::Flood,
        series: Some(name("s1")),
        wait_for_receiver: Duration::from_secs(20),
        ..PlayOptions::default()
    };
    let (frames, _, report) = played(options, &mut source);
    assert_eq!(frames, [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]);
    assert!(report.receiver_seen);
}

#[test]
fn play_stops_when_told_even_without_a_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("movie.tif");
    write_u16(&path, 2, "", Compression::Uncompressed, false);
    let stop = AtomicBool::new(true);
    let options = PlayOptions {
        endpoint: "tcp://127.0.0.1:*".into(),
        loops: None,
        wait_for_receiver: Duration::from_secs(3600),
        ..PlayOptions::default()
    };
    let report = play(&options, &mut || open_recording(&spec(&[&path])), &stop, &mut |_| {}).unwrap();
    assert_eq!((report.progress.sent, report.receiver_seen), (0, false));
}
