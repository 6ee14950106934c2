//! Marks on a white sheet, in pixels: the thin layer over plotters' SVG backend that all plots share.
//!
//! Why it exists: the backend counts whole pixels; here a pixel has four parts, so that points and thin lines are placed exactly.
//! What it must never do: know what is plotted.

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle};

use crate::sys::palette::{self, MarkShape};

/// Units of the backend in one pixel.
const PARTS: f64 = 4.0;
/// What the backend divides font sizes by.
const BACKEND_FONT_RATIO: f64 = 1.24;
/// Width of an average letter of a sans-serif font, relative to its size: generous, so that nothing is cut.
const LETTER_WIDTH: f64 = 0.56;

/// Size of ordinary text, pixels.
pub const TEXT_PX: f64 = 12.0;
/// Size of a panel's heading, pixels.
pub const HEADING_PX: f64 = 13.5;

/// Text, axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(226, 226, 226);
/// What is of second rank: chance lines, unlabelled moments.
pub const GREY: RGBColor = RGBColor(128, 128, 128);
/// First colour of two: before, train.
pub const FIRST: RGBColor = RGBColor(213, 94, 0);
/// Second colour of two: after, held out, ours.
pub const SECOND: RGBColor = RGBColor(0, 114, 178);

/// Colour of group `index`.
pub fn colour(index: usize) -> RGBColor {
    let [red, green, blue] = palette::colour(index);
    RGBColor(red, green, blue)
}

/// Where a text lies relative to its point.
#[derive(Clone, Copy)]
pub enum Align {
    /// Begins there.
    Left,
    /// Has its middle there.
    Middle,
    /// Ends there.
    Right,
}

/// A sheet under construction.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

/// Draws a sheet of `width` × `height` pixels; `title` is for those who cannot see it.
pub fn svg(width: f64, height: f64, title: &str, draw: impl FnOnce(&mut Canvas)) -> String {
    let mut text = String::new();
    let size = ((width * PARTS) as u32, (height * PARTS) as u32);
    let mut canvas = Canvas { backend: SVGBackend::with_string(&mut text, size) };
    canvas.rect((0.0, 0.0), (width, height), RGBColor(255, 255, 255));
    draw(&mut canvas);
    // All calls of the backend write into a String, which cannot fail; its Result is for files.
    canvas.backend.present().ok();
    drop(canvas);
    let body = text.split_once('>').map_or("", |(_, body)| body);
    let escaped = quick_xml::escape::escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-label=\"{escaped}\"><title>{escaped}</title>{body}",
        size.0, size.1
    )
}

/// A sheet that says that there is nothing to plot.
pub fn nothing(title: &str) -> String {
    svg(420.0, 60.0, title, |canvas| {
        canvas.text(&format!("{title}: no data"), (12.0, 30.0), Align::Left, TEXT_PX, GREY);
    })
}

/// Pixels that a text takes, about.
pub fn text_width(text: &str, size_px: f64) -> f64 {
    text.chars().count() as f64 * size_px * LETTER_WIDTH
}

/// `text` cut to `width` pixels, with an ellipsis where it was cut.
pub fn fitted(text: &str, size_px: f64, width: f64) -> String {
    let most = (width / (size_px * LETTER_WIDTH)) as usize;
    if text.chars().count() <= most {
        text.into()
    } else {
        text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
    }
}

fn part((x, y): (f64, f64)) -> (i32, i32) {
    ((x * PARTS).round() as i32, (y * PARTS).round() as i32)
}

impl Canvas<'_> {
    /// One line of text, its middle at the height of `at`.
    pub fn text(&mut self, text: &str, at: (f64, f64), align: Align, size_px: f64, colour: RGBColor) {
        self.styled_text(text, at, align, size_px, colour, FontTransform::None);
    }

    /// Text that reads from below upwards.
    pub fn text_upwards(&mut self, text: &str, at: (f64, f64), align: Align, size_px: f64, colour: RGBColor) {
        self.styled_text(text, at, align, size_px, colour, FontTransform::Rotate270);
    }

    fn styled_text(
        &mut self,
        text: &str,
        at: (f64, f64),
        align: Align,
        size_px: f64,
        colour: RGBColor,
        turn: FontTransform,
    ) {
        let across = match align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let font = ("sans-serif", size_px * PARTS * BACKEND_FONT_RATIO).into_font().transform(turn);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(across, VPos::Center));
        self.backend.draw_text(text, &style, part(at)).ok();
    }

    /// Straight line, `width` pixels wide.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: impl Color) {
        self.backend.draw_line(part(from), part(to), &stroke(width, colour)).ok();
    }

    /// Dashed straight line.
    pub fn dashed(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: RGBColor) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let dashes = (dx.hypot(dy) / 8.0).ceil().max(1.0);
        for dash in 0..dashes as usize {
            let at = |t: f64| (from.0 + dx * t / dashes, from.1 + dy * t / dashes);
            self.line(at(dash as f64), at(dash as f64 + 0.6), width, colour);
        }
    }

    /// Line through `points`.
    pub fn path(&mut self, points: &[(f64, f64)], width: f64, colour: impl Color) {
        let points: Vec<_> = points.iter().copied().map(part).collect();
        self.backend.draw_path(points, &stroke(width, colour)).ok();
    }

    /// Filled rectangle between two corners.
    pub fn rect(&mut self, a: (f64, f64), b: (f64, f64), colour: impl Color) {
        let (low, high) = ((a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1)));
        self.backend.draw_rect(part(low), part(high), &stroke(1.0, colour), true).ok();
    }

    /// Outline of a rectangle.
    pub fn frame(&mut self, a: (f64, f64), b: (f64, f64), colour: RGBColor) {
        self.path(&[a, (b.0, a.1), b, (a.0, b.1), a], 1.0, colour);
    }

    /// The mark of group `index`.
    pub fn mark(&mut self, index: usize, at: (f64, f64), radius: f64, colour: RGBAColor) {
        let corners = match palette::shape(index) {
            MarkShape::Disc => return self.disc(at, radius, colour),
            MarkShape::Diamond => {
                let r = radius * 1.25;
                [(0.0, -r), (r, 0.0), (0.0, r), (-r, 0.0)]
            }
            MarkShape::Square => {
                let r = radius * 0.9;
                [(-r, -r), (r, -r), (r, r), (-r, r)]
            }
        };
        let corners = corners.map(|(x, y)| part((at.0 + x, at.1 + y)));
        self.backend.fill_polygon(corners, &stroke(1.0, colour)).ok();
    }

    /// Filled disc.
    pub fn disc(&mut self, at: (f64, f64), radius: f64, colour: impl Color) {
        self.backend.draw_circle(part(at), (radius * PARTS).round() as u32, &stroke(1.0, colour), true).ok();
    }

    /// A column of marks with names, its first entry at `at`. Draws nothing else, so the caller keeps the place free.
    pub fn legend(&mut self, at: (f64, f64), width: f64, entries: &[(String, usize, RGBColor)]) {
        for (row, (name, shape, colour)) in entries.iter().enumerate() {
            let y = at.1 + row as f64 * LEGEND_ROW_PX;
            self.mark(*shape, (at.0 + 5.0, y), 5.0, colour.to_rgba());
            self.text(&fitted(name, TEXT_PX, width - 16.0), (at.0 + 16.0, y), Align::Left, TEXT_PX, INK);
        }
    }
}

/// Height of an entry of a legend, pixels.
pub const LEGEND_ROW_PX: f64 = 18.0;

fn stroke(width: f64, colour: impl Color) -> ShapeStyle {
    ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: (width * PARTS).round().max(1.0) as u32 }
}
