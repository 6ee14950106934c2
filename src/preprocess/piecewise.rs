//! A field of local shifts around the rigid one.
//!
//! Why it exists: tissue also bends, and a slow scan shears what moves during the frame. Overlapping blocks are registered one by
//! one within a small reach of the rigid shift; a dark block takes the shift of its neighbours.
//! What it must never do: allocate after construction, or follow a block without signal.

use super::correlation::{Correlator, Grid, Planes, Reference};
use super::registration::Shift;
use super::spectrum::Spectrum;
use crate::model::parameters;

/// Rounds of smoothing: each passes a shift on by one block.
const SMOOTHING_ROUNDS: usize = 2;
/// The weight of a block is its peak to this power: half the peak, an eighth of the weight.
const TRUST_POWER: i32 = 3;
/// Trust of the neighbours of a block together, relative to a block that is as good as they are.
const NEIGHBOUR_TRUST: f32 = 0.25;
/// Smallest side of a block, px.
const SIDE_PX_MIN: usize = 16;

/// Measures local shifts against the same template as the rigid registration.
pub struct PiecewiseRegistrar {
    blocks: usize,
    height: usize,
    width: usize,
    corners: Vec<[usize; 2]>,
    spectrum: Spectrum,
    grid: Grid,
    frame: Planes,
    references: Vec<Reference>,
    correlator: Correlator,
    offset: f32,
    /// Deviations from the rigid shift and their trust; the second is the round before.
    field: [Vec<([f32; 2], f32)>; 2],
    shifts: Vec<[f32; 2]>,
}

impl PiecewiseRegistrar {
    /// Plans `blocks` × `blocks` overlapping blocks on frames of `height` × `width` px and takes all memory.
    pub fn new(
        parameters: &parameters::Registration,
        piecewise: &parameters::Piecewise,
        height: usize,
        width: usize,
    ) -> Self {
        let blocks = piecewise.blocks.max(1);
        let [block_height, block_width] = [height, width].map(|side| block_side(side, blocks));
        let corner = |b: usize, side: usize, block: usize| b * (side - block) / (blocks - 1).max(1);
        let spectrum = Spectrum::new(block_height, block_width, parameters.frequencies, parameters.smooth_px);
        let grid = Grid::new(&spectrum);
        let count = blocks * blocks;
        Self {
            blocks,
            height,
            width,
            corners: (0..count)
                .map(|b| [corner(b / blocks, height, block_height), corner(b % blocks, width, block_width)])
                .collect(),
            frame: grid.planes(),
            references: (0..count).map(|_| Reference::new(&grid, parameters.smooth_px)).collect(),
            // One more than asked for, because the rigid shift is rounded before blocks are cut.
            correlator: Correlator::new(&grid, piecewise.reach_px + 1),
            offset: 0.0,
            field: [vec![([0.0; 2], 0.0); count], vec![([0.0; 2], 0.0); count]],
            shifts: vec![[0.0; 2]; count],
            spectrum,
            grid,
        }
    }

    /// Makes `image` (height × width) the template.
    pub fn set_template(&mut self, image: &[f32]) {
        self.offset = (image.iter().map(|&v| f64::from(v)).sum::<f64>() / image.len().max(1) as f64) as f32;
        for block in 0..self.references.len() {
            let corner = self.corners[block];
            self.load(image, corner);
            self.references[block].set(&self.grid, &self.frame);
        }
    }

    /// Total displacement (dy, dx) of every block, row by row, given the rigid one.
    pub fn estimate(&mut self, image: &[f32], rigid: &Shift) -> &[[f32; 2]] {
        let rigid = [rigid.dy, rigid.dx];
        for block in 0..self.references.len() {
            let corner = self.corners[block];
            let moved = self.moved(corner, rigid);
            self.load(image, moved);
            let peak = self.correlator.peak(&self.frame, &self.references[block]);
            let trust = if peak.at_bound { 0.0 } else { peak.height.powi(TRUST_POWER) };
            let deviation = |a: usize| peak.shift[a] + moved[a] as f32 - corner[a] as f32 - rigid[a];
            self.field[0][block] = ([deviation(0), deviation(1)], trust);
        }
        self.smooth();
        for (shift, (deviation, _)) in self.shifts.iter_mut().zip(&self.field[0]) {
            *shift = [rigid[0] + deviation[0], rigid[1] + deviation[1]];
        }
        &self.shifts
    }

