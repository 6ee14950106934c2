//! The stack machine of pickles, restricted to opcodes that make plain data.
//!
//! Why it exists: a pickle is a program of some seventy opcodes; these are the harmless ones. What it must never do: trust a length,
//! an index or the stack, or recurse.

use std::borrow::Cow;
use std::collections::HashMap;

use super::input::{self, Input};
use super::numpy::Known;
use super::{Id, Node, Pickle, STEPS_MAX};

/// Maximum nesting of lists and dictionaries being filled.
pub(super) const MARKS_MAX: usize = 1 << 12;

/// What has been read so far.
pub(super) struct Machine<'f> {
    input: Input<'f>,
    pub(super) nodes: Vec<Node<'f>>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Bytes that had to be decoded, not borrowed from the file.
    owned_bytes: usize,
}

impl<'f> Machine<'f> {
    pub(super) fn new(bytes: &'f [u8]) -> Self {
        let (nodes, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Self { input: Input::new(bytes), nodes, stack, marks, memo: HashMap::new(), owned_bytes: 0 }
    }

    pub(super) fn run(mut self) -> Result<Pickle<'f>, String> {
        for _ in 0..STEPS_MAX {
            let at = self.input.at();
            let op = self.input.byte()?;
            if op == b'.' {
                let root = self.pop()?;
                return Ok(Pickle { nodes: self.nodes, root });
            }
            self.step(op).map_err(|cause| format!("{cause} (byte {at})"))?;
        }
        Err(format!("is a pickle of more than {STEPS_MAX} steps: save the array alone with np.save"))
    }

