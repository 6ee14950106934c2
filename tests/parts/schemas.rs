//! The JSON Schemas against the program itself, with `jsonschema` in Python as the judge.
//!
//! Method: what the program accepts, a schema must accept; of what the program refuses in one key, a schema must refuse all but bounds
//! and contradictions between keys. Both get the same TOML files.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use haltere::dataset::DataSpec;
use haltere::model::Manifest;

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

/// Configurations, each wrong in one key.
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

/// The end of a data set that needs no file, and is whole without what stands before it.
const TRIAL: &str = "behaviour_rate_hz = 100\n[[trial]]\nanimal = \"a\"\nbehaviour = \"b.csv\"\n";

/// Folder, schema and judge of one kind of file.
struct Judged {
    folder: tempfile::TempDir,
    python: PathBuf,
    schema: PathBuf,
    files: Vec<(PathBuf, bool)>,
}

impl Judged {
    /// `None` where there is no judge.
    fn new(of: &str) -> Option<Self> {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let found = Command::new(&python).args(["-c", "import jsonschema, tomllib"]).status();
        if !found.is_ok_and(|status| status.success()) {
            return skip("no jsonschema, or a Python older than 3.11: `make setup`");
        }
        let folder = tempfile::tempdir().unwrap();
        let text = Process::start("schema", &mut haltere(["check", &format!("--schema={of}")])).finish().code(0).out;
        let schema = folder.path().join("schema.json");
        std::fs::write(&schema, text).unwrap();
        Some(Self { folder, python, schema, files: Vec::new() })
    }

    fn file(&mut self, path: PathBuf, right: bool) {
        self.files.push((path, right));
    }

    fn text(&mut self, text: &str, right: bool) {
        let path = self.folder.path().join(format!("{}.toml", self.files.len()));
        std::fs::write(&path, text).unwrap();
        self.file(path, right);
    }

    /// Schema and program must say of every file what was said of it; `read` is the program: why it refuses.
    fn agree(&self, read: impl Fn(&Path) -> Result<(), String>) {
        let mut judge = Command::new(&self.python);
        judge.args(["-c", JUDGE]).arg(&self.schema).args(self.files.iter().map(|(path, _)| path));
        let said = Process::start("jsonschema", &mut judge).finish().code(0).out;
        assert_eq!(said.lines().count(), self.files.len(), "{said}");
        for ((path, right), judged) in self.files.iter().zip(said.lines()) {
            let text = std::fs::read_to_string(path).unwrap();
            let program = read(path);
            assert_eq!(program.is_ok(), *right, "the program on {}: {program:?}\n{text}", path.display());
            assert_eq!(judged == "accepted", *right, "the schema on {}\n{text}", path.display());
        }
    }
}

#[test]
fn the_schema_of_the_configuration_accepts_what_the_program_accepts_and_refuses_what_is_wrong_in_one_key() {
    let Some(mut judged) = Judged::new("config") else { return };
    let plain = Process::start("schema", &mut haltere(["check", "--schema"])).finish().code(0).out;
    assert_eq!(plain, std::fs::read_to_string(&judged.schema).unwrap(), "the configuration's is the default");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    ["default.toml", "rig-example.toml"].iter().for_each(|name| judged.file(config.join(name), true));
    RIGHT.iter().for_each(|text| judged.text(text, true));
    WRONG.iter().for_each(|text| judged.text(text, false));
    judged.agree(|path| {
        let check = Process::start("check", haltere(["check", "--show", "--config"]).arg(path)).finish();
        if check.code == Some(0) { Ok(()) } else { Err(check.code(3).err) }
    });
}

#[test]
fn the_schema_of_a_data_set_accepts_what_is_read_and_refuses_what_is_wrong_in_one_key() {
    let Some(mut judged) = Judged::new("dataset") else { return };
    judged.file(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dataset-example.toml"), true);
    let frames =
        "frames = { path = \"a.tif\", plane = 2, rate_hz = 16, orientation = \"columns-first\", strict = true }\n";
    for right in [
        "",
        "offset_s = 1\nlabels = \"l.csv\"\nlabels_per = \"frame\"\n[preprocess]\nregistration = \"off\"\nbaseline = { quantile = 0.2 }\n",
        "columns = 90\nname = \"a 1\"\nindex = \"i.npy\"\n[preprocess.registration.piecewise]\nblocks = 3\n",
    ] {
        judged.text(&format!("{TRIAL}{frames}{right}"), true);
    }
    for wrong in [
        "frame = { path = \"a.tif\" }\n",
        "frames = \"a.tif\"\n",
        "frames = { path = \"a.tif\", channel = 1 }\n",
        "frames = { path = \"a.tif\", orientation = \"rows\" }\n",
        "frames = { path = \"a.tif\", plane = \"2\" }\n",
        "frames = { path = \"a.tif\", plane = -1 }\n",
        "frames = { path = \"a.tif\" }\nlabels_per = \"bout\"\n",
        "frames = { path = \"a.tif\" }\noffset_s = \"0\"\n",
        "frames = { path = \"a.tif\" }\n[preprocess]\nregistration = \"none\"\n",
        "frames = { path = \"a.tif\" }\n[preprocess.baseline]\nestimator = \"minimum\"\n",
    ] {
        judged.text(&format!("{TRIAL}{wrong}"), false);
    }
    judged.text(&TRIAL.replace("behaviour_rate_hz = 100\n", ""), false);
    judged.text(&format!("{}{frames}", TRIAL.replace("animal = \"a\"\n", "")), false);
    judged.agree(|path| DataSpec::from_toml(path).map(drop).map_err(|error| error.to_string()));
}

#[test]
fn the_schema_of_a_manifest_accepts_what_is_read_and_written_and_refuses_what_is_wrong_in_one_key() {
    let Some(mut judged) = Judged::new("manifest") else { return };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let fly = models.join("fly.toml");
    judged.file(fly.clone(), true);
    judged.file(models.join("untrained.toml"), true);
    // As the program writes it, with every step of preprocessing on, and with every step off.
    let mut manifest = Manifest::read(&fly).unwrap();
    for steps in [
        // Blocks move on their own only where there is no atlas.
        "atlas=off line_phase={reach_px=4,frames=10} registration.piecewise={blocks=2,reach_px=3} baseline.quantile=0.2",
        "line_phase=off registration=off baseline=off normalise=off",
    ] {
        steps.split(' ').for_each(|step| manifest.preprocess.set(step).unwrap());
        let path = judged.folder.path().join(format!("written-{}.toml", judged.files.len()));
        manifest.save(&path).unwrap();
        judged.file(path, true);
    }
    let text = std::fs::read_to_string(models.join("untrained.toml")).unwrap();
    for (from, to) in [
        ("format = 1", "format = 2"),
        ("kind = \"streaming\"", "kind = \"stream\""),
        ("embedding = ", "embeding = "),
        ("sha256 = \"", "sha256 = \"x"),
        ("name = \"untrained\"", "name = \"un trained\""),
        ("trained = false", "trained = 0"),
        ("look_ahead_frames = 0", "look_ahead_frames = -1"),
        ("[input]\n", "[input]\nplanes = 1\n"),
        ("[preprocess.convert]\n", "[preprocess.convert]\ngain = 2\n"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        judged.text(&text.replacen(from, to, 1), false);
    }
    judged.agree(|path| Manifest::read(path).map(drop).map_err(|error| error.to_string()));
}
