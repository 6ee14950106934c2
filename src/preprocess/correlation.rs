//! Correlation of two kept spectra: all lags within reach by small matrix products, then the exact peak of the continuous sum.
//!
//! Why it exists: the shift is the maximum of `Σ g(k) √|F(k)| √|T(k)| cos(φ_F − φ_T + k·d)`: halfway between cross- and phase
//! correlation. Full whitening gives frequencies without signal the same say as the others and loses a quarter of the precision
//! at low light; none lets slow brightness changes in. What it must never do: allocate outside `new`, or return NaN.
//!
//! No sum is contracted to fused multiply-adds, so that every instruction set gives the same result.

use pulp::Arch;
use rustfft::num_complex::Complex32;

use super::spectrum::{Axis, Spectrum};

/// Values that are summed side by side.
const LANES: usize = 8;
/// Horizontal lags summed in one pass.
const LAGS_FUSED: usize = 4;
/// Energy per frequency, relative to the light of the image, under which there is nothing but rounding errors.
const BLANK: f32 = 1e-6;
/// Newton steps from the parabola's peak; the second already changes nothing above 1e-4 px.
const STEPS: usize = 2;
/// Keeps the root of an empty frequency finite.
const TINY: f32 = 1e-20;

type Lane = [f32; LANES];

/// Element by element; written as a loop of fixed length so that it becomes one instruction.
macro_rules! lane_operation {
    ($name:ident, $operator:tt) => {
        #[inline(always)]
        fn $name(a: Lane, b: Lane) -> Lane {
            let mut result = [0.0; LANES];
            for l in 0..LANES {
                result[l] = a[l] $operator b[l];
            }
            result
        }
    };
}
lane_operation!(add, +);
lane_operation!(sub, -);
lane_operation!(mul, *);
lane_operation!(div, /);

#[inline(always)]
fn root(a: Lane) -> Lane {
    let mut result = [0.0; LANES];
    for l in 0..LANES {
        result[l] = a[l].sqrt();
    }
    result
}

#[inline(always)]
fn total(a: Lane) -> f32 {
    ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))
}

/// A kept spectrum without its mean: per column four rows of `rows` values, real and imaginary for ky ≥ 0, then for −ky.
#[derive(Clone, Default)]
pub(super) struct Planes {
    /// The values.
    pub values: Vec<f32>,
    /// Light of the windowed image, the scale of rounding errors.
    pub light: f32,
}

/// The geometry that planes, references and the correlator share.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// Values per row of a column, a multiple of [`LANES`].
    pub rows: usize,
    /// Columns, even.
    pub columns: usize,
    /// Radians per px of frequency 1, vertical and horizontal.
    pub radians: [f32; 2],
    axes: [Axis; 2],
}

impl Grid {
    /// The geometry of what `spectrum` keeps.
    pub fn new(spectrum: &Spectrum) -> Self {
        let axes = [spectrum.y.clone(), spectrum.x.clone()];
        let radians = [0, 1].map(|a| axes[a].radians_per_px(1) as f32);
        let (rows, columns) = (axes[0].kept.next_multiple_of(LANES), axes[1].kept.next_multiple_of(2));
        Self { rows, columns, radians, axes }
    }

    /// Empty planes.
    pub fn planes(&self) -> Planes {
        Planes { values: vec![0.0; 4 * self.rows * self.columns], light: 0.0 }
    }
}

