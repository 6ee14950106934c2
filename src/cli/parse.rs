//! Values of options that several subcommands take, and their bounds.

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
