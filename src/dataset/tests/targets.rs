//! Targets: every file that they may lie in, their alignment with frames, and what is refused.

use super::*;

const TARGET: &str = "frame_rate_hz = 16\nbehaviour_rate_hz = 100\n";

/// Speed and turning of every behaviour frame; the twelfth turning is missing.
fn ball() -> String {
    let turning = |row: usize| if row == 11 { "NaN".to_owned() } else { format!("-{row}") };
    let row = |row: usize| format!("{}.5,{}\n", row, turning(row));
    std::iter::once("speed,turning\n".to_owned()).chain((0..ROWS).map(row)).collect()
}

fn asked(names: &[&str]) -> Mc2pOptions {
    let target = |name: &&str| Target { name: (*name).to_owned(), ..Target::default() };
    Mc2pOptions { targets: names.iter().map(target).collect(), ..Mc2pOptions::default() }
}

fn of_folder(lab: &Lab, names: &[&str]) -> Result<Dataset, DatasetError> {
    Ok(load(&DataSpec::mc2p(lab.folder.path(), &asked(names))?, &options(), &|_| ())?.0)
}

#[test]
fn the_targets_of_a_frame_are_those_of_its_newest_behaviour_frame() {
    let lab = Lab::new();
    ["fly_01", "fly_02"].iter().for_each(|fly| lab.write(&format!("{fly}/001/targets.csv"), ball()));
    let data = of_folder(&lab, &["turning", "speed"]).unwrap();
    assert_eq!(data.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["turning", "speed"]);
    let trial = &data.trials[1];
    assert_eq!(trial.targets.dim(), (trial.frames.len(), 2));
    for (row, &at) in trial.targets.rows().into_iter().zip(&trial.behaviour_at) {
        assert_eq!(row[1], at as f32 + 0.5);
        assert!(if at == 11 { row[0].is_nan() } else { row[0] == -(at as f32) }, "{row}");
    }
    assert_eq!(data.facts[0].targets[1].most, (ROWS - 1) as f32 + 0.5);
    let without = lab.load(&options()).unwrap().0;
    assert_eq!(without.trials[0].targets.ncols(), 0);
    assert_ne!(without.sha256, data.sha256, "other targets are other data");
}

#[test]
fn columns_of_the_behaviour_are_targets_where_no_file_has_them() {
    let lab = Lab::new();
    let data = of_folder(&lab, &["3"]).unwrap();
    let trial = &data.trials[0];
    for (row, &at) in trial.targets.rows().into_iter().zip(&trial.behaviour_at) {
        assert_eq!(row[0], trial.behaviour[[at as usize, 3]]);
    }
    let error = of_folder(&lab, &["speed"]).unwrap_err().to_string();
    assert!(error.contains("pose_3d.mm") && error.contains("\"speed\"") && error.contains("0, 1, 2, 3, 4"), "{error}");
}

#[test]
fn a_description_names_unit_smoothing_and_file() {
    let lab = Lab::new();
    lab.write("ball.csv", ball());
    let head = described::HEAD
        .replace("[preprocess]", "[[target]]\nname = \"speed\"\nunit = \"mm/s\"\nsmooth_s = 0.1\n[preprocess]");
    let keys = "index = \"fly_01/001/indices.npy\"\ntargets = \"ball.csv\"\n";
    let text = format!("{head}[[trial]]\n{}{keys}", described::FILES);
    let (data, _) = lab.toml(&text).unwrap();
    assert_eq!(data.targets, [Target { name: "speed".into(), unit: "mm/s".into(), smooth_s: 0.1 }]);
    let trial = &data.trials[0];
    // Eleven rows around each; at the end, those that are there.
    assert_eq!(trial.targets[[5, 0]], trial.behaviour_at[5] as f32 + 0.5);
    let last = trial.targets.nrows() - 1;
    assert_eq!((trial.behaviour_at[last], trial.targets[[last, 0]]), (359, 357.0));
    lab.write("ball.csv", "speed\n1\n2\n");
    let error = lab.toml(&text).unwrap_err().to_string();
    assert!(error.contains("ball.csv") && error.contains("one row per behaviour frame"), "{error}");
    let error = lab.toml(&text.replace("name = \"speed\"", "name = \"speeed\"")).unwrap_err().to_string();
    assert!(error.contains("speeed") && error.contains("it has speed"), "{error}");
    assert!(lab.toml(&format!("{TARGET}[[target]]\nnam = \"x\"\n")).unwrap_err().to_string().contains("nam"));
}