    /// Centres (y, x) of the blocks in px, in the order of the shifts.
    pub fn block_centres(&self) -> impl Iterator<Item = [f32; 2]> + '_ {
        let half = [self.spectrum.y.px, self.spectrum.x.px].map(|side| (side as f32 - 1.0) / 2.0);
        self.corners.iter().map(move |c| [c[0] as f32 + half[0], c[1] as f32 + half[1]])
    }

    /// Where a block's content lies in the frame, as far as the frame goes.
    fn moved(&self, corner: [usize; 2], rigid: [f32; 2]) -> [usize; 2] {
        let room = [self.height - self.spectrum.y.px, self.width - self.spectrum.x.px];
        [0, 1].map(|a| (corner[a] as f32 + rigid[a].round()).clamp(0.0, room[a] as f32) as usize)
    }

    fn load(&mut self, image: &[f32], [y, x]: [usize; 2]) {
        self.spectrum.transform(&image[y * self.width + x..], self.width, self.offset);
        self.frame.load(&self.spectrum, &self.grid, self.offset);
    }

    /// Each block becomes the weighted mean of itself and its neighbours; without signal the rigid shift remains.
    fn smooth(&mut self) {
        let n = self.blocks;
        let [field, before] = &mut self.field;
        for _ in 0..SMOOTHING_ROUNDS {
            before.copy_from_slice(field);
            for (b, value) in field.iter_mut().enumerate() {
                let (y, x) = (b / n, b % n);
                let sides =
                    [(y > 0, b.wrapping_sub(n)), (y + 1 < n, b + n), (x > 0, b.wrapping_sub(1)), (x + 1 < n, b + 1)];
                let (own, trust) = before[b];
                let (mut sum, mut weight) = ([own[0] * trust, own[1] * trust], trust);
                let mut beside = (0.0, 0.0);
                for (_, i) in sides.into_iter().filter(|(inside, _)| *inside) {
                    let (shift, trust) = before[i];
                    let share = NEIGHBOUR_TRUST * trust;
                    sum = [sum[0] + share * shift[0], sum[1] + share * shift[1]];
                    weight += share;
                    beside = (beside.0 + trust, beside.1 + 1.0);
                }
                let mean = if weight > 0.0 { [sum[0] / weight, sum[1] / weight] } else { [0.0; 2] };
                let around = if beside.1 > 0.0 { NEIGHBOUR_TRUST * beside.0 / beside.1 } else { 0.0 };
                *value = (mean, trust.max(around));
            }
        }
    }
}

/// Blocks overlap by half.
fn block_side(side: usize, blocks: usize) -> usize {
    (2 * side / (blocks + 1)).max(SIDE_PX_MIN).min(side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::{Piecewise, Registration};

    const SIDE: usize = 128;

    /// A smooth aperiodic texture; `stretch` moves the right half apart from the left.
    fn texture(stretch: f32, dark: bool) -> Vec<f32> {
        let value = |i: usize| {
            let (y, x) = ((i / SIDE) as f32, (i % SIDE) as f32);
            if dark && x < 40.0 && y < 40.0 {
                return 0.0;
            }
            let x = x - stretch * (x / SIDE as f32 - 0.5);
            let wave = |a: f32, b: f32, p: f32| (a * y + b * x + p + (0.05 * (b * y - a * x)).sin()).sin();
            100.0
                + 10.0
                    * (wave(0.31, 0.17, 0.0) + wave(0.11, -0.43, 1.0) + wave(0.57, 0.29, 2.0) + wave(-0.23, 0.71, 3.0))
        };
        (0..SIDE * SIDE).map(value).collect()
    }

    fn field(frame: &[f32]) -> Vec<[f32; 2]> {
        let parameters = Registration::default();
        let mut registrar = PiecewiseRegistrar::new(&parameters, &Piecewise::default(), SIDE, SIDE);
        registrar.set_template(&texture(0.0, false));
        registrar.estimate(frame, &Shift::default()).to_vec()
    }

    #[test]
    fn a_stretched_frame_moves_its_sides_apart_and_its_rows_not() {
        let shifts = field(&texture(4.0, false));
        for row in shifts.chunks(4) {
            assert!(row[0][1] < -0.6 && row[3][1] > 0.6, "{row:?}");
            assert!(row.iter().all(|s| s[0].abs() < 0.35), "{row:?}");
        }
    }

    #[test]
    fn a_dark_block_follows_its_neighbours() {
        let shifts = field(&texture(4.0, true));
        assert!(shifts[0][1] < -0.2 && shifts[0][1] > -3.0, "{shifts:?}");
    }

    #[test]
    fn an_identical_frame_does_not_bend() {
        assert!(field(&texture(0.0, false)).iter().flatten().all(|s| s.abs() < 1e-3));
    }

    #[test]
    fn a_blank_frame_keeps_the_rigid_shift() {
        assert!(field(&vec![0.0; SIDE * SIDE]).iter().flatten().all(|s| *s == 0.0));
    }
}
