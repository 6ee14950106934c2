//! `haltere check`: everything a run needs, looked at without running, each with what was found and what to do.
//!
//! Why it exists: a rig should fail at the desk and not under the fly. What it must never do: change anything that
//! outlives it; sockets are bound and closed again, and nothing is sent.

mod device;
mod disk;
mod machine;
mod ports;

use std::fmt;
use std::io::Write;
use std::path::Path;

use clap::{Args, ValueEnum};

use super::config::ConfigArgs;
use crate::config::{Config, ConfigError, Warning};
use crate::decide::Decider;
use crate::encode::{EncodeError, EncodeInfo};
use crate::model::{InputOrigin, Kind, Manifest, Model, ModelError};
use crate::publish::outlet::liblsl;
use crate::sys::exit::ExitCode;

/// `haltere check`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere check --config rig.toml
  haltere check --config rig.toml --show > effective.toml
  haltere check --schema > rig.schema.json           then, in the first line of rig.toml: #:schema ./rig.schema.json
  haltere check --schema=dataset > dataset.schema.json
  haltere check --json | jq '.lines[] | select(.level != \"good\")'

✓ works, ! works but may not be what you want, ✗ will not work (exit code 9). Each problem comes with a \
remedy. Stop a running daemon first, or its own ports are reported as in use.")]
pub struct CheckArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print only the effective configuration, as TOML.
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
    /// Print only the JSON Schema of configuration files, of a data set (dataset.toml) or of a model's manifest, by which editors
    /// check and explain them.
    #[arg(long, value_enum, value_name = "OF", num_args = 0..=1, require_equals = true, default_missing_value = "config")]
    #[arg(conflicts_with_all = ["json", "show", "config", "model", "set"])]
    pub schema: Option<SchemaOf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// A rig's configuration.
    Config,
    /// The recordings of a data set, dataset.toml.
    Dataset,
    /// A model's manifest.
    Manifest,
}

impl SchemaOf {
    fn text(self) -> String {
        match self {
            Self::Config => crate::config::schema(),
            Self::Dataset => crate::dataset::schema(),
            Self::Manifest => crate::model::schema(),
        }
    }
}

/// How good one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Right.
    Good,
    /// Works, and may not be meant.
    Warning,
    /// Will not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// How good it is.
    pub level: Level,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
}

impl Line {
    pub(crate) fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Good, what, found: found.into(), advice: String::new() }
    }

    pub(crate) fn warning(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, what, found: found.into(), advice: advice.into() }
    }

    pub(crate) fn fault(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fault, what, found: found.into(), advice: advice.into() }
    }
}

/// All lines, in the order in which a run would need them. Prints as people read it, serialises for scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// The lines.
    pub lines: Vec<Line>,
}

impl CheckReport {
    /// [`ExitCode::Faults`] if there is any fault.
    pub fn exit_code(&self) -> ExitCode {
        if self.count(Level::Fault) > 0 { ExitCode::Faults } else { ExitCode::Ok }
    }

    /// Lines of this level.
    pub fn count(&self, level: Level) -> usize {
        self.lines.iter().filter(|line| line.level == level).count()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
        for line in &self.lines {
            let sign = match line.level {
                Level::Good => '✓',
                Level::Warning => '!',
                Level::Fault => '✗',
            };
            let indent = format!("\n  {:width$}  ", "");
            writeln!(f, "{sign} {:width$}  {}", line.what, line.found.replace('\n', &indent))?;
            if !line.advice.is_empty() {
                writeln!(f, "  {:width$}  → {}", "", line.advice.replace('\n', &indent))?;
            }
        }
        let (faults, warnings) = (self.count(Level::Fault), self.count(Level::Warning));
        match (faults, warnings) {
            (0, 0) => writeln!(f, "Everything works."),
            (0, _) => writeln!(f, "haltere will run; {} (!).", counted(warnings, "warning")),
            _ => writeln!(
                f,
                "haltere will not run: {} (✗), {} (!).",
                counted(faults, "fault"),
                counted(warnings, "warning")
            ),
        }
    }
}

/// `1 fault`, `2 faults`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `haltere check`: loads, looks, prints.
///
/// # Errors
/// With `--show`, a configuration that cannot be used; otherwise only what prevents printing.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if let Some(of) = args.schema {
        write!(out, "{}", of.text())?;
        return Ok(ExitCode::Ok);
    }
    let loaded = args.config.load();
    if args.show {
        write!(out, "{}", loaded?.0.to_toml())?;
        return Ok(ExitCode::Ok);
    }
    let report = check(loaded);
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(report.exit_code())
}