impl Planes {
    /// Takes over the last transform of `spectrum` (made with `offset`), the window's share of the mean removed.
    pub fn load(&mut self, spectrum: &Spectrum, grid: &Grid, offset: f32) {
        let [y, x] = &spectrum.constant;
        let ones = y[0].re * x[0].re;
        let sum = spectrum.column(0).0[0].re;
        let mean = sum / ones;
        self.light = sum.abs() + offset.abs() * ones;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (kx, column) in self.values.chunks_exact_mut(4 * grid.rows).take(x.len()).enumerate() {
                    let (up, down) = spectrum.column(kx);
                    let [a, b, c, d] = quarters_mut(column, grid.rows);
                    let factor = x[kx] * mean;
                    for (((a, b), f), y) in a.iter_mut().zip(b).zip(up).zip(y) {
                        let v = minus(*f, *y, factor);
                        (*a, *b) = (v.re, v.im);
                    }
                    for (((c, d), f), y) in c[1..].iter_mut().zip(&mut d[1..]).zip(down.iter().rev()).zip(&y[1..]) {
                        let v = minus(*f, y.conj(), factor);
                        (*c, *d) = (v.re, v.im);
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn minus(f: Complex32, y: Complex32, factor: Complex32) -> Complex32 {
    let (re, im) = (y.re * factor.re - y.im * factor.im, y.re * factor.im + y.im * factor.re);
    Complex32::new(f.re - re, f.im - im)
}

#[inline(always)]
fn quarters(column: &[f32], rows: usize) -> [&[f32]; 4] {
    let (ab, cd) = column.split_at(2 * rows);
    let ((a, b), (c, d)) = (ab.split_at(rows), cd.split_at(rows));
    [a, b, c, d]
}

#[inline(always)]
fn quarters_mut(column: &mut [f32], rows: usize) -> [&mut [f32]; 4] {
    let (ab, cd) = column.split_at_mut(2 * rows);
    let ((a, b), (c, d)) = (ab.split_at_mut(rows), cd.split_at_mut(rows));
    [a, b, c, d]
}

#[inline(always)]
fn lanes(row: &[f32]) -> &[Lane] {
    row.as_chunks().0
}

/// A template, ready to be multiplied with: `conj(T) g / √|T|`.
pub(super) struct Reference {
    values: Vec<f32>,
    weights: [Vec<f32>; 2],
    energy: f32,
    blank: bool,
}

impl Reference {
    /// Room for a template smoothed by σ = `smooth_px`.
    pub fn new(grid: &Grid, smooth_px: f32) -> Self {
        let mut reference = Self {
            values: grid.planes().values,
            weights: [vec![0.0; grid.rows], vec![0.0; grid.columns]],
            energy: 0.0,
            blank: true,
        };
        reference.smooth(grid, smooth_px);
        reference
    }

    /// Changes the smoothing; takes effect with the next `set`.
    pub fn smooth(&mut self, grid: &Grid, smooth_px: f32) {
        for (weights, axis) in self.weights.iter_mut().zip(&grid.axes) {
            for (k, weight) in weights.iter_mut().take(axis.kept).enumerate() {
                *weight = axis.weight(k, smooth_px);
            }
        }
        // A real image's kx = 0 column holds every wave twice.
        self.weights[1][0] *= 0.5;
    }

    /// Makes `template` the reference.
    pub fn set(&mut self, grid: &Grid, template: &Planes) {
        let rows = grid.rows;
        self.energy = Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut energy = 0.0;
                let columns = self.values.chunks_exact_mut(4 * rows).zip(template.values.chunks_exact(4 * rows));
                for ((to, from), &gx) in columns.zip(&self.weights[1]) {
                    let (up, down) = (to.split_at_mut(2 * rows), from.split_at(2 * rows));
                    let sum = conjugate(up.0, down.0, &self.weights[0]) + conjugate(up.1, down.1, &self.weights[0]);
                    to.iter_mut().for_each(|v| *v *= gx);
                    energy += gx * sum;
                }
                energy
            },
        );
        self.blank = is_blank(self.energy, template.light, &self.weights);
    }
}

/// Of real and imaginary rows: `to = conj(from) g / √|from|`; returns Σ g |from|.
#[inline(always)]
fn conjugate(to: &mut [f32], from: &[f32], weights: &[f32]) -> f32 {
    let rows = weights.len();
    let ((to_re, to_im), (re, im)) = (to.split_at_mut(rows), from.split_at(rows));
    let mut sum = 0.0;
    for k in 0..rows {
        let magnitude = (re[k] * re[k] + im[k] * im[k]).sqrt();
        let scale = weights[k] / (magnitude + TINY).sqrt();
        (to_re[k], to_im[k]) = (re[k] * scale, -im[k] * scale);
        sum += weights[k] * magnitude;
    }
    sum
}

fn is_blank(energy: f32, light: f32, [y, x]: &[Vec<f32>; 2]) -> bool {
    let total = 2.0 * y.iter().sum::<f32>() * x.iter().sum::<f32>();
    energy.is_nan() || energy <= BLANK * light * total || energy < f32::MIN_POSITIVE
}

/// Where the correlation has its maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Peak {
    /// Displacement, px: down and right.
    pub shift: [f32; 2],
    /// Share of the greatest possible correlation, 0 to 1.
    pub height: f32,
    /// The best lag lies on the rim of the search.
    pub at_bound: bool,
}

/// Buffers and tables of the search for a peak.
pub(super) struct Correlator {
    grid: Grid,
    reach: usize,
    /// `[block of lags][ky]`.
    vertical: [Vec<Lane>; 2],
    /// `[group of lags][kx]`.
    horizontal: [Vec<[f32; LAGS_FUSED]>; 2],
    /// Even and odd part of the product along ky, laid out like [`Planes`].
    folded: Vec<f32>,
    /// After the vertical sum: `[block of lags of one sign, then of the other][kx]`, real and imaginary.
    summed: [Vec<Lane>; 2],
    /// `[horizontal lag − reach .. reach][vertical lag, as in summed]`.
    surface: Vec<Lane>,
    /// cos and sin at the refined shift along each axis.
    waves: [[Vec<f32>; 2]; 2],
}

impl Correlator {
    /// A search over ±`reach_px` lags.
    pub fn new(grid: &Grid, reach_px: usize) -> Self {
        let (blocks, groups) = ((reach_px + 1).div_ceil(LANES), (reach_px + 1).div_ceil(LAGS_FUSED));
        let angle = |axis: usize, k: usize, lag: usize| grid.axes[axis].radians_per_px(k) * lag as f64;
        let trigonometry = [f64::cos, f64::sin];
        let vertical = trigonometry.map(|f| {
            let lane = |b: usize, k: usize| std::array::from_fn(|l| f(angle(0, k, b * LANES + l)) as f32);
            (0..blocks).flat_map(|b| (0..grid.rows).map(move |k| lane(b, k))).collect()
        });
        let horizontal = trigonometry.map(|f| {
            let group = |g: usize, k: usize| std::array::from_fn(|l| f(angle(1, k, g * LAGS_FUSED + l)) as f32);
            (0..groups).flat_map(|g| (0..grid.columns).map(move |k| group(g, k))).collect()
        });
        Self {
            reach: reach_px,
            vertical,
            horizontal,
            folded: grid.planes().values,
            summed: [(); 2].map(|()| vec![[0.0; LANES]; 2 * blocks * grid.columns]),
            surface: vec![[0.0; LANES]; (2 * groups * LAGS_FUSED + 1) * 2 * blocks],
            waves: [grid.rows, grid.columns].map(|n| [vec![0.0; n], vec![0.0; n]]),
            grid: grid.clone(),
        }
    }

