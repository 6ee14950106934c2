//! Is an HDF5 file complete?
//!
//! Why it exists: an interrupted download or copy often lacks only the end of the file, and then opens and reads as if nothing were
//! missing; the superblock gives the true length. What it must never do: judge a file whose superblock it does not know; that is left
//! to the reader.

use std::io::Read;
use std::path::Path;

use super::find::SIGNATURE;

/// Bytes of the superblock that are read.
const HEAD_BYTES: usize = 52;

/// Compares the declared length of the file with its actual length.
///
/// # Errors
/// A file that is shorter than declared.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let mut file = std::fs::File::open(path).map_err(|cause| cause.to_string())?;
    let length = file.metadata().map_err(|cause| cause.to_string())?.len();
    let mut head = [0; HEAD_BYTES];
    // A file without a superblock at its start is left to the reader.
    if file.read_exact(&mut head).is_err() {
        return Ok(());
    }
    match declared_length(&head) {
        Some(end) if end > length => Err(format!(
            "is {length} bytes long but should have {end}: it was cut off (an interrupted download or copy?); fetch it again"
        )),
        _ => Ok(()),
    }
}

/// The end of the file according to its superblock, if that is of a known version and at the start of the file (HDF5
/// specification, II.A).
fn declared_length(head: &[u8; HEAD_BYTES]) -> Option<u64> {
    let (sizes, base, end) = match head[8] {
        0 => (13, 24, 40),
        1 => (13, 28, 44),
        2 | 3 => (9, 12, 28),
        _ => return None,
    };
    let number = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    (head[..8] == SIGNATURE && head[sizes] == 8).then(|| number(base)?.checked_add(number(end)?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_says_where_its_file_ends() {
        for (version, sizes, end) in [(0, 13, 40), (1, 13, 44), (2, 9, 28), (3, 9, 28)] {
            let mut head = [0; HEAD_BYTES];
            head[..8].copy_from_slice(&SIGNATURE);
            (head[8], head[sizes]) = (version, 8);
            head[end..end + 8].copy_from_slice(&1_000_000_u64.to_le_bytes());
            assert_eq!(declared_length(&head), Some(1_000_000), "version {version}");
            head[0] = 0;
            assert_eq!(declared_length(&head), None);
        }
    }
}
