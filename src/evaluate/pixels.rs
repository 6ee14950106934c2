//! Down-sampled frames: the input of the linear rivals, and of the domain gap in pixels.
//!
//! Why it exists: the simplest decoder belongs in the table, and 128×128 pixels are too many for it. What it must never do:
//! sample single pixels instead of taking means; noise would pass for a difference.

use crate::frame::Shape;

/// Side of the down-sampled frames of `linear`.
pub const LINEAR_SIDE: usize = 8;
/// Number of time bins of a window for `linear`.
pub const LINEAR_BINS: usize = 4;
/// Side of the down-sampled frames of `lda`.
pub const LDA_SIDE: usize = 16;
/// Frames of the time bins of `lda`, newest first, of a window of as many frames as they sum to: what happened just now tells more.
pub const LDA_BINS: [usize; 6] = [2, 2, 4, 5, 8, 11];

/// Area mean of each channel of `frame` (C×H×W) on a grid of `side`×`side`; pixels across an edge count by their share. Sides
/// of the frame that are shorter than `side` stay as they are. Returns C × min(H, side) × min(W, side) values.
///
/// # Panics
/// When `frame` has not as many values as `shape` says, or a side is 0.
pub fn downsample(frame: &[f32], shape: Shape, side: usize) -> Vec<f32> {
    assert_eq!(frame.len(), shape.channels * shape.height * shape.width, "the frame is not of this shape");
    let (rows, columns) = (Weights::new(shape.height, side), Weights::new(shape.width, side));
    let mut small = Vec::with_capacity(shape.channels * rows.of_cell.len() * columns.of_cell.len());
    for channel in frame.chunks_exact(shape.height * shape.width) {
        for row in &rows.of_cell {
            for column in &columns.of_cell {
                let of_row = |y: usize| -> f64 {
                    let line = &channel[y * shape.width..(y + 1) * shape.width];
                    column.iter().map(|&(x, weight)| weight * f64::from(line[x])).sum()
                };
                small.push(row.iter().map(|&(y, weight)| weight * of_row(y)).sum::<f64>() as f32);
            }
        }
    }
    small
}

/// Features of a window of frames, oldest first, for `linear`: `bins` time bins of about equal length, in each the mean of its
/// frames, down-sampled to `side`×`side`. In the order of time, then channel, row, column. A window of fewer frames than bins
/// repeats frames.
///
/// # Panics
/// As [`downsample`], and when the window has no frame or `bins` is 0.
pub fn window_features(window: &[&[f32]], shape: Shape, side: usize, bins: usize) -> Vec<f32> {
    let small: Vec<Vec<f32>> = window.iter().map(|frame| downsample(frame, shape, side)).collect();
    let small: Vec<&[f32]> = small.iter().map(Vec::as_slice).collect();
    features_of_small(&small, bins)
}

/// [`window_features`] of frames that are already down-sampled: windows overlap, so each frame is down-sampled once.
///
/// # Panics
/// When the window has no frame or `bins` is 0.
pub fn features_of_small(window: &[&[f32]], bins: usize) -> Vec<f32> {
    assert!(!window.is_empty() && bins > 0, "a window needs a frame and a bin");
    let mut features = Vec::with_capacity(bins * window[0].len());
    for bin in 0..bins {
        let first = bin * window.len() / bins;
        let last = ((bin + 1) * window.len() / bins).max(first + 1);
        let frames = &window[first..last];
        let mean = |pixel: usize| frames.iter().map(|frame| f64::from(frame[pixel])).sum::<f64>() / frames.len() as f64;
        features.extend((0..window[0].len()).map(|pixel| mean(pixel) as f32));
    }
    features
}

/// Frames of the bins of a window of `frames` frames, newest first: [`LDA_BINS`] in proportion. A window of few frames has fewer
/// bins.
pub fn recent_bins(frames: usize) -> Vec<usize> {
    let whole: usize = LDA_BINS.iter().sum();
    let (mut bins, mut sum, mut used) = (Vec::new(), 0, 0);
    for bin in LDA_BINS {
        sum += bin;
        let end = (2 * sum * frames + whole) / (2 * whole);
        if end > used {
            bins.push(end - used);
            used = end;
        }
    }
    bins
}

