//! Loading as a user does it: a file in a folder, variables, options; messages are compared as they are shown.

use super::*;

const MANUAL: &str = include_str!("../../config/default.toml");
const EXAMPLE: &str = include_str!("../../config/rig-example.toml");

/// Loads a file of this content, with these variables and `--set` texts; the file is named `rig.toml`.
fn load_with(content: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<(Config, Vec<Warning>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rig.toml");
    std::fs::write(&path, content).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let sets: Vec<_> = sets.iter().map(|&s| s.to_owned()).collect();
    let shorten = |e: ConfigError| e.to_string().replace(&format!("{}/", folder.path().display()), "");
    let (mut config, warnings) = Config::load(Some(&path), environment, &sets).map_err(shorten)?;
    let relative = config.model.strip_prefix(folder.path()).map(Path::to_path_buf);
    config.model = relative.unwrap_or(config.model);
    let relative = config.animal.folder.strip_prefix(folder.path()).map(Path::to_path_buf);
    config.animal.folder = relative.unwrap_or(config.animal.folder);
    Ok((config, warnings))
}

fn refused(content: &str) -> String {
    load_with(content, &[], &[]).unwrap_err()
}

#[test]
fn the_manual_lists_every_key_and_parses_to_the_defaults() {
    let (config, warnings) = load_with(MANUAL, &[], &[]).unwrap();
    assert_eq!((config, warnings), (Config::default(), vec![]));
    let written: toml::Table = MANUAL.parse().unwrap();
    for key in keys::KEYS {
        let sections = key.section().split('.').filter(|section| !section.is_empty());
        let table = sections.fold(&written, |table, section| table[section].as_table().unwrap());
        assert!(table.contains_key(key.leaf()), "config/default.toml does not list {}", key.name);
    }
}

#[test]
fn every_key_of_the_manual_is_explained_above_it() {
    let lines: Vec<_> = MANUAL.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#')) {
        let grouped = pair[0].contains("_core = ");
        assert!(pair[0].starts_with('#') || grouped, "no comment above `{}`", pair[1]);
    }
}

/// The rule in the manual's comments.
fn rule_of_the_manual() -> String {
    let lines = MANUAL.lines().filter_map(|line| line.strip_prefix("#     "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_rule_of_the_manual_lists_every_key_with_its_default() {
    let text = rule_of_the_manual();
    let (config, warnings) = load_with(&text, &[], &[]).unwrap();
    let [rule] = &config.decision.rules[..] else { panic!("one rule") };
    let default = crate::decide::Rule::named("groom".parse().unwrap());
    assert_eq!((&default.when, &default.leave, warnings), (&None, &None, vec![]));
    assert_eq!(*rule, crate::decide::Rule { when: rule.when.clone(), leave: rule.leave.clone(), ..default });
    let written: toml::Table = text.parse().unwrap();
    let table = written["decision"]["groom"].as_table().unwrap();
    assert_eq!(table.len(), rules::RULE_KEYS.len());
    rules::RULE_KEYS.iter().for_each(|key| assert!(table.contains_key(key.leaf), "{}", key.leaf));
}

#[test]
fn rules_and_points_are_printed_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<u8> = [0.1f64, -2.5].iter().flat_map(|number| number.to_le_bytes()).collect();
    let file = [&crate::sys::npy::header("<f8", &[2])[..], &numbers].concat();
    std::fs::write(folder.path().join("away.npy"), file).unwrap();
    let content = format!(
        r#"
        [decision.walk]
        when = "action == 'front walking' or distance(home) < 0.25 and quality != degraded"
        enter_frames = "3 of 4"
        at_most = "10 in 60 s"
        dose_minute_ms = 500
        sham_percent = 20
        [decision.action]
        on = true
        when = "p > 0.6 and novelty < 0.99"
        [point.home]
        values = [0.1, -0.25, 3]
        [point.away]
        file = "{}/away.npy"
        [decision."a.b"]
        when = "shift > 2"
        "#,
        folder.path().display()
    );
    let (config, _) = load_with(&content, &[("HALTERE__DECISION__WALK__ARMED", "true")], &[]).unwrap();
    let names: Vec<&str> = config.decision.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["walk", "a.b"]);
    assert!(config.decision.rules[0].armed && config.decision.action.on);
    assert_eq!(config.decision.points[1].values, [0.1, -2.5]);
    let (again, _) = load_with(&config.to_toml(), &[], &[]).unwrap();
    assert_eq!(again, config);
}

#[test]
fn a_yoke_is_read_from_a_table_or_a_list_and_printed_with_its_times() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("groom.csv");
    std::fs::write(&path, "number,time_s\n3,0.25\n9, 12.345678\n").unwrap();
    let content = format!("[decision.a]\nyoke = {path:?}\n[decision.b]\nyoke = [0.5, 86400]\n");
    let (config, _) = load_with(&content, &[], &[]).unwrap();
    let times = |rule: usize| config.decision.rules[rule].yoke.as_ref().unwrap().seconds().collect::<Vec<_>>();
    assert_eq!((times(0), times(1)), (vec![0.25, 12.345678], vec![0.5, 86400.0]));
    std::fs::remove_file(&path).unwrap();
    let (again, _) = load_with(&config.to_toml(), &[], &[]).unwrap();
    assert_eq!(again, config);
    let said = refused(&content);
    assert!(said.starts_with("rig.toml:2:8: `decision.a.yoke` = ") && said.contains("groom.csv"), "{said}");
    std::fs::write(&path, "time_s\n2\n1\n").unwrap();
    assert!(refused(&content).contains("holds 1 s after 2 s; they must ascend"), "{}", refused(&content));
    std::fs::write(&path, "seconds\n2\n").unwrap();
    assert!(refused(&content).contains("has no column `time_s`"), "{}", refused(&content));
    let said = refused("[decision.a]\nyoke = [3, 2]\n");
    assert!(said.contains("2 s after 3 s") && said.contains("must be a CSV file in quotes"), "{said}");
}

