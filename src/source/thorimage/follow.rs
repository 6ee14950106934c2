//! `Image_*.raw` while ThorImage writes it: live frames from a file that grows.
//!
//! Why it exists: ThorImageLS has no live interface, but its raw file is appended to while the animal is under the microscope.
//! What it must never do: decode an incomplete frame, take a file of zeros for frames, wait longer than [`IDLE_MS_MAX`], end
//! because a network share was away for a moment, or give a frame a time that was not measured: the file holds no times, so a
//! frame has its time of receipt, when its last byte was seen, and no device time.
//!
//! A frame is complete when the file has grown beyond the last byte of its plane. In a volume each plane is decoded as soon as it
//! is written, so an aborted last volume yields planes that a reader of the finished file leaves out.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{Overload, Source as Settings, Wait};
use crate::frame::{CHANNELS_MAX, Frame, FrameInfo, Name, PixelType, Shape};
use crate::source::age::{Ages, Arrived};
use crate::source::recording::{Stamper, file_error};
use crate::source::{IDLE_MS_MAX, Next, Source, SourceError};
use crate::sys::clock::now_ns;

use super::raw::Stack;
use super::{Experiment, find_raw};

/// Pause before a file that could not be read is tried again: the first one, and the longest, to which it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How often a missing file is looked for.
const LOOK_FOR: Duration = Duration::from_millis(100);
/// How long a new raw file may precede its Experiment.xml.
const XML_PATIENCE: Duration = Duration::from_secs(5);
/// Growth between two checks, in frames, that no microscope can produce: the last frame is then checked for zeros.
const LEAP_FRAMES: u64 = 64;

/// How a file is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowSettings {
    /// Time between two checks.
    pub poll: Duration,
    /// The acquisition has ended when the file has not grown for this long; `None` = it never ends by itself.
    pub idle: Option<Duration>,
    /// Decode only the newest of the frames written before the start.
    pub newest: bool,
    /// Which plane of a volume.
    pub plane: Option<u64>,
    /// How the thread waits between two checks.
    pub wait: Wait,
    /// Largest frame that a slot takes, bytes.
    pub frame_bytes_max: usize,
    /// How long a file that cannot be read is tried again.
    pub retry: Duration,
}

impl FollowSettings {
    /// From a configuration; with `once` a file that stops growing has ended.
    pub fn new(source: &Settings, overload: Overload, wait: Wait, once: bool) -> Self {
        Self {
            poll: source.follow_poll,
            idle: once.then_some(source.follow_idle),
            newest: overload == Overload::SkipToLatest,
            plane: source.plane,
            wait,
            frame_bytes_max: source.frame_bytes_max,
            retry: source.follow_retry,
        }
    }
}

/// A source that follows a growing file.
pub struct Follower {
    folder: PathBuf,
    /// The file, if the user named one.
    named: Option<PathBuf>,
    settings: FollowSettings,
    source: Name,
    growing: Option<Growing>,
    looked: Instant,
    xml_missed: Option<Instant>,
    /// Of its frames, by Experiment.xml.
    shape: Shape,
    outage: Option<Outage>,
    /// The outage is over, which lasted so long and is still to be told.
    back: Option<Duration>,
}

/// Why the file cannot be followed.
enum Fault {
    /// The system refuses, perhaps for a moment only.
    System {
        /// Its error.
        cause: io::Error,
        /// Which file, and what was tried.
        error: SourceError,
    },
    /// What no later attempt would change.
    Final(SourceError),
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Self::Final(error)
    }
}

impl From<Fault> for SourceError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::System { error, .. } | Fault::Final(error) => error,
        }
    }
}

/// A system's error at `path`, after the words that say what was tried.
fn refused(path: &Path, tried: &str) -> impl FnOnce(io::Error) -> Fault {
    move |cause| Fault::System { error: file_error(path, format!("{tried}{cause}")), cause }
}

/// The file that is being followed.
struct Growing {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    stack: Stack,
    stamper: Stamper,
    series: Option<Name>,
    first: u64,
    /// Requested frames of this plane.
    requested: Option<u64>,
    length: u64,
    grew_ns: u64,
    ages: Ages,
    next: u64,
    began: bool,
    ended: bool,
}

