//! Augmentations: changes to a window that leave its meaning unchanged. Each has a switch, a probability and a magnitude.
//!
//! Why it exists: the augmentations are the method, so each can be switched off and its contribution measured. What it must
//! never do: depend on anything but its input and its random generator, or treat the frames of one window differently.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::bounds::{SettingError, within};
use crate::frame::Shape;

/// How often and how strongly an augmentation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strength {
    /// 0 = off.
    pub probability: f64,
    /// In the unit of the augmentation.
    pub magnitude: f32,
}

/// Behavioural swap: frame by frame, a pose is replaced by a similar pose of another animal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BehaviouralSwap {
    /// Share of the behaviour frames that are replaced. In a pilot, replacing all closed far more of the gap than replacing half.
    pub probability: f64,
    /// Number of nearest poses of the other animal from which one is drawn, with probability ∝ exp(−distance).
    pub neighbours: usize,
    /// Number of poses of each animal that are searched.
    pub candidates: usize,
    /// Number of behaviour frames over which a distance is taken.
    pub neighbourhood: usize,
}

/// Placement: the field is rotated, shifted and scaled, as it differs between animals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// 0 = off.
    pub probability: f64,
    /// Standard deviation of the rotation, degrees.
    pub rotation_deg: f32,
    /// Standard deviation of the shift along each axis, as a fraction of the side.
    pub shift: f32,
    /// Standard deviation of the scale, as a fraction.
    pub scale: f32,
}

/// All augmentations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentations {
    /// Z-score behaviour per animal (otherwise over all animals together).
    pub standardise_behaviour: bool,
    /// Poses of other animals.
    pub behavioural_swap: BehaviouralSwap,
    /// Neural swap: besides its own behaviour, a neural window is pulled towards the neural window of the other animal whose
    /// behaviour is most similar in the batch, and pushed away from all others, including those of its own animal.
    /// Probability: share of the windows. Magnitude: weight of this second contrast.
    pub neural_swap: Strength,
    /// A neural window is mixed with that of the other animal whose behaviour is most similar in the batch. Magnitude: largest
    /// share of the other window, 0 to 1. Without a contrast: with any of another animal, and so are their labels.
    pub neural_mix: Strength,
    /// The decaying fluorescence of another frame is added. Magnitude: largest share of it.
    pub calcium: Strength,
    /// Decay time of the indicator, s.
    pub calcium_decay_s: f64,
    /// Rotation, shift and scale of the field.
    pub placement: Placement,
    /// White noise of each pixel and frame (photon noise is white in space and time). Magnitude: standard deviation.
    pub noise: Strength,
    /// Gaussian blur. Magnitude: largest σ, px.
    pub blur: Strength,
    /// Contrast. Magnitude: the factor is drawn from 1 ± it.
    pub contrast: Strength,
    /// Brightness. Magnitude: the offset is drawn from ± it.
    pub brightness: Strength,
    /// A smooth field of factors over the picture, as expression differs between animals. Magnitude: standard deviation.
    #[serde(default = "off")]
    pub gain_field: Strength,
    /// A square of the picture is blanked. Magnitude: largest share of the picture.
    #[serde(default = "off")]
    pub cut_out: Strength,
    /// Scale of the behaviour. Magnitude: the factor is drawn from 1 ± it.
    pub behaviour_scale: Strength,
    /// Shear between neighbouring columns. Magnitude: the factor is drawn from ± it.
    pub behaviour_shear: Strength,
    /// Behaviour frames blanked. Magnitude: share of them.
    pub behaviour_drop_time: Strength,
    /// Behaviour columns blanked for the whole window. Magnitude: share of them.
    pub behaviour_drop_columns: Strength,
}

const fn off() -> Strength {
    Strength { probability: 0.0, magnitude: 0.0 }
}