    /// Carries out one opcode. Each kind has its own function; an unknown opcode is refused.
    fn step(&mut self, op: u8) -> Result<(), String> {
        match op {
            0x80 => self.protocol(),
            0x95 => self.input.frame(),
            b'(' | b'0' | b'1' | b'2' => self.stacked(op),
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(op),
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.string(op),
            b']' | b'a' | b'e' | b'l' | b')' | b't' | 0x85..=0x87 | 0x8f | 0x90 | 0x91 => self.list(op),
            b'}' | b'd' | b's' | b'u' => self.dict(op),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(op),
            b'c' | 0x93 => self.global(op),
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.rebuilt(function, arguments)?;
                self.push(made)
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                self.set_state(object, state)
            }
            other => Err(self.refused(other)),
        }
    }

    /// Why an opcode is refused.
    fn refused(&mut self, op: u8) -> String {
        let what = match op {
            b'i' => {
                let (module, name) = (self.input.line().unwrap_or("?"), self.input.line().unwrap_or("?"));
                return format!("makes an object of {module}.{name}, which is not plain data; nothing of it was run");
            }
            b'o' | 0x81 | 0x92 => "makes an object of a class",
            b'P' | b'Q' => "refers to something outside the file",
            0x82..=0x84 => "uses a registered extension",
            0x97 | 0x98 => "keeps its arrays in buffers outside the file",
            _ => return format!("holds {op:#04x}, which is not a pickle opcode: the file is damaged or not a pickle"),
        };
        format!("{what}, which is not plain data; nothing of it was run; save the array alone with np.save")
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.input.byte()? {
            0..=5 => Ok(()),
            other => Err(format!("is a pickle of protocol {other}; 0 to 5 can be read")),
        }
    }

    fn push(&mut self, node: Node<'f>) -> Result<(), String> {
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("takes a value that is not there: damaged".into());
        }
        self.stack.pop().ok_or_else(|| "takes a value that is not there: damaged".into())
    }

    fn top(&mut self) -> Result<Id, String> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    /// Everything above the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("ends a list that never began: damaged")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn stacked(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'(' if self.marks.len() >= MARKS_MAX => {
                Err(format!("holds more than {MARKS_MAX} lists within each other"))
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // Also takes a mark away when it lies on top, as Python does.
            b'0' if self.marks.last() == Some(&self.stack.len()) => self.since_mark().map(drop),
            b'0' => self.pop().map(drop),
            b'1' => self.since_mark().map(drop),
            _ => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
        }
    }

    fn number(&mut self, op: u8) -> Result<(), String> {
        let node = match op {
            b'N' => Node::None,
            0x88 => Node::Integer(1),
            0x89 => Node::Integer(0),
            b'J' => Node::Integer(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'K' => Node::Integer(i64::from(self.input.byte()?)),
            b'M' => Node::Integer(i64::from(u16::from_le_bytes(self.input.array()?))),
            b'I' | b'L' => {
                let line = self.input.line()?;
                let number = line.trim_end_matches('L').parse();
                Node::Integer(number.map_err(|_| format!("holds {line:?} where a whole number of 64 bits stands"))?)
            }
            0x8a | 0x8b => {
                let length = if op == 0x8a { usize::from(self.input.byte()?) } else { self.input.length::<4>()? };
                Node::Integer(whole(self.input.take(length)?)?)
            }
            b'F' => {
                let line = self.input.line()?;
                line.parse::<f64>().map_err(|_| format!("holds {line:?} where a number stands"))?;
                Node::Float
            }
            _ => {
                self.input.array::<8>()?;
                Node::Float
            }
        };
        self.push(node)
    }

    fn string(&mut self, op: u8) -> Result<(), String> {
        let node = match op {
            b'S' => {
                let line = self.input.line()?;
                Node::Bytes(Cow::Owned(self.owned(input::unquoted(line)?)?))
            }
            b'V' => {
                let text = input::unescaped(self.input.raw_line()?)?;
                Node::Text(Cow::Owned(String::from_utf8(self.owned(text.into_bytes())?).unwrap_or_default()))
            }
            b'X' | 0x8c | 0x8d => {
                let bytes = self.sized(match op {
                    0x8c => 1,
                    b'X' => 4,
                    _ => 8,
                })?;
                let text = std::str::from_utf8(bytes).map_err(|_| "holds text that is not UTF-8")?;
                Node::Text(Cow::Borrowed(text))
            }
            _ => Node::Bytes(Cow::Borrowed(self.sized(match op {
                b'U' | b'C' => 1,
                b'T' | b'B' => 4,
                _ => 8,
            })?)),
        };
        self.push(node)
    }

    /// Bytes after their length, which takes `width` bytes.
    fn sized(&mut self, width: usize) -> Result<&'f [u8], String> {
        let length = match width {
            1 => self.input.length::<1>()?,
            4 => self.input.length::<4>()?,
            _ => self.input.length::<8>()?,
        };
        self.input.take(length)
    }

    /// Counts bytes that had to be made.
    pub(super) fn owned(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        self.owned_bytes = self.owned_bytes.saturating_add(bytes.len());
        // Protocol 0 spells a byte as a character, which is one or two bytes of text, and then one of data.
        if self.owned_bytes > 4 * self.input.len() {
            return Err("grows to more than five times its length: no pickle of arrays does".into());
        }
        Ok(bytes)
    }

    fn list(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b'e' | 0x90 | b'l' | b't' | 0x91 => self.since_mark()?,
            0x85..=0x87 => {
                let mut items = (0x85..=op).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                items
            }
            _ => Vec::new(),
        };
        if !matches!(op, b'a' | b'e' | 0x90) {
            return self.push(Node::List(items));
        }
        let into = self.top()?;
        match &mut self.nodes[into] {
            Node::List(list) => list.extend(items),
            _ => return Err("appends to something that is no list: damaged".into()),
        }
        Ok(())
    }

    fn dict(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            b'u' | b'd' => self.since_mark()?,
            _ => Vec::new(),
        };
        if !items.len().is_multiple_of(2) {
            return Err("holds a key without a value: damaged".into());
        }
        let pairs: Vec<(Id, Id)> = items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if matches!(op, b'}' | b'd') {
            return self.push(Node::Dict(pairs));
        }
        let into = self.top()?;
        match &mut self.nodes[into] {
            Node::Dict(entries) => entries.extend(pairs),
            _ => return Err("sets a key of something that is no dictionary: damaged".into()),
        }
        Ok(())
    }

    fn memory(&mut self, op: u8) -> Result<(), String> {
        let place = match op {
            b'p' | b'g' => {
                let line = self.input.line()?;
                line.parse().map_err(|_| format!("holds {line:?} where the number of a value stands"))?
            }
            b'q' | b'h' => u64::from(self.input.byte()?),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.input.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let id = *self.memo.get(&place).ok_or("refers to a value that it never kept: damaged")?;
            self.stack.push(id);
            return Ok(());
        }
        let id = self.top()?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn global(&mut self, op: u8) -> Result<(), String> {
        let known = if op == b'c' {
            Known::of(self.input.line()?, self.input.line()?)?
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (&self.nodes[module], &self.nodes[name]) {
                (Node::Text(module), Node::Text(name)) => Known::of(module, name)?,
                _ => return Err("names something by what is no text: damaged".into()),
            }
        };
        self.push(Node::Global(known))
    }
}

/// A whole number of two's complement, little-endian, of at most 64 bits.
pub(super) fn whole(bytes: &[u8]) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err(format!("contains an integer of {} bytes; at most 8 are read", bytes.len()));
    }
    let sign = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(wide))
}
