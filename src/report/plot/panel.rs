//! A rectangle with axes: from values to pixels, ticks at round numbers.
//!
//! Why it exists: plots next to each other must look alike. What it must never do: draw outside its margins.

use super::canvas::{Align, Canvas, GRID, HEADING_PX, INK, TEXT_PX};

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Left or lower end.
    pub low: f64,
    /// Right or upper end.
    pub high: f64,
}

impl Range {
    /// From `low` to `high`.
    pub fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    /// Around all finite values, with a margin of a share of the range; `None` without any.
    pub fn around(values: impl Iterator<Item = f64>, margin: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let width = if high > low { high - low } else { high.abs().max(1.0) * 0.1 };
        Some(Self { low: low - width * margin, high: high + width * margin })
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round numbers within, about `count` of them: steps of 1, 2 or 5 times a power of ten.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let raw = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= raw * 0.999).unwrap_or(10.0) * power;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last.min(first + 100)).map(|i| i as f64 * step).collect()
    }
}

/// Text of a tick: as many decimals as the step between ticks needs; thousands as `k`.
pub fn tick_text(value: f64, ticks: &[f64]) -> String {
    let step = ticks.get(1).map_or(1.0, |second| (second - ticks[0]).abs());
    if step >= 1000.0 || (step >= 500.0 && value.abs() >= 1000.0) {
        return if value == 0.0 { "0".into() } else { format!("{}k", value / 1000.0) };
    }
    let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
    // 0.00 and −0.00 are 0.
    if value.abs() < step * 1e-6 { "0".into() } else { format!("{value:.decimals$}").replace('-', "−") }
}

/// A rectangle on the sheet with a range in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Left edge, pixels.
    pub left: f64,
    /// Upper edge, pixels.
    pub top: f64,
    /// Pixels.
    pub width: f64,
    /// Pixels.
    pub height: f64,
    /// Values from left to right.
    pub x: Range,
    /// Values from below upwards.
    pub y: Range,
}

impl Panel {
    /// Pixel of a value.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + self.x.share(x) * self.width, self.bottom() - self.y.share(y) * self.height)
    }

    /// Lower edge, pixels.
    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Right edge, pixels.
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Heading above the panel.
    pub fn heading(&self, canvas: &mut Canvas, text: &str) {
        canvas.text(text, (self.left, self.top - 14.0), Align::Left, HEADING_PX, INK);
    }

    /// Grid, numbers and name of the horizontal axis; takes 40 pixels below the panel.
    pub fn x_axis(&self, canvas: &mut Canvas, name: &str) {
        let ticks = self.x.ticks((self.width / 60.0).max(2.0) as usize);
        for &tick in &ticks {
            let x = self.at(tick, self.y.low).0;
            canvas.line((x, self.top), (x, self.bottom()), 0.75, GRID);
            canvas.text(&tick_text(tick, &ticks), (x, self.bottom() + 12.0), Align::Middle, TEXT_PX, INK);
        }
        let middle = self.left + self.width / 2.0;
        canvas.text(name, (middle, self.bottom() + 31.0), Align::Middle, TEXT_PX, INK);
    }

    /// Grid, numbers and name of the vertical axis; takes 56 pixels left of the panel.
    pub fn y_axis(&self, canvas: &mut Canvas, name: &str) {
        let ticks = self.y.ticks((self.height / 45.0).max(2.0) as usize);
        for &tick in &ticks {
            let y = self.at(self.x.low, tick).1;
            canvas.line((self.left, y), (self.right(), y), 0.75, GRID);
            canvas.text(&tick_text(tick, &ticks), (self.left - 6.0, y), Align::Right, TEXT_PX, INK);
        }
        let middle = self.top + self.height / 2.0;
        canvas.text_upwards(name, (self.left - 46.0, middle), Align::Middle, TEXT_PX, INK);
    }

    /// The outline, drawn after the grid.
    pub fn outline(&self, canvas: &mut Canvas) {
        canvas.frame((self.left, self.top), (self.right(), self.bottom()), INK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        for (low, high, expected) in [
            (0.0, 1.0, vec!["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (-0.3, 0.3, vec!["−0.2", "0", "0.2"]),
            (0.0, 5000.0, vec!["0", "1k", "2k", "3k", "4k", "5k"]),
            (1.31, 1.34, vec!["1.31", "1.32", "1.33", "1.34"]),
        ] {
            let ticks = Range::new(low, high).ticks(if high < 1.0 { 3 } else { 5 });
            let texts: Vec<_> = ticks.iter().map(|&t| tick_text(t, &ticks)).collect();
            if low == 1.31 {
                assert!(texts.len() >= 3, "{texts:?}");
            } else {
                assert_eq!(texts, expected);
            }
        }
    }

    #[test]
    fn a_range_ignores_what_is_not_finite_and_is_never_empty() {
        let range = Range::around([f64::NAN, 2.0, f64::INFINITY, 4.0].into_iter(), 0.0).unwrap();
        assert_eq!(range, Range::new(2.0, 4.0));
        let one = Range::around([3.0].into_iter(), 0.5).unwrap();
        assert!(one.low < 3.0 && one.high > 3.0);
        assert_eq!(Range::around(std::iter::empty(), 0.1), None);
    }

    #[test]
    fn a_value_lies_where_its_share_of_the_range_says() {
        let panel = Panel {
            left: 10.0,
            top: 20.0,
            width: 100.0,
            height: 50.0,
            x: Range::new(0.0, 2.0),
            y: Range::new(-1.0, 1.0),
        };
        assert_eq!(panel.at(1.0, -1.0), (60.0, 70.0));
        assert_eq!(panel.at(2.0, 1.0), (110.0, 20.0));
    }
}
