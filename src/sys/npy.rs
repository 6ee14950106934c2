//! The head of NumPy's `.npy`, as it is written.
//!
//! No crate: the ones there are bring a parser of Python literals, 13 packages, for these few lines.

use std::io::Write;

/// Bytes before the first value, for every array; numpy asks for a multiple of 64.
pub const HEADER_BYTES: usize = 128;

/// The head of a version 1.0 file in C order. `item` is NumPy's word for the type (`<f4`); one or two axes. Its length does not
/// depend on the shape, so that the count of rows can be put right when they are written.
pub fn header(item: &str, shape: &[u64]) -> [u8; HEADER_BYTES] {
    debug_assert!(item.len() == 3 && (1..=2).contains(&shape.len()));
    let mut bytes = [b' '; HEADER_BYTES];
    bytes[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    bytes[8..10].copy_from_slice(&((HEADER_BYTES - 10) as u16).to_le_bytes());
    let axes: Vec<String> = shape.iter().map(u64::to_string).collect();
    // Python writes a tuple of one with a comma.
    let comma = if axes.len() == 1 { "," } else { "" };
    let axes = axes.join(", ");
    let mut text = &mut bytes[10..HEADER_BYTES - 1];
    // 20 digits for each number at most: 117 bytes hold it.
    let _ = write!(text, "{{'descr': '{item}', 'fortran_order': False, 'shape': ({axes}{comma}), }}");
    bytes[HEADER_BYTES - 1] = b'\n';
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_those_that_numpy_writes_of_a_vector_and_a_matrix() {
        let text = |bytes: [u8; HEADER_BYTES]| String::from_utf8(bytes[10..].to_vec()).unwrap();
        let vector = "{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }";
        assert_eq!(text(header("<i8", &[7])), format!("{vector:<117}\n"));
        let matrix = "{'descr': '<f4', 'fortran_order': False, 'shape': (7, 64), }";
        assert_eq!(text(header("<f4", &[7, 64])), format!("{matrix:<117}\n"));
        assert_eq!(header("<f4", &[0, 1])[..10], *b"\x93NUMPY\x01\x00\x76\x00");
    }

    #[test]
    fn the_head_has_room_for_the_largest_numbers() {
        let bytes = header("<f4", &[u64::MAX, u64::MAX]);
        assert!(bytes.windows(5).any(|window| window == b"), } "), "{}", bytes.escape_ascii());
    }
}
