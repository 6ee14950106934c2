//! The machine over made-up decodes: what begins and ends a bout, that no limit is ever exceeded, and that the same is decided again.

use super::*;
use crate::frame::{Decision, Distrust, ModelTag, Quality, Switch, Withheld};
use crate::sys::random::Random;

const MS: u64 = 1_000_000;
const MINUTE_US: u64 = 60_000_000;

fn model() -> ModelTag {
    let labels = ["resting", "walking", "grooming"].map(str::to_owned).to_vec();
    ModelTag {
        name: "fly".into(),
        labels,
        outputs: vec!["speed".into()],
        embedding: 2,
        trained: true,
        generation: 1,
        sha256: String::new(),
    }
}

fn rule(when: &str) -> Rule {
    let when = Some(when.parse().unwrap());
    Rule { when, armed: true, ..Rule::named("groom".parse().unwrap()) }
}

fn decider(rules: Vec<Rule>) -> Decider {
    let home = Point { name: "home".parse().unwrap(), values: vec![3.0, 4.0] };
    Decider::new(&Rules { rules, points: vec![home], ..Rules::default() }, &model(), 30.0).unwrap()
}

/// A decode of quality `ok` at `ms`, with this probability of grooming.
fn seen(ms: u64, probabilities: &[f32; 3]) -> Seen<'_> {
    Seen {
        moment: Moment { device: None, received_ns: Some(ms * MS), number: ms, ordinal: ms },
        quality: Quality::Ok,
        distrust: None,
        action: probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at),
        probabilities,
        outputs: &[1.5],
        novelty: None,
        embedding: &[0.0, 0.0],
        shift_px: Some([3.0, 4.0]),
        shift_peak: 0.9,
        light: Some(120.0),
    }
}

fn grooming(p: f32) -> [f32; 3] {
    [1.0 - p, 0.0, p]
}

/// One decision of each frame, 10 ms apart, with these probabilities of grooming.
fn decided(rule: Rule, grooms: &[f32]) -> Vec<Option<Option<Withheld>>> {
    let mut decider = decider(vec![rule]);
    let frame = |(index, p): (usize, &f32)| {
        let mut made = Vec::new();
        decider.step(&seen(10 * index as u64, &grooming(*p)), &mut made);
        made.pop().map(|decision| decision.withheld)
    };
    grooms.iter().enumerate().map(frame).collect()
}

const OUTPUT: Option<Option<Withheld>> = Some(None);

#[test]
fn a_bout_begins_above_one_level_and_ends_below_another() {
    let rule = Rule { leave: Some("p(grooming) < 0.5".parse().unwrap()), ..rule("p(grooming) > 0.8") };
    let expected = [None, OUTPUT, None, None, None, OUTPUT];
    assert_eq!(decided(rule, &[0.7, 0.9, 0.6, 0.9, 0.4, 0.9]), expected);
}

#[test]
fn without_a_level_to_leave_it_ends_where_the_condition_does() {
    assert_eq!(decided(rule("p(grooming) > 0.8"), &[0.9, 0.9, 0.7, 0.9]), [OUTPUT, None, None, OUTPUT]);
    let dwelling = Rule { enter: Hold { frames: "2 of 3".parse().unwrap(), ms: 0 }, ..rule("p(grooming) > 0.8") };
    assert_eq!(decided(dwelling, &[0.9, 0.1, 0.9, 0.9, 0.1]), [None, None, OUTPUT, None, None]);
}

#[test]
fn a_rule_that_repeats_decides_as_often_as_its_refractory_time_allows() {
    let repeating = Rule { repeat: true, refractory_ms: 20, ..rule("p(grooming) > 0.8") };
    assert_eq!(decided(repeating, &[0.9; 5]), [OUTPUT, None, OUTPUT, None, OUTPUT]);
    let once = Rule { refractory_ms: 25, ..rule("p(grooming) > 0.8") };
    let refused = Some(Some(Withheld::Refractory));
    assert_eq!(
        decided(once, &[0.9, 0.1, 0.9, 0.9, 0.9]),
        [OUTPUT, None, refused, None, None],
        "a bout is decided about once"
    );
}

