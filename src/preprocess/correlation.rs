//! Correlation of two kept spectra: all lags within reach by small matrix products, then the exact peak of the continuous sum.
//!
//! Why it exists: the shift is the maximum of `Σ g(k) √|F(k)| √|T(k)| cos(φ_F − φ_T + k·d)`: halfway between cross- and phase
//! correlation. Full whitening gives frequencies without signal the same weight as the others and loses a quarter of the precision
//! at low light; none lets slow brightness changes in. What it must never do: allocate outside `new`, or return NaN.
//!
//! The inner loops are in `kernels`.

use pulp::Arch;
use rustfft::num_complex::Complex32;

use super::kernels::{
    LAGS_FUSED, LANES, Lane, add, conjugate, horizontal_sums, lag_sums, moments, product, quarters, quarters_mut, sub,
};
use super::spectrum::{Axis, Spectrum};

/// Energy per frequency, relative to the light of the image, under which there is nothing but rounding errors.
pub(super) const BLANK: f32 = 1e-6;
/// Newton steps from the parabola's peak; the second already changes nothing above 1e-4 px.
const STEPS: usize = 2;

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

/// A template, ready to be multiplied with: `conj(T) g / √|T|`.
pub(super) struct Reference {
    /// Laid out as [`Planes`].
    pub values: Vec<f32>,
    /// Of every frequency of each axis; a real image's kx = 0 column holds every wave twice, and counts half.
    pub weights: [Vec<f32>; 2],
    /// Σ g |T|.
    pub energy: f32,
    /// There is nothing in it.
    pub blank: bool,
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
    /// Largest lag searched, px.
    pub reach: usize,
    grid: Grid,
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
    /// A search over ±`reach_px` lags, less where that is half the image: beyond it lags repeat.
    pub fn new(grid: &Grid, reach_px: usize) -> Self {
        let reach_px = reach_px.min((grid.axes[0].px.min(grid.axes[1].px) / 2).saturating_sub(1));
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
            || product(&mut self.folded, &frame.values, &reference.values, &reference.weights, self.grid.rows),
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

    /// Correlation at a whole-pixel lag within reach.
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
                || moments(&self.folded, &self.waves, self.grid.rows, self.grid.radians),
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
        for (([cos, sin], radians), shift) in self.waves.iter_mut().zip(self.grid.radians).zip(shift) {
            let angle = radians * shift;
            for (k, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                (*sin, *cos) = (angle * k as f32).sin_cos();
            }
        }
    }
}
