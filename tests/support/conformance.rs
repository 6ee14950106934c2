//! The cases of the conformance suite: for each the parameters, the model's frame, and what happens frame by frame.

#![allow(dead_code)]

use haltere::frame::{Frame, PixelType, Shape};
use haltere::model::parameters::{
    Atlas, Baseline, Convert, Estimator, LinePhase, MeanPicture, Normalise, PICTURE_PX, Parameters, Registration,
    Scope, Trust,
};
use haltere::preprocess::Request;

/// One thing that happens.
pub enum Step {
    Frame(Box<Frame>),
    Request(Request),
}

/// One row of the suite.
pub struct Case {
    pub name: String,
    pub parameters: Parameters,
    pub input: Shape,
    pub steps: Vec<Step>,
}

/// How a case's frames look.
#[derive(Clone, Copy)]
pub struct Look {
    pub side: (usize, usize),
    pub channels: usize,
    pub pixel_type: PixelType,
    /// Light of a pixel of mean brightness.
    pub counts: f32,
    /// Photons of a pixel of mean brightness; `None` = no noise.
    pub photons: Option<f32>,
    /// Odd lines lie so far to the right, px.
    pub bend: f32,
    /// Largest displacement, px.
    pub motion: f32,
}

impl Look {
    pub const fn new(height: usize, width: usize) -> Self {
        let side = (height, width);
        Self { side, channels: 1, pixel_type: PixelType::U16, counts: 100.0, photons: None, bend: 0.0, motion: 4.0 }
    }

    /// Frame `number`: it moves, flickers, and has what the look says.
    pub fn frame(&self, number: u64) -> Frame {
        let t = number as f32;
        let shift = [self.motion * (0.7 * t).sin(), self.motion * (0.43 * t + 1.0).cos()];
        self.frame_at(number, shift, 1.0 + 0.2 * (0.9 * t).sin())
    }

    /// Frame `number` displaced by `shift`, its light multiplied by `gain`.
    pub fn frame_at(&self, number: u64, shift: [f32; 2], gain: f32) -> Frame {
        let (height, width) = self.side;
        let mut frame = Frame::with_capacity(self.channels * height * width * self.pixel_type.bytes());
        frame.info.shape = Shape::new(self.channels, height, width);
        frame.info.pixel_type = self.pixel_type;
        frame.info.number = number;
        frame.info.t_received_ns = (number + 1) * 33_333_333;
        let mut random = Random(number.wrapping_mul(0x9e37_79b9).wrapping_add(7));
        let plane = height * width;
        let mut counts = Vec::with_capacity(self.channels * plane);
        for i in 0..self.channels * plane {
            let (channel, y, x) = (i / plane, i % plane / width, i % width);
            let odd = if y % 2 == 1 { self.bend } else { 0.0 };
            let light = gain * scene(channel, y as f32 - shift[0], x as f32 - shift[1] - odd);
            counts.push(match self.photons {
                Some(photons) => self.counts * random.poisson(light * photons),
                None => self.counts * light,
            });
        }
        write(&mut frame, &counts);
        frame
    }
}

/// Light of a scene without symmetry, at any point; 1 on average or so.
fn scene(channel: usize, y: f32, x: f32) -> f32 {
    let blob = |cy: f32, cx: f32, r: f32| (-((y - cy).powi(2) + (x - cx).powi(2)) / (2.0 * r * r)).exp();
    let cells = 0.9 * blob(14.0, 20.0, 3.0) + 1.2 * blob(30.0, 12.0, 2.0) + 0.8 * blob(25.0, 33.0, 4.0);
    let waves = 0.1 * (0.6 * x + 0.2 * y).sin() + 0.1 * (0.5 * y - 0.3 * x).cos() + 0.05 * (0.9 * x - 0.7 * y).sin();
    let channels = [0.6 + cells + waves, 0.4 + 0.5 * cells + 2.0 * waves.abs()];
    channels[channel]
}

