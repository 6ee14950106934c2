//! Horizontal bars: the domain gap before and after each augmentation, and what each augmentation is worth.

use plotters::style::RGBColor;

use super::super::data::{Ablation, GapBar, Spread};
use super::canvas::{Align, Canvas, FIRST, GREY, INK, SECOND, TEXT_PX, fitted, nothing, svg, text_width};
use super::panel::{Panel, Range};

const TOP_PX: f64 = 46.0;
const NAME_PX_MAX: f64 = 240.0;
const PANEL_PX: f64 = 520.0;
/// Space right of the longest bar for its number.
const NUMBER_PX: f64 = 110.0;

/// One panel for each space in which the distance was measured; two bars for each augmentation, with the standard deviation over
/// pairs of animals.
pub fn domain_gap(bars: &[GapBar]) -> String {
    if !bars.iter().any(|b| b.before.mean.is_finite() || b.after.mean.is_finite()) {
        return nothing("domain gap");
    }
    let mut spaces: Vec<&str> = Vec::new();
    for bar in bars {
        if !spaces.contains(&bar.space.as_str()) {
            spaces.push(&bar.space);
        }
    }
    let name_px = names_px(bars.iter().map(|b| b.augmentation.as_str()));
    const ROW_PX: f64 = 44.0;
    let below = 50.0;
    let height = spaces.len() as f64 * (TOP_PX + below) + bars.len() as f64 * ROW_PX + 24.0;
    svg(name_px + 20.0 + PANEL_PX + NUMBER_PX, height, "domain gap before and after each augmentation", |canvas| {
        let mut top = TOP_PX;
        for space in spaces {
            let rows: Vec<&GapBar> = bars.iter().filter(|b| b.space == space).collect();
            let x = from_zero(rows.iter().flat_map(|b| [b.before, b.after]));
            let height = rows.len() as f64 * ROW_PX;
            let panel = panel(name_px, top, height, x, rows.len());
            panel.heading(canvas, &format!("between animals, in {space}"));
            panel.x_axis(canvas, "MMD² (mean over pairs of animals, error bar: sd)");
            for (row, gap) in rows.iter().enumerate() {
                let y = panel.at(0.0, -(row as f64) - 0.5).1;
                name(canvas, &panel, &gap.augmentation, y);
                bar(canvas, &panel, y - 8.0, gap.before, FIRST, &number(gap.before.mean));
                bar(canvas, &panel, y + 8.0, gap.after, SECOND, &number(gap.after.mean));
            }
            panel.outline(canvas);
            top += height + below + TOP_PX;
        }
        let y = height - 18.0;
        for (index, (text, colour)) in [("before", FIRST), ("after", SECOND)].into_iter().enumerate() {
            let x = name_px + 20.0 + index as f64 * 90.0;
            canvas.rect((x, y - 6.0), (x + 16.0, y + 6.0), colour);
            canvas.text(text, (x + 22.0, y), Align::Left, TEXT_PX, INK);
        }
    })
}

