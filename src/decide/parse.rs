//! The language of conditions.
//!
//! ```text
//!  condition  = and-part { "or" and-part }
//!  and-part   = part { "and" part }
//!  part       = "not" part | "(" condition ")" | comparison
//!  comparison = value ( ">" | ">=" | "<" | "<=" ) number | ( "action" | "quality" ) ( "==" | "!=" ) name
//!  value      = "p(" name ")" | "distance(" name ")" | "confidence" | "novelty" | "light" | "shift" | "shift_peak"
//!  name       = letters, digits and _ . - or any text in quotes
//! ```
//!
//! By hand: a crate for grammars would be larger than this, and its messages are not for experimenters. What it must never do: take
//! a text for another one than it is; whatever is left over is an error.

use super::terms::{Op, Quantity, Term, Test};
use crate::frame::TERMS_MAX;

/// Longest condition, bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Deepest nesting of parentheses and `not`.
const DEPTH_MAX: usize = 16;
/// What can be compared, for messages.
const VALUES: [&str; 10] = [
    "p(ACTION)",
    "action",
    "confidence",
    "novelty",
    "quality",
    "output(NAME)",
    "distance(POINT)",
    "light",
    "shift",
    "shift_peak",
];

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
}

/// The comparisons of a condition, and the steps that join them.
pub(super) type Parsed = (Vec<Term>, Vec<Op>);

/// Reads a condition.
pub(super) fn parse(text: &str, of_action: bool) -> Result<Parsed, Fault> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("the condition is {} bytes long; at most {TEXT_BYTES_MAX}", text.len());
        return Err(Fault { at: 0, what });
    }
    let mut parser = Parser { text, at: 0, of_action, depth: 0, terms: Vec::new(), ops: Vec::new() };
    parser.either()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.fault(format!("expected `and`, `or` or the end, found {}", parser.found())));
    }
    Ok((parser.terms, parser.ops))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    of_action: bool,
    depth: usize,
    terms: Vec<Term>,
    ops: Vec<Op>,
}

impl<'t> Parser<'t> {
    fn either(&mut self) -> Result<(), Fault> {
        self.all_of()?;
        while self.takes_word("or") {
            self.all_of()?;
            self.ops.push(Op::Or);
        }
        Ok(())
    }

    fn all_of(&mut self) -> Result<(), Fault> {
        self.part()?;
        while self.takes_word("and") {
            self.part()?;
            self.ops.push(Op::And);
        }
        Ok(())
    }

