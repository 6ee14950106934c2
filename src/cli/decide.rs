//! `haltere decide`: what rules would have decided on a recorded session.
//!
//! Why it exists: rules are tuned on recordings, not on animals. What it must never do: decide by another machine than the daemon's, or
//! decode again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::config::ConfigArgs;
use super::log;
use super::parse::seconds;
use crate::client::watch::{Truth, truth_of};
use crate::config::Config;
use crate::decide::{Bout, Decider, Moment, Outcome, Rule, Rules, Score, Seen, bouts, score};
use crate::frame::{Decision, ModelTag, Quality, Withheld};
use crate::model::Manifest;
use crate::report::decisions::{Mark, RuleView, timeline};
use crate::session::messages::DecodeRecord;
use crate::session::rows::Recorded;
use crate::session::unpacked::{Unpacked, warn_of};
use crate::sys::counters::Histogram;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::files::write_whole;

/// `haltere decide`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere decide session.mcap --config new.toml --labels labels.csv
  haltere decide session.mcap --config new.toml --labels sim:seed=7,animal=9 --out decisions.svg
  haltere decide session.mcap --set 'decision.groom.when=p(grooming) > 0.9' --labels labels.csv

Every rule is taken as switched on and armed from the first frame, whatever was switched during the session, so that \
the table says what the rule is worth. Decodes are those of the session: nothing is decoded again.")]
pub struct DecideArgs {
    /// A recorded session.
    #[arg(value_name = "SESSION.mcap")]
    pub session: PathBuf,
    /// Configuration with the rules [default: the session's own].
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, overriding file and environment; repeatable.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// What the animal did: a CSV with the columns frame,label (the microscope's frame numbers), or the name of a
    /// simulated fly exactly as it was played.
    #[arg(long, value_name = "FILE.csv|sim:SPEC")]
    pub labels: Option<String>,
    /// The action whose bouts a rule should find [default: the one that its condition names].
    #[arg(long, value_name = "RULE=ACTION", requires = "labels")]
    pub target: Vec<String>,
    /// A decision so long after the beginning of a bout is a hit, seconds; later ones are late.
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds)]
    pub within: f64,
    /// Write a picture of the decisions over time.
    #[arg(long, short, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What one rule decided.
#[derive(Debug, Serialize)]
struct RuleVerdict {
    name: String,
    when: String,
    /// At the beginning of bouts as the rule saw them.
    decisions: usize,
    outputs: usize,
    /// Without output, by reason.
    withheld: BTreeMap<&'static str, usize>,
    /// Output given, s.
    output_s: f64,
    /// The action whose bouts it should find.
    target: Option<String>,
    score: Option<Score>,
}

