//! What the user knows about an experiment and the session does not.
//!
//! Why it exists: NWB asks for animal, lab and microscope; they come from a small TOML file (`config/nwb-example.toml` shows every
//! key). What it must never do: fill in what the user did not enter.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::frame::{CHANNELS_MAX, Name};
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::{Bound, read_text_or_pipe};

/// Plausible wavelengths, nm.
const NM: std::ops::RangeInclusive<f32> = 100.0..=5000.0;
/// Sides of a pixel, µm.
const PIXEL_UM: std::ops::RangeInclusive<f32> = 0.001..=1000.0;
/// Largest file read, bytes.
const BYTES_MAX: u64 = 1 << 20;

/// The whole file; everything may be absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metadata {
    pub session_description: Option<String>,
    pub session_id: Option<String>,
    pub experiment_description: Option<String>,
    pub experimenter: Vec<String>,
    pub lab: Option<String>,
    pub institution: Option<String>,
    pub keywords: Vec<String>,
    pub notes: Option<String>,
    pub protocol: Option<String>,
    pub pharmacology: Option<String>,
    pub surgery: Option<String>,
    pub virus: Option<String>,
    pub related_publications: Vec<String>,
    pub subject: Option<Subject>,
    pub microscope: Microscope,
    #[serde(rename = "channel")]
    pub channels: Vec<Channel>,
}

/// The animal.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Subject {
    pub id: Option<String>,
    pub species: Option<String>,
    pub sex: Option<String>,
    pub age: Option<String>,
    pub genotype: Option<String>,
    pub strain: Option<String>,
    pub weight: Option<String>,
    pub description: Option<String>,
}

/// The microscope and the imaged region.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Microscope {
    pub description: Option<String>,
    pub manufacturer: Option<String>,
    pub location: Option<String>,
    pub excitation_nm: Option<f32>,
    /// Width and height of a pixel.
    pub pixel_um: Option<[f32; 2]>,
}

/// One channel, in the order of the frames'.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Channel {
    pub name: Option<Name>,
    pub description: Option<String>,
    pub indicator: Option<String>,
    pub emission_nm: Option<f32>,
}

