//! What preprocessing has learnt of one animal, as plain values: saved at the end of a trial, taken up at the next.
//!
//! Why it exists: template, F₀ and statistics cost many seconds at the start of every trial of the same animal. What it must never
//! do: hold anything that depends on the network (any model with the same preprocessing can take it up), or be believed before the
//! first frames have shown that the tissue is the same.
//!
//! The file is one protobuf message ([`AnimalState`]), little-endian, arrays packed; field numbers never change their meaning.

use std::fmt;

use prost::Message;

use super::{CHANNELS_MAX, Name, PixelType, SIDE_PX_MAX, Shape};

/// Version of the file.
pub const STATE_VERSION: u32 = 1;
/// Largest file, bytes. 512×512 frames for a 128×128 model take 3 MB.
pub const STATE_BYTES_MAX: u64 = 256 << 20;

/// Extension of its name.
pub const ANIMAL_EXTENSION: &str = "animal";
/// Most frames that can have been learnt from: many thousand years.
const FRAMES_MAX: u64 = 1 << 48;

/// Pixel types, by their number in the file.
const PIXEL_TYPES: [PixelType; 4] = [PixelType::U8, PixelType::U16, PixelType::I16, PixelType::F32];

/// Everything learnt of one animal.
#[derive(Clone, PartialEq, Message)]
pub struct AnimalState {
    /// [`STATE_VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Its name when it was saved.
    #[prost(string, tag = "2")]
    pub animal: String,
    /// When, s since 1970 UTC.
    #[prost(uint64, tag = "3")]
    pub saved_unix_s: u64,
    /// SHA-256 of what it depends on: the manifest's preprocessing, the shape of the model's frame, its rate.
    #[prost(string, tag = "4")]
    pub preprocessing: String,
    /// Channels of the frames.
    #[prost(uint32, tag = "5")]
    pub channels: u32,
    /// Rows of the frames.
    #[prost(uint32, tag = "6")]
    pub height: u32,
    /// Columns of the frames.
    #[prost(uint32, tag = "7")]
    pub width: u32,
    /// Pixel type: 0 uint8, 1 uint16, 2 int16, 3 float32.
    #[prost(uint32, tag = "8")]
    pub pixel_type: u32,
    /// Offset of the odd lines, px, where it is corrected.
    #[prost(float, optional, tag = "9")]
    pub line_phase_px: Option<f32>,
    /// What frames are registered on, where they are.
    #[prost(message, optional, tag = "10")]
    pub template: Option<TemplateState>,
    /// F₀, where it is used.
    #[prost(message, optional, tag = "11")]
    pub baseline: Option<BaselineState>,
    /// Mean and variance, where they are used.
    #[prost(message, optional, tag = "12")]
    pub statistics: Option<StatisticsState>,
    /// Mean light of each plane that is read, counts; empty where frames are not judged.
    #[prost(double, repeated, tag = "13")]
    pub light_levels: Vec<f64>,
    /// Contrast of the picture in each of them, counts.
    #[prost(double, repeated, tag = "14")]
    pub light_contrasts: Vec<f64>,
    /// How it lies on the atlas of the model, where there is one.
    #[prost(message, optional, tag = "15")]
    pub placement: Option<PlacementState>,
}

/// The registration template and its place.
#[derive(Clone, PartialEq, Message)]
pub struct TemplateState {
    /// Light, height × width, C order.
    #[prost(float, repeated, tag = "1")]
    pub pixels: Vec<f32>,
    /// Where it lies relative to the animal's first template, down, px.
    #[prost(float, tag = "2")]
    pub origin_y_px: f32,
    /// The same to the right.
    #[prost(float, tag = "3")]
    pub origin_x_px: f32,
    /// Last accepted shift, down, px.
    #[prost(float, tag = "4")]
    pub accepted_y_px: f32,
    /// The same to the right.
    #[prost(float, tag = "5")]
    pub accepted_x_px: f32,
    /// Frames in the running level of the correlation peak.
    #[prost(uint32, tag = "6")]
    pub peak_frames: u32,
    /// That level, 0 to 1.
    #[prost(float, tag = "7")]
    pub peak_level: f32,
    /// Mean distance of the peaks from it.
    #[prost(float, tag = "8")]
    pub peak_distance: f32,
}

