//! Scores decodes against what the animal actually did: running accuracy and balanced accuracy.
//!
//! Why it exists: with a simulated fly, or with a labelled recording being played, it measures the running daemon itself.
//! What it must never do: count a decode of a quality other than `ok`, or one without a known truth.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::frame::Quality;
use crate::model::labels::{Labels, LabelsError};
use crate::simulate::{self, RecipeError, Spec};
use crate::wire::subscriber::DecodeMessage;

/// The true action of each frame of the microscope, by its number.
pub struct Truth(Box<dyn Fn(u64) -> Option<String> + Send + Sync>);

impl std::fmt::Debug for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Truth")
    }
}

impl Truth {
    /// A truth that is a function of the frame's number.
    pub fn new(of: impl Fn(u64) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(of))
    }

    /// The action of a frame.
    pub fn of(&self, frame: u64) -> Option<String> {
        (self.0)(frame)
    }
}

/// The truth that `--truth` names: a CSV file with the columns `frame,label`, or a simulated recording.
///
/// # Errors
/// [`LabelsError`] when it cannot be read.
pub fn truth_of(spec: &str) -> Result<Truth, LabelsError> {
    if simulate::is_simulated(Path::new(spec)) {
        return simulated(spec);
    }
    let at = Labels::read(Path::new(spec))?.texts_by_frame()?;
    Ok(Truth::new(move |frame| at.get(&frame).cloned()))
}

/// The truth of the simulated recording that `play` plays for the same specification, which includes its length. `play --loop`
/// keeps counting frames from one round to the next: frame n is frame n mod length of the recording.
fn simulated(spec: &str) -> Result<Truth, LabelsError> {
    let spec: Spec = spec.parse().map_err(|e: RecipeError| LabelsError { path: spec.into(), cause: e.to_string() })?;
    let simulate::Truth { labels, action_of_frame } = simulate::truth(&spec);
    Ok(Truth::new(move |frame| {
        let at = frame.checked_rem(action_of_frame.len() as u64)?;
        labels.get(usize::from(*action_of_frame.get(at as usize)?)).cloned()
    }))
}

/// How well one true action was decoded.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ActionScore {
    /// The true action.
    pub action: String,
    /// Frames with this action.
    pub frames: u64,
    /// Share of them decoded as this action.
    pub recall: f64,
}

/// What the most probable action of each decode is worth beside the published one, which `[decision.action]` may hold longer.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct MostProbable {
    /// Share of the same frames that match.
    pub accuracy: f64,
    /// Changes from one of these frames to the next: published, most probable, true.
    pub changes: [u64; 3],
}

/// How well the decodes match the truth.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TruthReport {
    /// Decodes of quality `ok` of frames whose action is known.
    pub frames: u64,
    /// Share of them that match; `None` without any.
    pub accuracy: Option<f64>,
    /// Mean recall over the true actions that occurred; `None` without any.
    pub balanced_accuracy: Option<f64>,
    /// Each true action that occurred.
    pub actions: Vec<ActionScore>,
    /// Of the most probable action, if that was not always the published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_probable: Option<MostProbable>,
}

/// Running counts.
#[derive(Debug, Default)]
pub(super) struct Score {
    /// For each true action, frames and hits.
    of: BTreeMap<String, (u64, u64)>,
    /// Frames whose most probable action is known, those of them where it is the true one, and where it is not the published one.
    most_probable: [u64; 3],
    /// Published, most probable and true action of the frame before, and how often each changed.
    before: Option<[String; 3]>,
    changes: [u64; 3],
}

impl Score {
    /// `labels`: the model's actions in the order of `probs`, as far as they are known.
    pub(super) fn count(&mut self, decode: &DecodeMessage, truth: Option<&str>, labels: &[String]) {
        let (Quality::Ok, Some(action), Some(truth)) = (decode.quality, decode.action.as_deref(), truth) else {
            return;
        };
        let (frames, hits) = self.of.entry(truth.to_owned()).or_default();
        *frames += 1;
        *hits += u64::from(action == truth);
        let probabilities = decode.probs.iter().enumerate().filter_map(|(id, p)| Some((id, (*p)?)));
        let most = probabilities.max_by(|(_, a), (_, b)| a.total_cmp(b)).and_then(|(id, _)| labels.get(id));
        let Some(most) = most else { return };
        let [known, right, other] = &mut self.most_probable;
        *known += 1;
        *right += u64::from(most == truth);
        *other += u64::from(most != action);
        let now = [action, most, truth].map(str::to_owned);
        if let Some(before) = &self.before {
            let changed = self.changes.iter_mut().zip(before.iter().zip(&now));
            changed.for_each(|(count, (before, now))| *count += u64::from(before != now));
        }
        self.before = Some(now);
    }

    /// Accuracy and balanced accuracy so far.
    pub(super) fn accuracies(&self) -> Option<(f64, f64)> {
        let frames: u64 = self.of.values().map(|(frames, _)| frames).sum();
        let hits: u64 = self.of.values().map(|(_, hits)| hits).sum();
        let recalls: f64 = self.of.values().map(|(frames, hits)| *hits as f64 / *frames as f64).sum();
        (frames > 0).then(|| (hits as f64 / frames as f64, recalls / self.of.len() as f64))
    }

