//! Saved animals on disk: read when an animal is named, written when one was kept.
//!
//! Why it exists: a state that fits a name is taken up at the beginning of every trial, and no thread that decodes may touch a file.
//! What it must never do: read or write outside its folder (names hold no separator), or let a bad file end a run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::{info, warn};

use crate::config;
use crate::corridor::{Handles, Keep};
use crate::frame::animal::{ANIMAL_EXTENSION, STATE_BYTES_MAX, StateError};
use crate::frame::event::Event;
use crate::frame::{AnimalState, Name, Request, SavedAnimal};
use crate::sys::calendar::unix_ns;
use crate::sys::files::{FileError, sha256_of_bytes, write_whole};

/// Why an animal is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum AnimalError {
    /// Its file cannot be read.
    #[error("{0}")]
    File(#[from] FileError),
    /// Its file is no state.
    #[error("{}: {cause}; remove the file to learn the animal from scratch", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: StateError,
    },
    /// The sender names the animal.
    #[error("the sender names the animal (`animal` in its headers): change it there")]
    Sender,
    /// Too many requests.
    #[error("too many requests are waiting for the next frame; is the microscope sending?")]
    Waiting,
}

/// The saved animals of a daemon.
pub struct Animals {
    folder: PathBuf,
    /// What the compute thread may still hold: it must not be the one that frees them.
    loaded: Vec<Arc<SavedAnimal>>,
}

impl Animals {
    /// Those in the configured folder, which need not exist.
    pub fn new(config: &config::Animal) -> Self {
        Self { folder: config.folder.clone(), loaded: Vec::new() }
    }

    /// The same, and the run begins with the animal that the configuration names.
    pub fn begin_run(config: &config::Animal, handles: &Handles) -> Self {
        let mut animals = Self::new(config);
        if let Some(name) = config.name {
            animals.begin_anyway(name, handles);
        }
        animals
    }

    /// A person names the animal that comes now. True if a saved state of it is taken up; otherwise it is learnt anew.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn begin(&mut self, name: Name, handles: &Handles) -> Result<bool, AnimalError> {
        if handles.animals.named_by_sender.load(Relaxed) {
            return Err(AnimalError::Sender);
        }
        let saved = self.read(name)?;
        self.ask(name, saved, handles)
    }

    /// The same at the start of a run, or when the sender names it: a state that cannot be read is a warning.
    pub fn begin_anyway(&mut self, name: Name, handles: &Handles) {
        let saved = self.read(name).unwrap_or_else(|cause| {
            warn!("the saved state of {name} is not restored: {cause}");
            None
        });
        if let Err(cause) = self.ask(name, saved, handles) {
            warn!("{name} is not restored: {cause}");
        }
    }

    fn ask(&mut self, name: Name, saved: Option<SavedAnimal>, handles: &Handles) -> Result<bool, AnimalError> {
        let saved = saved.map(Arc::new);
        match &saved {
            Some(_) => info!("{name}: restoring what was learnt of it before, if the first frames match"),
            None => info!("{name} has no saved state in {}: it is learnt from scratch", self.folder.display()),
        }
        let request = saved.as_ref().map_or(Request::NewAnimal(name), |saved| Request::TakeUp(saved.clone()));
        handles.requests.push(request).map_err(|_| AnimalError::Waiting)?;
        self.loaded.retain(|saved| Arc::strong_count(saved) > 1);
        let known = saved.is_some();
        self.loaded.extend(saved);
        Ok(known)
    }

    /// Writes what was kept, and then answers the names that the sender gave: one of them may be of what was just kept.
    pub fn tick(&mut self, handles: &Handles) {
        while let Some(state) = handles.animals.kept.pop() {
            let saved = match self.write(*state) {
                Ok(animal) => Event::AnimalSaved { animal },
                Err(cause) => {
                    warn!("an animal was not saved: {cause}");
                    Event::AnimalNotSaved { animal: None, why: "its file could not be written" }
                }
            };
            let _ = handles.events.force_push(saved);
        }
        let mut newest = None;
        while let Some(name) = handles.animals.named.pop() {
            newest = Some(name);
        }
        if let Some(name) = newest {
            self.begin_anyway(name, handles);
        }
    }

    /// Asks for the present state to be saved, under this name or its own.
    pub fn save(name: Option<Name>, handles: &Handles) -> Result<(), AnimalError> {
        handles.animals.keep.push(Keep::Asked(name)).map_err(|_| AnimalError::Waiting)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ANIMAL_EXTENSION}"))
    }

    /// The saved state of this name, if there is one.
    fn read(&self, name: Name) -> Result<Option<SavedAnimal>, AnimalError> {
        let path = self.path_of(name.as_str());
        let bytes = match read_bounded(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|cause| FileError::read(&path, cause))?,
        };
        let sha256 = sha256_of_bytes(&bytes);
        let saved = SavedAnimal::read(name, bytes, sha256);
        saved.map(Some).map_err(|cause| AnimalError::State { path, cause })
    }

    fn write(&self, state: AnimalState) -> anyhow::Result<Name> {
        let name: Name = state.animal.parse()?;
        let state = AnimalState { saved_unix_s: unix_ns() / 1_000_000_000, ..state };
        let bytes = state.to_bytes();
        if bytes.len() as u64 > STATE_BYTES_MAX {
            return Err(StateError::Size { bytes: bytes.len() as u64 }.into());
        }
        std::fs::create_dir_all(&self.folder).map_err(|cause| FileError::write(&self.folder, cause))?;
        write_whole(&self.path_of(name.as_str()), &bytes)?;
        Ok(name)
    }
}