/// What `[decision.action]` shows, beside the most probable action.
#[derive(Debug, Serialize)]
struct ActionVerdict {
    /// Changes per second: shown, of the most probable action, and true.
    switches_per_s: [f64; 2],
    true_switches_per_s: Option<f64>,
    /// Share of frames that agree with the truth: shown, and of the most probable action.
    accuracy: Option<[f64; 2]>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Verdict {
    session: String,
    /// Of decodes that count.
    seconds: f64,
    rules: Vec<RuleVerdict>,
    action: Option<ActionVerdict>,
    /// Time that one decode took all rules together, µs: median, 99 %, longest.
    step_us: [f64; 3],
}

/// One decode as it was shown to the rules.
struct Shown {
    at_s: f64,
    raw: Option<usize>,
    smoothed: Option<usize>,
    truth: Option<String>,
    probabilities: Vec<f32>,
}

/// Says what the rules decide.
///
/// # Errors
/// A file that is no session, rules that do not fit its model, labels that cannot be read, or a picture that cannot be written.
pub fn run(args: &DecideArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    log::start_default()?;
    warn_of(&args.session)?;
    let unpacked = Unpacked::of(&args.session)?;
    let typed = ConfigArgs { config: args.config.clone(), model: None, set: args.set.clone() };
    let (config, warnings) = typed.load_over(&unpacked)?;
    log::warn(&warnings);
    let rules = armed(&config);
    if rules.is_empty() {
        let what =
            "there are no rules: write [decision.NAME] into a configuration and give it with --config".to_owned();
        return Err(Failure { code: ExitCode::Config, what }.into());
    }
    let manifest = Manifest::read(&unpacked.model())?;
    let model = manifest.tag();
    let recorded = Recorded::read(&args.session)?;
    let truth = args.labels.as_deref().map(truth_of).transpose()?;
    let decider = Decider::new(&rules, &model, manifest.stream_rate_hz())?;
    let steps = Histogram::default();
    let (shown, made) = follow(decider, &recorded.decodes, truth.as_ref(), &steps)?;
    if shown.is_empty() {
        let what =
            format!("{}: contains no decode after the warm-up, so there is nothing to decide", args.session.display());
        return Err(Failure { code: ExitCode::Source, what }.into());
    }
    let targets = targets(args, &rules, &model)?;
    let seconds = shown[shown.len() - 1].at_s - shown[0].at_s;
    let mut views = Vec::new();
    let mut verdicts = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        let of_rule: Vec<&(f64, Decision)> = made.iter().filter(|(_, decision)| decision.rule == index).collect();
        let target = targets.get(rule.name.as_str()).cloned();
        let known = truth.as_ref().zip(target.as_ref()).map(|(_, target)| known_bouts(&shown, target));
        let (verdict, outcomes) = judge(rule, &of_rule, target.clone(), known.as_deref(), (args.within, seconds));
        let place = target.and_then(|target| model.labels.iter().position(|label| *label == target));
        views.push(view(rule, &of_rule, outcomes, known, place.map(|place| (place, &model.labels[place])), &shown));
        verdicts.push(verdict);
    }
    let action = rules.action.on.then(|| shown_action(&shown, &model, seconds));
    let cost = steps.quantiles();
    let step_us = [cost.p50_ns, cost.p99_ns, cost.max_ns].map(|ns| (ns as f64 / 100.0).round() / 10.0);
    let verdict = Verdict { session: args.session.display().to_string(), seconds, rules: verdicts, action, step_us };
    if let Some(path) = &args.out {
        let end_s = shown[shown.len() - 1].at_s;
        let written = write_whole(path, timeline(&views, end_s).as_bytes());
        written.with_context(|| Failure { code: ExitCode::Sink, what: format!("--out {}", path.display()) })?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verdict)?)?;
    } else {
        print(&verdict, args.within, out)?;
    }
    Ok(ExitCode::Ok)
}

/// The rules as if each had been on and armed from the start.
fn armed(config: &Config) -> Rules {
    let mut rules = config.decision.clone();
    rules.rules.iter_mut().for_each(|rule| (rule.on, rule.armed) = (true, true));
    rules
}

/// A decision and its time, s.
type Made = (f64, Decision);

/// Shows every decode of a frame to the rules, as the daemon did.
fn follow(
    mut decider: Decider,
    decodes: &[DecodeRecord],
    truth: Option<&Truth>,
    steps: &Histogram,
) -> anyhow::Result<(Vec<Shown>, Vec<Made>)> {
    let (mut shown, mut all, mut made, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (record, seen) in decodes.iter().filter_map(|record| Some((record, seen_in(record)?))) {
        let frame = record.frame.unwrap_or_default();
        if truth.is_some() && last.replace(frame).is_some_and(|last| frame <= last) {
            let what = format!(
                "--labels: the session's frame numbers go back at {frame}, so that labels by number mean several frames"
            );
            return Err(Failure { code: ExitCode::Source, what }.into());
        }
        made.clear();
        let began = Instant::now();
        let smoothed = decider.step(&seen, &mut made);
        steps.record(began.elapsed().as_nanos() as u64);
        let at_s = decider.now_ns() as f64 / 1e9;
        all.extend(made.iter().map(|decision| (at_s, *decision)));
        if matches!(seen.quality, Quality::Ok | Quality::Degraded) {
            let truth = truth.and_then(|truth| truth.of(frame));
            let probabilities = seen.probabilities.to_vec();
            shown.push(Shown { at_s, raw: seen.action, smoothed: smoothed.or(seen.action), truth, probabilities });
        }
    }
    Ok((shown, all))
}

/// A recorded decode as a rule sees it.
fn seen_in(record: &DecodeRecord) -> Option<Seen<'_>> {
    let (frame, decoded) = (record.frame?, record.decoded.as_ref()?);
    let moment = Moment {
        device: record.t_device_ns.zip(record.t_device_clock),
        received_ns: record.t_recv_ns,
        number: frame,
        ordinal: frame,
    };
    Some(Seen {
        moment,
        quality: decoded.quality,
        distrust: decoded.distrust,
        action: decoded.action_id,
        probabilities: &decoded.probs,
        outputs: &decoded.outputs,
        novelty: decoded.novelty,
        embedding: &decoded.embedding,
        shift_px: record.shift_px,
        shift_peak: record.shift_peak.unwrap_or(0.0),
        light: decoded.light,
    })
}

