//! `haltere bench device` as a process, on the CPU: the whole of the bench but for what only a GPU can show.

use std::path::Path;

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
    assert!(results["floor_us"].is_null() && table.contains(&model), "{table}");
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

#[test]
fn a_configured_model_that_is_not_there_is_named_and_not_replaced() {
    let output = haltere(["bench", "device", "--quick", "--set", "model=nowhere/mine.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nowhere/mine.toml"), "{said}");
    assert!(!Path::new("nowhere").exists());
}