    /// The displacement of `frame` relative to `reference`; nothing where either is blank.
    pub fn peak(&mut self, frame: &Planes, reference: &Reference) -> Peak {
        let energy = Arch::new().dispatch(
            #[inline(always)]
            || product(&mut self.folded, &frame.values, reference, self.grid.rows),
        );
        if reference.blank || is_blank(energy, frame.light, &reference.weights) {
            return Peak::default();
        }
        Arch::new().dispatch(
            #[inline(always)]
            || self.sum_vertical(),
        );
        Arch::new().dispatch(
            #[inline(always)]
            || self.sum_horizontal(),
        );
        let lag = self.highest();
        let reach = self.reach as isize;
        let start = [self.parabola(lag, 0), self.parabola(lag, 1)];
        let (shift, value) = self.climb(start, lag.map(|l| l as f32));
        let limit = |v: f32| v.clamp(-(reach as f32), reach as f32);
        let height = value / (energy * reference.energy).sqrt();
        let at_bound = lag.iter().any(|l| l.abs() == reach);
        Peak { shift: shift.map(limit), height: if height > 0.0 { height.min(1.0) } else { 0.0 }, at_bound }
    }

    #[inline(always)]
    fn sum_vertical(&mut self) {
        let (rows, columns) = (self.grid.rows, self.grid.columns);
        let blocks = self.vertical[0].len() / rows;
        for (pair, folded) in self.folded.chunks_exact(8 * rows).enumerate() {
            let (left, right) = folded.split_at(4 * rows);
            for b in 0..blocks {
                let (cos, sin) = (&self.vertical[0][b * rows..][..rows], &self.vertical[1][b * rows..][..rows]);
                let sums = lag_sums(quarters(left, rows), quarters(right, rows), cos, sin);
                for (i, sums) in sums.iter().enumerate() {
                    let [even_re, even_im, odd_re, odd_im] = sums;
                    let up = b * columns + 2 * pair + i;
                    let down = up + blocks * columns;
                    self.summed[0][up] = sub(*even_re, *odd_im);
                    self.summed[1][up] = add(*even_im, *odd_re);
                    self.summed[0][down] = add(*even_re, *odd_im);
                    self.summed[1][down] = sub(*even_im, *odd_re);
                }
            }
        }
    }