/// Looks at everything. A configuration that could not be read is the only line that then makes sense.
pub fn check(config: Result<(Config, Vec<Warning>), ConfigError>) -> CheckReport {
    let (config, warnings) = match config {
        Ok(read) => read,
        Err(error) => {
            let advice = "config/default.toml explains every key";
            return CheckReport { lines: vec![Line::fault("configuration", error.to_string(), advice)] };
        }
    };
    let mut lines = configuration(&config, &warnings);
    lines.extend(model(&config));
    lines.extend(ports::lines(&config));
    lines.extend(disk::lines(&config.record));
    lines.extend(config.lsl.name.map(|_| lsl(config.lsl.library.as_deref())));
    lines.extend(machine::lines(&config.realtime));
    CheckReport { lines }
}

fn configuration(config: &Config, warnings: &[Warning]) -> Vec<Line> {
    let good = Line::good("configuration", format!("valid; rig `{}`", config.rig));
    let noted = warnings.iter().map(|w| Line::warning("configuration", w.to_string(), ""));
    std::iter::once(good).chain(noted).collect()
}

/// Lab Streaming Layer, when it is wanted.
fn lsl(library: Option<&Path>) -> Line {
    match liblsl(library) {
        Ok(found) => Line::good("lsl", found),
        Err(why) => Line::fault("lsl", why, "set `lsl.library`, or `lsl.name` to \"off\""),
    }
}

/// Model, ONNX Runtime and device: each needs the one before.
fn model(config: &Config) -> Vec<Line> {
    let loaded = Model::load(&config.model);
    let loaded = loaded.and_then(|model| model.refuse_ready_made(config.accept_ready_made_input).map(|()| model));
    let mut lines = manifest_lines(&config.model, &loaded);
    match &loaded {
        Ok(model) => {
            lines.extend(rules(config, &model.manifest));
            lines.extend(ports::squeeze(config, model.manifest.input));
            lines.extend(device::lines(config, model));
        }
        Err(_) => lines.push(device::without_model(config.compute.device)),
    }
    lines
}

/// Do the rules fit the model? Nothing without rules.
fn rules(config: &Config, manifest: &Manifest) -> Option<Line> {
    let rules = &config.decision;
    if rules.is_empty() && rules.points.is_empty() {
        return None;
    }
    let armed = rules.rules.iter().filter(|rule| rule.on && rule.armed).count();
    Some(match Decider::new(rules, &manifest.tag(), manifest.stream_rate_hz()) {
        Ok(_) => {
            Line::good("decisions", format!("{}, {armed} armed from the start", counted(rules.rules.len(), "rule")))
        }
        Err(error) => Line::fault("decisions", error.to_string(), "change the rule, or choose another model"),
    })
}

fn manifest_lines(path: &Path, loaded: &Result<Model, ModelError>) -> Vec<Line> {
    let model = match loaded {
        Ok(model) => &model.manifest,
        // Elsewhere the message ends with this advice; here it has a place of its own.
        Err(ModelError::Missing { path }) => {
            let advice = "name a model with --model or the key `model`; `haltere model init` makes an untrained one, `haltere \
                          model adopt` a manifest for your own ONNX file";
            return vec![Line::fault("model", format!("{} does not exist", path.display()), advice)];
        }
        Err(error @ ModelError::ReadyMade { .. }) => {
            let advice = "use a model trained on raw channels, or set `accept_ready_made_input`";
            return vec![Line::fault("model", error.to_string(), advice)];
        }
        Err(error) => {
            let advice = format!("inspect it with `haltere model inspect {}`", path.display());
            return vec![Line::fault("model", error.to_string(), advice)];
        }
    };
    let kind = match model.kind {
        Kind::Streaming => "streaming",
        Kind::Windowed => "windowed",
    };
    let found = format!(
        "{} ({kind}, {} at {} Hz → {} dimensions), SHA-256 {}… matches the manifest",
        model.name,
        model.input,
        model.frame_rate_hz,
        model.embedding,
        model.sha256.get(..12).unwrap_or(&model.sha256)
    );
    let mut lines = vec![Line::good("model", found)];
    lines.push(if model.provenance.trained {
        Line::good("training", format!("trained on {}", model.provenance.trained_on))
    } else {
        let advice = "fine for testing; use a trained model for experiments";
        Line::warning("training", "untrained (random weights): decodes carry no action", advice)
    });
    lines.push(match &model.parity {
        Some(parity) => {
            let difference = parity.max_abs_difference;
            Line::good("parity", format!("{difference:.1e} from {} over {} frames", parity.against, parity.frames))
        }
        None => Line::warning(
            "parity",
            "never measured",
            "compare its embeddings with those of the program that exported it",
        ),
    });
    lines.extend(trained_lines(model));
    lines
}

