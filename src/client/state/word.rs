//! The action as shown to people: what most decodes of the last half second say.
//!
//! Why it exists: a word in large letters that changes thirty times a second cannot be read. What it must never do: be sent to a
//! controller, or outlive a decode that cannot be trusted.

use std::collections::VecDeque;

use crate::frame::Quality;
use crate::wire::subscriber::DecodeMessage;

/// Decodes of this long are counted, ns.
const OVER_NS: u64 = 500_000_000;
/// Share of them that another action needs to be shown instead.
const SHARE: f64 = 0.6;
/// Share of them below which a word is given up for the most frequent one, however little that has.
const SHARE_LEFT: f64 = 0.25;

/// The word that is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// The action.
    pub(crate) action: String,
    /// Its index among the model's labels.
    pub(crate) id: Option<usize>,
    /// Its mean probability over the last half second.
    pub(crate) confidence: Option<f32>,
    /// Since when it is so, ns.
    pub(crate) since_ns: u64,
}

/// One decode.
#[derive(Debug)]
struct Vote {
    at_ns: u64,
    action: String,
    id: Option<usize>,
    probabilities: Vec<Option<f32>>,
    confidence: Option<f32>,
}

/// The recent decodes and the word that they make.
#[derive(Debug, Default)]
pub(crate) struct Words {
    votes: VecDeque<Vote>,
    word: Option<Word>,
}

impl Words {
    /// The word, if the last decode has one.
    pub(crate) fn shown(&self) -> Option<&Word> {
        self.word.as_ref()
    }

    /// Takes the next decode. One that is neither `ok` nor `degraded` ends the word at once.
    pub(crate) fn push(&mut self, decode: &DecodeMessage, now_ns: u64) {
        let trusted = matches!(decode.quality, Quality::Ok | Quality::Degraded);
        let Some(action) = decode.action.clone().filter(|_| trusted) else {
            self.votes.clear();
            self.word = None;
            return;
        };
        let (id, probabilities, confidence) = (decode.action_id, decode.probs.clone(), decode.confidence);
        self.votes.push_back(Vote { at_ns: now_ns, action, id, probabilities, confidence });
        while self.votes.front().is_some_and(|vote| now_ns.saturating_sub(vote.at_ns) > OVER_NS) {
            self.votes.pop_front();
        }
        let Some((first, votes)) = self.leader() else { return };
        let own = |word: &Word| self.votes.iter().filter(|vote| vote.action == word.action).count();
        let holds = self.word.as_ref().is_some_and(|word| own(word) as f64 >= SHARE_LEFT * self.votes.len() as f64);
        let wins = votes as f64 >= SHARE * self.votes.len() as f64;
        let mut word = match self.word.take() {
            Some(word) if word.action == self.votes[first].action || (holds && !wins) => word,
            _ => {
                let Vote { at_ns, action, id, .. } = &self.votes[first];
                Word { action: action.clone(), id: *id, confidence: None, since_ns: *at_ns }
            }
        };
        word.confidence = self.confidence(&word);
        self.word = Some(word);
    }

    /// The first decode of the action with the most decodes, and their number.
    fn leader(&self) -> Option<(usize, usize)> {
        let mut counts: Vec<(usize, usize)> = Vec::new();
        for (at, vote) in self.votes.iter().enumerate() {
            match counts.iter_mut().find(|(first, _)| self.votes[*first].action == vote.action) {
                Some((_, count)) => *count += 1,
                None => counts.push((at, 1)),
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count)
    }

    fn confidence(&self, word: &Word) -> Option<f32> {
        let own = |vote: &Vote| {
            let of_label = word.id.and_then(|id| vote.probabilities.get(id).copied().flatten());
            of_label.or_else(|| vote.confidence.filter(|_| vote.action == word.action))
        };
        let (sum, count) = self.votes.iter().filter_map(own).fold((0.0, 0), |(sum, count), p| (sum + p, count + 1));
        (count > 0).then(|| sum / count as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PERIOD_NS: u64 = 33_000_000;

    fn decode(action: &str, quality: &str) -> DecodeMessage {
        let (id, probs) = if action == "walk" { (1, [0.2, 0.8]) } else { (0, [0.6, 0.4]) };
        serde_json::from_value(
            json!({"seq": 0, "shape": [1], "t_pub_ns": 1, "quality": quality, "action": action, "action_id": id,
            "probs": probs, "confidence": probs[id]}),
        )
        .unwrap()
    }

    /// The words shown after each decode.
    fn shown(words: &mut Words, from: u64, actions: &[&str]) -> Vec<String> {
        let push = |(step, action): (u64, &&str)| {
            words.push(&decode(action, "ok"), (from + step) * PERIOD_NS);
            words.shown().map_or(String::new(), |word| word.action.clone())
        };
        (0..).zip(actions).map(push).collect()
    }

    #[test]
    fn a_decode_now_and_then_changes_nothing_and_a_new_action_is_shown_within_half_a_second() {
        let mut words = Words::default();
        let flicker: Vec<&str> = (0..60).map(|i| if i % 4 == 3 { "rest" } else { "walk" }).collect();
        assert!(shown(&mut words, 0, &flicker).iter().all(|word| word == "walk"));
        let after = shown(&mut words, 60, &["rest"; 16]);
        assert_eq!((after[0].as_str(), after[15].as_str()), ("walk", "rest"));
        assert_eq!(after.windows(2).filter(|pair| pair[0] != pair[1]).count(), 1, "{after:?}");
        let word = words.shown().unwrap();
        assert!((word.confidence.unwrap() - 0.6).abs() < 0.02 && word.id == Some(0), "{word:?}");
    }

    #[test]
    fn the_word_ends_with_a_decode_that_is_not_trusted_and_begins_at_once_after_it() {
        let mut words = Words::default();
        shown(&mut words, 0, &["walk"; 20]);
        words.push(&decode("neutral", "stale"), 21 * PERIOD_NS);
        assert_eq!(words.shown(), None);
        assert_eq!(shown(&mut words, 22, &["rest"]), ["rest"]);
    }

    #[test]
    fn a_word_that_hardly_any_decode_says_is_given_up_although_no_other_has_a_majority() {
        let mut words = Words::default();
        shown(&mut words, 0, &["walk"; 16]);
        let mixed = [
            "rest", "groom", "rest", "groom", "rest", "groom", "rest", "groom", "rest", "groom", "rest", "groom",
            "rest", "groom",
        ];
        assert_ne!(shown(&mut words, 16, &mixed).last().unwrap(), "walk");
    }

    #[test]
    fn after_a_pause_old_decodes_no_longer_count() {
        let mut words = Words::default();
        shown(&mut words, 0, &["walk"; 20]);
        assert_eq!(shown(&mut words, 60, &["rest"]), ["rest"]);
    }
}