/// A regular file of at most so many bytes as a state may have.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let refused = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    // Looked at before it is opened: to open a pipe waits for its writer.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    if about.len() > STATE_BYTES_MAX {
        return Err(refused(StateError::Size { bytes: about.len() }.to_string()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    File::open(path)?.take(STATE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn animals(folder: &Path) -> Animals {
        Animals::new(&config::Animal { folder: folder.to_owned(), ..config::Config::default().animal })
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_kept_is_saved_under_its_name_and_taken_up_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut animals, handles) = (animals(&folder.path().join("new")), Handles::default());
        assert!(!animals.begin(name("fly3"), &handles).unwrap());
        assert_eq!(handles.requests.pop(), Some(Request::NewAnimal(name("fly3"))));
        let state = AnimalState { animal: "fly3".into(), ..AnimalState::default() };
        let state = state.of_frames(crate::frame::Shape::new(1, 8, 8), crate::frame::PixelType::U16);
        handles.animals.kept.push(Box::new(state)).ok().unwrap();
        animals.tick(&handles);
        assert_eq!(handles.events.pop(), Some(Event::AnimalSaved { animal: name("fly3") }));
        assert!(animals.begin(name("fly3"), &handles).unwrap());
        let Some(Request::TakeUp(saved)) = handles.requests.pop() else { panic!("nothing was taken up") };
        assert!(saved.name == name("fly3") && saved.state.saved_unix_s > 1_700_000_000 && saved.sha256.len() == 64);
        handles.animals.named_by_sender.store(true, Relaxed);
        assert!(animals.begin(name("fly4"), &handles).unwrap_err().to_string().contains("the sender names the animal"));
    }

    #[test]
    fn a_bad_file_is_named_and_changes_nothing_and_the_start_goes_on_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut animals, handles) = (animals(folder.path()), Handles::default());
        std::fs::write(folder.path().join("bad.animal"), b"\xff\xff\xff").unwrap();
        std::fs::create_dir(folder.path().join("folder.animal")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless.animal")).unwrap();
        let large = File::create(folder.path().join("large.animal")).unwrap();
        large.set_len(STATE_BYTES_MAX + 1).unwrap();
        for (bad, words) in [
            ("bad", "not the state of an animal"),
            ("folder", "not a regular file"),
            ("endless", "not a regular file"),
            ("large", "has at most"),
        ] {
            let error = animals.begin(name(bad), &handles).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(&format!("{bad}.animal")), "{error}");
            assert_eq!(handles.requests.pop(), None);
            animals.begin_anyway(name(bad), &handles);
            assert_eq!(handles.requests.pop(), Some(Request::NewAnimal(name(bad))));
        }
        // Dots alone are a name, but no way out of the folder.
        assert!(!animals.begin(name(".."), &handles).unwrap());
    }
}
