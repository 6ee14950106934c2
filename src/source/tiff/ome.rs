//! What OME-XML says about the order of pages: sizes, `DimensionOrder`, and the list of pages in `TiffData` (OME-TIFF specification,
//! "TiffData elements").
//!
//! What it must never do: decide anything; that is `axes`.

use std::ops::ControlFlow;

use quick_xml::events::BytesStart;

use crate::source::axes::{Letter, Listed, Told};
use crate::source::xml::{elements, value_of};

const OME: &str = "the OME description";
/// Most pages that a description may list.
const LISTED_MAX: usize = 1 << 22;

/// One `TiffData`.
#[derive(Default)]
struct TiffData {
    ifd: Option<usize>,
    count: Option<usize>,
    first: [usize; 3],
    file: Option<String>,
}

/// What is taken from the XML.
#[derive(Default)]
struct Read {
    images: usize,
    order: Option<String>,
    sizes: [Option<usize>; 3],
    interval_s: Option<f64>,
    samples: usize,
    /// An axis that stands for two, such as lifetimes within times.
    modulo: Option<String>,
    names: Vec<String>,
    data: Vec<TiffData>,
    elsewhere: Option<String>,
}

/// What a description says about a file with `pages` pages.
///
/// # Errors
/// XML that cannot be read, several images, or a description that lies in another file.
pub(super) fn told(xml: &str, pages: usize) -> Result<Told, String> {
    let read = read(xml).map_err(|cause| format!("its OME description {cause}"))?;
    if let Some(file) = read.elsewhere {
        return Err(format!(
            "its OME description lies in another file, {file}, which is not read: save it with its own description (Bio-Formats: \
             bfconvert), or say the order of its pages: --axes T,C2"
        ));
    }
    if read.images > 1 {
        return Err(format!(
            "its OME description has {} images (positions, series), but a recording is one: save that one alone (bfconvert -series 0)",
            read.images
        ));
    }
    if read.samples > 1 {
        return Err(format!("its OME description has {} samples per pixel; greyscale is read", read.samples));
    }
    if let Some(modulo) = read.modulo {
        return Err(format!(
            "its OME description has {modulo}: one of its axes holds two (lifetimes, wavelengths, phases), which is not read: save the frames of one \
             of them alone, or say the order of all pages: --axes T,C2"
        ));
    }
    let order = read.order.as_deref().unwrap_or("XYCZT");
    let letters: Vec<Letter> = order.strip_prefix("XY").unwrap_or_default().chars().filter_map(Letter::of).collect();
    let [a, b, c] = letters[..] else { return Err(no_order(order)) };
    if a == b || b == c || a == c {
        return Err(no_order(order));
    }
    let of = |letter: Letter| read.sizes[letter as usize].unwrap_or(1).max(1);
    let axes = [a, b, c].map(|letter| (letter, Some(of(letter))));
    let mut told = Told::new(OME, axes);
    told.rate_hz = read.interval_s.map(|s| 1.0 / s).filter(|rate| rate.is_finite() && *rate > 0.0);
    told.names = if read.names.iter().all(String::is_empty) { Vec::new() } else { read.names };
    told.listed = listed(&read.data, axes, pages)?;
    told.whole = told.listed.as_ref().is_some_and(|listed| listed.iter().any(|page| page.file.is_some()));
    Ok(told)
}

fn no_order(order: &str) -> String {
    format!("its OME description has DimensionOrder {order:?}; it must be a permutation such as XYCZT")
}

/// The list of pages; `None` when the pages stand in their order, as without any list.
fn listed(data: &[TiffData], axes: [(Letter, Option<usize>); 3], pages: usize) -> Result<Option<Vec<Listed>>, String> {
    let whole = |one: &TiffData| one.ifd.unwrap_or(0) == 0 && one.first == [0; 3] && one.file.is_none();
    if data.is_empty() || matches!(data, [one] if whole(one) && one.count.is_none_or(|count| count >= pages)) {
        return Ok(None);
    }
    let mut all = Vec::with_capacity(data.len());
    for one in data {
        // Without IFD and PlaneCount all pages of the file are meant; with IFD alone, one.
        let count = one.count.unwrap_or(if one.ifd.is_some() { 1 } else { pages });
        if count.saturating_add(all.len()) > LISTED_MAX {
            return Err(format!("its OME description lists {count} pages at once, but there are {pages} pages"));
        }
        let mut at = one.first;
        for n in 0..count {
            all.push(Listed { at, file: one.file.clone(), page: one.ifd.unwrap_or(0).saturating_add(n) });
            // The next page, in the order of the dimensions.
            for (letter, size) in axes {
                let index = &mut at[letter as usize];
                *index = index.saturating_add(1);
                if *index < size.unwrap_or(1) {
                    break;
                }
                *index = 0;
            }
        }
    }
    Ok(Some(all))
}

