//! What a key takes: the kinds of values, their checks, and a checked value.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Device;
use super::endpoint::Endpoint;
use super::template::Template;
use crate::decide::{AtMost, Condition, FrameShare, YOKE_OUTPUTS_MAX, Yoke};
use crate::frame::Name;

/// Longest text of a key that takes text, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 256;
/// Most numbers of a list.
pub(super) const NUMBERS_MAX: usize = 1 << 16;

/// The type of a key's value. `word` stands for "none" or "any", where that is allowed.
#[derive(Debug)]
pub(super) enum Kind {
    /// A whole number.
    Integer { min: i64, max: i64, unit: &'static str, word: Option<&'static str> },
    /// Any text up to [`TEXT_BYTES_MAX`] without control characters; `empty` says whether it may be empty.
    Text { empty: bool },
    /// A line with fields in braces.
    Template,
    /// A [`Name`].
    Name { word: Option<&'static str> },
    /// A file.
    Path { word: Option<&'static str> },
    /// `tcp://…` or `ipc://…`.
    Endpoint { word: Option<&'static str> },
    /// `address:port` of a UDP receiver.
    Address { word: Option<&'static str> },
    /// A filter of the `tracing` crate.
    Filter,
    /// A [`Device`].
    Device,
    /// `true` or `false`.
    Switch,
    /// A condition over decodes; `of_action`: that of `[decision.action]`.
    Condition { of_action: bool },
    /// A [`FrameShare`].
    Frames,
    /// An [`AtMost`].
    AtMost,
    /// A list of numbers.
    Numbers,
    /// A [`Yoke`]: its times, or a file with them.
    Yoke,
    /// One of these words, in the order of the enum's variants.
    Choice(&'static [&'static str]),
}

/// A value as written, not yet checked.
#[derive(Debug)]
pub(super) enum Input {
    Integer(i64),
    Text(String),
    Switch(bool),
    Numbers(Vec<f64>),
    /// A value of a type that no key accepts, described.
    Other(String),
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Text(String),
    Switch(bool),
    Numbers(Vec<f32>),
    Yoke(Yoke),
    /// The kind's word for "none".
    Word(&'static str),
    /// A word of a choice and its place in the list.
    Choice(usize, &'static str),
}

/// Why a value is rejected.
#[derive(Debug)]
pub(super) enum Fault {
    Type { found: String },
    Range { value: String, allowed: String },
}

impl Kind {
    /// Describes what the key accepts.
    pub fn describe(&self) -> String {
        let or = |word: &Option<&str>| word.map(|w| format!(", or \"{w}\"")).unwrap_or_default();
        match self {
            Self::Integer { min, max, unit, word } => format!("a whole number, {min} to {max}{unit}{}", or(word)),
            Self::Text { .. } => "text in quotes".to_owned(),
            Self::Template => "text in quotes, with fields such as {action} in braces".to_owned(),
            Self::Name { word } => format!("a name in quotes: 1 to 64 of A-Z a-z 0-9 _ . -{}", or(word)),
            Self::Path { word } => format!("a path in quotes{}", or(word)),
            Self::Endpoint { word } => format!("an endpoint in quotes, such as \"tcp://127.0.0.1:5710\"{}", or(word)),
            Self::Address { word } => format!("an address and a port, such as \"127.0.0.1:9000\"{}", or(word)),
            Self::Filter => "a log level (\"error\", \"warn\", \"info\", \"debug\", \"trace\") or a filter".to_owned(),
            Self::Device => "\"cpu\", \"cuda\", \"cuda:1\" (a number, 0 to 63) or \"auto\"".to_owned(),
            Self::Condition { of_action: false } => "a condition in quotes, such as \"p(grooming) > 0.8\"".to_owned(),
            Self::Condition { of_action: true } => "a condition in quotes, such as \"p > 0.5\"".to_owned(),
            Self::Frames => "text in quotes, such as \"3 of 4\"".to_owned(),
            Self::AtMost => "text in quotes, such as \"10 in 60 s\", or \"off\"".to_owned(),
            Self::Numbers => format!("a list of 1 to {NUMBERS_MAX} numbers, such as [0.12, -0.3]"),
            Self::Yoke => format!(
                "a CSV file in quotes with a column time_s, or a list of 1 to {YOKE_OUTPUTS_MAX} times in s, or \"off\""
            ),
            Self::Switch => "true or false".to_owned(),
            Self::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
        }
    }

    /// Checks one value by itself.
    pub fn check(&self, input: Input) -> Result<Value, Fault> {
        match (self, input) {
            (Self::Integer { min, max, .. }, Input::Integer(n)) => {
                if (*min..=*max).contains(&n) {
                    Ok(Value::Integer(n))
                } else {
                    Err(self.refuse(n))
                }
            }
            (Self::Switch, Input::Switch(value)) => Ok(Value::Switch(value)),
            (Self::Numbers, Input::Numbers(numbers)) => {
                let fits = |number: &&f64| !(**number as f32).is_finite();
                match numbers.iter().find(fits) {
                    None if (1..=NUMBERS_MAX).contains(&numbers.len()) => {
                        Ok(Value::Numbers(numbers.into_iter().map(|number| number as f32).collect()))
                    }
                    None => Err(self.refuse(format!("a list of {}", numbers.len()))),
                    Some(number) => Err(self.refuse(format!("a list with {number}"))),
                }
            }
            (Self::Yoke, Input::Numbers(times_s)) => match Yoke::of_seconds(&times_s) {
                Ok(yoke) => Ok(Value::Yoke(yoke)),
                Err(cause) => Err(self.refuse(format!("a list with {cause}"))),
            },
            (_, Input::Numbers(_)) => Err(Fault::Type { found: "a TOML array".to_owned() }),
            (_, Input::Text(text)) => self.check_text(text),
            (_, Input::Integer(n)) => Err(Fault::Type { found: format!("the number {n}") }),
            (_, Input::Switch(value)) => Err(Fault::Type { found: value.to_string() }),
            (_, Input::Other(found)) => Err(Fault::Type { found }),
        }
    }

    fn check_text(&self, text: String) -> Result<Value, Fault> {
        let word = match self {
            Self::Integer { word, .. }
            | Self::Name { word }
            | Self::Path { word }
            | Self::Endpoint { word }
            | Self::Address { word } => *word,
            Self::AtMost | Self::Yoke => Some("off"),
            _ => None,
        };
        if let Some(word) = word.filter(|&w| w == text) {
            return Ok(Value::Word(word));
        }
        let because = |allowed: String| Fault::Range { value: format!("\"{text}\""), allowed };
        match self {
            Self::Integer { .. } | Self::Switch | Self::Numbers => {
                return Err(Fault::Type { found: format!("the text \"{text}\"") });
            }
            Self::Choice(words) => {
                let at = words.iter().position(|&w| w == text).ok_or_else(|| self.refuse(format!("\"{text}\"")))?;
                return Ok(Value::Choice(at, words[at]));
            }
            Self::Name { .. } => drop(text.parse::<Name>().map_err(|e| because(e.to_string()))?),
            Self::Endpoint { .. } => drop(text.parse::<Endpoint>().map_err(|e| because(e.to_string()))?),
            Self::Address { .. } => drop(text.parse::<SocketAddr>().map_err(|_| self.refuse(format!("\"{text}\"")))?),
            Self::Device => drop(text.parse::<Device>().map_err(|()| self.refuse(format!("\"{text}\"")))?),
            Self::Filter => check_filter(&text).map_err(because)?,
            Self::Template => check_plain(&text, false)
                .and_then(|()| text.parse::<Template>().map(drop).map_err(|e| e.to_string()))
                .map_err(because)?,
            Self::Condition { of_action } => drop(Condition::read(&text, *of_action).map_err(because)?),
            Self::Frames => drop(text.parse::<FrameShare>().map_err(because)?),
            Self::AtMost => drop(text.parse::<AtMost>().map_err(because)?),
            Self::Text { empty } => check_plain(&text, *empty).map_err(because)?,
            Self::Path { .. } | Self::Yoke => check_plain(&text, false).map_err(because)?,
        }
        Ok(Value::Text(text))
    }

    fn refuse(&self, value: impl ToString) -> Fault {
        Fault::Range { value: value.to_string(), allowed: format!("must be {}", self.describe()) }
    }
}

fn check_filter(text: &str) -> Result<(), String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(drop)
        .map_err(|e| format!("{e}; must be {}", Kind::Filter.describe()))
}

fn check_plain(text: &str, empty: bool) -> Result<(), String> {
    let least = usize::from(!empty);
    if !(least..=TEXT_BYTES_MAX).contains(&text.len()) {
        return Err(format!("is {} bytes long; must be {least} to {TEXT_BYTES_MAX}", text.len()));
    }
    if text.chars().any(char::is_control) { Err("contains control characters".to_owned()) } else { Ok(()) }
}

impl Value {
    /// As it stands in a TOML file.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Integer(n) => n.to_string(),
            Self::Switch(value) => value.to_string(),
            Self::Text(text) => toml::Value::String(text.clone()).to_string(),
            // As many digits as give the same float32 again.
            Self::Numbers(numbers) => {
                format!("[{}]", numbers.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", "))
            }
            Self::Yoke(yoke) => {
                format!("[{}]", yoke.seconds().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", "))
            }
            Self::Word(word) | Self::Choice(_, word) => format!("\"{word}\""),
        }
    }

    pub fn number(&self) -> Option<i64> {
        if let Self::Integer(n) = self { Some(*n) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn numbers(&self) -> Option<&[f32]> {
        if let Self::Numbers(numbers) = self { Some(numbers) } else { None }
    }

    pub fn yoke(&self) -> Option<&Yoke> {
        if let Self::Yoke(yoke) = self { Some(yoke) } else { None }
    }

    pub fn path(&self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }
}
