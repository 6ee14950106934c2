//! The results table of continuous outputs: one line per method and output, one column per question.
//!
//! What it must never do: show a mean without its spread and, where something was fitted, its chance level, or round what goes into a file.

use std::fmt::Write;

use super::questions::{OutputScore, Question};
use super::table::Table;
use crate::sys::csv::csv_field;

/// What was measured of one method.
#[derive(Clone, Debug)]
pub struct OutputRun {
    /// Name of the method or model.
    pub method: String,
    /// Its scores; those of several seeds follow each other.
    pub scores: Vec<OutputScore>,
}

/// Mean of some numbers and, of several, their standard deviation.
fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (values.len() > 1).then(|| variance.sqrt()))
}

/// R² and correlation, mean ± sd over animals (chance); `None` where nothing was measured.
pub fn output_table(runs: &[OutputRun]) -> Option<Table> {
    let mut rows = Vec::new();
    let questions = [Question::SingleAnimal, Question::AcrossAnimal, Question::Unseen];
    let asked = |question: &Question| runs.iter().flat_map(|run| &run.scores).any(|score| score.question == *question);
    let questions: Vec<Question> = questions.into_iter().filter(asked).collect();
    for run in runs {
        for output in names(&run.scores) {
            let own = |question| run.scores.iter().filter(move |s| s.output == output && s.question == question);
            let cells = questions.iter().flat_map(|&question| {
                let of = |value: fn(&OutputScore) -> f64, chance: usize| {
                    let values: Vec<f64> = own(question).map(value).collect();
                    let chance: Vec<f64> = own(question).filter_map(|s| Some(s.chance?[chance])).collect();
                    cell(&values, &chance)
                };
                [of(|s| s.r2, 0), of(|s| s.correlation, 1)]
            });
            rows.push([run.method.clone(), output.to_owned()].into_iter().chain(cells).collect());
        }
    }
    let heads = questions.iter().flat_map(|question| [format!("{question} R² ↑"), format!("{question} r ↑")]);
    let header = ["method".to_owned(), "output".to_owned()].into_iter().chain(heads).collect();
    let caption = "continuous outputs: R² against the animal's own mean and correlation, mean ± sd over animals (chance: read-outs that \
                   learnt from targets turned round in time)."
        .to_owned();
    (!rows.is_empty()).then_some(Table { caption, header, rows })
}

fn names(scores: &[OutputScore]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for score in scores {
        if !names.contains(&score.output.as_str()) {
            names.push(&score.output);
        }
    }
    names
}

fn cell(values: &[f64], chance: &[f64]) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let (mean, sd) = spread(values);
    let sd = sd.map_or_else(String::new, |sd| format!(" ± {sd:.2}"));
    let chance = if chance.is_empty() { String::new() } else { format!(" ({:.2})", spread(chance).0) };
    format!("{mean:.2}{sd}{chance}")
}

/// Every number unrounded, one line per method, question, output and animal; what was not measured is empty.
pub fn outputs_to_csv(runs: &[OutputRun]) -> String {
    let mut text = String::from("method,setting,output,animal,r2,correlation,chance_r2,chance_correlation,samples\n");
    for run in runs {
        for s in &run.scores {
            let chance = s.chance.map_or_else(|| ",".to_owned(), |[r2, correlation]| format!("{r2},{correlation}"));
            let [method, output, animal] = [&run.method, &s.output, &s.animal].map(|name| csv_field(name));
            let (question, r2, correlation, samples) = (s.question, s.r2, s.correlation, s.samples);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{method},{question},{output},{animal},{r2},{correlation},{chance},{samples}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(question: Question, animal: &str, r2: f64, chance: Option<[f64; 2]>) -> OutputScore {
        let (output, animal) = ("speed".to_owned(), animal.to_owned());
        OutputScore { question, output, animal, r2, correlation: 0.5, chance, samples: 7 }
    }

    #[test]
    fn the_table_has_means_spreads_and_chance_and_the_file_every_number() {
        let chance = Some([-0.01, 0.25]);
        let scores = vec![
            score(Question::AcrossAnimal, "a", 0.25, chance),
            score(Question::AcrossAnimal, "b", 0.75, chance),
            score(Question::Unseen, "c", -0.125, None),
        ];
        let runs = [OutputRun { method: "m".into(), scores }];
        let table = output_table(&runs).unwrap();
        assert_eq!(table.header[2..], ["across-animal R² ↑", "across-animal r ↑", "unseen R² ↑", "unseen r ↑"]);
        assert_eq!(table.rows[0], ["m", "speed", "0.50 ± 0.35 (-0.01)", "0.50 ± 0.00 (0.25)", "-0.12", "0.50"]);
        let csv = outputs_to_csv(&runs);
        assert_eq!(csv.lines().nth(1), Some("m,across-animal,speed,a,0.25,0.5,-0.01,0.25,7"));
        assert_eq!(csv.lines().last(), Some("m,unseen,speed,c,-0.125,0.5,,,7"));
        assert_eq!(output_table(&[]), None);
    }
}