/// One switch: its name, and what turns it off.
type Switch = (&'static str, fn(&mut Augmentations));

impl Augmentations {
    /// The augmentations of every contrastive method.
    pub fn standard() -> Self {
        let mut standard = Self::all();
        Self::switches()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("standard"))
            .for_each(|(_, off)| off(&mut standard));
        standard
    }

    /// The augmentations of `haltere`.
    pub fn all() -> Self {
        let strength = |probability, magnitude| Strength { probability, magnitude };
        Self {
            standardise_behaviour: true,
            behavioural_swap: BehaviouralSwap { probability: 1.0, neighbours: 32, candidates: 4096, neighbourhood: 7 },
            neural_swap: strength(1.0, 0.3),
            neural_mix: strength(0.5, 0.5),
            calcium: strength(0.5, 0.5),
            calcium_decay_s: 0.8,
            placement: Placement { probability: 0.8, rotation_deg: 8.0, shift: 0.04, scale: 0.06 },
            noise: strength(0.5, 0.5),
            blur: strength(0.5, 1.0),
            contrast: strength(0.5, 0.3),
            brightness: strength(0.5, 0.3),
            gain_field: off(),
            cut_out: off(),
            behaviour_scale: strength(0.5, 0.2),
            behaviour_shear: strength(0.5, 0.2),
            behaviour_drop_time: strength(0.5, 0.2),
            behaviour_drop_columns: strength(0.5, 0.2),
        }
    }

    /// The augmentations where labels are all that is learnt from, for animals that lie on one atlas: what is left of their placement, and
    /// what differs in their light.
    pub fn with_labels() -> Self {
        let strength = |probability, magnitude| Strength { probability, magnitude };
        let mut own = Self::all();
        Self::switches().into_iter().for_each(|(_, off)| off(&mut own));
        Self {
            placement: Placement { probability: 1.0, rotation_deg: 1.1, shift: 0.0125, scale: 0.015 },
            noise: strength(1.0, 0.5),
            gain_field: strength(1.0, 0.3),
            cut_out: strength(0.5, 0.1),
            neural_mix: strength(0.5, 0.5),
            ..own
        }
    }

    /// The groups that an ablation switches off one at a time.
    pub fn switches() -> [Switch; 8] {
        [
            ("behavioural swap", |a| a.behavioural_swap.probability = 0.0),
            ("behaviour standardised per animal", |a| a.standardise_behaviour = false),
            ("neural swap", |a| a.neural_swap.probability = 0.0),
            ("neural mix", |a| a.neural_mix.probability = 0.0),
            ("calcium", |a| a.calcium.probability = 0.0),
            ("placement", |a| a.placement.probability = 0.0),
            ("standard neural", |a| {
                let light = [&mut a.noise, &mut a.blur, &mut a.contrast, &mut a.brightness];
                light.into_iter().chain([&mut a.gain_field, &mut a.cut_out]).for_each(|s| s.probability = 0.0);
            }),
            ("standard behavioural", |a| {
                let all = [&mut a.behaviour_scale, &mut a.behaviour_shear];
                let drops = [&mut a.behaviour_drop_time, &mut a.behaviour_drop_columns];
                all.into_iter().chain(drops).for_each(|strength| strength.probability = 0.0);
            }),
        ]
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range.
    pub fn check(&self) -> Result<(), SettingError> {
        let strengths = [
            ("neural_swap", self.neural_swap, 100.0),
            ("neural_mix", self.neural_mix, 1.0),
            ("calcium", self.calcium, 10.0),
            ("noise", self.noise, 10.0),
            ("blur", self.blur, 10.0),
            ("contrast", self.contrast, 0.99),
            ("brightness", self.brightness, 10.0),
            ("gain_field", self.gain_field, 1.0),
            ("cut_out", self.cut_out, 0.9),
            ("behaviour_scale", self.behaviour_scale, 0.99),
            ("behaviour_shear", self.behaviour_shear, 10.0),
            ("behaviour_drop_time", self.behaviour_drop_time, 0.99),
            ("behaviour_drop_columns", self.behaviour_drop_columns, 0.99),
        ];
        for (name, strength, most) in strengths {
            probability(&format!("augment.{name}.probability"), strength.probability)?;
            let key = format!("augment.{name}.magnitude");
            within((0.0..=most).contains(&strength.magnitude), &key, &strength.magnitude, &format!("0 to {most}"))?;
        }
        probability("augment.behavioural_swap.probability", self.behavioural_swap.probability)?;
        probability("augment.placement.probability", self.placement.probability)?;
        let swap = &self.behavioural_swap;
        let key = "augment.behavioural_swap.neighbours";
        within((1..=10_000).contains(&swap.neighbours), key, &swap.neighbours, "1 to 10000")?;
        let key = "augment.behavioural_swap.candidates";
        within((1..=1_000_000).contains(&swap.candidates), key, &swap.candidates, "1 to 1000000")?;
        let key = "augment.behavioural_swap.neighbourhood";
        within((1..=101).contains(&swap.neighbourhood), key, &swap.neighbourhood, "1 to 101 frames")?;
        let decay = self.calcium_decay_s;
        within((0.001..=60.0).contains(&decay), "augment.calcium_decay_s", &decay, "0.001 to 60 s")?;
        let place = &self.placement;
        let sound = (0.0..=180.0).contains(&place.rotation_deg)
            && (0.0..=0.5).contains(&place.shift)
            && (0.0..=0.3).contains(&place.scale);
        within(sound, "augment.placement", place, "rotation_deg 0 to 180, shift 0 to 0.5, scale 0 to 0.3")
    }
}

fn probability(key: &str, value: f64) -> Result<(), SettingError> {
    within((0.0..=1.0).contains(&value), key, &value, "0 to 1")
}

/// Does it happen this time?
fn happens(probability: f64, random: &mut Pcg64) -> bool {
    // Always drawn: switching one augmentation off must not change the draws of the others.
    random.random::<f64>() < probability
}

fn signed(random: &mut Pcg64) -> f32 {
    2.0 * random.random::<f32>() - 1.0
}

fn normal(random: &mut Pcg64) -> f32 {
    StandardNormal.sample(random)
}

/// Noise drawn once and cut at random offsets: a million normal numbers are as white as fresh ones, at no cost.
#[derive(Debug)]
pub struct NoiseTable(Vec<f32>);

impl NoiseTable {
    /// A table from this generator.
    pub fn new(random: &mut Pcg64) -> Self {
        Self((0..1 << 20).map(|_| normal(random)).collect())
    }

    fn add(&self, frame: &mut [f32], sd: f32, random: &mut Pcg64) {
        let room = self.0.len().saturating_sub(frame.len()) + 1;
        let from = random.random_range(0..room);
        frame.iter_mut().zip(&self.0[from..]).for_each(|(v, n)| *v += sd * n);
    }
}

/// Augments the frames of one segment in place, all in the same way. `tail` is a frame of the same animal at another time.
pub fn augment_frames(
    frames: &mut [f32],
    shape: Shape,
    frame_rate_hz: f64,
    tail: &[f32],
    table: &NoiseTable,
    augment: &Augmentations,
    random: &mut Pcg64,
) {
    let pixels = shape.pixels();
    let share = augment.calcium.magnitude * random.random::<f32>();
    if happens(augment.calcium.probability, random) {
        add_tail(frames, pixels, tail, share, (-1.0 / (frame_rate_hz * augment.calcium_decay_s)).exp() as f32);
    }
    let place = augment.placement;
    let moved = [place.rotation_deg, place.shift, place.shift, place.scale].map(|sd| sd * normal(random));
    if happens(place.probability, random) {
        let map = Affine::new(shape, moved);
        frames.chunks_exact_mut(shape.plane()).for_each(|plane| map.apply(plane));
    }
    let sigma = augment.blur.magnitude * random.random::<f32>();
    if happens(augment.blur.probability, random) {
        let taps = gaussian(sigma);
        frames.chunks_exact_mut(shape.plane()).for_each(|plane| blur(plane, shape.width, &taps));
    }
    let factor = 1.0 + augment.contrast.magnitude * signed(random);
    let factor = if happens(augment.contrast.probability, random) { factor } else { 1.0 };
    let offset = augment.brightness.magnitude * signed(random);
    let offset = if happens(augment.brightness.probability, random) { offset } else { 0.0 };
    frames.iter_mut().for_each(|v| *v = *v * factor + offset);
    let sd = augment.noise.magnitude * random.random::<f32>();
    if happens(augment.noise.probability, random) {
        frames.chunks_exact_mut(pixels).for_each(|frame| table.add(frame, sd, random));
    }
    if happens(augment.gain_field.probability, random) {
        let field = gain_field(shape, augment.gain_field.magnitude, random);
        let planes = frames.chunks_exact_mut(shape.plane());
        planes.for_each(|plane| plane.iter_mut().zip(&field).for_each(|(v, gain)| *v *= gain));
    }
    if happens(augment.cut_out.probability, random) {
        let square = square(shape, augment.cut_out.magnitude * random.random::<f32>(), random);
        frames.chunks_exact_mut(shape.plane()).for_each(|plane| blank(plane, shape.width, &square));
    }
}

/// Factors around 1 that change smoothly over a plane: normal numbers on a coarse grid, bilinear between them.
fn gain_field(shape: Shape, sd: f32, random: &mut Pcg64) -> Vec<f32> {
    const KNOTS: usize = 5;
    let knots: Vec<f32> = (0..KNOTS * KNOTS).map(|_| 1.0 + sd * normal(random)).collect();
    let place = |at: usize, side: usize| {
        let place = at as f32 / (side - 1).max(1) as f32 * (KNOTS - 1) as f32;
        let knot = (place as usize).min(KNOTS - 2);
        (knot, place - knot as f32)
    };
    let one = |index: usize| {
        let (row, down) = place(index / shape.width, shape.height);
        let (column, along) = place(index % shape.width, shape.width);
        let line = |row: usize| {
            let [left, right] = [0, 1].map(|next| knots[row * KNOTS + column + next]);
            left + along * (right - left)
        };
        line(row) + down * (line(row + 1) - line(row))
    };
    (0..shape.plane()).map(one).collect()
}

/// Rows and columns of a square of this share of a plane, at any place within it.
fn square(shape: Shape, share: f32, random: &mut Pcg64) -> [std::ops::Range<usize>; 2] {
    let side = (share * shape.plane() as f32).sqrt() as usize;
    [shape.height, shape.width].map(|whole| {
        let first = random.random_range(0..=whole - side.min(whole));
        first..(first + side).min(whole)
    })
}

/// 0 is the mean of a normalised frame.
fn blank(plane: &mut [f32], width: usize, [rows, columns]: &[std::ops::Range<usize>; 2]) {
    rows.clone().for_each(|row| plane[row * width + columns.start..row * width + columns.end].fill(0.0));
}

/// ñ_t = n_t + share·γᵗ·n_q.
fn add_tail(frames: &mut [f32], pixels: usize, tail: &[f32], share: f32, gamma: f32) {
    let mut weight = share;
    for frame in frames.chunks_exact_mut(pixels) {
        frame.iter_mut().zip(tail).for_each(|(v, q)| *v += weight * q);
        weight *= gamma;
    }
}

/// Rotation, shift and scaling of a plane by bilinear interpolation; outside is 0, the mean of a normalised frame.
struct Affine {
    /// For each pixel, its upper left neighbour and the weights of the four neighbours.
    taps: Vec<Option<(usize, [f32; 4])>>,
    width: usize,
}

impl Affine {
    fn new(shape: Shape, [rotation_deg, shift_y, shift_x, scale]: [f32; 4]) -> Self {
        let (height, width) = (shape.height, shape.width);
        let (sin, cos) = rotation_deg.to_radians().sin_cos();
        let zoom = (1.0 + scale).max(0.5);
        let centre = [(height - 1) as f32 / 2.0, (width - 1) as f32 / 2.0];
        let moved = [shift_y * height as f32, shift_x * width as f32];
        let mut taps = Vec::with_capacity(height * width);
        for y in 0..height {
            for x in 0..width {
                let (dy, dx) = ((y as f32 - centre[0]) / zoom, (x as f32 - centre[1]) / zoom);
                let at = [cos * dy - sin * dx + centre[0] + moved[0], sin * dy + cos * dx + centre[1] + moved[1]];
                let inside = at[0] >= 0.0 && at[1] >= 0.0 && at[0] < (height - 1) as f32 && at[1] < (width - 1) as f32;
                taps.push(inside.then(|| {
                    let (fy, fx) = (at[0].fract(), at[1].fract());
                    let index = at[0] as usize * width + at[1] as usize;
                    (index, [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx])
                }));
            }
        }
        Self { taps, width }
    }

    fn apply(&self, plane: &mut [f32]) {
        let from = plane.to_vec();
        for (value, tap) in plane.iter_mut().zip(&self.taps) {
            *value = tap.map_or(0.0, |(i, [a, b, c, d])| {
                a * from[i] + b * from[i + 1] + c * from[i + self.width] + d * from[i + self.width + 1]
            });
        }
    }
}

/// Half a Gaussian, centre first, normalised so that the full kernel sums to one.
fn gaussian(sigma: f32) -> Vec<f32> {
    let reach = (2.5 * sigma).ceil() as usize;
    let mut taps: Vec<f32> = (0..=reach).map(|x| (-0.5 * (x as f32 / sigma.max(1e-3)).powi(2)).exp()).collect();
    let whole = 2.0 * taps.iter().sum::<f32>() - taps[0];
    taps.iter_mut().for_each(|tap| *tap /= whole);
    taps
}

fn blur(plane: &mut [f32], width: usize, taps: &[f32]) {
    let height = plane.len() / width;
    let mut between = plane.to_vec();
    for (row, out) in plane.chunks_exact(width).zip(between.chunks_exact_mut(width)) {
        for (x, value) in out.iter_mut().enumerate() {
            *value = taps[0] * row[x];
            for (k, tap) in taps.iter().enumerate().skip(1) {
                *value += tap * (row[x.saturating_sub(k)] + row[(x + k).min(width - 1)]);
            }
        }
    }
    for y in 0..height {
        let out = &mut plane[y * width..(y + 1) * width];
        out.iter_mut().zip(&between[y * width..]).for_each(|(v, b)| *v = taps[0] * b);
        for (k, tap) in taps.iter().enumerate().skip(1) {
            let (above, below) = (y.saturating_sub(k) * width, (y + k).min(height - 1) * width);
            for (x, value) in out.iter_mut().enumerate() {
                *value += tap * (between[above + x] + between[below + x]);
            }
        }
    }
}

/// Augments one behaviour window in place: `frames` rows of `columns` standardised values.
pub fn augment_behaviour(window: &mut [f32], columns: usize, augment: &Augmentations, random: &mut Pcg64) {
    let factor = 1.0 + augment.behaviour_scale.magnitude * signed(random);
    if happens(augment.behaviour_scale.probability, random) {
        window.iter_mut().for_each(|v| *v *= factor);
    }
    let shear = augment.behaviour_shear.magnitude * signed(random);
    if happens(augment.behaviour_shear.probability, random) {
        for row in window.chunks_exact_mut(columns) {
            row.chunks_exact_mut(2).for_each(|pair| pair[0] += shear * pair[1]);
        }
    }
    let drops_time = happens(augment.behaviour_drop_time.probability, random);
    for row in window.chunks_exact_mut(columns) {
        if random.random::<f32>() < augment.behaviour_drop_time.magnitude && drops_time {
            row.fill(0.0);
        }
    }
    let drops_columns = happens(augment.behaviour_drop_columns.probability, random);
    for column in 0..columns {
        if random.random::<f32>() < augment.behaviour_drop_columns.magnitude && drops_columns {
            window[column..].iter_mut().step_by(columns).for_each(|v| *v = 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const SHAPE: Shape = Shape::new(1, 16, 20);

    fn frames(count: usize) -> Vec<f32> {
        (0..count * SHAPE.pixels()).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn augmented(augment: &Augmentations, seed: u64) -> Vec<f32> {
        let mut random = Pcg64::seed_from_u64(seed);
        let table = NoiseTable::new(&mut random);
        let (mut piece, tail) = (frames(3), frames(1));
        augment_frames(&mut piece, SHAPE, 16.0, &tail, &table, augment, &mut random);
        piece
    }

    #[test]
    fn with_every_switch_off_nothing_changes() {
        let mut off = Augmentations::all();
        Augmentations::switches().into_iter().for_each(|(_, switch)| switch(&mut off));
        assert_eq!(augmented(&off, 1), frames(3));
        let mut window = vec![1.0; 24];
        augment_behaviour(&mut window, 6, &off, &mut Pcg64::seed_from_u64(1));
        assert_eq!(window, [1.0; 24]);
    }

    #[test]
    fn the_same_generator_gives_the_same_frames_and_another_gives_others() {
        let all = Augmentations::all();
        assert_eq!(augmented(&all, 4), augmented(&all, 4));
        assert_ne!(augmented(&all, 4), augmented(&all, 5));
    }

    #[test]
    fn the_standard_set_is_all_without_what_is_ours() {
        let standard = Augmentations::standard();
        assert_eq!(standard.check(), Ok(()));
        assert!(!standard.standardise_behaviour && standard.behavioural_swap.probability == 0.0);
        assert_eq!(
            standard.placement.probability + standard.calcium.probability + standard.neural_mix.probability,
            0.0
        );
        assert_eq!(standard.noise, Augmentations::all().noise);
    }

    #[test]
    fn a_tail_decays_by_gamma_from_frame_to_frame() {
        let mut piece = vec![0.0; 6];
        add_tail(&mut piece, 2, &[1.0, 2.0], 0.5, 0.5);
        assert_eq!(piece, [0.5, 1.0, 0.25, 0.5, 0.125, 0.25]);
    }

    #[test]
    fn a_placement_of_one_pixel_moves_the_content_by_one_pixel() {
        let mut plane = vec![0.0; SHAPE.plane()];
        plane[5 * 20 + 7] = 1.0;
        // the pixel at (y, x) is read from (y + 1, x)
        Affine::new(SHAPE, [0.0, 1.0 / 16.0, 0.0, 0.0]).apply(&mut plane);
        assert!((plane[4 * 20 + 7] - 1.0).abs() < 1e-5);
        let mut turned = vec![1.0; SHAPE.plane()];
        Affine::new(SHAPE, [30.0, 0.0, 0.0, 0.0]).apply(&mut turned);
        assert!((turned[8 * 20 + 10] - 1.0).abs() < 1e-5);
        assert_eq!(turned[0], 0.0);
    }

    #[test]
    fn a_gain_field_is_smooth_around_one_and_the_same_for_every_frame() {
        let only = |magnitude| Augmentations {
            gain_field: Strength { probability: 1.0, magnitude },
            placement: Placement { probability: 0.0, ..Augmentations::with_labels().placement },
            noise: off(),
            cut_out: off(),
            ..Augmentations::with_labels()
        };
        assert_eq!(augmented(&only(0.0), 1), frames(3));
        let (plain, gained) = (frames(3), augmented(&only(0.3), 1));
        let gain: Vec<f32> = gained.iter().zip(&plain).map(|(g, p)| g / p).collect();
        let (first, second) = (&gain[..320], &gain[320..640]);
        assert!(
            first.iter().zip(second).filter(|(a, b)| a.is_finite() && b.is_finite()).all(|(a, b)| (a - b).abs() < 1e-4)
        );
        let field = gain_field(SHAPE, 0.3, &mut Pcg64::seed_from_u64(2));
        let mean = field.iter().sum::<f32>() / field.len() as f32;
        let step = field.windows(2).enumerate().filter(|(i, _)| i % 20 != 19).map(|(_, w)| (w[0] - w[1]).abs());
        assert!((mean - 1.0).abs() < 0.2 && step.fold(0.0, f32::max) < 0.35, "{mean}");
    }

    #[test]
    fn a_cut_out_blanks_one_square_of_at_most_its_share() {
        let own =
            Augmentations { cut_out: Strength { probability: 1.0, magnitude: 0.2 }, ..Augmentations::with_labels() };
        let own = Augmentations { noise: off(), gain_field: off(), ..own };
        let own = Augmentations { placement: Placement { probability: 0.0, ..own.placement }, ..own };
        let mut blanked = 0;
        for seed in 0..20 {
            let (cut, plain) = (augmented(&own, seed), frames(3));
            let changed: Vec<usize> = (0..320).filter(|&i| cut[i] != plain[i]).collect();
            assert!(
                changed.len() as f32 <= 0.2 * 320.0 && changed.iter().all(|&i| cut[i] == 0.0 && cut[i + 320] == 0.0)
            );
            blanked += usize::from(!changed.is_empty());
        }
        assert!(blanked > 10, "{blanked}");
    }

    #[test]
    fn a_blur_keeps_the_sum_of_a_spot() {
        let mut plane = vec![0.0; SHAPE.plane()];
        plane[8 * 20 + 10] = 1.0;
        blur(&mut plane, 20, &gaussian(1.0));
        assert!((plane.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(plane[8 * 20 + 10] < 0.5);
    }
}
