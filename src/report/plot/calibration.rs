//! Does a confidence of 80 % mean 8 of 10? The reliability diagram, and how often each confidence occurs.

use plotters::style::RGBColor;

use super::super::data::{Calibration, Reliability};
use super::canvas::{Align, Canvas, FIRST, GREY, INK, SECOND, TEXT_PX, nothing, svg, text_width};
use super::panel::{Panel, Range};

const SIDE_PX: f64 = 300.0;
const TOP_PX: f64 = 62.0;

/// Before and after the temperature: accuracy against confidence, and the share of moments at each confidence.
pub fn calibration(calibration: &Calibration) -> String {
    let both = [(&calibration.before, FIRST), (&calibration.after, SECOND)];
    if both.iter().all(|(r, _)| r.bins.iter().all(|b| b.count == 0)) {
        return nothing("calibration");
    }
    svg(860.0, TOP_PX + SIDE_PX + 46.0, "calibration before and after the temperature", |canvas| {
        legend(canvas, calibration);
        diagram(canvas, &both);
        histogram(canvas, &both);
    })
}

fn legend(canvas: &mut Canvas, calibration: &Calibration) {
    let error = |r: &Reliability| {
        if r.expected_error.is_finite() { format!(", ECE {:.1} %", r.expected_error * 100.0) } else { String::new() }
    };
    let names = [
        (format!("before{}", error(&calibration.before)), FIRST),
        (format!("after, temperature {:.2}{}", calibration.temperature, error(&calibration.after)), SECOND),
    ];
    let mut x = 70.0;
    for (index, (name, colour)) in names.iter().enumerate() {
        canvas.line((x, 18.0), (x + 22.0, 18.0), 2.0, *colour);
        mark(canvas, index, (x + 11.0, 18.0), *colour);
        canvas.text(name, (x + 29.0, 18.0), Align::Left, TEXT_PX, INK);
        x += 54.0 + text_width(name, TEXT_PX);
    }
    canvas.dashed((x, 18.0), (x + 22.0, 18.0), 1.5, GREY);
    canvas.text("perfect", (x + 29.0, 18.0), Align::Left, TEXT_PX, INK);
}

/// Discs before, squares after.
fn mark(canvas: &mut Canvas, index: usize, (x, y): (f64, f64), colour: RGBColor) {
    if index == 0 {
        canvas.disc((x, y), 4.0, colour)
    } else {
        canvas.rect((x - 3.5, y - 3.5), (x + 3.5, y + 3.5), colour)
    }
}

fn diagram(canvas: &mut Canvas, both: &[(&Reliability, RGBColor); 2]) {
    let full = Range::new(0.0, 100.0);
    let panel = Panel { left: 70.0, top: TOP_PX, width: SIDE_PX, height: SIDE_PX, x: full, y: full };
    panel.heading(canvas, "reliability");
    panel.x_axis(canvas, "confidence [%]");
    panel.y_axis(canvas, "accuracy [%]");
    panel.outline(canvas);
    canvas.dashed(panel.at(0.0, 0.0), panel.at(100.0, 100.0), 1.5, GREY);
    for (index, (reliability, colour)) in both.iter().enumerate() {
        let filled =
            reliability.bins.iter().filter(|b| b.count > 0 && b.confidence.is_finite() && b.accuracy.is_finite());
        let points: Vec<_> = filled.map(|b| panel.at(b.confidence * 100.0, b.accuracy * 100.0)).collect();
        canvas.path(&points, 2.0, *colour);
        points.into_iter().for_each(|at| mark(canvas, index, at, *colour));
    }
}

fn histogram(canvas: &mut Canvas, both: &[(&Reliability, RGBColor); 2]) {
    let shares = both.map(|(reliability, colour)| {
        let total = reliability.bins.iter().map(|b| b.count).sum::<u64>().max(1) as f64;
        let bars = reliability.bins.iter().map(|b| (b.low, b.high, b.count as f64 / total * 100.0));
        (bars.collect::<Vec<_>>(), colour)
    });
    let highest = shares.iter().flat_map(|(bars, _)| bars).map(|b| b.2).fold(1.0, f64::max);
    let y = Range::new(0.0, highest * 1.06);
    let panel = Panel { left: 470.0, top: TOP_PX, width: 360.0, height: SIDE_PX, x: Range::new(0.0, 100.0), y };
    panel.heading(canvas, "distribution of confidence");
    panel.x_axis(canvas, "confidence [%]");
    panel.y_axis(canvas, "samples [%]");
    for (index, (bars, colour)) in shares.iter().enumerate() {
        for &(low, high, share) in bars {
            // The two bars of a bin stand side by side.
            let half = (high - low) / 2.0;
            let left = low + half * index as f64;
            let (a, b) = (panel.at(left * 100.0, 0.0), panel.at((left + half) * 100.0, share));
            let (inset_left, inset_right) = if index == 0 { (3.0, 0.0) } else { (0.0, 3.0) };
            canvas.rect((a.0 + inset_left, a.1), (b.0 - inset_right, b.1), *colour);
        }
    }
    panel.outline(canvas);
}
