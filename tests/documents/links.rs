//! Every link of a document to a file of this repository leads somewhere, and one to a heading finds it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Documents that people read: at the root, and below docs/, clients/ and benches/.
fn documents() -> Vec<PathBuf> {
    fn below(folder: &Path, deep: bool) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.flat_map(|path| match (path.is_dir(), deep) {
            (true, true) => below(&path, true),
            (true, false) => Vec::new(),
            _ => vec![path],
        });
        files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "clients", "benches"].map(|folder| below(&root.join(folder), true));
    [below(root, false), folders.concat()].concat()
}

/// Targets of the links of a text, without what stands in blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    });
    let mut found = Vec::new();
    for mut line in lines {
        while let Some((_, after)) = line.split_once("](") {
            let Some((target, rest)) = after.split_once(')') else { break };
            found.push(target.to_owned());
            line = rest;
        }
    }
    found
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_into_the_repository_leads_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            count += 1;
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(f, h)| (f, Some(h)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if let Some(heading) = heading {
                let text = std::fs::read_to_string(&target).unwrap();
                let there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(there, "{}: {link}: no such heading", document.display());
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn a_link_in_a_block_of_code_is_none_and_an_anchor_is_githubs() {
    assert_eq!(links("a [b](c.md) [d](#e)\n```\n[f](g)\n```\n"), ["c.md", "#e"]);
    assert_eq!(anchor("## On a network, twice: `a_b`"), "on-a-network-twice-a_b");
}