/// Which action each rule should find.
fn targets(args: &DecideArgs, rules: &Rules, model: &ModelTag) -> anyhow::Result<BTreeMap<String, String>> {
    let named = |rule: &Rule| Some((rule.name.to_string(), rule.when.as_ref()?.action()?.to_owned()));
    let mut targets: BTreeMap<String, String> = rules.rules.iter().filter_map(named).collect();
    for text in &args.target {
        let refuse = |why: String| Failure { code: ExitCode::Usage, what: format!("--target {text}: {why}") };
        let (rule, action) = text.split_once('=').ok_or_else(|| refuse("write RULE=ACTION".to_owned()))?;
        if !rules.rules.iter().any(|known| known.name.as_str() == rule) {
            return Err(refuse(format!("there is no rule {rule:?}")).into());
        }
        if !model.labels.is_empty() && !model.labels.iter().any(|label| label == action) {
            tracing::warn!("--target {text}: the model does not decode {action:?}; bouts are those of the labels");
        }
        targets.insert(rule.to_owned(), action.to_owned());
    }
    Ok(targets)
}

fn known_bouts(shown: &[Shown], target: &str) -> Vec<Bout> {
    bouts(shown.iter().map(|frame| (frame.at_s, frame.truth.as_deref() == Some(target))))
}

/// Counts what a rule decided, and holds it against the bouts that are known.
fn judge(
    rule: &Rule,
    made: &[&(f64, Decision)],
    target: Option<String>,
    known: Option<&[Bout]>,
    (within_s, seconds): (f64, f64),
) -> (RuleVerdict, Vec<Outcome>) {
    let mut withheld = BTreeMap::new();
    for reason in made.iter().filter_map(|(_, decision)| decision.withheld) {
        *withheld.entry(reason.name()).or_default() += 1;
    }
    let outputs = made.iter().filter(|(_, decision)| decision.withheld.is_none()).count();
    let times: Vec<f64> = made.iter().map(|(at_s, _)| *at_s).collect();
    let scored = known.map(|known| score(known, &times, within_s, seconds));
    let (score, outcomes) = scored.map_or((None, Vec::new()), |(score, outcomes)| (Some(score), outcomes));
    let verdict = RuleVerdict {
        name: rule.name.to_string(),
        when: rule.when.as_ref().map_or(String::new(), |when| when.text().to_owned()),
        decisions: made.len(),
        outputs,
        withheld,
        output_s: outputs as f64 * rule.train.dose_ms() as f64 / 1e3,
        target,
        score,
    };
    (verdict, outcomes)
}

fn view(
    rule: &Rule,
    made: &[&(f64, Decision)],
    outcomes: Vec<Outcome>,
    known: Option<Vec<Bout>>,
    target: Option<(usize, &String)>,
    shown: &[Shown],
) -> RuleView {
    let mark = |(index, (at_s, decision)): (usize, &&(f64, Decision))| {
        let wrong = outcomes.get(index) == Some(&Outcome::FalseAlarm);
        let mark = match (decision.withheld, wrong) {
            (Some(Withheld::Sham), _) => Mark::Sham,
            (Some(_), _) => Mark::Withheld,
            (None, true) => Mark::Wrong,
            (None, false) => Mark::Right,
        };
        (*at_s, mark)
    };
    let value = |frame: &Shown| Some((frame.at_s, f64::from(*frame.probabilities.get(target?.0)?)));
    RuleView {
        heading: format!("{}: {}", rule.name, rule.when.as_ref().map_or("", |when| when.text())),
        value: target.map_or(String::new(), |(_, label)| format!("p({label})")),
        trace: shown.iter().filter_map(value).collect(),
        bouts: known.unwrap_or_default(),
        decisions: made.iter().enumerate().map(mark).collect(),
    }
}

