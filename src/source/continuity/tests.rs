//! Streams as senders send them, number by number, and what becomes of each frame.

use super::*;
use crate::frame::{PixelType, Shape};

const DEADLINE: Duration = Duration::from_millis(250);
/// Between two frames, ns.
const PERIOD_NS: u64 = 33_000_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn place(number: u64) -> Place {
    let geometry = Geometry { shape: Shape::new(1, 8, 8), pixel_type: PixelType::U16 };
    Place { number: Some(number), plane: None, source: name("rig"), series: None, geometry, t_received_ns: 0 }
}

fn small(place: Place) -> Place {
    let geometry = Geometry { shape: Shape::new(1, 4, 4), ..place.geometry };
    Place { geometry, ..place }
}

/// A stream and the time that passes in it.
struct Stream {
    continuity: Continuity,
    now_ns: u64,
}

impl Stream {
    fn new() -> Self {
        Self { continuity: Continuity::new(DEADLINE), now_ns: 0 }
    }

    /// `n` taken, `n+g` taken after a gap of g, `n*` taken as the first of a series, otherwise why not.
    fn tell(&mut self, place: Place) -> String {
        let place = Place { t_received_ns: self.now_ns, ..place };
        let judged = self.continuity.judge(place, self.now_ns);
        self.now_ns += PERIOD_NS;
        match judged {
            Ok(s) if s.series_began => format!("{}*", s.number),
            Ok(s) if s.gap > 0 => format!("{}+{}", s.number, s.gap),
            Ok(s) => s.number.to_string(),
            Err(why) => why.reason().name().to_string(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now_ns += time.as_nanos() as u64;
    }
}

fn tell(numbers: &[u64]) -> Vec<String> {
    let mut stream = Stream::new();
    numbers.iter().map(|&n| stream.tell(place(n))).collect()
}

/// Of every accepted frame, its ordinal.
fn ordinals(places: impl IntoIterator<Item = Place>) -> Vec<u64> {
    let mut continuity = Continuity::new(DEADLINE);
    places.into_iter().filter_map(|place| continuity.judge(place, 0).ok()).map(|standing| standing.ordinal).collect()
}

#[test]
fn numbers_that_jump_repeat_and_go_back_are_called_so() {
    assert_eq!(tell(&[7, 8, 11, 11, 10, 12]), ["7*", "8", "11+2", "repeated", "backwards", "12"]);
}

#[test]
fn a_number_that_falls_back_to_the_start_is_a_restart() {
    assert_eq!(tell(&[50, 51, 0, 1, 2]), ["50*", "51", "0*", "1", "2"]);
    assert_eq!(tell(&[50, 51, 1, 2]), ["50*", "51", "1*", "2"]);
}

#[test]
fn a_restart_whose_first_frames_were_lost_is_seen_after_three_frames_in_a_row_whatever_their_step() {
    assert_eq!(tell(&[50, 17, 18, 19, 20]), ["50*", "backwards", "backwards", "19*", "20"]);
    assert_eq!(tell(&[50, 17, 51, 18, 52, 19]), ["50*", "backwards", "51", "backwards", "52", "backwards"]);
    assert_eq!(tell(&[50, 17, 20, 23, 26]), ["50*", "backwards", "backwards", "23*", "26"]);
    assert_eq!(tell(&[50, 17, 20, 21, 22, 23, 25])[4..], ["backwards", "23*", "25+1"]);
}

#[test]
fn a_sender_of_every_second_frame_that_restarts_is_not_refused_for_as_long_as_it_had_run() {
    let mut stream = Stream::new();
    let first = (0..18_000).map(|n| 2 * n).filter(|&n| stream.tell(place(n)).parse::<u64>().is_err()).count();
    assert_eq!(first, 1, "only the first frame is not plainly taken: it begins the series");
    let again: Vec<String> = (0..18_000).map(|n| stream.tell(place(6 + 2 * n))).collect();
    assert_eq!(again[..4], ["backwards", "backwards", "10*", "12"]);
    assert!(again[3..].iter().all(|told| told.parse::<u64>().is_ok()));
}

#[test]
fn after_a_silence_any_number_that_does_not_go_on_begins_a_series_and_one_that_does_is_a_gap() {
    let mut stream = Stream::new();
    assert_eq!([500, 501].map(|n| stream.tell(place(n))), ["500*", "501"]);
    stream.wait(2 * DEADLINE);
    assert_eq!([17, 18].map(|n| stream.tell(place(n))), ["17*", "18"]);
    stream.wait(2 * DEADLINE);
    assert_eq!([30, 31].map(|n| stream.tell(place(n))), ["30+11", "31"]);
    stream.wait(2 * DEADLINE);
    assert_eq!(
        [1 << 63, (1 << 63) + 1].map(|n| stream.tell(place(n))),
        ["9223372036854775808*", "9223372036854775809"]
    );
    // A frame that waited to be read is no silence.
    let late = Place { t_received_ns: stream.now_ns + 10 * PERIOD_NS, ..place(3) };
    let drained_ns = stream.now_ns;
    assert_eq!(stream.continuity.judge(late, drained_ns).unwrap_err().reason(), Reason::Backwards);
}

#[test]
fn a_number_far_ahead_is_damaged_or_another_numbering_and_never_a_gap() {
    let far = 1 << 63;
    assert_eq!(tell(&[5, 6, far, 7, 8]), ["5*", "6", "jumped", "7", "8"]);
    assert_eq!(tell(&[5, 6, u64::MAX, 7]), ["5*", "6", "jumped", "7"]);
    let numbers = [5, 6, far, far + 1, far + 2, far + 3];
    let expected = ["5*", "6", "jumped", "jumped", "9223372036854775810*", "9223372036854775811"];
    assert_eq!(tell(&numbers), expected);
    let most = 6 + GAP_FRAMES_MAX + 1;
    assert_eq!(tell(&[5, 6, most]), ["5*".to_owned(), "6".to_owned(), format!("{most}+{GAP_FRAMES_MAX}")]);
    assert_eq!(tell(&[5, 6, most + 1]), ["5*", "6", "jumped"]);
}

#[test]
fn a_new_series_or_an_announcement_begins_anew_at_any_number() {
    let mut stream = Stream::new();
    let named = |number, series: &str| Place { series: series.parse().ok(), ..place(number) };
    assert_eq!(stream.tell(named(9, "a")), "9*");
    assert_eq!(stream.tell(named(5, "b")), "5*");
    stream.continuity.announce(None, 0).unwrap();
    assert_eq!(stream.tell(named(5, "b")), "5*");
    assert_eq!(stream.tell(named(6, "b")), "6");
}

#[test]
fn two_senders_of_one_source_do_not_begin_a_series_with_every_frame() {
    let of = |number, series: &str| Place { series: series.parse().ok(), ..place(number) };
    for names in [["a", "b", "a"], ["a", "", "a"]] {
        let mut stream = Stream::new();
        let frames = (0..20).map(|n| of(n / 2 + 100 * (n % 2), names[(n % 2) as usize]));
        let told: Vec<String> = frames.map(|place| stream.tell(place)).collect();
        assert_eq!(told[..6], ["0*", "100*", "other_series", "101", "other_series", "102"], "{names:?}");
        assert_eq!(told.iter().filter(|told| *told == "other_series").count(), 9);
        // The second one stops: three frames in a row, or one after a silence.
        let mut other = Stream { continuity: stream.continuity.clone(), ..stream };
        assert_eq!([10, 11, 12, 13].map(|n| stream.tell(of(n, "a"))), ["other_series", "other_series", "12*", "13"]);
        other.wait(2 * DEADLINE);
        assert_eq!(other.tell(of(10, "a")), "10*");
    }
    // Three of them.
    let mut stream = Stream::new();
    let told: Vec<String> = (0..30).map(|n| stream.tell(of(n, ["a", "b", "c"][(n % 3) as usize]))).collect();
    assert_eq!(told.iter().filter(|told| told.ends_with('*')).count(), 3, "{told:?}");
}

#[test]
fn a_series_may_come_again_after_a_while_or_after_an_end() {
    let of = |number, series: &str| Place { series: series.parse().ok(), ..place(number) };
    let mut stream = Stream::new();
    let blocks = ["left", "right", "left", "right"].map(|series| {
        let told: Vec<String> = (0..10).map(|n| stream.tell(of(n, series))).collect();
        told.join(" ")
    });
    assert_eq!(blocks, ["0* 1 2 3 4 5 6 7 8 9"; 4], "each block lasts longer than the deadline");
    assert_eq!(stream.tell(of(0, "left")), "0*");
    stream.continuity.announce(None, stream.now_ns).unwrap();
    assert_eq!(stream.tell(of(0, "right")), "0*");
}

#[test]
fn frames_without_numbers_are_counted_from_zero() {
    let mut stream = Stream::new();
    let bare = Place { number: None, ..place(0) };
    assert_eq!([0; 3].map(|_| stream.tell(bare)), ["0*", "1", "2"]);
    assert_eq!(ordinals([bare; 3]), [0, 1, 2]);
}

#[test]
fn one_plane_of_a_volume_has_no_gaps_by_either_numbering_and_its_frames_are_counted_one_by_one() {
    let plane = |number| Place { plane: Some(2), ..place(number) };
    for numbers_per_volume in [1, 4] {
        let mut stream = Stream::new();
        let told: Vec<String> = (0..100).map(|n| stream.tell(plane(2 + n * numbers_per_volume))).collect();
        assert_eq!(told[0], "2*");
        assert!(told[1..].iter().all(|told| told.parse::<u64>().is_ok()), "{told:?}");
        assert_eq!(ordinals((0..5).map(|n| plane(2 + n * numbers_per_volume))), [2, 3, 4, 5, 6]);
    }
    assert_eq!(ordinals([2, 6, 10, 18].map(plane)), [2, 3, 4, 6], "one is missing");
}

#[test]
fn all_planes_of_a_volume_may_share_a_number() {
    let plane = |number, plane| Place { plane: Some(plane), ..place(number) };
    let mut stream = Stream::new();
    assert_eq!(stream.tell(plane(3, 0)), "3*");
    assert_eq!(stream.tell(plane(3, 1)), "3");
    assert_eq!(stream.tell(plane(3, 1)), "repeated");
    assert_eq!(stream.tell(plane(4, 0)), "4");
    assert_eq!(ordinals([plane(3, 0), plane(3, 1), plane(4, 0), plane(4, 1)]), [3, 4, 5, 6]);
}

#[test]
fn a_changed_geometry_is_refused_in_a_named_series_and_accepted_after_three_in_an_unnamed_one() {
    let other = |number, series: Option<Name>| small(Place { series, ..place(number) });
    let mut stream = Stream::new();
    stream.tell(place(0));
    let found = [1, 2, 3, 4].map(|n| stream.tell(other(n, None)));
    assert_eq!(found, ["geometry", "geometry", "3*", "4"]);
    let series = "s".parse().ok();
    let mut stream = Stream::new();
    stream.tell(Place { series, ..place(0) });
    let found = [1, 2, 3, 4].map(|n| stream.tell(other(n, series)));
    assert_eq!(found, ["geometry"; 4]);
    stream.wait(2 * DEADLINE);
    assert_eq!(stream.tell(other(5, series)), "geometry", "still the same series");
    assert_eq!(stream.tell(other(0, series)), "geometry", "a number that is not below the last");
}

#[test]
fn a_sender_that_restarts_with_another_geometry_under_the_same_name_is_a_new_series() {
    let series = "s".parse().ok();
    let named = |number| Place { series, ..place(number) };
    let mut stream = Stream::new();
    let _ = [50, 51].map(|n| stream.tell(named(n)));
    assert_eq!([20, 21, 22, 23].map(|n| stream.tell(small(named(n)))), ["geometry", "geometry", "22*", "23"]);
    assert_eq!([0, 1].map(|n| stream.tell(named(n))), ["0*", "1"]);
}

#[test]
fn another_source_waits_until_the_first_has_ended_or_is_silent() {
    let of = |number, source: &str| Place { source: name(source), ..place(number) };
    let mut stream = Stream::new();
    let told = [(7, "a"), (100, "b"), (8, "a"), (101, "b"), (102, "b"), (103, "b"), (9, "a")];
    let told = told.map(|(number, source)| stream.tell(of(number, source)));
    assert_eq!(told, ["7*", "other_source", "8", "other_source", "other_source", "other_source", "9"]);
    assert!(stream.continuity.announce(Some(name("b")), stream.now_ns).is_err(), "nor does its end end anything");
    stream.wait(2 * DEADLINE);
    assert_eq!(stream.tell(of(104, "b")), "104*");
    assert_eq!(stream.tell(of(10, "a")), "other_source", "now the first one waits");
    stream.continuity.announce(Some(name("b")), stream.now_ns).unwrap();
    assert_eq!(stream.tell(of(11, "a")), "11*");
    // Everything of the first that has arrived must have been read.
    let waiting = Place { t_received_ns: stream.now_ns + 1_000_000_000, ..of(105, "b") };
    assert!(stream.continuity.judge(waiting, stream.now_ns).is_err());
}

#[test]
fn every_sentence_names_key_value_and_bound_and_fits() {
    let (long, geometry) = (name(&"x".repeat(64)), place(0).geometry);
    let number = u64::MAX;
    for (why, words) in [
        (Discontinuity::Repeated { number }, ["`frame`", "18446744073709551615"]),
        (Discontinuity::Backwards { number, last: number }, ["`frame`", "18446744073709551615"]),
        (Discontinuity::Jumped { number, last: number }, ["`frame`", "1000000 frames"]),
        (Discontinuity::Geometry { found: geometry, expected: geometry }, ["1×8×8 uint16", "`series`"]),
        (
            Discontinuity::OtherSource { found: name("b"), kept: name("a"), deadline_ms: 250 },
            ["`source` is b", "250 ms"],
        ),
        (Discontinuity::OtherSeries { found: Some(name("a")), kept: None }, ["`series` is a", "two senders"]),
    ] {
        let Refusal { reason, message } = why.into();
        assert!(reason == why.reason() && words.iter().all(|word| message.as_str().contains(word)), "{message}");
        assert_eq!(message.as_str(), why.to_string(), "not cut");
    }
    let longest = Discontinuity::OtherSource { found: long, kept: long, deadline_ms: u64::MAX };
    assert!(Refusal::from(longest).message.as_str().ends_with('…'));
}
