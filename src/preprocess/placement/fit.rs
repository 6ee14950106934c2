//! The five numbers that lay a picture on the atlas: a correlation and its slopes, and one damped step after the other.
//!
//! With both pictures standardised, ½ |difference|² = 1 − correlation; so Gauss–Newton with Levenberg's damping minimises
//! 1 − correlation + prior directly (Evangelidis & Psarakis 2008 give the same for video). Each step is one look at the picture,
//! of a fixed number of operations.

use super::picture::PIXELS;
use crate::model::parameters::{Atlas, PICTURE_PX};

/// Turn (rad), shift y and x (picture px), logarithms of the scale along y and x.
pub type Five = [f64; 5];

/// Bounds of the five numbers: beyond, a picture has nothing to do with the atlas.
const BOUNDS: Five = [0.8, 10.0, 10.0, 0.35, 0.35];
/// Damping at the start, and its bounds.
const DAMPING: (f64, f64, f64) = (1e-2, 1e-7, 1e6);

/// Geometry shared by looks at pictures: aspect and rim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Height / width of the frames.
    pub aspect: f64,
    /// Pixels of the atlas that are left out on each side.
    pub rim_px: usize,
}

/// From an atlas point [y, x], px from the middle, to the picture, and how it moves with each of the five numbers.
struct Map {
    cos: f64,
    sin: f64,
    scale: [f64; 2],
    shift: [f64; 2],
    aspect: f64,
}

impl Map {
    fn new(five: &Five, aspect: f64) -> Self {
        let (sin, cos) = five[0].sin_cos();
        Self { cos, sin, scale: [five[3].exp(), five[4].exp()], shift: [five[1], five[2]], aspect }
    }

    fn at(&self, [y, x]: [f64; 2]) -> [f64; 2] {
        let (u, v) = (self.scale[0] * y, self.scale[1] * x);
        // Turned in px of the frame, of which a picture px is one high and 1 / aspect wide.
        let (v_high, u_wide) = (v / self.aspect, u * self.aspect);
        [self.cos * u + self.sin * v_high + self.shift[0], self.cos * v - self.sin * u_wide + self.shift[1]]
    }

    /// d[y, x] by turn and by the two scales; by the shifts it is 1.
    fn slopes(&self, [y, x]: [f64; 2]) -> [[f64; 2]; 3] {
        let (u, v) = (self.scale[0] * y, self.scale[1] * x);
        let (v_high, u_wide) = (v / self.aspect, u * self.aspect);
        [
            [self.cos * v_high - self.sin * u, -self.sin * v - self.cos * u_wide],
            [self.cos * u, -self.sin * u_wide],
            [self.sin * v_high, self.cos * v],
        ]
    }
}

/// The linear part of the map, rows [y, x], in picture px.
pub fn matrix(five: &Five, aspect: f64) -> [[f64; 2]; 2] {
    let map = Map::new(&[five[0], 0.0, 0.0, five[3], five[4]], aspect);
    let (y, x) = (map.at([1.0, 0.0]), map.at([0.0, 1.0]));
    [[y[0], x[0]], [y[1], x[1]]]
}

/// Value of a picture between its pixels, px from its middle, and its slopes along y and x; beyond, the edge is repeated.
fn sample(picture: &[f32], [y, x]: [f64; 2]) -> (f64, [f64; 2]) {
    let last = (PICTURE_PX - 1) as f64;
    let middle = last / 2.0;
    let (wanted_y, wanted_x) = (y + middle, x + middle);
    let (y, x) = (wanted_y.clamp(0.0, last), wanted_x.clamp(0.0, last));
    let (top, left) = ((y as usize).min(PICTURE_PX - 2), (x as usize).min(PICTURE_PX - 2));
    let (share_y, share_x) = (y - top as f64, x - left as f64);
    let at = |row: usize, column: usize| f64::from(picture[row * PICTURE_PX + column]);
    let (a, b, c, d) = (at(top, left), at(top, left + 1), at(top + 1, left), at(top + 1, left + 1));
    let (upper, lower) = (a + share_x * (b - a), c + share_x * (d - c));
    let slope_y = if y == wanted_y { lower - upper } else { 0.0 };
    let slope_x = if x == wanted_x { (b - a) + share_y * ((d - c) - (b - a)) } else { 0.0 };
    (upper + share_y * (lower - upper), [slope_y, slope_x])
}

/// Lays a picture on the atlas: fills `onto` with its values at the atlas' pixels.
pub fn lay(picture: &[f32], five: &Five, aspect: f64, onto: &mut [f32]) {
    let map = Map::new(five, aspect);
    let middle = (PICTURE_PX - 1) as f64 / 2.0;
    for (index, v) in onto.iter_mut().enumerate() {
        let [y, x] = [index / PICTURE_PX, index % PICTURE_PX].map(|px| px as f64 - middle);
        *v = sample(picture, map.at([y, x])).0 as f32;
    }
}

/// What one look found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Correlation of picture and atlas.
    pub correlation: f64,
    /// 1 − correlation + prior.
    pub cost: f64,
    slope: Five,
    bend: [Five; 5],
}

