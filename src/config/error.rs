//! What is wrong with a configuration, and where: the file's line with a caret, a variable's name, or `--set`.
//!
//! Why it exists: a typing error found at start costs seconds; found in the middle of an experiment it costs a fly.
//! What it must never do: report an error without saying what would be right.

use std::fmt;
use std::path::PathBuf;

use crate::sys::exit::{ExitCode, HasExitCode};

/// Longest part of a line that is shown, characters.
const SHOWN_CHARS_MAX: usize = 160;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is the default.
    Default,
    /// In the configuration file.
    File {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// 1-based, characters.
        column: usize,
        /// The whole line.
        text: String,
        /// Characters marked.
        width: usize,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// On the command line, `--set` with this text.
    Set(String),
}

impl Place {
    /// The place of bytes `span` of a file.
    pub(super) fn in_file(path: PathBuf, content: &str, span: std::ops::Range<usize>) -> Self {
        let start = span.start.min(content.len());
        let before = content.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = content.get(line_start..).unwrap_or_default();
        let text = rest.lines().next().unwrap_or_default();
        let column = before[line_start..].chars().count();
        let marked = content.get(start..span.end.max(start)).unwrap_or_default().lines().next().unwrap_or_default();
        Self::File {
            path,
            line: before.matches('\n').count() + 1,
            column: column + 1,
            text: text.to_owned(),
            width: marked.chars().count().max(1),
        }
    }

    /// The line with its caret; nothing for places without lines.
    fn snippet(&self) -> String {
        let Self::File { line, column, text, width, .. } = self else { return String::new() };
        if *column > SHOWN_CHARS_MAX {
            return String::new();
        }
        // A tab above the caret stays a tab, so that both line up in any terminal.
        let lead: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let carets = "^".repeat((*width).min(SHOWN_CHARS_MAX + 1 - column));
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        format!("\n {margin} |\n {number} | {shown}\n {margin} | {lead}{carets}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column, .. } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Set(text) => write!(f, "--set {text}"),
        }
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the file that {named_by} names: {cause}")]
    File {
        /// `--config` or the variable.
        named_by: &'static str,
        /// Why.
        cause: std::io::Error,
    },
    /// Not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// `--set` without `=`.
    #[error("no `=`: write --set section.key=value, such as --set lane.depth_frames=8")]
    NoEquals,
    /// A key or section that does not exist.
    #[error("unknown {what} `{key}`")]
    Unknown {
        /// `key` or `section`.
        what: &'static str,
        /// The key as written, dotted.
        key: String,
        /// The nearest existing name, and everything allowed there.
        help: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` is {found}; it must be {expected}")]
    Type {
        /// Dotted key.
        key: String,
        /// What was written.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A value outside its range.
    #[error("`{key}` = {value}: {allowed}")]
    Range {
        /// Dotted key.
        key: String,
        /// What was written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value without which the others mean nothing.
    #[error("`{key}` is missing: {help}")]
    Missing {
        /// Dotted key.
        key: String,
        /// What to write.
        help: &'static str,
    },
    /// Two values that cannot both hold.
    #[error("`{key}` = {value} and `{other}` = {other_value} contradict each other: {why}")]
    Contradiction {
        /// Dotted key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The other key.
        other: &'static str,
        /// Its value.
        other_value: String,
        /// Why, and what would be right.
        why: &'static str,
    },
}

/// A configuration that cannot be used: what is wrong, and where it was written.
#[derive(Debug)]
pub struct ConfigError {
    /// Where.
    pub place: Place,
    /// What; boxed, because results carry it on paths that go well.
    pub problem: Box<Problem>,
}

impl HasExitCode for ConfigError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

impl ConfigError {
    pub(crate) fn new(place: Place, problem: Problem) -> Self {
        Self { place, problem: Box::new(problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.problem.as_ref()) {
            // A file that cannot be read has no line to show.
            (Place::File { path, .. }, Problem::File { .. }) => write!(f, "{}: {}", path.display(), self.problem)?,
            _ => write!(f, "{}: {}{}", self.place, self.problem, self.place.snippet())?,
        }
        if let Problem::Unknown { help, .. } = self.problem.as_ref() {
            write!(f, "\n   = {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
