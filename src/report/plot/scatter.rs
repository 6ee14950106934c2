//! The embedding in two and three principal components, coloured by action and by animal side by side.

use plotters::style::{Color, RGBColor};

use super::super::pca::{COMPONENTS, EmbeddingPoint, EmbeddingView};
use super::canvas::{Align, Canvas, GREY, GRID, HEADING_PX, INK, LEGEND_ROW_PX, TEXT_PX, colour, nothing, svg};
use super::panel::{Panel, Range};

const SIDE_PX: f64 = 312.0;
const LEGEND_PX: f64 = 150.0;
const TOP_PX: f64 = 36.0;
const POINT_PX: f64 = 2.25;
const BY_ANIMAL: &str = "by animal";
/// Point of view of the 3-D plot: turned about the vertical axis, and looked at from above.
const AZIMUTH: f64 = 0.61;
const ELEVATION: f64 = 0.42;

/// One of the two colourings.
struct Colouring<'a> {
    heading: &'a str,
    names: &'a [String],
    group: fn(&EmbeddingPoint) -> Option<usize>,
}

/// `second` says what `animals` are.
fn colourings<'a>(view: &'a EmbeddingView, second: &'a str) -> [Colouring<'a>; 2] {
    [
        Colouring { heading: "by action", names: &view.labels, group: |p| p.label.map(usize::from) },
        Colouring { heading: second, names: &view.animals, group: |p| Some(p.animal) },
    ]
}

impl Colouring<'_> {
    /// Colour and shape; grey for what has no label or no name.
    fn look(&self, point: &EmbeddingPoint) -> (usize, RGBColor, f64) {
        match (self.group)(point).filter(|&group| group < self.names.len()) {
            Some(group) => (group, colour(group), 0.75),
            None => (0, GREY, 0.3),
        }
    }

    fn legend(&self, canvas: &mut Canvas, left: f64, points: &[EmbeddingPoint], rows: usize) {
        let mut entries: Vec<(String, usize, RGBColor)> =
            self.names.iter().enumerate().map(|(i, name)| (name.clone(), i, colour(i))).collect();
        if points.iter().any(|p| (self.group)(p).is_none()) {
            entries.push(("unlabelled".into(), 0, GREY));
        }
        let hidden = entries.len().saturating_sub(rows);
        entries.truncate(rows);
        canvas.legend((left, TOP_PX + 10.0), LEGEND_PX, &entries);
        if hidden > 0 {
            let y = TOP_PX + 10.0 + rows as f64 * LEGEND_ROW_PX;
            canvas.text(&format!("and {hidden} more"), (left + 16.0, y), Align::Left, TEXT_PX, GREY);
        }
    }
}

fn finite(view: &EmbeddingView) -> Vec<EmbeddingPoint> {
    view.points.iter().filter(|p| p.at.iter().all(|v| v.is_finite())).copied().collect()
}

fn axis_name(view: &EmbeddingView, component: usize) -> String {
    format!("PC{} ({:.0} % of variance)", component + 1, view.explained[component] * 100.0)
}

/// First against second component.
pub fn embedding_2d(view: &EmbeddingView) -> String {
    embedding_2d_by(view, BY_ANIMAL)
}

/// The same, where `animals` are something else.
pub fn embedding_2d_by(view: &EmbeddingView, second: &str) -> String {
    let points = finite(view);
    let range = |c: usize| Range::around(points.iter().map(|p| f64::from(p.at[c])), 0.04);
    let (Some(x), Some(y)) = (range(0), range(1)) else { return nothing("embedding in two dimensions") };
    let panel_px = 62.0 + SIDE_PX + 12.0 + LEGEND_PX;
    svg(2.0 * panel_px, TOP_PX + SIDE_PX + 50.0, "embedding in two principal components", |canvas| {
        for (index, colouring) in colourings(view, second).iter().enumerate() {
            let left = index as f64 * panel_px + 62.0;
            let panel = Panel { left, top: TOP_PX, width: SIDE_PX, height: SIDE_PX, x, y };
            panel.x_axis(canvas, &axis_name(view, 0));
            panel.y_axis(canvas, &axis_name(view, 1));
            panel.outline(canvas);
            panel.heading(canvas, colouring.heading);
            for point in &points {
                let (shape, rgb, opacity) = colouring.look(point);
                let at = panel.at(f64::from(point.at[0]), f64::from(point.at[1]));
                canvas.mark(shape, at, POINT_PX, rgb.mix(opacity));
            }
            colouring.legend(canvas, panel.right() + 12.0, &points, (SIDE_PX / LEGEND_ROW_PX) as usize - 1);
        }
    })
}