/// How the animal lies on the atlas, as the search found it: in pictures of 32 × 32 px, about their middle.
#[derive(Clone, PartialEq, Message)]
pub struct PlacementState {
    /// Turn, rad; + turns right towards down.
    #[prost(double, tag = "1")]
    pub turn_rad: f64,
    /// Shift down, picture px.
    #[prost(double, tag = "2")]
    pub shift_y_px: f64,
    /// Shift to the right, picture px.
    #[prost(double, tag = "3")]
    pub shift_x_px: f64,
    /// Logarithm of the magnification along y.
    #[prost(double, tag = "4")]
    pub log_scale_y: f64,
    /// The same along x.
    #[prost(double, tag = "5")]
    pub log_scale_x: f64,
    /// Correlation with the atlas.
    #[prost(float, tag = "6")]
    pub likeness: f32,
}

/// F₀ of every pixel of the model's frame.
#[derive(Clone, PartialEq, Message)]
pub struct BaselineState {
    /// Frames learnt from.
    #[prost(uint64, tag = "1")]
    pub frames: u64,
    /// F₀, counts.
    #[prost(double, repeated, tag = "2")]
    pub f0: Vec<f64>,
    /// The last frames, one after the other (`running-minimum`).
    #[prost(float, repeated, tag = "3")]
    pub ring: Vec<f32>,
    /// Running mean of |F − F₀| (`running-quantile`).
    #[prost(double, repeated, tag = "4")]
    pub deviation: Vec<f64>,
}

/// Mean and variance of every pixel or channel.
#[derive(Clone, PartialEq, Message)]
pub struct StatisticsState {
    /// Model frames that have entered.
    #[prost(uint64, tag = "1")]
    pub counted: u64,
    /// Model frames in the statistics.
    #[prost(uint64, tag = "2")]
    pub frames: u64,
    /// Frozen by their number.
    #[prost(bool, tag = "3")]
    pub frozen: bool,
    /// Mean.
    #[prost(double, repeated, tag = "4")]
    pub mean: Vec<f64>,
    /// Sum of squared distances from it.
    #[prost(double, repeated, tag = "5")]
    pub m2: Vec<f64>,
    /// Sum of the products of a distance and the one before; empty where the signal's share is not taken.
    #[prost(double, repeated, tag = "6")]
    pub joint: Vec<f64>,
    /// Distance of the last frame.
    #[prost(double, repeated, tag = "7")]
    pub last: Vec<f64>,
}

/// Why bytes are not the state of an animal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Too many of them.
    #[error("{bytes} bytes; the state of an animal has at most {STATE_BYTES_MAX}")]
    Size {
        /// How many.
        bytes: u64,
    },
    /// Damaged, or something else.
    #[error("it is not the state of an animal: {0}")]
    Form(String),
    /// Of another version of haltere.
    #[error(
        "version {0} of the file; this haltere reads version {STATE_VERSION}: use the haltere that wrote it, or learn anew"
    )]
    Version(u32),
    /// A value that cannot be.
    #[error("`{key}` is {value}; must be {wanted}")]
    Value {
        /// Which field.
        key: &'static str,
        /// What it is.
        value: String,
        /// What may be.
        wanted: String,
    },
}

fn wrong(key: &'static str, value: impl fmt::Display, wanted: impl Into<String>) -> StateError {
    StateError::Value { key, value: value.to_string(), wanted: wanted.into() }
}

/// A list must have so many values, all of them finite.
fn list<T: Copy + Into<f64>>(key: &'static str, values: &[T], wanted: usize) -> Result<(), StateError> {
    if values.len() != wanted {
        return Err(wrong(key, format!("a list of {}", values.len()), format!("a list of {wanted}")));
    }
    match values.iter().copied().map(Into::into).find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(wrong(key, value, "finite")),
    }
}

