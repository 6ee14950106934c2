//! The parameters of preprocessing, as they stand in a model's manifest under `[preprocess]`.
//!
//! Why it exists: a parameter that differs between training and the rig silently changes what a model sees; so none of them
//! lives in the rig's configuration. What it must never do: hold anything that depends on a rig, a device or a clock.
//!
//! Every struct has a `Default` that is the documented default, denies unknown keys, and is checked by
//! [`Parameters::check`], whose messages name key, value and bound.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::atlas::{Atlas, MeanPicture, PICTURE_PX};
use super::step;
use crate::sys::assign::assign;

/// Everything between the frame and the tensor, in the order of execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Frame channels that become the model's input channels, in this order (0-based). ΔF/F and statistics are per channel.
    pub channels: Vec<usize>,
    /// Counts to light.
    pub convert: Convert,
    /// Which frames are not believed: nothing is learnt from them, and they are not shown to the model.
    pub trust: Trust,
    /// Bidirectional line-phase correction; absent or `"off"` = off.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<LinePhase>")]
    pub line_phase: Option<LinePhase>,
    /// Rigid registration; absent = its defaults, `"off"` = off.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<Registration>")]
    pub registration: Option<Registration>,
    /// The atlas on which every animal is laid, in the same warp that undoes the shift; absent or `"off"` = animals stay as they lie.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<Atlas>")]
    pub atlas: Option<Atlas>,
    /// Consecutive frames averaged (after registration) into one model frame; 1 = none. The model's frame rate counts averaged
    /// frames. A lost frame stretches its group; one that would span twice as many frame numbers is begun anew.
    pub average_frames: usize,
    /// A longer time between two frames of the stream, in frame periods, is a pause: no window spans it. The network's window then
    /// begins anew, and training leaves the windows across it out.
    pub pause_periods: f64,
    /// F₀ and ΔF/F; absent = their defaults, `"off"` = the resampled brightness itself.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<Baseline>")]
    pub baseline: Option<Baseline>,
    /// Normalisation with running statistics; absent = its defaults, `"off"` = none.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<Normalise>")]
    pub normalise: Option<Normalise>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            channels: vec![0],
            convert: Convert::default(),
            trust: Trust::default(),
            line_phase: None,
            registration: Some(Registration::default()),
            atlas: None,
            average_frames: 1,
            pause_periods: 10.0,
            baseline: Some(Baseline::default()),
            normalise: Some(Normalise::default()),
        }
    }
}

/// Counts to light: `invert ? top − x : x`, then minus the dark level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Convert {
    /// Counts without light, subtracted from every pixel.
    pub dark_level: f32,
    /// The sender inverts (Scanbox: 65535 − raw): undo it. Integer pixels only.
    pub invert: bool,
}

impl Default for Convert {
    fn default() -> Self {
        Self { dark_level: 0.0, invert: false }
    }
}

/// What makes a frame one that is not tissue: light that went in, a closed shutter, lines of stimulation, a damaged frame. Light is
/// judged by what the frames before it had, never absolutely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// Judge frames by their pixels. What the sender marks counts in any case.
    pub enabled: bool,
    /// Largest share of pixels at the top of the range of their type.
    pub saturated_share_max: f32,
    /// Largest share of pixels that are NaN or infinite.
    pub non_finite_share_max: f32,
    /// Largest step of the mean light since the frames before, as a share of the picture's contrast (from its background to its
    /// mean). Ten usual steps are allowed in any case.
    pub level_step: f32,
    /// The same for a strip of lines (a sixteenth of the frame).
    pub band_step: f32,
    /// How much picture a frame must show. The first frame: the correlation between its odd and its even lines, coarsely or between
    /// neighbours (a dense field of small cells has nothing coarse). A later one: the share of what the frames before showed.
    pub structure_min: f32,
    /// Lowest correlation peak, as a share of its running level.
    pub peak_share_min: f32,
    /// Frames are not believed for so long after one marked `"stimulus":true`, ms, by the frames' own times.
    pub mask_after_stimulus_ms: u32,
    /// A level of light that has lasted for so long is the animal's new one: F₀ and statistics begin anew, s; 0 = never.
    pub relearn_after_s: f32,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            enabled: true,
            saturated_share_max: 0.1,
            non_finite_share_max: 0.01,
            level_step: 0.3,
            band_step: 0.6,
            structure_min: 0.3,
            peak_share_min: 0.5,
            mask_after_stimulus_ms: 0,
            relearn_after_s: 60.0,
        }
    }
}

