//! The lock-free lane between two threads: preallocated slots that go round, filled one way, empty the other.
//!
//! Why it exists: a frame of half a megabyte must change threads without being copied, without a lock and without the
//! allocator. The slots are boxed once; what travels through the two single-producer single-consumer rings is the box (a
//! pointer, so no frame moves and no `unsafe` is needed to own it). What it must never do: wait. An end that finds nothing
//! to do is told so, and the caller decides how to idle. Dropping one end closes the lane for the other.
//!
//! A ring whose two ends belong to different threads cannot take its oldest entry back, so a lane that evicts keeps its
//! filled slots in crossbeam's `ArrayQueue` instead (`force_push`), at some 30 ns more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

/// What a producer meets when as many slots wait as the lane is deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest waiting slot comes back to be filled anew.
    EvictOldest,
    /// There is no slot until the consumer has taken one.
    Refuse,
}

/// What the lane wakes; `None` where nothing sleeps.
#[derive(Clone, Default)]
pub struct Bells {
    /// Rung when a slot was sent, or the producer is gone.
    pub filled: Option<Unparker>,
    /// Rung when a slot was given back, or the consumer is gone.
    pub freed: Option<Unparker>,
}

/// Slots beyond the depth: one in each hand, and one on its way from one to the other.
const SLOTS_IN_HAND: usize = 3;

/// Makes a lane on which `depth` slots can wait; `new_slot` is called `depth + 3` times, now, and never again.
///
/// A depth of zero is taken as one.
pub fn lane<T: Send>(
    depth: usize,
    when_full: WhenFull,
    bells: Bells,
    mut new_slot: impl FnMut() -> T,
) -> (Producer<T>, Consumer<T>) {
    let depth = depth.max(1);
    let slots = depth + SLOTS_IN_HAND;
    let (mut freed_in, freed_out) = HeapRb::new(slots).split();
    (0..slots).for_each(|_| drop(freed_in.try_push(Box::new(new_slot()))));
    let (filled_in, filled_out) = match when_full {
        WhenFull::EvictOldest => {
            let queue = Arc::new(ArrayQueue::new(depth));
            (FilledIn::Evicting(queue.clone()), FilledOut::Evicting(queue))
        }
        WhenFull::Refuse => {
            let (into, out) = HeapRb::new(depth).split();
            (FilledIn::Ring(into), FilledOut::Ring(out))
        }
    };
    let closed = Arc::new(AtomicBool::new(false));
    let producer =
        Producer { filled: filled_in, freed: freed_out, hand: None, closed: closed.clone(), bell: bells.filled };
    let consumer = Consumer { filled: filled_out, freed: freed_in, hand: None, closed, bell: bells.freed };
    (producer, consumer)
}

enum FilledIn<T> {
    Ring(HeapProd<Box<T>>),
    Evicting(Arc<ArrayQueue<Box<T>>>),
}

enum FilledOut<T> {
    Ring(HeapCons<Box<T>>),
    Evicting(Arc<ArrayQueue<Box<T>>>),
}

impl<T> FilledOut<T> {
    fn pop(&mut self) -> Option<Box<T>> {
        match self {
            Self::Ring(ring) => ring.try_pop(),
            Self::Evicting(queue) => queue.pop(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.occupied_len(),
            Self::Evicting(queue) => queue.len(),
        }
    }
}

/// The end that fills slots.
pub struct Producer<T> {
    filled: FilledIn<T>,
    freed: HeapCons<Box<T>>,
    hand: Option<Box<T>>,
    closed: Arc<AtomicBool>,
    bell: Option<Unparker>,
}

impl<T> Producer<T> {
    /// The slot to fill next, or `None` while a [`WhenFull::Refuse`] lane is full. It keeps what it held when it was sent
    /// before: fill it whole. Calling again without [`Producer::send`] gives the same slot.
    pub fn slot(&mut self) -> Option<&mut T> {
        if let FilledIn::Ring(ring) = &self.filled
            && ring.is_full()
        {
            return None;
        }
        if self.hand.is_none() {
            self.hand = self.freed.try_pop();
        }
        self.hand.as_deref_mut()
    }

