//! The six legs of a simulated fly in three dimensions, and the cameras that see them.
//!
//! Why it exists: behaviour is the other half of every training pair, and differences between bodies are a domain gap of their
//! own. What it must never do: know about neurons; both depend only on what the animal does.
//!
//! 30 joints: for each leg (left front, middle, hind, right front, middle, hind) the coxa, femur, tibia and tarsus by their upper
//! ends, and the claw. x is forward, y left, z up. A leg is a chain of four segments; a movement swings their angles. Lengths,
//! rest angles, the tripod and its 7 Hz were measured in the aligned pose of a walking fly (100 frames), the reach of the front
//! legs and their 7 to 9 Hz in that of a grooming one (6000 frames): NeLy-EPFL/sequential-inverse-kinematics, Apache-2.0. What
//! the hind legs do in grooming is by description only (Seeds et al. 2014, eLife 3:e02951).

use std::f64::consts::{PI, TAU};

use super::behaviour::{Doing, N, RATE_HZ};
use super::recipe;
use super::stream::Stream;
use crate::sys::random::{Random, Wander};

/// Legs, segments of a leg, joints of a leg.
const LEGS: usize = 6;
const SEGMENTS: usize = 4;
const JOINTS: usize = SEGMENTS + 1;
/// Values of one behaviour frame: joints × 3.
pub const CHANNELS: usize = LEGS * JOINTS * 3;

/// Origin of the coxa of the left front, middle and hind leg, mm.
const COXA: [[f64; 3]; 3] = [[0.35, 0.27, 0.4], [0.0, 0.125, 0.0], [-0.215, 0.087, -0.073]];
/// Lengths of the segments, mm.
const LENGTH: [[f64; SEGMENTS]; 3] =
    [[0.433, 0.721, 0.491, 0.763], [0.179, 0.756, 0.69, 0.705], [0.198, 0.812, 0.705, 0.835]];
/// Mean direction of each segment while standing and walking: yaw from forward to the left, rad.
const YAW: [[f64; SEGMENTS]; 3] = [[-2.63, 0.46, -0.08, 0.57], [0.64, 1.79, 0.22, 1.25], [2.33, 2.29, -2.68, 2.45]];
/// … and pitch above the horizontal, rad.
const PITCH: [[f64; SEGMENTS]; 3] =
    [[-1.29, 0.39, -1.27, -0.37], [-1.38, 0.5, -1.13, -0.38], [-1.34, 0.52, -1.5, -0.72]];

/// Transition time of a leg from one movement to another, s.
const BLEND_S: f64 = 0.06;
/// Size of small movements while standing, rad, and their time constant, s.
const SWAY: (f64, f64) = (0.015, 1.5);
/// Twitches of a resting leg: rate per second; size, rad; duration, s.
const TWITCH: (f64, f64, f64) = (0.15, 0.25, 0.12);
/// Mistracked joints: displacement, mm, and number of frames.
const LOST: (f64, f64) = (0.3, 8.0);

/// The movement of one leg in one action: offsets from the rest angles, and the swing around them.
#[derive(Clone, Copy)]
struct Move {
    yaw: f64,
    pitch: [f64; SEGMENTS],
    yaw_swing: f64,
    pitch_swing: [f64; SEGMENTS],
    /// Of the left leg; the right one is `apart` later. In turns.
    phase: f64,
    apart: f64,
}

const STILL: Move = Move { yaw: 0.0, pitch: [0.0; 4], yaw_swing: 0.0, pitch_swing: [0.0; 4], phase: 0.0, apart: 0.0 };

/// A step: back and forth in yaw, the tibia lifts in the swing.
const fn step(phase: f64, reach: f64) -> Move {
    Move { yaw_swing: reach, pitch_swing: [0.0, 0.12, 0.3, 0.15], phase, apart: 0.5, ..STILL }
}

/// For each action its frequency, Hz, and what front, middle and hind legs do.
const MOVES: [(f64, [Move; 3]); N] = [
    (0.0, [STILL; 3]),
    // Tripod: left front and hind with right middle, then the other three.
    (7.0, [step(0.0, 0.32), step(0.5, 0.3), step(0.0, 0.26)]),
    // Both front legs stretched forward and rubbed against each other.
    (
        8.0,
        [
            Move {
                yaw: -0.45,
                pitch: [0.15, 0.1, 0.75, 0.3],
                yaw_swing: 0.08,
                pitch_swing: [0.05, 0.15, 0.2, 0.25],
                apart: 0.5,
                ..STILL
            },
            STILL,
            STILL,
        ],
    ),
    // Front legs lifted to the antennae, both pulled down together.
    (
        5.0,
        [
            Move {
                yaw: -0.3,
                pitch: [0.2, 0.35, 1.35, 0.85],
                yaw_swing: 0.06,
                pitch_swing: [0.08, 0.2, 0.35, 0.3],
                ..STILL
            },
            STILL,
            STILL,
        ],
    ),
    // Front legs lifted to the eyes, sweeping sideways, more one after the other than together.
    (
        4.2,
        [
            Move {
                yaw: -0.05,
                pitch: [0.2, 0.5, 1.15, 0.75],
                yaw_swing: 0.25,
                pitch_swing: [0.05, 0.2, 0.25, 0.2],
                apart: 0.35,
                ..STILL
            },
            STILL,
            STILL,
        ],
    ),
    // Hind legs on the abdomen, sweeping along it.
    (
        5.5,
        [
            STILL,
            STILL,
            Move {
                yaw: 0.3,
                pitch: [0.1, 0.35, 0.85, 0.6],
                yaw_swing: 0.15,
                pitch_swing: [0.05, 0.15, 0.3, 0.3],
                apart: 0.15,
                ..STILL
            },
        ],
    ),
    // Hind legs stretched back and rubbed against each other.
    (
        8.0,
        [
            STILL,
            STILL,
            Move {
                yaw: 0.5,
                pitch: [0.05, -0.1, 0.75, 0.3],
                yaw_swing: 0.08,
                pitch_swing: [0.05, 0.12, 0.2, 0.25],
                apart: 0.5,
                ..STILL
            },
        ],
    ),
];