/// Offset between left-going and right-going lines, estimated from the first frames, then constant until a reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinePhase {
    /// Largest offset searched, px.
    pub reach_px: usize,
    /// Frames whose estimate is pooled before the correction begins.
    pub frames: usize,
}

impl Default for LinePhase {
    fn default() -> Self {
        Self { reach_px: 8, frames: 30 }
    }
}

/// Phase correlation against a template that is built from the stream itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Frame channel (0-based) the shift is measured on; it is applied to all channels.
    pub channel: usize,
    /// Largest shift searched in each direction, px.
    pub reach_px: usize,
    /// Frames collected for the template. On simulated flies 48 and 100 give the same shifts to 0.002 px.
    pub template_frames: usize,
    /// Rounds of align-and-average over the collected frames.
    pub template_rounds: usize,
    /// Gaussian smoothing of the correlation, σ in px (suite2p: 1.15).
    pub smooth_px: f32,
    /// Lowest spatial frequencies kept per axis. Of 256, 96 lose nothing; 80 lose 5 % of the precision and a seventh of the time.
    pub frequencies: usize,
    /// Share of each new aligned frame in the template, 0 = the template stays as built.
    pub refresh: f32,
    /// Correlation peaks below this are rejected: the last accepted shift is used, and the frame is marked as degraded.
    pub peak_min: f32,
    /// Piecewise-rigid refinement; absent or `"off"` = off.
    #[serde(with = "step")]
    #[schemars(schema_with = "step::schema::<Piecewise>")]
    pub piecewise: Option<Piecewise>,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            channel: 0,
            reach_px: 16,
            template_frames: 48,
            template_rounds: 4,
            smooth_px: 1.15,
            frequencies: 80,
            refresh: 0.0,
            peak_min: 0.0,
            piecewise: None,
        }
    }
}

/// A field of local shifts on a grid of overlapping blocks, around the rigid one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Piecewise {
    /// Blocks per axis.
    pub blocks: usize,
    /// Largest deviation from the rigid shift, px.
    pub reach_px: usize,
}

impl Default for Piecewise {
    fn default() -> Self {
        Self { blocks: 4, reach_px: 4 }
    }
}

/// F₀ and ΔF/F = (F − F₀) / max(F₀, floor), per pixel of the model's frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// How F₀ is estimated.
    pub estimator: Estimator,
    /// Frames of the causal moving average whose running minimum is F₀ (`running-minimum`).
    pub average_frames: usize,
    /// Upward leak of the minimum per second, as a share of max(F₀, floor), so that F₀ can rise again
    /// (`running-minimum`): a baseline that stays too low decays by so much ΔF/F per second. 0 = never.
    pub leak_per_s: f32,
    /// Largest fall of F₀ per second, as a share of max(F₀, floor), so that a second of darkness cannot pull it down
    /// (`running-minimum`). 0 = any.
    pub fall_per_s: f32,
    /// The quantile followed (`running-quantile`).
    pub quantile: f32,
    /// Time constant with which the quantile is followed, s (`running-quantile`).
    pub time_constant_s: f32,
    /// Distances from F₀ count up to so many times the mean distance, so that a flash cannot throw it (`running-quantile`). 0 = any.
    pub influence: f32,
    /// Smallest denominator, counts above the dark level: keeps dark pixels finite.
    pub floor_counts: f32,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            estimator: Estimator::RunningMinimum,
            average_frames: 15,
            leak_per_s: 0.002,
            fall_per_s: 0.05,
            quantile: 0.1,
            time_constant_s: 30.0,
            influence: 10.0,
            floor_counts: 20.0,
        }
    }
}

/// How F₀ is estimated, always from the past alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Running minimum of a moving average (the causal form of the published pipeline's F₀).
    RunningMinimum,
    /// A running quantile by stochastic approximation.
    RunningQuantile,
}