impl AnimalState {
    /// Reads a file's bytes and checks everything that can be checked without a model: a state that comes from elsewhere must not
    /// be able to do more than a bad recording could.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, StateError> {
        let length = bytes.len() as u64;
        if length > STATE_BYTES_MAX {
            return Err(StateError::Size { bytes: length });
        }
        // Every number takes at least half of its memory in the file, so that this takes no more than a few times its bytes.
        let state = Self::decode(bytes).map_err(|cause| StateError::Form(cause.to_string()))?;
        state.check()?;
        Ok(state)
    }

    fn check(&self) -> Result<(), StateError> {
        if self.version != STATE_VERSION {
            return Err(StateError::Version(self.version));
        }
        let sides = [("channels", self.channels, CHANNELS_MAX), ("height", self.height, SIDE_PX_MAX)];
        for (key, side, most) in sides.into_iter().chain([("width", self.width, SIDE_PX_MAX)]) {
            if !(1..=most as u32).contains(&side) {
                return Err(wrong(key, side, format!("1 to {most}")));
            }
        }
        if self.pixel_type().is_none() {
            return Err(wrong("pixel_type", self.pixel_type, "0 to 3"));
        }
        list("line_phase_px", self.line_phase_px.as_slice(), usize::from(self.line_phase_px.is_some()))?;
        if let Some(template) = &self.template {
            let TemplateState { origin_y_px, origin_x_px, accepted_y_px, accepted_x_px, .. } = template;
            list("template.pixels", &template.pixels, self.shape().plane())?;
            for px in [origin_y_px, origin_x_px, accepted_y_px, accepted_x_px] {
                if px.is_nan() || px.abs() > SIDE_PX_MAX as f32 {
                    return Err(wrong(
                        "template",
                        format!("displaced by {px} px"),
                        format!("at most {SIDE_PX_MAX} px away"),
                    ));
                }
            }
            list("template.peak", &[template.peak_level, template.peak_distance], 2)?;
        }
        if let Some(PlacementState { turn_rad, shift_y_px, shift_x_px, log_scale_y, log_scale_x, likeness }) =
            self.placement
        {
            let five = [turn_rad, shift_y_px, shift_x_px, log_scale_y, log_scale_x];
            list("placement", &five, five.len())?;
            list("placement.likeness", &[likeness], 1)?;
        }
        let counted = self.statistics.as_ref().map_or(0, |s| s.counted.max(s.frames));
        let frames = self.baseline.as_ref().map_or(0, |b| b.frames).max(counted);
        if frames > FRAMES_MAX {
            return Err(wrong("frames", frames, format!("at most {FRAMES_MAX}")));
        }
        let planes = self.light_levels.len();
        if planes > CHANNELS_MAX {
            return Err(wrong("light_levels", format!("a list of {planes}"), format!("a list of 0 to {CHANNELS_MAX}")));
        }
        list("light_levels", &self.light_levels, planes)?;
        list("light_contrasts", &self.light_contrasts, planes)
    }

    /// Checks the lists against a model: `pixels` of its frame, `ring` values of its moving average and `deviation` of its quantile
    /// (0 where it has none), `groups` of its statistics; `None` where it has no F₀ or no statistics.
    ///
    /// # Errors
    /// The first list of another length, or one that is there and should not be.
    pub fn check_lists(&self, f0: Option<[usize; 3]>, groups: Option<[usize; 2]>) -> Result<(), StateError> {
        match (&self.baseline, f0) {
            (None, None) => {}
            (Some(baseline), Some([pixels, ring, deviation])) => {
                list("baseline.f0", &baseline.f0, pixels)?;
                list("baseline.ring", &baseline.ring, ring)?;
                list("baseline.deviation", &baseline.deviation, deviation)?;
            }
            (found, _) => return Err(there("baseline", found.is_some())),
        }
        match (&self.statistics, groups) {
            (None, None) => Ok(()),
            (Some(statistics), Some([groups, signal])) => {
                list("statistics.mean", &statistics.mean, groups)?;
                list("statistics.m2", &statistics.m2, groups)?;
                list("statistics.joint", &statistics.joint, signal)?;
                list("statistics.last", &statistics.last, signal)?;
                if statistics.frames == 0 || statistics.m2.iter().any(|m2| *m2 < 0.0) {
                    return Err(wrong(
                        "statistics",
                        "without frames, or of a negative variance",
                        "those of some frames",
                    ));
                }
                Ok(())
            }
            (found, _) => Err(there("statistics", found.is_some())),
        }
    }

    /// Shape of the frames.
    pub fn shape(&self) -> Shape {
        Shape::new(self.channels as usize, self.height as usize, self.width as usize)
    }

    /// Pixel type of the frames; always there once it is read.
    pub fn pixel_type(&self) -> Option<PixelType> {
        PIXEL_TYPES.get(self.pixel_type as usize).copied()
    }

    /// The same state of frames like these.
    #[must_use]
    pub fn of_frames(self, shape: Shape, pixel_type: PixelType) -> Self {
        let number = PIXEL_TYPES.iter().position(|known| *known == pixel_type).unwrap_or(0);
        let [channels, height, width] = [shape.channels, shape.height, shape.width].map(|side| side as u32);
        Self { version: STATE_VERSION, channels, height, width, pixel_type: number as u32, ..self }
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// Something is there, or is not, against what the model has.
fn there(key: &'static str, found: bool) -> StateError {
    let [is, should] = [found, !found].map(|there| if there { "there" } else { "not there" });
    wrong(key, is, should)
}

/// The saved state of one animal, as it was read: compared by name and content.
#[derive(Clone, Debug)]
pub struct SavedAnimal {
    /// Under which name it was saved.
    pub name: Name,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// The file's bytes: what a recorded session keeps of it.
    pub bytes: Vec<u8>,
    /// What they mean.
    pub state: AnimalState,
}

impl SavedAnimal {
    /// From the bytes of a file, of which the caller knows the SHA-256.
    ///
    /// # Errors
    /// As [`AnimalState::read`].
    pub fn read(name: Name, bytes: Vec<u8>, sha256: String) -> Result<Self, StateError> {
        let state = AnimalState::read(&bytes)?;
        Ok(Self { name, sha256, bytes, state })
    }
}

impl PartialEq for SavedAnimal {
    fn eq(&self, other: &Self) -> bool {
        (self.name, &self.sha256) == (other.name, &other.sha256)
    }
}

impl Eq for SavedAnimal {}

/// What becomes of a state that was taken up, as one frame shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TakenUp {
    /// On trial: the first frames are compared with it, and so many are still to come.
    OnTrial(u32),
    /// This frame was the last of the trial: the tissue is the same.
    Known {
        /// Median correlation peak of the trial; 0 without registration.
        peak: f32,
        /// Its running level when the state was saved.
        saved_peak: f32,
    },
    /// The state does not fit: everything is forgotten and learnt anew.
    Mismatch(Mismatch),
}

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mismatch {
    /// The frames do not match the template: another tissue, or another place in it.
    Template {
        /// Median correlation peak of the trial.
        found: f32,
        /// The least it would have to be.
        needed: f32,
    },
    /// The light is another one: F₀ would be wrong.
    Light {
        /// Mean light of the trial, counts.
        found: f32,
        /// When the state was saved.
        saved: f32,
    },
    /// Frames of another shape or pixel type.
    Geometry,
    /// It was learnt with other preprocessing.
    Preprocessing,
}