#[test]
fn what_is_wrong_with_a_rule_is_shown_in_its_line() {
    let said = refused("[decision.groom]\nwhen = \"p(grooming) > 80\"\n");
    assert!(
        said.starts_with(
            "rig.toml:2:8: `decision.groom.when` = \"p(grooming) > 80\": `p(grooming)` lies between 0 and 1"
        ),
        "{said}"
    );
    let said = refused("[decision.groom]\narmed = true\n");
    assert!(said.contains("rig.toml:2:9: `decision.groom.when` is missing: a rule needs a condition"), "{said}");
    let said = refused("[decision.groom]\nwehn = \"novelty > 0.5\"\n");
    assert!(said.contains("unknown key `decision.groom.wehn`") && said.contains("did you mean `when`?"), "{said}");
    let rule = |more: &str| refused(&format!("[decision.groom]\nwhen = \"novelty > 0.5\"\n{more}\n"));
    assert!(rule("enter_frames = \"5 of 4\"").contains("must be written \"3 of 4\""));
    assert!(rule("at_most = \"10 a minute\"").contains("must be written \"10 in 60 s\""));
    let said = rule("count = 5\nwidth_ms = 20\ndose_minute_ms = 60");
    assert!(
        said.contains("`decision.groom.dose_minute_ms` = 60: one output alone is `count` × `width_ms` = 100 ms"),
        "{said}"
    );
    assert!(rule("count = 2\nwidth_ms = 20\nperiod_ms = 20").contains("must be longer than `width_ms` = 20"));
    let many = format!("leave = \"{}\"", ["novelty > 0"; 8].join(" or "));
    assert!(rule(&many).contains("9 comparisons"), "{}", rule(&many));
    let all: String = (0..17).map(|n| format!("[decision.r{n}]\nwhen = \"novelty > 0.5\"\n")).collect();
    assert!(refused(&all).contains("there are at most 16 rules"), "{}", refused(&all));
    assert!(refused("[decision]\nwhen = \"novelty > 0.5\"\n").contains("write [decision.NAME]"));
    assert!(refused("[decision.\"gr oom\"]\nwhen = \"novelty > 0.5\"\n").contains("the name holds the byte 0x20"));
    assert!(
        refused("[point.home]\nvalues = [1, \"x\"]\n")
            .contains("`point.home.values` is a TOML array; it must be a list of 1 to")
    );
    assert!(refused("[point.home]\nfile = \"none.npy\"\n").contains("`point.home.file`"));
}

#[test]
fn the_example_rig_loads_and_differs_from_the_defaults() {
    let (config, warnings) = load_with(EXAMPLE, &[], &[]).unwrap();
    assert_eq!(config.realtime.priority, Some(50));
    assert_eq!(config.source.frame_bytes_max, 1024 * 1024);
    assert_eq!(config.publish.deadline, Duration::from_millis(150));
    let endpoint = "tcp://10.0.0.1:5710".to_owned();
    assert_eq!(warnings, [Warning::NotLoopback { key: "source.endpoint", endpoint }]);
}

