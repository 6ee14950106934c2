//! The rules of a demo: what a user would write into a configuration, for a model that names actions.

use std::io::{self, Write};

use crate::client::watch::WatchReport;

/// The action whose bouts the demo's rule finds.
const ACTION: &str = "walking";

/// Name of the rule.
const RULE: &str = "walk";
/// The steadier action. Of the settings tried on the flies of the seeds 8801 to 8803, the one with the most frames right among those whose action
/// changes at most twice as often as the true one (`benches/decisions.py`).
const STEADIER: [&str; 3] = ["on=true", "when=p > 0.4", "enter_frames=3 of 3"];

/// Keys of the daemon's configuration: a steadier action, and a rule on walking, if the model decodes it. Half of its decisions are sham
/// trials, so that a minute shows both.
pub(super) fn keys(labels: &[String]) -> Vec<String> {
    let mut keys = Vec::new();
    if !labels.is_empty() {
        keys.extend(STEADIER.map(|key| format!("decision.action.{key}")));
    }
    if labels.iter().any(|label| label == ACTION) {
        let when = format!("when=p({ACTION}) > 0.6");
        let leave = format!("leave=p({ACTION}) < 0.3");
        let rule = [
            when.as_str(),
            leave.as_str(),
            "enter_frames=3 of 4",
            "armed=true",
            "width_ms=20",
            "period_ms=100",
            "count=5",
            "refractory_ms=1000",
            "repeat=true",
            "sham_percent=50",
            "dose_minute_ms=2000",
        ];
        keys.extend(rule.map(|key| format!("decision.{RULE}.{key}")));
    }
    keys
}

/// What the rule was, and what came of it.
pub(super) fn conclude(report: &WatchReport, out: &mut dyn Write) -> io::Result<()> {
    let rules = report.status.as_ref().and_then(|status| status["decisions"].as_object());
    if rules.is_none_or(|rules| !rules.contains_key(RULE)) {
        return Ok(());
    }
    let made = report.decisions.get(RULE).copied().unwrap_or_default();
    writeln!(
        out,
        "\nThe rule [decision.{RULE}] looks for {ACTION}: {} decisions with output (5 pulses of 20 ms for a stimulus device), {} sham trials, \
         drawn by lot.\nThe action shown is steadier than the most probable one of each frame: see [decision.action] in config/default.toml.",
        made.outputs, made.shams
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_rules_are_those_of_a_valid_configuration_and_only_of_what_the_model_decodes() {
        let labels = ["resting", ACTION].map(str::to_owned);
        let (config, _) = Config::load(None, std::iter::empty::<(String, String)>(), &keys(&labels)).unwrap();
        assert!(config.decision.action.on && config.decision.rules.len() == 1 && config.decision.rules[0].armed);
        assert!(keys(&labels[..1]).iter().all(|key| key.starts_with("decision.action.")));
        assert!(keys(&[]).is_empty());
    }
}
