//! The line of the `plain` outlet: text with fields in braces.
//!
//! Why it exists: an unknown field must be rejected when the configuration is read, not at the first decode.

use std::str::FromStr;

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The action's name.
    Action,
    /// Its place in the model's labels.
    ActionId,
    /// Its probability, two digits.
    Confidence,
    /// Number of the frame.
    Frame,
    /// Quality of the decode.
    Quality,
    /// Running number.
    Seq,
    /// Time of publishing, ns.
    TimeNs,
}

impl Field {
    const ALL: [(&'static str, Self); 7] = [
        ("action", Self::Action),
        ("action_id", Self::ActionId),
        ("confidence", Self::Confidence),
        ("frame", Self::Frame),
        ("quality", Self::Quality),
        ("seq", Self::Seq),
        ("t_ns", Self::TimeNs),
    ];
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// To be filled.
    Field(Field),
}

/// A line with fields in braces, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An unknown field.
    #[error(
        "has the unknown field {{{0}}}; the fields are {{action}}, {{action_id}}, {{confidence}}, {{frame}}, {{quality}}, {{seq}} and {{t_ns}}"
    )]
    Unknown(String),
    /// An opening brace without its closing one.
    #[error("has a brace that is not closed")]
    Open,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find('{') {
            let (before, after) = (&rest[..open], &rest[open + 1..]);
            let close = after.find('}').ok_or(TemplateError::Open)?;
            let name = &after[..close];
            let field = Field::ALL.iter().find(|(known, _)| *known == name);
            let (_, field) = field.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Field(*field));
            rest = &after[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }
}

impl Template {
    /// In the order in which they are written.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_fields_are_taken_apart() {
        let template: Template = "<{action}> {frame}".parse().unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        let expected = [text("<"), Piece::Field(Field::Action), text("> "), Piece::Field(Field::Frame)];
        assert_eq!(template.pieces(), expected);
    }

    #[test]
    fn an_unknown_field_and_an_open_brace_are_refused_by_name() {
        let wrong = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        assert!(
            wrong("{speed}").starts_with("has the unknown field {speed}; the fields are {action}, "),
            "{}",
            wrong("{speed}")
        );
        assert_eq!(wrong("{action"), "has a brace that is not closed");
    }
}
