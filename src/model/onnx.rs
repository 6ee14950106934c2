//! ONNX files: the messages of `onnx.proto` that a network needs, written, and read back so that a piece of a model can be looked
//! at or exchanged.
//!
//! Why it exists: no Rust training library exports ONNX, and `calibrate` changes a few numbers of a model whose training is long
//! over. What it must never do: know our network (that is `export`), write different bytes in two runs, or guess at other people's
//! files: a file is taken only if writing it again gives the same bytes, to the last one.
//!
//! Field numbers are those of `onnx.proto`; IR version 8, operator set 17. Every single field is `required`, which writes it even
//! when it is 0 or empty, and lists of numbers are not packed, as in that file.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::sys::exit::{ExitCode, HasExitCode};
use crate::sys::files::{Bound, read_bounded};

/// Largest file read, bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 28;
/// Version of the file layout.
const IR_VERSION: i64 = 8;
/// Version of the operators.
const OPSET: i64 = 17;
/// Name of this program in the files it writes.
const PRODUCER: &str = "haltere";
/// `TensorProto.DataType`.
pub(crate) const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// `AttributeProto.AttributeType`.
const ONE_INT: i32 = 2;
const LIST_OF_INTS: i32 = 7;

/// An ONNX file of this program.
#[derive(Clone, PartialEq, Message)]
pub struct OnnxFile {
    #[prost(int64, required, tag = "1")]
    ir_version: i64,
    #[prost(string, required, tag = "2")]
    producer: String,
    #[prost(string, required, tag = "3")]
    producer_version: String,
    #[prost(message, required, tag = "7")]
    graph: Graph,
    #[prost(message, repeated, tag = "8")]
    operator_sets: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata: Vec<Entry>,
}

/// A graph under construction. Order of calls is order in the file: nodes must come after what they read.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(string, required, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    constants: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<ValueInfo>,
}

/// A node of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// What it reads.
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    /// What it writes; of this program one, which also names it.
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, required, tag = "3")]
    name: String,
    /// ONNX's name of the operator.
    #[prost(string, required, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<NamedAttribute>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAttribute {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(int64, optional, tag = "3")]
    int: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, required, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    shape: Vec<i64>,
    #[prost(int32, required, tag = "2")]
    data_type: i32,
    #[prost(string, required, tag = "8")]
    name: String,
    /// Little-endian, C order.
    #[prost(bytes = "vec", required, tag = "9")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, required, tag = "1")]
    name: String,
    #[prost(message, required, tag = "2")]
    kind: ValueType,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(message, required, tag = "1")]
    tensor: TensorType,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, required, tag = "1")]
    data_type: i32,
    #[prost(message, required, tag = "2")]
    shape: TensorShape,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    sides: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, required, tag = "1")]
    side: i64,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, required, tag = "1")]
    domain: String,
    #[prost(int64, required, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, required, tag = "1")]
    key: String,
    #[prost(string, required, tag = "2")]
    value: String,
}

/// Shape and values, C order.
pub type Floats = (Vec<usize>, Vec<f32>);

/// An attribute of a node.
#[derive(Clone, Copy, Debug)]
pub enum Attribute<'a> {
    /// One integer.
    Int(i64),
    /// A list of integers.
    Ints(&'a [i64]),
}

/// A file that is not one of ours, or lacks a piece.
#[derive(Debug, thiserror::Error)]
pub enum OnnxReadError {
    /// It cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// It is no ONNX file, or breaks off.
    #[error("not a complete ONNX file: {0}")]
    Damaged(String),
    /// Another program wrote it, or changed it.
    #[error("not as haltere writes it ({0}); only models that `haltere train` exported can be taken apart")]
    Foreign(String),
    /// A piece is missing or has another size.
    #[error("`{name}` {cause}")]
    Piece {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        cause: String,
    },
}

impl HasExitCode for OnnxReadError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Model
    }
}

impl Graph {
    /// Declares a float input of fixed shape.
    pub fn input(&mut self, name: &str, shape: &[usize]) {
        self.inputs.push(ValueInfo::of(name, shape));
    }

