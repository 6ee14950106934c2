//! Matrix products on rows read in place, without copying them together first.
//!
//! Why it exists: in a channels-last map the pixels under a 3×3 kernel are three contiguous runs, so a convolution is a matrix
//! product whose left side need not be copied together first; a general product would pack and copy more than it multiplies
//! at these widths. What it must never do: sum in an order that depends on anything but the sizes.

use pulp::{Arch, Simd, WithSimd};

/// Columns that a product works on at once; a width is padded to a multiple of one of them.
const PANELS: [usize; 2] = [16, 24];
/// Rows of the weight gradient that are held in registers at once; every run of a gather is a multiple of it.
const GRADIENT_ROWS: usize = 4;

/// A contiguous run of values, relative to the start of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Start, in values from the start of the row.
    pub offset: usize,
    /// Values.
    pub length: usize,
}

/// A matrix whose row `m` is the values of `runs`, one after the other, counted from `rows[m]`.
#[derive(Clone, Copy)]
pub(super) struct Gather<'a> {
    /// The values that the rows refer to.
    pub values: &'a [f32],
    /// Start of each row.
    pub rows: &'a [usize],
    /// The runs of every row.
    pub runs: &'a [Run],
}

/// Columns of a width after padding, and the panel they are cut into: the one that wastes less, the narrower of equals.
pub(super) fn padded(width: usize) -> (usize, usize) {
    let choices = PANELS.map(|panel| (width.next_multiple_of(panel), panel));
    if choices[1].0 < choices[0].0 { choices[1] } else { choices[0] }
}

/// The right side of a product, cut into panels of columns: `[panel, depth, panel width]`.
#[derive(Debug, Default)]
pub(super) struct Panels {
    width: usize,
    depth: usize,
    values: Vec<f32>,
}

impl Panels {
    /// Lays out a `depth`×`columns` matrix (columns a multiple of `panel`) in the memory of the last one.
    pub fn fill(&mut self, panel: usize, depth: usize, columns: usize, value: impl Fn(usize, usize) -> f32) {
        (self.width, self.depth) = (panel, depth);
        self.values.clear();
        for first in (0..columns).step_by(panel) {
            for k in 0..depth {
                self.values.extend((first..first + panel).map(|column| value(k, column)));
            }
        }
    }
}

/// out\[m\] = gather\[m\] · panels, written from `out_rows[m]` on.
pub(super) fn multiply(gather: Gather, panels: &Panels, out: &mut [f32], out_rows: &[usize]) {
    Arch::new().dispatch(Multiply { gather, panels, out, out_rows });
}

/// gradient\[k\] += Σₘ gather\[m\]\[k\] · d\[m\], with `d`'s row m from `d_rows[m]` on and `columns` wide.
pub(super) fn accumulate(
    gather: Gather,
    d: &[f32],
    d_rows: &[usize],
    (columns, panel): (usize, usize),
    gradient: &mut [f32],
) {
    Arch::new().dispatch(Accumulate { gather, d, d_rows, columns, panel, gradient });
}

struct Multiply<'a> {
    gather: Gather<'a>,
    panels: &'a Panels,
    out: &'a mut [f32],
    out_rows: &'a [usize],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Twelve sums fill the registers of AVX2 and leave room for a row of the panel.
        match (S::F32_LANES, self.panels.width) {
            (8, 16) => self.tiles::<S, 6, 2>(simd),
            (8, 24) => self.tiles::<S, 3, 3>(simd),
            (4, 16) => self.tiles::<S, 4, 4>(simd),
            (4, 24) => self.tiles::<S, 2, 6>(simd),
            (1, 16) => self.tiles::<S, 1, 16>(simd),
            (1, 24) => self.tiles::<S, 1, 24>(simd),
            (lanes, width) => unreachable!("panels of {width} columns for vectors of {lanes}"),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let Panels { width, depth, values } = self.panels;
        let (rows, last) = (self.gather.rows, self.gather.rows.len() - 1);
        for (index, panel) in values.chunks_exact(width * depth).enumerate() {
            let (panel, _) = S::as_simd_f32s(panel);
            for first in (0..rows.len()).step_by(ROWS) {
                // Past the end the last row is made again.
                let tile: [usize; ROWS] = std::array::from_fn(|r| rows[(first + r).min(last)]);
                let sums = product::<S, ROWS, VECTORS>(simd, self.gather, tile, panel);
                for (r, sums) in sums.iter().enumerate() {
                    let start = self.out_rows[(first + r).min(last)] + index * width;
                    let (out, _) = S::as_mut_simd_f32s(&mut self.out[start..start + width]);
                    out.copy_from_slice(sums);
                }
            }
        }
    }
}

