//! Images of light: neuropil, blobs, their sum, sampled through a moving field.
//!
//! What it must never do: draw noise.

use super::neurons::SECTION_PX;
use super::stream::Stream;
use crate::sys::random::Random;

/// A point of the section [y, x] → a point of the field, px.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub matrix: [[f64; 2]; 2],
    pub shift: [f64; 2],
}

impl Affine {
    pub(super) fn apply(&self, [y, x]: [f64; 2]) -> [f64; 2] {
        std::array::from_fn(|axis| self.matrix[axis][0] * y + self.matrix[axis][1] * x + self.shift[axis])
    }

    fn back(&self, point: [f64; 2]) -> [f64; 2] {
        let [[a, b], [c, d]] = self.matrix;
        let (y, x) = (point[0] - self.shift[0], point[1] - self.shift[1]);
        let determinant = a * d - b * c;
        [(d * y - b * x) / determinant, (a * x - c * y) / determinant]
    }
}

/// The light of one axon: the few pixels of a canvas that it reaches.
pub(super) struct Blob {
    pixels: Vec<(u32, f32)>,
}

impl Blob {
    /// A round blob at `middle` of the field, sd `radius` px, `peak` in its middle.
    pub(super) fn new(canvas: &Canvas, middle: [f64; 2], radius: f64, peak: f64) -> Self {
        let [my, mx] = middle.map(|m| m + canvas.margin as f64);
        let reach = (3.0 * radius).ceil();
        let range = |m: f64| (m - reach).max(0.0) as usize..((m + reach + 1.0).max(0.0) as usize).min(canvas.side);
        let mut pixels = Vec::new();
        for y in range(my) {
            for x in range(mx) {
                let square = (y as f64 - my).powi(2) + (x as f64 - mx).powi(2);
                let light = peak * (-square / (2.0 * radius * radius)).exp();
                pixels.push(((y * canvas.side + x) as u32, light as f32));
            }
        }
        Self { pixels }
    }

    pub(super) fn multiply(&mut self, field: &[f32], by: f64) {
        self.pixels.iter_mut().for_each(|(at, light)| *light *= field[*at as usize] * by as f32);
    }
}

/// A square of light, larger than the field by a margin on each side.
#[derive(Clone)]
pub(super) struct Canvas {
    side: usize,
    margin: usize,
    light: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(field: usize, margin: usize) -> Self {
        let side = field + 2 * margin;
        Self { side, margin, light: vec![0.0; side * side] }
    }

    /// Neuropil of mean about 1 within the section: a texture of the species, plus an individual one.
    pub(super) fn paint_neuropil(&mut self, affine: &Affine, own: f64, animal: [u64; 2]) {
        let common = Waves::new(&mut Random::new(Stream::Species, &[1]));
        let individual = Waves::new(&mut Random::new(Stream::Texture, &animal));
        for (index, light) in self.light.iter_mut().enumerate() {
            let at = [index / self.side, index % self.side].map(|p| p as f64 - self.margin as f64);
            let [y, x] = affine.back(at);
            let texture = 1.0 + 0.3 * common.at([y, x.abs()]) + own * individual.at([y, x]);
            *light = (within_section([y, x]) * texture.max(0.1)) as f32;
        }
    }

    pub(super) fn scale(&mut self, by: f64) {
        self.light.iter_mut().for_each(|v| *v *= by as f32);
    }

    pub(super) fn add(&mut self, blob: &Blob) {
        self.add_times(blob, 1.0);
    }

    pub(super) fn add_times(&mut self, blob: &Blob, times: f64) {
        blob.pixels.iter().for_each(|&(at, light)| self.light[at as usize] += light * times as f32);
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.light.copy_from_slice(&other.light);
    }

    pub(super) fn add_scaled(&mut self, other: &Self, times: f64) {
        self.light.iter_mut().zip(&other.light).for_each(|(v, o)| *v += o * times as f32);
    }

    pub(super) fn multiply(&mut self, field: &[f32], by: f64) {
        self.light.iter_mut().zip(field).for_each(|(v, f)| *v *= f * by as f32);
    }

    /// Uneven light: a slope along y and x, share at the border of the field.
    pub(super) fn lit(&self, slope: [f64; 2]) -> Vec<f32> {
        let half = self.side as f64 / 2.0;
        let at = |index: usize| [index / self.side, index % self.side].map(|p| (p as f64 - half) / half);
        let light = |[y, x]: [f64; 2]| (1.0 + slope[0] * y + slope[1] * x).max(0.2) as f32;
        (0..self.light.len()).map(|index| light(at(index))).collect()
    }

    /// Light at a pixel of the field when the content has moved by `shift` px (bilinear).
    pub(super) fn moved(&self, [y, x]: [usize; 2], shift: [f64; 2]) -> f64 {
        let [fy, fx] = [y as f64 - shift[0], x as f64 - shift[1]].map(|p| p + self.margin as f64);
        f64::from(bilinear(&self.light, self.side, fy, fx))
    }
}

/// 1 inside the section, 0 outside: the outline of the species.
fn within_section([y, x]: [f64; 2]) -> f64 {
    let [half_y, half_x] = SECTION_PX.map(|half| half + 2.5);
    let radius = (y / half_y).hypot(x / half_x);
    // The point spread and the tilt of the section soften the edge.
    1.0 / (1.0 + ((radius - 1.0) * 16.0).exp())
}

/// Value between pixels of a square of `side`; outside, that of the nearest pixel inside.
pub(super) fn bilinear(values: &[f32], side: usize, y: f64, x: f64) -> f32 {
    let last = (side - 1) as f64;
    let (y, x) = (y.clamp(0.0, last), x.clamp(0.0, last));
    let (iy, ix) = ((y as usize).min(side - 2), (x as usize).min(side - 2));
    let (wy, wx) = ((y - iy as f64) as f32, (x - ix as f64) as f32);
    let at = iy * side + ix;
    let upper = values[at] * (1.0 - wx) + values[at + 1] * wx;
    let lower = values[at + side] * (1.0 - wx) + values[at + side + 1] * wx;
    upper * (1.0 - wy) + lower * wy
}

/// A smooth random texture without a grid: plane waves of 6 to 30 px, sd about 1.
struct Waves([[f64; 3]; Waves::COUNT]);

impl Waves {
    const COUNT: usize = 24;

    fn new(random: &mut Random) -> Self {
        Self(std::array::from_fn(|_| {
            let length = 6.0 * 5.0f64.powf(random.uniform());
            let (sin, cos) = (std::f64::consts::TAU * random.uniform()).sin_cos();
            let wave = std::f64::consts::TAU / length;
            [wave * sin, wave * cos, std::f64::consts::TAU * random.uniform()]
        }))
    }

    fn at(&self, [y, x]: [f64; 2]) -> f64 {
        let sum: f64 = self.0.iter().map(|[ky, kx, phase]| (ky * y + kx * x + phase).cos()).sum();
        sum * (2.0 / Self::COUNT as f64).sqrt()
    }
}
