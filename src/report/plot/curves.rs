//! Loss and similarity while training.

use plotters::style::RGBColor;

use super::super::data::{LossCurves, Point};
use super::canvas::{Align, Canvas, FIRST, GREY, INK, SECOND, TEXT_PX, nothing, svg, text_width};
use super::panel::{Panel, Range};

/// Points drawn of one curve at most; more are averaged in blocks.
const POINTS_MAX: usize = 400;

struct Curve<'a> {
    name: &'a str,
    points: &'a [Point],
    colour: RGBColor,
}

/// Loss on training and held-out data; next to it, if there is any, the similarity of positive and negative pairs.
pub fn loss_curves(curves: &LossCurves) -> String {
    let loss = [
        Curve { name: "training batches", points: &curves.train, colour: FIRST },
        Curve { name: "held out", points: &curves.held_out, colour: SECOND },
    ];
    let similarity = [
        Curve { name: "same time point", points: &curves.positive, colour: SECOND },
        Curve { name: "other time points", points: &curves.negative, colour: FIRST },
    ];
    let all = loss.iter().chain(&similarity).flat_map(|c| c.points).map(|p| p.step as f64);
    let Some(steps) = Range::around(all, 0.0) else { return nothing("loss") };
    let two = similarity.iter().any(|c| !c.points.is_empty());
    svg(if two { 960.0 } else { 520.0 }, 330.0, "loss and similarity over training steps", |canvas| {
        let unit = if curves.unit.is_empty() { "loss".into() } else { format!("loss [{}]", curves.unit) };
        draw(canvas, 70.0, steps, &unit, &loss, curves.best_step);
        if two {
            draw(canvas, 540.0, steps, "mean cosine similarity", &similarity, curves.best_step);
        }
    })
}

fn draw(canvas: &mut Canvas, left: f64, x: Range, name: &str, curves: &[Curve], best: Option<u64>) {
    let values = curves.iter().flat_map(|c| c.points).map(|p| p.value);
    let y = Range::around(values, 0.06).unwrap_or(Range::new(0.0, 1.0));
    let panel = Panel { left, top: 36.0, width: 395.0, height: 245.0, x, y };
    panel.x_axis(canvas, "training step");
    panel.y_axis(canvas, name);
    if let Some(step) = best.map(|s| s as f64).filter(|s| (x.low..=x.high).contains(s)) {
        canvas.dashed(panel.at(step, y.low), panel.at(step, y.high), 1.0, GREY);
    }
    panel.outline(canvas);
    for curve in curves {
        thinned(curve.points).iter().for_each(|run| {
            let pixels: Vec<_> = run.iter().map(|&(step, value)| panel.at(step, value)).collect();
            canvas.path(&pixels, 1.75, curve.colour);
            if let [only] = pixels[..] {
                canvas.disc(only, 2.5, curve.colour);
            }
        });
    }
    legend(canvas, &panel, curves, best.is_some());
}

/// In one row above the panel, where no data can be.
fn legend(canvas: &mut Canvas, panel: &Panel, curves: &[Curve], best: bool) {
    let (mut x, y) = (panel.left, panel.top - 14.0);
    for curve in curves.iter().filter(|c| !c.points.is_empty()) {
        canvas.line((x, y), (x + 20.0, y), 2.5, curve.colour);
        canvas.text(curve.name, (x + 26.0, y), Align::Left, TEXT_PX, INK);
        x += 44.0 + text_width(curve.name, TEXT_PX);
    }
    if best {
        canvas.dashed((x, y), (x + 20.0, y), 1.0, GREY);
        canvas.text("best checkpoint", (x + 26.0, y), Align::Left, TEXT_PX, INK);
    }
}

/// Blocks of points averaged, broken where a value is not finite.
fn thinned(points: &[Point]) -> Vec<Vec<(f64, f64)>> {
    let block = points.len().div_ceil(POINTS_MAX).max(1);
    points
        .split(|p| !p.value.is_finite())
        .filter(|run| !run.is_empty())
        .map(|run| {
            let mean = |chunk: &[Point], of: fn(&Point) -> f64| chunk.iter().map(of).sum::<f64>() / chunk.len() as f64;
            run.chunks(block).map(|c| (mean(c, |p| p.step as f64), mean(c, |p| p.value))).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_averaged_in_blocks_and_a_hole_breaks_it() {
        let mut points: Vec<Point> = (0..800).map(|step| Point { step, value: step as f64 }).collect();
        assert_eq!(thinned(&points)[0][0], (0.5, 0.5));
        assert_eq!(thinned(&points)[0].len(), 400);
        points[400].value = f64::NAN;
        assert_eq!(thinned(&points).len(), 2);
    }
}
