//! What is compiled into haltere, held against `deny.toml`: licences, places of origin, and crates that are there in two versions.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Name, version and licence of every crate that the program with its default features is made of.
fn crates() -> BTreeSet<(String, String, String)> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap();
        let mut words = package.split(' ');
        (words.next().unwrap().to_owned(), words.next().unwrap().to_owned(), licence.to_owned())
    };
    text.lines().filter(|line| !line.is_empty()).map(parse).collect()
}

fn deny(table: &str, key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string("deny.toml").unwrap();
    let file: toml::Table = text.parse().unwrap();
    file[table][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met by allowed licences: `OR` (or the older `/`) offers a choice, `AND` asks for both.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let (mut depth, mut or, mut and) = (0, Vec::new(), Vec::new());
    let words: Vec<String> = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ")
        .split_whitespace()
        .map(String::from)
        .collect();
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "OR" if depth == 0 => or.push(at),
            "AND" if depth == 0 => and.push(at),
            _ => {}
        }
    }
    let parts = |cuts: &[usize]| {
        let begins = std::iter::once(0).chain(cuts.iter().map(|cut| cut + 1));
        let ends = cuts.iter().copied().chain([words.len()]);
        begins.zip(ends).map(|(begin, end)| words[begin..end].join(" ")).collect::<Vec<_>>()
    };
    if !or.is_empty() {
        parts(&or).iter().any(|part| is_met(part, allowed))
    } else if !and.is_empty() {
        parts(&and).iter().all(|part| is_met(part, allowed))
    } else if words.first().is_some_and(|word| word == "(") {
        is_met(&words[1..words.len() - 1].join(" "), allowed)
    } else {
        allowed.contains(&words.join(" "))
    }
}

#[test]
fn licences_are_those_that_deny_toml_allows() {
    let allowed = deny("licenses", "allow");
    let crates = crates();
    assert!(crates.len() > 200, "{} crates", crates.len());
    let refused: Vec<_> = crates.iter().filter(|(_, _, licence)| !is_met(licence, &allowed)).collect();
    assert!(refused.is_empty(), "neither allowed by deny.toml nor offered with a choice that is: {refused:?}");
    let used = |licence: &String| {
        let fewer = allowed.iter().filter(|other| *other != licence).cloned().collect();
        crates.iter().any(|(_, _, expression)| !is_met(expression, &fewer))
    };
    let unused: Vec<_> = allowed.iter().filter(|licence| !used(licence)).collect();
    assert!(unused.is_empty(), "deny.toml allows what no crate needs: {unused:?}");
}

#[test]
fn an_expression_is_met_by_one_of_a_choice_and_by_all_of_a_sum() {
    let allowed = ["MIT", "Unicode-3.0"].map(String::from).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("Apache-2.0/MIT", true),
        ("MIT AND BSD-3-Clause", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(GPL-3.0-only OR Apache-2.0) AND Unicode-3.0", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression:?}");
    }
}

#[test]
fn a_crate_in_two_versions_is_named_in_deny_toml() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version, _) in crates() {
        versions.entry(name).or_default().insert(version);
    }
    let twice: BTreeSet<String> =
        versions.into_iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    assert_eq!(twice, deny("bans", "skip"), "left: compiled in several versions; right: deny.toml");
}

#[test]
fn every_crate_comes_from_crates_io_or_from_this_repository() {
    let lock: toml::Table = std::fs::read_to_string("Cargo.lock").unwrap().parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        match package.get("source").and_then(|source| source.as_str()) {
            None => assert!(["haltere", "zeromq-src"].contains(&name), "{name} has no source"),
            Some(source) => assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}"),
        }
    }
}
