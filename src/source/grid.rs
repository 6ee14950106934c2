//! Pages in a regular order: axes that vary one inside the other.
//!
//! Why it exists: every text but a list of pages gives sizes and an order, and one place turns those into the page of a frame.
//! What it must never do: reach a page by sizes that the number of pages contradicts.

use super::about::{About, file_name};
use super::axes::{Asked, Letter, Place, Plan, Refusal, SAY_AXES, Seen, Told};
use super::recording::{Axis, choose_plane};
use super::scanimage::jumping_numbers;

/// Pages in a regular order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grid {
    channels: Axis,
    slices: Axis,
    /// Frames of a slice before the next slice.
    inner: Axis,
    /// The first page of every time.
    starts: Vec<usize>,
    /// Pages at the end of a volume that belong to no plane.
    skipped: usize,
    /// Pages at the end that make no whole frame or volume.
    left_over: usize,
    /// Pages of volumes that lack a frame.
    of_broken: usize,
}

impl Grid {
    /// Every page is a frame.
    pub fn plain(pages: usize) -> Self {
        let one = Axis::new(1, 1);
        let starts = (0..pages).collect();
        Self { channels: one, slices: one, inner: one, starts, skipped: 0, left_over: 0, of_broken: 0 }
    }

    /// The order that a text gives, checked against the pages of each file, or of all of them together.
    pub fn of(files: &[Seen], told: &Told, pages: usize) -> Result<Self, Refusal> {
        let refuse = |file: &Seen, cause: String| (file.path.clone(), format!("{cause}; {SAY_AXES}"));
        let covers_all = || told.needed() == Some(pages) && files.iter().all(|file| file.told.first() == Some(told));
        let cut = files.last().is_some_and(|file| file.cut.is_some());
        if let Some(numbers) = jumping_numbers(files, told) {
            return Self::by_numbers(told, &numbers, files[0].number_step).map_err(|cause| refuse(&files[0], cause));
        }
        if files.len() == 1 || told.whole || covers_all() {
            return Self::over(told, pages, cut).map_err(|cause| refuse(&files[0], cause));
        }
        if told.size(Letter::Z) > 1 && told.times() == Some(1) {
            let (n, by) = (told.size(Letter::Z), told.by);
            let cause = format!(
                "{by} says {n} planes and one time, and so does that of {} other file(s): movies that were saved as stacks, or one \
                 volume per file? Say --axes T for movies, --axes T,Z{n} with --plane for volumes",
                files.len() - 1
            );
            return Err((files[0].path.clone(), cause));
        }
        let (mut all, mut begin): (Option<Self>, usize) = (None, 0);
        for (at, file) in files.iter().enumerate() {
            let own = file.told.first().unwrap_or(told);
            let one = Self::over(own, file.pages, cut && at + 1 == files.len()).map_err(|cause| refuse(file, cause))?;
            let before = begin;
            begin += file.pages;
            let starts = one.starts.iter().map(|start| before + start);
            match &mut all {
                None => all = Some(one),
                Some(all) if (all.channels, all.slices) == (one.channels, one.slices) => {
                    all.starts.extend(starts);
                    all.left_over += one.left_over;
                }
                Some(_) => {
                    let first = file_name(&files[0].path);
                    return Err(refuse(file, format!("{} orders its pages otherwise than that of {first}", own.by)));
                }
            }
        }
        Ok(all.unwrap_or_else(|| Self::plain(pages)))
    }

    /// Volumes by the frame number of every page: those of which every frame is there.
    fn by_numbers(told: &Told, numbers: &[u64], step: u64) -> Result<Self, String> {
        let mut grid = Self::over(told, numbers.len(), false)?;
        let of_volume = told.needed().unwrap_or(1).max(1);
        let of_number = numbers.iter().take_while(|number| **number == numbers[0]).count().max(1);
        let frames = (of_volume / of_number).max(1) as u64;
        let place = |page: usize| (numbers[page] - numbers[0]) / step;
        let begins = |page: &usize| {
            let (own, last) = (place(*page), page + of_volume - 1);
            own % frames == 0
                && (*page == 0 || numbers[page - 1] != numbers[*page])
                && last < numbers.len()
                && place(last) == own + frames - 1
        };
        grid.starts = (0..numbers.len()).filter(begins).collect();
        if grid.starts.is_empty() {
            return Err(format!("{} says {}, but by their frame numbers no volume is whole", told.by, told.sizes()));
        }
        (grid.left_over, grid.of_broken) = (0, numbers.len() - grid.starts.len() * of_volume);
        Ok(grid)
    }