/// What a trained model says of its probabilities and of strange animals; an untrained one says nothing.
fn trained_lines(model: &Manifest) -> Vec<Line> {
    let mut lines = Vec::new();
    if model.input_origin == InputOrigin::ReadyMade {
        let found = "trained on ready-made ΔF/F, accepted by `accept_ready_made_input`";
        lines.push(Line::warning(
            "input",
            found,
            "send precomputed ΔF/F, not raw frames: the daemon cannot compute it",
        ));
    }
    if !model.provenance.trained {
        return lines;
    }
    if model.decodes_actions() {
        lines.push(match &model.calibration {
            Some(c) => {
                Line::good("confidence", format!("calibrated on {}, expected error {:.3}", c.measured_on, c.ece_after))
            }
            None => Line::warning(
                "confidence",
                "not calibrated",
                "trust the ranking of the probabilities, not their values",
            ),
        });
    }
    lines.push(match (&model.novelty, &model.drift) {
        (Some(n), Some(d)) => {
            let found = format!(
                "measured on {}; drift is reported above {} over {} s",
                n.measured_on, d.limit, d.time_constant_s
            );
            Line::good("novelty", found)
        }
        (Some(n), None) => Line::good("novelty", format!("measured on {}; drift is not reported", n.measured_on)),
        (None, _) => Line::warning("novelty", "not measured by this model", "an unfamiliar animal will go unnoticed"),
    });
    lines
}

fn runtime_lines(opened: Result<&EncodeInfo, &EncodeError>) -> Vec<Line> {
    match opened {
        Ok(info) => {
            let EncodeInfo { runtime_version, runtime_path, provider, partly_on_cpu, .. } = info;
            let found =
                format!("{runtime_version} opened and ran the model by {provider} ({})", runtime_path.display());
            let mut lines = vec![Line::good("ONNX Runtime", found)];
            if *partly_on_cpu {
                let advice = "each frame is copied to and fro: export the model without the unsupported operators, or set compute.device = \"cpu\"";
                lines.push(Line::warning("model", "ONNX Runtime runs part of it on the CPU, not on the GPU", advice));
            }
            lines
        }
        Err(error @ EncodeError::Runtime { .. }) => {
            let advice = "`make setup` (scripts/fetch-onnxruntime.sh) fetches it; elsewhere set `compute.onnxruntime`";
            vec![Line::fault("ONNX Runtime", error.to_string(), advice)]
        }
        Err(error @ EncodeError::Mismatch { .. }) => {
            let advice = "export the model again, or rewrite its manifest with `haltere model adopt`";
            vec![Line::fault("model", error.to_string(), advice)]
        }
        Err(error) => {
            let advice = "does the file pass `onnx.checker`, and is ONNX Runtime 1.24 or newer?";
            vec![Line::fault("ONNX Runtime", error.to_string(), advice)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Place, Problem};

    #[test]
    fn a_configuration_that_cannot_be_read_is_the_only_line_and_a_fault() {
        let error = ConfigError::new(Place::Set("x".to_owned()), Problem::NoEquals);
        let report = check(Err(error));
        assert_eq!(report.exit_code(), ExitCode::Faults);
        assert_eq!((report.lines.len(), report.lines[0].level), (1, Level::Fault));
        assert!(report.to_string().contains("✗ configuration  --set x: no `=`"), "{report}");
    }

    #[test]
    fn a_warning_alone_is_not_a_fault() {
        let report = CheckReport { lines: vec![Line::good("a", "b"), Line::warning("longer", "c", "do d")] };
        assert_eq!(report.exit_code(), ExitCode::Ok);
        assert_eq!(
            report.to_string(),
            "✓ a       b\n! longer  c\n          → do d\nhaltere will run; 1 warning (!).\n"
        );
    }

    #[test]
    fn a_model_that_is_not_there_is_told_how_to_be_made() {
        let path = Path::new("/nowhere/m.toml");
        let lines = manifest_lines(path, &Err(ModelError::Missing { path: path.to_owned() }));
        assert_eq!(lines[0].level, Level::Fault);
        assert!(lines[0].advice.contains("haltere model init"), "{}", lines[0].advice);
    }

    #[test]
    fn scripts_read_level_what_found_and_advice() {
        let report = CheckReport { lines: vec![Line::fault("ports", "taken", "stop it")] };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"lines":[{"level":"fault","what":"ports","found":"taken","advice":"stop it"}]}"#);
    }
}
