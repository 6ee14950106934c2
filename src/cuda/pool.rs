//! Memory that was given back and waits to be taken again.
//!
//! Why it exists: taking memory from the driver and giving it back stops the device for everybody. What it must never do: give the same
//! memory to two owners, or far more of it than was asked for.

use std::collections::{BTreeMap, HashMap};

/// Blocks of memory by address, each either lent or free.
#[derive(Default)]
pub(super) struct Pool {
    lent: HashMap<u64, usize>,
    /// Addresses by size, bytes.
    free: BTreeMap<usize, Vec<u64>>,
}

impl Pool {
    /// The smallest free block of at least `bytes` and at most twice that; it is lent from now on.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        let size = *self.free.range(bytes..=bytes.saturating_mul(2)).next()?.0;
        let addresses = self.free.get_mut(&size)?;
        let address = addresses.pop()?;
        if addresses.is_empty() {
            self.free.remove(&size);
        }
        self.lent.insert(address, size);
        Some(address)
    }

    /// A new block, lent.
    pub(super) fn lend(&mut self, address: u64, bytes: usize) {
        self.lent.insert(address, bytes);
    }

    /// A lent block is free; another is none of ours.
    pub(super) fn give_back(&mut self, address: u64) {
        if let Some(bytes) = self.lent.remove(&address) {
            self.free.entry(bytes).or_default().push(address);
        }
    }

    /// Moves a free block of `other` here, where it is lent.
    pub(super) fn take_from(&mut self, other: &mut Self, bytes: usize) -> Option<u64> {
        let address = other.take(bytes)?;
        let size = other.lent.remove(&address)?;
        self.lent.insert(address, size);
        Some(address)
    }

    /// Takes over all free blocks of `other`.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        for (bytes, mut addresses) in std::mem::take(&mut other.free) {
            self.free.entry(bytes).or_default().append(&mut addresses);
        }
    }

    /// All free blocks, for the driver.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> + use<> {
        std::mem::take(&mut self.free).into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_one_owner_and_is_at_most_twice_what_was_asked_for() {
        let mut pool = Pool::default();
        for (address, bytes) in [(0x100, 64), (0x200, 100), (0x300, 1000)] {
            pool.lend(address, bytes);
            pool.give_back(address);
        }
        assert_eq!(pool.take(70), Some(0x200));
        assert_eq!(pool.take(70), None);
        assert_eq!((pool.take(64), pool.take(499)), (Some(0x100), None));
        pool.give_back(0x200);
        // Not ours, and not twice.
        pool.give_back(0x200);
        pool.give_back(0x999);
        let mut other = Pool::default();
        assert_eq!(other.take_from(&mut pool, 100), Some(0x200));
        assert_eq!(pool.take(100), None);
        other.give_back(0x200);
        pool.absorb(&mut other);
        let mut left: Vec<u64> = pool.drain().collect();
        left.sort_unstable();
        assert_eq!((left, pool.take(1)), (vec![0x200, 0x300], None));
    }
}