    /// One text over `pages` pages. With `cut` there may be fewer than it says.
    fn over(told: &Told, pages: usize, cut: bool) -> Result<Self, String> {
        let contradiction =
            |number: String| format!("{} says {}, {number}, but there are {pages} pages", told.by, told.sizes());
        let Some(needed) = told.needed() else { return Err(contradiction("more than can be counted".into())) };
        if let Some(images) = told.pages.filter(|images| *images != needed) {
            return Err(format!("{} says {}, {needed} pages, and also {images} images", told.by, told.sizes()));
        }
        let of_a_time = needed / told.times().unwrap_or(1).max(1);
        // A text that leaves the times open, and a file that was cut, have as many whole times as fit.
        let open = told.times().is_none() || cut && needed > pages && told.time_is_slowest();
        let times = if open { pages / of_a_time.max(1) } else { told.times().unwrap_or(1) };
        if times == 0 || of_a_time == 0 || !open && needed != pages {
            return Err(contradiction(format!("{needed} pages")));
        }
        let mut grid = Self { starts: Vec::new(), left_over: pages - times * of_a_time, ..Self::plain(0) };
        let mut step = 1;
        for (letter, count) in told.axes {
            match letter {
                Letter::C => {
                    let count = count.unwrap_or(1);
                    grid.channels = Axis::new(count, step);
                    step *= count;
                }
                Letter::Z => {
                    let count = count.unwrap_or(1);
                    grid.inner = Axis::new(told.repeats, step);
                    grid.slices = Axis::new(count, step * told.repeats);
                    grid.skipped = told.skipped * step;
                    step *= count * told.repeats + told.skipped;
                }
                Letter::T => {
                    grid.starts = (0..times).map(|time| time * step).collect();
                    step *= times;
                }
            }
        }
        Ok(grid)
    }

    /// The pages of the frames of the chosen plane.
    pub fn plan(&self, files: &[Seen], asked: &Asked, by: &str, mut about: About) -> Result<Plan, Refusal> {
        let refuse = |cause: String| (files[0].path.clone(), cause);
        let times = self.starts.len() * self.inner.count;
        // Judges whether a plane must be chosen; a stack without time is a movie along its depth.
        let walk = choose_plane(self.slices, Axis::new(times, 1), asked.plane)
            .map_err(|cause| refuse(format!("{cause} ({by})")))?;
        if self.of_broken > 0 {
            let text = format!(
                "{} page(s) of volumes that lack a frame are left out: the frame numbers jump, and tell which page is which plane",
                self.of_broken
            );
            if asked.strict {
                return Err(refuse(format!("{text}; --strict refuses that")));
            }
            about.warn(text);
        }
        if self.left_over > 0 {
            let what = if self.slices.count > 1 { "volume" } else { "frame of all channels" };
            let text = format!("{} page(s) at the end make no whole {what} and are left out", self.left_over);
            if asked.strict {
                return Err(refuse(format!("{text}; --strict refuses that")));
            }
            about.warn(text);
        }
        let along_depth = asked.plane.is_none() && self.slices.count > 1;
        let mut pages = Vec::with_capacity(walk.count);
        for start in &self.starts {
            let planes = if along_depth { 0..self.slices.count } else { plane_of(asked) };
            for plane in planes {
                let first = start + plane * self.slices.step;
                pages.extend((0..self.inner.count).map(|n| first + n * self.inner.step));
            }
        }
        let channels = self.channels;
        about.fact("pages", files.iter().map(|file| file.pages).sum::<usize>(), "counted");
        about.fact("channels", channels.count, by);
        about.fact("planes", self.slices.count, by);
        about.maybe("plane", asked.plane, "--plane");
        about.fact("times", times, by);
        if self.inner.count > 1 {
            about.fact("frames_per_slice", self.inner.count, by);
        }
        if self.skipped > 0 {
            about.fact("flyback_pages_per_volume", self.skipped, by);
        }
        let places = pages.iter().flat_map(|page| (0..channels.count).map(move |c| page + c * channels.step));
        let finder = Places::of(files);
        Ok(Plan {
            channels: channels.count,
            places: places.map(|page| finder.at(page)).collect(),
            rate_hz: None,
            about,
        })
    }
}

fn plane_of(asked: &Asked) -> std::ops::Range<usize> {
    let plane = asked.plane.unwrap_or(0) as usize;
    plane..plane + 1
}

/// Finds the file of a page of the whole recording.
struct Places {
    /// Pages up to the end of each file.
    ends: Vec<usize>,
}

impl Places {
    fn of(files: &[Seen]) -> Self {
        let mut sum = 0;
        let ends = files.iter().map(|file| {
            sum += file.pages;
            sum
        });
        Self { ends: ends.collect() }
    }

    fn at(&self, page: usize) -> Place {
        let file = self.ends.partition_point(|end| *end <= page);
        let before = file.checked_sub(1).map_or(0, |before| self.ends[before]);
        Place { file: file as u32, page: (page - before) as u32 }
    }
}
