//! Writes ONNX files: the protobuf encoding and the few messages of ONNX that a network needs.
//!
//! Why it exists: no Rust training library exports ONNX, and the format is small: a few nested messages of names, integers and
//! raw little-endian floats. What it must never do: know our network (that is `export`), or depend on anything that could
//! make two runs write different bytes.
//!
//! Field numbers are those of `onnx.proto`; IR version 8, operator set 17.

/// Version of the file layout.
pub(crate) const IR_VERSION: u64 = 8;
/// Version of the operators.
pub(crate) const OPSET: u64 = 17;
/// Name of this program in the files it writes.
pub(crate) const PRODUCER: &str = "haltere";
/// `TensorProto.DataType`.
pub(crate) const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A protobuf message under construction.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Field of wire type 0. A negative integer is its two's complement, as protobuf wants it.
    pub(crate) fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    /// Field of wire type 1.
    pub(crate) fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Field of wire type 5.
    pub(crate) fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Field of wire type 2: a string, raw bytes, or a message.
    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    pub(crate) fn message(&mut self, field: u64, build: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        build(&mut inner);
        self.bytes(field, &inner.0);
    }
}

/// An attribute of a node.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    /// One integer.
    Int(i64),
    /// A list of integers.
    Ints(&'a [i64]),
}

/// A graph under construction. Order of calls is order in the file: nodes must come after what they read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Message>,
    pub(crate) constants: Vec<Message>,
    pub(crate) inputs: Vec<Message>,
    pub(crate) outputs: Vec<Message>,
}

impl Graph {
    /// Declares a float input of fixed shape.
    pub fn input(&mut self, name: &str, shape: &[usize]) {
        self.inputs.push(value_info(name, shape));
    }

    /// Declares a float output of fixed shape; a node must write it.
    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.outputs.push(value_info(name, shape));
    }

    /// A float constant, C order.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constants.push(tensor(name, shape, FLOAT, &raw));
    }

    /// A list of integers: axes, shapes, bounds.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constants.push(tensor(name, &[values.len()], INT64, &raw));
    }

    /// A node with one output, which also names it.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(3, output);
        node.text(4, operator);
        for (name, value) in attributes {
            node.message(5, |attribute| write_attribute(attribute, name, *value));
        }
        self.nodes.push(node);
    }

    /// The finished file: the bytes depend on nothing but the calls made.
    pub fn finish(self, name: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
        self.encode(name, env!("CARGO_PKG_VERSION"), metadata)
    }

    /// As [`Graph::finish`], as the program of this version would have written it.
    pub(crate) fn encode(&self, name: &str, version: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
        let mut model = Message::default();
        model.integer(1, IR_VERSION);
        model.text(2, PRODUCER);
        model.text(3, version);
        model.message(7, |graph| {
            self.nodes.iter().for_each(|node| graph.bytes(1, &node.0));
            graph.text(2, name);
            self.constants.iter().for_each(|constant| graph.bytes(5, &constant.0));
            self.inputs.iter().for_each(|input| graph.bytes(11, &input.0));
            self.outputs.iter().for_each(|output| graph.bytes(12, &output.0));
        });
        model.message(8, |opset| {
            opset.text(1, "");
            opset.integer(2, OPSET);
        });
        for (key, value) in metadata {
            model.message(14, |entry| {
                entry.text(1, key);
                entry.text(2, value);
            });
        }
        model.0
    }
}

fn write_attribute(attribute: &mut Message, name: &str, value: Attribute) {
    attribute.text(1, name);
    match value {
        Attribute::Int(value) => {
            attribute.integer(3, value as u64);
            attribute.integer(20, 2);
        }
        Attribute::Ints(values) => {
            values.iter().for_each(|&value| attribute.integer(8, value as u64));
            attribute.integer(20, 7);
        }
    }
}

fn tensor(name: &str, shape: &[usize], data_type: u64, raw: &[u8]) -> Message {
    let mut tensor = Message::default();
    shape.iter().for_each(|&side| tensor.integer(1, side as u64));
    tensor.integer(2, data_type);
    tensor.text(8, name);
    tensor.bytes(9, raw);
    tensor
}

fn value_info(name: &str, shape: &[usize]) -> Message {
    let mut info = Message::default();
    info.text(1, name);
    info.message(2, |kind| {
        kind.message(1, |tensor| {
            tensor.integer(1, FLOAT);
            tensor.message(2, |sides| {
                shape.iter().for_each(|&side| sides.message(1, |dimension| dimension.integer(1, side as u64)));
            });
        });
    });
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_encoded_as_in_the_protobuf_documentation() {
        let mut message = Message::default();
        message.integer(1, 150);
        assert_eq!(message.0, [0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.text(2, "testing");
        assert_eq!(message.0, [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        let mut message = Message::default();
        message.message(3, |inner| inner.integer(1, 150));
        assert_eq!(message.0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.integer(1, -1_i64 as u64);
        assert_eq!(message.0, [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    #[test]
    fn a_tensor_holds_shape_type_name_and_little_endian_values() {
        let message = tensor("w", &[2, 300], FLOAT, &[1, 2]);
        assert_eq!(message.0, [0x08, 2, 0x08, 0xac, 2, 0x10, 1, 0x42, 1, b'w', 0x4a, 2, 1, 2]);
    }
}