/// The body of one animal, and its cameras.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Lengths of the segments of each leg, mm.
    pub length_mm: [[f64; SEGMENTS]; LEGS],
    /// Factor on the frequency of each action.
    pub frequency: [f64; N],
    /// Added to the rest angles: yaw of the leg, then the pitch of each segment, rad.
    pub posture_rad: [[f64; SEGMENTS + 1]; LEGS],
    /// Factor on the swing of each action.
    pub style: [f64; N],
    /// Rotation of the camera frame about x, y, z, rad.
    pub camera_rotation_rad: [f64; 3],
    /// Offset of the camera frame, mm.
    pub camera_offset_mm: [f64; 3],
    /// Scale of the camera frame.
    pub camera_scale: f64,
    /// Noise of a joint, mm.
    pub camera_noise_mm: f64,
}

impl Body {
    pub(super) fn of(recipe: &recipe::Limbs, seed: u64, animal: u64) -> Self {
        let random = |stream| Random::new(stream, &[seed, animal]);
        let (mut length, mut frequency, mut posture) =
            (random(Stream::LimbLength), random(Stream::Frequency), random(Stream::Posture));
        let (mut style, mut place, mut noise) =
            (random(Stream::Style), random(Stream::CameraPlace), random(Stream::CameraNoise));
        let whole = length.factor(recipe.length_sd);
        let mut segment = |leg: usize, s: usize| LENGTH[leg % 3][s] * whole * length.factor(0.5 * recipe.length_sd);
        Self {
            length_mm: std::array::from_fn(|leg| std::array::from_fn(|s| segment(leg, s))),
            frequency: std::array::from_fn(|_| frequency.factor(recipe.frequency_sd)),
            posture_rad: std::array::from_fn(|_| std::array::from_fn(|_| recipe.posture_rad_sd * posture.normal())),
            style: std::array::from_fn(|_| style.factor(recipe.style_sd)),
            camera_rotation_rad: std::array::from_fn(|_| recipe.camera_rotation_deg_sd.to_radians() * place.normal()),
            camera_offset_mm: std::array::from_fn(|_| recipe.camera_offset_mm_sd * place.normal()),
            camera_scale: place.factor(recipe.camera_scale_sd),
            camera_noise_mm: recipe.camera_noise_mm * noise.factor(recipe.camera_noise_sd),
        }
    }

    /// A point of the body as the cameras see it.
    fn seen(&self, point: [f64; 3]) -> [f64; 3] {
        let mut p = point;
        for (axis, angle) in self.camera_rotation_rad.iter().enumerate() {
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            let (sin, cos) = angle.sin_cos();
            (p[a], p[b]) = (cos * p[a] - sin * p[b], sin * p[a] + cos * p[b]);
        }
        std::array::from_fn(|axis| self.camera_scale * p[axis] + self.camera_offset_mm[axis])
    }
}

/// Computes the pose of one trial, frame by frame.
pub(super) struct Motion<'a> {
    body: &'a Body,
    jumps_hz: f64,
    movement: Random,
    tracking: Random,
    /// Weight of each action's movement, 0 to 1, and its phase, turns.
    blend: [f64; N],
    phase: [f64; N],
    tempo: Wander,
    sway: Vec<Wander>,
    /// The leg that twitches, its remaining time, and its size, rad.
    twitch: (usize, f64, f64),
    /// The mistracked joint, for how many frames, and its displacement.
    lost: (usize, f64, [f64; 3]),
}

impl<'a> Motion<'a> {
    pub(super) fn new(body: &'a Body, recipe: &recipe::Limbs, keys: [u64; 3]) -> Self {
        let mut movement = Random::new(Stream::Movement, &keys);
        let tempo = Wander::new(0.7 * RATE_HZ, &mut movement);
        let sway = (0..LEGS * 2).map(|_| Wander::new(SWAY.1 * RATE_HZ, &mut movement)).collect();
        Self {
            body,
            jumps_hz: recipe.camera_jumps_hz,
            movement,
            tracking: Random::new(Stream::Tracking, &keys),
            blend: [0.0; N],
            phase: [0.0; N],
            tempo,
            sway,
            twitch: (0, 0.0, 0.0),
            lost: (0, 0.0, [0.0; 3]),
        }
    }