impl Follower {
    /// Follows the raw file in a ThorImage folder, or a named raw file in it. The file need not exist yet, but its
    /// `Experiment.xml` must.
    ///
    /// # Errors
    /// An `Experiment.xml` that is missing or incomplete, a volume without a plane, frames larger than a slot, a file allocated
    /// in full before its pixels are written.
    pub fn open(path: &Path, settings: FollowSettings, source: Name) -> Result<Self, SourceError> {
        let named = path.extension().is_some_and(|e| e == "raw").then(|| path.to_path_buf());
        let parent = || path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = if named.is_some() || path.ends_with("Experiment.xml") { parent() } else { path };
        let missing = |error: SourceError| {
            let cause =
                format!("{error}; `source.follow` must name the folder of a ThorImage acquisition that has started");
            file_error(path, cause)
        };
        let experiment = Experiment::of_folder(folder).map_err(missing)?;
        let mut follower = Self {
            folder: folder.into(),
            named,
            settings,
            source,
            growing: None,
            looked: Instant::now(),
            xml_missed: None,
            shape: Shape::default(),
            outage: None,
            back: None,
        };
        // An invalid geometry is reported before the file exists.
        follower.shape = follower.geometry(&experiment).map_err(|cause| file_error(folder, cause))?.0.shape();
        if let Some(path) = follower.find()? {
            let mut growing = follower.attach(&path, &experiment)?;
            let whole = growing.whole();
            if settings.newest && whole > 0 {
                growing.next = whole - 1;
            }
            follower.growing = Some(growing);
        }
        Ok(follower)
    }

    /// The file, and the number of frames so far.
    pub fn describe(&self) -> String {
        match &self.growing {
            Some(growing) => format!("{} ({} frames so far)", growing.path.display(), growing.whole()),
            None => format!("{} (no raw file yet)", self.named.as_ref().unwrap_or(&self.folder).display()),
        }
    }