impl Mismatch {
    /// The word in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Template { .. } => "template",
            Self::Light { .. } => "light",
            Self::Geometry => "geometry",
            Self::Preprocessing => "preprocessing",
        }
    }

    /// What was found and what was expected, where these are numbers.
    pub const fn numbers(self) -> Option<[f32; 2]> {
        match self {
            Self::Template { found, needed: expected } | Self::Light { found, saved: expected } => {
                Some([found, expected])
            }
            Self::Geometry | Self::Preprocessing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> AnimalState {
        let template =
            TemplateState { pixels: vec![1.0; 6], peak_level: 0.9, peak_frames: 40, ..TemplateState::default() };
        let state = AnimalState {
            animal: "fly3".into(),
            template: Some(template),
            baseline: Some(BaselineState { frames: 9, f0: vec![3.0; 4], ring: vec![1.0; 8], deviation: vec![] }),
            statistics: Some(StatisticsState {
                counted: 9,
                frames: 9,
                frozen: false,
                mean: vec![0.0; 4],
                m2: vec![1.0; 4],
                ..StatisticsState::default()
            }),
            light_levels: vec![7.0],
            light_contrasts: vec![2.0],
            placement: Some(PlacementState { turn_rad: 0.1, likeness: 0.8, ..PlacementState::default() }),
            ..AnimalState::default()
        };
        state.of_frames(Shape::new(1, 2, 3), PixelType::I16)
    }

    #[test]
    fn a_state_comes_out_as_it_went_in() {
        let read = AnimalState::read(&state().to_bytes()).unwrap();
        assert_eq!(read, state());
        assert_eq!((read.shape(), read.pixel_type()), (Shape::new(1, 2, 3), Some(PixelType::I16)));
        read.check_lists(Some([4, 8, 0]), Some([4, 0])).unwrap();
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let refused = |change: fn(&mut AnimalState), words: &str| {
            let mut state = state();
            change(&mut state);
            let read = AnimalState::read(&state.to_bytes())
                .and_then(|s| s.check_lists(Some([4, 8, 0]), Some([4, 0])).map(|()| s));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(|s| s.version = 2, "version 2 of the file; this haltere reads version 1");
        refused(|s| s.height = 0, "`height` is 0; must be 1 to 4096");
        refused(|s| s.width = u32::MAX, "`width` is 4294967295");
        refused(|s| s.pixel_type = 4, "`pixel_type` is 4");
        refused(|s| s.line_phase_px = Some(f32::NAN), "`line_phase_px` is NaN; must be finite");
        refused(
            |s| s.template.as_mut().unwrap().pixels.clear(),
            "`template.pixels` is a list of 0; must be a list of 6",
        );
        refused(|s| s.template.as_mut().unwrap().pixels[1] = f32::INFINITY, "`template.pixels` is inf");
        refused(|s| s.template.as_mut().unwrap().origin_y_px = f32::NAN, "`template` is displaced by NaN px");
        refused(|s| s.statistics.as_mut().unwrap().counted = u64::MAX, "`frames` is 18446744073709551615");
        refused(|s| s.placement.as_mut().unwrap().log_scale_x = f64::NAN, "`placement` is NaN");
        refused(|s| s.placement.as_mut().unwrap().likeness = f32::INFINITY, "`placement.likeness` is inf");
        refused(|s| s.light_contrasts.clear(), "`light_contrasts` is a list of 0; must be a list of 1");
        refused(|s| s.baseline = None, "`baseline` is not there; must be there");
        refused(|s| s.baseline.as_mut().unwrap().ring.clear(), "`baseline.ring` is a list of 0; must be a list of 8");
        refused(|s| s.statistics.as_mut().unwrap().m2[3] = -1.0, "negative variance");
        refused(|s| s.statistics.as_mut().unwrap().joint = vec![0.0; 4], "statistics.joint");
        refused(|s| s.statistics.as_mut().unwrap().mean.push(0.0), "`statistics.mean` is a list of 5");
    }

    #[test]
    fn bytes_that_are_no_state_are_refused_and_none_panics() {
        let whole = state().to_bytes();
        assert!(matches!(AnimalState::read(b"not a state"), Err(StateError::Form(_))));
        assert_eq!(AnimalState::read(b""), Err(StateError::Version(0)));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let _ = AnimalState::read(&damaged);
            let _ = AnimalState::read(&whole[..at]);
        }
        // A list that claims four gigabytes and has four bytes.
        assert!(AnimalState::read(&[0x6a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0]).is_err());
    }
}
