//! A recording as one picture: mean image and first frame of every channel and plane, and how its light goes over time.
//!
//! Why it exists: swapped channels, a plane that rotates, a black end or a saturated detector are seen in a second. What it must never do:
//! stretch what saturates to look like tissue: saturated pixels are red.

use font8x8::{BASIC_FONTS, UnicodeFonts};

/// Side of an image in the picture, px: larger ones are reduced, smaller ones enlarged by whole factors.
const SIDE_MAX: usize = 384;
/// Height of a curve, and gaps, px.
const CURVE: usize = 120;
const GAP: usize = 12;
/// Side of a letter, and height of a line, px: its dots are doubled.
const LETTER: usize = 16;
/// Room for a line of text, px.
const WIDTH_MIN: usize = 40 * LETTER;
/// Shares of the pixels below black and below white.
const BLACK_AND_WHITE: [f64; 2] = [0.01, 0.995];

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [40, 40, 40];
const RED: [u8; 3] = [220, 30, 30];

/// One channel of one plane.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    /// `plane 0 channel 1`.
    pub title: String,
    /// Rows and columns.
    pub size: [usize; 2],
    /// Mean over the frames that were read.
    pub mean: Vec<f64>,
    /// The first frame.
    pub first: Vec<f64>,
    /// Was the pixel at the detector's end in any frame?
    pub saturated: Vec<bool>,
    /// Mean of every frame.
    pub light: Vec<f64>,
    /// Share of saturated pixels, over all frames.
    pub saturated_share: f64,
}

/// The picture, PNG.
///
/// # Errors
/// The encoder's words.
pub fn png(tiles: &[Tile]) -> Result<Vec<u8>, String> {
    let mut canvas = Canvas::new(tiles);
    let mut top = GAP;
    for tile in tiles {
        top = canvas.tile(tile, top);
    }
    canvas.encode()
}

fn factor(tile: &Tile) -> usize {
    tile.size[0].max(tile.size[1]).div_ceil(SIDE_MAX).max(1)
}

/// How many times its size a small image is drawn.
fn zoom(tile: &Tile) -> usize {
    (SIDE_MAX / tile.size[0].max(tile.size[1]).max(1)).max(1)
}

/// Rows and columns of an image in the picture.
fn drawn(tile: &Tile) -> [usize; 2] {
    tile.size.map(|side| (side / factor(tile)).max(1) * zoom(tile))
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    fn new(tiles: &[Tile]) -> Self {
        let of_images = tiles.iter().map(|tile| 2 * drawn(tile)[1] + 3 * GAP).max().unwrap_or(1);
        let width = of_images.max(WIDTH_MIN);
        let height =
            tiles.iter().map(|tile| drawn(tile)[0] + CURVE + 3 * LETTER + 5 * GAP + GAP / 2).sum::<usize>() + GAP;
        Self { width, height, pixels: vec![PAPER; width * height] }
    }

    fn put(&mut self, row: usize, column: usize, colour: [u8; 3]) {
        if row < self.height && column < self.width {
            self.pixels[row * self.width + column] = colour;
        }
    }

    fn text(&mut self, row: usize, column: usize, text: &str) {
        for (n, letter) in text.chars().enumerate() {
            let rows = BASIC_FONTS.get(letter).unwrap_or_default();
            let dots = (0..LETTER).flat_map(|r| (0..LETTER).map(move |c| [r, c]));
            let inked = dots.filter(|[r, c]| rows[r / 2] >> (c / 2) & 1 == 1);
            inked.for_each(|[r, c]| self.put(row + r, column + n * LETTER + c, INK));
        }
    }

    /// Draws a tile and returns where the next one begins.
    fn tile(&mut self, tile: &Tile, top: usize) -> usize {
        let [rows, columns] = drawn(tile);
        let right = columns + 2 * GAP;
        self.text(top, GAP, &format!("{}: mean, first frame", tile.title));
        let top = top + LETTER + GAP / 2;
        let ends = ends(&tile.mean);
        self.image(tile, &tile.mean, ends, [top, GAP], true);
        self.image(tile, &tile.first, ends, [top, right], false);
        let top = top + rows + GAP;
        let (least, most) = range(&tile.light);
        let caption = format!("light over {} frames: {} to {}", tile.light.len(), short(least), short(most));
        self.text(top, GAP, &caption);
        let top = top + LETTER + GAP / 2;
        self.text(top, GAP, &format!("saturated: {} %", short(100.0 * tile.saturated_share)));
        let top = top + LETTER + GAP / 2;
        self.curve(&tile.light, top);
        top + CURVE + 2 * GAP
    }

    fn image(&mut self, tile: &Tile, values: &[f64], [black, white]: [f64; 2], [top, left]: [usize; 2], marks: bool) {
        let (step, width) = (factor(tile), tile.size[1]);
        let ([rows, columns], zoom) = (drawn(tile), zoom(tile));
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let (from, left_of) = (row / zoom * step, column / zoom * step);
            let block = || (0..step).flat_map(|r| (0..step).map(move |c| (from + r) * width + left_of + c));
            let (sum, count) = block()
                .filter_map(|at| values.get(at).filter(|value| value.is_finite()))
                .fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
            let grey = ((sum / f64::from(count.max(1)) - black) / (white - black)).clamp(0.0, 1.0);
            let is_red = marks && block().any(|at| tile.saturated.get(at) == Some(&true));
            self.put(top + row, left + column, if is_red { RED } else { [(255.0 * grey) as u8; 3] });
        }
    }

    /// Least and largest value of every column of the picture, so that a single dark or bright frame is seen.
    fn curve(&mut self, light: &[f64], top: usize) {
        let width = self.width - 2 * GAP;
        (0..width).for_each(|column| self.put(top + CURVE, GAP + column, INK));
        let (least, most) = range(light);
        let span = if most > least { most - least } else { 1.0 };
        let row = |value: f64| top + CURVE - 1 - ((value - least) / span * (CURVE - 2) as f64) as usize;
        let mut before: Option<usize> = None;
        for column in 0..width.min(light.len().max(1) * width) {
            let (from, to) = (column * light.len() / width, (column + 1) * light.len() / width);
            let own = light.get(from..to.max(from + 1)).unwrap_or_default();
            if own.iter().all(|value| !value.is_finite()) {
                continue;
            }
            let (low, high) = range(own);
            let (mut from, mut to) = (row(high), row(low));
            if let Some(before) = before {
                (from, to) = (from.min(before), to.max(before));
            }
            (from..=to).for_each(|row| self.put(row, GAP + column, INK));
            before = own.last().copied().filter(|value| value.is_finite()).map(row);
        }
    }

    fn encode(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
        writer.write_image_data(self.pixels.as_flattened()).map_err(|e| e.to_string())?;
        writer.finish().map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}