/// (x − mean) / max(sd, floor) with statistics of this animal so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Normalise {
    /// Whose mean and standard deviation.
    pub scope: Scope,
    /// Model frames before the statistics are used; until then the decode is marked as warm-up. Fewer make no later decode worse, but
    /// the first ones rest on what the animal did in so many frames.
    pub warmup_frames: usize,
    /// Model frames after which the statistics freeze by themselves; 0 = only on request.
    pub freeze_after_frames: usize,
    /// Time that the statistics remember, s: beyond it older frames count less and less. 0 = all frames count the same.
    pub memory_s: f32,
    /// Distances from the mean count up to so many standard deviations, once the statistics are used, so that a flash cannot widen
    /// them. 0 = any.
    pub influence_sd: f32,
    /// Smallest standard deviation divided by.
    pub sd_floor: f32,
    /// Is every pixel multiplied by the share of its variance that is signal, 0 to 1? Photon noise is new in every frame, activity is
    /// not: the share is the correlation of the pixel with itself one model frame before. Needs `scope = "pixel"`.
    pub signal_share: bool,
}

impl Default for Normalise {
    fn default() -> Self {
        Self {
            scope: Scope::Pixel,
            warmup_frames: 32,
            freeze_after_frames: 0,
            memory_s: 600.0,
            influence_sd: 6.0,
            sd_floor: 0.01,
            signal_share: false,
        }
    }
}

/// Over what the normalisation statistics run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One mean and standard deviation per pixel and channel.
    Pixel,
    /// One per channel.
    Channel,
}

/// A parameter outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("preprocess.{key}{}{value}: {bound}", if key.is_empty() { "" } else { " = " })]
pub struct ParameterError {
    /// Dotted key below `[preprocess]`; empty where `value` is a whole assignment.
    pub key: &'static str,
    /// What was written.
    pub value: String,
    /// What is allowed, and why if that is not plain.
    pub bound: Cow<'static, str>,
}

impl Parameters {
    /// The last channel of a frame that is read, for the model or for registration.
    pub fn last_channel(&self) -> usize {
        let registered = self.registration.as_ref().map(|registration| registration.channel);
        self.channels.iter().copied().chain(registered).max().unwrap_or(0)
    }

    /// Those of a manifest: what it does not say because it is older is as it was when its model was made. `written` tells whether it
    /// says a key of a section.
    #[must_use]
    pub fn of_their_time(mut self, written: impl Fn(&str, &str) -> bool) -> Self {
        if let Some(baseline) = &mut self.baseline {
            let unbounded = |key| !written("baseline", key);
            baseline.fall_per_s = if unbounded("fall_per_s") { 0.0 } else { baseline.fall_per_s };
            baseline.influence = if unbounded("influence") { 0.0 } else { baseline.influence };
        }
        if let Some(normalise) = &mut self.normalise {
            let unbounded = |key| !written("normalise", key);
            normalise.memory_s = if unbounded("memory_s") { 0.0 } else { normalise.memory_s };
            normalise.influence_sd = if unbounded("influence_sd") { 0.0 } else { normalise.influence_sd };
        }
        self
    }

    /// Sets one value by its dotted key below `[preprocess]`, as in `baseline.time_constant_s=60` or `baseline=off`.
    ///
    /// # Errors
    /// [`ParameterError`] for a key that is not there, a value of another kind, or one outside its range.
    pub fn set(&mut self, assignment: &str) -> Result<(), ParameterError> {
        let wrong = |bound: String| ParameterError { key: "", value: assignment.into(), bound: bound.into() };
        assign(self, assignment).map_err(wrong)?;
        self.check()
    }

    /// Checks every value against its bound.
    ///
    /// # Errors
    /// The first parameter outside its range, by key, value and bound.
    pub fn check(&self) -> Result<(), ParameterError> {
        let checks = [self.check_input(), self.check_trust(), self.check_line_phase(), self.check_registration()];
        checks.into_iter().chain([self.check_atlas(), self.check_baseline(), self.check_normalise()]).collect()
    }

