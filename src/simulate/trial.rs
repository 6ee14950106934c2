//! One animal, and one recording of it: behaviour, pose, and two-photon frames on demand.
//!
//! Why it exists: the writer and the live source must produce the same frames from the same specification.
//! What it must never do: hold the movie; a frame is computed on request, whatever was requested before.

use super::behaviour::{self, Course, Doing, Habits};
use super::limbs::{Body, CHANNELS, Motion};
use super::neurons::{self, LEAD_FRAMES_MAX, Population};
use super::optics::{Scene, View};
use super::recipe::Recipe;
use super::spec::Spec;
use super::tissue::Canvas;

/// Everything individual about one animal.
#[derive(Clone, Debug, PartialEq)]
pub struct Animal {
    /// How it spends its time.
    pub habits: Habits,
    /// Its legs and its cameras.
    pub body: Body,
    /// Its axons.
    pub population: Population,
    /// How the microscope sees it.
    pub view: View,
}

impl Animal {
    /// The animal of this number under this seed.
    pub fn new(recipe: &Recipe, seed: u64, animal: u64) -> Self {
        let population = Population::of(&recipe.neurons, seed, animal);
        Self {
            habits: Habits::of(&recipe.behaviour, seed, animal),
            body: Body::of(&recipe.limbs, seed, animal),
            view: View::of(&recipe.optics, &population, seed, animal),
            population,
        }
    }
}

/// One recording.
pub struct Trial {
    animal: Animal,
    recipe: Recipe,
    keys: [u64; 3],
    /// Behaviour frames, and some after the end, because axons fire early.
    doings: Vec<Doing>,
    /// Two-photon frame of each behaviour frame.
    frame_at: Vec<usize>,
    scene: Scene,
    work: Canvas,
}

impl Trial {
    /// Simulates the animal for the duration of the recording.
    pub fn new(spec: &Spec) -> Self {
        let recipe = spec.recipe.clone();
        let keys = [spec.seed, spec.animal, spec.trial];
        let animal = Animal::new(&recipe, spec.seed, spec.animal);
        let frame_at = frame_at(spec.seconds, recipe.optics.rate_hz);
        let mut course = Course::new(&animal.habits, &recipe, keys);
        let doings: Vec<Doing> = (0..frame_at.len() + LEAD_FRAMES_MAX).map(|_| course.next()).collect();
        let activity = neurons::activity(&animal.population, &recipe.neurons, &doings, &frame_at, keys);
        let newest: Vec<Doing> = newest_of(&frame_at).map(|at| doings[at]).collect();
        let scene = Scene::new(&animal.view, &animal.population, &recipe.optics, activity, &newest, keys);
        let work = scene.work();
        Self { animal, recipe, keys, doings, frame_at, scene, work }
    }

    /// The animal.
    pub fn animal(&self) -> &Animal {
        &self.animal
    }

    /// Rows and columns of a frame, px.
    pub fn side_px(&self) -> usize {
        self.recipe.optics.side_px
    }

    /// Two-photon frames per second.
    pub fn rate_hz(&self) -> f64 {
        self.recipe.optics.rate_hz
    }

    /// Two-photon frames.
    pub fn frames(&self) -> usize {
        self.scene.frames()
    }

    /// Behaviour frames.
    pub fn behaviour_frames(&self) -> usize {
        self.frame_at.len()
    }

    /// For each behaviour frame the two-photon frame that was being scanned.
    pub fn indices(&self) -> &[usize] {
        &self.frame_at
    }

    /// Number of the action of each behaviour frame.
    pub fn actions(&self) -> Vec<u8> {
        self.doings[..self.frame_at.len()].iter().map(|doing| doing.action).collect()
    }

    /// Walking speed and turning of each behaviour frame.
    pub fn locomotion(&self) -> impl Iterator<Item = [f32; 2]> + '_ {
        self.doings[..self.frame_at.len()].iter().map(|doing| [doing.speed, doing.turn])
    }

    /// Number of the action of each two-photon frame: that of the newest behaviour frame of its scan.
    pub fn action_of_frame(&self) -> Vec<u8> {
        newest_of(&self.frame_at).map(|at| self.doings[at].action).collect()
    }

    /// Pose of every behaviour frame, [`CHANNELS`] values each, handed over frame by frame.
    ///
    /// # Errors
    /// Whatever `take` returns.
    pub fn pose<E>(&self, mut take: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let mut motion = Motion::new(&self.animal.body, &self.recipe.limbs, self.keys);
        let mut pose = [0.0; CHANNELS];
        for doing in &self.doings[..self.frame_at.len()] {
            motion.next(doing, &mut pose);
            take(&pose)?;
        }
        Ok(())
    }

    /// Counts of two-photon frame `frame`: green, then red; 2 × side × side values.
    ///
    /// # Panics
    /// When there is no such frame, or `into` has another size.
    pub fn expose(&mut self, frame: usize, into: &mut [u16]) {
        self.scene.expose(frame, &mut self.work, into);
    }

    /// How far the content of a two-photon frame has moved, [dy, dx] px; + is down and right.
    pub fn motion_px(&self, frame: usize) -> [f64; 2] {
        self.scene.motion_px(frame)
    }

    /// ΔF/F of every axon of the animal during one two-photon frame, before optics.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn activity(&self, frame: usize) -> &[f32] {
        self.scene.activity(frame)
    }

    /// Counts per photon of the green channel.
    pub(super) fn gain(&self) -> f64 {
        self.scene.gain()
    }

    /// Counts without light.
    pub(super) fn dark_level(&self) -> f64 {
        self.recipe.optics.dark_level
    }
}

/// Two-photon frame of each behaviour frame: the one that is being scanned at its time.
fn frame_at(seconds: f64, rate_hz: f64) -> Vec<usize> {
    // Times that fall on the start of a scan belong to it, whatever the rounding.
    let frames = (seconds * rate_hz + 1e-6).floor() as usize;
    let at = |step: usize| (step as f64 * rate_hz / behaviour::RATE_HZ + 1e-6).floor() as usize;
    (0..).map(at).take_while(|&frame| frame < frames).collect()
}

/// For each two-photon frame, the last behaviour frame that belongs to it. At rates above that of behaviour a frame may have
/// none of its own and gets the one before.
fn newest_of(frame_at: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let frames = frame_at.last().map_or(0, |last| last + 1);
    (0..frames).map(|frame| frame_at.partition_point(|&at| at <= frame).max(1) - 1)
}