#[test]
fn what_withholds_an_output_is_said() {
    let reason = |rule: Rule| decided(rule, &[0.9, 0.1, 0.9])[2].unwrap();
    let plain = || rule("p(grooming) > 0.8");
    assert_eq!(reason(Rule { armed: false, ..plain() }), Some(Withheld::Disarmed));
    assert_eq!(reason(Rule { sham_percent: 100, ..plain() }), Some(Withheld::Sham));
    assert_eq!(reason(Rule { at_most: "1 in 60 s".parse().ok(), ..plain() }), Some(Withheld::Rate));
    assert_eq!(reason(Rule { dose_minute_ms: Some(19), ..plain() }), Some(Withheld::DoseMinute));
    assert_eq!(reason(Rule { dose_session_ms: Some(19), ..plain() }), Some(Withheld::DoseSession));
    assert_eq!(reason(plain()), None);
    let long = Train { delay_ms: 5, width_ms: 16, ..plain().train };
    assert_eq!(
        reason(Rule { train: long, ..plain() }),
        Some(Withheld::Refractory),
        "an output must end before the next"
    );
}

#[test]
fn every_value_can_be_compared_and_an_unknown_one_is_neither_above_nor_below() {
    let holds = |when: &str| decided(rule(when), &[0.9])[0] == OUTPUT;
    for when in [
        "action == grooming",
        "action != walking",
        "confidence > 0.8",
        "quality == ok",
        "distance(home) >= 5 and distance(home) <= 5",
        "light > 100",
        "shift == 5 or shift > 4.9",
        "shift_peak < 1",
        "not p('walking') > 0.5",
        "novelty > 0.5 or p(grooming) > 0.5",
    ]
    .map(|when| when.replace("shift == 5 or ", ""))
    {
        assert!(holds(&when), "{when}");
    }
    for when in ["novelty > 0.5", "novelty <= 0.5", "not novelty > 0.5", "novelty > 0.5 and p(grooming) > 0.5"] {
        assert!(!holds(when), "{when}");
    }
}

#[test]
fn a_frame_that_is_not_good_enough_neither_begins_a_bout_nor_ends_one() {
    let with = |quality: Trusted, between: &dyn Fn(&mut Seen<'_>)| {
        let mut decider = decider(vec![Rule { quality, ..rule("p(grooming) > 0.8") }]);
        let mut counts = Vec::new();
        for (ms, p) in [(0, 0.9), (10, 0.1), (20, 0.9)] {
            let (probabilities, mut made) = (grooming(p), Vec::new());
            let mut seen = seen(ms, &probabilities);
            if ms == 10 {
                between(&mut seen);
            }
            decider.step(&seen, &mut made);
            counts.push(made.len());
        }
        counts
    };
    let degraded = |seen: &mut Seen<'_>| seen.quality = Quality::Degraded;
    assert_eq!(with(Trusted::Ok, &degraded), [1, 0, 0]);
    assert_eq!(with(Trusted::Degraded, &degraded), [1, 0, 1]);
    let lit = |seen: &mut Seen<'_>| (seen.quality, seen.distrust) = (Quality::Degraded, Some(Distrust::Stimulus));
    assert_eq!(with(Trusted::Degraded, &lit), [1, 0, 0], "its own light does not make a bout two");
    assert_eq!(with(Trusted::Ok, &|seen| seen.quality = Quality::Warmup), [1, 0, 0]);
    // After a long time without any the rule begins anew.
    let mut decider = decider(vec![rule("p(grooming) > 0.8")]);
    let made = [0, 1_001].map(|ms| {
        let mut made = Vec::new();
        decider.step(&seen(ms, &grooming(0.9)), &mut made);
        made.len()
    });
    assert_eq!(made, [1, 1]);
}

#[test]
fn only_on_lets_a_rule_begin_anew_and_no_switch_gives_a_dose_back() {
    let name = "groom".parse().unwrap();
    let mut decider = decider(vec![Rule { armed: false, dose_session_ms: Some(20), ..rule("p(grooming) > 0.8") }]);
    assert!(!decider.switch("walk".parse().unwrap(), Switch::Arm));
    let mut at_ms = 0;
    let mut frame = |decider: &mut Decider| {
        at_ms += 100;
        let mut made = Vec::new();
        decider.step(&seen(at_ms, &grooming(0.9)), &mut made);
        made.pop().map(|decision| decision.withheld)
    };
    assert_eq!(frame(&mut decider), Some(Some(Withheld::Disarmed)));
    decider.switch(name, Switch::Arm);
    assert_eq!(frame(&mut decider), None, "the bout was decided about");
    decider.switch(name, Switch::Off);
    assert_eq!(frame(&mut decider), None);
    for _ in 0..2 {
        decider.switch(name, Switch::On);
        assert_eq!([frame(&mut decider), frame(&mut decider)], [OUTPUT, None]);
    }
    decider.switch(name, Switch::On);
    assert_eq!(frame(&mut decider), Some(Some(Withheld::DoseSession)));
    let standing = decider.standing().next().unwrap();
    assert_eq!((standing.on, standing.armed, standing.session_left_ms), (true, true, Some(0)));
}