/// First three components, seen from a fixed point; far points are smaller and paler.
pub fn embedding_3d(view: &EmbeddingView) -> String {
    let points = finite(view);
    if points.is_empty() {
        return nothing("embedding in three dimensions");
    }
    let cube = Cube::around(&points);
    let mut order: Vec<(f64, (f64, f64), EmbeddingPoint)> = points
        .iter()
        .map(|p| {
            let (at, depth) = cube.project(p.at.map(f64::from));
            (depth, at, *p)
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let panel_px = SIDE_PX + 60.0 + LEGEND_PX;
    svg(2.0 * panel_px, TOP_PX + SIDE_PX + 44.0, "embedding in three principal components", |canvas| {
        for (index, colouring) in colourings(view, BY_ANIMAL).iter().enumerate() {
            let left = index as f64 * panel_px + 30.0;
            canvas.text(colouring.heading, (left, TOP_PX - 14.0), Align::Left, HEADING_PX, INK);
            let origin = (left, TOP_PX);
            cube.draw(canvas, origin, view);
            for (depth, at, point) in &order {
                let (shape, rgb, opacity) = colouring.look(point);
                let near = (depth + 1.0) / 2.0;
                let size = POINT_PX * (0.75 + 0.5 * near);
                canvas.mark(shape, shifted(*at, origin), size, rgb.mix(opacity * (0.55 + 0.45 * near)));
            }
            colouring.legend(canvas, left + SIDE_PX + 24.0, &points, (SIDE_PX / LEGEND_ROW_PX) as usize - 1);
        }
    })
}

fn shifted(at: (f64, f64), by: (f64, f64)) -> (f64, f64) {
    (at.0 + by.0, at.1 + by.1)
}

/// The box around the points, and the way it is seen. All axes have one scale, so that shapes are what they are.
struct Cube {
    middle: [f64; COMPONENTS],
    half: [f64; COMPONENTS],
    scale: f64,
}

impl Cube {
    fn around(points: &[EmbeddingPoint]) -> Self {
        let range = |c: usize| Range::around(points.iter().map(|p| f64::from(p.at[c])), 0.04);
        let ranges: [Range; COMPONENTS] = std::array::from_fn(|c| range(c).unwrap_or(Range::new(-1.0, 1.0)));
        let middle = ranges.map(|r| (r.low + r.high) / 2.0);
        let half = ranges.map(|r| (r.high - r.low) / 2.0);
        // The furthest corner seen decides the scale.
        let mut cube = Self { middle, half, scale: 1.0 };
        let reach =
            (0..8).map(|i| cube.turned(cube.corner(i))).fold(0.0, |m: f64, p| m.max(p[0].abs()).max(p[1].abs()));
        cube.scale = if reach > 0.0 { SIDE_PX / 2.0 / reach } else { 1.0 };
        cube
    }

    fn corner(&self, index: usize) -> [f64; COMPONENTS] {
        std::array::from_fn(|c| self.middle[c] + if index >> c & 1 == 1 { self.half[c] } else { -self.half[c] })
    }

    /// Right, up, towards the eye. The third component points up.
    fn turned(&self, point: [f64; COMPONENTS]) -> [f64; COMPONENTS] {
        let [x, y, z] = std::array::from_fn(|c| point[c] - self.middle[c]);
        let right = x * AZIMUTH.cos() - y * AZIMUTH.sin();
        let back = x * AZIMUTH.sin() + y * AZIMUTH.cos();
        [right, z * ELEVATION.cos() + back * ELEVATION.sin(), z * ELEVATION.sin() - back * ELEVATION.cos()]
    }

    /// Pixel within the panel, and nearness from −1 (far) to 1.
    fn project(&self, point: [f64; COMPONENTS]) -> ((f64, f64), f64) {
        let [right, up, near] = self.turned(point);
        let depth = self.half.iter().map(|h| h * h).sum::<f64>().sqrt();
        let at = (SIDE_PX / 2.0 + right * self.scale, SIDE_PX / 2.0 - up * self.scale);
        (at, if depth > 0.0 { near / depth } else { 0.0 })
    }

    /// The box behind the points, the axes' names along its near lower edges.
    fn draw(&self, canvas: &mut Canvas, origin: (f64, f64), view: &EmbeddingView) {
        let at = |corner: usize| shifted(self.project(self.corner(corner)).0, origin);
        for axis in 0..COMPONENTS {
            for from in (0..8).filter(|corner| corner >> axis & 1 == 0) {
                // The two lower edges that are nearest and the leftmost upright carry the axes.
                let strong = matches!((axis, from), (0 | 1, 0) | (2, 2));
                let (width, ink) = if strong { (1.25, INK) } else { (0.75, GRID) };
                canvas.line(at(from), at(from | 1 << axis), width, ink);
            }
        }
        let middle = |a: (f64, f64), b: (f64, f64)| ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
        let share = |c: usize| format!("PC{} ({:.0} %)", c + 1, view.explained[c] * 100.0);
        let (x, y, z) = (middle(at(0), at(1)), middle(at(0), at(2)), middle(at(2), at(6)));
        canvas.text(&share(0), (x.0 + 8.0, x.1 + 12.0), Align::Left, TEXT_PX, INK);
        canvas.text(&share(1), (y.0 - 8.0, y.1 + 12.0), Align::Right, TEXT_PX, INK);
        canvas.text_upwards(&share(2), (z.0 - 12.0, z.1), Align::Middle, TEXT_PX, INK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_fits_into_its_panel_and_up_is_up() {
        let points = [[0.0, 0.0, 0.0], [4.0, 1.0, 2.0]].map(|at| EmbeddingPoint { at, label: None, animal: 0 });
        let cube = Cube::around(&points);
        for corner in 0..8 {
            let ((x, y), depth) = cube.project(cube.corner(corner));
            assert!((-1e-9..=SIDE_PX + 1e-9).contains(&x) && (-1e-9..=SIDE_PX + 1e-9).contains(&y), "{x} {y}");
            assert!((-1.0..=1.0).contains(&depth));
        }
        let height = |z: f64| cube.project([2.0, 0.5, z]).0.1;
        assert!(height(2.0) < height(0.0));
    }
}