    fn check_input(&self) -> Result<(), ParameterError> {
        let distinct = self.channels.len() < 2 || self.channels[0] != self.channels[1];
        let channels = (1..=2).contains(&self.channels.len()) && self.channels.iter().all(|&c| c < 2) && distinct;
        within(channels, "channels", &self.channels, "one or two different channels, each 0 or 1")?;
        let dark = self.convert.dark_level;
        within(dark.abs() <= 65535.0, "convert.dark_level", &dark, "−65535 to 65535 counts")?;
        let average = self.average_frames;
        within((1..=64).contains(&average), "average_frames", &average, "1 to 64 frames")?;
        let pause = self.pause_periods;
        within((1.5..=1e6).contains(&pause), "pause_periods", &pause, "1.5 to 1000000 frame periods")
    }

    fn check_trust(&self) -> Result<(), ParameterError> {
        let p = &self.trust;
        let (saturated, non_finite, peak) = (p.saturated_share_max, p.non_finite_share_max, p.peak_share_min);
        within((0.0..=1.0).contains(&saturated), "trust.saturated_share_max", &saturated, "0 to 1")?;
        within((0.0..=1.0).contains(&non_finite), "trust.non_finite_share_max", &non_finite, "0 to 1")?;
        within((0.01..=100.0).contains(&p.level_step), "trust.level_step", &p.level_step, "0.01 to 100")?;
        within((0.01..=100.0).contains(&p.band_step), "trust.band_step", &p.band_step, "0.01 to 100")?;
        within((0.0..=1.0).contains(&p.structure_min), "trust.structure_min", &p.structure_min, "0 to 1")?;
        within((0.0..=1.0).contains(&peak), "trust.peak_share_min", &peak, "0 to 1")?;
        let (mask, relearn) = (p.mask_after_stimulus_ms, p.relearn_after_s);
        within(mask <= 60_000, "trust.mask_after_stimulus_ms", &mask, "0 to 60000 ms")?;
        within((0.0..=86_400.0).contains(&relearn), "trust.relearn_after_s", &relearn, "0 to 86400 s")
    }

    fn check_line_phase(&self) -> Result<(), ParameterError> {
        let Some(p) = &self.line_phase else { return Ok(()) };
        within((1..=32).contains(&p.reach_px), "line_phase.reach_px", &p.reach_px, "1 to 32 px")?;
        within((1..=1000).contains(&p.frames), "line_phase.frames", &p.frames, "1 to 1000 frames")
    }

    fn check_registration(&self) -> Result<(), ParameterError> {
        let Some(p) = &self.registration else { return Ok(()) };
        within(p.channel < 2, "registration.channel", &p.channel, "0 or 1")?;
        within((1..=64).contains(&p.reach_px), "registration.reach_px", &p.reach_px, "1 to 64 px")?;
        let (frames, rounds) = (p.template_frames, p.template_rounds);
        within((1..=1000).contains(&frames), "registration.template_frames", &frames, "1 to 1000 frames")?;
        within((1..=20).contains(&rounds), "registration.template_rounds", &rounds, "1 to 20 rounds")?;
        within((0.0..=8.0).contains(&p.smooth_px), "registration.smooth_px", &p.smooth_px, "0 to 8 px")?;
        let kept = p.frequencies;
        within(
            (8..=2048).contains(&kept),
            "registration.frequencies",
            &kept,
            "8 to 2048 (more than half the side is cut to it)",
        )?;
        within((0.0..=0.5).contains(&p.refresh), "registration.refresh", &p.refresh, "0 to 0.5")?;
        within((0.0..=1.0).contains(&p.peak_min), "registration.peak_min", &p.peak_min, "0 to 1")?;
        let Some(p) = &p.piecewise else { return Ok(()) };
        within((2..=16).contains(&p.blocks), "registration.piecewise.blocks", &p.blocks, "2 to 16 blocks")?;
        let reach = p.reach_px;
        within((1..=16).contains(&reach), "registration.piecewise.reach_px", &reach, "1 to 16 px")
    }

