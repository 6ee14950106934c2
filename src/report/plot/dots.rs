//! Values as dots in rows: animals, or methods under several protocols.

use plotters::style::{Color, RGBColor};

use super::super::data::{Comparison, PerAnimal, Spread, Values};
use super::canvas::{Align, Canvas, FIRST, GREY, GRID, INK, SECOND, TEXT_PX, fitted, nothing, svg, text_width};
use super::panel::{Panel, Range};

const ROW_PX: f64 = 26.0;
const TOP_PX: f64 = 46.0;
const NAME_PX_MAX: f64 = 190.0;
/// Between two panels.
const GAP_PX: f64 = 34.0;
/// Below the panel: numbers, the axis' name, the key.
const BELOW_PX: f64 = 70.0;

/// One row for each animal: dots are seeds; a line for the mean over animals, a dashed one for chance.
pub fn per_animal(scores: &PerAnimal) -> String {
    let spreads: Vec<Spread> = scores.animals.iter().map(|a| Spread::of(&a.values)).collect();
    let mean = Spread::of(&spreads.iter().map(|s| s.mean).collect::<Vec<_>>());
    if mean.count == 0 {
        return nothing("per-animal scores");
    }
    let name_px = names_px(&scores.animals);
    let height = scores.animals.len() as f64 * ROW_PX;
    svg(name_px + 620.0, TOP_PX + height + BELOW_PX, "score of each animal", |canvas| {
        let panel = Panel {
            left: name_px + 20.0,
            top: TOP_PX,
            width: 560.0,
            height,
            x: Range::new(0.0, 100.0),
            y: rows(&scores.animals),
        };
        panel.heading(
            canvas,
            &format!("each animal: mean {:.1} %, sd over animals {:.1} %", mean.mean * 100.0, mean.sd * 100.0),
        );
        panel.x_axis(canvas, &format!("{} [%]", scores.measure));
        names(canvas, &panel, &scores.animals);
        vertical(canvas, &panel, mean.mean, true);
        if let Some(chance) = scores.chance {
            vertical(canvas, &panel, chance, false);
        }
        panel.outline(canvas);
        for (row, animal) in scores.animals.iter().enumerate() {
            marks(canvas, &panel, row, &animal.values, SECOND, false);
        }
        key(canvas, &panel, &[("one seed", Key::Dot), ("mean over animals", Key::Line), ("chance", Key::Dashed)]);
    })
}

/// One panel for each protocol, one row for each method: dots are animals and seeds, the bar is mean ± sd, the dashed line
/// chance.
pub fn comparison(comparison: &Comparison) -> String {
    let panels = &comparison.protocols;
    let Some(first) = panels
        .first()
        .filter(|_| panels.iter().flat_map(|p| &p.methods).flat_map(|m| &m.values).any(|v| v.is_finite()))
    else {
        return nothing("comparison of methods");
    };
    let name_px = names_px(&first.methods);
    let height = first.methods.len() as f64 * ROW_PX;
    let width = (890.0 / panels.len() as f64 - GAP_PX).clamp(150.0, 560.0);
    let total = name_px + 36.0 + panels.len() as f64 * (width + GAP_PX);
    svg(total, TOP_PX + height + BELOW_PX, "comparison of methods", |canvas| {
        for (index, protocol) in panels.iter().enumerate() {
            let left = name_px + 20.0 + index as f64 * (width + GAP_PX);
            let (x, y) = (Range::new(0.0, 100.0), rows(&protocol.methods));
            let panel = Panel { left, top: TOP_PX, width, height, x, y };
            let arrow = if protocol.lower_is_better { "↓" } else { "↑" };
            panel.heading(canvas, &fitted(&format!("{} {arrow}", protocol.name), 13.5, width));
            panel.x_axis(canvas, &fitted(&format!("{} [%]", comparison.measure), TEXT_PX, width + 20.0));
            if index == 0 {
                names(canvas, &panel, &protocol.methods);
            } else {
                rules(canvas, &panel, protocol.methods.len());
            }
            if let Some(chance) = protocol.chance {
                vertical(canvas, &panel, chance, false);
            }
            panel.outline(canvas);
            for (row, method) in protocol.methods.iter().enumerate() {
                let ours = method.name.starts_with("haltere");
                marks(canvas, &panel, row, &method.values, if ours { FIRST } else { SECOND }, true);
            }
            if index == 0 {
                key(
                    canvas,
                    &panel,
                    &[("one animal and seed", Key::Dot), ("mean ± sd", Key::Bar), ("chance", Key::Dashed)],
                );
            }
        }
    })
}

