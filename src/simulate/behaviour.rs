//! The behaviour of a simulated fly: bouts of seven actions, and slowly changing arousal.
//!
//! Why it exists: flies rest half of the time and a bout of grooming lasts half a second; a decoder trained on balanced classes
//! has not seen flies. What it must never do: depend on the length of the recording: a longer one begins the same.
//!
//! The constants of the species were counted in the frame-by-frame annotation of seven tethered flies (155,242 frames at 100
//! frames/s, 638 bouts): NeLy-EPFL/DN_population_analysis, MIT licence; Aymanns et al. 2022, eLife 11:e81527.

use super::recipe;
use super::stream::Stream;
use crate::sys::random::{Random, Wander};

/// Behaviour frames per second.
pub const RATE_HZ: f64 = 100.0;
/// Number of actions.
pub const N: usize = 7;
/// Names of the actions; an action's number is its index here.
pub const ACTIONS: [&str; N] = [
    "resting",
    "walking",
    "foreleg_grooming",
    "antennal_grooming",
    "eye_grooming",
    "abdominal_grooming",
    "hindleg_grooming",
];
/// Number of `resting`.
pub const RESTING: u8 = 0;
/// Number of `walking`.
pub const WALKING: u8 = 1;

/// Share of time of each action, all annotated frames together.
pub const BALANCE: [f64; N] = [0.5621, 0.3254, 0.0346, 0.0224, 0.0261, 0.0199, 0.0096];
/// Mean and sd of the logarithm of the lengths of bouts, s.
const LENGTH_LOG: [[f64; 2]; N] = [
    [0.602, 1.447],
    [0.369, 0.994],
    [-0.643, 0.922],
    [-0.935, 1.005],
    [-0.686, 0.924],
    [-1.141, 1.075],
    [-1.233, 1.095],
];
/// Counts: after an action (row), which other came next within 3 s (column). Two bouts of one action separated by an unlabelled
/// pause are left out. 1 is added everywhere: what was never seen in 26 minutes is rare, not impossible.
const FOLLOWS: [[f64; N]; N] = [
    [0.0, 120.0, 3.0, 0.0, 4.0, 3.0, 0.0],
    [98.0, 0.0, 13.0, 4.0, 10.0, 11.0, 2.0],
    [18.0, 5.0, 0.0, 19.0, 12.0, 0.0, 0.0],
    [3.0, 3.0, 16.0, 0.0, 21.0, 0.0, 0.0],
    [3.0, 1.0, 24.0, 17.0, 0.0, 0.0, 0.0],
    [3.0, 6.0, 1.0, 0.0, 0.0, 0.0, 20.0],
    [2.0, 4.0, 2.0, 0.0, 0.0, 14.0, 0.0],
];
/// Shortest and longest bout, s. The longest annotated rest is 122 s; here it is cut, so that a trial is more than one bout.
const BOUT_S: [f64; 2] = [0.06, 60.0];
/// Grooming differs between animals by this much more than resting and walking do.
const GROOMING_DIFFERS: f64 = 1.6;
/// No action can be more than this share of the bouts, since none follows itself.
const SHARE_OF_BOUTS_MAX: f64 = 0.46;

/// How one animal spends its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Habits {
    /// Expected share of time of each action.
    pub balance: [f64; N],
    /// Mean and sd of the logarithm of bout lengths, s.
    pub length_log: [[f64; 2]; N],
    /// Chance of the next action (column) after each (row).
    pub next: [[f64; N]; N],
}

impl Habits {
    pub(super) fn of(recipe: &recipe::Behaviour, seed: u64, animal: u64) -> Self {
        let mut random = Random::new(Stream::Balance, &[seed, animal]);
        let mut balance: [f64; N] = std::array::from_fn(|action| {
            let more = if action > usize::from(WALKING) { GROOMING_DIFFERS } else { 1.0 };
            BALANCE[action] * random.factor(recipe.balance_sd * more)
        });
        normalise(&mut balance);
        let mut random = Random::new(Stream::BoutLength, &[seed, animal]);
        let length_log = std::array::from_fn(|action| {
            let [mean, sd] = LENGTH_LOG[action];
            // An animal that rests more rests both longer and more often.
            let longer = 0.5 * (balance[action] / BALANCE[action]).ln();
            [mean + longer + recipe.bout_length_sd * random.normal(), sd]
        });
        let next = transitions(&balance, &length_log);
        Self { balance, length_log, next }
    }
}

