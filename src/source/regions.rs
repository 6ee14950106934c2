//! Several regions in a frame (ScanImage's mROI): which rows of a page belong to the one that was chosen.
//!
//! Why it exists: ScanImage writes the regions one above the other with the lines of the fly-to between them, which is not one image.
//! What it must never do: cut where the sizes of the regions and the height of the page do not add up.
//!
//! The sizes stand in the JSON of the `Artist` tag (`RoiGroups.imagingRoiGroup.rois`); the lines between them are equally many
//! everywhere (suite2p's documentation of mesoscope recordings takes them so).

use std::ops::Range;

use serde_json::Value;

use super::scanimage::{BY, ScanImage};

/// The rows of the chosen region; `None`: the frame is one image.
///
/// # Errors
/// Several regions of which none was chosen, one that does not exist, or sizes that do not add up.
pub(super) fn rows(
    header: &ScanImage<'_>,
    json: &str,
    [height, width]: [usize; 2],
    asked: Option<usize>,
) -> Result<Option<Range<usize>>, String> {
    let several = header.is_on(&["hRoiManager.mroiEnable"]);
    let sizes = if several { sizes(json) } else { vec![Some([height, width])] };
    match (sizes.len(), asked) {
        (1, None | Some(0)) => Ok(None),
        (1, Some(n)) => Err(format!("--roi {n}, but {BY} says that a frame is one region: leave it out")),
        (_, None) => Err(none_chosen(sizes.len())),
        (0, Some(n)) => Err(format!(
            "--roi {n}, but the sizes of the regions are not in the file (the Artist tag of ScanImage): say --axes T to use the stacked image"
        )),
        (count, Some(n)) if n >= count => {
            Err(format!("has {count} regions; region {n} is not one of 0 to {}", count - 1))
        }
        (count, Some(n)) => {
            let heights: Option<Vec<usize>> =
                sizes.iter().map(|size| size.filter(|size| size[1] == width).map(|size| size[0])).collect();
            let total = heights.as_ref().map_or(0, |all| all.iter().sum());
            let between = height.checked_sub(total).filter(|between| between.is_multiple_of(count - 1));
            let (Some(heights), Some(between)) = (heights, between) else {
                return Err(format!(
                    "its {count} regions are {sizes:?} rows and columns, which does not fit pages of {height}×{width}: they cannot be cut apart; \
                     say --axes T to use the stacked image"
                ));
            };
            let begin = heights[..n].iter().map(|own| own + between / (count - 1)).sum::<usize>();
            Ok(Some(begin..begin + heights[n]))
        }
    }
}

fn none_chosen(count: usize) -> String {
    let (number, way_out) = match count {
        0 => ("several".to_owned(), "Save one region as a file of its own".to_owned()),
        n => (n.to_string(), format!("Choose one: --roi 0 to {} (`roi` in a dataset.toml)", n - 1)),
    };
    format!(
        "{BY} says that a frame holds {number} regions (mroiEnable), one above the other with lines of fly-to between them: that is not one \
         image. {way_out}; or, to use the stacked image as it is, say --axes T (T,C2 for two channels; `axes` in a dataset.toml)"
    )
}

/// Rows and columns of every region that is scanned; `None` for one whose size is not stated, or is not the same in all planes.
fn sizes(json: &str) -> Vec<Option<[usize; 2]>> {
    let json: Value = serde_json::from_str(json.trim_end_matches('\0')).unwrap_or_default();
    let rois = &json["RoiGroups"]["imagingRoiGroup"]["rois"];
    let is_scanned =
        |roi: &&Value| !matches!(&roi["enable"], Value::Bool(false)) && roi["enable"].as_f64() != Some(0.0);
    list(rois).iter().filter(is_scanned).map(size).collect()
}

fn size(roi: &Value) -> Option<[usize; 2]> {
    let of = |field: &Value| {
        let side = |at: usize| field["pixelResolutionXY"][at].as_u64().map(|n| n as usize);
        side(1).zip(side(0)).map(|(rows, columns)| [rows, columns])
    };
    let fields = list(&roi["scanfields"]);
    let first = of(fields.first()?)?;
    fields.iter().all(|field| of(field) == Some(first)).then_some(first)
}

/// MATLAB writes a list of one as the thing itself.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        Value::Object(_) => std::slice::from_ref(value),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rois: &str, asked: Option<usize>) -> Result<Option<Range<usize>>, String> {
        let header = ScanImage::of("SI.hRoiManager.mroiEnable = true\n").unwrap();
        rows(&header, &format!(r#"{{"RoiGroups":{{"imagingRoiGroup":{{"rois":{rois}}}}}}}"#), [88, 24], asked)
    }

    fn roi(height: usize) -> String {
        format!(r#"{{"enable":1,"scanfields":{{"pixelResolutionXY":[24,{height}]}}}}"#)
    }

    #[test]
    fn a_region_is_cut_where_the_sizes_say_or_refused() {
        let two = format!("[{},{}]", roi(40), roi(40));
        assert_eq!(cut(&two, Some(0)), Ok(Some(0..40)));
        assert_eq!(cut(&two, Some(1)), Ok(Some(48..88)));
        let three = format!("[{},{},{}]", roi(20), roi(30), roi(30));
        assert_eq!(cut(&three, Some(2)), Ok(Some(58..88)));
        assert!(cut(&two, None).unwrap_err().contains("--roi 0 to 1"));
        assert!(cut(&two, Some(2)).unwrap_err().contains("0 to 1"));
        assert!(cut(&format!("[{},{}]", roi(50), roi(40)), Some(1)).unwrap_err().contains("88×24"));
        assert!(cut("[{},{}]", Some(1)).unwrap_err().contains("cannot be cut"));
        assert_eq!(cut("{\"zs\":0}", None), Ok(None), "one region is an image");
        assert!(cut("7", None).unwrap_err().contains("several regions"));
        let off = format!("[{},{}]", roi(40), roi(40)).replace("\"enable\":1", "\"enable\":0");
        assert!(cut(&off, Some(0)).unwrap_err().contains("not in the file"));
        let plain = ScanImage::of("SI.hRoiManager.mroiEnable = false\n").unwrap();
        assert!(rows(&plain, "", [8, 8], Some(1)).unwrap_err().contains("leave it out"));
    }
}