fn names_px(rows: &[Values]) -> f64 {
    rows.iter().map(|r| text_width(&r.name, TEXT_PX)).fold(40.0, f64::max).min(NAME_PX_MAX)
}

fn rows(rows: &[Values]) -> Range {
    Range::new(-(rows.len() as f64), 0.0)
}

/// Height of the middle of a row.
fn middle(panel: &Panel, row: usize) -> f64 {
    panel.at(0.0, -(row as f64) - 0.5).1
}

fn rules(canvas: &mut Canvas, panel: &Panel, count: usize) {
    for row in 0..count {
        let y = middle(panel, row);
        canvas.line((panel.left, y), (panel.right(), y), 0.75, GRID);
    }
}

fn names(canvas: &mut Canvas, panel: &Panel, rows: &[Values]) {
    rules(canvas, panel, rows.len());
    for (row, entry) in rows.iter().enumerate() {
        let name = fitted(&entry.name, TEXT_PX, NAME_PX_MAX);
        canvas.text(&name, (panel.left - 8.0, middle(panel, row)), Align::Right, TEXT_PX, INK);
    }
}

fn vertical(canvas: &mut Canvas, panel: &Panel, share: f64, solid: bool) {
    if !(0.0..=1.0).contains(&share) {
        return;
    }
    let x = panel.at(share * 100.0, 0.0).0;
    let (from, to) = ((x, panel.top), (x, panel.bottom()));
    if solid { canvas.line(from, to, 1.5, INK) } else { canvas.dashed(from, to, 1.5, GREY) }
}

/// Dots of one row, a little above and below its middle in turn, so that equal values are seen; with the mean ± sd behind them.
fn marks(canvas: &mut Canvas, panel: &Panel, row: usize, values: &[f64], colour: RGBColor, bar: bool) {
    let y = middle(panel, row);
    for (index, value) in values.iter().filter(|v| v.is_finite()).enumerate() {
        let offset = [0.0, -4.0, 4.0, -2.0, 2.0][index % 5];
        let x = panel.at(value.clamp(0.0, 1.0) * 100.0, 0.0).0;
        canvas.disc((x, y + offset), 3.0, colour.mix(0.55));
    }
    let spread = Spread::of(values);
    if !bar || spread.count == 0 {
        return;
    }
    let x = |value: f64| panel.at(value.clamp(0.0, 1.0) * 100.0, 0.0).0;
    canvas.line((x(spread.mean - spread.sd), y), (x(spread.mean + spread.sd), y), 2.0, INK);
    canvas.line((x(spread.mean), y - 8.0), (x(spread.mean), y + 8.0), 3.0, INK);
}

enum Key {
    Dot,
    Bar,
    Line,
    Dashed,
}

/// One row below the axis' name.
fn key(canvas: &mut Canvas, panel: &Panel, entries: &[(&str, Key)]) {
    let (mut x, y) = (panel.left, panel.bottom() + 54.0);
    for (name, key) in entries {
        match key {
            Key::Dot => canvas.disc((x + 8.0, y), 3.0, SECOND.mix(0.55)),
            Key::Bar => {
                canvas.line((x, y), (x + 16.0, y), 2.0, INK);
                canvas.line((x + 8.0, y - 6.0), (x + 8.0, y + 6.0), 3.0, INK);
            }
            Key::Line => canvas.line((x, y), (x + 16.0, y), 1.5, INK),
            Key::Dashed => canvas.dashed((x, y), (x + 16.0, y), 1.5, GREY),
        }
        canvas.text(name, (x + 23.0, y), Align::Left, TEXT_PX, INK);
        x += 42.0 + text_width(name, TEXT_PX);
    }
}