    /// Channels × height × width of its frames, by `Experiment.xml`.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    fn find(&self) -> Result<Option<PathBuf>, Fault> {
        let looked_for = self.named.as_ref().unwrap_or(&self.folder);
        let found = match std::fs::metadata(looked_for) {
            Ok(found) => found,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(refused(looked_for, "")(cause)),
        };
        match &self.named {
            Some(path) => Ok(found.is_file().then(|| path.clone())),
            None if found.is_dir() => {
                std::fs::read_dir(&self.folder).map_err(refused(&self.folder, ""))?;
                Ok(find_raw(&self.folder)?)
            }
            None => Ok(None),
        }
    }

    /// The geometry, and the position of the first frame.
    fn geometry(&self, experiment: &Experiment) -> Result<(Stack, u64), String> {
        let (stack, planes) = (Stack::new(experiment, CHANNELS_MAX)?, experiment.planes as u64);
        let first = match self.settings.plane {
            Some(plane) if plane < planes => plane,
            None if planes == 1 => 0,
            Some(plane) => {
                return Err(format!(
                    "has {planes} plane(s); `source.plane` = {plane} is not one of 0 to {}",
                    planes - 1
                ));
            }
            None => {
                return Err(format!(
                    "is a volume of {planes} planes; set `source.plane` to one of 0 to {}",
                    planes - 1
                ));
            }
        };
        let (bytes, most) = (stack.shape().pixels() * PixelType::U16.bytes(), self.settings.frame_bytes_max);
        if bytes > most {
            return Err(format!("a frame has {bytes} bytes, `source.frame_max_mib` allows {most}: raise it"));
        }
        Ok((stack, first))
    }

    fn attach(&self, path: &Path, experiment: &Experiment) -> Result<Growing, Fault> {
        let fail = |cause: String| file_error(path, cause);
        let (stack, first) = self.geometry(experiment).map_err(fail)?;
        let file = File::open(path).map_err(refused(path, ""))?;
        let found = file.metadata().map_err(refused(path, ""))?;
        let stamper = Stamper { source: self.source, rate_hz: None, shape: stack.shape(), pixel_type: PixelType::U16 };
        // The folder's name, if it is a valid name for a series.
        let folder = self.folder.file_name().and_then(|name| name.to_str());
        let mut growing = Growing {
            file,
            path: path.into(),
            identity: identity(&found),
            stack,
            stamper,
            series: folder.and_then(|name| name.parse().ok()),
            first,
            requested: None,
            length: found.len(),
            grew_ns: now_ns(),
            ages: Ages::default(),
            next: 0,
            began: false,
            ended: false,
        };
        growing.requested = experiment.requested.map(|planes| growing.frames_in(planes)).filter(|frames| *frames > 0);
        // A file with one frame may have been started in the dark.
        if growing.whole() > 1 {
            growing.refuse_zeros()?;
        }
        Ok(growing)
    }

    /// Checks the file once, unless it could not be read a moment ago. `None`: nothing new.
    fn poll(&mut self, into: &mut Frame) -> Result<Option<Next>, SourceError> {
        if let Some(after) = self.back.take() {
            return Ok(Some(Next::FileBack(after)));
        }
        if self.outage.as_ref().is_some_and(|outage| !outage.is_due()) {
            return Ok(None);
        }
        match self.check(into) {
            Ok(next) => {
                // Told with the next call: a frame is more urgent.
                self.back = self.outage.take().map(|outage| outage.since.elapsed());
                Ok(next)
            }
            Err(Fault::System { cause, error }) => {
                let begins = self.outage.is_none();
                let outage = self.outage.take().map_or_else(Outage::begin, Outage::again);
                if outage.since.elapsed() > self.settings.retry {
                    return Err(error);
                }
                self.outage = Some(outage);
                Ok(begins.then(|| Next::FileUnreachable(word_of(&cause))))
            }
            Err(Fault::Final(error)) => Err(error),
        }
    }

    fn check(&mut self, into: &mut Frame) -> Result<Option<Next>, Fault> {
        let Some(growing) = &mut self.growing else {
            self.look_for_file()?;
            return Ok(None);
        };
        if self.outage.is_some() {
            growing.reopen()?;
        }
        if let Some(how) = growing.measure()? {
            self.growing = None;
            return Ok(Some(Next::FileLost(how)));
        }
        if growing.next < growing.whole() {
            return Ok(growing.deliver(into)?.then_some(Next::Frame));
        }
        let still = self.settings.idle.is_some_and(|idle| growing.is_still(idle));
        let complete = growing.requested.is_some_and(|requested| growing.next >= requested);
        let over = growing.next > 0 && (still || complete);
        let reported = std::mem::replace(&mut growing.ended, over);
        Ok((over && !reported).then_some(Next::SeriesEnded))
    }

    /// Looks for a file that does not exist yet, or has been replaced.
    fn look_for_file(&mut self) -> Result<(), Fault> {
        // After an outage there is a pause of its own.
        if self.outage.is_none() && self.looked.elapsed() < LOOK_FOR {
            return Ok(());
        }
        self.looked = Instant::now();
        let Some(path) = self.find()? else { return Ok(()) };
        match Experiment::of_folder(&self.folder) {
            Ok(experiment) => {
                self.xml_missed = None;
                self.growing = Some(self.attach(&path, &experiment)?);
                Ok(())
            }
            // It is still being written.
            Err(_) if self.xml_missed.get_or_insert_with(Instant::now).elapsed() < XML_PATIENCE => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&self, until: Instant) {
        match self.settings.wait {
            Wait::Spin => std::hint::spin_loop(),
            Wait::Yield => std::thread::yield_now(),
            Wait::Park | Wait::Anticipate => {
                std::thread::sleep(self.settings.poll.min(until.saturating_duration_since(Instant::now())));
            }
        }
    }
}

impl Source for Follower {
    fn next(&mut self, into: &mut Frame) -> Result<Next, SourceError> {
        let until = Instant::now() + Duration::from_millis(IDLE_MS_MAX);
        loop {
            if let Some(next) = self.poll(into)? {
                return Ok(next);
            }
            if Instant::now() >= until {
                return Ok(Next::Idle);
            }
            self.wait(until);
        }
    }

    fn frame_bytes_max(&self) -> usize {
        self.settings.frame_bytes_max
    }
}

impl Growing {
    /// Number of frames of our plane among this many planes of the file.
    fn frames_in(&self, planes: u64) -> u64 {
        planes.checked_sub(self.first + 1).map_or(0, |more| more / self.stack.cycle as u64 + 1)
    }

    /// Number of complete frames.
    fn whole(&self) -> u64 {
        self.frames_in(self.length / self.stack.plane_bytes())
    }

    fn position(&self, frame: u64) -> u64 {
        self.first + frame * self.stack.cycle as u64
    }