#[test]
fn what_is_printed_loads_to_the_same_configuration() {
    for content in [MANUAL, EXAMPLE] {
        let (config, _) = load_with(content, &[], &[]).unwrap();
        let (again, _) = load_with(&config.to_toml(), &[], &[]).unwrap();
        assert_eq!(again, config);
    }
}

#[test]
fn every_word_of_every_choice_survives_printing_and_reading() {
    for key in keys::KEYS {
        let words = match key.kind {
            kind::Kind::Choice(words) => words.to_vec(),
            kind::Kind::Switch => vec!["true", "false"],
            kind::Kind::Device => vec!["cpu", "cuda", "cuda:1", "cuda:63", "auto"],
            kind::Kind::Integer { word, .. }
            | kind::Kind::Name { word }
            | kind::Kind::Path { word }
            | kind::Kind::Endpoint { word } => word.into_iter().collect(),
            _ => vec![],
        };
        for word in words {
            let (config, _) = load_with("", &[], &[&format!("{}={word}", key.name)]).unwrap();
            let printed = (key.get)(&config).to_toml();
            assert_eq!(printed.trim_matches('"'), word, "{}", key.name);
        }
    }
}

#[test]
fn a_device_that_cannot_be_is_refused_with_what_can() {
    for text in ["gpu", "cuda:", "cuda:64", "cuda:-1", "CUDA"] {
        let said = load_with("", &[], &[&format!("compute.device={text}")]).unwrap_err();
        assert!(said.contains(&format!("\"{text}\"")) && said.contains("\"cuda:1\""), "{said}");
    }
}

#[test]
fn every_whole_number_is_taken_at_both_ends_of_its_range_and_refused_beyond() {
    for key in keys::KEYS {
        let kind::Kind::Integer { min, max, .. } = key.kind else { continue };
        let check = |n: i64| key.kind.check(kind::Input::Integer(n));
        for n in [min, max] {
            let mut config = Config::default();
            (key.set)(&mut config, &check(n).unwrap());
            assert_eq!((key.get)(&config), kind::Value::Integer(n), "{}", key.name);
        }
        assert!(check(min - 1).is_err() && check(max + 1).is_err(), "{}", key.name);
    }
}

#[test]
fn an_unknown_key_shows_its_line_the_nearest_key_and_what_is_allowed() {
    let text = refused("rig = \"a\"\n\n[source]\nendpont = \"tcp://127.0.0.1:5710\"\n");
    let expected = "rig.toml:4:1: unknown key `source.endpont`\n   |\n 4 | endpont = \"tcp://127.0.0.1:5710\"\n   | ^^^^^^^\n   \
                    = did you mean `endpoint`? [source] takes: endpoint, pattern, attach, topic, hwm, frame_max_mib, \
                    follow, follow_poll_ms, follow_idle_s, follow_retry_s, plane, new_series";
    assert_eq!(text, expected);
}

#[test]
fn an_unknown_section_names_the_nearest_one() {
    let text = refused("[pubish]\nhwm = 3\n");
    assert!(text.starts_with("rig.toml:1:2: unknown section `pubish`"), "{text}");
    assert!(text.contains("did you mean `publish`?"), "{text}");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let text = refused("[lane]\npriority = 50\n");
    assert!(text.contains("did you mean `priority` in [realtime]?"), "{text}");
}

#[test]
fn preprocessing_in_the_configuration_is_sent_to_the_manifest() {
    let text = refused("[preprocess]\naverage_frames = 2\n");
    assert!(text.contains("rig.toml:1:2: unknown section `preprocess`") && text.contains("manifest"), "{text}");
}

#[test]
fn a_value_out_of_range_shows_the_value_and_the_range_under_a_caret() {
    let text = refused("[lane]\ndepth_frames = 0\n");
    let expected = "rig.toml:2:16: `lane.depth_frames` = 0: must be a whole number, 1 to 1024 frames\n   |\n 2 | \
                    depth_frames = 0\n   |                ^";
    assert_eq!(text, expected);
}

