//! Frames that a daemon takes for tissue. Flat ones, ramps and noise are not trusted, and nothing is learnt from them.

/// Counts of some cells within 64×64 px, on a background: what is taken for tissue. `y` and `x` are where the pixel lies among them, `grain` is any number: its
/// noise.
pub fn cells(y: f64, x: f64, grain: u64) -> f64 {
    let blob = |cy: f64, cx: f64, r: f64| (-((y - cy).powi(2) + (x - cx).powi(2)) / (2.0 * r * r)).exp();
    400.0
        + (grain % 61) as f64
        + 900.0 * (blob(16.0, 20.0, 4.0) + blob(44.0, 18.0, 5.0) + blob(30.0, 46.0, 6.0) + blob(52.0, 50.0, 3.0))
}

/// The same cells at rest: counts by the index of the pixel, in square frames of this side, or in several such planes.
pub fn still_cells(side: usize) -> impl Fn(usize) -> u16 {
    move |pixel| cells((pixel / side % side) as f64, (pixel % side) as f64, pixel as u64 * 7919) as u16
}
