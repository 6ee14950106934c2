//! Registers every frame of a TIFF movie and writes the shifts: `register MOVIE.tif [--template T.tif] [--dark C] --out shifts.csv`.
//!
//! Without `--template` it builds one from the first frames, as the daemon does, then goes through the movie from the start.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use haltere::preprocess::parameters::Registration;
use haltere::preprocess::registration::Registrar;
use haltere::preprocess::template::TemplateBuilder;
use tiff::decoder::{Decoder, DecodingResult};

/// Shifts of every frame of a movie, and how long they took.
#[derive(Parser)]
struct Arguments {
    /// Single-channel movie.
    movie: PathBuf,
    /// Template; else one is built from the first frames.
    #[arg(long)]
    template: Option<PathBuf>,
    /// Counts without light.
    #[arg(long, default_value_t = 0.0)]
    dark: f32,
    /// Frames in the template.
    #[arg(long, default_value_t = Registration::default().template_frames)]
    template_frames: usize,
    /// Lowest frequencies kept per axis.
    #[arg(long, default_value_t = Registration::default().frequencies)]
    frequencies: usize,
    /// CSV with the columns frame, dy, dx, peak.
    #[arg(long)]
    out: PathBuf,
}

struct Movie {
    decoder: Decoder<BufReader<File>>,
    height: usize,
    width: usize,
    dark: f32,
    more: bool,
}

impl Movie {
    fn open(path: &Path, dark: f32) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut decoder = Decoder::new(BufReader::new(file))?;
        let (width, height) = decoder.dimensions()?;
        Ok(Self { decoder, height: height as usize, width: width as usize, dark, more: true })
    }

    fn next(&mut self) -> Result<Option<Vec<f32>>> {
        if !self.more {
            return Ok(None);
        }
        let image: Vec<f32> = match self.decoder.read_image()? {
            DecodingResult::U8(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::U16(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::I16(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::F32(v) => v,
            _ => bail!("pixels are none of u8, u16, i16, f32"),
        };
        self.more = self.decoder.more_images();
        if self.more {
            self.decoder.next_image()?;
        }
        Ok(Some(image.into_iter().map(|v| v - self.dark).collect()))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut movie = Movie::open(&arguments.movie, arguments.dark)?;
    let parameters = Registration {
        template_frames: arguments.template_frames,
        frequencies: arguments.frequencies,
        ..Registration::default()
    };
    let mut registrar = Registrar::new(&parameters, movie.height, movie.width);
    match &arguments.template {
        Some(path) => {
            let template = Movie::open(path, arguments.dark)?.next()?.context("an empty template")?;
            registrar.set_template(&template);
        }
        None => build_template(&arguments, &parameters, &mut movie, &mut registrar)?,
    }
    let mut out = std::io::BufWriter::new(File::create(&arguments.out)?);
    writeln!(out, "frame,dy,dx,peak")?;
    let mut times_us = Vec::new();
    while let Some(image) = movie.next()? {
        let start = Instant::now();
        let shift = registrar.estimate(&image);
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
        writeln!(out, "{},{:.5},{:.5},{:.4}", times_us.len() - 1, shift.dy, shift.dx, shift.peak)?;
    }
    report("estimate", &mut times_us);
    Ok(())
}

/// Plays the movie, over and over if it is short, until the template is ready; then rewinds it.
fn build_template(
    arguments: &Arguments,
    parameters: &Registration,
    movie: &mut Movie,
    registrar: &mut Registrar,
) -> Result<()> {
    let mut builder = TemplateBuilder::new(parameters, movie.height, movie.width);
    let mut times_us = Vec::new();
    while !builder.ready() {
        match movie.next()? {
            Some(image) => {
                let start = Instant::now();
                builder.add(&image, registrar);
                times_us.push(start.elapsed().as_secs_f64() * 1e6);
            }
            None => *movie = Movie::open(&arguments.movie, arguments.dark)?,
        }
    }
    report("template", &mut times_us);
    *movie = Movie::open(&arguments.movie, arguments.dark)?;
    Ok(())
}

fn report(what: &str, times_us: &mut [f64]) {
    times_us.sort_by(f64::total_cmp);
    let at = |q: f64| times_us.get(((times_us.len().saturating_sub(1)) as f64 * q) as usize).copied().unwrap_or(0.0);
    println!("{what}: {} calls, p50 {:.0} us, p99 {:.0} us, max {:.0} us", times_us.len(), at(0.5), at(0.99), at(1.0));
}
