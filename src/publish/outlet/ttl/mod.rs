//! Pulses of decisions on lines: a TTL level without any device in between that could be told what to do.
//!
//! Why it exists: most stimulus devices have a trigger input and nothing else. The pulses are made here, so here is where they are timed and
//! where they end. What it must never do: keep a line on that nobody stands for: an output that is ended, a publisher that is not heard for a
//! deadline, and the end of the program all drop it.

mod gpio;
mod lines;
mod pulses;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::config::Ttl as Settings;
use crate::frame::{Name, RULES_MAX};
use crate::publish::SinkError;
use crate::publish::relay::{Outlet, RelayedDecode};
use crate::sys::clock::now_ns;
use crate::sys::counters::{Stats, count};
use crate::wire::decision::{DecisionHeader, What};
use lines::Lines;
use pulses::{Edge, LINES_MAX, Pulses, Trains};

/// Orders that may wait for the thread.
const ORDERS_MAX: usize = 64;
/// The thread is woken so long before an edge, ns, and looks at the clock until it is due: sleeping is not as exact.
const AWAKE_NS: u64 = 300_000;
/// While pulses go on, the thread looks so often whether they still may.
const LOOK: Duration = Duration::from_millis(5);
/// While none does.
const REST: Duration = Duration::from_millis(200);

/// What the publisher asks for.
#[derive(Clone, Copy, Debug)]
enum Order {
    Begin { line: usize, pulses: Pulses },
    End { line: usize },
}

/// Between the publisher and the thread that makes the pulses.
struct Shared {
    orders: ArrayQueue<Order>,
    /// An end that found the queue full: everything ends.
    end_all: AtomicBool,
    /// When the publisher was heard last, ns.
    heard_ns: AtomicU64,
    stop: AtomicBool,
    /// The device does not take edges.
    lost: AtomicBool,
    stats: Arc<Stats>,
}