    fn part(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("nested more than {DEPTH_MAX} deep")));
        }
        if self.takes_word("not") {
            self.part()?;
            self.ops.push(Op::Not);
        } else if self.takes("(") {
            self.either()?;
            self.expect(")")?;
        } else {
            self.comparison()?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn comparison(&mut self) -> Result<(), Fault> {
        let quantity = self.quantity()?;
        let test = if quantity.is_word() { self.word_test(&quantity)? } else { self.number_test(&quantity)? };
        if self.terms.len() == TERMS_MAX {
            return Err(self.fault(format!("more than {TERMS_MAX} comparisons")));
        }
        self.ops.push(Op::Compare(self.terms.len()));
        self.terms.push(Term { quantity, test });
        Ok(())
    }

    fn quantity(&mut self) -> Result<Quantity, Fault> {
        self.skip_space();
        let begin = self.at;
        let word = self.bare_word();
        match word {
            "p" if self.of_action => Ok(Quantity::OwnProbability),
            "p" => Ok(Quantity::Probability(self.in_parentheses("p(grooming)")?)),
            "distance" => Ok(Quantity::Distance(self.in_parentheses("distance(home)")?)),
            "output" => Ok(Quantity::Output(self.in_parentheses("output(speed)")?)),
            "confidence" => Ok(Quantity::Confidence),
            "novelty" => Ok(Quantity::Novelty),
            "light" => Ok(Quantity::Light),
            "shift" => Ok(Quantity::Shift),
            "shift_peak" => Ok(Quantity::ShiftPeak),
            "action" if !self.of_action => Ok(Quantity::Action),
            "quality" => Ok(Quantity::Quality),
            _ => {
                self.at = begin;
                let known = if self.of_action { "p, the probability of the action in question" } else { "a value" };
                let what = format!("expected {known}, found {}; values are {}", self.found(), VALUES.join(", "));
                Err(self.fault(what))
            }
        }
    }

    fn in_parentheses(&mut self, example: &str) -> Result<String, Fault> {
        if !self.takes("(") {
            return Err(self.fault(format!("expected `(` and a name, as in {example}, found {}", self.found())));
        }
        let name = self.name()?;
        self.expect(")")?;
        Ok(name)
    }

    fn number_test(&mut self, quantity: &Quantity) -> Result<Test, Fault> {
        let test: fn(f32) -> Test = if self.takes(">=") {
            Test::AtLeast
        } else if self.takes("<=") {
            Test::AtMost
        } else if self.takes(">") {
            Test::Above
        } else if self.takes("<") {
            Test::Below
        } else {
            return Err(self.fault(format!("expected >, >=, < or <= after `{quantity}`, found {}", self.found())));
        };
        self.skip_space();
        let begin = self.at;
        let length = self.rest().find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)));
        let length = length.unwrap_or(self.rest().len());
        let number = self.rest()[..length].parse::<f32>().ok().filter(|number| number.is_finite());
        let Some(number) = number else {
            return Err(self.fault(format!("expected a number, found {}", self.found())));
        };
        let most = if quantity.is_share() { 1.0 } else { f32::MAX };
        let least = if matches!(quantity, Quantity::Output(_)) { f32::MIN } else { 0.0 };
        if !(least..=most).contains(&number) {
            let range = if quantity.is_share() { "lies between 0 and 1" } else { "is never negative" };
            return Err(Fault { at: begin, what: format!("`{quantity}` {range}; it is compared with {number}") });
        }
        self.at += length;
        Ok(test(number))
    }

    fn word_test(&mut self, quantity: &Quantity) -> Result<Test, Fault> {
        let test: fn(String) -> Test = if self.takes("==") {
            Test::Is
        } else if self.takes("!=") {
            Test::IsNot
        } else {
            return Err(self.fault(format!("expected == or != after `{quantity}`, found {}", self.found())));
        };
        self.skip_space();
        let begin = self.at;
        let name = self.name()?;
        if *quantity == Quantity::Quality && !["ok", "degraded"].contains(&name.as_str()) {
            let what = format!(
                "quality is compared with ok or degraded, not with {name:?}: other decodes are never looked at"
            );
            return Err(Fault { at: begin, what });
        }
        Ok(test(name))
    }

    /// A word, or any text in quotes.
    fn name(&mut self) -> Result<String, Fault> {
        self.skip_space();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"'));
        if let Some(quote) = quote {
            let inside = &self.rest()[1..];
            let Some(length) = inside.find(quote) else {
                return Err(self.fault(format!("the quote {quote} is never closed")));
            };
            let name = inside[..length].to_owned();
            self.at += length + 2;
            return if name.is_empty() { Err(self.fault("a name is empty".to_owned())) } else { Ok(name) };
        }
        match self.bare_word() {
            "" => Err(self.fault(format!("expected a name, found {}", self.found()))),
            word => Ok(word.to_owned()),
        }
    }

    /// The letters, digits and `_ . -` that come next.
    fn bare_word(&mut self) -> &'t str {
        self.skip_space();
        let begin = self.at;
        let end = self.rest().find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c)));
        self.at += end.unwrap_or(self.rest().len());
        &self.text[begin..self.at]
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let begin = self.at;
        let taken = self.bare_word() == word;
        if !taken {
            self.at = begin;
        }
        taken
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.skip_space();
        let taken = self.rest().starts_with(sign);
        self.at += if taken { sign.len() } else { 0 };
        taken
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.takes(sign) { Ok(()) } else { Err(self.fault(format!("expected `{sign}`, found {}", self.found()))) }
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// What comes next, for messages.
    fn found(&self) -> String {
        let rest = self.rest().trim_start();
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || "_.-".contains(*c)).take(40).collect();
        match (word.is_empty(), rest.chars().next()) {
            (false, _) => format!("`{word}`"),
            (true, Some(sign)) => format!("`{sign}`"),
            (true, None) => "the end".to_owned(),
        }
    }

    fn fault(&self, what: String) -> Fault {
        Fault { at: self.at, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let Fault { at, what } = parse(text, false).unwrap_err();
        format!("{at}: {what}")
    }

    #[test]
    fn and_binds_more_than_or_and_parentheses_more_than_both() {
        let (terms, ops) = parse("p(walking) > 0.8 and novelty<.9 or not (action != 'front grooming')", false).unwrap();
        let expected = [
            (Quantity::Probability("walking".into()), Test::Above(0.8)),
            (Quantity::Novelty, Test::Below(0.9)),
            (Quantity::Action, Test::IsNot("front grooming".into())),
        ];
        assert_eq!(terms, expected.map(|(quantity, test)| Term { quantity, test }));
        assert_eq!(ops, [Op::Compare(0), Op::Compare(1), Op::And, Op::Compare(2), Op::Not, Op::Or]);
        let (_, ops) = parse("shift > 2 and (light < 5 or distance(home) <= 0.4)", false).unwrap();
        assert_eq!(ops, [Op::Compare(0), Op::Compare(1), Op::Compare(2), Op::Or, Op::And]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_with_what_would_be_right() {
        assert_eq!(refused("p(walking) > 80"), "13: `p(walking)` lies between 0 and 1; it is compared with 80");
        assert!(refused("speed > 3").starts_with("0: expected a value, found `speed`; values are p(ACTION), action"));
        assert_eq!(refused("p(walking) = 0.5"), "11: expected >, >=, < or <= after `p(walking)`, found `=`");
        assert_eq!(refused("action > 0.5"), "7: expected == or != after `action`, found `>`");
        assert_eq!(refused("novelty < 0.5 novelty"), "14: expected `and`, `or` or the end, found `novelty`");
        assert_eq!(refused("(novelty < 0.5"), "14: expected `)`, found the end");
        assert_eq!(refused("novelty <"), "9: expected a number, found the end");
        assert!(refused("p > 0.5").contains("expected `(` and a name, as in p(grooming)"));
        assert!(refused("").contains("expected a value, found the end"));
        assert!(refused("action == 'walking").contains("is never closed"));
        assert!(refused("quality == warmup").contains("ok or degraded"));
        assert!(refused("light > -1").contains("is never negative"));
        assert!(refused(&["novelty > 0"; 9].join(" or ")).contains("more than 8 comparisons"));
        assert!(refused(&"(".repeat(20)).contains("nested more than 16 deep"));
        assert!(refused(&" ".repeat(600)).contains("600 bytes long; at most 512"));
    }

    #[test]
    fn only_in_the_rule_of_the_action_is_p_the_action_in_question() {
        let (terms, _) = parse("p > 0.6 and novelty < 0.99", true).unwrap();
        assert_eq!(terms[0].quantity, Quantity::OwnProbability);
        assert!(parse("action == walking", true).unwrap_err().what.contains("expected p"));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let whole = "p('a b') >= 0.5 and not (distance(x) < 1e2 or action == \"ü\") and quality != degraded";
        assert!(parse(whole, false).is_ok());
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = parse(&whole[..end], false);
            let _ = parse(&whole[end..], false);
            let _ = parse(&format!("{}€{}", &whole[..end], &whole[end..]), false);
        }
    }
}
