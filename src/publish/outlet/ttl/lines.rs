//! Lines that can be on or off: RTS and DTR of a serial port, lines of a GPIO chip, or a file that notes every edge.
//!
//! What it must never do: guess. A line that the device does not have is refused at the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use serialport::{SerialPort, TTYPort};

use super::gpio::Gpio;
use super::pulses::LINES_MAX;
use crate::sys::clock::now_ns;

/// A serial port is opened at some speed; nothing is sent.
const BAUD: u32 = 9600;

/// Which rule drives which line: `groom=rts walk=17`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |word: &str| {
        let (rule, line) = word.split_once('=').ok_or_else(|| format!("{word:?} is not written RULE=LINE"))?;
        Ok((rule.to_owned(), line.to_owned()))
    };
    let lines = text.split_whitespace().map(pair).collect::<Result<Vec<_>, String>>()?;
    if !(1..=LINES_MAX).contains(&lines.len()) {
        return Err(format!("names {} lines; write 1 to {LINES_MAX}, such as \"groom=rts walk=dtr\"", lines.len()));
    }
    for (at, (rule, line)) in lines.iter().enumerate() {
        if lines[..at].iter().any(|(other, taken)| other == rule || taken == line) {
            return Err(format!("names {rule:?} or {line:?} twice: one line a rule, one rule a line"));
        }
    }
    Ok(lines)
}

/// The device behind the lines.
pub(super) enum Lines {
    Serial {
        port: TTYPort,
        pins: Vec<Pin>,
        active_low: bool,
    },
    Gpio(Gpio),
    /// For tests and first tries without hardware.
    Noted {
        file: File,
        names: Vec<String>,
        active_low: bool,
    },
}

/// A control line of a serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    Rts,
    Dtr,
}

impl Lines {
    /// Opens a device and switches its lines off.
    ///
    /// # Errors
    /// A device that is missing or of another kind, and lines that it does not have.
    pub(super) fn open(device: &Path, names: &[&str], active_low: bool) -> Result<Self, String> {
        let kind = std::fs::metadata(device).map_err(|error| error.to_string())?.file_type();
        let is_chip = device.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gpiochip"));
        let mut lines = if is_chip {
            let offset =
                |name: &&str| name.parse().map_err(|_| format!("the line {name:?} of a GPIO chip is a number"));
            let offsets = names.iter().map(offset).collect::<Result<Vec<u32>, String>>()?;
            let gpio = Gpio::request(device, &offsets, active_low);
            Self::Gpio(gpio.map_err(|error| format!("{error}; is it a GPIO chip, and are its lines free?"))?)
        } else if kind.is_char_device() {
            let pins = names.iter().map(|name| pin(name)).collect::<Result<Vec<_>, String>>()?;
            let port = TTYPort::open(&serialport::new(device.to_string_lossy(), BAUD)).map_err(|e| e.to_string())?;
            Self::Serial { port, pins, active_low }
        } else {
            // Never waits, not even for the reader of a pipe.
            let mut how = OpenOptions::new();
            how.append(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
            let file = how.open(device).map_err(|error| error.to_string())?;
            Self::Noted { file, names: names.iter().map(|&name| name.to_owned()).collect(), active_low }
        };
        for line in 0..names.len() {
            lines.set(line, false).map_err(|error| {
                format!("{error}; it has no control lines (a pseudo-terminal has none, and some adapters do not)")
            })?;
        }
        Ok(lines)
    }

    /// Switches the n-th line.
    pub(super) fn set(&mut self, line: usize, on: bool) -> io::Result<()> {
        match self {
            Self::Serial { port, pins, active_low } => {
                let level = on != *active_low;
                let done = match pins[line] {
                    Pin::Rts => port.write_request_to_send(level),
                    Pin::Dtr => port.write_data_terminal_ready(level),
                };
                done.map_err(io::Error::from)
            }
            // The kernel knows which level is active.
            Self::Gpio(gpio) => gpio.set(line, on),
            Self::Noted { file, names, active_low } => {
                let (level, t_ns) = (u8::from(on != *active_low), now_ns());
                let mut text = [0; 96];
                let mut rest = &mut text[..];
                writeln!(rest, "{t_ns} {} {level}", names[line])?;
                let left = rest.len();
                file.write_all(&text[..text.len() - left])
            }
        }
    }
}

fn pin(name: &str) -> Result<Pin, String> {
    match name {
        "rts" => Ok(Pin::Rts),
        "dtr" => Ok(Pin::Dtr),
        _ => Err(format!("the line {name:?} of a serial port must be rts or dtr")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_once_each() {
        let pairs = parse("groom=rts  walk=17").unwrap();
        assert_eq!(pairs, [("groom", "rts"), ("walk", "17")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        for (text, said) in [
            ("", "names 0 lines"),
            ("groom", "RULE=LINE"),
            ("a=rts b=rts", "twice"),
            ("a=rts a=dtr", "twice"),
            ("a=1 b=2 c=3 d=4 e=5 f=6 g=7 h=8 i=9", "names 9 lines"),
        ] {
            assert!(parse(text).unwrap_err().contains(said), "{text}");
        }
    }

    #[test]
    fn a_device_without_control_lines_is_refused() {
        let (_held, device) = TTYPort::pair().unwrap();
        let name = device.name().unwrap();
        let refused = |names: &[&str]| Lines::open(Path::new(&name), names, false).err().unwrap();
        assert!(refused(&["rts"]).contains("has no control lines"), "{}", refused(&["rts"]));
        assert!(refused(&["17"]).contains("must be rts or dtr"));
    }

    #[test]
    fn a_file_notes_every_edge_with_its_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path(), &["a", "b"], true).unwrap();
        lines.set(1, true).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let edges: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(edges, ["a 1", "b 1", "b 0"], "off is the high level");
    }
}
