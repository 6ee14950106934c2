//! Colours of groups (actions, animals), the same in every plot of a report and on the page of the monitor.
//!
//! Why it exists: whoever has seen walking in blue on the page looks for it in blue in the report. What it must never do: give two of
//! the first eight groups colours that a colour-blind person cannot tell apart, or one that is lost on white or on the page's dark panels.

/// Red, green, blue. Found by a search for the largest smallest distance (in CIELAB, seen with no, red, green and blue deficiency),
/// each with a contrast of 3 or more to white and to [`DARK_PANEL`]. Further groups repeat them with another [`shape`].
pub const COLOURS: [[u8; 3]; 8] = [
    [0, 80, 239],
    [228, 116, 0],
    [4, 110, 80],
    [189, 130, 158],
    [188, 34, 13],
    [52, 156, 224],
    [119, 81, 142],
    [130, 144, 82],
];
/// Ground of the page's panels unless it is day or night.
pub const DARK_PANEL: [u8; 3] = [14, 17, 21];
/// Groups that differ from each other in colour or shape.
pub const GROUPS: usize = 3 * COLOURS.len();

/// The mark of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkShape {
    /// The first eight.
    Disc,
    /// The second eight.
    Diamond,
    /// The third eight.
    Square,
}

/// Colour of group `index`.
pub const fn colour(index: usize) -> [u8; 3] {
    COLOURS[index % COLOURS.len()]
}

/// Mark of group `index`.
pub const fn shape(index: usize) -> MarkShape {
    match (index / COLOURS.len()) % 3 {
        0 => MarkShape::Disc,
        1 => MarkShape::Diamond,
        _ => MarkShape::Square,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen by people without one kind of cone: the matrices of Machado, Oliveira & Fernandes (2009), severity 1, on linear light.
    const SEEN: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
    ];
    const TO_XYZ: [[f64; 3]; 3] = [
        [0.412_456_4, 0.357_576_1, 0.180_437_5],
        [0.212_672_9, 0.715_152_2, 0.072_175_0],
        [0.019_333_9, 0.119_192_0, 0.950_304_1],
    ];

    fn linear(colour: [u8; 3]) -> [f64; 3] {
        colour.map(|byte| {
            let v = f64::from(byte) / 255.0;
            if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn times(matrix: &[[f64; 3]; 3], of: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(of).map(|(m, v)| m * v).sum())
    }

    /// CIELAB of linear light, white D65.
    fn lab(light: [f64; 3]) -> [f64; 3] {
        let xyz = times(&TO_XYZ, light.map(|v| v.clamp(0.0, 1.0)));
        let [x, y, z] = [xyz[0] / 0.950_47, xyz[1], xyz[2] / 1.088_83]
            .map(|t| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 });
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// As WCAG defines it.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let [a, b] = [a, b].map(|colour| times(&TO_XYZ, linear(colour))[1] + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn the_first_eight_are_told_apart_by_the_colour_blind_too() {
        for matrix in &SEEN {
            let seen = COLOURS.map(|colour| lab(times(matrix, linear(colour))));
            for (i, a) in seen.iter().enumerate() {
                for (j, b) in seen.iter().enumerate().skip(i + 1) {
                    let apart = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    assert!(apart > 20.0, "{i} and {j} are {apart:.1} apart");
                }
            }
        }
    }

    #[test]
    fn each_is_seen_on_white_and_on_dark() {
        for colour in COLOURS {
            for ground in [[255; 3], DARK_PANEL] {
                assert!(contrast(colour, ground) >= 3.0, "{colour:?} on {ground:?}: {:.2}", contrast(colour, ground));
            }
        }
    }

    #[test]
    fn no_two_of_all_groups_share_colour_and_shape() {
        let all: Vec<_> = (0..GROUPS).map(|group| (colour(group), shape(group))).collect();
        assert!((1..GROUPS).all(|group| !all[..group].contains(&all[group])));
    }
}