    #[inline(always)]
    fn sum_horizontal(&mut self) {
        let columns = self.grid.columns;
        let (blocks, groups) = (self.summed[0].len() / columns, self.horizontal[0].len() / columns);
        let middle = groups * LAGS_FUSED;
        for b in 0..blocks {
            let (re, im) = (&self.summed[0][b * columns..][..columns], &self.summed[1][b * columns..][..columns]);
            for g in 0..groups {
                let span = g * columns..(g + 1) * columns;
                let (cos, sin) = (&self.horizontal[0][span.clone()], &self.horizontal[1][span]);
                let (even, odd) = horizontal_sums(re, im, cos, sin);
                for l in 0..LAGS_FUSED {
                    let lag = g * LAGS_FUSED + l;
                    self.surface[(middle + lag) * blocks + b] = sub(even[l], odd[l]);
                    self.surface[(middle - lag) * blocks + b] = add(even[l], odd[l]);
                }
            }
        }
    }

    /// Correlation at a whole-pixel lag; |lag| may reach one beyond nothing: callers stay within the table.
    fn at(&self, [dy, dx]: [isize; 2]) -> f32 {
        let blocks = self.summed[0].len() / self.grid.columns;
        let middle = (self.surface.len() / blocks / 2) as isize;
        let row = (middle + dx) as usize * blocks + if dy < 0 { blocks / 2 } else { 0 };
        let lag = dy.unsigned_abs();
        self.surface[row + lag / LANES][lag % LANES]
    }

    fn highest(&self) -> [isize; 2] {
        let reach = self.reach as isize;
        let mut best = ([0, 0], self.at([0, 0]));
        for dx in -reach..=reach {
            for dy in -reach..=reach {
                let value = self.at([dy, dx]);
                if value > best.1 {
                    best = ([dy, dx], value);
                }
            }
        }
        best.0
    }

    /// Peak of the parabola through a lag and its neighbours along `axis`.
    fn parabola(&self, lag: [isize; 2], axis: usize) -> f32 {
        let beside = |step: isize| {
            let mut lag = lag;
            lag[axis] += step;
            self.at(lag)
        };
        let whole = lag[axis] as f32;
        if lag[axis].unsigned_abs() == self.reach {
            return whole;
        }
        let [below, peak, above] = [-1, 0, 1].map(beside);
        let curvature = below - 2.0 * peak + above;
        if curvature < 0.0 { whole + 0.5 * (below - above) / curvature } else { whole }
    }

    /// Newton's method on the continuous correlation; falls back on `start` where it does not lead to a near maximum.
    fn climb(&mut self, start: [f32; 2], lag: [f32; 2]) -> ([f32; 2], f32) {
        let mut shift = start;
        let mut first = 0.0;
        for step in 0..=STEPS {
            self.set_waves(shift);
            let [value, y, x, yy, yx, xx] = Arch::new().dispatch(
                #[inline(always)]
                || moments(&self.folded, &self.waves, &self.grid),
            );
            if step == 0 {
                first = value;
            }
            if step == STEPS {
                return (shift, value);
            }
            let determinant = yy * xx - yx * yx;
            if yy >= 0.0 || determinant <= 0.0 {
                return (start, first);
            }
            shift[0] -= (xx * y - yx * x) / determinant;
            shift[1] -= (yy * x - yx * y) / determinant;
            if !shift.iter().zip(&lag).all(|(s, l)| (s - l).abs() <= 1.0) {
                return (start, first);
            }
        }
        (shift, first)
    }

