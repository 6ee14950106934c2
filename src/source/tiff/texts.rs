//! What ImageJ's, tifffile's and other short descriptions say about the order of pages.
//!
//! What it must never do: decide anything; that is `axes`.

use super::time_units::seconds_of;
use serde::Deserialize;

use crate::source::axes::{Letter, Told};
use crate::source::scanimage::ScanImage;

/// All that the description of a file with `pages` pages says, apart from ScanImage's header.
///
/// # Errors
/// A description that cannot be understood although it claims to be of a known form.
pub(super) fn told(description: &str, pages: usize) -> Result<Option<Told>, String> {
    if is_imagej(description) {
        return imagej(description).map(Some);
    }
    if description.contains("<OME") || description.contains(":OME") {
        return super::ome::told(description, pages).map(Some);
    }
    shaped(description)
}

/// Pages that lie behind each other after a single directory: ImageJ beyond 4 GB, and tifffile with `truncate`.
pub(super) fn images_in_one_block(description: &str) -> Option<usize> {
    if is_imagej(description) {
        return imagej_value(description, "images");
    }
    let shape = Shaped::of(description)?;
    let pages = shape.shape.len().checked_sub(2).map(|pages| &shape.shape[..pages])?;
    pages.iter().try_fold(1_usize, |product, n| product.checked_mul(*n))
}

/// ScanImage's header among the texts that ImageJ keeps when it saves a stack again.
pub(super) fn kept_by_imagej(info: &str) -> Option<Told> {
    let told = ScanImage::of(info)?.told().ok()?;
    let saved = told.size(Letter::C) > 1;
    saved.then_some(Told { by: "the ScanImage header that ImageJ kept", ..told })
}

/// ImageJ's lines; Fiji writes the same with SCIFIO behind a line `SCIFIO=`.
fn is_imagej(description: &str) -> bool {
    description.starts_with("ImageJ=") || description.starts_with("SCIFIO=")
}

/// Are the stored values signed ones plus 32768? ImageJ keeps int16 so, and says it by a calibration: `cf=0`, `c0=-32768`, `c1=1`.
pub(super) fn is_signed_plus_32768(description: &str) -> bool {
    let is = |key: &str, wanted: f64| imagej_value::<f64>(description, key) == Some(wanted);
    is_imagej(description) && is("cf", 0.0) && is("c0", -32768.0) && is("c1", 1.0)
}

fn imagej_value<T: std::str::FromStr>(description: &str, key: &str) -> Option<T> {
    let line = description.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line?.trim().parse().ok()
}

const IMAGEJ: &str = "the ImageJ description";

fn imagej(description: &str) -> Result<Told, String> {
    let size = |key| imagej_value::<usize>(description, key).unwrap_or(1).max(1);
    let of = |letter| match letter {
        Letter::C => size("channels"),
        Letter::Z => size("slices"),
        Letter::T => size("frames"),
    };
    // ImageJ writes `order=zct` and the like when channels are not the fastest; letters stand fastest first.
    let order = match description.starts_with("SCIFIO=") {
        true => scifio_order(description)?,
        false => imagej_value(description, "order").unwrap_or_else(|| "czt".to_owned()),
    };
    let letters: Vec<Letter> = order.chars().filter_map(Letter::of).collect();
    let [a, b, c] = letters[..] else { return Err(format!("its ImageJ description has order={order:?}")) };
    if a == b || b == c || a == c {
        return Err(format!("its ImageJ description has order={order:?}"));
    }
    let mut told = Told::new(IMAGEJ, [a, b, c].map(|letter| (letter, Some(of(letter)))));
    told.pages = imagej_value(description, "images");
    // ImageJ leaves out the sizes of a plain stack.
    if told.needed() == Some(1) {
        told.axes = [(Letter::C, Some(1)), (Letter::Z, Some(1)), (Letter::T, told.pages.or(Some(1)))];
    }
    (told.rate_hz, told.notes) = imagej_rate(description);
    Ok(told)
}

