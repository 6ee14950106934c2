//! The fly of `make demo`: it must show more than rest, and was chosen by its truth alone.
//!
//! Method: the rule that `scripts/demo.sh` states is the search below; the fly that stands in the script must be the first it finds.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use haltere::simulate::{Spec, truth};

/// A seed that no model is trained on.
const SEED: u64 = 9001;
/// Shown after a warm-up of 295 frames: 19 s at 16 Hz and one more.
const SHOWN: RangeInclusive<usize> = 295..=600;
/// Different actions in it, of a second (16 frames) or more each.
const ACTIONS_MIN: usize = 4;
const FRAMES_MIN: usize = 16;

fn does_several_things(spec: &Spec) -> bool {
    let mut frames: BTreeMap<u8, usize> = BTreeMap::new();
    truth(spec).action_of_frame[SHOWN].iter().for_each(|action| *frames.entry(*action).or_default() += 1);
    frames.values().filter(|&&frames| frames >= FRAMES_MIN).count() >= ACTIONS_MIN
}

#[test]
fn the_fly_of_the_demo_is_the_first_that_does_several_things_while_it_is_watched() {
    let of = |animal, trial| Spec { seed: SEED, animal, trial, seconds: 60.0, ..Spec::default() };
    let mut flies = (1..=8).flat_map(|animal| (1..=20).map(move |trial| of(animal, trial)));
    let first = flies.find(does_several_things).unwrap();
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh")).unwrap();
    let word = script.lines().find_map(|line| line.strip_prefix("fly=")).expect("a line fly=sim:…");
    assert_eq!(word.parse::<Spec>().unwrap(), first);
}
