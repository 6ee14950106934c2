//! Lines for people, written by a thread of their own.
//!
//! Why it exists: standard error may be a pipe that nobody reads or a terminal that was closed. A supervisor that waits there, or
//! panics there, answers no request and ends no session. What it must never do: make the thread that has a line wait, or lose a
//! line without saying so afterwards.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for a reader; more are dropped and counted.
pub const LINES_WAITING_MAX: usize = 1024;
/// Longest line that is kept, bytes; the rest of it is cut off.
pub const LINE_BYTES_MAX: usize = 16 << 10;

enum Entry {
    Line(Vec<u8>),
    /// Answer when everything before this is written.
    Flush(Sender<()>),
}

/// The near end: whoever has a line gives it away here. Clones share one queue.
#[derive(Clone)]
pub struct LogLines {
    queue: Sender<Entry>,
    lost: Arc<AtomicU64>,
}

impl LogLines {
    /// Starts the thread that writes `to`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, waiting) = bounded(LINES_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(to, &waiting, &counted))?;
        Ok(Self { queue, lost })
    }

    /// One line, with its newline. Never waits.
    pub fn line(&self, bytes: &[u8]) {
        let mut line = bytes[..bytes.len().min(LINE_BYTES_MAX)].to_vec();
        if line.len() < bytes.len() {
            line.extend_from_slice(" …\n".as_bytes());
        }
        if self.queue.try_send(Entry::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until everything so far is written, but not for longer than this.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = bounded(1);
        if self.queue.send_timeout(Entry::Flush(done), patience).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// Writes until every near end is gone. A stream that fails is tried again with the next line: there is nobody to tell.
fn write_all(mut to: impl Write, waiting: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in waiting {
        match entry {
            Entry::Line(line) => {
                let _ = to.write_all(&line).and_then(|()| to.flush());
            }
            Entry::Flush(done) => drop(done.try_send(())),
        }
        if waiting.is_empty() {
            let count = lost.swap(0, Relaxed);
            if count > 0 {
                let _ = writeln!(to, "{count} log line(s) were lost because nobody read the log");
            }
        }
    }
}

/// One line of `tracing`, which hands it over whole.
impl Write for &LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// What a stream was given, and whether its reader reads.
    #[derive(Default)]
    struct Held {
        open: bool,
        bytes: Vec<u8>,
    }

    /// A stream whose reader does not read until the gate opens.
    #[derive(Clone, Default)]
    struct Gated(Arc<(Mutex<Held>, Condvar)>);

    impl Gated {
        fn open(&self) {
            self.0.0.lock().unwrap().open = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
        }
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut held = self.0.1.wait_while(self.0.0.lock().unwrap(), |held| !held.open).unwrap();
            held.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order_and_a_long_one_is_cut() {
        let gated = Gated::default();
        gated.open();
        let lines = LogLines::start(gated.clone()).unwrap();
        for number in 0..100 {
            lines.line(format!("line {number}\n").as_bytes());
        }
        lines.line(&vec![b'x'; LINE_BYTES_MAX + 1]);
        lines.flush(Duration::from_secs(60));
        let text = gated.text();
        assert!(text.starts_with("line 0\nline 1\n") && text.contains("line 99\nxxx"), "{text}");
        assert!(text.ends_with("x …\n") && text.len() < LINE_BYTES_MAX + 1024);
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_that_are_counted_and_nobody_waits() {
        let gated = Gated::default();
        let lines = LogLines::start(gated.clone()).unwrap();
        (0..3 * LINES_WAITING_MAX).for_each(|_| lines.line(b"line\n"));
        lines.flush(Duration::from_millis(20));
        gated.open();
        lines.flush(Duration::from_secs(60));
        lines.line(b"last\n");
        lines.flush(Duration::from_secs(60));
        let text = gated.text();
        let written = text.matches("line\n").count();
        let lost: usize =
            text.split_once(" log line(s) were lost").unwrap().0.rsplit('\n').next().unwrap().parse().unwrap();
        assert_eq!(written + lost, 3 * LINES_WAITING_MAX, "{}", &text[text.len() - 200..]);
        assert!(text.ends_with("last\n"));
    }
}