/// Sums over the compared pixels, of the picture's values v, the atlas' values a and the slopes s of v.
#[derive(Default)]
struct Sums {
    v: f64,
    vv: f64,
    a: f64,
    aa: f64,
    va: f64,
    s: Five,
    sv: Five,
    sa: Five,
    /// Lower triangle.
    ss: [Five; 5],
}

impl Sums {
    fn add(&mut self, v: f64, a: f64, slopes: &Five) {
        (self.v, self.vv) = (self.v + v, self.vv + v * v);
        (self.a, self.aa) = (self.a + a, self.aa + a * a);
        self.va += v * a;
        for (i, slope) in slopes.iter().enumerate() {
            self.s[i] += slope;
            self.sv[i] += slope * v;
            self.sa[i] += slope * a;
            for (sum, other) in self.ss[i].iter_mut().zip(&slopes[..=i]) {
                *sum += slope * other;
            }
        }
    }
}

/// Looks at the picture through the five numbers.
pub fn look(atlas: &Atlas, target: &[f32], picture: &[f32], geometry: Geometry, five: &Five) -> Look {
    let map = Map::new(five, geometry.aspect);
    let middle = (PICTURE_PX - 1) as f64 / 2.0;
    let inside = geometry.rim_px..PICTURE_PX - geometry.rim_px;
    let mut sums = Sums::default();
    for row in inside.clone() {
        for column in inside.clone() {
            let point = [row as f64 - middle, column as f64 - middle];
            let (v, [by_y, by_x]) = sample(picture, map.at(point));
            let [turn, up, wide] = map.slopes(point).map(|[y, x]| by_y * y + by_x * x);
            sums.add(v, f64::from(target[row * PICTURE_PX + column]), &[turn, by_y, by_x, up, wide]);
        }
    }
    let mut found = compare(&sums, (inside.len() * inside.len()) as f64);
    let widths = [atlas.turn_rad, atlas.shift_px, atlas.shift_px, atlas.log_scale, atlas.log_scale];
    for (i, (width, value)) in widths.iter().zip(five).enumerate() {
        let weight = f64::from(atlas.prior) / f64::from(*width).powi(2);
        found.cost += weight * value * value;
        found.slope[i] += 2.0 * weight * value;
        found.bend[i][i] += 2.0 * weight;
    }
    found
}

/// The correlation over `count` pixels, with the slopes and the bend of 1 − correlation; zeros where nothing varies.
fn compare(sums: &Sums, count: f64) -> Look {
    let length = |square: f64, sum: f64| (square - sum * sum / count).max(0.0).sqrt();
    let (length_v, length_a) = (length(sums.vv, sums.v), length(sums.aa, sums.a));
    // Not `<=`: NaN must not pass.
    let varies = length_v > 1e-9 && length_a > 1e-9;
    if !varies {
        return Look { correlation: 0.0, cost: 1.0, slope: [0.0; 5], bend: [[0.0; 5]; 5] };
    }
    let correlation = (sums.va - sums.v * sums.a / count) / (length_v * length_a);
    // Slopes along the centred picture and along the centred atlas, both of length 1.
    let along_v: Five = std::array::from_fn(|i| (sums.sv[i] - sums.s[i] * sums.v / count) / length_v);
    let along_a: Five = std::array::from_fn(|i| (sums.sa[i] - sums.s[i] * sums.a / count) / length_a);
    let slope = std::array::from_fn(|i| (correlation * along_v[i] - along_a[i]) / length_v);
    let bend = |i: usize, j: usize| {
        let (i, j) = (i.max(j), i.min(j));
        (sums.ss[i][j] - sums.s[i] * sums.s[j] / count - along_v[i] * along_v[j]) / (length_v * length_v)
    };
    let bend = std::array::from_fn(|i| std::array::from_fn(|j| bend(i, j)));
    Look { correlation, cost: 1.0 - correlation, slope, bend }
}

/// A search from one start.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The best so far.
    pub five: Five,
    /// What was seen there; `None` before the first look.
    pub seen: Option<Look>,
    /// Where to look next.
    next: Five,
    damping: f64,
}

impl Search {
    /// Begins at `five`.
    pub fn new(five: Five) -> Self {
        Self { five, seen: None, next: five, damping: DAMPING.0 }
    }

    /// Looks again at the best, with another picture or atlas.
    pub fn look_anew(&mut self) {
        *self = Self::new(self.five);
    }

    /// One look, and the choice of the next.
    pub fn step(&mut self, atlas: &Atlas, target: &[f32], picture: &[f32], geometry: Geometry) {
        let found = look(atlas, target, picture, geometry, &self.next);
        let (step, least, most) = (4.0, DAMPING.1, DAMPING.2);
        // Not `>=`: NaN must not be taken.
        if self.seen.is_none_or(|seen| found.cost < seen.cost) {
            (self.five, self.seen) = (self.next, Some(found));
            self.damping = (self.damping / step).max(least);
        } else {
            self.damping = (self.damping * step).min(most);
        }
        let Some(seen) = self.seen else { return };
        let mut bend = seen.bend;
        for (i, row) in bend.iter_mut().enumerate() {
            row[i] += self.damping * row[i].max(1e-9);
        }
        let step = solve(bend, seen.slope);
        self.next = std::array::from_fn(|i| (self.five[i] - step[i]).clamp(-BOUNDS[i], BOUNDS[i]));
    }
}

