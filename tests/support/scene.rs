//! A small movie whose motion is known exactly: a band-limited scene, a sum of waves that is shifted analytically, with Poisson noise.

use std::f64::consts::TAU;

/// Seeded uniform numbers in 0..1 (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Knuth's method; the mean is small here.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.next(), 0.0);
        while product > limit {
            product *= self.next();
            count += 1.0;
        }
        count
    }
}

/// Waves as (cycles/px down, cycles/px right, phase, amplitude); mean brightness 1.
pub struct Scene {
    waves: Vec<[f64; 4]>,
}

impl Scene {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let wave = |_| {
            let (radius, angle) = (0.012 + 0.17 * random.next(), TAU * random.next());
            let phase = TAU * random.next();
            [radius * angle.sin(), radius * angle.cos(), phase, 0.04 / (0.3 + 10.0 * radius)]
        };
        Self { waves: (0..400).map(wave).collect() }
    }

    /// The scene with its content moved down by `dy` and right by `dx`.
    pub fn image(&self, height: usize, width: usize, [dy, dx]: [f64; 2]) -> Vec<f32> {
        let mut image = vec![1.0f32; height * width];
        for [fy, fx, phase, amplitude] in &self.waves {
            let across: Vec<_> = (0..width).map(|x| (TAU * fx * (x as f64 - dx)).sin_cos()).collect();
            for (y, row) in image.chunks_exact_mut(width).enumerate() {
                let (sin, cos) = (TAU * fy * (y as f64 - dy) + phase).sin_cos();
                for (v, (s, c)) in row.iter_mut().zip(&across) {
                    *v += (amplitude * (sin * c + cos * s)) as f32;
                }
            }
        }
        image.iter_mut().for_each(|v| *v = v.max(0.0));
        image
    }

    /// One exposure of 60 counts per photon.
    pub fn exposure(&self, side: usize, shift: [f64; 2], photons: f64, random: &mut Random) -> Vec<f32> {
        let image = self.image(side, side, shift);
        image.into_iter().map(|v| (60.0 * random.poisson(f64::from(v) * photons)) as f32).collect()
    }
}

/// Slow drift with one jump, at most 6 px.
pub fn motion(frames: usize, random: &mut Random) -> Vec<[f64; 2]> {
    let mut position = [0.0f64; 2];
    let step = |t: usize| {
        let jump = if t == frames / 2 { 4.0 } else { 0.0 };
        position = position.map(|p| (0.95 * p + jump + 1.6 * (random.next() - 0.5)).clamp(-6.0, 6.0));
        position
    };
    (0..frames).map(step).collect()
}