    /// The pose of the next behaviour frame, [`CHANNELS`] values.
    pub(super) fn next(&mut self, doing: &Doing, into: &mut [f32]) {
        self.advance(doing);
        for leg in 0..LEGS {
            let joints = self.leg(leg, doing);
            for (joint, point) in joints.into_iter().enumerate() {
                let seen = self.body.seen(point);
                let at = (leg * JOINTS + joint) * 3;
                for axis in 0..3 {
                    let noise = self.body.camera_noise_mm * self.tracking.normal();
                    into[at + axis] = (seen[axis] + noise) as f32;
                }
            }
        }
        self.lose_a_joint(into);
    }

    fn advance(&mut self, doing: &Doing) {
        let tempo = (0.08 * self.tempo.next(&mut self.movement)).exp();
        for (action, (hz, _)) in MOVES.iter().enumerate() {
            let on = f64::from(u8::from(usize::from(doing.action) == action));
            self.blend[action] += (on - self.blend[action]) / (BLEND_S * RATE_HZ);
            let speed = if action == 1 { 0.6 + 0.4 * f64::from(doing.speed) } else { 1.0 };
            self.phase[action] += hz * self.body.frequency[action] * tempo * speed / RATE_HZ;
        }
        let (rate_hz, size, length_s) = TWITCH;
        self.twitch.1 -= 1.0;
        if self.movement.uniform() < rate_hz / RATE_HZ && doing.action == 0 {
            let leg = (self.movement.uniform() * LEGS as f64) as usize;
            self.twitch = (leg.min(LEGS - 1), length_s * RATE_HZ, size * self.movement.normal());
        }
    }

    /// Joints of one leg in the body's frame.
    fn leg(&mut self, leg: usize, doing: &Doing) -> [[f64; 3]; JOINTS] {
        let (pair, right) = (leg % 3, leg >= 3);
        let posture = self.body.posture_rad[leg];
        let [sway, lift] = [0, 1].map(|i| SWAY.0 * self.sway[leg * 2 + i].next(&mut self.movement));
        let (twitching, left, size) = self.twitch;
        let jerk = if twitching == leg && left > 0.0 { size * (PI * left / (TWITCH.2 * RATE_HZ)).sin() } else { 0.0 };
        let mut yaw = posture[0] + sway;
        let mut pitch: [f64; SEGMENTS] = std::array::from_fn(|s| posture[s + 1] + lift);
        pitch[2] += jerk;
        for (action, (_, moves)) in MOVES.iter().enumerate() {
            let (blend, m) = (self.blend[action], &moves[pair]);
            let turn = self.phase[action] + m.phase + if right { m.apart } else { 0.0 };
            let (sin, cos) = (TAU * turn).sin_cos();
            let width = blend * self.body.style[action];
            // The outer legs of a turn take longer steps.
            let side = if right { 1.0 } else { -1.0 };
            let reach = if action == 1 { 1.0 + 0.2 * side * f64::from(doing.turn) } else { 1.0 };
            yaw += blend * m.yaw + width * reach * m.yaw_swing * cos;
            for (angle, (offset, swing)) in pitch.iter_mut().zip(m.pitch.iter().zip(&m.pitch_swing)) {
                // Lifted in one half of the cycle only, as in a step.
                *angle += blend * offset + width * swing * sin.max(-0.3);
            }
        }
        self.chain(leg, yaw, &pitch)
    }

    fn chain(&self, leg: usize, yaw: f64, pitch: &[f64; SEGMENTS]) -> [[f64; 3]; JOINTS] {
        let (pair, mirror) = (leg % 3, if leg >= 3 { -1.0 } else { 1.0 });
        let mut point = COXA[pair];
        let mut joints = [point; JOINTS];
        for s in 0..SEGMENTS {
            let (sy, cy) = (YAW[pair][s] + if s == 0 { 0.3 * yaw } else { yaw }).sin_cos();
            let (sp, cp) = (PITCH[pair][s] + pitch[s]).sin_cos();
            let length = self.body.length_mm[leg][s];
            point = [point[0] + length * cp * cy, point[1] + length * cp * sy, point[2] + length * sp];
            joints[s + 1] = point;
        }
        joints.map(|[x, y, z]| [x, mirror * y, z])
    }

    fn lose_a_joint(&mut self, into: &mut [f32]) {
        self.lost.1 -= 1.0;
        if self.tracking.uniform() < self.jumps_hz / RATE_HZ {
            let joint = (self.tracking.uniform() * (LEGS * JOINTS) as f64) as usize;
            let away = std::array::from_fn(|_| LOST.0 * self.tracking.normal());
            self.lost = (joint.min(LEGS * JOINTS - 1), 2.0 + LOST.1 * self.tracking.uniform(), away);
        }
        let (joint, left, away) = self.lost;
        if left > 0.0 {
            (0..3).for_each(|axis| into[joint * 3 + axis] += away[axis] as f32);
        }
    }
}