/// Probabilities of the next action that give these shares: the counted ones, with each column weighted until the shares fit.
fn transitions(balance: &[f64; N], length_log: &[[f64; 2]; N]) -> [[f64; N]; N] {
    let mut wanted: [f64; N] = std::array::from_fn(|a| balance[a] / mean_length(length_log[a]));
    for _ in 0..20 {
        normalise(&mut wanted);
        wanted.iter_mut().for_each(|share| *share = share.min(SHARE_OF_BOUTS_MAX));
    }
    normalise(&mut wanted);
    let mut next: [[f64; N]; N] =
        std::array::from_fn(|from| std::array::from_fn(|to| if from == to { 0.0 } else { FOLLOWS[from][to] + 1.0 }));
    let mut visits = [1.0 / N as f64; N];
    for _ in 0..300 {
        next.iter_mut().for_each(normalise);
        for _ in 0..30 {
            // Half a step: a chain that alternates between two actions would never converge.
            visits = std::array::from_fn(|to| {
                0.5 * visits[to] + 0.5 * (0..N).map(|from| visits[from] * next[from][to]).sum::<f64>()
            });
        }
        for row in &mut next {
            (0..N).for_each(|to| row[to] *= (wanted[to] / visits[to]).powf(0.7));
        }
    }
    next.iter_mut().for_each(normalise);
    next
}

/// Mean of the log-normal lengths within their bounds, s.
fn mean_length([mean, sd]: [f64; 2]) -> f64 {
    let steps = (-40..=40).map(|step| f64::from(step) / 10.0);
    let (sum, weight) = steps.fold((0.0, 0.0), |(sum, weight), z| {
        let w = (-z * z / 2.0).exp();
        (sum + w * (mean + sd * z).exp().clamp(BOUT_S[0], BOUT_S[1]), weight + w)
    });
    sum / weight
}

fn normalise(values: &mut [f64; N]) {
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
}

/// What the animal does in one behaviour frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doing {
    /// Number of the action.
    pub action: u8,
    /// Seconds since the bout began.
    pub since_s: f32,
    /// Strength of this bout, around 1.
    pub vigour: f32,
    /// Walking speed, 0 to about 2; 0 when not walking.
    pub speed: f32,
    /// Turning while walking, sd 1, + is left; 0 when not walking.
    pub turn: f32,
    /// Slow arousal, sd about 1.
    pub arousal: f32,
}

/// Draws the behaviour of one trial, frame by frame.
pub(super) struct Course<'a> {
    habits: &'a Habits,
    absence_frames_max: Option<u64>,
    bout_sd: f64,
    bouts: Random,
    slow: Random,
    walk: [Wander; 2],
    arousal: Wander,
    effort: f64,
    speed: f64,
    action: usize,
    vigour: f64,
    /// Frames since the bout began and until it ends.
    since: u64,
    left: u64,
    frame: u64,
    /// Frame at which each action was last seen.
    seen: [u64; N],
}

impl<'a> Course<'a> {
    pub(super) fn new(habits: &'a Habits, recipe: &recipe::Recipe, keys: [u64; 3]) -> Self {
        let mut slow = Random::new(Stream::Course, &keys);
        let absence = recipe.behaviour.absence_s_max;
        let wander = |s: f64, random: &mut Random| Wander::new(s * RATE_HZ, random);
        let walk = [wander(0.8, &mut slow), wander(0.6, &mut slow)];
        let arousal = wander(15.0, &mut slow);
        let mut course = Self {
            habits,
            absence_frames_max: (absence > 0.0).then_some((absence * RATE_HZ) as u64),
            bout_sd: recipe.neurons.bout_sd,
            bouts: Random::new(Stream::Bouts, &keys),
            slow,
            walk,
            arousal,
            effort: 0.0,
            speed: 0.0,
            action: 0,
            vigour: 1.0,
            since: 0,
            left: 0,
            frame: 0,
            seen: [0; N],
        };
        course.action = course.bouts.choice(&habits.balance);
        course.begin();
        course
    }

    fn begin(&mut self) {
        let [mean, sd] = self.habits.length_log[self.action];
        let length_s = (mean + sd * self.bouts.normal()).exp().clamp(BOUT_S[0], BOUT_S[1]);
        self.left = ((length_s * RATE_HZ).round() as u64).max(1);
        self.vigour = self.bouts.factor(self.bout_sd);
        self.since = 0;
    }

