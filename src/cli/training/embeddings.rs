//! The embedding of every sample of a data set, with what the animal did then, for other programs.
//!
//! Why it exists: a scientist plots and probes embeddings in Python or R, over all animals at once. What it must never do: put rows of the
//! three files in different orders.

use std::fmt::Write as _;
use std::path::Path;

use ndarray::Array2;

use crate::dataset::trials::{Dataset, Representation, Sample};
use crate::sys::csv::csv_field;
use crate::sys::files::write_whole;
use crate::sys::npy::header;

/// Writes `embeddings.npy` `[samples, dimensions]`, `behaviour.npy` `[samples, columns]` and `samples.csv`, row by row the same samples.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write(
    folder: &Path,
    data: &Dataset,
    samples: &[Sample],
    embeddings: &Representation,
    unseen: &[usize],
) -> anyhow::Result<()> {
    let columns = data.behaviour_columns.len();
    let mut behaviour = Vec::with_capacity(samples.len() * columns);
    for sample in samples {
        let trial = &data.trials[sample.trial];
        behaviour.extend(trial.behaviour.row(trial.behaviour_at[sample.frame] as usize));
    }
    let behaviour = Array2::from_shape_vec((samples.len(), columns), behaviour)?;
    write_whole(&folder.join("embeddings.npy"), &npy(&embeddings.values))?;
    write_whole(&folder.join("behaviour.npy"), &npy(&behaviour))?;
    write_whole(&folder.join("samples.csv"), table(data, samples, unseen).as_bytes())?;
    write_whole(&folder.join("behaviour_columns.csv"), (data.behaviour_columns.join("\n") + "\n").as_bytes())?;
    Ok(())
}

fn npy(rows: &Array2<f32>) -> Vec<u8> {
    let shape = [rows.nrows() as u64, rows.ncols() as u64];
    let values = rows.iter().flat_map(|value| value.to_le_bytes());
    header("<f4", &shape).into_iter().chain(values).collect()
}

/// One row for each sample: what an empty action means is that the moment has no label.
fn table(data: &Dataset, samples: &[Sample], unseen: &[usize]) -> String {
    let mut text = String::from("animal,trial,frame,time_s,action,unseen\n");
    for sample in samples {
        let trial = &data.trials[sample.trial];
        let action = trial.label[sample.frame].map_or("", |label| &data.labels[usize::from(label)]);
        let (animal, time_s) = (&data.animals[trial.animal], sample.frame as f64 / data.frame_rate_hz);
        let (names, is_unseen) = ([animal, &trial.name].map(|name| csv_field(name)), unseen.contains(&trial.animal));
        // Writing to a text cannot fail.
        let _ =
            writeln!(text, "{},{},{},{time_s:.4},{},{is_unseen}", names[0], names[1], sample.frame, csv_field(action));
    }
    text
}
