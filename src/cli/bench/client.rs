//! A microscope and a stimulus controller in one: sends frames, waits for their decodes, measures the time between.
//!
//! Why it exists: latency is what lies between a publisher's time stamp and the receipt of the decode, over real
//! sockets, at the pace of a microscope. Paced sends are timed by their *intended* time, whether or not the sender was
//! late (no coordinated omission). What it must never do: share anything with the daemon but sockets.

use std::time::Duration;

use serde_json::Value;

use crate::frame::Shape;
use crate::sys::clock::now_ns;

/// How long to wait for the first decode: sockets need time to find each other.
pub const MEET_S: u64 = 30;
/// How long to wait for a decode before it counts as missing.
const MISSING_AFTER_MS: i64 = 1000;
/// The last part of a wait for a paced send is spun through.
const SPIN_NS: u64 = 1_500_000;

/// How frames are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// At this rate, Hz.
    Paced(f64),
    /// The next frame when the decode of the last one arrived.
    Closed,
    /// As fast as the sockets take them; a PUSH socket holds the sender back, so nothing is dropped.
    Flood,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the intended send to the receipt of the decode, sorted, ns.
    pub latency_ns: Vec<u64>,
    /// Frames sent.
    pub sent: usize,
    /// Decodes per second.
    pub fps: f64,
    /// How late the sender itself was, 99 %, ns: above a millisecond the machine is too busy to believe the tail.
    pub sender_lag_p99_ns: u64,
}

/// Both sockets, and what is known of every frame.
pub struct Client {
    out: zmq::Socket,
    inlet: zmq::Socket,
    frames: Vec<Vec<u8>>,
    /// Of a frame, every channel the same.
    shape: Shape,
    intended_ns: Vec<u64>,
    sent_ns: Vec<u64>,
    received_ns: Vec<u64>,
    answered: usize,
}

impl Client {
    /// Binds the frames' endpoint and subscribes to the decodes.
    ///
    /// # Errors
    /// When an endpoint cannot be used.
    pub fn open(frames_at: &str, decodes_at: &str, shape: Shape, frames: &[Vec<u16>]) -> Result<Self, zmq::Error> {
        let context = zmq::Context::new();
        let out = context.socket(zmq::PUSH)?;
        out.set_linger(0)?;
        out.set_sndhwm(8)?;
        out.bind(frames_at)?;
        let inlet = context.socket(zmq::SUB)?;
        inlet.set_rcvhwm(100_000)?;
        inlet.set_subscribe(b"decode/")?;
        inlet.connect(decodes_at)?;
        let bytes = |frame: &Vec<u16>| frame.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let frames = frames.iter().map(|frame| bytes(frame).repeat(shape.channels)).collect();
        let (intended_ns, sent_ns, received_ns) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { out, inlet, frames, shape, intended_ns, sent_ns, received_ns, answered: 0 })
    }

    fn send(&mut self, intended_ns: Option<u64>) -> Result<(), zmq::Error> {
        let number = self.sent_ns.len();
        let now = now_ns();
        self.sent_ns.push(now);
        self.intended_ns.push(intended_ns.unwrap_or(now));
        self.received_ns.push(0);
        let Shape { channels, height, width } = self.shape;
        let header = serde_json::json!({
            "dtype": "uint16", "shape": [channels, height, width], "frame": number, "timestamp_ns": now,
            "clock": "monotonic", "stamp": "end", "source": "bench",
        });
        self.out.send(header.to_string().as_bytes(), zmq::SNDMORE)?;
        self.out.send(&self.frames[number % self.frames.len()][..], 0)
    }

    /// Takes in every decode that is there, waiting at most `timeout_ms` for the first.
    fn receive(&mut self, mut timeout_ms: i64) -> Result<usize, zmq::Error> {
        let before = self.answered;
        while self.inlet.poll(zmq::POLLIN, timeout_ms)? > 0 {
            let parts = self.inlet.recv_multipart(0)?;
            let received = now_ns();
            timeout_ms = 0;
            let header: Value = parts.get(1).and_then(|part| serde_json::from_slice(part).ok()).unwrap_or_default();
            let answer = !matches!(header["quality"].as_str(), None | Some("stale" | "fail"));
            let number = header["frame"].as_u64().unwrap_or(u64::MAX) as usize;
            if answer && let Some(slot) = self.received_ns.get_mut(number).filter(|slot| **slot == 0) {
                *slot = received;
                self.answered += 1;
            }
        }
        Ok(self.answered - before)
    }

    /// Sends slowly until the first decode comes.
    ///
    /// # Errors
    /// [`zmq::Error::EAGAIN`] when none comes.
    pub fn meet(&mut self) -> Result<(), zmq::Error> {
        let give_up_ns = now_ns() + MEET_S * 1_000_000_000;
        while self.answered == 0 {
            if now_ns() > give_up_ns {
                return Err(zmq::Error::EAGAIN);
            }
            self.send(None)?;
            self.receive(100)?;
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<(), zmq::Error> {
        while self.answered < self.sent_ns.len() && self.receive(MISSING_AFTER_MS)? > 0 {}
        Ok(())
    }

    /// Sends `warm` frames that are not measured and then `count` that are.
    ///
    /// # Errors
    /// Whatever ZeroMQ says.
    pub fn measure(&mut self, mode: Mode, warm: usize, count: usize) -> Result<Measured, zmq::Error> {
        self.send_all(mode, warm)?;
        let (first, began) = (self.sent_ns.len(), now_ns());
        self.send_all(mode, count)?;
        let (intended, sent, received) =
            (&self.intended_ns[first..], &self.sent_ns[first..], &self.received_ns[first..]);
        let pairs = intended.iter().zip(received).filter(|(_, received)| **received > 0);
        let mut latency_ns: Vec<u64> = pairs.map(|(intended, received)| received - intended).collect();
        latency_ns.sort_unstable();
        let mut lag: Vec<u64> =
            intended.iter().zip(sent).map(|(intended, sent)| sent.saturating_sub(*intended)).collect();
        lag.sort_unstable();
        let last = received.iter().copied().max().unwrap_or(began).max(began + 1);
        let fps = latency_ns.len() as f64 / Duration::from_nanos(last - began).as_secs_f64();
        Ok(Measured { fps, sent: count, sender_lag_p99_ns: quantile(&lag, 0.99), latency_ns })
    }

    fn send_all(&mut self, mode: Mode, count: usize) -> Result<(), zmq::Error> {
        let start = now_ns() + 10_000_000;
        for k in 0..count {
            match mode {
                Mode::Paced(hz) => {
                    let intended = start + (k as f64 * 1e9 / hz) as u64;
                    self.wait_until(intended)?;
                    self.send(Some(intended))?;
                    self.receive(0)?;
                }
                Mode::Closed => {
                    self.send(None)?;
                    let number = self.received_ns.len() - 1;
                    while self.received_ns[number] == 0 && self.receive(MISSING_AFTER_MS)? > 0 {}
                }
                Mode::Flood => {
                    self.send(None)?;
                    self.receive(0)?;
                }
            }
        }
        self.drain()
    }

    /// Receives while waiting, and spins through the last part.
    fn wait_until(&mut self, intended_ns: u64) -> Result<(), zmq::Error> {
        loop {
            let left = intended_ns.saturating_sub(now_ns());
            if left == 0 {
                return Ok(());
            }
            self.receive(if left > SPIN_NS { ((left - SPIN_NS) / 1_000_000) as i64 } else { 0 })?;
        }
    }
}

/// A quantile of sorted values; 0 of none.
pub fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(rank).copied().unwrap_or(0)
}
