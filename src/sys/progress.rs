//! Progress of offline work, for whoever watches a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The form of a bar of frames.
pub const FRAMES: &str = "{bar:40} {pos}/{len} frames, {per_sec}, {eta} left";

/// A bar of this form, on standard error if `shown`; `total` is `None` where it is not known.
pub fn progress_bar(total: Option<u64>, shown: bool, form: &str) -> ProgressBar {
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total, target);
    bar.with_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
