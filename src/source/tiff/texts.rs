//! What ImageJ's, tifffile's and other short descriptions say about the order of pages.
//!
//! What it must never do: decide anything; that is `axes`.

use serde::Deserialize;

use crate::source::axes::{Letter, Told};
use crate::source::scanimage::ScanImage;

/// All that the description of a file with `pages` pages says, apart from ScanImage's header.
///
/// # Errors
/// A description that cannot be understood although it claims to be of a known form.
pub(super) fn told(description: &str, pages: usize) -> Result<Option<Told>, String> {
    if description.starts_with("ImageJ=") {
        return imagej(description).map(Some);
    }
    if description.contains("<OME") || description.contains(":OME") {
        return super::ome::told(description, pages).map(Some);
    }
    shaped(description)
}

/// Pages that lie behind each other after a single directory: ImageJ beyond 4 GB, and tifffile with `truncate`.
pub(super) fn images_in_one_block(description: &str) -> Option<usize> {
    if description.starts_with("ImageJ=") {
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

fn imagej_value<T: std::str::FromStr>(description: &str, key: &str) -> Option<T> {
    let line = description.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line?.trim().parse().ok()
}

const IMAGEJ: &str = "the ImageJ description";

fn imagej(description: &str) -> Result<Told, String> {
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let interval: Option<f64> = imagej_value(description, "finterval").filter(positive);
    let size = |key| imagej_value::<usize>(description, key).unwrap_or(1).max(1);
    let of = |letter| match letter {
        Letter::C => size("channels"),
        Letter::Z => size("slices"),
        Letter::T => size("frames"),
    };
    // ImageJ writes `order=zct` and the like when channels are not the fastest; letters stand fastest first.
    let order: String = imagej_value(description, "order").unwrap_or_else(|| "czt".to_owned());
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
    told.rate_hz = interval.map(|s| 1.0 / s).or_else(|| imagej_value(description, "fps").filter(positive));
    Ok(told)
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
    let mut sizes = [(Letter::C, 1_usize), (Letter::Z, 1), (Letter::T, 1)];
    let mut order: Vec<Letter> = Vec::new();
    for (at, &n) in pages.iter().enumerate().filter(|(_, n)| **n != 1) {
        let letter = match axes.as_deref().and_then(|axes| axes.chars().nth(at)) {
            Some(letter) => Letter::of(letter).unwrap_or(Letter::T),
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
        assert_eq!(told("ImageJ=1.47v\nimages=10\nfps=15.0", 10).unwrap().unwrap().rate_hz, Some(15.0));
        assert_eq!(images_in_one_block(text), Some(24));
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
