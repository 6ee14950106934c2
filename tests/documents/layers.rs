//! Who may use whom. Method: every path in `src/` that begins with `crate`, `super`, `self` or a child module, in `use` trees and in
//! code, is resolved to the file that it names; comments, strings and `#[cfg(test)]` items do not count. The rooms' permissions
//! stand in ARCHITECTURE.md, under each room's heading, as `May use: …`: the document is the table.

#![allow(clippy::unwrap_used)] // clippy takes the helpers of a test for something else

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");
const ROOMS_MAX: usize = 21;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 60;

type Module = Vec<String>;

#[test]
fn every_room_has_a_heading_and_every_heading_a_room() {
    let rooms = Sources::read().rooms();
    assert!(rooms.len() <= ROOMS_MAX, "{} rooms at the top of src/, at most {ROOMS_MAX}", rooms.len());
    assert_eq!(
        rooms,
        permissions(ARCHITECTURE).into_keys().collect(),
        "rooms of src/ (left), of ARCHITECTURE.md (right)"
    );
}

#[test]
fn no_room_uses_what_it_may_not() {
    let permissions = permissions(ARCHITECTURE);
    let offences: Vec<String> = Sources::read()
        .uses()
        .into_iter()
        .filter(|used| used.from != "lib" && used.from != "main")
        .filter(|used| !permissions[&used.from].iter().any(|may| may.allows(&used.path)))
        .map(|used| format!("{}: `{}` may not use `{}`", used.file, used.from, used.path))
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn no_permission_is_left_unused() {
    let uses = Sources::read().uses();
    let unused: Vec<String> = permissions(ARCHITECTURE)
        .into_iter()
        .flat_map(|(room, may)| may.into_iter().map(move |permission| (room.clone(), permission)))
        .filter(|(room, may)| !uses.iter().any(|used| used.from == *room && may.allows(&used.path)))
        .map(|(room, may)| format!("`{room}` does not use `{}`: remove the permission", may.0))
        .collect();
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

#[test]
fn no_circle_between_rooms() {
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for (room, may) in permissions(ARCHITECTURE) {
        graph.entry(room).or_default().extend(may.iter().map(Permission::room));
    }
    assert_eq!(circles(&graph), Vec::<String>::new());
}

#[test]
fn lib_lists_the_rooms_from_the_ground_up() {
    let lib = include_str!("../../src/lib.rs");
    let rooms: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let permissions = permissions(ARCHITECTURE);
    assert_eq!(rooms.len(), permissions.len());
    for (at, room) in rooms.iter().enumerate() {
        let later = permissions[*room].iter().find(|may| !rooms[..at].contains(&may.room().as_str()));
        assert!(later.is_none(), "`{room}` uses `{}`, which lib.rs lists below it", later.unwrap().0);
    }
}

/// What a folder's `mod.rs` defines, its children may use; so a step from a file up to the module that holds it is no arrow.
#[test]
fn no_circle_between_files() {
    assert_eq!(circles(&Sources::read().arrows()), Vec::<String>::new());
}

#[test]
fn files_and_functions_stay_short() {
    let sources = Sources::read_all();
    let long = sources.0.values().flat_map(|source| {
        let lines = source.text.lines().count();
        let file =
            (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.file));
        let functions = functions(&source.text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
        let named = |(name, lines)| format!("{}: fn {name}: {lines} lines, at most {FUNCTION_LINES_MAX}", source.file);
        file.into_iter().chain(functions.map(named)).collect::<Vec<_>>()
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The lint `unsafe_code` is denied for the crate; whoever opens it stands in ARCHITECTURE.md, and nobody else.
#[test]
fn unsafe_code_stands_where_the_architecture_says() {
    let opened =
        |source: &Source| ["allow(unsafe_code", "expect(unsafe_code"].iter().any(|lint| source.text.contains(lint));
    let found: BTreeSet<String> =
        Sources::read_all().0.values().filter(|source| opened(source)).map(|source| source.file.clone()).collect();
    let section = ARCHITECTURE.split("\n## Where `unsafe` is allowed\n").nth(1).expect("a section on unsafe code");
    let section = section.split("\n## ").next().unwrap();
    let listed =
        section.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")).map(str::to_owned).collect();
    assert_eq!(found, listed, "files with unsafe code in src/ (left), in ARCHITECTURE.md (right)");
}

/// What would not compile for Windows, outside the tests of each file.
#[test]
fn what_only_unix_answers_stands_where_the_architecture_says() {
    let asks = |source: &Source| {
        let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        ["std::os::unix", "std::os::fd", "rustix::"].iter().any(|path| code.contains(path))
    };
    let found: BTreeSet<String> =
        Sources::read_all().0.values().filter(|source| asks(source)).map(|source| source.file.clone()).collect();
    let section = ARCHITECTURE.split("\n## Where only Unix answers\n").nth(1).expect("a section on Unix");
    let section = section.split("\n## ").next().unwrap();
    let listed =
        section.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")).map(str::to_owned).collect();
    assert_eq!(found, listed, "files that ask Unix in src/ (left), in ARCHITECTURE.md (right)");
}

#[test]
fn the_reader_of_paths_finds_all_of_them_and_nothing_else() {
    let text = r#"
//! Not this: crate::lane::Comment.
use crate::frame::{Frame, Shape as S};
use crate::{event::Event, publish::{Sink, zmq::Socket}, stats};
use super::sibling::{self, Value};
pub use child::Item;
fn f() -> crate::wire::Header { log("crate::text::No"); super::super::Root::new(); other::Thing } // nor crate::rt
#[cfg(test)]
use crate::only::InTests;
#[cfg(test)]
mod tests { use crate::pipeline::Only; }
"#;
    let module: Module = ["a", "b"].map(str::to_owned).into();
    let children = BTreeSet::from(["child".to_owned()]);
    let expected = [
        "Root::new",
        "a::b::child::Item",
        "a::sibling",
        "a::sibling::Value",
        "event::Event",
        "frame::Frame",
        "frame::Shape",
        "publish::Sink",
        "publish::zmq::Socket",
        "stats",
        "wire::Header",
    ];
    let found: BTreeSet<String> = used_paths(text, &module, &children).into_iter().collect();
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn permissions_are_read_from_headings_and_a_narrow_one_is_narrow() {
    let text = "## Rooms\n### `a/`: what?\nFor this.\nMay use: `b`, `c::Item`.\n### `b`\nMay use: nothing.\n## Else\n";
    let read = permissions(text);
    assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(read["b"].is_empty());
    let allowed = |path: &str| read["a"].iter().any(|may| may.allows(path));
    assert!(allowed("b") && allowed("b::x::Y") && allowed("c::Item") && allowed("c::Item::new"));
    assert!(!allowed("c") && !allowed("c::Items") && !allowed("bb::X"));
}

#[test]
fn a_circle_is_found_and_named() {
    let graph = |pairs: &[(&str, &str)]| {
        let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in pairs {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")])), ["b → c → b"]);
}

#[test]
fn lines_of_functions_are_counted_from_their_name_to_their_brace() {
    let text =
        "fn short() {}\n\nimpl X {\n    pub(in a::b) const fn long(\n        a: u8,\n    ) {\n        a;\n    }\n}\n";
    assert_eq!(functions(text), [("short".to_owned(), 1), ("long".to_owned(), 5)]);
}

/// `a` or `a::Item`, as in "May use: `a`, `b::Item`."
struct Permission(String);

impl Permission {
    fn allows(&self, path: &str) -> bool {
        path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    fn room(&self) -> String {
        self.0.split("::").next().unwrap().to_owned()
    }
}

/// Room → what it may use, from the headings ``### `room/` `` and the lines "May use: …" below them.
fn permissions(architecture: &str) -> BTreeMap<String, Vec<Permission>> {
    let mut rooms = BTreeMap::new();
    let mut room = None;
    for line in architecture.lines() {
        if line.starts_with('#') {
            let name = line.strip_prefix("### `").and_then(|rest| rest.split('`').next());
            room = name.map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned());
        }
        if let (Some(room), Some(may)) = (&room, line.strip_prefix("May use: ")) {
            let words = may.split('`').skip(1).step_by(2).map(|word| Permission(word.to_owned())).collect();
            rooms.insert(room.clone(), words);
        }
    }
    rooms
}

struct Source {
    /// From the top of the repository.
    file: String,
    text: String,
}

/// Module path → its file.
struct Sources(BTreeMap<Module, Source>);

struct Used {
    file: String,
    from: String,
    path: String,
}

impl Sources {
    /// Without the files that hold nothing but tests.
    fn read() -> Self {
        let mut sources = Self::read_all();
        sources.0.retain(|module, _| !module.iter().any(|name| name == "tests"));
        sources
    }

    fn read_all() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut sources = BTreeMap::new();
        let mut folders = vec![root.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let file = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                    let text = std::fs::read_to_string(&path).unwrap();
                    sources.insert(module_of(&file), Source { file, text });
                }
            }
        }
        Self(sources)
    }

    fn rooms(&self) -> BTreeSet<String> {
        let rooms = self.0.keys().filter_map(|module| module.first().cloned());
        rooms.filter(|room| room != "main").collect()
    }

    fn children(&self, module: &Module) -> BTreeSet<String> {
        let below = self.0.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
        below.map(|other| other.last().unwrap().clone()).collect()
    }

    /// Every path from one room into another.
    fn uses(&self) -> Vec<Used> {
        let of = |(module, source): (&Module, &Source)| {
            let from = module.first().cloned().unwrap_or_else(|| "lib".to_owned());
            let paths = used_paths(&source.text, module, &self.children(module));
            let other = |path: &String| path.split("::").next() != Some(&from);
            let paths: Vec<String> = paths.into_iter().filter(other).collect();
            paths
                .into_iter()
                .map(move |path| Used { file: source.file.clone(), from: from.clone(), path })
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// File → the files whose items it names, but for the modules that hold it.
    fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows = BTreeMap::<String, BTreeSet<String>>::new();
        for (module, source) in self.0.iter().filter(|(module, _)| !module.is_empty()) {
            for path in used_paths(&source.text, module, &self.children(module)) {
                let names: Module = path.split("::").map(str::to_owned).collect();
                let holder = (1..=names.len()).rev().find_map(|n| self.0.get_key_value(&names[..n]));
                if let Some((used, target)) = holder
                    && !module.starts_with(used)
                {
                    arrows.entry(source.file.clone()).or_default().insert(target.file.clone());
                }
            }
        }
        arrows
    }
}

/// `src/source/zmq.rs` and `src/source/zmq/mod.rs` are `source::zmq`; `src/lib.rs` is the root.
fn module_of(file: &str) -> Module {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Module::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Every path of `text`, from the root of the crate, `use` trees unfolded.
fn used_paths(text: &str, module: &Module, children: &BTreeSet<String>) -> Vec<String> {
    let code: String = without_tests(text).lines().map(without_comment_and_text).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for (at, start) in path_starts(&code, children) {
        let mut found = BTreeSet::new();
        unfold("", &code[at..], &mut found);
        let absolute = found.into_iter().map(|path| absolute(&path, start, module));
        paths.extend(absolute.filter(|path| !path.is_empty()));
    }
    paths
}

#[derive(Clone, Copy)]
enum Start {
    Keyword,
    Child,
}

/// Where paths begin that lead into this crate.
fn path_starts(code: &str, children: &BTreeSet<String>) -> Vec<(usize, Start)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$';
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("::") {
        let end = at + found;
        let begin = code[..end].rfind(|c| !is_part(c)).map_or(0, |before| before + 1);
        let first = code[begin..end].split("::").next().unwrap();
        if begin + first.len() == end {
            match first {
                "crate" | "super" | "self" => starts.push((begin, Start::Keyword)),
                _ if children.contains(first) => starts.push((begin, Start::Child)),
                _ => {}
            }
        }
        at = end + 2;
    }
    starts
}

fn absolute(path: &str, start: Start, module: &Module) -> String {
    let names: Vec<&str> = path.split("::").collect();
    let here = || module.iter().map(String::as_str).collect::<Vec<_>>();
    let mut base = match (start, names[0]) {
        (Start::Keyword, "crate") => Vec::new(),
        _ => here(),
    };
    for name in names {
        match name {
            "crate" | "self" => {}
            "super" => _ = base.pop(),
            name => base.push(name),
        }
    }
    base.join("::")
}

/// Leaves out every item behind `#[cfg(test)]`: a line, or a block to the brace at the margin.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut parts = text.split("#[cfg(test)]\n");
    kept.push_str(parts.next().unwrap());
    for part in parts {
        let line = part.lines().next().unwrap_or_default();
        let ends = if line.ends_with(';') || line.ends_with('}') { part.find('\n') } else { part.find("\n}") };
        kept.push_str(&part[ends.map_or(part.len(), |end| end + 1)..]);
    }
    kept
}

/// Cuts texts of one line, then the comment. Texts over several lines would be read as code: an offence too many, none too few.
fn without_comment_and_text(line: &str) -> String {
    let line = line.replace("'\"'", "' '");
    let outside: String = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split("//").next().unwrap_or_default().to_owned()
}

/// Reads one path or `{…}` tree; returns how many bytes it took.
fn unfold(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let length = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..length]);
    let opens_a_tree = (path.is_empty() || path.ends_with("::")) && text[length..].starts_with('{');
    if !opens_a_tree {
        if !path.is_empty() {
            paths.insert(path.trim_end_matches(':').trim_end_matches("::self").to_owned());
        }
        return length;
    }
    let mut at = length + 1;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        if text[at..].starts_with('}') || text[at..].is_empty() {
            return at + 1;
        }
        at += unfold(&path, &text[at..], paths);
        // A rename (`as S`), up to the comma or the end of the tree.
        at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
        at += usize::from(text[at..].starts_with(','));
    }
}

/// Every circle once, by its smallest member, as `a → b → a`.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for start in graph.keys() {
        if let Some(way) = way_back(graph, start)
            && way.iter().all(|step| start <= step)
        {
            found.push(way.join(" → "));
        }
    }
    found
}

/// The shortest way from `start` to itself.
fn way_back(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut visited = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in graph.get(way.last().unwrap()).into_iter().flatten() {
            let longer: Vec<String> = way.iter().chain([next]).cloned().collect();
            if next == start {
                return Some(longer);
            }
            if visited.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Functions with their lines, from `fn` to the brace at its indentation.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> = code.split("fn ").collect();
        let before = words[0];
        let before =
            before.split_once(") ").filter(|(head, _)| head.starts_with("pub(")).map_or(before, |(_, rest)| rest);
        let is_qualifier = |word| matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"");
        if words.len() < 2 || !before.split_whitespace().all(is_qualifier) {
            continue;
        }
        let name: String = words[1].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let indent = &line[..line.len() - code.len()];
        let is_end = |line: &str| {
            let rest = line.strip_prefix(indent).unwrap_or(" ");
            // A body's brace, a body on the line itself, or a signature without a body.
            rest.starts_with('}') || (!rest.starts_with(' ') && rest.ends_with(['}', ';']))
        };
        let Some(length) = lines[at..].iter().position(|line| is_end(line)) else { continue };
        found.push((name, length + 1));
    }
    found
}
