//! The atlas in a manifest: the mean picture of the training animals, how pictures are made and compared, and what likeness a new
//! animal must reach.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Side of a picture, px.
pub const PICTURE_PX: usize = 32;
/// Largest value in a picture: it has mean 0 and deviation 1.
const VALUE_MAX: f32 = 99.0;
/// Digits after the point that stand in the manifest.
const DIGITS: usize = 3;

/// The atlas on which every animal is laid, once its registration template stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Atlas {
    /// Correlation with the atlas below which an animal does not fit.
    pub likeness_min: f32,
    /// Darkest light of a picture, as a share of the range from its darkest to its brightest parts: its logarithm is compared.
    pub floor_share: f32,
    /// Gaussian smoothing of a picture, σ in picture px (a picture has 32 × 32).
    pub smooth_px: f32,
    /// Picture px of the atlas that are not compared on each side.
    pub rim_px: usize,
    /// Weight of the prior, which pulls a placement towards none: this times the sum of the squares of turn, shift and log scale, each
    /// divided by its width below.
    pub prior: f32,
    /// Width of the prior for the turn, rad.
    pub turn_rad: f32,
    /// Width of the prior for each shift, picture px.
    pub shift_px: f32,
    /// Width of the prior for the logarithm of each scale.
    pub log_scale: f32,
    /// The mean picture of the training animals.
    pub picture: MeanPicture,
}

impl Default for Atlas {
    fn default() -> Self {
        Self {
            likeness_min: 0.5,
            floor_share: 0.03,
            smooth_px: 0.7,
            rim_px: 3,
            prior: 0.002,
            turn_rad: 0.15,
            shift_px: 2.0,
            log_scale: 0.08,
            picture: MeanPicture::default(),
        }
    }
}

/// 32 × 32 values of mean 0 and deviation 1, C order; in a manifest 32 lines of 32 numbers.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
pub struct MeanPicture(#[schemars(with = "Vec<String>")] pub Vec<f32>);

impl Default for MeanPicture {
    fn default() -> Self {
        Self(vec![0.0; PICTURE_PX * PICTURE_PX])
    }
}

impl MeanPicture {
    /// The values as they will be read back from a manifest.
    pub fn rounded(values: &[f32]) -> Self {
        Self(values.iter().map(|v| format!("{v:.DIGITS$}").parse().unwrap_or(0.0)).collect())
    }

    /// True when it has the right size, finite values, and contrast.
    pub(super) fn is_sound(&self) -> bool {
        let finite = self.0.iter().all(|v| v.abs() <= VALUE_MAX);
        self.0.len() == PICTURE_PX * PICTURE_PX && finite && self.0.iter().any(|v| *v != self.0[0])
    }
}

impl Serialize for MeanPicture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |row: &[f32]| row.iter().map(|v| format!("{v:.DIGITS$}")).collect::<Vec<_>>().join(" ");
        serializer.collect_seq(self.0.chunks(PICTURE_PX).map(line))
    }
}

impl<'de> Deserialize<'de> for MeanPicture {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let lines = Vec::<String>::deserialize(from)?;
        let values: Result<Vec<f32>, _> =
            lines.iter().flat_map(|line| line.split_whitespace()).map(str::parse).collect();
        let values = values.map_err(|e| D::Error::custom(format!("a line of the picture is not numbers: {e}")))?;
        let (wanted, found) = (PICTURE_PX * PICTURE_PX, values.len());
        if lines.len() != PICTURE_PX || found != wanted {
            let message =
                format!("{} lines with {found} numbers; a picture has {PICTURE_PX} lines of {PICTURE_PX}", lines.len());
            return Err(D::Error::custom(message));
        }
        Ok(Self(values))
    }
}
