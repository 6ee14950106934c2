//! The confusion matrix: rows are what the animal did, columns what was decoded.

use plotters::style::RGBColor;

use super::super::data::Confusion;
use super::canvas::{Align, GREY, GRID, HEADING_PX, INK, TEXT_PX, fitted, nothing, svg, text_width};

const CELL_PX: f64 = 52.0;
/// Room for the longest name; longer ones are cut.
const NAME_PX_MAX: f64 = 170.0;

/// Rows normalised: a cell says which share of the moments of the true action was decoded so, in per cent. The number of
/// moments stands behind each row.
pub fn confusion(confusion: &Confusion) -> String {
    let labels = &confusion.labels;
    let n = labels.len();
    if n == 0 || confusion.counts.iter().flatten().sum::<u64>() == 0 {
        return nothing("confusion matrix");
    }
    let name_px = labels.iter().map(|l| text_width(l, TEXT_PX)).fold(40.0, f64::max).min(NAME_PX_MAX);
    let upright = labels.iter().any(|l| text_width(l, TEXT_PX) > CELL_PX - 4.0);
    let below_px = if upright { name_px + 12.0 } else { 22.0 };
    let (left, top) = (name_px + 40.0, 44.0);
    let side = n as f64 * CELL_PX;
    svg(left + side + 190.0, top + side + below_px + 30.0, "confusion matrix", |canvas| {
        canvas.text("share of samples with this true action [%]", (left, top - 20.0), Align::Left, HEADING_PX, INK);
        for (row, label) in labels.iter().enumerate() {
            let y = top + (row as f64 + 0.5) * CELL_PX;
            canvas.text(&fitted(label, TEXT_PX, name_px), (left - 8.0, y), Align::Right, TEXT_PX, INK);
            let counts: Vec<u64> = (0..n).map(|column| count(confusion, row, column)).collect();
            let total: u64 = counts.iter().sum();
            for (column, &moments) in counts.iter().enumerate() {
                let x = left + column as f64 * CELL_PX;
                let share = if total == 0 { 0.0 } else { moments as f64 / total as f64 };
                canvas.rect((x, y - CELL_PX / 2.0), (x + CELL_PX, y + CELL_PX / 2.0), heat(share));
                let ink = if share > 0.5 { RGBColor(255, 255, 255) } else { INK };
                let text = if total == 0 { "–".into() } else { percent(share) };
                canvas.text(&text, (x + CELL_PX / 2.0, y), Align::Middle, TEXT_PX, ink);
            }
            canvas.text(&format!("n = {total}"), (left + side + 8.0, y), Align::Left, TEXT_PX, GREY);
        }
        for (column, label) in labels.iter().enumerate() {
            let x = left + (column as f64 + 0.5) * CELL_PX;
            let name = fitted(label, TEXT_PX, name_px);
            if upright {
                canvas.text_upwards(&name, (x, top + side + 8.0), Align::Right, TEXT_PX, INK);
            } else {
                canvas.text(&name, (x, top + side + 14.0), Align::Middle, TEXT_PX, INK);
            }
        }
        (0..=n).for_each(|i| {
            let d = i as f64 * CELL_PX;
            canvas.line((left + d, top), (left + d, top + side), 0.75, GRID);
            canvas.line((left, top + d), (left + side, top + d), 0.75, GRID);
        });
        canvas.frame((left, top), (left + side, top + side), INK);
        let middle = (left + side / 2.0, top + side + below_px + 14.0);
        canvas.text("decoded action", middle, Align::Middle, TEXT_PX, INK);
        canvas.text_upwards("true action", (16.0, top + side / 2.0), Align::Middle, TEXT_PX, INK);
        scale(canvas, (left + side + 100.0, top), side.min(220.0));
    })
}

fn count(confusion: &Confusion, row: usize, column: usize) -> u64 {
    confusion.counts.get(row).and_then(|r| r.get(column)).copied().unwrap_or(0)
}

/// Small shares with a decimal, so that 0.4 % is not taken for never.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        "0".into()
    } else if percent < 9.95 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.0}")
    }
}

fn scale(canvas: &mut super::canvas::Canvas, (x, top): (f64, f64), height: f64) {
    let steps = 50;
    for step in 0..steps {
        let share = (step as f64 + 0.5) / steps as f64;
        let y = |edge: usize| top + height * (1.0 - edge as f64 / steps as f64);
        // Half a pixel over the next one, so that no seam shows.
        canvas.rect((x, y(step)), (x + 14.0, (y(step + 1) - 0.5).max(top)), heat(share));
    }
    canvas.frame((x, top), (x + 14.0, top + height), INK);
    for value in [0, 50, 100] {
        let y = top + height * (1.0 - f64::from(value) / 100.0);
        canvas.text(&format!("{value} %"), (x + 20.0, y), Align::Left, TEXT_PX, INK);
    }
}

/// White to dark blue: one hue, lightness falling evenly, so it also reads in grey and to colour-blind eyes.
fn heat(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 4] =
        [(255.0, 255.0, 255.0), (158.0, 202.0, 225.0), (49.0, 130.0, 189.0), (8.0, 48.0, 107.0)];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (at as usize).min(STOPS.len() - 2);
    let (a, b, t) = (STOPS[index], STOPS[index + 1], at - index as f64);
    let mix = |a: f64, b: f64| (a + (b - a) * t).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_row_and_an_action_that_never_happened_has_none() {
        let matrix = Confusion {
            labels: vec!["rest".into(), "walk".into()],
            counts: vec![vec![30, 10], vec![0, 0]],
            note: String::new(),
        };
        let svg = confusion(&matrix);
        for text in ["75", "25", "n = 40", "n = 0", "–"] {
            assert!(svg.contains(&format!("\n{text}\n")) || svg.contains(&format!(">{text}\n")), "{text}: {svg}");
        }
    }

    #[test]
    fn a_rare_confusion_is_not_rounded_to_never() {
        assert_eq!([0.004, 0.0994, 0.0996, 1.0, 0.0].map(percent), ["0.4", "9.9", "10", "100", "0"]);
    }

    #[test]
    fn heat_grows_darker_evenly() {
        let light = |share: f64| {
            let RGBColor(r, g, b) = heat(share);
            u32::from(r) + u32::from(g) + u32::from(b)
        };
        assert!((0..10).all(|i| light(f64::from(i) / 10.0) > light(f64::from(i + 1) / 10.0)));
    }
}
