//! Counts to light: one pass over a channel that inverts, subtracts the dark level, and counts what is wrong with it.
//!
//! Why it exists: after it every pixel is a finite `f32`, whatever the microscope sent, so no later step has to check.
//! What it must never do: let a NaN through, or clip light below the dark level (noise is negative half of the time).

use super::simd::Simd;
use crate::frame::Pixels;
use crate::model::parameters::{Convert, Parameters};

/// Floating-point pixels beyond this are no counts of any detector: they are treated as non-finite, so that sums and
/// squares of later steps stay finite.
const COUNTS_MAX: f32 = 1e9;

/// What was wrong with the pixels of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// NaN, infinite, or beyond ±10⁹; they became 0 light.
    pub non_finite: u32,
    /// Brightest value of the integer type, after an inversion is undone; 0 for floating-point pixels.
    pub saturated: u32,
}

/// Turns channel `channel` of a frame into light: `invert ? top − x : x`, then minus the dark level.
///
/// `top` is 255, 65535, 32767. Floating-point pixels have no top: they are never inverted. `light` is one plane, px.
pub fn convert(simd: Simd, pixels: Pixels<'_>, channel: usize, parameters: &Convert, light: &mut [f32]) -> Flaws {
    let at = channel * light.len()..(channel + 1) * light.len();
    let Convert { dark_level: dark, invert } = *parameters;
    match pixels {
        Pixels::U8(all) => simd.run(integers::<u8>, (&all[at], 255.0, dark, invert, light)),
        Pixels::U16(all) => simd.run(integers::<u16>, (&all[at], 65535.0, dark, invert, light)),
        Pixels::I16(all) => simd.run(integers::<i16>, (&all[at], 32767.0, dark, invert, light)),
        Pixels::F32(all) => simd.run(floats, (&all[at], dark, light)),
    }
}

#[inline(always)]
fn integers<T: Copy + Into<f32>>((from, top, dark, invert, light): (&[T], f32, f32, bool, &mut [f32])) -> Flaws {
    // sign · x + offset is exact for 16-bit integers, so both directions are one loop.
    let (sign, offset) = if invert { (-1.0, top) } else { (1.0, 0.0) };
    let mut saturated = 0;
    for (out, &x) in light.iter_mut().zip(from) {
        let counts = sign * x.into() + offset;
        saturated += u32::from(counts >= top);
        *out = counts - dark;
    }
    Flaws { non_finite: 0, saturated }
}

#[inline(always)]
fn floats((from, dark, light): (&[f32], f32, &mut [f32])) -> Flaws {
    let mut non_finite = 0;
    for (out, &x) in light.iter_mut().zip(from) {
        // False for NaN too.
        let good = x.abs() <= COUNTS_MAX;
        non_finite += u32::from(!good);
        *out = if good { x - dark } else { 0.0 };
    }
    Flaws { non_finite, saturated: 0 }
}

/// Frame channels that are converted: the model's in its order, then the one registration needs if it is none of them; and
/// which of them line phase and shift are measured on.
pub(super) fn planes(parameters: &Parameters) -> (Vec<usize>, usize) {
    let mut channels = parameters.channels.clone();
    let guide_channel = parameters.registration.as_ref().map_or(channels[0], |r| r.channel);
    if !channels.contains(&guide_channel) {
        channels.push(guide_channel);
    }
    let guide = channels.iter().position(|&c| c == guide_channel).unwrap_or(0);
    (channels, guide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pixels: Pixels<'_>, channel: usize, parameters: &Convert, plane: usize) -> (Vec<f32>, Flaws) {
        let mut light = vec![f32::NAN; plane];
        let flaws = convert(Simd::detect(), pixels, channel, parameters, &mut light);
        let mut plain = vec![f32::NAN; plane];
        assert_eq!(convert(Simd::baseline(), pixels, channel, parameters, &mut plain), flaws);
        assert_eq!(light, plain, "the vector unit changed a result");
        (light, flaws)
    }

    #[test]
    fn every_integer_type_becomes_light_above_the_dark_level() {
        let parameters = Convert { dark_level: 10.0, invert: false };
        let (light, flaws) = run(Pixels::U8(&[0, 10, 254, 255]), 0, &parameters, 4);
        assert_eq!((light, flaws.saturated), (vec![-10.0, 0.0, 244.0, 245.0], 1));
        let (light, flaws) = run(Pixels::U16(&[0, 12, 65534, 65535]), 0, &parameters, 4);
        assert_eq!((light, flaws.saturated), (vec![-10.0, 2.0, 65524.0, 65525.0], 1));
        let (light, flaws) = run(Pixels::I16(&[-32768, -1, 32766, 32767]), 0, &parameters, 4);
        assert_eq!((light, flaws.saturated), (vec![-32778.0, -11.0, 32756.0, 32757.0], 1));
    }

    #[test]
    fn inversion_is_undone_before_the_dark_level_and_saturation_is_the_brightest_light() {
        let parameters = Convert { dark_level: 1.0, invert: true };
        let (light, flaws) = run(Pixels::U16(&[0, 1, 65535]), 0, &parameters, 3);
        assert_eq!((light, flaws.saturated), (vec![65534.0, 65533.0, -1.0], 1));
        let (light, _) = run(Pixels::U8(&[0, 255, 100]), 0, &parameters, 3);
        assert_eq!(light, [254.0, -1.0, 154.0]);
        let (light, flaws) = run(Pixels::I16(&[32767, 0, -1]), 0, &parameters, 3);
        assert_eq!((light, flaws.saturated), (vec![-1.0, 32766.0, 32767.0], 2));
    }

    #[test]
    fn non_finite_pixels_become_the_dark_level_and_are_counted() {
        let parameters = Convert { dark_level: 5.0, invert: true };
        let pixels = [f32::NAN, 7.5, f32::INFINITY, f32::NEG_INFINITY, -3.0, 3e38];
        let (light, flaws) = run(Pixels::F32(&pixels), 0, &parameters, 6);
        assert_eq!(light, [0.0, 2.5, 0.0, 0.0, -8.0, 0.0]);
        assert_eq!(flaws, Flaws { non_finite: 4, saturated: 0 });
    }

    #[test]
    fn the_second_channel_is_the_second_plane() {
        let pixels: Vec<u16> = (0..70).collect();
        let (light, _) = run(Pixels::U16(&pixels), 1, &Convert::default(), 35);
        assert_eq!(light, (35..70).map(|v| v as f32).collect::<Vec<_>>());
    }
}