    /// Measures how far the file has grown. `Some`: what happened to it.
    fn measure(&mut self) -> Result<Option<&'static str>, Fault> {
        let found = match std::fs::metadata(&self.path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("removed")),
            Err(e) => return Err(refused(&self.path, "can no longer be followed: ")(e)),
        };
        if identity(&found) != self.identity {
            return Ok(Some("replaced by another"));
        }
        if found.len() < self.length {
            return Ok(Some("truncated"));
        }
        if found.len() > self.length {
            let before = self.whole();
            (self.length, self.grew_ns) = (found.len(), now_ns());
            if self.whole() - before > LEAP_FRAMES {
                self.refuse_zeros()?;
            }
        }
        Ok(None)
    }

    /// Opens it again after an outage: the handle from before may be stale, and the share may be mounted anew.
    fn reopen(&mut self) -> Result<(), Fault> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // What is not there any more is told by `measure`.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(refused(&self.path, "can no longer be followed: ")(e)),
        };
        let found = file.metadata().map_err(refused(&self.path, "can no longer be followed: "))?;
        // A new mount has a new device number.
        if found.ino() == self.identity.1 {
            (self.file, self.identity) = (file, identity(&found));
        }
        Ok(())
    }

    /// Has it not grown for this long?
    fn is_still(&self, idle: Duration) -> bool {
        now_ns().saturating_sub(self.grew_ns) >= idle.as_nanos() as u64
    }

    /// Rejects a file whose last complete frame is all zeros: its space was allocated before its pixels were written.
    fn refuse_zeros(&mut self) -> Result<(), Fault> {
        let Some(last) = self.whole().checked_sub(1) else { return Ok(()) };
        let blank = self.stack.is_blank(&self.file, self.position(last));
        if !blank.map_err(refused(&self.path, &format!("frame {last} cannot be read: ")))? {
            return Ok(());
        }
        let cause = format!(
            "is {} bytes long, and its last frame (number {last}) holds nothing but zeros: ThorImage allocated the whole file before \
             writing its pixels, so its length does not show which frames are written, and it cannot be followed. Turn off \
             preallocation in ThorImage, or decode the file after the acquisition with `haltere embed`",
            self.length
        );
        Err(file_error(&self.path, cause).into())
    }

    /// Fills the slot with the next frame. Its time of receipt is when its last byte was seen. False when the file has been
    /// truncated since it was measured; the next check reports that.
    fn deliver(&mut self, into: &mut Frame) -> Result<bool, Fault> {
        self.stamper.stamp(self.next, &self.path, into)?;
        // No device time (the stamper has no rate): n / rate would not be a measurement.
        let (t_received_ns, series, series_began) = (self.grew_ns, self.series, !self.began);
        let arrived =
            Arrived { stamp: None, series_began, frames: 1, received_ns: t_received_ns, empty_ns: t_received_ns };
        let (t_live_ns, age_ns) = (Some(t_received_ns), self.ages.of(&arrived));
        into.info = FrameInfo { t_received_ns, t_live_ns, age_ns, series, series_began, ..into.info };
        match self.stack.read(&self.file, self.position(self.next), into.bytes_mut()) {
            Ok(()) => {
                (self.next, self.began) = (self.next + 1, true);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(refused(&self.path, &format!("frame {} cannot be read: ", self.next))(e)),
        }
    }
}

/// The file cannot be read: since when, and when it is tried again.
struct Outage {
    since: Instant,
    due: Instant,
    pause: Duration,
}

impl Outage {
    fn begin() -> Self {
        let now = Instant::now();
        Self { since: now, due: now + RETRY_FIRST, pause: RETRY_FIRST }
    }

    /// The next attempt failed as well.
    fn again(self) -> Self {
        let pause = (2 * self.pause).min(RETRY_LONGEST);
        Self { due: Instant::now() + pause, pause, ..self }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }
}

/// The system's word for an error of a share or a disk.
fn word_of(cause: &io::Error) -> &'static str {
    use rustix::io::Errno;
    const WORDS: [(Errno, &str); 17] = [
        (Errno::IO, "EIO"),
        (Errno::STALE, "ESTALE"),
        (Errno::ACCESS, "EACCES"),
        (Errno::PERM, "EPERM"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::CONNABORTED, "ECONNABORTED"),
        (Errno::HOSTDOWN, "EHOSTDOWN"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NXIO, "ENXIO"),
        (Errno::BUSY, "EBUSY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::MFILE, "EMFILE"),
    ];
    let number = Errno::from_io_error(cause);
    WORDS.iter().find(|(errno, _)| Some(*errno) == number).map_or("another error", |(_, word)| word)
}

/// Device and inode, which tell apart two files with the same name.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