    fn check_atlas(&self) -> Result<(), ParameterError> {
        let Some(p) = &self.atlas else { return Ok(()) };
        let on = self.registration.as_ref();
        within(
            on.is_some(),
            "registration",
            &"off",
            "on where there is an atlas: a placement is measured on the template",
        )?;
        let rigid = on.is_none_or(|r| r.piecewise.is_none());
        within(rigid, "registration.piecewise", &"on", "off where there is an atlas: it is laid by one affine map")?;
        let likeness = p.likeness_min;
        within((-1.0..=1.0).contains(&likeness), "atlas.likeness_min", &likeness, "−1 to 1")?;
        let floor = p.floor_share;
        within(floor > 0.0 && floor <= 0.5, "atlas.floor_share", &floor, "above 0, to 0.5")?;
        within((0.0..=4.0).contains(&p.smooth_px), "atlas.smooth_px", &p.smooth_px, "0 to 4 px")?;
        within(p.rim_px <= 12, "atlas.rim_px", &p.rim_px, "0 to 12 px")?;
        within((0.0..=1.0).contains(&p.prior), "atlas.prior", &p.prior, "0 to 1")?;
        for (key, width) in
            [("atlas.turn_rad", p.turn_rad), ("atlas.shift_px", p.shift_px), ("atlas.log_scale", p.log_scale)]
        {
            within((1e-3..=100.0).contains(&width), key, &width, "0.001 to 100")?;
        }
        within(p.picture.is_sound(), "atlas.picture", &"not shown", "32 lines of 32 different numbers, −99 to 99")
    }

    fn check_baseline(&self) -> Result<(), ParameterError> {
        let Some(p) = &self.baseline else { return Ok(()) };
        let (frames, time) = (p.average_frames, p.time_constant_s);
        within((1..=1000).contains(&frames), "baseline.average_frames", &frames, "1 to 1000 frames")?;
        within((0.0..=1.0).contains(&p.leak_per_s), "baseline.leak_per_s", &p.leak_per_s, "0 to 1")?;
        within((0.01..=0.99).contains(&p.quantile), "baseline.quantile", &p.quantile, "0.01 to 0.99")?;
        within((0.1..=3600.0).contains(&time), "baseline.time_constant_s", &time, "0.1 to 3600 s")?;
        within((0.0..=10.0).contains(&p.fall_per_s), "baseline.fall_per_s", &p.fall_per_s, "0 to 10")?;
        let bounded = p.influence == 0.0 || (2.0..=1000.0).contains(&p.influence);
        within(bounded, "baseline.influence", &p.influence, "0, or 2 to 1000 mean distances")?;
        let floor = p.floor_counts;
        within(floor > 0.0 && floor <= 65535.0, "baseline.floor_counts", &floor, "above 0, to 65535 counts")
    }

    fn check_normalise(&self) -> Result<(), ParameterError> {
        let Some(p) = &self.normalise else { return Ok(()) };
        let warmup = p.warmup_frames;
        within((2..=100_000).contains(&warmup), "normalise.warmup_frames", &warmup, "2 to 100000 frames")?;
        let freeze = p.freeze_after_frames;
        within(
            freeze == 0 || freeze >= warmup,
            "normalise.freeze_after_frames",
            &freeze,
            "0, or at least warmup_frames",
        )?;
        let (memory, influence) = (p.memory_s, p.influence_sd);
        within(
            memory == 0.0 || (1.0..=86_400.0).contains(&memory),
            "normalise.memory_s",
            &memory,
            "0, or 1 to 86400 s",
        )?;
        let bounded = influence == 0.0 || (2.0..=100.0).contains(&influence);
        within(bounded, "normalise.influence_sd", &influence, "0, or 2 to 100 standard deviations")?;
        within(p.sd_floor > 0.0 && p.sd_floor <= 1e6, "normalise.sd_floor", &p.sd_floor, "above 0, to 1e6")?;
        let fits = !p.signal_share || p.scope == Scope::Pixel;
        within(fits, "normalise.signal_share", &p.signal_share, "true needs normalise.scope = \"pixel\"")
    }
}

fn within(
    good: bool,
    key: &'static str,
    value: &dyn std::fmt::Debug,
    bound: &'static str,
) -> Result<(), ParameterError> {
    if good { Ok(()) } else { Err(ParameterError { key, value: format!("{value:?}"), bound: bound.into() }) }
}