/// x with matrix · x = right, for a symmetric positive matrix; zeros when it is not.
fn solve(mut matrix: [Five; 5], mut right: Five) -> Five {
    for i in 0..5 {
        for j in 0..=i {
            let product: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - product;
            if i == j {
                // Not `<=`: NaN must not pass.
                let positive = rest > 0.0;
                if !positive {
                    return [0.0; 5];
                }
                matrix[i][i] = rest.sqrt();
            } else {
                matrix[i][j] = rest / matrix[j][j];
            }
        }
        let product: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - product) / matrix[i][i];
    }
    for i in (0..5).rev() {
        let product: f64 = (i + 1..5).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - product) / matrix[i][i];
    }
    right
}

/// True where the five numbers lie on one of their bounds.
pub fn at_bound(five: &Five) -> bool {
    five.iter().zip(BOUNDS).any(|(v, bound)| v.abs() >= bound)
}

/// True where none lies beyond its bound.
pub fn within_bounds(five: &Five) -> bool {
    five.iter().zip(BOUNDS).all(|(v, bound)| v.abs() <= bound)
}

/// A picture of the right size, all zero.
pub fn blank() -> Vec<f32> {
    vec![0.0; PIXELS]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Smooth light without a symmetry.
    fn scene() -> Vec<f32> {
        let bump = |y: f64, x: f64, my: f64, mx: f64, sd: f64| {
            (-((y - my).powi(2) + (x - mx).powi(2)) / (2.0 * sd * sd)).exp()
        };
        let light = |index: usize| {
            let (y, x) = ((index / PICTURE_PX) as f64, (index % PICTURE_PX) as f64);
            bump(y, x, 12.0, 10.0, 4.0) + 0.7 * bump(y, x, 20.0, 21.0, 3.0) + 0.5 * bump(y, x, 9.0, 22.0, 2.5)
        };
        (0..PIXELS).map(|index| light(index) as f32).collect()
    }

    const GEOMETRY: Geometry = Geometry { aspect: 1.0, rim_px: 3 };

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let (atlas, target) = (Atlas::default(), scene());
        let mut picture = blank();
        lay(&target, &[0.05, 0.8, -0.6, 0.03, -0.04], 1.0, &mut picture);
        for aspect in [1.0, 0.5] {
            let geometry = Geometry { aspect, ..GEOMETRY };
            // Between pixels, where a bilinear picture is smooth.
            let five = [0.0123, 0.37, 0.41, 0.011, -0.017];
            let found = look(&atlas, &target, &picture, geometry, &five);
            for i in 0..5 {
                let cost = |by: f64| {
                    let mut moved = five;
                    moved[i] += by;
                    look(&atlas, &target, &picture, geometry, &moved).cost
                };
                let slope = (cost(1e-4) - cost(-1e-4)) / 2e-4;
                assert!(
                    (slope - found.slope[i]).abs() < 0.03 * slope.abs().max(0.02),
                    "{i}: {slope} {}",
                    found.slope[i]
                );
            }
        }
    }

    #[test]
    fn a_picture_that_was_moved_is_found_where_it_lies() {
        let atlas = Atlas { prior: 0.0, ..Atlas::default() };
        let target = scene();
        let truth: Five = [0.11, 1.7, -1.2, 0.06, -0.05];
        // The inverse of the map lays the scene so that the map finds it again.
        let mut picture = blank();
        let [[a, b], [c, d]] = matrix(&truth, 1.0);
        let determinant = a * d - b * c;
        let middle = (PICTURE_PX - 1) as f64 / 2.0;
        for (index, v) in picture.iter_mut().enumerate() {
            let y = (index / PICTURE_PX) as f64 - middle - truth[1];
            let x = (index % PICTURE_PX) as f64 - middle - truth[2];
            *v = sample(&target, [(d * y - b * x) / determinant, (a * x - c * y) / determinant]).0 as f32;
        }
        let mut search = Search::new([0.0; 5]);
        for _ in 0..30 {
            search.step(&atlas, &target, &picture, GEOMETRY);
        }
        for (found, truth) in search.five.iter().zip(truth) {
            assert!((found - truth).abs() < 0.03, "{:?} for {truth:?}", search.five);
        }
        assert!(search.seen.unwrap().correlation > 0.99);
    }

    #[test]
    fn a_blank_picture_stays_where_it_is() {
        let (atlas, target) = (Atlas::default(), scene());
        let mut search = Search::new([0.0; 5]);
        for _ in 0..5 {
            search.step(&atlas, &target, &blank(), GEOMETRY);
        }
        assert_eq!((search.five, search.seen.unwrap().correlation), ([0.0; 5], 0.0));
    }
}