impl Metadata {
    /// Reads a file and checks every value.
    ///
    /// # Errors
    /// Syntax errors and unknown keys with their line, and invalid values.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let failed = || Failure { code: ExitCode::Config, what: path.display().to_string() };
        let text =
            read_text_or_pipe(path, Bound::new("the metadata", BYTES_MAX)).map_err(|e| e.cause).with_context(failed)?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let parsed: Self = toml::from_str(text).map_err(|error| {
            let what = format!("{}: {}", path.display(), crate::model::describe(&error));
            Failure { code: ExitCode::Config, what }
        })?;
        match parsed.fault() {
            Some((key, value, bound)) => bail!(failure(path, &key, &value, bound)),
            None => Ok(parsed),
        }
    }

    /// The first invalid value: key, value and what is allowed.
    fn fault(&self) -> Option<(String, String, &'static str)> {
        let wrong = |key: &str, value: &dyn std::fmt::Display, bound| Some((key.to_owned(), value.to_string(), bound));
        if let Some((key, _)) = self.texts().into_iter().find(|(_, text)| text.trim().is_empty()) {
            return wrong(key, &"\"\"", "some text; leave the key out if there is none");
        }
        let subject = self.subject.clone().unwrap_or_default();
        if let Some(id) = subject.id.filter(|id| id.contains(['/', '\\'])) {
            return wrong("subject.id", &id, "a name without slashes");
        }
        if let Some(sex) = subject.sex.filter(|sex| !["F", "M", "O", "U", "XX", "XO"].contains(&sex.as_str())) {
            return wrong("subject.sex", &sex, "F, M, O (other) or U (unknown); of worms XX or XO");
        }
        if let Some(age) = subject.age.filter(|age| !is_age(age)) {
            return wrong("subject.age", &age, "an ISO 8601 duration such as P5D, or a range such as P3D/P5D");
        }
        if let Some(species) = subject.species.filter(|species| !is_species(species)) {
            return wrong(
                "subject.species",
                &species,
                "a binomial such as Drosophila melanogaster, or its NCBITaxon link",
            );
        }
        let emissions = self.channels.iter().map(|channel| ("channel.emission_nm", channel.emission_nm));
        let waves = emissions.chain([("microscope.excitation_nm", self.microscope.excitation_nm)]);
        if let Some((key, nm)) = waves.filter_map(|(key, nm)| Some((key, nm?))).find(|(_, nm)| !NM.contains(nm)) {
            return wrong(key, &nm, "100 to 5000 nm");
        }
        if let Some(um) = self.microscope.pixel_um.iter().flatten().find(|um| !PIXEL_UM.contains(um)) {
            return wrong("microscope.pixel_um", um, "0.001 to 1000 µm");
        }
        if self.channels.len() > CHANNELS_MAX {
            return wrong("channel", &self.channels.len(), "at most 2");
        }
        let names: Vec<Name> = self.channels.iter().filter_map(|channel| channel.name).collect();
        let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
        twice.and_then(|(_, name)| wrong("channel.name", name, "unique among the channels"))
    }

    /// Every text with its key.
    fn texts(&self) -> Vec<(&'static str, &str)> {
        let subject = self.subject.as_ref();
        let of = |text: fn(&Subject) -> &Option<String>| subject.and_then(|subject| text(subject).as_deref());
        let single = [
            ("session_description", self.session_description.as_deref()),
            ("session_id", self.session_id.as_deref()),
            ("microscope.description", self.microscope.description.as_deref()),
            ("microscope.manufacturer", self.microscope.manufacturer.as_deref()),
            ("microscope.location", self.microscope.location.as_deref()),
            ("subject.id", of(|s| &s.id)),
            ("subject.weight", of(|s| &s.weight)),
            ("subject.genotype", of(|s| &s.genotype)),
            ("subject.strain", of(|s| &s.strain)),
            ("subject.description", of(|s| &s.description)),
        ];
        let general = self.general().into_iter().map(|(key, text)| (key, Some(text)));
        let lists =
            self.lists().into_iter().flat_map(|(key, list)| list.iter().map(move |text| (key, Some(text.as_str()))));
        let channels = self.channels.iter().flat_map(|channel| {
            [
                ("channel.description", channel.description.as_deref()),
                ("channel.indicator", channel.indicator.as_deref()),
            ]
        });
        let all = single.into_iter().chain(general).chain(lists).chain(channels);
        all.filter_map(|(key, text)| Some((key, text?))).collect()
    }

    /// Texts stored in `/general` under their own key.
    pub fn general(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("session_id", &self.session_id),
            ("experiment_description", &self.experiment_description),
            ("lab", &self.lab),
            ("institution", &self.institution),
            ("notes", &self.notes),
            ("protocol", &self.protocol),
            ("pharmacology", &self.pharmacology),
            ("surgery", &self.surgery),
            ("virus", &self.virus),
        ];
        all.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?))).collect()
    }

    /// Lists stored there.
    pub fn lists(&self) -> Vec<(&'static str, &[String])> {
        let all = [
            ("experimenter", self.experimenter.as_slice()),
            ("keywords", &self.keywords),
            ("related_publications", &self.related_publications),
        ];
        all.into_iter().filter(|(_, list)| !list.is_empty()).collect()
    }

    /// Keys that archives require and that are missing.
    pub fn missing(&self) -> Vec<&'static str> {
        let subject = self.subject.clone().unwrap_or_default();
        let asked = [
            ("subject.id", subject.id.is_none()),
            ("subject.species", subject.species.is_none()),
            ("subject.sex", subject.sex.is_none()),
            ("subject.age", subject.age.is_none()),
        ];
        asked.into_iter().filter(|(_, missing)| *missing).map(|(key, _)| key).collect()
    }
}

impl Subject {
    /// Every text given, under its name in NWB.
    pub fn texts(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("subject_id", &self.id),
            ("species", &self.species),
            ("sex", &self.sex),
            ("age", &self.age),
            ("genotype", &self.genotype),
            ("strain", &self.strain),
            ("weight", &self.weight),
            ("description", &self.description),
        ];
        all.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?))).collect()
    }
}

