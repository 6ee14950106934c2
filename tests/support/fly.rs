//! Real frames for tests: the two-photon recording of a fly in `tests/data/fly_vnc_2p`.

use std::path::Path;

/// `count` frames of `channels` × `side` × `side` in C order, one after the other: the ten recorded frames back and forth,
/// each round shifted by some rows more, averaged down (or repeated up) from 256×256, each channel with mean 0 and sd 1.
pub fn frames(channels: usize, side: usize, count: usize) -> Vec<f32> {
    let recorded: Vec<Vec<Vec<f32>>> =
        ["GC6s.tif", "tdTom.tif"][..channels].iter().map(|file| read(file, side)).collect();
    let mut frames = Vec::new();
    for index in 0..count {
        let (round, step) = (index / 18, index % 18);
        let frame = if step < 10 { step } else { 18 - step };
        for channel in &recorded {
            let rows: Vec<&[f32]> = channel[frame].chunks(side).collect();
            (0..side).for_each(|row| frames.extend_from_slice(rows[(row + 3 * round) % side]));
        }
    }
    frames
}

fn read(file: &str, side: usize) -> Vec<Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fly_vnc_2p").join(file);
    let mut decoder = tiff::decoder::Decoder::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    loop {
        let (width, height) = decoder.dimensions().unwrap();
        let tiff::decoder::DecodingResult::U16(pixels) = decoder.read_image().unwrap() else { panic!("not u16") };
        frames.push(resize(&pixels, width as usize, height as usize, side));
        if !decoder.more_images() {
            break;
        }
        decoder.next_image().unwrap();
    }
    let all = frames.iter().flatten().count() as f32;
    let mean = frames.iter().flatten().sum::<f32>() / all;
    let sd = (frames.iter().flatten().map(|v| (v - mean).powi(2)).sum::<f32>() / all).sqrt();
    frames.iter_mut().flatten().for_each(|v| *v = (*v - mean) / sd);
    frames
}

fn resize(pixels: &[u16], width: usize, height: usize, side: usize) -> Vec<f32> {
    let mut resized = Vec::with_capacity(side * side);
    for y in 0..side {
        for x in 0..side {
            let (top, left) = (y * height / side, x * width / side);
            let (bottom, right) = (((y + 1) * height / side).max(top + 1), ((x + 1) * width / side).max(left + 1));
            let block = (top..bottom).flat_map(|r| pixels[r * width + left..r * width + right].iter());
            let sum: f32 = block.map(|&v| f32::from(v)).sum();
            resized.push(sum / ((bottom - top) * (right - left)) as f32);
        }
    }
    resized
}
