//! Lines of a GPIO chip, by the kernel's character device (version 2 of its interface, Linux 5.10 and newer).
//!
//! What it must never do: leave a line requested that was not asked for. The kernel gives the lines back when the file is closed; what level a
//! line then has is the chip's business, so a pull-down belongs on it.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Most lines that one request may have.
const OFFSETS: usize = 64;
/// Flags of the interface: the active level is low; an output.
const ACTIVE_LOW: u64 = 1 << 1;
const OUTPUT: u64 = 1 << 3;

/// `struct gpio_v2_line_attribute` and its mask.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attribute {
    id: u32,
    padding: u32,
    value: u64,
    mask: u64,
}

/// `struct gpio_v2_line_request`, with the configuration in it.
#[repr(C)]
struct Request {
    offsets: [u32; OFFSETS],
    consumer: [u8; 32],
    flags: u64,
    attributes: u32,
    config_padding: [u32; 5],
    attribute: [Attribute; 10],
    lines: u32,
    event_buffer: u32,
    padding: [u32; 5],
    fd: i32,
}

/// `struct gpio_v2_line_values`.
#[repr(C)]
struct Values {
    bits: u64,
    mask: u64,
}

const GET_LINE: Opcode = opcode::read_write::<Request>(0xB4, 0x07);
const SET_VALUES: Opcode = opcode::read_write::<Values>(0xB4, 0x0F);

/// Requested output lines.
pub(super) struct Gpio {
    lines: OwnedFd,
}

impl Gpio {
    /// Requests these lines as outputs, all of them off.
    ///
    /// # Errors
    /// What is no GPIO chip, and a line that it does not have or somebody else uses.
    pub(super) fn request(chip: &Path, offsets: &[u32], active_low: bool) -> io::Result<Self> {
        let chip = File::open(chip)?;
        let mut request = Request {
            offsets: [0; OFFSETS],
            consumer: [0; 32],
            flags: OUTPUT | if active_low { ACTIVE_LOW } else { 0 },
            attributes: 0,
            config_padding: [0; 5],
            attribute: [Attribute { id: 0, padding: 0, value: 0, mask: 0 }; 10],
            lines: offsets.len() as u32,
            event_buffer: 0,
            padding: [0; 5],
            fd: -1,
        };
        request.offsets[..offsets.len()].copy_from_slice(offsets);
        request.consumer[..7].copy_from_slice(b"haltere");
        request_lines(&chip, &mut request)?;
        if request.fd < 0 {
            return Err(io::Error::other("the kernel gave no lines"));
        }
        // SAFETY: the kernel has just opened this descriptor for us, nobody else knows it, and it is taken once.
        #[allow(unsafe_code)]
        let lines = unsafe { OwnedFd::from_raw_fd(request.fd) };
        Ok(Self { lines })
    }

    /// Switches the n-th of the requested lines.
    pub(super) fn set(&self, line: usize, on: bool) -> io::Result<()> {
        let mut values = Values { bits: u64::from(on) << line, mask: 1 << line };
        // SAFETY: the operation reads one `gpio_v2_line_values`, whose layout `Values` has (a test compares the number that is made of its
        // size), and keeps no pointer to it. On another kind of file it fails.
        #[allow(unsafe_code)]
        unsafe {
            Ok(ioctl(&self.lines, Updater::<SET_VALUES, Values>::new(&mut values))?)
        }
    }
}

#[allow(unsafe_code)]
fn request_lines(chip: &File, request: &mut Request) -> io::Result<()> {
    // SAFETY: the operation reads and writes one `gpio_v2_line_request`, whose layout `Request` has (a test compares the number that is made
    // of its size), and keeps no pointer to it. On another kind of file it fails.
    unsafe { Ok(ioctl(chip, Updater::<GET_LINE, Request>::new(request))?) }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes_and_so_the_operations_their_numbers() {
        assert_eq!((size_of::<Attribute>(), size_of::<Request>(), size_of::<Values>()), (24, 592, 16));
        assert_eq!((GET_LINE as u64, SET_VALUES as u64), (0xC250_B407, 0xC010_B40F));
    }

    #[test]
    fn what_is_no_chip_is_refused() {
        let refused = |path: &str| Gpio::request(Path::new(path), &[0], false).err().unwrap();
        assert_eq!(refused("/dev/null").raw_os_error(), Some(25), "not a typewriter");
        assert_eq!(refused("/dev/gpiochip999").kind(), io::ErrorKind::NotFound);
    }
}
