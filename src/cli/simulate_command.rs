//! `haltere simulate`, and the one place that knows that a recording may be simulated.
//!
//! Why it exists: `source` opens files and sockets and must not know of simulation; `play` and `embed` take both.
//! What it must never do: make a frame itself.

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::cli::Progress;
use crate::cli::simulate::SimulateArgs;
use crate::simulate::write::{Order, dataset};
use crate::simulate::{Recipe, SimulatedSource, is_simulated};
use crate::source::{RecordingSpec, Source, SourceError, open_recording};

/// Opens a recording, or lets a simulated animal live when the only path begins with `sim:`.
///
/// # Errors
/// As [`open_recording`], or what is wrong with the word.
pub fn open(spec: &RecordingSpec) -> Result<Box<dyn Source>, SourceError> {
    let Some(word) = spec.channels.iter().flatten().find(|path| is_simulated(path)) else {
        return open_recording(spec);
    };
    let failed = |cause: &str| Err(SourceError::File { path: word.clone(), cause: cause.to_owned() });
    if spec.channels.len() > 1 || spec.channels[0].len() > 1 {
        return failed("a simulated recording stands alone; it has both channels");
    }
    if spec.raw.is_some() || spec.plane.is_some() {
        return failed("a simulated recording has neither a raw layout nor planes; leave --raw and --plane out");
    }
    Ok(Box::new(SimulatedSource::open(word, spec.source)?))
}

/// Makes recordings.
///
/// # Errors
/// What is wrong with recipe or numbers, or the file that could not be written.
pub fn simulate(args: &SimulateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let recipe = Recipe::load(args.recipe.as_deref(), &args.set)?;
    if args.show_recipe {
        write!(out, "{}", toml::to_string(&recipe)?)?;
        return Ok(());
    }
    let order = Order {
        out: args.out.as_deref().unwrap_or(Path::new(".")).to_owned(),
        animals: args.animals,
        first_animal: args.first_animal,
        trials: args.trials,
        seconds: args.seconds,
        seed: args.seed,
        recipe,
        format: args.format.into(),
        force: args.force,
    };
    let shown = match args.progress {
        Progress::Auto => std::io::stderr().is_terminal(),
        Progress::Always => true,
        Progress::Never => false,
    };
    let bar = crate::sys::progress::progress_bar(Some(order.frames()), shown);
    let written = dataset(&order, &|frames| bar.inc(frames));
    bar.finish_and_clear();
    written?;
    let (animals, trials) = (order.animals, order.trials);
    writeln!(out, "{}: {animals} animals, {trials} trials of {} s each", order.out.display(), order.seconds)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, Name};
    use crate::simulate::write::Format;
    use crate::source::Next;

    fn frames(path: &Path) -> Vec<Vec<u8>> {
        let mut source = open(&RecordingSpec::new(path, Name::literal("rig"))).unwrap();
        assert_eq!(source.frame_rate_hz(), Some(16.0));
        let mut frame = Frame::with_capacity(source.frame_bytes_max());
        let mut all = Vec::new();
        while source.next(&mut frame).unwrap() == Next::Frame {
            assert_eq!(frame.info.shape.channels, 2);
            all.push(frame.bytes().to_vec());
        }
        all
    }

    #[test]
    fn a_written_tiff_and_the_live_source_are_the_same_recording_to_every_reader() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order {
            out: dir.path().into(),
            animals: 1,
            first_animal: 3,
            trials: 1,
            seconds: 2.0,
            seed: 5,
            recipe: Recipe::default(),
            format: Format::Tiff,
            force: false,
        };
        dataset(&order, &|_| ()).unwrap();
        let written = frames(&dir.path().join("fly_03/001/raw.tif"));
        assert_eq!(written.len(), 32);
        assert_eq!(written, frames(Path::new("sim:seed=5,animal=3,seconds=2")));
    }

    #[test]
    fn a_simulated_recording_stands_alone() {
        let mut spec = RecordingSpec::new("sim:animal=2", Name::literal("rig"));
        spec.plane = Some(1);
        assert!(open(&spec).err().unwrap().to_string().contains("--plane"));
        let spec = RecordingSpec::new("sim:animel=2", Name::literal("rig"));
        assert!(open(&spec).err().unwrap().to_string().contains("did you mean `animal`"));
    }
}
