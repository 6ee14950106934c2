//! The one decision about axes: which page of a recording is which channel, plane and time.
//!
//! Why it exists: a recording is described by up to six texts (ScanImage's header, OME-XML, ImageJ's description, tifffile's shape,
//! a microscope's XML, the user's words) and by its pages, and every reader that believes one of them alone shows some files wrong.
//! Here all of them are collected for all files of a recording before the first frame is read. What it must never do: choose between
//! two texts that contradict each other, or believe a text that the pages contradict: the recording is then refused with both
//! numbers and the way out.

use std::path::PathBuf;

use super::about::{About, file_name};
use super::axes::{Asked, Letter, Plan, Refusal, SAY_AXES, Seen, Told};
use super::grid::Grid;
use super::page_list::by_list;

/// Decides for the files of a recording, in their order.
///
/// # Errors
/// Texts that contradict each other or the pages, with both numbers and the way out; a volume without a plane; something missing
/// under `strict`.
pub(super) fn decide(files: &[Seen], asked: &Asked) -> Result<Plan, Refusal> {
    let Some(first) = files.first() else {
        return Err((PathBuf::from("recording"), "no file was given".to_owned()));
    };
    let mut about = About::default();
    cuts(files, asked, &mut about)?;
    let whole = |cause: String| (first.path.clone(), cause);
    let pages: usize = files.iter().map(|file| file.pages).sum();
    let by_user = asked.axes.map(|axes| Told { whole: true, ..Told::new("--axes", axes.axes) });
    let told = match by_user {
        Some(told) => Some(with_open_size(told, pages).map_err(whole)?),
        None => agreed(files)?,
    };
    let Some(told) = told else {
        return Grid::plain(pages).plan(files, asked, "the number of pages, because no text says more", about);
    };
    about.warnings.extend(told.notes.iter().cloned());
    about.maybe("channel_names", (!told.names.is_empty()).then(|| told.names.clone()), told.by);
    let mut plan = match &told.listed {
        Some(listed) => by_list(files, listed, &told, asked, about)?,
        None => Grid::of(files, &told, pages)?.plan(files, asked, told.by, about)?,
    };
    plan.rate_hz = told.rate_hz;
    Ok(plan)
}

/// Files that are cut: told, or refused. Only the last one may be, because what follows a hole would be shifted.
fn cuts(files: &[Seen], asked: &Asked, about: &mut About) -> Result<(), Refusal> {
    for (at, file) in files.iter().enumerate() {
        let Some(cut) = &file.cut else { continue };
        if asked.strict {
            return Err((
                file.path.clone(),
                format!("{cut}; without --strict its {} whole pages are read", file.pages),
            ));
        }
        if at + 1 < files.len() {
            let next = file_name(&files[at + 1].path);
            let cause = format!(
                "{cut}, and {next} follows it: name the files up to this one, or those behind it, by themselves"
            );
            return Err((file.path.clone(), cause));
        }
        about.warn(format!("{}: {cut}; its {} whole pages are read", file_name(&file.path), file.pages));
    }
    Ok(())
}

/// The size that the user left out. As many whole times as fit, where time is the slowest; otherwise all pages must be used.
fn with_open_size(mut told: Told, pages: usize) -> Result<Told, String> {
    let known: usize = told.axes.iter().filter_map(|(_, size)| *size).product();
    let times_follow = told.times().is_none() && told.time_is_slowest();
    if let Some((_, size)) = told.axes.iter_mut().find(|(_, size)| size.is_none() && !times_follow) {
        *size = Some(pages / known);
    }
    let needed = told.needed();
    if needed.is_none_or(|needed| needed > pages || needed == 0) {
        return Err(format!("--axes says {}, but there are {pages} pages", told.sizes()));
    }
    Ok(told)
}

/// The one description of all files, if they have any.
fn agreed(files: &[Seen]) -> Result<Option<Told>, Refusal> {
    for file in files {
        let mut all = file.told.iter();
        let Some(first) = all.next() else { continue };
        if let Some(other) = all.find(|other| !is_like(first, other)) {
            let cause =
                format!("{} says {}, but {} says {}; {SAY_AXES}", first.by, first.sizes(), other.by, other.sizes());
            return Err((file.path.clone(), cause));
        }
    }
    let head = &files[0];
    let Some(first) = head.told.first() else {
        return match files.iter().find(|file| !file.told.is_empty()) {
            None => Ok(None),
            Some(other) => Err((
                other.path.clone(),
                format!(
                    "{} says {}, but {} before it has no description; {SAY_AXES}",
                    other.told[0].by,
                    other.told[0].sizes(),
                    file_name(&head.path)
                ),
            )),
        };
    };
    for file in &files[1..] {
        let Some(other) = file.told.first() else {
            return Err((
                file.path.clone(),
                format!(
                    "has no description, but {} says {} for {}; {SAY_AXES}",
                    first.by,
                    first.sizes(),
                    file_name(&head.path)
                ),
            ));
        };
        if !is_like(first, other)
            || first.by != other.by
            || first.repeats != other.repeats
            || first.skipped != other.skipped
        {
            return Err((
                file.path.clone(),
                format!(
                    "{} says {}, but that of {} says {}: they are not one recording; {SAY_AXES}",
                    other.by,
                    other.sizes(),
                    file_name(&head.path),
                    first.sizes()
                ),
            ));
        }
    }
    let mut told = first.clone();
    if told.by == super::scanimage::BY {
        told.notes.extend(super::scanimage::check_numbers(files, first)?);
    }
    Ok(Some(told))
}

/// Do two texts name the same channels and planes? A text that knows one axis only may call times planes.
fn is_like(a: &Told, b: &Told) -> bool {
    a.size(Letter::C) == b.size(Letter::C) && a.size(Letter::Z) == b.size(Letter::Z)
}
