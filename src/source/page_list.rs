//! Pages that a text lists one by one (OME's TiffData): they may stand in any order and in any of several files.
//!
//! What it must never do: replace a page that is missing by another.

use std::collections::{BTreeSet, HashMap};

use super::about::{About, file_name};
use super::axes::{Asked, Letter, Listed, Place, Plan, Refusal, SAY_AXES, Seen, Told};
use super::recording::{Axis, choose_plane};

/// The frames of a recording whose pages are listed.
pub(super) fn by_list(
    files: &[Seen],
    listed: &[Listed],
    told: &Told,
    asked: &Asked,
    mut about: About,
) -> Result<Plan, Refusal> {
    let refuse = |cause: String| (files[0].path.clone(), cause);
    let (channels, planes) = (told.size(Letter::C), told.size(Letter::Z));
    let mut found: HashMap<[usize; 3], Place> = HashMap::new();
    let mut times = told.times().unwrap_or(1);
    if listed.iter().all(|page| page.file.is_none()) && files.len() > 1 {
        // Each file lists its own pages: they follow each other in time.
        times = 0;
        for (at, file) in files.iter().enumerate() {
            let own = file.told.first().unwrap_or(told);
            let list = own.listed.as_deref().unwrap_or_default();
            place(list, &|_| Some(at), files, times, &mut found).map_err(refuse)?;
            times = times.saturating_add(own.times().unwrap_or(1));
        }
    } else {
        let names = names(listed, files).map_err(refuse)?;
        place(listed, &|name| name.map_or(Some(0), |name| names.get(name).copied()), files, 0, &mut found)
            .map_err(refuse)?;
    }
    let is_there = |time: usize, plane: usize| {
        channels <= found.len() && (0..channels).all(|c| found.contains_key(&[c, plane, time]))
    };
    let is_whole = |time: usize| match asked.plane {
        Some(plane) => is_there(time, plane as usize),
        None => planes <= found.len() && (0..planes).all(|plane| is_there(time, plane)),
    };
    let whole = (0..times.min(found.len())).take_while(|time| is_whole(*time)).count();
    if whole == 0 {
        let cause =
            format!("{} lists {}, but no time is whole: {} pages were found", told.by, told.sizes(), found.len());
        return Err(refuse(format!("{cause}; {SAY_AXES}")));
    }
    if whole < times {
        let text =
            format!("{} lists {times} times, of which the first {whole} are whole: the rest is missing", told.by);
        if asked.strict {
            return Err(refuse(format!("{text}; --strict refuses that")));
        }
        about.warn(text);
    }
    let walk = choose_plane(Axis::new(planes, 1), Axis::new(whole, 1), asked.plane).map_err(refuse)?;
    let along_depth = asked.plane.is_none() && planes > 1;
    let frames = (0..walk.count).map(|n| if along_depth { [n, 0] } else { [asked.plane.unwrap_or(0) as usize, n] });
    let keys = frames.flat_map(|[plane, time]| (0..channels).map(move |c| [c, plane, time]));
    let places: Vec<Place> = keys.filter_map(|key| found.get(&key).copied()).collect();
    about.fact("pages", files.iter().map(|file| file.pages).sum::<usize>(), "counted");
    about.fact("channels", channels, told.by);
    about.fact("planes", planes, told.by);
    about.maybe("plane", asked.plane, "--plane");
    about.fact("times", whole, format!("{}, and the pages that are there", told.by));
    Ok(Plan { channels, places, rate_hz: None, about })
}

/// Which file has which name. A single file may have been renamed.
fn names(listed: &[Listed], files: &[Seen]) -> Result<HashMap<String, usize>, String> {
    let wanted: BTreeSet<&String> = listed.iter().filter_map(|page| page.file.as_ref()).collect();
    let own: HashMap<String, usize> = files.iter().enumerate().map(|(at, file)| (file_name(&file.path), at)).collect();
    if let ([_], 1) = (files, wanted.len()) {
        return Ok(wanted.into_iter().map(|name| (name.clone(), 0)).collect());
    }
    if files.len() == 1 && !wanted.is_empty() {
        let example = wanted.iter().find(|name| !own.contains_key(name.as_str())).map_or("", |name| name.as_str());
        return Err(format!(
            "its OME description puts the pages into {} files, such as {example}: give their folder, or all of them",
            wanted.len()
        ));
    }
    Ok(own)
}

/// Notes where every listed page lies, as far as it is there.
fn place(
    listed: &[Listed],
    file_of: &dyn Fn(Option<&String>) -> Option<usize>,
    files: &[Seen],
    first_time: usize,
    found: &mut HashMap<[usize; 3], Place>,
) -> Result<(), String> {
    for page in listed {
        let Some(file) = file_of(page.file.as_ref()).filter(|file| page.page < files[*file].pages) else { continue };
        let [c, z, t] = page.at;
        let place = Place { file: file as u32, page: page.page as u32 };
        if let Some(other) = found.insert([c, z, t.saturating_add(first_time)], place).filter(|other| *other != place) {
            return Err(format!(
                "its OME description lists two pages for channel {c}, plane {z}, time {t}: {} and {}; {SAY_AXES}",
                other.page, place.page
            ));
        }
    }
    Ok(())
}