    /// Declares a float output of fixed shape; a node must write it.
    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.outputs.push(ValueInfo::of(name, shape));
    }

    /// A float constant, C order.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constants.push(Tensor { shape: signed(shape), data_type: FLOAT, name: name.into(), raw });
    }

    /// A list of integers: axes, shapes, bounds.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constants.push(Tensor { shape: vec![values.len() as i64], data_type: INT64, name: name.into(), raw });
    }

    /// A node with one output, which also names it.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        self.nodes.push(Node {
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output.into()],
            name: output.into(),
            operator: operator.into(),
            attributes: attributes.iter().map(|(name, value)| NamedAttribute::of(name, *value)).collect(),
        });
    }

    /// The finished file: the bytes depend on nothing but the calls made.
    pub fn finish(self, name: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
        let entry = |&(key, value): &(&str, &str)| Entry { key: key.into(), value: value.into() };
        let file = OnnxFile {
            ir_version: IR_VERSION,
            producer: PRODUCER.into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Self { name: name.into(), ..self },
            operator_sets: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata: metadata.iter().map(entry).collect(),
        };
        file.bytes()
    }
}

impl NamedAttribute {
    fn of(name: &str, value: Attribute) -> Self {
        let (int, ints, kind) = match value {
            Attribute::Int(value) => (Some(value), Vec::new(), ONE_INT),
            Attribute::Ints(values) => (None, values.to_vec(), LIST_OF_INTS),
        };
        Self { name: name.into(), int, ints, kind }
    }
}

impl ValueInfo {
    fn of(name: &str, shape: &[usize]) -> Self {
        let sides = signed(shape).into_iter().map(|side| Dimension { side }).collect();
        let tensor = TensorType { data_type: FLOAT, shape: TensorShape { sides } };
        Self { name: name.into(), kind: ValueType { tensor } }
    }
}