    /// Sends the slot that [`Producer::slot`] gave. True if an older one was evicted for it.
    pub fn send(&mut self) -> bool {
        let Some(slot) = self.hand.take() else { return false };
        match &mut self.filled {
            // `slot` saw room, and only this end fills it.
            FilledIn::Ring(ring) => self.hand = ring.try_push(slot).err(),
            FilledIn::Evicting(queue) => self.hand = queue.force_push(slot),
        }
        self.ring();
        self.hand.is_some()
    }

    /// Wakes the consumer before there is anything to read, so that it is awake when there is.
    pub fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.unpark();
        }
    }

    /// The consumer is gone: nothing sent will ever be read.
    pub fn is_closed(&self) -> bool {
        // Pairs with the Release in Consumer::drop.
        self.closed.load(Ordering::Acquire)
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // Pairs with the Acquire in Consumer::oldest: everything sent before is seen before the end is.
        self.closed.store(true, Ordering::Release);
        self.ring();
    }
}

/// What a consumer finds.
#[derive(Debug)]
pub enum Received<'a, T> {
    /// A slot. It is the caller's until the next call.
    Slot(&'a mut T),
    /// Nothing now.
    Empty,
    /// Nothing now and never again.
    Closed,
}

/// The end that reads slots.
pub struct Consumer<T> {
    filled: FilledOut<T>,
    freed: HeapProd<Box<T>>,
    hand: Option<Box<T>>,
    closed: Arc<AtomicBool>,
    bell: Option<Unparker>,
}