/// Counts become pixels of the frame's type, clamped to its range.
pub fn write(frame: &mut Frame, counts: &[f32]) {
    let pixel_type = frame.info.pixel_type;
    let bytes = counts.iter().flat_map(|&c| match pixel_type {
        PixelType::U8 => vec![c as u8],
        PixelType::U16 => (c as u16).to_ne_bytes().to_vec(),
        // Around zero, as ScanImage sends it.
        PixelType::I16 => ((c - 60.0) as i16).to_ne_bytes().to_vec(),
        PixelType::F32 => c.to_ne_bytes().to_vec(),
    });
    let bytes: Vec<u8> = bytes.collect();
    frame.bytes_mut().copy_from_slice(&bytes);
}

/// Fixed sequences of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Knuth's method; the mean is small here.
    fn poisson(&mut self, mean: f32) -> f32 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0.0);
        while product > limit {
            product *= self.uniform();
            count += 1.0;
        }
        count
    }
}

pub fn registration() -> Registration {
    Registration { reach_px: 8, template_frames: 6, template_rounds: 2, frequencies: 20, ..Registration::default() }
}

/// Every frame is believed: for scenes that flicker and jump as no tissue does.
pub fn credulous() -> Trust {
    Trust { enabled: false, ..Trust::default() }
}

/// Everything on, and warm after a few frames.
pub fn everything() -> Parameters {
    Parameters {
        trust: credulous(),
        line_phase: Some(LinePhase { reach_px: 4, frames: 3 }),
        registration: Some(registration()),
        baseline: Some(Baseline { average_frames: 5, ..Baseline::default() }),
        normalise: Some(Normalise { warmup_frames: 5, ..Normalise::default() }),
        ..Parameters::default()
    }
}

/// Registered light and nothing else.
pub fn light_only() -> Parameters {
    Parameters {
        trust: credulous(),
        registration: Some(registration()),
        baseline: None,
        normalise: None,
        ..Parameters::default()
    }
}

fn frames(look: Look, count: u64) -> Vec<Step> {
    (0..count).map(|number| Step::Frame(Box::new(look.frame(number)))).collect()
}

fn case(name: &str, parameters: Parameters, input: (usize, usize), steps: Vec<Step>) -> Case {
    let input = Shape::new(parameters.channels.len(), input.0, input.1);
    Case { name: name.to_owned(), parameters, input, steps }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = pixel_types();
    all.extend(sizes());
    all.extend(damaged());
    all.extend(two_channels());
    all.extend(requests());
    all.extend(estimators());
    all.extend(laid_on_an_atlas());
    all.extend(long_runs());
    all.extend(not_tissue());
    all
}

fn pixel_types() -> Vec<Case> {
    let one = |pixel_type: PixelType, invert: bool| {
        let convert = Convert { dark_level: 10.5, invert };
        let look = Look { pixel_type, bend: 2.0, ..Look::new(40, 48) };
        let name = format!("{pixel_type}{}", if invert { ", inverted" } else { "" });
        case(&name, Parameters { convert, ..everything() }, (10, 12), frames(look, 30))
    };
    let types = [PixelType::U8, PixelType::U16, PixelType::I16, PixelType::F32];
    types.into_iter().flat_map(|t| [one(t, false), one(t, true)]).collect()
}

fn sizes() -> Vec<Case> {
    let sides =
        [((33, 47), (7, 5)), ((40, 36), (40, 36)), ((35, 41), (50, 70)), ((64, 33), (1, 1)), ((37, 96), (12, 96))];
    let mut all: Vec<Case> = sides
        .into_iter()
        .map(|(from, to)| {
            let name = format!("{}×{} to {}×{}", from.0, from.1, to.0, to.1);
            case(&name, everything(), to, frames(Look::new(from.0, from.1), 24))
        })
        .collect();
    let far = Look { motion: 13.0, ..Look::new(48, 40) };
    all.push(case("beyond reach, over the border", light_only(), (24, 20), frames(far, 30)));
    let few = Registration { frequencies: 8, ..registration() };
    let decimated = Parameters { registration: Some(few), ..everything() };
    all.push(case("decimated by four", decimated, (16, 16), frames(Look::new(96, 100), 16)));
    // More frequencies than threads in a block.
    let many = Registration { frequencies: 2048, template_frames: 3, template_rounds: 1, ..registration() };
    let wide = Parameters { registration: Some(many), ..everything() };
    all.push(case("very wide, all frequencies", wide.clone(), (8, 60), frames(Look::new(34, 600), 12)));
    all.push(case("very high, all frequencies", wide, (60, 8), frames(Look::new(600, 34), 12)));
    let odd_model =
        Parameters { trust: credulous(), registration: None, baseline: None, normalise: None, ..Parameters::default() };
    all.push(case("8×8 without registration", odd_model, (3, 3), frames(Look::new(8, 8), 5)));
    all
}