    /// The next action: random, unless one has not occurred for too long.
    fn turn_to_next(&mut self) {
        let chance = self.bouts.choice(&self.habits.next[self.action]);
        let overdue = self.absence_frames_max.and_then(|most| {
            let away = (0..N).filter(|&a| a != self.action && self.frame - self.seen[a] > most);
            away.min_by_key(|&a| self.seen[a])
        });
        self.action = overdue.unwrap_or(chance);
        self.begin();
    }

    pub(super) fn next(&mut self) -> Doing {
        if self.left == 0 {
            self.turn_to_next();
        }
        let walking = self.action == usize::from(WALKING);
        let [fast, turn] = [0, 1].map(|i| self.walk[i].next(&mut self.slow));
        let wanted = if walking { (0.4 * fast).exp() } else { 0.0 };
        self.speed += (wanted - self.speed) * 0.1;
        let moving = f64::from(u8::from(self.action != usize::from(RESTING)));
        self.effort += (moving - self.effort) / (5.0 * RATE_HZ);
        let doing = Doing {
            action: self.action as u8,
            since_s: (self.since as f64 / RATE_HZ) as f32,
            vigour: self.vigour as f32,
            speed: self.speed as f32,
            turn: if walking { turn as f32 } else { 0.0 },
            arousal: (0.8 * self.arousal.next(&mut self.slow) + 1.2 * self.effort - 0.5) as f32,
        };
        self.seen[self.action] = self.frame;
        self.frame += 1;
        self.since += 1;
        self.left -= 1;
        doing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::recipe::Recipe;

    fn run(recipe: &Recipe, animal: u64, frames: usize) -> Vec<Doing> {
        let habits = Habits::of(&recipe.behaviour, 3, animal);
        let mut course = Course::new(&habits, recipe, [3, animal, 1]);
        (0..frames).map(|_| course.next()).collect()
    }

    fn alike() -> Recipe {
        let mut recipe = Recipe::default();
        recipe.behaviour.balance_sd = 0.0;
        recipe.behaviour.bout_length_sd = 0.0;
        recipe.behaviour.absence_s_max = 0.0;
        recipe
    }

    #[test]
    fn animals_without_differences_have_the_balance_and_the_bouts_of_the_annotated_flies() {
        let doings = run(&alike(), 1, 6_000_000);
        let mut shares = [0.0; N];
        doings.iter().for_each(|d| shares[usize::from(d.action)] += 1.0 / doings.len() as f64);
        // Mean bout lengths as annotated, s; rest is cut at 60 s.
        let lengths = [4.6, 2.3, 0.78, 0.65, 0.75, 0.57, 0.53];
        for action in 0..N {
            let bouts = doings.windows(2).filter(|w| w[0].action != w[1].action && w[0].action == action as u8).count();
            let length = shares[action] * doings.len() as f64 / RATE_HZ / bouts as f64;
            let share = shares[action];
            assert!((share / BALANCE[action] - 1.0).abs() < 0.12, "{}: {share}", ACTIONS[action]);
            assert!((length / lengths[action] - 1.0).abs() < 0.15, "{}: {length} s", ACTIONS[action]);
        }
    }

    #[test]
    fn animals_differ_in_balance_as_the_annotated_flies_do() {
        let rest: Vec<f64> =
            (1..=200).map(|animal| Habits::of(&Recipe::default().behaviour, 1, animal).balance[0]).collect();
        let within = |low: f64, high: f64| rest.iter().filter(|&&r| r > low && r < high).count();
        assert!(within(0.3, 0.85) > 180 && within(0.45, 0.65) < 120, "{rest:?}");
    }

    #[test]
    fn no_action_stays_away_from_a_trial_of_four_minutes() {
        for animal in 1..=12 {
            let doings = run(&Recipe::default(), animal, 24_000);
            for (action, name) in ACTIONS.iter().enumerate() {
                let starts = doings.iter().filter(|d| usize::from(d.action) == action && d.since_s == 0.0).count();
                assert!(starts >= 1, "animal {animal} has no {name}");
            }
        }
    }

    #[test]
    fn a_longer_recording_begins_as_a_shorter_one() {
        let recipe = Recipe::default();
        assert_eq!(run(&recipe, 2, 5000), run(&recipe, 2, 9000)[..5000]);
    }
}
