//! Which page of a TIFF is which channel, slice and time, according to its description.
//!
//! Why it exists: ImageJ and OME each order the pages of a hyperstack in their own way.
//! What it must never do: trust a description that contradicts the number of pages; it may belong to another file.

use super::recording::Axis;
use super::xml::attribute;

/// The axes of a sequence of pages: page = channel × stride + slice × stride + time × stride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PageOrder {
    /// Number of channels, and pages from one to the next.
    pub channels: Axis,
    /// Number of slices, and pages from one to the next.
    pub slices: Axis,
    /// Number of times, and pages from one to the next.
    pub times: Axis,
    /// Frames (or volumes) per second, if given.
    pub rate_hz: Option<f64>,
}

impl PageOrder {
    /// Every page is a frame.
    fn plain(pages: usize, rate_hz: Option<f64>) -> Self {
        Self { channels: Axis::new(1, 1), slices: Axis::new(1, 1), times: Axis::new(pages, 1), rate_hz }
    }

    /// Axes in the order in which they vary, fastest first, each with its size.
    fn new(axes: [(u8, usize); 3], pages: usize, rate_hz: Option<f64>) -> Self {
        let size: usize = axes.iter().map(|(_, n)| n).product();
        let inner: usize = axes[0].1 * axes[1].1;
        // A recording stopped early has fewer time points than planned; any other mismatch means another file's description.
        let cut_short = axes[2].0 == b'T' && pages >= inner;
        if size != pages && !cut_short {
            return Self::plain(pages, rate_hz);
        }
        let mut order = Self::plain(1, rate_hz);
        let mut stride = 1;
        for (axis, n) in axes {
            let n = if size != pages && axis == b'T' { pages / inner } else { n };
            match axis {
                b'C' => order.channels = Axis::new(n, stride),
                b'Z' => order.slices = Axis::new(n, stride),
                _ => order.times = Axis::new(n, stride),
            }
            stride *= n;
        }
        order
    }
}

/// Number of images declared by ImageJ; its files beyond 4 GB have one directory for all of them.
pub(super) fn imagej_images(description: &str) -> Option<usize> {
    description.starts_with("ImageJ=").then(|| imagej(description, "images"))?
}

/// Reads the description of a file with `pages` pages.
///
/// # Errors
/// OME-XML that cannot be read.
pub(super) fn order_of(description: &str, pages: usize) -> Result<PageOrder, String> {
    if description.starts_with("ImageJ=") {
        return Ok(imagej_order(description, pages));
    }
    if description.contains("<OME") || description.contains(":OME") {
        return ome_order(description, pages);
    }
    Ok(PageOrder::plain(pages, None))
}

fn imagej<T: std::str::FromStr>(description: &str, key: &str) -> Option<T> {
    let line = description.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line?.trim().parse().ok()
}

fn imagej_order(description: &str, pages: usize) -> PageOrder {
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let interval: Option<f64> = imagej(description, "finterval").filter(positive);
    let rate_hz = interval.map(|s| 1.0 / s).or_else(|| imagej(description, "fps").filter(positive));
    let size = |key| imagej(description, key).unwrap_or(1).max(1);
    let axes = [(b'C', size("channels")), (b'Z', size("slices")), (b'T', size("frames"))];
    PageOrder::new(axes, pages, rate_hz)
}

fn ome_order(description: &str, pages: usize) -> Result<PageOrder, String> {
    let pixels = |key: &str| attribute(description, "Pixels", key).map_err(|e| format!("its OME description {e}"));
    let order = pixels("DimensionOrder")?.unwrap_or_else(|| "XYCZT".to_string());
    let mut axes = [(b'C', 1), (b'Z', 1), (b'T', 1)];
    let named = order.strip_prefix("XY").unwrap_or_default().as_bytes();
    if named.len() != 3 || ![b'C', b'Z', b'T'].iter().all(|a| named.contains(a)) {
        return Err(format!(
            "its OME description has DimensionOrder {order:?}; it must be a permutation such as XYCZT"
        ));
    }
    for (axis, &letter) in axes.iter_mut().zip(named) {
        let size = pixels(&format!("Size{}", letter as char))?.and_then(|n| n.parse().ok()).unwrap_or(1);
        *axis = (letter, usize::max(size, 1));
    }
    let interval: Option<f64> = pixels("TimeIncrement")?.and_then(|t| t.parse().ok());
    let unit_s = match pixels("TimeIncrementUnit")?.as_deref() {
        None | Some("s") => Some(1.0),
        Some("ms") => Some(1e-3),
        Some("µs" | "us") => Some(1e-6),
        Some("min") => Some(60.0),
        Some(_) => None,
    };
    let rate_hz = interval.zip(unit_s).map(|(t, unit)| 1.0 / (t * unit)).filter(|r| r.is_finite() && *r > 0.0);
    Ok(PageOrder::new(axes, pages, rate_hz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagej_hyperstacks_have_channels_fastest_then_slices_then_frames() {
        let text = "ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\nfinterval=0.04\nfps=7.0";
        let order = order_of(text, 24).unwrap();
        assert_eq!((order.channels, order.slices, order.times), (Axis::new(2, 1), Axis::new(3, 2), Axis::new(4, 6)));
        assert_eq!(order.rate_hz, Some(25.0));
        assert_eq!(order_of("ImageJ=1.47v\nimages=10\nslices=10", 10).unwrap().slices, Axis::new(10, 1));
        assert_eq!(order_of("ImageJ=1.47v\nimages=10\nfps=15.0", 10).unwrap().rate_hz, Some(15.0));
        assert_eq!(imagej_images(text), Some(24));
    }

    #[test]
    fn ome_says_its_order_and_its_time_increment() {
        let xml = r#"<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYZTC" SizeX="8" SizeY="8" SizeC="2"
            SizeZ="3" SizeT="4" TimeIncrement="50" TimeIncrementUnit="ms"/></Image></OME>"#;
        let order = order_of(xml, 24).unwrap();
        assert_eq!((order.slices, order.times, order.channels), (Axis::new(3, 1), Axis::new(4, 3), Axis::new(2, 12)));
        assert_eq!(order.rate_hz, Some(20.0));
        assert!(order_of(&xml.replace("XYZTC", "XYZT"), 24).unwrap_err().contains("DimensionOrder"));
    }

    #[test]
    fn a_recording_stopped_early_keeps_its_order_and_a_foreign_description_is_not_trusted() {
        let text = "ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4";
        assert_eq!(order_of(text, 13).unwrap().times, Axis::new(2, 6));
        assert_eq!(order_of(text, 5).unwrap(), PageOrder::plain(5, None));
        assert_eq!(order_of("anything", 7).unwrap(), PageOrder::plain(7, None));
    }
}