fn damaged() -> Vec<Case> {
    let look = Look { pixel_type: PixelType::F32, ..Look::new(40, 44) };
    let damaged = |number: u64| {
        let mut frame = look.frame(number);
        let mut counts: Vec<f32> = bytemuck::cast_slice(frame.bytes()).to_vec();
        counts[number as usize * 37 % 900] = f32::NAN;
        counts[17] = if number.is_multiple_of(2) { f32::INFINITY } else { 3e38 };
        if number == 17 {
            counts.fill(f32::NAN);
        }
        write(&mut frame, &counts);
        Step::Frame(Box::new(frame))
    };
    let bright = Look { counts: 50_000.0, ..Look::new(40, 44) };
    let dark = Look { photons: Some(0.05), counts: 60.0, ..Look::new(64, 64) };
    let doubtful = Registration { peak_min: 0.15, template_frames: 20, ..registration() };
    let black = |number: u64| if number % 7 == 5 { look.frame_at(number, [0.0; 2], 0.0) } else { look.frame(number) };
    let always_black: Vec<Step> = (0..20).map(|n| Step::Frame(Box::new(look.frame_at(n, [0.0; 2], 0.0)))).collect();
    vec![
        case("NaN, infinity, and a frame of nothing else", everything(), (10, 11), (0..30).map(damaged).collect()),
        case("saturated", everything(), (10, 11), frames(bright, 24)),
        case(
            "black frames between",
            everything(),
            (10, 11),
            (0..40).map(|n| Step::Frame(Box::new(black(n)))).collect(),
        ),
        case("black from the beginning", everything(), (10, 11), always_black),
        case("low light", everything(), (16, 16), frames(dark, 60)),
        case(
            "low light, most peaks not believed",
            Parameters { registration: Some(doubtful), ..everything() },
            (16, 16),
            frames(dark, 60),
        ),
    ]
}

fn two_channels() -> Vec<Case> {
    let look = Look { channels: 2, ..Look::new(40, 44) };
    let on_red = Some(Registration { channel: 1, ..registration() });
    let both = Parameters { channels: vec![1, 0], registration: on_red.clone(), ..everything() };
    let green = Parameters { channels: vec![0], registration: on_red, ..everything() };
    vec![
        case("two channels, the second first", both, (10, 11), frames(look, 30)),
        case("registered on a channel the model does not see", green, (10, 11), frames(look, 30)),
    ]
}

fn requests() -> Vec<Case> {
    let look = Look::new(40, 44);
    let script = |at: &[(u64, Request)], count: u64, look: Look| {
        let mut steps = Vec::new();
        for number in 0..count {
            steps.extend(at.iter().filter(|(n, _)| *n == number).map(|(_, request)| Step::Request(request.clone())));
            steps.push(Step::Frame(Box::new(look.frame(number))));
        }
        steps
    };
    let frozen = [
        (0, Request::FreezeNormalisation(true)),
        (12, Request::FreezeNormalisation(false)),
        (24, Request::FreezeNormalisation(true)),
        (28, Request::ResetBaseline),
        (36, Request::FreezeNormalisation(false)),
    ];
    let by_itself = Normalise { warmup_frames: 4, freeze_after_frames: 9, ..Normalise::default() };
    let counted = Parameters { normalise: Some(by_itself), ..everything() };
    let renewed = [(20, Request::RenewTemplate), (45, Request::RenewTemplate)];
    let mut other_geometry = script(&[(14, Request::Reset)], 30, look);
    other_geometry.push(Step::Request(Request::Reset));
    other_geometry.extend(frames(Look { pixel_type: PixelType::U8, ..Look::new(48, 40) }, 30));
    let refreshed = Parameters { registration: Some(Registration { refresh: 0.05, ..registration() }), ..everything() };
    vec![
        case("frozen before the first frame, and later", everything(), (10, 11), script(&frozen, 50, look)),
        case("frozen by count", counted, (10, 11), script(&[(20, Request::ResetBaseline)], 40, look)),
        case("resets, and another geometry", everything(), (10, 11), other_geometry),
        case("a renewed template", everything(), (10, 11), script(&renewed, 70, look)),
        case("a template that is refreshed", refreshed, (10, 11), frames(look, 90)),
    ]
}

