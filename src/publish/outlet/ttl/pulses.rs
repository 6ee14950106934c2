//! When each line is on: trains of pulses as edges in time, without clock, thread or device.
//!
//! What it must never do: give a pulse late and in full. An edge that comes late shortens its pulse, and a pulse whose time has passed is
//! left out and counted.

/// Most lines.
pub(super) const LINES_MAX: usize = 8;

/// The pulses of one output, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulses {
    /// Beginning of the first.
    pub begin_ns: u64,
    pub width_ns: u64,
    /// From the beginning of one to that of the next.
    pub period_ns: u64,
    pub count: u32,
}

/// A line that has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub line: usize,
    pub on: bool,
    /// When, ns.
    pub due_ns: u64,
}

/// The train of one line, and how far it is.
#[derive(Clone, Copy, Debug)]
struct Going {
    pulses: Pulses,
    /// So much later than asked: the order came after its beginning.
    late_ns: u64,
    /// Pulse by pulse first on, then off.
    edge: u64,
}

impl Going {
    fn due_ns(&self) -> u64 {
        let Pulses { begin_ns, width_ns, period_ns, .. } = self.pulses;
        let (pulse, off) = (self.edge / 2, self.edge % 2);
        begin_ns.saturating_add(self.late_ns).saturating_add(pulse * period_ns + off * width_ns)
    }

    fn is_on(&self) -> bool {
        self.edge % 2 == 1
    }
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Trains {
    of: [Option<Going>; LINES_MAX],
    /// Pulses that were left out.
    pub missed: u64,
}

impl Trains {
    /// An output begins on a line, in place of what went on there. One that was ordered after its beginning keeps its widths.
    pub fn begin(&mut self, line: usize, pulses: Pulses, now_ns: u64) -> Option<Edge> {
        let ended = self.end(line, now_ns);
        let late_ns = now_ns.saturating_sub(pulses.begin_ns);
        self.of[line] = Some(Going { pulses, late_ns, edge: 0 });
        ended
    }

    /// What goes on on a line ends now; the edge that it takes.
    pub fn end(&mut self, line: usize, now_ns: u64) -> Option<Edge> {
        let going = self.of[line].take()?;
        going.is_on().then_some(Edge { line, on: false, due_ns: now_ns })
    }

    /// The next edge of all lines that is due, if there is one.
    pub fn take(&mut self, now_ns: u64) -> Option<Edge> {
        let due = |(line, going): (usize, &Option<Going>)| going.map(|going| (going.due_ns(), line));
        let (due_ns, line) = self.of.iter().enumerate().filter_map(due).min()?;
        if due_ns > now_ns {
            return None;
        }
        let going = self.of[line].as_mut()?;
        let on = !going.is_on();
        // Reported against what was asked for.
        let edge = Edge { line, on, due_ns: if going.edge == 0 { going.pulses.begin_ns } else { due_ns } };
        going.edge += 1;
        let passed = on && going.due_ns() <= now_ns;
        going.edge += u64::from(passed);
        if going.edge == 2 * u64::from(going.pulses.count) {
            self.of[line] = None;
        }
        if passed {
            self.missed += 1;
            return self.take(now_ns);
        }
        Some(edge)
    }

    /// When the next edge is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.of.iter().flatten().map(Going::due_ns).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pulses(begin_ms: u64, count: u32) -> Pulses {
        Pulses { begin_ns: begin_ms * MS, width_ns: 2 * MS, period_ns: 10 * MS, count }
    }

    fn taken(trains: &mut Trains, now_ms: u64) -> Vec<(usize, bool, u64)> {
        let edges = std::iter::from_fn(|| trains.take(now_ms * MS));
        edges.map(|edge| (edge.line, edge.on, edge.due_ns / MS)).collect()
    }

    #[test]
    fn edges_come_in_the_order_of_their_times_and_then_no_more() {
        let mut trains = Trains::default();
        assert_eq!(trains.begin(0, pulses(5, 2), 0), None);
        assert_eq!(trains.begin(1, pulses(6, 1), 0), None);
        assert_eq!(trains.next_ns(), Some(5 * MS));
        let found: Vec<_> = (0..30).flat_map(|ms| taken(&mut trains, ms)).collect();
        let expected = [(0, true, 5), (1, true, 6), (0, false, 7), (1, false, 8), (0, true, 15), (0, false, 17)];
        assert_eq!(found, expected);
        assert_eq!((trains.next_ns(), trains.missed), (None, 0));
    }

    #[test]
    fn a_pulse_whose_time_has_passed_is_left_out_and_a_late_edge_shortens_its_pulse() {
        let mut trains = Trains::default();
        trains.begin(0, pulses(5, 3), 0);
        assert_eq!(taken(&mut trains, 6), [(0, true, 5)]);
        assert_eq!(taken(&mut trains, 18), [(0, false, 7)], "the second pulse was due from 15 to 17");
        assert_eq!(trains.missed, 1);
        assert_eq!(taken(&mut trains, 26), [(0, true, 25)]);
        assert_eq!(taken(&mut trains, 27), [(0, false, 27)]);
        assert_eq!(trains.next_ns(), None);
    }

    #[test]
    fn an_order_that_comes_after_its_beginning_keeps_its_widths() {
        let mut trains = Trains::default();
        trains.begin(0, pulses(5, 2), 9 * MS);
        assert_eq!(taken(&mut trains, 9), [(0, true, 5)]);
        assert_eq!((trains.next_ns(), taken(&mut trains, 10)), (Some(11 * MS), vec![]));
        assert_eq!(taken(&mut trains, 11), [(0, false, 11)]);
        assert_eq!(trains.next_ns(), Some(19 * MS));
    }

    #[test]
    fn an_end_drops_the_line_only_if_it_is_on_and_a_new_output_replaces_the_old_one() {
        let mut trains = Trains::default();
        trains.begin(0, pulses(5, 2), 0);
        assert_eq!(trains.end(0, 3), None);
        trains.begin(0, pulses(5, 2), 0);
        assert_eq!(taken(&mut trains, 5), [(0, true, 5)]);
        assert_eq!(trains.end(0, 6 * MS), Some(Edge { line: 0, on: false, due_ns: 6 * MS }));
        trains.begin(0, pulses(8, 1), 7 * MS);
        assert_eq!(taken(&mut trains, 8), [(0, true, 8)]);
        assert!(trains.begin(0, pulses(20, 1), 9 * MS).is_some_and(|edge| !edge.on));
        assert_eq!(trains.next_ns(), Some(20 * MS));
    }
}