/// The order of SCIFIO's axes, fastest first: `axes=X,Y,Channel,Z,Time`, with their `lengths=`.
fn scifio_order(description: &str) -> Result<String, String> {
    let list = |key| imagej_value::<String>(description, key).unwrap_or_default();
    let (axes, lengths) = (list("axes"), list("lengths"));
    let mut order = String::new();
    for (axis, length) in axes.split(',').zip(lengths.split(',')).filter(|(axis, _)| !["X", "Y"].contains(axis)) {
        match axis.trim() {
            "Channel" => order.push('c'),
            "Z" => order.push('z'),
            "Time" => order.push('t'),
            other if length.trim() != "1" => {
                return Err(format!(
                    "its SCIFIO description has an axis {other} of {length}, which is not read: save one of them alone, or say the order of all pages: \
                     --axes T,C2"
                ));
            }
            _ => {}
        }
    }
    order.extend(['c', 'z', 't'].into_iter().filter(|letter| !order.contains(*letter)).collect::<Vec<_>>());
    Ok(order)
}

/// Frames per second, and what to know of it: `finterval` is a time in `tunit`, `fps` only the speed at which ImageJ shows the stack.
fn imagej_rate(description: &str) -> (Option<f64>, Vec<String>) {
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let interval = imagej_value(description, "finterval").filter(positive);
    let unit: String = imagej_value(description, "tunit").unwrap_or_default();
    let fps: Option<f64> = imagej_value(description, "fps").filter(positive);
    match (interval, seconds_of(&unit), fps) {
        (Some(interval), Some(unit_s), _) => (Some(1.0 / (interval * unit_s)), Vec::new()),
        (Some(interval), None, _) => {
            let note = format!(
                "{IMAGEJ} says a frame interval of {interval} {unit}, which is no known unit of time: give the rate (--rate)"
            );
            (None, vec![note])
        }
        (None, _, Some(fps)) => {
            let note = format!(
                "{IMAGEJ} has no frame interval; {fps} Hz is its `fps`, the speed at which ImageJ shows the stack: give the rate if it is another \
                 (--rate)"
            );
            (Some(fps), vec![note])
        }
        (None, _, None) => (None, Vec::new()),
    }
}

/// tifffile's description: the shape of the array that was written, and its axes if they were given.
#[derive(Deserialize)]
struct Shaped {
    shape: Vec<usize>,
    axes: Option<String>,
}

impl Shaped {
    fn of(description: &str) -> Option<Self> {
        description.trim_start().starts_with("{\"shape\"").then(|| serde_json::from_str(description).ok())?
    }
}

const SHAPED: &str = "the shape that tifffile wrote";

