//! The JSON Schema of the configuration against the program itself, with `jsonschema` in Python as the judge.
//!
//! Method: what the program accepts, the schema must accept; of what the program refuses in one key, the schema must refuse all but
//! contradictions between keys. Both get the same TOML files.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::{Process, haltere, skip};

const JUDGE: &str = "
import json, sys, tomllib
from jsonschema import Draft7Validator
schema = json.load(open(sys.argv[1]))
Draft7Validator.check_schema(schema)
for path in sys.argv[2:]:
    faults = [error.message for error in Draft7Validator(schema).iter_errors(tomllib.load(open(path, 'rb')))]
    print('refused' if faults else 'accepted')
";

/// Each wrong in one key.
const WRONG: [&str; 15] = [
    "rigg = \"a\"",
    "rig = \"a b\"",
    "insecure = 1",
    "[source]\nendpoint = \"127.0.0.1:5710\"",
    "[source]\nhwm = 0",
    "[source]\nhwm = \"8\"",
    "[source]\nplane = \"none\"",
    "[source]\npattern = \"push\"",
    "[sourse]\nhwm = 8",
    "[compute]\ndevice = \"gpu\"",
    "[osc]\nreceiver = \"localhost\"",
    "[publish]\nneutral_action = \"\"",
    "[decision.groom]\nwhen = 3",
    "[decision.groom]\nwhen = \"light > 1\"\narmd = true",
    "[point.home]\nvalues = []",
];
const RIGHT: [&str; 6] = [
    "",
    "rig = \"a.b-C_9\"\n[source]\nplane = 3\nfollow = \"/data/run 1\"",
    "[compute]\ndevice = \"cuda:12\"\nthreads = 64",
    "[publish]\nendpoint = \"ipc:///run/haltere/decodes\"\n[control]\nendpoint = \"off\"",
    "[decision.groom]\nwhen = \"p('a b') > 0.5\"\nat_most = \"10 in 60 s\"\n[decision.action]\non = true\n[point.home]\nvalues = [0.5, 1]",
    "[osc]\nreceiver = \"[::1]:9000\"\n[log]\nfilter = \"haltere=debug,info\"",
];

#[test]
fn the_schema_accepts_what_the_program_accepts_and_refuses_what_is_wrong_in_one_key() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    if !Command::new(&python).args(["-c", "import jsonschema, tomllib"]).status().is_ok_and(|status| status.success()) {
        return skip("no jsonschema, or a Python older than 3.11: `make setup`").unwrap_or_default();
    }
    let folder = tempfile::tempdir().unwrap();
    let put = |name: String, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let schema = Process::start("schema", &mut haltere(["check", "--schema"])).finish().code(0).out;
    let schema = put("schema.json".to_owned(), &schema);
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files: Vec<(PathBuf, bool)> =
        ["default.toml", "rig-example.toml"].map(|name| (config.join(name), true)).into();
    files.extend(RIGHT.iter().enumerate().map(|(at, text)| (put(format!("right-{at}.toml"), text), true)));
    files.extend(WRONG.iter().enumerate().map(|(at, text)| (put(format!("wrong-{at}.toml"), text), false)));

    let mut judge = Command::new(&python);
    judge.args(["-c", JUDGE]).arg(&schema).args(files.iter().map(|(path, _)| path));
    let said = Process::start("jsonschema", &mut judge).finish().code(0).out;
    assert_eq!(said.lines().count(), files.len(), "{said}");
    for ((path, right), judged) in files.iter().zip(said.lines()) {
        let name = path.display();
        let code = if *right { 0 } else { 3 };
        Process::start("check", haltere(["check", "--show", "--config"]).arg(path)).finish().code(code);
        assert_eq!(judged == "accepted", *right, "the schema and the program disagree on {name}");
    }
}