#[inline(always)]
fn product<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    gather: Gather,
    tile: [usize; ROWS],
    mut panel: &[S::f32s],
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for run in gather.runs {
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (row, start) in rows.iter_mut().zip(tile) {
            *row = &gather.values[start + run.offset..][..run.length];
        }
        let (part, rest) = panel.split_at(run.length * VECTORS);
        panel = rest;
        for (right, k) in part.chunks_exact(VECTORS).zip(0..run.length) {
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let left = simd.splat_f32s(row[k]);
                for (sum, &right) in sums.iter_mut().zip(right) {
                    *sum = simd.mul_add_e_f32s(left, right, *sum);
                }
            }
        }
    }
    sums
}

struct Accumulate<'a> {
    gather: Gather<'a>,
    d: &'a [f32],
    d_rows: &'a [usize],
    columns: usize,
    panel: usize,
    gradient: &'a mut [f32],
}

impl WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, self.panel) {
            (8, 16) => self.tiles::<S, 2>(simd),
            (8, 24) => self.tiles::<S, 3>(simd),
            (4, 16) => self.tiles::<S, 4>(simd),
            (4, 24) => self.tiles::<S, 6>(simd),
            (1, 16) => self.tiles::<S, 16>(simd),
            (1, 24) => self.tiles::<S, 24>(simd),
            (lanes, width) => unreachable!("panels of {width} columns for vectors of {lanes}"),
        }
    }
}

impl Accumulate<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const VECTORS: usize>(self, simd: S) {
        for first in (0..self.columns).step_by(self.panel) {
            let mut k = 0;
            for run in self.gather.runs {
                for offset in (run.offset..run.offset + run.length).step_by(GRADIENT_ROWS) {
                    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; GRADIENT_ROWS];
                    self.sum::<S, VECTORS>(simd, first, offset, &mut sums);
                    for sums in sums {
                        let start = k * self.columns + first;
                        let (out, _) = S::as_mut_simd_f32s(&mut self.gradient[start..start + self.panel]);
                        for (out, sum) in out.iter_mut().zip(sums) {
                            *out = simd.add_f32s(*out, sum);
                        }
                        k += 1;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn sum<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        first: usize,
        offset: usize,
        sums: &mut [[S::f32s; VECTORS]; GRADIENT_ROWS],
    ) {
        let mut local = *sums;
        for (&row, &d_row) in self.gather.rows.iter().zip(self.d_rows) {
            let left = &self.gather.values[row + offset..][..GRADIENT_ROWS];
            let (right, _) = S::as_simd_f32s(&self.d[d_row + first..][..VECTORS * S::F32_LANES]);
            for (sums, &left) in local.iter_mut().zip(left) {
                let left = simd.splat_f32s(left);
                for (sum, &right) in sums.iter_mut().zip(right) {
                    *sum = simd.mul_add_e_f32s(left, right, *sum);
                }
            }
        }
        *sums = local;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_gradients_equal_the_sums_written_out() {
        for (width, rows) in [(16, 1), (24, 5), (48, 13), (32, 12)] {
            let (columns, panel) = padded(width);
            let values: Vec<f32> = (0..400).map(|i| ((i * 37) % 23) as f32 - 11.0).collect();
            let starts: Vec<usize> = (0..rows).map(|m| m * 20).collect();
            let runs = [Run { offset: 3, length: 8 }, Run { offset: 40, length: 4 }];
            let row = |m: usize| runs.iter().flat_map(move |r| r.offset..r.offset + r.length).map(move |o| m * 20 + o);
            let right = |k: usize, n: usize| ((k * 5 + n * 3) % 7) as f32 - 3.0;
            let mut panels = Panels::default();
            panels.fill(panel, 12, columns, right);
            let gather = Gather { values: &values, rows: &starts, runs: &runs };
            let out_rows: Vec<usize> = (0..rows).map(|m| m * columns).collect();
            let mut out = vec![0.0; rows * columns];
            multiply(gather, &panels, &mut out, &out_rows);
            let mut gradient = vec![1.0; 12 * columns];
            accumulate(gather, &out, &out_rows, (columns, panel), &mut gradient);
            for n in 0..columns {
                for m in 0..rows {
                    let expected: f32 = row(m).enumerate().map(|(k, at)| values[at] * right(k, n)).sum();
                    assert_eq!(out[m * columns + n], expected, "{width} columns, row {m}, column {n}");
                }
                for k in 0..12 {
                    let terms = (0..rows).map(|m| values[row(m).nth(k).unwrap()] * out[m * columns + n]);
                    assert_eq!(gradient[k * columns + n], 1.0 + terms.sum::<f32>(), "{width} columns, {k}, {n}");
                }
            }
        }
    }

    #[test]
    fn a_width_takes_the_panel_that_wastes_less() {
        assert_eq!(padded(24), (24, 24));
        assert_eq!(padded(48), (48, 16));
        assert_eq!(padded(64), (64, 16));
        assert_eq!(padded(4), (16, 16));
        assert_eq!(padded(40), (48, 16));
    }
}
