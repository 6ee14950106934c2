//! Values of options that several subcommands take, and their bounds.

use crate::frame::{CHANNELS_MAX, SIDE_PX_MAX, Shape};

/// `HxW` or `CxHxW`, within what a frame can be.
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let sides: Vec<usize> = text.split('x').map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
    let shape = match sides[..] {
        [height, width] => Shape::new(1, height, width),
        [channels, height, width] => Shape::new(channels, height, width),
        _ => return Err("write HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH, such as 1x128x128".to_owned()),
    };
    let sides_fit = [shape.height, shape.width].iter().all(|side| (1..=SIDE_PX_MAX).contains(side));
    if (1..=CHANNELS_MAX).contains(&shape.channels) && sides_fit {
        return Ok(shape);
    }
    Err(format!("{shape}: 1 to {CHANNELS_MAX} channels, 1 to {SIDE_PX_MAX} px a side"))
}

fn number_within(text: &str, least: f64, most: f64, unit: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("must be a number, {least} to {most} {unit}"))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    number_within(text, 0.01, 100_000.0, "Hz")
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.001, 1e7, "s")
}

pub(super) fn milliseconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 60_000.0, "ms")
}
