//! The embedding in a plane: that of training if the model's file holds one, else that of what was received.
//!
//! Why it exists: a person sees a point that moves, not 64 numbers; and whether it moves where training was. What it must never
//! do: show the one plane under the name of the other, or a plane of another model.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::sys::linalg::Projection;

/// Points of the trail, from which the plane is found when training gives none.
pub(crate) const TRAIL: usize = 600;
/// The first plane is found after so many points, then every so many.
const FIRST: usize = 20;
const REFRESH: usize = 150;
/// Rounds of subspace iteration; a picture needs no more digits.
const ROUNDS: usize = 30;

/// What training left in a model's file.
#[derive(Clone, Debug)]
pub(crate) struct Training {
    /// Of that file.
    pub(crate) sha256: String,
    /// Typical embeddings, each with the action that the model names for it.
    pub(crate) prototypes: Vec<(Vec<f32>, Option<usize>)>,
}

/// The plane in use and the way through it.
#[derive(Debug)]
pub(crate) struct Plane {
    training: Result<(Training, Projection), String>,
    /// The model whose embeddings these are.
    sha256: String,
    received: Option<Projection>,
    since_fit: usize,
    trail: VecDeque<(Vec<f32>, Option<usize>)>,
    /// Changes when everything must be drawn anew.
    pub(crate) version: u64,
}

impl Plane {
    pub(crate) fn new(training: Result<Training, String>) -> Self {
        let training = training.and_then(|training| {
            let basis = Projection::of(training.prototypes.iter().map(|(row, _)| row.as_slice()), ROUNDS, None);
            basis.map(|basis| (training, basis)).ok_or_else(|| "its training embedding is empty".to_owned())
        });
        Self { training, sha256: String::new(), received: None, since_fit: 0, trail: VecDeque::new(), version: 0 }
    }

    /// Takes the next embedding of the model `sha256`; another model starts over. Gives its place, once there is a plane.
    pub(crate) fn push(&mut self, values: &[f32], action: Option<usize>, sha256: &str) -> Option<[f32; 2]> {
        if !values.iter().all(|v| v.is_finite()) {
            return None;
        }
        let other = self.trail.back().is_some_and(|(last, _)| last.len() != values.len());
        if other || self.sha256 != sha256 {
            sha256.clone_into(&mut self.sha256);
            (self.received, self.since_fit) = (None, 0);
            self.trail.clear();
            self.version += 1;
        }
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back((values.to_vec(), action));
        self.since_fit += 1;
        let due = if self.received.is_none() { FIRST } else { REFRESH };
        if self.of_training().is_none() && self.since_fit >= due {
            self.since_fit = 0;
            let rows = self.trail.iter().map(|(row, _)| row.as_slice());
            self.received = Projection::of(rows, ROUNDS, self.received.as_ref());
            self.version += 1;
        }
        self.basis().map(|basis| basis.project(values))
    }

    /// The training embedding, if it is that of the model in use.
    fn of_training(&self) -> Option<&(Training, Projection)> {
        let fits = |(training, basis): &&(Training, Projection)| {
            let dimensions = self.trail.back().map_or(basis.dimensions(), |(row, _)| row.len());
            training.sha256 == self.sha256 && basis.dimensions() == dimensions
        };
        self.training.as_ref().ok().filter(fits)
    }

    fn basis(&self) -> Option<&Projection> {
        self.of_training().map(|(_, basis)| basis).or(self.received.as_ref())
    }

    /// Everything that is to be drawn, and what it is.
    pub(crate) fn to_json(&self) -> Value {
        let dot = |basis: &Projection, row: &[f32], action: Option<usize>| {
            let [x, y] = basis.project(row);
            json!([x, y, action])
        };
        let basis = self.basis();
        let draw = |(row, action): &(Vec<f32>, Option<usize>)| basis.map(|basis| dot(basis, row, *action));
        let training = self.of_training().map_or(&[][..], |(training, _)| &training.prototypes);
        let why = match &self.training {
            Err(why) => Some(why.as_str()),
            Ok(_) if self.of_training().is_none() && !self.sha256.is_empty() => Some("the daemon runs another model"),
            Ok(_) => None,
        };
        json!({
            "of": if self.of_training().is_some() { "training" } else { "received" },
            "why": why,
            "explained": basis.map(Projection::explained),
            "dots": training.iter().filter_map(draw).collect::<Vec<_>>(),
            "trail": self.trail.iter().filter_map(draw).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ellipse of half axes 3 and 1 along two known orthonormal directions of five dimensions, around an offset.
    fn ellipse(step: usize) -> Vec<f32> {
        let (a, b) = ([0.6, 0.8, 0.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.0, 0.8]);
        let angle = step as f32 * 0.37;
        (0..5).map(|i| 10.0 + 3.0 * angle.cos() * a[i] + angle.sin() * b[i]).collect()
    }

    fn training(sha256: &str) -> Training {
        Training { sha256: sha256.into(), prototypes: (0..50).map(|i| (ellipse(i), Some(i % 3))).collect() }
    }

    #[test]
    fn the_plane_of_training_is_used_for_the_model_it_belongs_to_and_no_other() {
        let mut plane = Plane::new(Ok(training("ab")));
        let place = plane.push(&ellipse(0), Some(1), "ab").unwrap();
        assert!((place[0].abs() - 3.0).abs() < 0.1, "at the end of the long axis: {place:?}");
        let drawn = plane.to_json();
        assert_eq!((&drawn["of"], drawn["dots"].as_array().unwrap().len()), (&"training".into(), 50));
        assert!(drawn["explained"].as_f64().unwrap() > 0.99 && drawn["why"].is_null());

        let before = plane.version;
        assert_eq!(plane.push(&ellipse(0), Some(1), "cd"), None, "another model has no plane yet");
        assert!(plane.version > before);
        for step in 0..FIRST {
            plane.push(&ellipse(step), None, "cd");
        }
        let drawn = plane.to_json();
        assert_eq!((&drawn["of"], &drawn["why"]), (&"received".into(), &"the daemon runs another model".into()));
        assert_eq!(drawn["trail"].as_array().unwrap().len(), FIRST + 1);
    }

    #[test]
    fn without_training_the_plane_is_that_of_what_was_received_and_the_reason_is_said() {
        let mut plane = Plane::new(Err("no model".into()));
        let places: Vec<_> = (0..2000).map(|i| plane.push(&ellipse(i), None, "ab")).collect();
        assert!(places[..FIRST - 1].iter().all(Option::is_none) && places[FIRST..].iter().all(Option::is_some));
        let widest = places[1000..].iter().flatten().map(|p| p[0].abs()).fold(0.0, f32::max);
        assert!((widest - 3.0).abs() < 0.1, "{widest}");
        let drawn = plane.to_json();
        assert_eq!((&drawn["why"], drawn["trail"].as_array().unwrap().len()), (&"no model".into(), TRAIL));
    }

    #[test]
    fn values_that_are_not_finite_and_points_that_do_not_move_do_no_harm() {
        let mut plane = Plane::new(Err(String::new()));
        assert_eq!(plane.push(&[f32::NAN, 0.0], None, "ab"), None);
        for _ in 0..300 {
            plane.push(&[1.0, 2.0, 3.0], None, "ab");
        }
        assert!(plane.push(&[1.0, 2.0, 3.0], None, "ab").unwrap().iter().all(|v| v.is_finite()));
        assert_eq!(plane.push(&[1.0, 2.0], None, "ab"), None, "other dimensions begin anew");
    }
}