#[test]
fn a_value_of_the_wrong_type_says_what_was_found_and_what_is_needed() {
    let text = refused("[publish]\ndeadline_ms = \"fast\"\n");
    assert!(text.contains("`publish.deadline_ms` is the text \"fast\"; it must be a whole number, 20 to 60000 ms"));
    assert!(refused("[log]\njson = 1\n").contains("`log.json` is the number 1; it must be true or false"));
    assert!(refused("[lane]\ndepth_frames = 4.5\n").contains("is the number 4.5; it must be a whole number"));
    assert!(refused("model = [1]\n").contains("`model` is a TOML array; it must be a path in quotes"));
    assert!(refused("lane = 3\n").contains("`lane` is a section: write [lane]"));
}

#[test]
fn words_endpoints_names_and_filters_are_checked_while_the_line_is_known() {
    let text = refused("[lane]\noverload = \"skip\"\n");
    assert!(text.contains("`lane.overload` = \"skip\": must be one of \"skip-to-latest\", \"wait\""), "{text}");
    let text = refused("[source]\nendpoint = \"tcp://127.0.0.1\"\n");
    assert!(text.contains("rig.toml:2:12") && text.contains("has no port"), "{text}");
    assert!(refused("rig = \"a/b\"\n").contains("0x2f"));
    assert!(refused("[log]\nfilter = \"haltere=loud\"\n").contains("`log.filter`"));
}

#[test]
fn broken_toml_shows_the_line() {
    let text = refused("[lane]\ndepth_frames = \n");
    assert!(text.starts_with("rig.toml:2:") && text.contains("not valid TOML") && text.contains("2 | depth"), "{text}");
    assert!(refused("rig = \"a\"\nrig = \"b\"\n").contains("rig.toml:2:1: not valid TOML: duplicate key"));
}

#[test]
fn the_environment_is_over_the_file_and_the_command_line_over_both() {
    let file = "[lane]\ndepth_frames = 5\n[publish]\nhwm = 10\n";
    let (config, _) =
        load_with(file, &[("HALTERE__LANE__DEPTH_FRAMES", "6"), ("HALTERE__PUBLISH__HWM", "11")], &["publish.hwm=12"])
            .unwrap();
    assert_eq!((config.lane.depth_frames, config.publish.hwm), (6, 12));
}

#[test]
fn errors_of_the_other_layers_name_the_variable_or_the_option() {
    let text = load_with("", &[("HALTERE__LANE__DEPTH", "6")], &[]).unwrap_err();
    assert!(text.starts_with("environment variable HALTERE__LANE__DEPTH: unknown key `lane.depth`"), "{text}");
    assert!(text.contains("did you mean `depth_frames`?"), "{text}");
    let text = load_with("", &[], &["compute.threads=many"]).unwrap_err();
    assert!(text.starts_with("--set compute.threads=many: `compute.threads` is the text \"many\""), "{text}");
    assert!(load_with("", &[], &["compute.threads"]).unwrap_err().contains("no `=`"));
}

#[test]
fn an_option_of_the_command_line_can_take_back_what_the_file_says() {
    let file = "[realtime]\npriority = 50\n[control]\nendpoint = \"tcp://127.0.0.1:9000\"\n";
    let (config, _) = load_with(file, &[], &["realtime.priority=ordinary", "control.endpoint=\"off\""]).unwrap();
    assert_eq!((config.realtime.priority, config.control.endpoint), (None, None));
}

#[test]
fn paths_in_the_file_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rig.toml");
    std::fs::write(&path, "model = \"m/fly.toml\"\n[compute]\nonnxruntime = \"/opt/libonnxruntime.so\"\n").unwrap();
    let (config, _) = Config::load(Some(&path), [], &[]).unwrap();
    assert_eq!(config.model, folder.path().join("m/fly.toml"));
    assert_eq!(config.compute.onnxruntime, Some(PathBuf::from("/opt/libonnxruntime.so")));
    let (config, _) = Config::load(Some(&path), [], &["model=here.toml".to_owned()]).unwrap();
    assert_eq!(config.model, Path::new("here.toml"));
}

#[test]
fn the_file_is_named_by_the_option_or_the_variable_and_never_searched() {
    let none = || [(FILE_VARIABLE.to_owned(), "/nowhere/rig.toml".to_owned())];
    let text = Config::load(None, none(), &[]).unwrap_err().to_string();
    assert!(text.starts_with("/nowhere/rig.toml: cannot read the file that HALTERE_CONFIG names"), "{text}");
    let text = Config::load(Some(Path::new("/nowhere/b.toml")), none(), &[]).unwrap_err().to_string();
    assert!(text.starts_with("/nowhere/b.toml: cannot read the file that --config names"), "{text}");
    assert_eq!(Config::load(None, [], &[]).unwrap().0, Config::default());
}