/// As [`features_of_small`], with bins of the given numbers of frames, newest first, which sum to at most the window.
///
/// # Panics
/// When the window has fewer frames than the bins, or a bin has none.
pub fn features_of_bins(window: &[&[f32]], bins: &[usize]) -> Vec<f32> {
    let mut features = Vec::with_capacity(bins.len() * window[0].len());
    let mut end = window.len();
    for &bin in bins {
        let frames = &window[end - bin..end];
        end -= bin;
        let mean = |pixel: usize| frames.iter().map(|frame| f64::from(frame[pixel])).sum::<f64>() / bin as f64;
        features.extend((0..window[0].len()).map(|pixel| mean(pixel) as f32));
    }
    features
}

/// For each cell of an axis the pixels that it covers, and their shares.
struct Weights {
    of_cell: Vec<Vec<(usize, f64)>>,
}

impl Weights {
    fn new(length: usize, cells: usize) -> Self {
        assert!(length > 0 && cells > 0, "a side is 0");
        let cells = cells.min(length);
        let width = length as f64 / cells as f64;
        let of_cell = |cell: usize| {
            let (from, to) = (cell as f64 * width, (cell + 1) as f64 * width);
            let share = |pixel: usize| ((pixel + 1) as f64).min(to) - (pixel as f64).max(from);
            let pixels = (from as usize)..(to.ceil() as usize).min(length);
            pixels.map(|pixel| (pixel, share(pixel) / width)).filter(|&(_, share)| share > 1e-9).collect()
        };
        Self { of_cell: (0..cells).map(of_cell).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_the_mean_of_its_pixels() {
        let frame: Vec<f32> = (0..16).map(|v| v as f32).collect();
        assert_eq!(downsample(&frame, Shape::new(1, 4, 4), 2), [2.5, 4.5, 10.5, 12.5]);
        // Two channels of 1×2: nothing to shrink in height.
        assert_eq!(downsample(&[1.0, 3.0, 5.0, 9.0], Shape::new(2, 1, 2), 1), [2.0, 7.0]);
        assert_eq!(downsample(&[1.0, 3.0], Shape::new(1, 1, 2), 8), [1.0, 3.0]);
    }

    #[test]
    fn a_pixel_across_an_edge_counts_by_its_share() {
        // Three pixels in two cells of 1.5 pixels.
        let small = downsample(&[0.0, 3.0, 6.0], Shape::new(1, 1, 3), 2);
        assert_eq!(small, [1.0, 5.0]);
        let mean: f32 = downsample(&[1.0; 35], Shape::new(1, 5, 7), 3).iter().sum::<f32>() / 9.0;
        assert!((mean - 1.0).abs() < 1e-6);
    }

    #[test]
    fn bins_that_grow_with_age_cover_the_window_once() {
        assert_eq!(recent_bins(32), LDA_BINS);
        assert_eq!(recent_bins(64), LDA_BINS.map(|bin| 2 * bin));
        for frames in 1..70 {
            assert_eq!(recent_bins(frames).iter().sum::<usize>(), frames);
        }
        assert_eq!(recent_bins(3), [1, 1, 1]);
        let frames: Vec<[f32; 1]> = (0..6).map(|t| [t as f32]).collect();
        let window: Vec<&[f32]> = frames.iter().map(|f| f.as_slice()).collect();
        assert_eq!(features_of_bins(&window, &[1, 2, 3]), [5.0, 3.5, 1.0]);
    }

    #[test]
    fn a_window_is_averaged_in_bins_of_time() {
        let frames: Vec<[f32; 4]> = (0..8).map(|t| [t as f32; 4]).collect();
        let window: Vec<&[f32]> = frames.iter().map(|f| f.as_slice()).collect();
        let features = window_features(&window, Shape::new(1, 2, 2), 1, 4);
        assert_eq!(features, [0.5, 2.5, 4.5, 6.5]);
        assert_eq!(window_features(&window[..2], Shape::new(1, 2, 2), 1, 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(window_features(&window[..5], Shape::new(1, 2, 2), 1, 2), [0.5, 3.0]);
    }
}
