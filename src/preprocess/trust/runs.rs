//! Which pixels of a plane are read to judge it.
//!
//! Why it exists: a frame is judged in microseconds, so only a part of a large one is read. What it must never do: leave out a line or a
//! block.

/// Most blocks along an axis.
const BLOCKS_MAX: usize = 16;
/// Smallest side of a block, px.
const BLOCK_PX_MIN: usize = 4;
/// Pixels read of a frame that has more of them.
const SAMPLES: usize = 1 << 15;
/// Pixels read in one go of a frame of which not all are read: a cache line of 16-bit pixels.
const RUN_PX: usize = 32;

/// Pixels read in one go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub at: usize,
    pub length: usize,
    /// Half of a block: 2 · block + half.
    pub cell: usize,
}

/// Rows and columns of blocks of a plane of `height` × `width` px.
pub(super) fn grid(size: [usize; 2]) -> [usize; 2] {
    size.map(|side| (side / BLOCK_PX_MIN).clamp(1, BLOCKS_MAX))
}

/// Which pixels are read: all of a small plane, of a large one some runs on every line.
pub(super) fn runs([height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<Run> {
    let edge = |index: usize, count: usize, side: usize| index * side / count;
    let all = height * width <= SAMPLES;
    let (length, every) = if all { (width.div_ceil(columns), 1) } else { thinned(height, width, columns) };
    let mut runs = Vec::new();
    for row in 0..rows {
        let (top, bottom) = (edge(row, rows, height), edge(row + 1, rows, height));
        for y in top..bottom {
            let half = usize::from(y - top >= (bottom - top) / 2);
            for column in (0..columns).filter(|column| (column + y) % every == 0) {
                let (left, right) = (edge(column, columns, width), edge(column + 1, columns, width));
                let length = length.min(right - left);
                // Takes turns within the block as well.
                let x = left + y * length % (right - left - length + 1);
                runs.push(Run { at: y * width + x, length, cell: 2 * (row * columns + column) + half });
            }
        }
    }
    runs
}

/// How long a run is, and of how many columns one is read on a line: no line is left out, and the whole takes about as long.
fn thinned(height: usize, width: usize, columns: usize) -> (usize, usize) {
    let length = RUN_PX.min(width / columns);
    let every = (height * columns * length).div_ceil(SAMPLES).clamp(1, columns);
    (length.min((SAMPLES * every / (height * columns)).max(BLOCK_PX_MIN)), every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_every_block_is_read_and_no_pixel_lies_outside() {
        for (height, width) in [(8, 8), (33, 47), (64, 64), (512, 512), (128, 4096), (4096, 1024), (16, 3000)] {
            let [rows, columns] = grid([height, width]);
            let runs = runs([height, width], [rows, columns]);
            let pixels: usize = runs.iter().map(|run| run.length).sum();
            assert!(pixels <= 2 * SAMPLES, "{height}×{width}: {pixels}");
            let mut lines = vec![false; height];
            let mut cells = vec![0; 2 * rows * columns];
            for run in &runs {
                assert!(run.at % width + run.length <= width, "{run:?}");
                lines[run.at / width] = true;
                cells[run.cell] += run.length;
            }
            assert!(lines.iter().all(|line| *line), "{height}×{width}: a line is left out");
            assert!(cells.iter().all(|pixels| *pixels >= 4), "{height}×{width}: {cells:?}");
        }
    }
}