/// Black and white of an image.
fn ends(values: &[f64]) -> [f64; 2] {
    let mut all: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all.get((share * all.len() as f64) as usize).or(all.last()).copied().unwrap_or(0.0);
    let [black, white] = BLACK_AND_WHITE.map(at);
    if white > black { [black, white] } else { [black - 0.5, black + 0.5] }
}

fn range(values: &[f64]) -> (f64, f64) {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if least > most { (0.0, 0.0) } else { (least, most) }
}

/// Three or four digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 0.01 => format!("{value:.2}"),
        _ => "below 0.01".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(light: Vec<f64>) -> Tile {
        let mean: Vec<f64> = (0..6 * 8).map(f64::from).collect();
        let mut saturated = vec![false; 48];
        saturated[9] = true;
        Tile {
            title: "plane 0".into(),
            size: [6, 8],
            first: mean.clone(),
            mean,
            saturated,
            light,
            saturated_share: 0.02,
        }
    }

    #[test]
    fn a_picture_has_grey_images_red_where_saturated_and_a_curve() {
        for light in [vec![1.0, 5.0, 2.0], vec![], vec![f64::NAN], vec![3.0; 5000]] {
            let bytes = png(&[tile(light.clone()), tile(light)]).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!(info.width as usize, 2 * SIDE_MAX + 3 * GAP, "enlarged");
            let all = pixels.as_chunks::<3>().0;
            let one_pixel = (SIDE_MAX / 8) * (SIDE_MAX / 8);
            assert_eq!(all.iter().filter(|pixel| **pixel == RED).count(), 2 * one_pixel, "one of each mean image");
            assert!(all.iter().filter(|pixel| **pixel == INK).count() > 300, "letters and an axis");
            assert!(all.contains(&[255; 3]) && all.contains(&[0; 3]));
        }
        assert!(png(&[]).is_ok());
    }

    #[test]
    fn a_large_image_is_reduced_and_one_of_a_single_value_is_drawn() {
        let side = 2 * SIDE_MAX + 10;
        let flat = Tile { size: [side, 4], mean: vec![7.0; side * 4], ..Tile::default() };
        assert_eq!(drawn(&flat), [side / 3, 1]);
        assert!(png(&[flat]).is_ok());
    }
}