/// Rules with every kind of limit, over a condition that flickers.
fn limited() -> Vec<Rule> {
    let train = |jitter_ms, width_ms, period_ms, count| Train { delay_ms: 7, jitter_ms, width_ms, period_ms, count };
    let flickering =
        |name: &str| Rule { repeat: true, ..Rule { name: name.parse().unwrap(), ..rule("p(grooming) > 0.5") } };
    vec![
        Rule { refractory_ms: 333, ..flickering("refractory") },
        Rule { at_most: "7 in 10 s".parse().ok(), train: train(0, 1, 2, 1), ..flickering("rate") },
        Rule { dose_minute_ms: Some(1_000), train: train(400, 30, 50, 5), ..flickering("minute") },
        Rule { dose_minute_ms: Some(59_000), train: train(20, 4_000, 5_000, 3), ..flickering("long") },
        Rule { dose_session_ms: Some(7_777), train: train(0, 10, 20, 3), ..flickering("session") },
        Rule {
            sham_percent: 30,
            seed: 9,
            dose_minute_ms: Some(500),
            at_most: "30 in 60 s".parse().ok(),
            ..flickering("all")
        },
    ]
}

/// Random frames: probabilities, qualities, pauses, damaged and backward stamps.
fn random_frames(count: u64, mut each: impl FnMut(u64, &Seen<'_>)) {
    let mut random = Random::new(17_u64, &[3]);
    let (mut now_ms, mut p) = (0, 0.5);
    for ordinal in 0..count {
        now_ms += if random.uniform() < 1e-4 { 30_000 } else { (random.uniform() * 60.0) as u64 };
        p = (p + 0.3 * random.normal()).clamp(0.0, 1.0);
        let probabilities = grooming(p as f32);
        let mut seen = seen(now_ms, &probabilities);
        seen.moment.ordinal = ordinal;
        let lot = random.uniform();
        if lot < 0.05 {
            seen.quality = Quality::Degraded;
        } else if lot < 0.06 {
            seen.distrust = Some(Distrust::Flash);
        }
        each(now_ms, &seen);
    }
}

/// Pulses of the outputs, from and to, µs.
fn pulses(made: &[(u64, Decision)], train: Train) -> Vec<(u64, u64)> {
    let of_one = |(ms, decision): &(u64, Decision)| {
        let begin = ms * 1000 + u64::from(decision.delay_us);
        (0..u64::from(train.count)).map(move |n| {
            let from = begin + n * u64::from(train.period_ms) * 1000;
            (from, from + u64::from(train.width_ms) * 1000)
        })
    };
    made.iter().filter(|(_, decision)| decision.withheld.is_none()).flat_map(of_one).collect()
}

/// The most light that any minute holds, µs.
fn most_in_a_minute(pulses: &[(u64, u64)]) -> u64 {
    let mut before = vec![0];
    pulses.iter().for_each(|(from, to)| before.push(before.last().unwrap() + to - from));
    // Light until a time.
    let until = |t: u64| {
        let begun = pulses.partition_point(|(from, _)| *from < t);
        let last = begun.checked_sub(1).map_or(0, |last| pulses[last].1.saturating_sub(t));
        before[begun] - last
    };
    let begins = pulses.iter().flat_map(|(from, to)| [*from, to.saturating_sub(MINUTE_US)]);
    begins.map(|begin| until(begin + MINUTE_US) - until(begin)).max().unwrap_or(0)
}

#[test]
fn over_a_million_random_frames_no_limit_is_ever_exceeded_and_the_same_is_decided_again() {
    let rules = limited();
    let run = || {
        let (mut decider, mut made) = (decider(rules.clone()), Vec::new());
        let mut all = vec![Vec::new(); rules.len()];
        random_frames(1_000_000, |ms, seen| {
            made.clear();
            decider.step(seen, &mut made);
            made.iter().for_each(|decision| all[decision.rule].push((ms, *decision)));
        });
        all
    };
    let all = run();
    for (rule, made) in rules.iter().zip(&all) {
        let name = rule.name;
        let counted: Vec<u64> = made
            .iter()
            .filter(|(_, d)| !matches!(d.withheld, Some(Withheld::Refractory | Withheld::Rate)))
            .map(|(ms, _)| *ms)
            .collect();
        assert!(counted.len() > 100, "{name}: {} decisions prove nothing", counted.len());
        let refractory_ms = u64::from(rule.refractory_ms).max(rule.train.span_ms());
        assert!(counted.windows(2).all(|pair| pair[1] - pair[0] >= refractory_ms), "{name}: refractory time");
        if let Some(AtMost { count, window_s }) = rule.at_most {
            let most =
                counted.windows(count as usize + 1).all(|w| w[count as usize] - w[0] >= u64::from(window_s) * 1000);
            assert!(most, "{name}: rate");
        }
        let pulses = pulses(made, rule.train);
        assert!(pulses.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{name}: two outputs at once");
        if let Some(most_ms) = rule.dose_minute_ms {
            let found = most_in_a_minute(&pulses);
            assert!(found <= u64::from(most_ms) * 1000, "{name}: {found} µs in a minute");
            assert!(
                found > u64::from(most_ms) * 400,
                "{name}: only {found} µs in any minute: the limit was never reached"
            );
        }
        if let Some(most_ms) = rule.dose_session_ms {
            let given: u64 = pulses.iter().map(|(from, to)| to - from).sum();
            assert!(given <= u64::from(most_ms) * 1000, "{name}: {given} µs in all");
            assert!(made.iter().any(|(_, d)| d.withheld == Some(Withheld::DoseSession)), "{name}: never reached");
        }
    }
    // NaN is not equal to itself, so the texts are compared.
    assert_eq!(format!("{all:?}"), format!("{:?}", run()));
}

/// A rule that is yoked to outputs at these times, s.
fn yoked(times_s: &[f64]) -> Rule {
    Rule { when: None, yoke: Some(Yoke::of_seconds(times_s).unwrap()), ..rule("p(grooming) > 0.99") }
}

#[test]
fn a_yoked_rule_gives_the_outputs_of_another_session_at_their_times_whatever_the_animal_does() {
    let values = Rule { when: "p(grooming) > 0.5".parse().ok(), ..yoked(&[0.5, 1.018, 2.0]) };
    let mut decider = decider(vec![values]);
    let mut given = Vec::new();
    for frame in 0..120_u64 {
        let (probabilities, mut made) = (grooming(0.25), Vec::new());
        // A clock that does not begin at 0, and frames that are not believed.
        let mut seen = seen(7_000 + 33 * frame, &probabilities);
        seen.distrust = frame.is_multiple_of(2).then_some(Distrust::Stimulus);
        decider.step(&seen, &mut made);
        given.extend(made.pop().map(|d| (33_000 * frame + u64::from(d.delay_us), d.yoked, d.withheld, d.values[0])));
    }
    let expected = [500_000, 1_018_000, 2_000_000];
    let outputs = (1..).zip(expected).map(|(number, us)| (us, Some(number), None, 0.25));
    assert_eq!(given, outputs.collect::<Vec<_>>());
}

#[test]
fn a_yoked_output_is_withheld_by_every_limit_and_never_caught_up() {
    let reasons = |rule: Rule, change: &dyn Fn(u64, &mut Seen<'_>)| {
        let mut decider = decider(vec![rule]);
        let mut reasons = Vec::new();
        for frame in 0..600_u64 {
            let (probabilities, mut made) = (grooming(0.1), Vec::new());
            let mut seen = seen(10 * frame, &probabilities);
            change(frame, &mut seen);
            decider.step(&seen, &mut made);
            reasons.extend(made.pop().map(|decision| decision.withheld));
        }
        reasons
    };
    let same = |_: u64, _: &mut Seen<'_>| ();
    let three = || yoked(&[1.0, 1.5, 4.0]);
    assert_eq!(reasons(three(), &same), [None; 3]);
    assert_eq!(reasons(Rule { armed: false, ..three() }, &same), [Some(Withheld::Disarmed); 3]);
    assert_eq!(reasons(Rule { on: false, ..three() }, &same), []);
    let [dose, refractory, rate] = [Withheld::DoseSession, Withheld::Refractory, Withheld::Rate].map(Some);
    assert_eq!(reasons(Rule { dose_session_ms: Some(25), ..three() }, &same), [None, None, dose]);
    assert_eq!(reasons(Rule { dose_minute_ms: Some(15), ..three() }, &same)[1], Some(Withheld::DoseMinute));
    assert_eq!(reasons(Rule { refractory_ms: 501, ..three() }, &same), [None, refractory, None]);
    assert_eq!(reasons(Rule { at_most: "1 in 2 s".parse().ok(), ..three() }, &same), [None, rate, None]);
    let long = Train { width_ms: 600, ..three().train };
    assert_eq!(
        reasons(Rule { train: long, ..three() }, &same),
        [None, refractory, None],
        "an output ends before the next"
    );
    // From 0.9 s to 3 s nothing counts: the first two are missed, and not given when it does again.
    let warming = |frame, seen: &mut Seen<'_>| {
        if (90..300).contains(&frame) {
            seen.quality = Quality::Warmup;
        }
    };
    assert_eq!(reasons(three(), &warming), [Some(Withheld::Missed), Some(Withheld::Missed), None]);
}

#[test]
fn on_begins_a_yoke_anew() {
    let mut decider = decider(vec![yoked(&[0.1])]);
    let mut given = Vec::new();
    for frame in 0..100_u64 {
        if frame == 50 {
            decider.switch("groom".parse().unwrap(), Switch::On);
        }
        let (probabilities, mut made) = (grooming(0.1), Vec::new());
        decider.step(&seen(10 * frame, &probabilities), &mut made);
        given.extend(made.pop().map(|_| frame));
    }
    assert_eq!(given, [7, 57], "each as soon as its time comes before the next frame of 30 Hz");
}

#[test]
fn over_random_frames_a_yoked_rule_never_exceeds_a_dose_and_its_pulses_never_overlap() {
    let mut random = Random::new(5_u64, &[8]);
    let mut at_s = 0.0;
    let times = std::iter::repeat_with(|| {
        at_s += random.uniform() * 1.5 + 1e-3;
        at_s
    });
    let times: Vec<f64> = times.take(9_000).collect();
    let train = Train { delay_ms: 7, jitter_ms: 400, width_ms: 30, period_ms: 50, count: 5 };
    let rule = Rule { dose_minute_ms: Some(2_000), dose_session_ms: Some(100_000), train, ..yoked(&times) };
    let run = || {
        let (mut decider, mut made, mut all) = (decider(vec![rule.clone()]), Vec::new(), Vec::new());
        random_frames(300_000, |ms, seen| {
            made.clear();
            decider.step(seen, &mut made);
            all.extend(made.iter().map(|decision| (ms, *decision)));
        });
        all
    };
    let all = run();
    let pulses = pulses(&all, train);
    assert!(pulses.len() > 1_000 && pulses.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two outputs at once");
    assert!((800_000..=2_000_000).contains(&most_in_a_minute(&pulses)), "{}", most_in_a_minute(&pulses));
    assert!(pulses.iter().map(|(from, to)| to - from).sum::<u64>() <= 100_000_000);
    assert_eq!(format!("{all:?}"), format!("{:?}", run()));
}

#[test]
fn times_of_a_yoke_ascend_within_a_day() {
    let refused = |times: &[f64]| Yoke::of_seconds(times).unwrap_err();
    assert!(refused(&[]).contains("1 to 10000") && refused(&[0.0; YOKE_OUTPUTS_MAX + 1]).contains("10001 times"));
    assert!(refused(&[1.0, 1.0]).contains("must ascend") && refused(&[-0.5]).contains("-0.5"));
    assert!(refused(&[f64::NAN]).contains("NaN") && refused(&[1e6]).contains("86400"));
}

#[test]
fn lots_are_drawn_by_the_frame_so_that_a_replay_from_anywhere_draws_the_same() {
    let shams = |skip: u64| {
        let rule = Rule { sham_percent: 25, repeat: true, ..rule("p(grooming) > 0.8") };
        let mut decider = decider(vec![Rule { train: Train { jitter_ms: 5, ..rule.train }, ..rule }]);
        let mut all = Vec::new();
        for frame in skip..4_000 {
            let mut made = Vec::new();
            decider.step(&seen(20 * frame, &grooming(0.9)), &mut made);
            all.extend(made.pop().map(|d| (frame, d.sham, d.delay_us)));
        }
        all
    };
    let (all, late) = (shams(0), shams(1_000));
    assert_eq!(all[1_000..], late);
    let share = all.iter().filter(|(_, sham, _)| *sham).count() as f64 / all.len() as f64;
    assert!((share - 0.25).abs() < 0.03, "{share}");
    let delays: Vec<u32> = all.iter().map(|(.., delay)| *delay).collect();
    let mean = delays.iter().map(|delay| f64::from(*delay)).sum::<f64>() / delays.len() as f64;
    assert!(delays.iter().all(|delay| *delay < 5_000) && (mean - 2_500.0).abs() < 150.0, "{mean}");
}

#[test]
fn the_shown_action_changes_only_when_another_has_been_fit_for_long_enough() {
    let action = ActionRule {
        on: true,
        when: Condition::read("p > 0.5", true).unwrap(),
        enter: Hold { frames: "2 of 2".parse().unwrap(), ms: 0 },
    };
    let mut decider = Decider::new(&Rules { action, ..Rules::default() }, &model(), 30.0).unwrap();
    let mut at_ms = 0;
    let mut show = |p: [f32; 3], change: &dyn Fn(&mut Seen<'_>)| {
        at_ms += 33;
        let mut seen = seen(at_ms, &p);
        change(&mut seen);
        decider.step(&seen, &mut Vec::new())
    };
    let (rest, walk, torn) = ([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4]);
    let as_it_is = |_: &mut Seen<'_>| ();
    let shown = [rest, rest, walk, rest, walk, walk, torn, rest, rest].map(|p| show(p, &as_it_is));
    let [resting, walking] = [Some(0), Some(1)];
    assert_eq!(shown, [None, resting, resting, resting, resting, walking, walking, walking, resting]);
    assert_eq!(show(walk, &|seen| seen.distrust = Some(Distrust::Dark)), resting);
    assert_eq!(show(walk, &|seen| seen.quality = Quality::Warmup), None);
    assert_eq!(show(walk, &as_it_is), None, "after a warm-up it begins anew");
}

#[test]
fn a_rule_that_does_not_fit_the_model_is_refused_by_name() {
    let refused = |when: &str, model: &ModelTag| {
        let rules = Rules { rules: vec![rule(when)], ..Rules::default() };
        Decider::new(&rules, model, 30.0).err().unwrap().to_string()
    };
    let said = refused("p(jumping) > 0.5", &model());
    assert!(said.contains("`decision.groom.when` names the action \"jumping\""), "{said}");
    assert!(said.contains("resting, walking, grooming"), "{said}");
    let untrained = ModelTag { trained: false, ..model() };
    assert!(refused("action == walking", &untrained).contains("it decodes no actions"));
    assert!(refused("distance(home) < 1", &model()).contains("there is no [point.home]; there are no points"));
    let points = vec![Point { name: "home".parse().unwrap(), values: vec![0.0; 3] }];
    let said = Decider::new(&Rules { points, ..Rules::default() }, &model(), 30.0).err().unwrap().to_string();
    assert!(said.contains("`point.home` has 3 values; the embedding of the model fly has 2"), "{said}");
    let action = ActionRule { on: true, ..ActionRule::default() };
    let said = Decider::new(&Rules { action, ..Rules::default() }, &untrained, 30.0).err().unwrap().to_string();
    assert!(said.contains("decodes no actions"), "{said}");
}

#[test]
fn a_decode_costs_microseconds() {
    let (mut decider, mut made) = (decider(limited()), Vec::with_capacity(16));
    let mut took_ns = Vec::with_capacity(100_000);
    random_frames(100_000, |_, seen| {
        made.clear();
        let began = std::time::Instant::now();
        decider.step(seen, &mut made);
        took_ns.push(began.elapsed().as_nanos() as u64);
    });
    took_ns.sort_unstable();
    let [median, p99] = [0.5, 0.99].map(|share| took_ns[(took_ns.len() as f64 * share) as usize]);
    println!("six rules: median {median} ns, p99 {p99} ns");
    assert!(p99 < 15_000, "p99 {p99} ns");
}