#[test]
fn contradictions_are_refused_where_one_of_the_two_was_written() {
    let text = refused("[publish]\nheartbeat_ms = 500\n");
    assert!(text.starts_with("rig.toml:2:16: `publish.deadline_ms` = 250 and `publish.heartbeat_ms` = 500"), "{text}");
    let text = refused("[control]\nendpoint = \"tcp://localhost:5711\"\n");
    assert!(text.contains("`control.endpoint`") && text.contains("`publish.endpoint`"), "{text}");
    let text = refused("[source]\nendpoint = \"tcp://*:5710\"\n");
    assert!(text.contains("`source.attach` = \"connect\""), "{text}");
}

#[test]
fn what_other_machines_can_reach_needs_keys_or_a_word() {
    let bound = ["[publish]", "[control]", "[plain]", "[binary]", "[inlet]", "[source]\nattach = \"bind\""];
    for section in bound {
        let content = format!("{section}\nendpoint = \"tcp://0.0.0.0:5799\"\n");
        let text = refused(&content);
        assert!(text.contains("`curve.key`") && text.contains("`insecure` = true"), "{text}");
        let warnings = load_with(&format!("insecure = true\n{content}"), &[], &[]).unwrap().1;
        assert!(matches!(warnings[..], [Warning::NotLoopback { .. }]), "{section}: {warnings:?}");
        let keys = ["curve.key=rig.key_secret", "curve.clients=clients"];
        assert_eq!(load_with(&content, &[], &keys).unwrap().1, [], "{section}");
    }
    assert!(load_with("[source]\nendpoint = \"tcp://10.0.0.1:5710\"\n", &[], &[]).is_ok(), "connecting is no door");
}

#[test]
fn keys_come_together_or_not_at_all() {
    for (content, word) in [
        ("[curve]\nkey = \"rig.key_secret\"\n", "needed together"),
        ("[curve]\nclients = \"clients\"\n", "needed together"),
        ("[curve]\nsender = \"scope.key\"\n", "one of its own"),
        ("[source]\nattach = \"bind\"\n[curve]\nkey = \"k\"\nclients = \"c\"\nsender = \"s\"\n", "`curve.clients`"),
    ] {
        let text = refused(content);
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn what_is_allowed_but_may_not_be_meant_is_a_warning() {
    let of = |sets: &[&str]| load_with("", &[], sets).unwrap().1;
    assert!(matches!(
        of(&["publish.endpoint=tcp://*:5711", "insecure=true"])[..],
        [Warning::NotLoopback { key: "publish.endpoint", .. }]
    ));
    assert!(matches!(
        of(&["publish.endpoint=tcp://127.0.0.1:5556"])[..],
        [Warning::TakenPort { by: "Open Ephys", .. }]
    ));
    assert_eq!(of(&["source.frame_max_mib=128", "lane.depth_frames=16"]), [Warning::LaneMemory { mib: 2048 }]);
    assert!(matches!(
        of(&["realtime.ingest_core=1", "realtime.publish_core=1"])[..],
        [Warning::SharedCore { core: 1, .. }]
    ));
    assert_eq!(of(&["realtime.wait=spin", "realtime.priority=50"]), [Warning::SpinUnpinned]);
    assert_eq!(of(&["lane.overload=wait"]), [Warning::WaitOnSub]);
    assert_eq!(of(&["lane.overload=wait", "source.pattern=pull"]), []);
    assert_eq!(of(&["lane.overload=wait", "source.follow=Untitled_001"]), []);
    assert!(matches!(of(&["lsl.name=haltere"])[..], [Warning::LslAnnounced { .. }]));
}

#[test]
fn a_file_that_breaks_off_anywhere_is_refused_with_a_message_or_loads_but_never_panics() {
    let mut refusals = 0;
    for end in (0..MANUAL.len()).step_by(41).filter(|&end| MANUAL.is_char_boundary(end)) {
        if let Err(text) = load_with(&MANUAL[..end], &[], &[]) {
            assert!(text.starts_with("rig.toml:"), "{text}");
            refusals += 1;
        }
    }
    assert!(refusals > 3, "only {refusals} cuts fell into a value");
}