/// One bar for each variant, the full method first and in its own colour; its value is a thin line through all of them.
pub fn ablation(ablation: &Ablation) -> String {
    let Some(full) = ablation.bars.first().filter(|_| ablation.bars.iter().any(|b| b.score.mean.is_finite())) else {
        return nothing("ablation");
    };
    const ROW_PX: f64 = 28.0;
    let name_px = names_px(ablation.bars.iter().map(|b| b.name.as_str()));
    let height = ablation.bars.len() as f64 * ROW_PX;
    svg(name_px + 20.0 + PANEL_PX + NUMBER_PX, TOP_PX + height + 74.0, "ablation", |canvas| {
        let panel = panel(name_px, TOP_PX, height, Range::new(0.0, 100.0), ablation.bars.len());
        let better = if ablation.lower_is_better { "lower is better" } else { "higher is better" };
        panel.heading(canvas, &format!("{}, {better}", ablation.measure));
        panel.x_axis(canvas, &format!("{} [%]", ablation.measure));
        for (row, variant) in ablation.bars.iter().enumerate() {
            let y = panel.at(0.0, -(row as f64) - 0.5).1;
            let score = Spread { mean: variant.score.mean * 100.0, sd: variant.score.sd * 100.0, ..variant.score };
            let text = if score.count > 1 && score.sd.is_finite() {
                format!("{:.1} ± {:.1}", score.mean, score.sd)
            } else {
                format!("{:.1}", score.mean)
            };
            name(canvas, &panel, &variant.name, y);
            bar(canvas, &panel, y, score, if row == 0 { FIRST } else { SECOND }, &text);
        }
        if full.score.mean.is_finite() {
            let x = panel.at(full.score.mean * 100.0, 0.0).0;
            canvas.line((x, panel.top), (x, panel.bottom()), 1.0, FIRST);
            let (x, y) = (panel.left + 90.0, panel.bottom() + 54.0);
            canvas.line((x, y), (x + 16.0, y), 1.0, FIRST);
            canvas.text(&full.name, (x + 23.0, y), Align::Left, TEXT_PX, INK);
        }
        if let Some(chance) = ablation.chance.filter(|c| (0.0..=1.0).contains(c)) {
            let x = panel.at(chance * 100.0, 0.0).0;
            canvas.dashed((x, panel.top), (x, panel.bottom()), 1.5, GREY);
            let y = panel.bottom() + 54.0;
            canvas.dashed((panel.left, y), (panel.left + 16.0, y), 1.5, GREY);
            canvas.text("chance", (panel.left + 23.0, y), Align::Left, TEXT_PX, INK);
        }
        panel.outline(canvas);
    })
}

fn names_px<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    names.map(|n| text_width(n, TEXT_PX)).fold(60.0, f64::max).min(NAME_PX_MAX)
}

fn panel(name_px: f64, top: f64, height: f64, x: Range, rows: usize) -> Panel {
    Panel { left: name_px + 20.0, top, width: PANEL_PX, height, x, y: Range::new(-(rows as f64), 0.0) }
}

fn name(canvas: &mut Canvas, panel: &Panel, text: &str, y: f64) {
    canvas.text(&fitted(text, TEXT_PX, NAME_PX_MAX), (panel.left - 8.0, y), Align::Right, TEXT_PX, INK);
}

/// From 0 (or below, MMD² may be a little negative) to the end of the longest error bar.
fn from_zero(spreads: impl Iterator<Item = Spread> + Clone) -> Range {
    let ends = |s: Spread| [s.mean, s.mean - s.sd, s.mean + s.sd];
    let values = spreads.flat_map(ends).chain([0.0]);
    let range = Range::around(values, 0.0).unwrap_or(Range::new(0.0, 1.0));
    Range::new(range.low.min(0.0), range.high + (range.high - range.low) * 0.04)
}

/// A bar from 0 with its standard deviation; the number stands right of the panel's bar, clear of the error bar.
fn bar(canvas: &mut Canvas, panel: &Panel, y: f64, spread: Spread, colour: RGBColor, text: &str) {
    if !spread.mean.is_finite() {
        canvas.text("–", (panel.right() + 8.0, y), Align::Left, TEXT_PX, GREY);
        return;
    }
    let x = |value: f64| panel.at(value.clamp(panel.x.low, panel.x.high), 0.0).0;
    canvas.rect((x(0.0), y - 7.0), (x(spread.mean), y + 7.0), colour);
    if spread.count > 1 && spread.sd.is_finite() {
        let (low, high) = (x(spread.mean - spread.sd), x(spread.mean + spread.sd));
        canvas.line((low, y), (high, y), 1.5, INK);
        [low, high].into_iter().for_each(|end| canvas.line((end, y - 4.0), (end, y + 4.0), 1.5, INK));
    }
    canvas.text(text, (panel.right() + 8.0, y), Align::Left, TEXT_PX, INK);
}

/// Three significant digits.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".into();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.01234, 1.5, 250.0, -0.002].map(number), ["0.0123", "1.50", "250", "−0.00200"]);
    }

    #[test]
    fn a_range_of_bars_holds_zero_and_all_error_bars() {
        let spread = |mean, sd| Spread { mean, sd, count: 3 };
        let range = from_zero([spread(1.0, 0.5), spread(0.1, 0.3)].into_iter());
        assert!(range.low <= -0.199 && range.high >= 1.5, "{range:?}");
    }
}