fn estimators() -> Vec<Case> {
    let look = Look::new(40, 44);
    let quantile =
        Baseline { estimator: Estimator::RunningQuantile, time_constant_s: 0.5, quantile: 0.3, ..Baseline::default() };
    let by_quantile = Parameters { baseline: Some(quantile), ..everything() };
    let channel = Normalise { scope: Scope::Channel, warmup_frames: 5, ..Normalise::default() };
    let per_channel = Parameters { channels: vec![0, 1], normalise: Some(channel), ..everything() };
    let averaged = Parameters { average_frames: 3, ..everything() };
    // Gaps that stretch a group, gaps that end one, and numbers that go back.
    let numbers =
        [0, 1, 2, 3, 5, 6, 9, 20, 21, 22, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
    let gaps = numbers.into_iter().map(|number| Step::Frame(Box::new(look.frame(number)))).collect();
    vec![
        case("running quantile", by_quantile, (10, 11), frames(look, 50)),
        case("statistics of a channel", per_channel, (9, 11), frames(Look { channels: 2, ..look }, 40)),
        case("averaged over three, with gaps", averaged, (10, 11), gaps),
        case("light only", light_only(), (10, 11), frames(look, 30)),
        case("no registration", Parameters { registration: None, ..everything() }, (10, 11), frames(look, 30)),
    ]
}

/// An atlas that looks somewhat like the scene in a frame of 40 × 44 px.
pub fn atlas() -> Atlas {
    let light = |i: usize| scene(0, (i / PICTURE_PX) as f32 * 1.3 + 2.0, (i % PICTURE_PX) as f32 * 1.3 - 1.0).ln();
    let values: Vec<f32> = (0..PICTURE_PX * PICTURE_PX).map(light).collect();
    Atlas { picture: MeanPicture::rounded(&values), ..Atlas::default() }
}

fn laid_on_an_atlas() -> Vec<Case> {
    let one = Parameters { atlas: Some(atlas()), ..everything() };
    let two = Parameters { channels: vec![0, 1], ..one.clone() };
    vec![
        case("laid on an atlas", one.clone(), (10, 11), frames(Look::new(40, 44), 50)),
        case("laid on an atlas, many pixels to one", one.clone(), (8, 12), frames(Look::new(96, 100), 40)),
        case("laid on an atlas, enlarged", two, (48, 45), frames(Look { channels: 2, ..Look::new(40, 44) }, 40)),
    ]
}

fn long_runs() -> Vec<Case> {
    let small = Look { photons: Some(2.0), ..Look::new(16, 18) };
    let unregistered = Parameters { registration: None, line_phase: None, ..everything() };
    let registered = Look { photons: Some(2.0), ..Look::new(40, 44) };
    vec![
        case("4,000 frames", unregistered, (8, 9), frames(small, 4000)),
        case("600 registered frames", everything(), (10, 11), frames(registered, 600)),
    ]
}

/// What happens to a frame that is not tissue.
#[derive(Clone, Copy)]
enum Light {
    Dark,
    /// Darkness with the faint lines of a detector, less than its noise: a picture, for want of anything better.
    Faint,
    Flash,
    Bands,
    Full,
    Mirrored,
    Marked,
}

/// A scene that moves and flickers as tissue does, 80 frames, in which `lit` says what goes wrong with a frame.
fn disturbed(name: &str, parameters: Parameters, lit: impl Fn(u64) -> Option<Light>) -> Case {
    let look = Look { photons: Some(9.0), counts: 12.0, ..Look::new(48, 52) };
    let step = |number: u64| {
        let t = number as f32;
        let mut frame = look.frame_at(number, [1.5 * (0.2 * t).sin(), (0.13 * t).cos()], 1.0 + 0.02 * (0.7 * t).sin());
        if let Some(light) = lit(number) {
            disturb(&mut frame, light);
        }
        Step::Frame(Box::new(frame))
    };
    case(name, parameters, (10, 11), (0..80).map(step).collect())
}

fn disturb(frame: &mut Frame, light: Light) {
    let (height, width) = (frame.info.shape.height, frame.info.shape.width);
    let mut random = Random(frame.info.number);
    let before: Vec<u16> = bytemuck::cast_slice(frame.bytes()).to_vec();
    let counts = before.iter().enumerate().map(|(at, &count)| match light {
        Light::Dark => at as u16 % 3,
        Light::Faint => (2.0 + 0.8 * ((at / width) as f32 * 0.2).sin() + 16.0 * random.uniform()) as u16,
        Light::Flash => count + 150,
        Light::Bands if (height / 4..height / 2).contains(&(at / width)) => count + 400,
        Light::Full => u16::MAX,
        Light::Mirrored => before[at / width * width + width - 1 - at % width],
        Light::Bands | Light::Marked => count,
    });
    let counts: Vec<f32> = counts.map(f32::from).collect();
    write(frame, &counts);
    frame.info.marks.stimulus = matches!(light, Light::Marked);
}

fn not_tissue() -> Vec<Case> {
    let trusting = || Parameters { trust: Trust { mask_after_stimulus_ms: 50, ..Trust::default() }, ..everything() };
    let at = |light: Light, from: u64, to: u64| move |number: u64| (from..to).contains(&number).then_some(light);
    let averaged = Parameters { average_frames: 2, ..trusting() };
    let channel = Normalise { scope: Scope::Channel, warmup_frames: 5, memory_s: 1.0, ..Normalise::default() };
    let per_channel = Parameters { normalise: Some(channel), ..trusting() };
    let quantile = Baseline { estimator: Estimator::RunningQuantile, time_constant_s: 0.5, ..Baseline::default() };
    let fading = Normalise { warmup_frames: 5, memory_s: 1.0, influence_sd: 2.0, ..Normalise::default() };
    let bounded = Parameters { baseline: Some(quantile), normalise: Some(fading.clone()), ..everything() };
    let falling = Baseline { average_frames: 3, fall_per_s: 0.05, ..Baseline::default() };
    let short = Normalise { signal_share: true, ..fading.clone() };
    let quiet = Normalise { signal_share: true, influence_sd: 0.0, ..fading };
    let quiet = Parameters { normalise: Some(quiet), ..trusting() };
    let placed = Parameters { atlas: Some(atlas()), ..trusting() };
    let robust = Parameters { baseline: Some(falling), normalise: Some(short), ..everything() };
    vec![
        disturbed("darkness between", trusting(), at(Light::Dark, 50, 60)),
        disturbed("darkness from the beginning", trusting(), at(Light::Dark, 0, 30)),
        disturbed("darkness that was learnt, and laid on an atlas", placed.clone(), at(Light::Faint, 0, 30)),
        disturbed("a flash while the placement is sought", placed, at(Light::Flash, 10, 12)),
        disturbed("a flash of every tenth frame", trusting(), |n| (n > 40 && n % 10 == 0).then_some(Light::Flash)),
        disturbed("lit lines", per_channel, at(Light::Bands, 50, 53)),
        disturbed("one saturated frame", averaged, at(Light::Full, 60, 61)),
        disturbed("frames unlike the template", trusting(), at(Light::Mirrored, 50, 54)),
        disturbed("darkness between, pixels by their share of signal", quiet, at(Light::Dark, 50, 60)),
        disturbed("marked stimuli", trusting(), |n| (n % 25 == 0).then_some(Light::Marked)),
        disturbed("a flash that is believed, bounded quantile", bounded, at(Light::Flash, 50, 52)),
        disturbed("darkness that is believed, bounded minimum", robust, at(Light::Dark, 50, 60)),
    ]
}