/// The lines of one device.
pub struct Ttl {
    line_of_rule: [Option<usize>; RULES_MAX],
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ttl {
    /// Opens the device of the settings, switches its lines off, and starts the thread that makes the pulses. `rules` are those of the
    /// configuration.
    ///
    /// # Errors
    /// A device that is missing or has no such lines, and rules that do not exist.
    pub fn open(
        device: &Path,
        settings: &Settings,
        rules: &[Name],
        deadline_ns: u64,
        stats: Arc<Stats>,
    ) -> Result<Self, SinkError> {
        let fail = |cause: String| SinkError { sink: format!("ttl {}", device.display()), cause };
        let named = lines::parse(&settings.lines).map_err(|cause| fail(format!("`ttl.lines` {cause}")))?;
        let mut line_of_rule = [None; RULES_MAX];
        for (line, (name, _)) in named.iter().enumerate() {
            let rule = rules.iter().position(|rule| rule.as_str() == name);
            let rule = rule.ok_or_else(|| fail(format!("`ttl.lines` names {name:?}, which is no rule")))?;
            line_of_rule[rule] = Some(line);
        }
        let names: Vec<&str> = named.iter().map(|(_, line)| line.as_str()).collect();
        let lines = Lines::open(device, &names, settings.active_low).map_err(fail)?;
        stats.ttl.open.store(true, Relaxed);
        let shared = Arc::new(Shared {
            orders: ArrayQueue::new(ORDERS_MAX),
            end_all: AtomicBool::new(false),
            heard_ns: AtomicU64::new(now_ns()),
            stop: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            stats,
        });
        let hand = Hand { lines, trains: Trains::default(), deadline_ns, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("ttl".to_owned()).spawn(move || hand.run());
        let thread = Some(thread.map_err(|error| fail(error.to_string()))?);
        Ok(Self { line_of_rule, shared, thread })
    }

    fn order(&self, order: Order) -> io::Result<()> {
        let taken = self.shared.orders.push(order).is_ok();
        if !taken {
            self.shared.end_all.store(true, Release);
        }
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        if taken && !self.shared.lost.load(Relaxed) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }
}

impl Outlet for Ttl {
    fn name(&self) -> &'static str {
        "ttl"
    }

    fn send(&mut self, _decode: &RelayedDecode<'_>) -> io::Result<()> {
        self.shared.heard_ns.store(now_ns(), Relaxed);
        if self.shared.lost.load(Relaxed) { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
    }

    fn decision(&mut self, rule: usize, decision: &DecisionHeader<'_>) -> io::Result<()> {
        let Some(line) = self.line_of_rule.get(rule).copied().flatten() else { return Ok(()) };
        self.shared.heard_ns.store(now_ns(), Relaxed);
        match (decision.what, decision.train) {
            (What::Output, Some(train)) => {
                let pulses = Pulses {
                    begin_ns: decision.t_pub_ns + (train.delay_ms * 1e6) as u64,
                    width_ns: u64::from(train.width_ms) * 1_000_000,
                    period_ns: u64::from(train.period_ms) * 1_000_000,
                    count: train.count,
                };
                self.order(Order::Begin { line, pulses })
            }
            (What::Ended, _) => self.order(Order::End { line }),
            _ => Ok(()),
        }
    }

    fn tick(&mut self, now_ns: u64) {
        self.shared.heard_ns.store(now_ns, Relaxed);
    }
}

impl Drop for Ttl {
    fn drop(&mut self) {
        self.shared.stop.store(true, Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It drops every line before it ends.
            let _ = thread.join();
        }
    }
}

/// The thread that makes the pulses.
struct Hand {
    lines: Lines,
    trains: Trains,
    deadline_ns: u64,
    shared: Arc<Shared>,
}

impl Hand {
    fn run(mut self) {
        loop {
            while let Some(order) = self.shared.orders.pop() {
                self.take(order);
            }
            let now_ns = now_ns();
            let unheard_ns = now_ns.saturating_sub(self.shared.heard_ns.load(Relaxed));
            // Acquire: pairs with the Release of whoever asks; the orders before it were taken above or end with the rest.
            let ends = self.shared.stop.load(Acquire);
            if self.shared.end_all.swap(false, Acquire) || unheard_ns > self.deadline_ns || ends {
                (0..LINES_MAX).for_each(|line| self.end(line));
            }
            if ends {
                return;
            }
            while let Some(edge) = self.trains.take(crate::sys::clock::now_ns()) {
                self.make(edge);
            }
            self.shared.stats.ttl.missed.store(self.trains.missed, Relaxed);
            self.wait();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Begin { line, pulses } => {
                if let Some(edge) = self.trains.begin(line, pulses, now_ns()) {
                    self.make(edge);
                }
            }
            Order::End { line } => self.end(line),
        }
    }

    fn end(&mut self, line: usize) {
        if let Some(edge) = self.trains.end(line, now_ns()) {
            self.make(edge);
        }
    }

    /// Makes an edge and notes how late it is.
    fn make(&mut self, edge: Edge) {
        let made = self.lines.set(edge.line, edge.on);
        self.shared.lost.store(made.is_err(), Relaxed);
        if made.is_ok() {
            let ttl = &self.shared.stats.ttl;
            count(&ttl.edges, 1);
            ttl.late.record(now_ns().saturating_sub(edge.due_ns));
        }
    }

    /// Until the next edge is near, or somebody asks for something.
    fn wait(&self) {
        let Some(next_ns) = self.trains.next_ns() else { return std::thread::park_timeout(REST) };
        let left_ns = next_ns.saturating_sub(now_ns());
        if left_ns > AWAKE_NS {
            std::thread::park_timeout(Duration::from_nanos(left_ns - AWAKE_NS).min(LOOK));
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decision::TrainHeader;

    fn rule(name: &str) -> Name {
        name.parse().unwrap()
    }

    /// A decision of the first rule as the publisher makes it.
    fn begin(ttl: &mut Ttl, train: TrainHeader) -> u64 {
        let t_pub_ns = now_ns();
        let pulses = Pulses {
            begin_ns: t_pub_ns + (train.delay_ms * 1e6) as u64,
            width_ns: u64::from(train.width_ms) * 1_000_000,
            period_ns: u64::from(train.period_ms) * 1_000_000,
            count: train.count,
        };
        ttl.order(Order::Begin { line: 0, pulses }).unwrap();
        t_pub_ns
    }

    fn edges(file: &Path) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(file).unwrap();
        let edge = |line: &str| line.split_once(' ').map(|(t, rest)| (t.parse().unwrap(), rest.to_owned()));
        text.lines().map(|line| edge(line).unwrap()).collect()
    }

    fn opened(file: &Path, deadline_ms: u64) -> (Ttl, Arc<Stats>) {
        let settings = Settings { device: None, lines: "groom=rts".to_owned(), active_low: false };
        let stats = Arc::<Stats>::default();
        let ttl = Ttl::open(file, &settings, &[rule("walk"), rule("groom")], deadline_ms * 1_000_000, stats.clone());
        (ttl.unwrap(), stats)
    }

    /// Hears the publisher until there are so many edges.
    fn until(ttl: &mut Ttl, file: &Path, count: usize) -> Vec<(u64, String)> {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            ttl.tick(now_ns());
            let found = edges(file);
            if found.len() >= count {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("only {:?}", edges(file));
    }

    #[test]
    fn pulses_come_when_they_are_due_and_their_lateness_is_measured() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut ttl, stats) = opened(file.path(), 10_000);
        let train = TrainHeader { delay_ms: 20.0, width_ms: 10, period_ms: 40, count: 5 };
        let t_ns = begin(&mut ttl, train);
        let found = until(&mut ttl, file.path(), 11);
        assert_eq!(found[0].1, "rts 0", "off when it is opened");
        for (number, (at_ns, level)) in (0..).zip(&found[1..]) {
            let due_ns = t_ns + 20_000_000 + number / 2 * 40_000_000 + number % 2 * 10_000_000;
            assert_eq!(level, if number % 2 == 0 { "rts 1" } else { "rts 0" });
            assert!(*at_ns >= due_ns, "an edge that is early by {} ns", due_ns - at_ns);
        }
        let late = stats.ttl.late.quantiles();
        assert_eq!((late.count, stats.ttl.missed.load(Relaxed)), (10, 0));
        println!("lateness of an edge: median {} ns, at most {} ns", late.p50_ns, late.max_ns);
    }

    #[test]
    fn a_line_is_dropped_by_an_end_by_silence_and_by_the_end_of_the_program() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = TrainHeader { delay_ms: 0.0, width_ms: 60_000, period_ms: 60_001, count: 2 };
        let (mut ttl, _) = opened(file.path(), 10_000);
        begin(&mut ttl, long);
        until(&mut ttl, file.path(), 2);
        ttl.order(Order::End { line: 0 }).unwrap();
        assert_eq!(until(&mut ttl, file.path(), 3)[2].1, "rts 0");
        begin(&mut ttl, long);
        assert_eq!(until(&mut ttl, file.path(), 4)[3].1, "rts 1");
        drop(ttl);
        assert_eq!(edges(file.path())[4].1, "rts 0");

        let (mut ttl, _) = opened(file.path(), 300);
        begin(&mut ttl, long);
        assert_eq!(until(&mut ttl, file.path(), 7)[6].1, "rts 1");
        // Nobody says anything more.
        std::thread::sleep(Duration::from_millis(900));
        let found = edges(file.path());
        assert_eq!(found[7].1, "rts 0");
        assert!(found[7].0 - found[6].0 >= 290_000_000, "{found:?}");
    }

    #[test]
    fn orders_that_find_no_place_end_everything() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut ttl, _) = opened(file.path(), 10_000);
        begin(&mut ttl, TrainHeader { delay_ms: 0.0, width_ms: 60_000, period_ms: 60_001, count: 1 });
        until(&mut ttl, file.path(), 2);
        ttl.shared.end_all.store(true, Release);
        assert_eq!(until(&mut ttl, file.path(), 3)[2].1, "rts 0");
    }

    #[test]
    fn a_line_of_a_rule_that_does_not_exist_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings { device: None, lines: "jump=rts".to_owned(), active_low: false };
        let refused = Ttl::open(file.path(), &settings, &[rule("walk")], 1, Arc::default()).err().unwrap();
        assert!(refused.to_string().contains("names \"jump\", which is no rule"), "{refused}");
    }
}
