//! The folder of the recordings: can anything be written there?
//!
//! Why it exists: a folder without rights ends `run` before the first frame; better known the day before. What it must
//! never do: leave anything behind.

use std::path::Path;

use super::Line;
use crate::config::Record;
use crate::sys::files::try_writing;

pub(super) fn lines(record: &Record) -> Vec<Line> {
    let what = "record.folder";
    let Some(folder) = &record.folder else { return vec![Line::good(what, "off: nothing is recorded")] };
    let when = if record.at_start { "from the first frame on" } else { "on `control record start`" };
    // A folder that is not there yet is made inside the nearest one that is.
    let there = folder.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("."));
    vec![match try_writing(there) {
        Ok(()) => Line::good(what, format!("{}, {when}", folder.display())),
        Err(cause) => Line::fault(
            what,
            format!("{}: {cause}", there.display()),
            "choose a folder that haltere may write to, or \"off\"",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::config::Compression;

    #[test]
    fn a_folder_that_can_be_made_is_good_and_one_that_cannot_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let level = |folder: Option<&Path>| {
            let folder = folder.map(Path::to_owned);
            let (frames, at_start) = (true, true);
            lines(&Record { folder, at_start, frames, queue_frames: 4, compression: Compression::None })[0].level
        };
        assert_eq!(level(None), Level::Good);
        assert_eq!(level(Some(&folder.path().join("not/yet"))), Level::Good);
        assert_eq!(level(Some(Path::new("/proc/nowhere"))), Level::Fault);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
