//! What Micro-Manager writes about each page: a JSON in a tag of its own, with the page's channel, plane, time and position.
//!
//! Why it exists: its NDTiff files have no description, and pages of two channels would be read as frames of one. What it must never do:
//! put pages into an order; that the user says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Pages that are looked at, besides the last.
pub(super) const PAGES_MAX: usize = 64;

/// The axes that the JSON of a page names, with its place on each.
fn axes(json: &str) -> BTreeMap<String, String> {
    let json: Value = serde_json::from_str(json.trim_end_matches('\0')).unwrap_or_default();
    let of_index =
        |key: &str| json.get(key).map(|value| (key.trim_end_matches("Index").to_lowercase(), value.to_string()));
    let named = json.get("Axes").and_then(Value::as_object).into_iter().flatten();
    let named = named.map(|(name, value)| (name.to_lowercase(), value.to_string()));
    ["ChannelIndex", "SliceIndex", "FrameIndex", "PositionIndex"]
        .into_iter()
        .filter_map(of_index)
        .chain(named)
        .collect()
}

/// Do the pages differ in their times only?
///
/// # Errors
/// Another axis on which they differ, and how to say their order.
pub(super) fn times_only(pages: &[String]) -> Result<(), String> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    pages.iter().flat_map(|json| axes(json)).for_each(|(axis, place)| {
        found.entry(axis).or_default().insert(place);
    });
    let is_time = |axis: &str| axis.starts_with("time") || axis.starts_with("frame");
    let words: Vec<String> = found
        .iter()
        .filter(|(axis, places)| places.len() > 1 && !is_time(axis))
        .map(|(axis, places)| format!("{axis} ({} values)", places.len()))
        .collect();
    if words.is_empty() {
        return Ok(());
    }
    Err(format!(
        "has no description, but the metadata that Micro-Manager wrote into its pages say that they differ by {}, not by their time alone: say their \
         order, e.g. --axes T,C2 (`axes` in a dataset.toml), or save the file as an image stack with OME metadata",
        words.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_differ_by_more_than_time_are_named() {
        let page = |channel: &str, time: u8| {
            format!("{{\"Axes\":{{\"channel\":\"{channel}\",\"time\":{time}}},\"Width\":512}}\0")
        };
        assert_eq!(times_only(&[page("GFP", 0), page("GFP", 1)]), Ok(()));
        let error = times_only(&[page("GFP", 0), page("RFP", 0), page("GFP", 1)]).unwrap_err();
        assert!(error.contains("channel (2 values)") && error.contains("--axes T,C2"), "{error}");
        let older = ["{\"SliceIndex\":0,\"FrameIndex\":0}", "{\"SliceIndex\":1,\"FrameIndex\":0}"].map(str::to_owned);
        assert!(times_only(&older).unwrap_err().contains("slice"));
        assert_eq!(times_only(&["not JSON".to_owned(), String::new()]), Ok(()));
    }
}
