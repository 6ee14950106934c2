//! The picture of rules over a recording: what the animal did, what the rule saw, and what it decided.
//!
//! What it must never do: leave a decision out, however dense they lie.

use plotters::style::{Color, RGBColor};

use super::plot::canvas::{Align, FIRST, GREY, INK, SECOND, TEXT_PX, nothing, svg, text_width};
use super::plot::panel::{Panel, Range};

const WIDTH_PX: f64 = 960.0;
const LEFT_PX: f64 = 70.0;
const TOP_PX: f64 = 44.0;
const PANEL_PX: f64 = 90.0;
/// From one rule to the next.
const ROW_PX: f64 = PANEL_PX + 74.0;
/// Known bouts.
const BOUT: RGBColor = RGBColor(0, 158, 115);

/// Sham trials.
const SHAM: RGBColor = RGBColor(204, 121, 167);

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// In a bout, or nothing is known.
    Right,
    /// Outside every bout.
    Wrong,
    /// Without an output.
    Withheld,
    /// A sham trial: withheld by lot.
    Sham,
    /// The end of an output before its time.
    Ended,
}

/// Name, colour and lower end of a mark: 0 is the bottom of the panel, 1 its top.
const fn legend(mark: Mark) -> (&'static str, RGBColor, f64) {
    match mark {
        Mark::Right => ("output", SECOND, 0.0),
        Mark::Wrong => ("false alarm", FIRST, 0.0),
        Mark::Sham => ("sham trial", SHAM, 0.75),
        Mark::Withheld => ("no output", INK, 0.75),
        Mark::Ended => ("ended early", FIRST, 0.75),
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RuleView {
    /// Its name and its condition.
    pub heading: String,
    /// Name of the value that is drawn.
    pub value: String,
    /// It, by time in s.
    pub trace: Vec<(f64, f64)>,
    /// Known bouts, from and to, s.
    pub bouts: Vec<(f64, f64)>,
    /// Decisions, s.
    pub decisions: Vec<(f64, Mark)>,
}

/// One panel for each rule, over the same time.
pub fn timeline(rules: &[RuleView], seconds: f64) -> String {
    if rules.is_empty() {
        return nothing("decisions");
    }
    let height = TOP_PX + ROW_PX * rules.len() as f64;
    svg(WIDTH_PX, height, "decisions of rules over a recording", |canvas| {
        for (row, rule) in rules.iter().enumerate() {
            let values = rule.trace.iter().map(|(_, value)| *value).chain([0.0, 1.0]);
            let panel = Panel {
                left: LEFT_PX,
                top: TOP_PX + ROW_PX * row as f64,
                width: WIDTH_PX - LEFT_PX - 14.0,
                height: PANEL_PX,
                x: Range::new(0.0, seconds.max(1e-3)),
                y: Range::around(values, 0.02).unwrap_or(Range::new(0.0, 1.0)),
            };
            panel.heading(canvas, &rule.heading);
            for (from, to) in &rule.bouts {
                canvas.rect(panel.at(*from, panel.y.low), panel.at(*to, panel.y.high), BOUT.mix(0.25));
            }
            panel.x_axis(canvas, "seconds");
            panel.y_axis(canvas, &rule.value);
            let trace: Vec<_> = rule.trace.iter().map(|(at, value)| panel.at(*at, *value)).collect();
            canvas.path(&trace, 0.75, GREY);
            for (at, mark) in &rule.decisions {
                let (_, colour, low) = legend(*mark);
                let reach = panel.y.low + low * (panel.y.high - panel.y.low);
                canvas.line(panel.at(*at, reach), panel.at(*at, panel.y.high), 1.5, colour);
            }
            panel.outline(canvas);
        }
        let mut x = LEFT_PX;
        let there = [Mark::Right, Mark::Wrong, Mark::Sham, Mark::Withheld, Mark::Ended]
            .into_iter()
            .filter(|mark| rules.iter().flat_map(|rule| &rule.decisions).any(|(_, made)| made == mark));
        let bouts = rules.iter().any(|rule| !rule.bouts.is_empty()).then_some(("true bout", BOUT));
        for (name, colour) in bouts.into_iter().chain(there.map(|mark| (legend(mark).0, legend(mark).1))) {
            canvas.line((x, 12.0), (x + 20.0, 12.0), 3.0, colour);
            canvas.text(name, (x + 26.0, 12.0), Align::Left, TEXT_PX, INK);
            x += 46.0 + text_width(name, TEXT_PX);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_and_every_bout_is_drawn_and_names_are_escaped() {
        let view = |decisions: usize| RuleView {
            heading: "<groom> p > 0.8".into(),
            value: "p(grooming)".into(),
            trace: (0..50).map(|at| (f64::from(at), f64::from(at) / 50.0)).collect(),
            bouts: vec![(5.0, 9.0), (20.0, 31.0)],
            decisions: (0..decisions).map(|at| (at as f64, Mark::Right)).collect(),
        };
        let lines = |svg: &str| svg.matches("<line").count();
        let (few, many) = (timeline(&[view(1)], 50.0), timeline(&[view(21)], 50.0));
        assert_eq!(lines(&many) - lines(&few), 20);
        assert!(many.contains("&lt;groom&gt;") && !many.contains("<groom>"));
        assert!(timeline(&[], 1.0).contains("no data"));
    }
}