    fn set_waves(&mut self, shift: [f32; 2]) {
        for axis in 0..2 {
            let angle = self.grid.radians[axis] * shift[axis];
            let [cos, sin] = &mut self.waves[axis];
            for (k, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                (*sin, *cos) = (angle * k as f32).sin_cos();
            }
        }
    }
}

/// `frame × reference / √|frame|`, folded along ky into even and odd part; returns Σ g |frame|.
#[inline(always)]
fn product(folded: &mut [f32], frame: &[f32], reference: &Reference, rows: usize) -> f32 {
    let mut energy = 0.0;
    let count = rows / LANES;
    let weights = &lanes(&reference.weights[0])[..count];
    let columns = folded.chunks_exact_mut(4 * rows).zip(frame.chunks_exact(4 * rows));
    for ((to, f), (r, gx)) in columns.zip(reference.values.chunks_exact(4 * rows).zip(&reference.weights[1])) {
        let ([f0, f1, f2, f3], [r0, r1, r2, r3]) = (lane_rows(f, rows), lane_rows(r, rows));
        let [t0, t1, t2, t3] = quarters_mut(to, rows);
        let (t0, t1) = (&mut t0.as_chunks_mut().0[..count], &mut t1.as_chunks_mut().0[..count]);
        let (t2, t3) = (&mut t2.as_chunks_mut().0[..count], &mut t3.as_chunks_mut().0[..count]);
        let mut sum = [0.0; LANES];
        for k in 0..count {
            let (up_re, up_im, a) = rooted(f0[k], f1[k], r0[k], r1[k]);
            let (down_re, down_im, b) = rooted(f2[k], f3[k], r2[k], r3[k]);
            sum = add(sum, mul(weights[k], add(a, b)));
            (t0[k], t1[k]) = (add(up_re, down_re), add(up_im, down_im));
            (t2[k], t3[k]) = (sub(up_re, down_re), sub(up_im, down_im));
        }
        energy += gx * total(sum);
    }
    energy
}

/// The four rows of a column as lanes, all of one length that the compiler sees.
#[inline(always)]
fn lane_rows(column: &[f32], rows: usize) -> [&[Lane]; 4] {
    let count = rows / LANES;
    let [a, b, c, d] = quarters(column, rows);
    [&lanes(a)[..count], &lanes(b)[..count], &lanes(c)[..count], &lanes(d)[..count]]
}

/// `f r / √|f|` (real, imaginary) and `|f|`.
#[inline(always)]
fn rooted(f_re: Lane, f_im: Lane, r_re: Lane, r_im: Lane) -> (Lane, Lane, Lane) {
    let magnitude = root(add(mul(f_re, f_re), mul(f_im, f_im)));
    let scale = div([1.0; LANES], root(add(magnitude, [TINY; LANES])));
    let re = mul(sub(mul(f_re, r_re), mul(f_im, r_im)), scale);
    let im = mul(add(mul(f_re, r_im), mul(f_im, r_re)), scale);
    (re, im, magnitude)
}

/// Σ over ky for eight vertical lags of two columns: cos·even (re, im) and sin·odd (re, im).
#[inline(always)]
fn lag_sums(left: [&[f32]; 4], right: [&[f32]; 4], cos: &[Lane], sin: &[Lane]) -> [[Lane; 4]; 2] {
    let n = cos.len();
    let (l0, l1, l2, l3) = (&left[0][..n], &left[1][..n], &left[2][..n], &left[3][..n]);
    let (r0, r1, r2, r3) = (&right[0][..n], &right[1][..n], &right[2][..n], &right[3][..n]);
    let sin = &sin[..n];
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = [[0.0; LANES]; 8];
    for k in 0..n {
        let (cos, sin) = (cos[k], sin[k]);
        a = add(a, mul([l0[k]; LANES], cos));
        b = add(b, mul([l1[k]; LANES], cos));
        c = add(c, mul([l2[k]; LANES], sin));
        d = add(d, mul([l3[k]; LANES], sin));
        e = add(e, mul([r0[k]; LANES], cos));
        f = add(f, mul([r1[k]; LANES], cos));
        g = add(g, mul([r2[k]; LANES], sin));
        h = add(h, mul([r3[k]; LANES], sin));
    }
    [[a, b, c, d], [e, f, g, h]]
}

/// Σ over kx for a group of horizontal lags: cos·re and sin·im.
#[inline(always)]
fn horizontal_sums(
    re: &[Lane],
    im: &[Lane],
    cos: &[[f32; LAGS_FUSED]],
    sin: &[[f32; LAGS_FUSED]],
) -> ([Lane; LAGS_FUSED], [Lane; LAGS_FUSED]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = [[0.0; LANES]; 8];
    for ((re, im), (cos, sin)) in re.iter().zip(im).zip(cos.iter().zip(sin)) {
        a = add(a, mul(*re, [cos[0]; LANES]));
        b = add(b, mul(*re, [cos[1]; LANES]));
        c = add(c, mul(*re, [cos[2]; LANES]));
        d = add(d, mul(*re, [cos[3]; LANES]));
        e = add(e, mul(*im, [sin[0]; LANES]));
        f = add(f, mul(*im, [sin[1]; LANES]));
        g = add(g, mul(*im, [sin[2]; LANES]));
        h = add(h, mul(*im, [sin[3]; LANES]));
    }
    ([a, b, c, d], [e, f, g, h])
}

/// Value, gradient (y, x) and second derivatives (yy, yx, xx) of the continuous correlation at the point of `waves`.
#[inline(always)]
fn moments(folded: &[f32], waves: &[[Vec<f32>; 2]; 2], grid: &Grid) -> [f32; 6] {
    let (rows, count) = (grid.rows, grid.rows / LANES);
    let (cos, sin) = (&lanes(&waves[0][0])[..count], &lanes(&waves[0][1])[..count]);
    let step = [LANES as f32 * grid.radians[0]; LANES];
    let mut first = [0.0; LANES];
    for l in 0..LANES {
        first[l] = l as f32 * grid.radians[0];
    }
    let mut result = [0.0; 6];
    for (kx, column) in folded.chunks_exact(4 * rows).enumerate() {
        let [even_re, even_im, odd_re, odd_im] = lane_rows(column, rows);
        let [mut f_re, mut f_im, mut y_re, mut y_im, mut yy_re, mut yy_im] = [[0.0; LANES]; 6];
        let mut u = first;
        for k in 0..count {
            let (c, s) = (cos[k], sin[k]);
            let re = sub(mul(c, even_re[k]), mul(s, odd_im[k]));
            let im = add(mul(c, even_im[k]), mul(s, odd_re[k]));
            (f_re, f_im) = (add(f_re, re), add(f_im, im));
            y_re = sub(y_re, mul(u, add(mul(s, even_re[k]), mul(c, odd_im[k]))));
            y_im = add(y_im, mul(u, sub(mul(c, odd_re[k]), mul(s, even_im[k]))));
            let uu = mul(u, u);
            (yy_re, yy_im) = (sub(yy_re, mul(uu, re)), sub(yy_im, mul(uu, im)));
            u = add(u, step);
        }
        let (c, s, v) = (waves[1][0][kx], waves[1][1][kx], kx as f32 * grid.radians[1]);
        let (f_re, f_im, y_re, y_im) = (total(f_re), total(f_im), total(y_re), total(y_im));
        let (f, f_turned) = (f_re * c - f_im * s, f_re * s + f_im * c);
        let (y, y_turned) = (y_re * c - y_im * s, y_re * s + y_im * c);
        let yy = total(yy_re) * c - total(yy_im) * s;
        let terms = [f, y, -v * f_turned, yy, -v * y_turned, -v * v * f];
        for i in 0..6 {
            result[i] += terms[i];
        }
    }
    result
}