fn shaped(description: &str) -> Result<Option<Told>, String> {
    let Some(Shaped { shape, axes }) = Shaped::of(description) else { return Ok(None) };
    let Some(of_pages) = shape.len().checked_sub(2) else { return Ok(None) };
    let (pages, written) = (&shape[..of_pages], &shape);
    let axes = axes.filter(|axes| axes.len() == shape.len());
    if let Some(axes) = axes.as_deref().filter(|axes| !axes.to_ascii_uppercase().ends_with("YX")) {
        return Err(format!(
            "{SHAPED} is {written:?} with the axes {axes:?}: rows and columns (YX) must be the last two, or its pages are no images: move them, e.g. \
             np.moveaxis(array, -1, 0) for YXT, and write the file again"
        ));
    }
    let mut sizes = [(Letter::C, 1_usize), (Letter::Z, 1), (Letter::T, 1)];
    let mut order: Vec<Letter> = Vec::new();
    for (at, &n) in pages.iter().enumerate().filter(|(_, n)| **n != 1) {
        let letter = match axes.as_deref().and_then(|axes| axes.chars().nth(at)) {
            // I is a sequence of images and Q says nothing, as tifffile names them.
            Some('I' | 'Q' | 'i' | 'q') => Letter::T,
            Some(letter) => match Letter::of(letter) {
                Some(letter) => letter,
                None => {
                    return Err(format!(
                        "{SHAPED} is {written:?} with the axes {axes:?}, of which {letter} is neither time, plane nor channel; say what it is: \
                         --axes T if its {n} pages are times"
                    ));
                }
            },
            None if pages.iter().filter(|n| **n > 1).count() == 1 => Letter::T,
            None => {
                return Err(format!(
                    "{SHAPED} is {written:?} without the names of its axes, so nobody knows which of {pages:?} are channels, planes or \
                     times; say it: --axes T,C{n} or --axes T,Z{n} (slowest first; axes = \"…\" in a dataset.toml), or write the file \
                     with metadata={{'axes': 'TCYX'}}",
                    n = pages.last().copied().unwrap_or(1)
                ));
            }
        };
        if order.contains(&letter) {
            return Err(format!(
                "{SHAPED} is {written:?} with the axes {axes:?}, two of which are {letter:?}; say --axes"
            ));
        }
        order.push(letter);
        sizes.iter_mut().filter(|(own, _)| *own == letter).for_each(|(_, size)| *size = n);
    }
    order.reverse();
    order.extend(Letter::ALL.into_iter().filter(|letter| !order.contains(letter)).collect::<Vec<_>>());
    let of = |letter| (letter, sizes.iter().find(|(own, _)| *own == letter).map(|(_, size)| *size));
    Ok(Some(Told::new(SHAPED, [of(order[0]), of(order[1]), of(order[2])])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(description: &str) -> [(Letter, Option<usize>); 3] {
        told(description, 24).unwrap().unwrap().axes
    }

    #[test]
    fn imagej_has_channels_fastest_unless_it_says_otherwise() {
        let text = "ImageJ=1.53\nimages=24\nchannels=2\nslices=3\nframes=4\nhyperstack=true\nfinterval=0.04\nfps=7.0";
        let axes = [(Letter::C, Some(2)), (Letter::Z, Some(3)), (Letter::T, Some(4))];
        assert_eq!(sizes(text), axes);
        assert_eq!(sizes(&format!("{text}\norder=zct\n")), [axes[1], axes[0], axes[2]]);
        assert_eq!(told(text, 24).unwrap().unwrap().rate_hz, Some(25.0));
        let shown = told("ImageJ=1.47v\nimages=10\nfps=15.0", 10).unwrap().unwrap();
        assert!(shown.rate_hz == Some(15.0) && shown.notes[0].contains("`fps`"), "{shown:?}");
        let rate = |unit| told(&format!("ImageJ=1.53\nimages=10\nfinterval=40\ntunit={unit}\n"), 10).unwrap().unwrap();
        assert_eq!(
            [rate("ms").rate_hz, rate("msec").rate_hz, rate("min").rate_hz],
            [Some(25.0), Some(25.0), Some(1.0 / 2400.0)]
        );
        assert!(rate("frame").rate_hz.is_none() && rate("frame").notes[0].contains("40 frame"));
        assert_eq!(images_in_one_block(text), Some(24));
    }

    #[test]
    fn scifio_writes_imagejs_lines_and_its_own_order() {
        let text =
            "SCIFIO=0.41.0\naxes=X,Y,Z,Channel,Time\nlengths=24,16,3,2,4\nimages=24\nchannels=2\nslices=3\nframes=4\n";
        assert_eq!(sizes(text), [(Letter::Z, Some(3)), (Letter::C, Some(2)), (Letter::T, Some(4))]);
        let lifetimes = text.replace("axes=X,Y,Z", "axes=X,Y,Lifetime");
        assert!(told(&lifetimes, 24).unwrap_err().contains("Lifetime of 3"));
    }

    #[test]
    fn imagej_keeps_signed_values_plus_32768_and_says_so() {
        let text = "ImageJ=1.49v\nimages=300\nslices=300\ncf=0\nc0=-32768.0\nc1=1.0\nvunit=Gray Value\nloop=false\n";
        assert!(is_signed_plus_32768(text));
        assert!(!is_signed_plus_32768(&text.replace("-32768.0", "-100.0")), "another calibration says no sign");
        assert!(!is_signed_plus_32768(&text.replace("ImageJ=", "")));
    }

    #[test]
    fn tifffile_names_its_axes_or_is_asked_for_them() {
        let named = sizes(r#"{"shape": [5, 2, 16, 24], "axes": "TCYX"}"#);
        assert_eq!(named, [(Letter::C, Some(2)), (Letter::T, Some(5)), (Letter::Z, Some(1))]);
        assert_eq!(sizes(r#"{"shape": [24, 48, 40]}"#)[0], (Letter::T, Some(24)));
        assert!(told(r#"{"shape": [5, 2, 16, 24]}"#, 10).unwrap_err().contains("--axes T,C2"));
        assert!(told("anything", 7).unwrap().is_none());
    }
}
