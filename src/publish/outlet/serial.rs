//! One byte on a serial line when the action changes: 0 for neutral, n + 1 for the model's n-th action. Or one when the output of a
//! decision begins or ends: bit n for the n-th rule, 0 for none.
//!
//! Why it exists: a TTL box or a microcontroller on a serial port is the most common way to switch a light or a laser. What it
//! must never do: wait for the line, or leave an action or an output on it when decodes can no longer be trusted: the neutral byte is the
//! fail-safe, and the last byte is repeated every second in case one was lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serialport::{SerialPort, TTYPort};

use crate::config::{Serial as Settings, SerialWrite};
use crate::publish::SinkError;
use crate::publish::relay::{NEUTRAL_ID, Outlet, RelayedDecode};

/// The neutral byte.
const NEUTRAL: u8 = 0;
/// Rules whose outputs a byte can show.
const RULES_PER_BYTE: usize = 8;
/// How often the last byte is repeated, and a lost line is reopened.
const AGAIN_NS: u64 = 1_000_000_000;

/// A serial line.
pub struct Serial {
    device: PathBuf,
    baud: u32,
    write: SerialWrite,
    /// Outputs of decisions in place of actions?
    decisions: bool,
    /// Id of the neutral action among the labels, if it is one.
    neutral_id: i32,
    port: Option<TTYPort>,
    last: Option<u8>,
    next_ns: u64,
}

impl Serial {
    /// Opens the line of the settings, which must name one, and writes the neutral byte. `rules` counts those of the configuration.
    ///
    /// # Errors
    /// A device that is missing, is not a serial line, or may not be used; more actions or rules than a byte can show.
    pub fn open(
        device: &Path,
        settings: &Settings,
        labels: &[String],
        neutral: &str,
        rules: usize,
    ) -> Result<Self, SinkError> {
        let fail = |cause: String| SinkError { sink: format!("serial {}", device.display()), cause };
        let &Settings { baud, write, decisions, .. } = settings;
        if !decisions && labels.len() >= usize::from(u8::MAX) {
            return Err(fail(format!("the model has {} actions; one byte can name at most 254", labels.len())));
        }
        if decisions && rules > RULES_PER_BYTE {
            let what = "`serial.decisions` shows the outputs of at most 8 rules, one bit each";
            return Err(fail(format!("{what}; there are {rules}: take some out, or set it to false")));
        }
        let port = open(device, baud).map_err(|e| {
            fail(format!("{e}; is it the right device, and may this user write to it (group dialout)?"))
        })?;
        let neutral_id = labels.iter().position(|label| label == neutral).map_or(NEUTRAL_ID, |id| id as i32);
        let device = device.to_owned();
        let mut serial = Self { device, baud, write, decisions, neutral_id, port: Some(port), last: None, next_ns: 0 };
        serial.put(NEUTRAL).map_err(|e| fail(e.to_string()))?;
        Ok(serial)
    }

    fn put(&mut self, byte: u8) -> std::io::Result<()> {
        let Some(port) = &mut self.port else { return Err(std::io::ErrorKind::NotConnected.into()) };
        match port.write(&[byte]) {
            Ok(1) => {
                self.last = Some(byte);
                Ok(())
            }
            Ok(_) => Err(std::io::ErrorKind::WriteZero.into()),
            // The line is open but full: this byte is lost, the next one need not be.
            Err(e) if matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock) => {
                self.last = None;
                Err(e)
            }
            Err(e) => {
                (self.port, self.last) = (None, None);
                Err(e)
            }
        }
    }
}

fn open(device: &Path, baud: u32) -> serialport::Result<TTYPort> {
    let mut port = TTYPort::open(&serialport::new(device.to_string_lossy(), baud))?;
    // Never wait for the line.
    port.set_timeout(Duration::ZERO)?;
    Ok(port)
}

impl Outlet for Serial {
    fn name(&self) -> &'static str {
        "serial"
    }

    fn send(&mut self, decode: &RelayedDecode<'_>) -> std::io::Result<()> {
        if self.decisions {
            return Ok(());
        }
        let neutral = decode.action_id == self.neutral_id || decode.action_id < 0;
        let byte = if neutral { NEUTRAL } else { u8::try_from(decode.action_id + 1).unwrap_or(NEUTRAL) };
        if self.write == SerialWrite::Change && self.last == Some(byte) && self.port.is_some() {
            return Ok(());
        }
        self.next_ns = decode.t_pub_ns + AGAIN_NS;
        self.put(byte)
    }

    fn outputs(&mut self, going_on: u16, now_ns: u64) -> std::io::Result<()> {
        if !self.decisions {
            return Ok(());
        }
        self.next_ns = now_ns + AGAIN_NS;
        self.put(going_on.to_le_bytes()[0])
    }

    fn tick(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + AGAIN_NS;
        match (&self.port, self.last) {
            (Some(_), last) => drop(self.put(last.unwrap_or(NEUTRAL))),
            (None, _) => {
                self.port = open(&self.device, self.baud).ok();
                // The last action may be stale by now; the next decode sets the current one.
                drop(self.put(NEUTRAL));
            }
        }
    }
}