fn read(xml: &str) -> Result<Read, String> {
    let mut found = Read::default();
    elements(xml, |element| take(element, &mut found).map(ControlFlow::Continue))?;
    Ok(found)
}

fn take(element: &BytesStart<'_>, found: &mut Read) -> Result<(), String> {
    let text = |key: &str| value_of(element, key);
    let number = |key: &str| text(key).map(|value| value.and_then(|value| value.trim().parse::<usize>().ok()));
    match element.local_name().as_ref() {
        "Image" => found.images += 1,
        "BinaryOnly" => found.elsewhere = Some(text("MetadataFile")?.unwrap_or_else(|| "not named".to_owned())),
        "Pixels" if found.order.is_none() => {
            found.order = Some(text("DimensionOrder")?.unwrap_or_else(|| "XYCZT".to_owned()));
            found.sizes = [number("SizeC")?, number("SizeZ")?, number("SizeT")?];
            found.interval_s = interval_s(text("TimeIncrement")?, text("TimeIncrementUnit")?.as_deref());
        }
        "Channel" if found.images < 2 => {
            found.samples = found.samples.max(number("SamplesPerPixel")?.unwrap_or(1));
            found.names.push(text("Name")?.unwrap_or_default());
        }
        modulo @ ("ModuloAlongC" | "ModuloAlongZ" | "ModuloAlongT") => {
            found.modulo = Some(format!("{modulo} ({})", text("Type")?.unwrap_or_default()));
        }
        "TiffData" => found.data.push(TiffData {
            ifd: number("IFD")?,
            count: number("PlaneCount")?,
            first: [number("FirstC")?, number("FirstZ")?, number("FirstT")?].map(Option::unwrap_or_default),
            file: None,
        }),
        "UUID" => {
            let name = text("FileName")?;
            if let Some(last) = found.data.last_mut() {
                last.file = name;
            }
        }
        _ => {}
    }
    Ok(())
}

fn interval_s(interval: Option<String>, unit: Option<&str>) -> Option<f64> {
    let interval: f64 = interval?.trim().parse().ok()?;
    Some(interval * super::time_units::seconds_of(unit.unwrap_or("s"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYZTC" SizeX="8" SizeY="8" SizeC="2"
        SizeZ="3" SizeT="4" TimeIncrement="50" TimeIncrementUnit="ms"><Channel Name="GCaMP"/><Channel Name="tdTom"/></Pixels></Image></OME>"#;

    #[test]
    fn ome_says_its_order_its_names_and_its_time_increment() {
        let found = told(XML, 24).unwrap();
        assert_eq!(found.axes, [(Letter::Z, Some(3)), (Letter::T, Some(4)), (Letter::C, Some(2))]);
        assert_eq!(
            (found.rate_hz, found.names, found.listed),
            (Some(20.0), vec!["GCaMP".into(), "tdTom".into()], None)
        );
        assert!(told(&XML.replace("XYZTC", "XYZT"), 24).unwrap_err().contains("DimensionOrder"));
        assert!(told(&XML.replace("</OME>", "<Image/></OME>"), 24).unwrap_err().contains("2 images"));
        let elsewhere = r#"<OME><BinaryOnly MetadataFile="a.companion.ome" UUID="x"/></OME>"#;
        assert!(told(elsewhere, 1).unwrap_err().contains("a.companion.ome"));
    }

    #[test]
    fn a_list_of_pages_runs_through_the_dimensions_in_their_order() {
        let list = r#"<TiffData IFD="5" FirstT="1" PlaneCount="4"/>"#;
        let found = told(&XML.replace("</Pixels>", &format!("{list}</Pixels>")), 24).unwrap().listed.unwrap();
        let at: Vec<[usize; 3]> = found.iter().map(|page| page.at).collect();
        assert_eq!(at, [[0, 0, 1], [0, 1, 1], [0, 2, 1], [0, 0, 2]]);
        assert_eq!(found[3].page, 8);
    }

    #[test]
    fn sizes_beyond_counting_end_at_once() {
        let huge = r#"<TiffData IFD="0" FirstT="1" PlaneCount="4294967296"/>"#;
        assert!(told(&XML.replace("</Pixels>", &format!("{huge}</Pixels>")), 24).unwrap_err().contains("4294967296"));
        let sizes = XML.replace("\"3\"", "\"4294967296\"").replace("\"4\"", "\"4294967296\"");
        assert_eq!(told(&sizes, 24).unwrap().needed(), None);
    }
}
