//! Plots as SVG, for reports and papers.
//!
//! Why it exists: a table hides what a plot shows (one bad animal, a collapsed class, an overconfident decoder). What it must
//! never do: compute a score, drop a value silently (values that are not finite have no mark, and an empty plot says so), or
//! distinguish things by colour alone where shapes or positions can.
//!
//! Every function takes plain values and gives one `<svg>` element with a white background, a title for screen readers and
//! no outside resource.

mod bars;
mod calibration;
pub(crate) mod canvas;
mod curves;
mod dots;
mod matrix;
pub(crate) mod panel;
mod scatter;

pub use bars::{ablation, domain_gap};
pub use calibration::calibration;
pub use curves::loss_curves;
pub use dots::{comparison, per_animal};
pub use matrix::confusion;
pub use scatter::{embedding_2d, embedding_2d_by, embedding_3d};

#[cfg(test)]
mod tests {
    use super::super::data::{Ablation, Calibration, Comparison, Confusion, LossCurves, PerAnimal};
    use super::super::pca::EmbeddingView;
    use super::*;
    use crate::report::example;

    fn all(report: &super::super::data::ReportData) -> Vec<String> {
        let embedding = report.embedding.clone().unwrap_or_default();
        let mut plots = vec![
            loss_curves(report.loss.as_ref().unwrap_or(&LossCurves::default())),
            embedding_2d(&embedding),
            embedding_3d(&embedding),
            confusion(report.confusion.as_ref().unwrap_or(&Confusion::default())),
            per_animal(report.per_animal.as_ref().unwrap_or(&PerAnimal::default())),
            calibration(report.calibration.as_ref().unwrap_or(&Calibration::default())),
            domain_gap(&report.domain_gap),
            comparison(report.comparison.as_ref().unwrap_or(&Comparison::default())),
        ];
        plots.push(ablation(report.ablation.first().unwrap_or(&Ablation::default())));
        plots
    }

    /// Number of elements; panics where the text is no well-formed XML.
    fn elements(svg: &str) -> usize {
        use quick_xml::events::Event;
        let mut reader = quick_xml::Reader::from_str(svg);
        let mut count = 0;
        loop {
            match reader.read_event().unwrap() {
                Event::Start(tag) | Event::Empty(tag) => {
                    tag.attributes().for_each(|attribute| {
                        attribute.unwrap();
                    });
                    count += 1;
                }
                Event::Eof => return count,
                _ => {}
            }
        }
    }

    #[test]
    fn every_plot_is_well_formed_and_draws_its_data() {
        for svg in all(&example::report()) {
            assert!(elements(&svg) > 30, "{svg}");
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_plot_without_data_says_so_and_does_not_panic() {
        for svg in all(&super::super::data::ReportData::default()) {
            elements(&svg);
            assert!(svg.contains("no data"), "{svg}");
        }
    }

    #[test]
    fn values_that_are_not_finite_and_indices_out_of_range_break_no_plot() {
        let mut report = example::report();
        report.loss.as_mut().unwrap().train.iter_mut().for_each(|p| p.value = f64::NAN);
        report.loss.as_mut().unwrap().held_out[0].value = f64::INFINITY;
        report.per_animal.as_mut().unwrap().animals[0].values = vec![f64::NAN];
        report.domain_gap[0].before.mean = f64::NAN;
        report.ablation[0].bars[0].score.sd = f64::NAN;
        let embedding = report.embedding.as_mut().unwrap();
        embedding.points[0].label = Some(200);
        embedding.points[1].animal = 999;
        embedding.points[2].at = [f32::NAN; 3];
        report.confusion.as_mut().unwrap().counts = vec![vec![0; 2]; 3];
        for svg in all(&report) {
            elements(&svg);
            assert!(!svg.contains("NaN"), "{svg}");
        }
        let empty = EmbeddingView { points: embedding_points(), ..EmbeddingView::default() };
        elements(&embedding_3d(&empty));
    }

    fn embedding_points() -> Vec<super::super::pca::EmbeddingPoint> {
        vec![super::super::pca::EmbeddingPoint { at: [1.0; 3], label: Some(3), animal: 2 }]
    }

    #[test]
    fn names_from_the_data_are_escaped() {
        let mut report = example::report();
        report.confusion.as_mut().unwrap().labels[0] = "<script>&\"".into();
        report.per_animal.as_mut().unwrap().animals[0].name = "<b>".into();
        for svg in all(&report) {
            elements(&svg);
            assert!(!svg.contains("<script>") && !svg.contains("<b>"));
        }
    }

    #[test]
    fn the_same_values_give_the_same_bytes() {
        assert_eq!(all(&example::report()), all(&example::report()));
    }
}