impl<T> Consumer<T> {
    /// The oldest waiting slot. Gives the one before back.
    pub fn oldest(&mut self) -> Received<'_, T> {
        if let Some(slot) = self.hand.take() {
            self.give_back(slot);
        }
        // Read before the ring: a producer that closed after its last send must not hide that send.
        // Pairs with the Release in Producer::drop.
        let closed = self.closed.load(Ordering::Acquire);
        match self.filled.pop() {
            Some(slot) => Received::Slot(self.hand.insert(slot)),
            None if closed => Received::Closed,
            None => Received::Empty,
        }
    }

    /// Slots that wait now.
    pub fn waiting(&self) -> usize {
        self.filled.len()
    }

    /// Gives the oldest `count` waiting slots back unread.
    pub fn skip(&mut self, count: usize) {
        for _ in 0..count {
            let Some(slot) = self.filled.pop() else { return };
            self.give_back(slot);
        }
    }

    /// Takes the slot that was received last out of the lane for good; `spare` goes round in its place. Gives `spare` back
    /// when there is none in hand.
    ///
    /// # Errors
    /// `spare`.
    pub fn exchange(&mut self, spare: Box<T>) -> Result<Box<T>, Box<T>> {
        match &mut self.hand {
            Some(hand) => Ok(std::mem::replace(hand, spare)),
            None => Err(spare),
        }
    }

    fn give_back(&mut self, slot: Box<T>) {
        // The ring of free slots holds all slots there are, so there is always room.
        drop(self.freed.try_push(slot));
        if let Some(bell) = &self.bell {
            bell.unpark();
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // Pairs with the Acquire in Producer::is_closed.
        self.closed.store(true, Ordering::Release);
        if let Some(bell) = &self.bell {
            bell.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(lane: &mut Producer<u64>, value: u64) -> bool {
        *lane.slot().expect("a slot") = value;
        lane.send()
    }

    fn take(received: Received<'_, u64>) -> Option<u64> {
        match received {
            Received::Slot(value) => Some(*value),
            _ => None,
        }
    }

    #[test]
    fn slots_arrive_in_order_and_come_back() {
        for when_full in [WhenFull::EvictOldest, WhenFull::Refuse] {
            let (mut into, mut out) = lane(4, when_full, Bells::default(), || 0);
            for value in 0..1000 {
                assert!(!send(&mut into, value));
                assert_eq!(take(out.oldest()), Some(value));
            }
            assert!(matches!(out.oldest(), Received::Empty));
        }
    }

    #[test]
    fn an_evicting_lane_keeps_the_newest_and_says_what_it_took_back() {
        let (mut into, mut out) = lane(3, WhenFull::EvictOldest, Bells::default(), || 0);
        let evicted: Vec<bool> = (1..=7).map(|value| send(&mut into, value)).collect();
        assert_eq!(evicted, [false, false, false, true, true, true, true]);
        assert_eq!(take(out.oldest()), Some(5));
        assert_eq!(out.waiting(), 2);
        out.skip(1);
        assert_eq!((take(out.oldest()), out.waiting()), (Some(7), 0));
        out.skip(1);
        for value in 8..=20 {
            send(&mut into, value);
        }
        assert_eq!(out.waiting(), 3, "every slot skipped goes round again");
    }

    #[test]
    fn a_refusing_lane_gives_no_slot_until_one_was_taken() {
        let (mut into, mut out) = lane(2, WhenFull::Refuse, Bells::default(), || 0);
        assert!(!send(&mut into, 1) && !send(&mut into, 2));
        assert!(into.slot().is_none());
        assert_eq!(take(out.oldest()), Some(1));
        assert!(into.slot().is_some());
    }

    #[test]
    fn what_was_sent_before_the_producer_went_is_still_read_and_then_the_lane_is_closed() {
        let (mut into, mut out) = lane(4, WhenFull::Refuse, Bells::default(), || 0);
        send(&mut into, 7);
        drop(into);
        assert_eq!(take(out.oldest()), Some(7));
        assert!(matches!(out.oldest(), Received::Closed));
    }

    #[test]
    fn a_slot_that_is_exchanged_leaves_and_its_spare_goes_round() {
        let (mut into, mut out) = lane(1, WhenFull::Refuse, Bells::default(), || 0);
        assert_eq!(out.exchange(Box::new(99)), Err(Box::new(99)), "nothing was received yet");
        for value in 1..100 {
            send(&mut into, value);
            assert_eq!(take(out.oldest()), Some(value));
            assert_eq!(out.exchange(Box::new(1000 + value)), Ok(Box::new(value)));
        }
        assert!(matches!(out.oldest(), Received::Empty));
        assert!(*into.slot().expect("a slot") > 1000, "only spares are left");
    }

    #[test]
    fn a_producer_learns_that_its_consumer_went() {
        let (into, out) = lane(1, WhenFull::Refuse, Bells::default(), || 0);
        assert!(!into.is_closed());
        drop(out);
        assert!(into.is_closed());
    }

    #[test]
    fn two_threads_lose_nothing_on_a_refusing_lane_and_invent_nothing_on_an_evicting_one() {
        for when_full in [WhenFull::EvictOldest, WhenFull::Refuse] {
            let (mut into, mut out) = lane(3, when_full, Bells::default(), || 0);
            let sender = std::thread::spawn(move || {
                let mut evicted = 0u64;
                for value in 1..=100_000u64 {
                    while into.slot().is_none() {
                        std::thread::yield_now();
                    }
                    evicted += u64::from(send(&mut into, value));
                }
                evicted
            });
            let (mut read, mut last) = (0u64, 0u64);
            loop {
                match out.oldest() {
                    Received::Slot(value) => {
                        assert!(*value > last, "{value} after {last}");
                        last = *value;
                        read += 1;
                    }
                    Received::Empty => std::thread::yield_now(),
                    Received::Closed => break,
                }
            }
            let evicted = sender.join().expect("sender");
            assert_eq!((read + evicted, last), (100_000, 100_000));
            assert!(when_full == WhenFull::EvictOldest || evicted == 0);
        }
    }
}