fn signed(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&side| side as i64).collect()
}

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Any [`OnnxReadError`].
    pub fn read(path: &Path) -> Result<Self, OnnxReadError> {
        let failed = |cause: String| OnnxReadError::File { path: path.into(), cause };
        let bound = Bound::new("an ONNX file written by haltere", FILE_BYTES_MAX);
        Self::parse(&read_bounded(path, bound).map_err(|e| failed(e.reason()))?)
    }

    /// Takes the bytes of a file apart.
    ///
    /// # Errors
    /// [`OnnxReadError::Damaged`] or [`OnnxReadError::Foreign`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OnnxReadError> {
        let file = Self::decode(bytes).map_err(|e| OnnxReadError::Damaged(e.to_string()))?;
        if file.producer != PRODUCER {
            let who = if file.producer.is_empty() { "nobody".to_owned() } else { format!("{:?}", file.producer) };
            return Err(OnnxReadError::Foreign(format!("its producer is {who}")));
        }
        let sets: Vec<(&str, i64)> = file.operator_sets.iter().map(|set| (set.domain.as_str(), set.version)).collect();
        // Whatever is there beside the fields above comes out when the bytes are compared.
        if file.ir_version != IR_VERSION || sets != [("", OPSET)] || file.bytes() != bytes {
            return Err(OnnxReadError::Foreign(format!(
                "layout {} where {IR_VERSION} and operator set {OPSET} are written, or it was changed afterwards",
                file.ir_version
            )));
        }
        Ok(file)
    }

    /// The file as it is written: the same bytes as were read, unless something was changed.
    pub fn bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The text under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// Puts a text under a key.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        match self.metadata.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => value.clone_into(&mut entry.value),
            None => self.metadata.push(Entry { key: key.into(), value: value.into() }),
        }
    }

    /// Takes the text under a key away.
    pub fn remove_metadata(&mut self, key: &str) {
        self.metadata.retain(|entry| entry.key != key);
    }

    /// Shape and values of a float constant; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`OnnxReadError::Piece`] when it is not float, or its values are not as many as its shape says.
    pub fn floats(&self, name: &str) -> Result<Option<Floats>, OnnxReadError> {
        let Some(tensor) = self.graph.constants.iter().find(|constant| constant.name == name) else { return Ok(None) };
        let shape: Option<Vec<usize>> = tensor.shape.iter().map(|&side| usize::try_from(side).ok()).collect();
        let count = shape.iter().flatten().try_fold(1usize, |product, &side| product.checked_mul(side));
        let (chunks, rest) = tensor.raw.as_chunks::<4>();
        match shape {
            Some(shape) if tensor.data_type == FLOAT && rest.is_empty() && count == Some(chunks.len()) => {
                Ok(Some((shape, chunks.iter().map(|b| f32::from_le_bytes(*b)).collect())))
            }
            _ => {
                let (bytes, data_type, shape) = (tensor.raw.len(), tensor.data_type, &tensor.shape);
                let cause = format!("holds {bytes} bytes of type {data_type} for the float shape {shape:?}");
                Err(OnnxReadError::Piece { name: name.into(), cause })
            }
        }
    }

    /// Exchanges the values of a float constant; its shape stays.
    ///
    /// # Errors
    /// [`OnnxReadError::Piece`] when there is none, of another size, or when a value is not finite.
    pub fn set_floats(&mut self, name: &str, values: &[f32]) -> Result<(), OnnxReadError> {
        let piece = |cause: String| OnnxReadError::Piece { name: name.into(), cause };
        let (_, old) = self.floats(name)?.ok_or_else(|| piece("is not there".into()))?;
        if old.len() != values.len() || values.iter().any(|v| !v.is_finite()) {
            return Err(piece(format!("takes {} finite values, {} were given", old.len(), values.len())));
        }
        if let Some(tensor) = self.graph.constants.iter_mut().find(|constant| constant.name == name) {
            tensor.raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
        Ok(())
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.graph.nodes
    }

    /// Takes away every node that writes one of these, the outputs of these names, and every constant left unused.
    pub fn remove(&mut self, outputs: &[&str]) {
        let Graph { nodes, constants, outputs: declared, .. } = &mut self.graph;
        nodes.retain(|node| !node.outputs.iter().any(|output| outputs.contains(&output.as_str())));
        declared.retain(|output| !outputs.contains(&output.name.as_str()));
        constants.retain(|constant| nodes.iter().any(|node| node.inputs.contains(&constant.name)));
    }

    /// Adds a node at the end.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        self.graph.node(operator, inputs, output, attributes);
    }

    /// Declares a float output of fixed shape, after the others.
    pub fn output(&mut self, name: &str, shape: &[usize]) {
        self.graph.output(name, shape);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Graph {
        let mut graph = Graph::default();
        graph.input("x", &[1, 3]);
        graph.floats("w", &[3, 2], &[1.0, -2.0, 3.5, f32::MIN_POSITIVE, 0.0, -0.0]);
        graph.floats("b", &[2], &[0.5, 0.25]);
        graph.integers("shape", &[2, 1]);
        graph.node("Gemm", &["x", "w", "b"], "y", &[("transB", Attribute::Int(0))]);
        graph.node("Reshape", &["y", "shape"], "z", &[]);
        graph.output("y", &[1, 2]);
        graph.output("z", &[2, 1]);
        graph
    }

    fn bytes() -> Vec<u8> {
        small().finish("net", &[("form", "streaming"), ("note", "")])
    }

    #[test]
    fn what_was_written_is_read_and_written_again_to_the_same_bytes() {
        let file = OnnxFile::parse(&bytes()).unwrap();
        assert!(file.bytes() == bytes());
        assert_eq!(file.graph, Graph { name: "net".into(), ..small() });
        assert_eq!((file.metadata("form"), file.metadata("none")), (Some("streaming"), None));
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "onnx") {
                let shipped = std::fs::read(&path).unwrap();
                assert!(OnnxFile::parse(&shipped).unwrap().bytes() == shipped, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_tensor_holds_shape_type_name_and_little_endian_values() {
        let mut graph = Graph::default();
        graph.floats("w", &[1, 300], &[1.0; 300]);
        let bytes = graph.constants[0].encode_to_vec();
        let head = [0x08, 1, 0x08, 0xac, 2, 0x10, 1, 0x42, 1, b'w', 0x4a, 0xb0, 9, 0, 0, 0x80, 0x3f];
        assert_eq!((&bytes[..17], bytes.len()), (&head[..], 13 + 1200));
    }

    #[test]
    fn an_attribute_of_0_is_written_and_a_negative_integer_is_its_twos_complement() {
        let bytes = |value| NamedAttribute::of("a", value).encode_to_vec();
        assert_eq!(bytes(Attribute::Int(0)), [0x0a, 1, b'a', 0x18, 0, 0xa0, 1, 2]);
        let minus_one = [0x40, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(bytes(Attribute::Ints(&[-1])), [&[0x0a, 1, b'a'], &minus_one[..], &[0xa0, 1, 7]].concat());
    }

    #[test]
    fn constants_and_nodes_are_found_by_name() {
        let file = OnnxFile::parse(&bytes()).unwrap();
        let (shape, values) = file.floats("w").unwrap().unwrap();
        assert_eq!((shape, &values[..4]), (vec![3, 2], &[1.0, -2.0, 3.5, f32::MIN_POSITIVE][..]));
        assert!(file.floats("nobody").unwrap().is_none());
        let message = file.floats("shape").unwrap_err().to_string();
        assert!(message.contains("`shape` holds 16 bytes of type 7"), "{message}");
        let node = &file.nodes()[0];
        assert_eq!((node.operator.as_str(), node.outputs[0].as_str(), node.inputs.len()), ("Gemm", "y", 3));
    }

    #[test]
    fn one_constant_is_exchanged_and_nothing_else() {
        let mut file = OnnxFile::parse(&bytes()).unwrap();
        file.set_floats("b", &[7.0, 8.0]).unwrap();
        file.set_metadata("note", "changed");
        let again = OnnxFile::parse(&file.bytes()).unwrap();
        assert_eq!(again.floats("b").unwrap().unwrap().1, [7.0, 8.0]);
        assert_eq!(again.metadata("note"), Some("changed"));
        assert_eq!(again.floats("w").unwrap(), OnnxFile::parse(&bytes()).unwrap().floats("w").unwrap());
        for bad in [&[1.0][..], &[1.0, f32::NAN]] {
            assert!(matches!(file.set_floats("b", bad), Err(OnnxReadError::Piece { .. })));
        }
        assert!(file.set_floats("nobody", &[1.0]).unwrap_err().to_string().contains("is not there"));
    }

    #[test]
    fn a_node_goes_with_its_output_and_with_the_constants_that_only_it_read() {
        let mut file = OnnxFile::parse(&bytes()).unwrap();
        file.remove(&["z"]);
        assert_eq!(file.nodes().len(), 1);
        assert_eq!((file.graph.outputs.len(), file.graph.constants.len()), (1, 2));
    }

    #[test]
    fn a_file_cut_anywhere_or_with_any_byte_changed_is_refused_or_means_what_it_says_and_never_panics() {
        let whole = bytes();
        for end in 0..whole.len() {
            // Between two entries of the metadata a file may end.
            if let Ok(file) = OnnxFile::parse(&whole[..end]) {
                let whole_graph = Graph { name: "net".into(), ..small() };
                assert!(file.graph == whole_graph && file.bytes() == whole[..end], "cut at {end}");
            }
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            if let Ok(file) = OnnxFile::parse(&changed) {
                assert!(file.bytes() == changed, "byte {at}");
                let _ = (file.nodes(), file.floats("w"));
            }
        }
    }

    #[test]
    fn other_peoples_files_are_refused_by_their_name() {
        let message = OnnxFile::parse(b"\x08\x08\x12\x07pytorch").unwrap_err().to_string();
        assert!(message.contains("its producer is \"pytorch\""), "{message}");
        assert!(OnnxFile::parse(b"").unwrap_err().to_string().contains("nobody"));
        let missing = OnnxFile::read(Path::new("/nowhere/m.onnx")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/m.onnx"), "{missing}");
    }
}
