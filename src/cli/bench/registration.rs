//! Time and error of registration: against known motion at five light levels, or on your own movie.
//!
//! Why it exists: a measured shift is only as trustworthy as its error against a known one. Errors are in px, both axes
//! pooled, after removal of a constant offset (a template may have any origin), all frames included. What it must never
//! do: judge by RMS alone where frames failed; the share of frames more than 1 px off stands beside it.

use std::time::Instant;

use crate::model::parameters::Registration;
use crate::preprocess::registration::Registrar;

use super::client::quantile;
use super::movie::{DARK_LEVEL, Movie};
use crate::sys::statistics::median;

/// Mean photons per pixel and frame.
pub const LIGHT_LEVELS: [f64; 5] = [20.0, 2.0, 0.2, 0.05, 0.02];
/// The template is as noisy as a mean of this many aligned frames.
const TEMPLATE_FRAMES: usize = 100;

/// One row of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// Photons per pixel and frame.
    pub photons: f64,
    /// Frames judged.
    pub frames: usize,
    /// Time of one estimate, median, µs.
    pub estimate_us_p50: f64,
    /// Time of one estimate, 99 %, µs.
    pub estimate_us_p99: f64,
    /// RMS over the frames that moved by whole pixels.
    pub rms_px_whole: f64,
    /// RMS over the frames that moved by fractions.
    pub rms_px_fraction: f64,
    /// Share of frames more than 1 px off on either axis.
    pub off_over_1px: f64,
}

/// Registers a synthetic movie at one light level.
pub fn measure(movie: &Movie, photons: f64, seed: u64) -> Row {
    let side = movie.side();
    let mut registrar = Registrar::new(&Registration::default(), side, side);
    registrar.set_template(&movie.template(photons, TEMPLATE_FRAMES, seed));
    let (mut errors, mut times_ns) = (Vec::new(), Vec::new());
    for frame in 0..movie.frames() {
        let counts = movie.expose(frame, photons, seed);
        let light: Vec<f32> = counts.iter().map(|&v| f32::from(v) - DARK_LEVEL as f32).collect();
        let began = Instant::now();
        let shift = registrar.estimate(&light);
        times_ns.push(began.elapsed().as_nanos() as u64);
        let truth = movie.shifts_px[frame];
        errors.push([f64::from(shift.dy) - truth[0], f64::from(shift.dx) - truth[1]]);
    }
    times_ns.sort_unstable();
    let offset = [0, 1].map(|axis| {
        let mut along: Vec<f64> = errors.iter().map(|error| error[axis]).collect();
        median(&mut along, f64::total_cmp).unwrap_or(0.0)
    });
    errors.iter_mut().for_each(|error| (0..2).for_each(|axis| error[axis] -= offset[axis]));
    let (whole, fraction) = errors.split_at(errors.len() / 2);
    let off = errors.iter().filter(|error| error.iter().any(|e| e.abs() > 1.0)).count();
    Row {
        photons,
        frames: errors.len(),
        estimate_us_p50: quantile(&times_ns, 0.5) as f64 / 1e3,
        estimate_us_p99: quantile(&times_ns, 0.99) as f64 / 1e3,
        rms_px_whole: rms(whole),
        rms_px_fraction: rms(fraction),
        off_over_1px: off as f64 / errors.len() as f64,
    }
}

fn rms(errors: &[[f64; 2]]) -> f64 {
    let squares: f64 = errors.iter().flatten().map(|e| e * e).sum();
    (squares / (2 * errors.len()).max(1) as f64).sqrt()
}
