//! Method: the MATLAB function that makes a message of ScanImage's last frame runs in GNU Octave, on a ScanImage made of structures; what it made
//! is read by the wire's own parser, and sent to a running daemon. Without Octave the test says SKIPPED. The socket of the user function is Java's,
//! which Octave need not have: that part is not run.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;
use std::process::Command;

use haltere::frame::{Clock, PixelType, Shape, Stamp};
use haltere::wire::frame_header::{FrameHeader, Message, Order, parse};
use haltere::wire::pixels::{Layout, copy};

use crate::support::process::{LOSSLESS, Rig, small};

/// Thirty frames of 64×64 in plane 1 of three, of which the last is one of the flyback; frame n has the value n at its first pixel, then goes down
/// its columns. Then one of two channels and no volume.
const SCRIPT: &str = r"
hSI.hScan2D.logFileCounter = 7;
hSI.hStackManager.zs = [0 10 20];
ramp = mod(reshape(0:4095, 64, 64), 50);
for n = 1:31
    hSI.hDisplay.lastFrame = {int16(n + ramp), []};
    hSI.hDisplay.lastFrameNumber = n;
    hSI.hDisplay.lastStripeData.frameTimestamp = n / 30;
    hSI.hDisplay.lastStripeData.roiData = {struct('zs', 10)};
    if n == 30, hSI.hDisplay.lastStripeData.roiData = {struct('zs', NaN)}; end
    if n == 31
        hSI.hStackManager.zs = 0;
        hSI.hDisplay.lastFrame = {int16([1 2 3; 4 5 6]), int16([-1 -2 -3; -4 -5 -6])};
        hSI.hDisplay.lastStripeData.frameTimestamp = [];
    end
    [header, payload] = haltere_message(hSI, 'rig');
    if isempty(header), continue; end
    file = fopen(sprintf('%02d.header', n), 'w'); fwrite(file, header); fclose(file);
    file = fopen(sprintf('%02d.pixels', n), 'w'); fwrite(file, payload, 'uint8'); fclose(file);
end
";

/// Runs a script in `folder`; `None` where there is no Octave.
fn octave(script: &str, folder: &Path) -> Option<()> {
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let Some(name) = ["octave-cli", "octave"].into_iter().find(there) else {
        // `make setup` does not install it, so nobody can be asked to have it.
        eprintln!("SKIPPED: GNU Octave is not installed: clients/matlab/haltere_message.m was not run");
        return None;
    };
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/matlab");
    let script = format!("addpath('{}');\n{script}", clients.display());
    let output =
        Command::new(name).args(["--quiet", "--no-init-file", "--eval", &script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

fn message(folder: &Path, number: usize) -> (FrameHeader, Vec<i16>) {
    let part = |end: &str| std::fs::read(folder.join(format!("{number:02}.{end}"))).unwrap();
    let Message::Frame(header) = parse(&part("header")).unwrap() else { panic!("no frame") };
    assert_eq!((header.pixel_type, header.order, header.ignored.is_none()), (PixelType::I16, Order::F, true));
    let FrameHeader { shape, pixel_type, big_endian, order, .. } = header;
    let mut slot = vec![0; shape.pixels() * 2];
    copy(&Layout { shape, pixel_type, big_endian, order }, &part("pixels"), &mut slot);
    (header, slot.as_chunks::<2>().0.iter().map(|pixel| i16::from_ne_bytes(*pixel)).collect())
}

#[test]
fn scanimages_number_plane_time_and_pixels_arrive_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = octave(SCRIPT, folder.path()) else { return };
    let (header, pixels) = message(folder.path(), 3);
    assert_eq!((header.shape, header.number, header.plane), (Shape::new(1, 64, 64), Some(3), Some(1)));
    let time = header.t_device.unwrap();
    assert_eq!((time.ns, time.clock, time.stamp), (100_000_000, Clock::Device, Some(Stamp::Start)));
    assert_eq!(header.series.unwrap().as_str(), "acq-00007");
    assert_eq!((pixels[0], pixels[1], pixels[64]), (3, 3 + 64 % 50, 4), "MATLAB counts down the columns");
    assert!(!folder.path().join("30.header").exists(), "a frame of the flyback has no plane");
    let (header, pixels) = message(folder.path(), 31);
    assert_eq!((header.shape, header.plane, header.t_device), (Shape::new(2, 2, 3), None, None));
    assert_eq!(pixels, [1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6]);
    // To a daemon that runs.
    let rig = Rig::new(small());
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.bind(&rig.frames).unwrap();
    let daemon = rig.daemon(&LOSSLESS);
    let mut listener = rig.listen();
    for number in 1..30 {
        let part = |end: &str| std::fs::read(folder.path().join(format!("{number:02}.{end}"))).unwrap();
        socket.send_multipart([part("header"), part("pixels")], 0).unwrap();
    }
    listener.until("the decode of the last frame", |message| message.kind == "decode" && message.number("frame") == 29);
    daemon.kill();
}
