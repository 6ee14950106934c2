//! Shared by all recorded sources: time stamps, the choice of a plane, errors. Knows no file format.

use std::path::{Path, PathBuf};

use crate::frame::{Clock, DeviceTime, Frame, FrameInfo, Marks, Name, PixelType, Shape, Stamp};
use crate::sys::clock::now_ns;

use super::SourceError;

/// The extension of a file in lower case, without its dot; empty without one.
pub(super) fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// An error that names the file.
pub(super) fn file_error(path: &Path, cause: impl Into<String>) -> SourceError {
    SourceError::File { path: PathBuf::from(path), cause: cause.into() }
}

/// Fills in the description of a recorded frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamper {
    /// Name of the rig.
    pub source: Name,
    /// Frames per second, if known; frame n is then taken to begin at n / rate.
    pub rate_hz: Option<f64>,
    /// Channels × height × width of every frame.
    pub shape: Shape,
    /// How pixels are stored.
    pub pixel_type: PixelType,
}

impl Stamper {
    /// Bytes of one frame.
    pub(super) fn frame_bytes(&self) -> usize {
        self.shape.pixels() * self.pixel_type.bytes()
    }

    /// Describes frame `index` in `into`, before its pixels are written.
    ///
    /// # Errors
    /// A slot that is too small, naming `path`.
    pub(super) fn stamp(&self, index: u64, path: &Path, into: &mut Frame) -> Result<(), SourceError> {
        if self.frame_bytes() > into.capacity_bytes() {
            let (bytes, held) = (self.frame_bytes(), into.capacity_bytes());
            return Err(file_error(path, format!("a frame has {bytes} bytes, a slot holds {held}")));
        }
        let time = |rate: f64| DeviceTime {
            ns: (index as f64 / rate * 1e9).round() as i64,
            clock: Clock::Device,
            stamp: Some(Stamp::Start),
        };
        into.info = FrameInfo {
            shape: self.shape,
            pixel_type: self.pixel_type,
            number: index,
            gap: 0,
            ordinal_offset: 0,
            t_device: self.rate_hz.map(time),
            t_received_ns: now_ns(),
            t_live_ns: None,
            age_ns: None,
            unpublished: false,
            source: self.source,
            series: None,
            series_began: index == 0,
            marks: Marks::default(),
            animal: None,
        };
        Ok(())
    }
}

/// The positions of the frames in a stack of slices × times: `first + n × step`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// One axis of a sequence of pages or planes: its size, and the positions from one entry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub count: usize,
    pub step: usize,
}

impl Axis {
    pub(super) const fn new(count: usize, step: usize) -> Self {
        Self { count, step }
    }
}

/// Chooses the frames of one plane.
///
/// A stack with slices but a single time point is treated as a movie, because movies without metadata are saved that way.
/// A volume over time needs `plane`.
///
/// # Errors
/// A volume without `plane`, or a plane it does not have.
pub(super) fn choose_plane(slices: Axis, times: Axis, plane: Option<u64>) -> Result<Walk, String> {
    let Axis { count, step } = times;
    match plane {
        Some(plane) if plane < slices.count as u64 => Ok(Walk { first: plane as usize * slices.step, step, count }),
        Some(plane) => {
            Err(format!("has {} plane(s); plane {plane} is not one of 0 to {}", slices.count, slices.count - 1))
        }
        None if slices.count == 1 => Ok(Walk { first: 0, step, count }),
        None if count == 1 => Ok(Walk { first: 0, step: slices.step, count: slices.count }),
        None => Err(format!(
            "is a volume of {} planes × {count} times; choose one: plane 0 to {}",
            slices.count,
            slices.count - 1
        )),
    }
}

/// Compares names as a person would: `img2` before `img10`.
pub(super) fn natural_order(a: &Path, b: &Path) -> std::cmp::Ordering {
    let (a, b) = (a.to_string_lossy(), b.to_string_lossy());
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, right) = (digits(&mut a), digits(&mut b));
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
            if order.is_ne() {
                return order;
            }
        } else if x != y {
            return x.cmp(y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    a.len().cmp(&b.len())
}

/// Removes a run of digits from the front; leading zeros do not count.
fn digits<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let length = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (run, rest) = text.split_at(length);
    *text = rest;
    &run[run.iter().take_while(|&&b| b == b'0').count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_a_person_would() {
        let mut names =
            ["a10.tif", "a2.tif", "a1.tif", "a02b.tif", "b.tif", "a.tif", "a1_10", "a1_9"].map(PathBuf::from);
        names.sort_by(|a, b| natural_order(a, b));
        let found = names.map(|n| n.display().to_string());
        assert_eq!(found, ["a.tif", "a1.tif", "a1_9", "a1_10", "a2.tif", "a02b.tif", "a10.tif", "b.tif"]);
    }

    #[test]
    fn a_plane_is_chosen_and_a_volume_over_time_asks_for_one() {
        assert_eq!(choose_plane(Axis::new(3, 2), Axis::new(5, 6), Some(1)), Ok(Walk { first: 2, step: 6, count: 5 }));
        assert_eq!(choose_plane(Axis::new(1, 2), Axis::new(5, 2), None), Ok(Walk { first: 0, step: 2, count: 5 }));
        assert_eq!(choose_plane(Axis::new(9, 1), Axis::new(1, 9), None), Ok(Walk { first: 0, step: 1, count: 9 }));
        assert!(choose_plane(Axis::new(3, 2), Axis::new(5, 6), None).unwrap_err().contains("0 to 2"));
        assert!(choose_plane(Axis::new(3, 2), Axis::new(5, 6), Some(3)).unwrap_err().contains("3 plane(s)"));
    }
}