    pub(super) fn report(&self) -> TruthReport {
        let accuracies = self.accuracies();
        let [known, right, other] = self.most_probable;
        let score = |(action, (frames, hits)): (&String, &(u64, u64))| ActionScore {
            action: action.clone(),
            frames: *frames,
            recall: *hits as f64 / *frames as f64,
        };
        TruthReport {
            frames: self.of.values().map(|(frames, _)| frames).sum(),
            accuracy: accuracies.map(|(accuracy, _)| accuracy),
            balanced_accuracy: accuracies.map(|(_, balanced)| balanced),
            actions: self.of.iter().map(score).collect(),
            most_probable: (other > 0)
                .then(|| MostProbable { accuracy: right as f64 / known as f64, changes: self.changes }),
        }
    }
}

impl TruthReport {
    pub(super) fn write(&self, seconds: f64, out: &mut dyn Write) -> io::Result<()> {
        let (Some(accuracy), Some(balanced)) = (self.accuracy, self.balanced_accuracy) else {
            return writeln!(out, "truth      no decode of quality ok had both an action and a known truth");
        };
        writeln!(
            out,
            "truth      accuracy {:.1} %, balanced {:.1} % over {} decodes of quality ok",
            accuracy * 100.0,
            balanced * 100.0,
            self.frames
        )?;
        if let Some(MostProbable { accuracy: raw, changes }) = self.most_probable {
            let [published, most, truth] = changes.map(|changes| changes as f64 / seconds.max(1e-9));
            writeln!(
                out,
                "           of the published action; of the most probable one, frame by frame, {:.1} %\n           \
                 changes per second: published {published:.2}, most probable {most:.2}, true {truth:.2}",
                raw * 100.0
            )?;
        }
        self.actions.iter().try_for_each(|a| {
            writeln!(out, "           {:<20} {:>6.1} % of {:>6} frames", a.action, a.recall * 100.0, a.frames)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(quality: &str, action: &str) -> DecodeMessage {
        let json = serde_json::json!({"seq": 0, "shape": [0], "t_pub_ns": 1, "quality": quality, "action": action});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn accuracy_is_over_frames_and_balanced_accuracy_over_actions() {
        let mut score = Score::default();
        assert_eq!(score.accuracies(), None);
        (0..9).for_each(|_| score.count(&decode("ok", "rest"), Some("rest"), &[]));
        score.count(&decode("ok", "rest"), Some("walk"), &[]);
        assert_eq!(score.accuracies(), Some((0.9, 0.5)));
        // Decodes that are not `ok`, and frames without a label, do not count.
        for quality in ["warmup", "degraded", "stale", "fail"] {
            score.count(&decode(quality, "walk"), Some("rest"), &[]);
        }
        score.count(&decode("ok", "walk"), None, &[]);
        let report = score.report();
        assert_eq!((report.frames, report.accuracy, report.balanced_accuracy), (10, Some(0.9), Some(0.5)));
        assert_eq!(report.actions[1], ActionScore { action: "walk".into(), frames: 1, recall: 0.0 });
    }

    #[test]
    fn a_steadier_action_is_scored_beside_the_most_probable_one() {
        let labels = ["rest", "walk"].map(str::to_owned);
        let decode = |action: &str, p: f32| {
            let json = serde_json::json!({"seq": 0, "shape": [0], "t_pub_ns": 1, "quality": "ok", "action": action, "probs": [1.0 - p, p]});
            serde_json::from_value(json).unwrap()
        };
        let mut score = Score::default();
        score.count(&decode("walk", 0.9), Some("walk"), &labels);
        assert_eq!(score.report().most_probable, None, "both say the same");
        score.count(&decode("walk", 0.4), Some("walk"), &labels);
        score.count(&decode("walk", 0.7), Some("walk"), &labels);
        score.count(&decode("walk", 0.2), Some("rest"), &labels);
        let report = score.report();
        let beside = MostProbable { accuracy: 0.75, changes: [0, 3, 1] };
        assert_eq!((report.accuracy, report.most_probable), (Some(0.75), Some(beside)));
        let mut text = Vec::new();
        report.write(2.0, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("frame by frame, 75.0 %"), "{text}");
        assert!(text.contains("published 0.00, most probable 1.50, true 0.50"), "{text}");
    }

    #[test]
    fn a_file_is_looked_up_by_frame_and_a_missing_one_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "frame,label\n7,walk\n").unwrap();
        let truth = truth_of(file.path().to_str().unwrap()).unwrap();
        assert_eq!((truth.of(7).as_deref(), truth.of(8)), (Some("walk"), None));
        assert!(truth_of("/nowhere/truth.csv").unwrap_err().to_string().contains("/nowhere/truth.csv"));
    }

    #[test]
    fn a_simulated_fly_is_known_by_its_word_and_again_in_every_round_of_a_loop() {
        let word = "sim:seed=7,animal=9,trial=1,seconds=20";
        let known = simulate::truth(&word.parse().unwrap());
        let truth = truth_of(word).unwrap();
        let frames = known.action_of_frame.len() as u64;
        assert_eq!(frames, 320, "20 s at 16 Hz");
        for frame in [0, 1, 150, frames - 1] {
            let action = &known.labels[usize::from(known.action_of_frame[frame as usize])];
            assert_eq!(truth.of(frame).as_ref(), Some(action));
            assert_eq!(truth.of(frame + 3 * frames).as_ref(), Some(action));
        }
        let error = truth_of("sim:sead=7").unwrap_err().to_string();
        assert!(error.contains("sim:sead=7") && error.contains("did you mean `seed`"), "{error}");
    }
}
