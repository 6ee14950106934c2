//! Checks the frame numbers of an acquisition: which frames are missing, repeated or out of order, and where a series begins.
//!
//! Why it exists: senders start numbering anywhere, repeat, lose and restart; each case must be recognised for what it is.
//! What it must never do: read a clock, or cling to the old numbers of a stream that has evidently restarted.
//!
//! A series begins with the first frame, after a `header` or `end` message, when the `series` name changes, when the number
//! returns to 0 or 1, and when [`RESTART_FRAMES`] consecutive frames continue from a number that went back (a sender that
//! restarted and whose first frames were lost). As many consecutive frames with another geometry begin a series too, unless
//! the sender names its series: then a changed geometry is a contradiction and stays rejected.

use crate::frame::event::Reason;
use crate::frame::{Name, PixelType, Shape};

/// Consecutive frames that prove a restart.
pub const RESTART_FRAMES: u32 = 3;

/// A frame's position in the stream, as given by the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sender's number.
    pub number: Option<u64>,
    /// The sender's plane.
    pub plane: Option<u64>,
    /// The sender's series.
    pub series: Option<Name>,
    /// Geometry.
    pub shape: Shape,
    /// Pixel type.
    pub pixel_type: PixelType,
}

/// The position of an accepted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number; counted from 0 in each series if the sender gives none.
    pub number: u64,
    /// Frames missing before it.
    pub gap: u64,
    /// First of its series.
    pub series_began: bool,
}

/// The state of one stream.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    last: Option<(Place, u64)>,
    /// The next frame begins a series in any case.
    announced: bool,
    /// The last frame rejected for its number or geometry, and how many consecutive frames have continued from it.
    rejected: Option<(Place, u32)>,
}

impl Continuity {
    /// The sender announced the beginning or the end of an acquisition.
    pub fn announce(&mut self) {
        self.announced = true;
    }

    /// A frame of another plane: only its number counts.
    pub fn pass_over(&mut self, number: Option<u64>) {
        if let (Some(number), Some((_, last))) = (number, &mut self.last) {
            *last = (*last).max(number);
        }
    }

    /// Accepts or rejects a frame.
    ///
    /// # Errors
    /// [`Reason::Repeated`], [`Reason::Backwards`] or [`Reason::Geometry`].
    pub fn judge(&mut self, place: Place) -> Result<Standing, Reason> {
        let standing = match self.last {
            Some((last, number)) if !self.announced && last.series == place.series => {
                match follow(&last, number, &place) {
                    Ok(standing) => standing,
                    Err(reason) => self.reject_unless_restarted(place, reason)?,
                }
            }
            _ => first(&place),
        };
        *self = Self { last: Some((place, standing.number)), announced: false, rejected: None };
        Ok(standing)
    }

    /// Rejects a frame that does not continue the stream, unless several such frames continue each other.
    fn reject_unless_restarted(&mut self, place: Place, reason: Reason) -> Result<Standing, Reason> {
        if reason == Reason::Repeated || (reason == Reason::Geometry && place.series.is_some()) {
            return Err(reason);
        }
        let in_a_row = match self.rejected {
            Some((before, count)) if follow(&before, before.number.unwrap_or(0), &place).is_ok_and(|s| s.gap == 0) => {
                count + 1
            }
            _ => 1,
        };
        self.rejected = Some((place, in_a_row));
        if in_a_row < RESTART_FRAMES { Err(reason) } else { Ok(first(&place)) }
    }
}

fn first(place: &Place) -> Standing {
    Standing { number: place.number.unwrap_or(0), gap: 0, series_began: true }
}

