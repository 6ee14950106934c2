//! `haltere bench device` as a process, on the CPU: the whole of the bench but for what only a GPU can show.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::support::process::haltere;

fn measured(arguments: &[&str]) -> (Value, String) {
    let output = haltere([["bench", "device", "--json"].as_slice(), arguments].concat()).output().unwrap();
    let (out, table) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{table}");
    (serde_json::from_str(&out).unwrap(), table)
}

#[test]
fn the_bench_of_the_device_measures_the_configured_model_under_every_load() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let init = ["model", "init", "--name", "mine", "--out", out, "--input", "1x32x32", "--channels", "0"];
    assert!(haltere(init).output().unwrap().status.success());
    let model = format!("{out}/mine.toml");
    let set = format!("model={model}");
    let (results, table) =
        measured(&["--quick", "--frames", "100", "--hz", "100", "--paced-frames", "10", "--set", &set]);
    assert_eq!(results["model"], model.as_str());
    assert_eq!((&results["device"], &results["provider"]), (&Value::from("CPU"), &Value::from("CPUExecutionProvider")));
    assert!(results["floor"].is_null() && table.contains(&model), "{table}");
    let rows = results["rows"].as_array().unwrap();
    let loads: Vec<&str> = rows.iter().map(|row| row["load"].as_str().unwrap()).collect();
    assert_eq!(loads, ["paced 100 Hz", "paced 1000 Hz", "without pause", "during swaps"]);
    for row in rows {
        let latency: Vec<f64> = row["latency_us"].as_array().unwrap().iter().map(|us| us.as_f64().unwrap()).collect();
        assert!(row["frames"].as_u64().unwrap() >= 10 && latency[0] > 0.0 && latency.is_sorted(), "{row}");
        assert!(row["preprocess_us_p50"].as_f64().unwrap() > 0.0 && row["encode_us_p50"].as_f64().unwrap() > 0.0);
    }
    assert!(rows[3]["swaps"].as_u64().unwrap() >= 1, "{}", rows[3]);
}

/// The shipped model registers on a second channel.
#[test]
fn both_benches_send_as_many_channels_as_the_model_reads() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/fly.toml");
    // Whatever else this machine does meanwhile: no answer is late.
    let line = ["bench", "--json", "--frames", "30", "--model", model, "--set", "publish.deadline_ms=30000"];
    let output = haltere(line).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = results["corridor"].as_array().unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row["sent"] == 30 && row["missing"] == 0), "{rows:?}");
    let (results, _) =
        measured(&["--quick", "--frames", "50", "--hz", "100", "--paced-frames", "10", "--model", model]);
    assert_eq!(results["rows"].as_array().unwrap().len(), 4);
}

#[test]
fn a_configured_model_that_is_not_there_is_named_and_not_replaced() {
    let output = haltere(["bench", "device", "--quick", "--set", "model=nowhere/mine.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nowhere/mine.toml"), "{said}");
    assert!(!Path::new("nowhere").exists());
}

/// What a machine with a GPU would do in its first minutes, by the same script, as far as the CPU can: packed, unpacked, compared, timed.
#[test]
fn the_first_contact_with_a_gpu_is_rehearsed_on_the_cpu() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("benches/first_contact.sh");
    command.arg("rehearse").current_dir(root).env("HALTERE", env!("CARGO_BIN_EXE_haltere"));
    let output = command.env("PYTHON", root.join(".venv/bin/python")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for words in ["of 60 MiB", "a second run on the GPU is bit-identical", "the same", "| during swaps |"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

const NAMES: &[u8] = b"\0.nv_fatbin\0.shstrtab\0";

/// A library of 64 bits with one section of CUDA code, which holds these entries: architecture and machine code.
fn library(entries: &[(u32, &[u8])]) -> Vec<u8> {
    let entry = |(arch, code): &(u32, &[u8])| {
        let mut head = vec![0u8; 64];
        head[4..8].copy_from_slice(&64u32.to_le_bytes());
        head[8..16].copy_from_slice(&(code.len() as u64).to_le_bytes());
        head[28..32].copy_from_slice(&arch.to_le_bytes());
        [head, code.to_vec()].concat()
    };
    let body: Vec<u8> = entries.iter().flat_map(entry).collect();
    let mut code = [0xBA55_ED50u32.to_le_bytes().to_vec(), vec![1, 0, 16, 0]].concat();
    code.extend((body.len() as u64).to_le_bytes());
    code.extend(body);
    let section = |name: u32, at: usize, length: usize| {
        let mut header = [0u8; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        header
    };
    let mut head = [0u8; 64];
    head[..4].copy_from_slice(b"\x7fELF");
    head[40..48].copy_from_slice(&((64 + code.len() + NAMES.len()) as u64).to_le_bytes());
    head[58..64].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
    let sections = [section(1, 64, code.len()), section(12, 64 + code.len(), NAMES.len())].concat();
    [head.to_vec(), code, NAMES.to_vec(), sections].concat()
}

#[test]
fn a_cuda_library_is_cut_to_the_code_of_one_architecture_that_is_called() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole.so", "cut.so"].map(|name| folder.path().join(name));
    let (conv, flash) = (b"\0.text.conv_forward\0code".as_slice(), b"\0.text.flash_forward\0code".as_slice());
    let entries: [(u32, &[u8]); 4] = [(80, conv), (90, flash), (90, conv), (100, conv)];
    std::fs::write(&whole, library(&entries)).unwrap();
    let mut command = Command::new(root.join(".venv/bin/python"));
    let output = command.arg(root.join("benches/first_contact/slice_fatbin.py")).args([&whole, &cut]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (found, expected) = (std::fs::read(&cut).unwrap(), library(&entries[2..3]));
    assert_eq!(found.len(), library(&entries).len(), "the layout must stay");
    // Header, then one entry, then nothing.
    let behind = NAMES.len() + 128;
    let kept = expected.len() - 64 - behind;
    assert!(found[64..64 + kept] == expected[64..64 + kept]);
    assert!(found[64 + kept..found.len() - behind].iter().all(|byte| *byte == 0));
}
