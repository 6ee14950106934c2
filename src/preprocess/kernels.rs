//! The inner loops of registration, over lanes of eight.
//!
//! Why it exists: these loops take most of a registration, and stand apart so that the way they are compiled is one question.
//! Every function is inlined into a closure that `pulp` compiles for AVX2 and for the baseline, and chooses at run time.
//! What it must never do: contract sums to fused multiply-adds or sum in another order: every instruction set gives the same.

/// Values that are summed side by side.
pub(super) const LANES: usize = 8;
/// Horizontal lags summed in one pass.
pub(super) const LAGS_FUSED: usize = 4;
/// Keeps the root of an empty frequency finite.
const TINY: f32 = 1e-20;

/// Values that are summed side by side.
pub(super) type Lane = [f32; LANES];

/// Element by element; written as a loop of fixed length so that it becomes one instruction.
macro_rules! lane_operation {
    ($name:ident, $operator:tt) => {
        #[inline(always)]
        pub(super) fn $name(a: Lane, b: Lane) -> Lane {
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

#[inline(always)]
pub(super) fn quarters(column: &[f32], rows: usize) -> [&[f32]; 4] {
    let (ab, cd) = column.split_at(2 * rows);
    let ((a, b), (c, d)) = (ab.split_at(rows), cd.split_at(rows));
    [a, b, c, d]
}

#[inline(always)]
pub(super) fn quarters_mut(column: &mut [f32], rows: usize) -> [&mut [f32]; 4] {
    let (ab, cd) = column.split_at_mut(2 * rows);
    let ((a, b), (c, d)) = (ab.split_at_mut(rows), cd.split_at_mut(rows));
    [a, b, c, d]
}

#[inline(always)]
fn lanes(row: &[f32]) -> &[Lane] {
    row.as_chunks().0
}

/// Of real and imaginary rows: `to = conj(from) g / √|from|`; returns Σ g |from|.
#[inline(always)]
pub(super) fn conjugate(to: &mut [f32], from: &[f32], weights: &[f32]) -> f32 {
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

/// `frame × reference / √|frame|`, folded along ky into even and odd part; returns Σ g |frame|.
#[inline(always)]
pub(super) fn product(
    folded: &mut [f32],
    frame: &[f32],
    reference: &[f32],
    weights: &[Vec<f32>; 2],
    rows: usize,
) -> f32 {
    let mut energy = 0.0;
    let count = rows / LANES;
    let [vertical, horizontal] = weights;
    let vertical = &lanes(vertical)[..count];
    let columns = folded.chunks_exact_mut(4 * rows).zip(frame.chunks_exact(4 * rows));
    for ((to, f), (r, gx)) in columns.zip(reference.chunks_exact(4 * rows).zip(horizontal)) {
        let ([f0, f1, f2, f3], [r0, r1, r2, r3]) = (lane_rows(f, rows), lane_rows(r, rows));
        let [t0, t1, t2, t3] = quarters_mut(to, rows);
        let (t0, t1) = (&mut t0.as_chunks_mut().0[..count], &mut t1.as_chunks_mut().0[..count]);
        let (t2, t3) = (&mut t2.as_chunks_mut().0[..count], &mut t3.as_chunks_mut().0[..count]);
        let mut sum = [0.0; LANES];
        for k in 0..count {
            let (up_re, up_im, a) = rooted(f0[k], f1[k], r0[k], r1[k]);
            let (down_re, down_im, b) = rooted(f2[k], f3[k], r2[k], r3[k]);
            sum = add(sum, mul(vertical[k], add(a, b)));
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
pub(super) fn lag_sums(left: [&[f32]; 4], right: [&[f32]; 4], cos: &[Lane], sin: &[Lane]) -> [[Lane; 4]; 2] {
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
pub(super) fn horizontal_sums(
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
pub(super) fn moments(folded: &[f32], waves: &[[Vec<f32>; 2]; 2], rows: usize, radians: [f32; 2]) -> [f32; 6] {
    let count = rows / LANES;
    let (cos, sin) = (&lanes(&waves[0][0])[..count], &lanes(&waves[0][1])[..count]);
    let step = [LANES as f32 * radians[0]; LANES];
    let mut first = [0.0; LANES];
    for (l, first) in first.iter_mut().enumerate() {
        *first = l as f32 * radians[0];
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
        let (c, s, v) = (waves[1][0][kx], waves[1][1][kx], kx as f32 * radians[1]);
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