/// Does `place` continue from `last`, which was number `last_number`?
fn follow(last: &Place, last_number: u64, place: &Place) -> Result<Standing, Reason> {
    if (last.shape, last.pixel_type) != (place.shape, place.pixel_type) {
        return Err(Reason::Geometry);
    }
    let Some(number) = place.number else {
        return Ok(Standing { number: last_number.saturating_add(1), gap: 0, series_began: false });
    };
    // Without a previous number there is nothing to compare with.
    let gap = match last.number {
        None => 0,
        Some(_) if number > last_number => number - last_number - 1,
        Some(_) if number == last_number && place.plane == last.plane => return Err(Reason::Repeated),
        Some(_) if number == last_number => 0,
        Some(_) if number <= 1 => return Ok(first(place)),
        Some(_) => return Err(Reason::Backwards),
    };
    Ok(Standing { number, gap, series_began: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Place {
        let shape = Shape::new(1, 8, 8);
        Place { number: Some(number), plane: None, series: None, shape, pixel_type: PixelType::U16 }
    }

    /// `n` taken, `n+g` taken after a gap of g, `n*` taken as the first of a series, otherwise why not.
    fn judged(continuity: &mut Continuity, place: Place) -> String {
        match continuity.judge(place) {
            Ok(s) if s.series_began => format!("{}*", s.number),
            Ok(s) if s.gap > 0 => format!("{}+{}", s.number, s.gap),
            Ok(s) => s.number.to_string(),
            Err(reason) => reason.name().to_string(),
        }
    }

    fn tell(numbers: &[u64]) -> Vec<String> {
        let mut continuity = Continuity::default();
        numbers.iter().map(|&n| judged(&mut continuity, place(n))).collect()
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
    fn a_restart_whose_first_frames_were_lost_is_seen_after_three_frames_in_a_row() {
        assert_eq!(tell(&[50, 17, 18, 19, 20]), ["50*", "backwards", "backwards", "19*", "20"]);
        assert_eq!(tell(&[50, 17, 51, 18, 52, 19]), ["50*", "backwards", "51", "backwards", "52", "backwards"]);
        assert_eq!(tell(&[50, 17, 20, 23]), ["50*", "backwards", "backwards", "backwards"]);
    }

    #[test]
    fn a_new_series_or_an_announcement_begins_anew_at_any_number() {
        let mut continuity = Continuity::default();
        let named = |number, series: &str| Place { series: series.parse().ok(), ..place(number) };
        assert_eq!(judged(&mut continuity, named(9, "a")), "9*");
        assert_eq!(judged(&mut continuity, named(5, "b")), "5*");
        continuity.announce();
        assert_eq!(judged(&mut continuity, named(5, "b")), "5*");
        assert_eq!(judged(&mut continuity, named(6, "b")), "6");
    }

    #[test]
    fn frames_without_numbers_are_counted_from_zero() {
        let mut continuity = Continuity::default();
        let bare = Place { number: None, ..place(0) };
        assert_eq!([0; 3].map(|_| judged(&mut continuity, bare)), ["0*", "1", "2"]);
    }

    #[test]
    fn planes_of_one_volume_may_share_a_number_and_use_numbers_up() {
        let mut continuity = Continuity::default();
        let plane = |number, plane| Place { plane: Some(plane), ..place(number) };
        assert_eq!(judged(&mut continuity, plane(3, 0)), "3*");
        assert_eq!(judged(&mut continuity, plane(3, 1)), "3");
        assert_eq!(judged(&mut continuity, plane(3, 1)), "repeated");
        continuity.pass_over(Some(4));
        continuity.pass_over(Some(5));
        assert_eq!(judged(&mut continuity, plane(6, 1)), "6");
    }

    #[test]
    fn a_changed_geometry_is_rejected_in_a_named_series_and_accepted_after_three_in_an_unnamed_one() {
        let mut continuity = Continuity::default();
        let other = |number, series: Option<Name>| Place { shape: Shape::new(1, 4, 4), series, ..place(number) };
        judged(&mut continuity, place(0));
        let found = [1, 2, 3, 4].map(|n| judged(&mut continuity, other(n, None)));
        assert_eq!(found, ["geometry", "geometry", "3*", "4"]);
        let series = "s".parse().ok();
        let mut continuity = Continuity::default();
        judged(&mut continuity, Place { series, ..place(0) });
        let found = [1, 2, 3, 4].map(|n| judged(&mut continuity, other(n, series)));
        assert_eq!(found, ["geometry"; 4]);
    }
}