fn failure(path: &Path, key: &str, value: &str, bound: &str) -> Failure {
    let what = format!("{}: `{key}` is {value}; it must be {bound}", path.display());
    Failure { code: ExitCode::Config, what }
}

/// `P5D`, `P2Y3M`, `PT12H`, or two of them with a slash, of which the second may be missing.
fn is_age(text: &str) -> bool {
    let (from, to) = text.split_once('/').unwrap_or((text, ""));
    is_duration(from) && (to.is_empty() || is_duration(to))
}

fn is_duration(text: &str) -> bool {
    let Some(body) = text.strip_prefix('P') else { return false };
    let (date, time) = body.split_once('T').map_or((body, None), |(date, time)| (date, Some(time)));
    let parts = |text: &str, units: &str| {
        let mut left = units;
        let mut number = String::new();
        text.chars().all(|c| match left.find(c) {
            Some(at) if number.parse::<f64>().is_ok() => {
                left = &left[at + 1..];
                number.clear();
                true
            }
            _ => {
                number.push(c);
                c.is_ascii_digit() || c == '.'
            }
        }) && number.is_empty()
    };
    let some = !date.is_empty() || time.is_some();
    some && parts(date, "YMWD") && time.is_none_or(|time| !time.is_empty() && parts(time, "HMS"))
}

/// As NWB requires: two Latin words, or a link.
fn is_species(text: &str) -> bool {
    if let Some(number) = text.strip_prefix("http://purl.obolibrary.org/obo/NCBITaxon_") {
        return !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    }
    let lower = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.split_once(' ').is_some_and(|(genus, species)| {
        genus.starts_with(|c: char| c.is_ascii_uppercase()) && genus.len() > 1 && lower(&genus[1..]) && lower(species)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Metadata::parse(text, Path::new("fly.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_example_is_right_and_shows_every_key() {
        let example = include_str!("../../../../config/nwb-example.toml");
        let read = Metadata::parse(example, Path::new("nwb-example.toml")).unwrap();
        assert!(read.missing().is_empty());
        assert_eq!((read.general().len(), read.lists().len(), read.channels.len()), (9, 3, 2));
        assert_eq!(read.subject.unwrap().texts().len(), 8);
        assert!(read.microscope.pixel_um.is_some() && read.microscope.manufacturer.is_some());
    }

    #[test]
    fn what_cannot_be_is_named_with_its_key_and_what_may_be_there() {
        for (text, words) in [
            ("labb = \"x\"", ["fly.toml", "did you mean `lab`?"]),
            ("lab = \" \"", ["`lab`", "some text"]),
            ("[subject]\nsex = \"female\"", ["`subject.sex` is female", "F, M, O"]),
            ("[subject]\nage = \"5 days\"", ["`subject.age` is 5 days", "P5D"]),
            ("[subject]\nspecies = \"fly\"", ["`subject.species` is fly", "Drosophila melanogaster"]),
            ("[subject]\nid = \"a/b\"", ["`subject.id` is a/b", "slashes"]),
            ("[microscope]\nexcitation_nm = 0.92", ["0.92", "100 to 5000 nm"]),
            ("[microscope]\npixel_um = [0.0, 1.0]", ["`microscope.pixel_um` is 0", "µm"]),
            ("[[channel]]\nname = \"a\"\n[[channel]]\nname = \"a\"", ["`channel.name` is a", "unique"]),
            ("[[channel]]\nname = \"a/b\"", ["a/b", "0x2f"]),
        ] {
            let said = error(text);
            assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
        }
    }

    #[test]
    fn ages_are_durations_or_ranges() {
        for (text, right) in [
            ("P5D", true),
            ("P2Y3M", true),
            ("PT12H", true),
            ("P1.5W/P2W", true),
            ("P90Y/", true),
            ("P", false),
            ("PT", false),
            ("5D", false),
            ("PD", false),
            ("P5", false),
            ("P5D3Y", false),
        ] {
            assert_eq!(is_age(text), right, "{text}");
        }
    }
}