fn shown_action(shown: &[Shown], model: &ModelTag, seconds: f64) -> ActionVerdict {
    let changes = |of: &dyn Fn(&Shown) -> Option<String>| {
        let actions: Vec<String> = shown.iter().filter_map(of).collect();
        actions.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64 / seconds.max(1e-9)
    };
    let label = |action: Option<usize>| action.and_then(|action| model.labels.get(action)).cloned();
    let known: Vec<&Shown> = shown.iter().filter(|frame| frame.truth.is_some() && frame.raw.is_some()).collect();
    let right = |of: &dyn Fn(&Shown) -> Option<usize>| {
        known.iter().filter(|frame| label(of(frame)) == frame.truth).count() as f64 / known.len() as f64
    };
    let any = !known.is_empty();
    ActionVerdict {
        switches_per_s: [changes(&|frame: &Shown| label(frame.smoothed)), changes(&|frame: &Shown| label(frame.raw))],
        true_switches_per_s: any.then(|| changes(&|frame: &Shown| frame.truth.clone())),
        accuracy: any.then(|| [right(&|frame: &Shown| frame.smoothed), right(&|frame: &Shown| frame.raw)]),
    }
}

fn print(verdict: &Verdict, within_s: f64, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}  {:.1} s of decodes after the warm-up", verdict.session, verdict.seconds)?;
    for rule in &verdict.rules {
        let RuleVerdict { name, when, decisions, outputs, output_s, .. } = rule;
        writeln!(out, "\n{name}: {when}")?;
        writeln!(out, "  decisions      {decisions}, {outputs} with output ({output_s:.2} s in all)")?;
        for (reason, count) in &rule.withheld {
            writeln!(out, "  without output {count} ({reason})")?;
        }
        let (Some(target), Some(score)) = (&rule.target, &rule.score) else {
            writeln!(
                out,
                "  not scored: give --labels and, if the condition names no single action, --target {name}=ACTION"
            )?;
            continue;
        };
        let share = |count: usize| 100.0 * count as f64 / score.bouts.max(1) as f64;
        writeln!(out, "  bouts          {} of {target}", score.bouts)?;
        writeln!(out, "  hits           {} ({:.1} %) within {within_s} s", score.hits, share(score.hits))?;
        writeln!(out, "  late           {} ({:.1} %)", score.late, share(score.late))?;
        writeln!(out, "  missed         {} ({:.1} %)", score.missed, share(score.missed))?;
        writeln!(out, "  false alarms   {} ({:.2} per minute)", score.false_alarms, score.false_alarms_per_minute)?;
        if let Some([median, most]) = score.latency_s {
            writeln!(
                out,
                "  latency        {median:.3} s median, {most:.3} s at 90 %, from the beginning of the bout"
            )?;
        }
    }
    let [median, most, max] = verdict.step_us;
    writeln!(out, "\ncost of a decode, all rules: {median:.1} µs median, {most:.1} µs at 99 %, {max:.1} µs at most")?;
    let Some(action) = &verdict.action else { return Ok(()) };
    let [shown, raw] = action.switches_per_s;
    let of_truth = action.true_switches_per_s.map_or(String::new(), |truth| format!(", in truth {truth:.2}"));
    writeln!(out, "\naction: {shown:.2} changes per second, of the most probable one {raw:.2}{of_truth}")?;
    if let Some([shown, raw]) = action.accuracy {
        writeln!(
            out,
            "  accuracy       {:.1} % of frames, of the most probable one {:.1} %",
            100.0 * shown,
            100.0 * raw
        )?;
    }
    Ok(())
}
