//! The atlas: the mean picture of the training animals, each laid where it fits the others best.
//!
//! Why it exists: any one animal would be a biased reference. Three rounds; in each, every picture is laid on the mean of the
//! former round, and the mean placement is taken out, so that the atlas lies where the animals lie on average.
//! What it must never do: see an animal that will be called unseen; who calls it decides which templates it gets.

use super::fit::{Five, blank, lay};
use super::picture::{Pictures, standardise};
use super::{Placer, Stage};
use crate::model::parameters::{Atlas, MeanPicture, PICTURE_PX};

/// Rounds of laying every picture on the mean of the last.
const ROUNDS: usize = 3;
/// Calls in which a placement is found at the latest.
const CALLS_MAX: usize = 100;
/// The likeness that a new animal must reach: this share of the lowest of the training animals, whose likeness is a little too
/// high because they made the atlas; and its bounds.
const LIKENESS: (f32, f32, f32) = (0.85, 0.3, 0.9);

/// Why there is no atlas.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AtlasError {
    /// Nothing to average.
    #[error(
        "an atlas needs at least one registration template: every trial is shorter than preprocessing takes to make one"
    )]
    Empty,
    /// A template without an image in it.
    #[error("the registration template of {what} has no contrast: is that channel dark?")]
    Blank {
        /// Which one.
        what: String,
    },
}

/// What one trial contributes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its picture.
    picture: Vec<f32>,
    /// Height / width of its frames.
    aspect: f64,
}

impl View {
    /// Of the registration template of trial `name`, height × width, C order, with the recipe of `atlas`.
    ///
    /// # Errors
    /// [`AtlasError::Blank`].
    pub fn of(atlas: &Atlas, name: &str, template: &[f32], height: usize, width: usize) -> Result<Self, AtlasError> {
        let mut picture = blank();
        Pictures::new(atlas, height, width).take(atlas, template, &mut picture);
        if picture.iter().all(|v| *v == 0.0) {
            return Err(AtlasError::Blank { what: name.to_owned() });
        }
        Ok(Self { picture, aspect: height as f64 / width as f64 })
    }
}

/// Makes the atlas of these trials, with the recipe of `recipe` (its picture and its `likeness_min` are not used).
///
/// # Errors
/// [`AtlasError::Empty`].
pub fn make_atlas(recipe: &Atlas, views: &[View]) -> Result<Atlas, AtlasError> {
    if views.is_empty() {
        return Err(AtlasError::Empty);
    }
    let mut atlas = recipe.clone();
    atlas.picture = mean(views.iter().map(|view| view.picture.as_slice()));
    for _ in 0..ROUNDS {
        let mut places: Vec<Five> = views.iter().map(|view| placed(&atlas, view).0).collect();
        let count = places.len() as f64;
        let middle: Five = std::array::from_fn(|i| places.iter().map(|five| five[i]).sum::<f64>() / count);
        for five in &mut places {
            five.iter_mut().zip(middle).for_each(|(v, middle)| *v -= middle);
        }
        let mut laid = vec![blank(); views.len()];
        for ((laid, view), five) in laid.iter_mut().zip(views).zip(&places) {
            lay(&view.picture, five, view.aspect, laid);
            standardise(laid);
        }
        atlas.picture = mean(laid.iter().map(Vec::as_slice));
    }
    let lowest = views.iter().map(|view| placed(&atlas, view).1).fold(1.0, f32::min);
    let (share, least, most) = LIKENESS;
    // Two digits are enough, and stay what they are in a file.
    atlas.likeness_min = ((share * lowest).clamp(least, most) * 100.0).round() / 100.0;
    Ok(atlas)
}

/// The placement and the likeness of one view, found as a daemon finds them.
fn placed(atlas: &Atlas, view: &View) -> (Five, f32) {
    let mut placer = Placer::new(atlas, PICTURE_PX, PICTURE_PX);
    placer.geometry.aspect = view.aspect;
    placer.views[1].copy_from_slice(&view.picture);
    placer.begin_with_picture();
    for _ in 0..CALLS_MAX {
        placer.step(&[]);
        if let Stage::Found(five, placement) = placer.stage {
            return (five, placement.likeness);
        }
    }
    ([0.0; 5], 0.0)
}

/// The standardised mean, rounded as it will stand in the manifest.
fn mean<'a>(pictures: impl Iterator<Item = &'a [f32]>) -> MeanPicture {
    let mut sum = vec![0.0; PICTURE_PX * PICTURE_PX];
    pictures.for_each(|picture| sum.iter_mut().zip(picture).for_each(|(sum, v)| *sum += v));
    standardise(&mut sum);
    MeanPicture::rounded(&sum)
}
