//! What the documents tell a user to type is what the program takes.
//!
//! Method: every line of a shell block in README.md, in docs/ and in the clients' documents that begins with `haltere`, and every example in a
//! `--help`, goes through the program's own parser, without what the shell takes for itself: comment, pipe and redirection.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, Parser};
use haltere::cli::Cli;

/// README.md and the documents below docs/ and clients/.
fn documents() -> Vec<PathBuf> {
    fn below(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = below(&root.join("clients"));
    found.extend(below(&root.join("docs")));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.push(root.join("README.md"));
    found
}

/// Lines of the shell blocks of a document that call haltere, with their numbers.
fn calls(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut in_shell) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        match line.trim().strip_prefix("```") {
            Some(language) => in_shell = !in_shell && language == "sh",
            None if in_shell && line.trim().starts_with("haltere ") => found.push((number + 1, line.trim().to_owned())),
            None => {}
        }
    }
    found
}

/// Examples in the help of a command and of those below it: alone on their line, or behind `Example:`.
fn examples(command: &Command) -> Vec<String> {
    let helps = [command.get_after_help(), command.get_after_long_help()];
    let text = helps.into_iter().flatten().map(|help| format!("{help}\n")).collect::<String>();
    let line = |line: &str| {
        let line = line.trim().trim_start_matches("Example: ");
        // What stands two spaces behind an example explains it.
        let call = line.split("  ").next().unwrap();
        // A variable may be set for one call.
        let call = call.split_once(' ').filter(|(first, _)| first.contains('=')).map_or(call, |(_, call)| call);
        call.starts_with("haltere ").then(|| call.to_owned())
    };
    text.lines().filter_map(line).chain(command.get_subcommands().flat_map(examples)).collect()
}

/// The words of a call as a shell would split them.
fn words(call: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in call.chars() {
        match (character, quote) {
            (_, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('#' | '|' | '>', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn accepted(call: &str) -> Result<(), String> {
    match Cli::try_parse_from(words(call)) {
        Ok(_) => Ok(()),
        Err(refused) => Err(format!("{call}\n{refused}")),
    }
}

#[test]
fn every_command_of_a_document_is_accepted() {
    let mut count = 0;
    for path in documents() {
        for (line, call) in calls(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            accepted(&call).unwrap_or_else(|refused| panic!("{}:{line}: {refused}", path.display()));
        }
    }
    assert!(count >= 20, "only {count} commands were found");
}

#[test]
fn every_example_of_a_help_is_accepted() {
    let examples = examples(&Cli::command());
    assert!(examples.len() >= 60, "only {} examples were found", examples.len());
    examples.iter().for_each(|call| accepted(call).unwrap_or_else(|refused| panic!("{refused}")));
}

/// Calls of `"$haltere"` in a shell script, with the number of their first line, each up to what the shell takes for itself. One a line.
fn calls_of_a_script(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut whole, mut first) = (Vec::new(), String::new(), 0);
    for (number, line) in text.lines().enumerate() {
        if whole.is_empty() {
            first = number + 1;
        }
        whole.push_str(line.trim());
        if whole.ends_with('\\') {
            whole.pop();
            continue;
        }
        let whole = std::mem::take(&mut whole);
        if whole.starts_with('#') {
            continue;
        }
        if let Some((_, call)) = whole.split_once("\"$haltere\" ") {
            let end = [" 2>", " >", " || ", " | ", "; ", " && ", " &"].iter().filter_map(|end| call.find(end)).min();
            found.push((first, format!("haltere {}", &call[..end.unwrap_or(call.len())])));
        }
    }
    found
}

#[test]
fn every_command_of_a_script_of_the_benches_is_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (script, least) in [("benches/gpu.sh", 6), ("benches/first_contact.sh", 9)] {
        let text = std::fs::read_to_string(root.join(script)).unwrap();
        let calls = calls_of_a_script(&text);
        assert!(calls.len() >= least, "{script}: only {} commands were found", calls.len());
        for (line, call) in calls {
            // What the shell puts in place of these is a number each, an argument of the function, or further options.
            let numbers = ["$count", "$slow", "$3", "$4", "$2"];
            let call = call.replace("pulse_ms=$1", "pulse_ms=2").replace("encoder_graph=$2", "encoder_graph=true");
            let call = numbers.iter().fold(call, |call, name| call.replace(name, "30")).replace(" $options", "");
            accepted(&call).unwrap_or_else(|refused| panic!("{script}:{line}: {refused}"));
        }
    }
}

#[test]
fn the_first_page_of_the_book_shows_every_subcommand() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/start.md")).unwrap();
    let calls: Vec<Vec<String>> = calls(&page).iter().map(|(_, call)| words(call)).collect();
    for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
        let (name, shown) =
            (command.get_name(), |name: &str| calls.iter().any(|call| call.get(1).is_some_and(|w| w == name)));
        assert!(shown(name), "docs/start.md shows no `haltere {name}`");
    }
}

#[test]
fn a_comment_a_pipe_and_quotes_are_the_shells() {
    assert_eq!(words("haltere run fly.nwb#/a --once   # why"), ["haltere", "run", "fly.nwb#/a", "--once"]);
    assert_eq!(words("haltere watch --json | jq ."), ["haltere", "watch", "--json"]);
    assert_eq!(words("haltere control mark \"light on\" > log"), ["haltere", "control", "mark", "light on"]);
    assert!(accepted("haltere play").is_err() && accepted("haltere check --shaw").is_err());
}
