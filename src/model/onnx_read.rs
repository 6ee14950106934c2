//! Reads back the ONNX files that `onnx` wrote, so that a piece of a model can be looked at or exchanged.
//!
//! Why it exists: `calibrate` changes a few numbers of a trained model whose training is long over. What it must never do:
//! guess at other people's files. A file is taken only if writing it again gives the same bytes, to the last one.

use std::path::{Path, PathBuf};

use super::onnx_write::{Attribute, FLOAT, Graph, IR_VERSION, Message, OPSET, PRODUCER};
use crate::sys::exit::{ExitCode, HasExitCode};

/// Largest file read, bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 28;

/// An ONNX file of this program, in pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxFile {
    pub(crate) graph: Graph,
    name: String,
    version: String,
    metadata: Vec<(String, String)>,
}

/// Shape and values, C order.
pub type Floats = (Vec<usize>, Vec<f32>);

/// A node, as far as it is needed to follow the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// ONNX's name of the operator.
    pub operator: String,
    /// What it reads.
    pub inputs: Vec<String>,
    /// What it writes; also its name.
    pub output: String,
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
    #[error("no whole ONNX file: {0}")]
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

/// One field of a protobuf message.
enum Field<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Any [`OnnxReadError`].
    pub fn read(path: &Path) -> Result<Self, OnnxReadError> {
        let failed = |cause: String| OnnxReadError::File { path: path.into(), cause };
        let bytes = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(failed(format!("{bytes} bytes; at most {FILE_BYTES_MAX} are read")));
        }
        Self::parse(&std::fs::read(path).map_err(|e| failed(e.to_string()))?)
    }

    /// Takes the bytes of a file apart.
    ///
    /// # Errors
    /// [`OnnxReadError::Damaged`] or [`OnnxReadError::Foreign`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OnnxReadError> {
        let mut file =
            Self { graph: Graph::default(), name: String::new(), version: String::new(), metadata: Vec::new() };
        let (mut producer, mut layout) = (String::new(), 0);
        each_field(bytes, |number, field| {
            match (number, field) {
                (1, Field::Integer(version)) => layout = version,
                (2, Field::Bytes(text)) => producer = text_of(text)?,
                (3, Field::Bytes(text)) => file.version = text_of(text)?,
                (7, Field::Bytes(graph)) => file.read_graph(graph)?,
                (14, Field::Bytes(entry)) => file.metadata.push(entry_of(entry)?),
                // Whatever else is there comes out at the end, when the bytes are compared.
                _ => {}
            }
            Ok(())
        })?;
        if producer != PRODUCER {
            let who = if producer.is_empty() { "nobody".to_owned() } else { format!("{producer:?}") };
            return Err(OnnxReadError::Foreign(format!("its producer is {who}")));
        }
        if file.bytes() != bytes {
            return Err(OnnxReadError::Foreign(format!(
                "layout {layout} where {IR_VERSION} and operator set {OPSET} are written, or it was changed afterwards"
            )));
        }
        Ok(file)
    }

    fn read_graph(&mut self, bytes: &[u8]) -> Result<(), OnnxReadError> {
        each_field(bytes, |number, field| {
            let Field::Bytes(bytes) = field else { return Ok(()) };
            match number {
                1 => self.graph.nodes.push(Message(bytes.to_vec())),
                2 => self.name = text_of(bytes)?,
                5 => self.graph.constants.push(Message(bytes.to_vec())),
                11 => self.graph.inputs.push(Message(bytes.to_vec())),
                12 => self.graph.outputs.push(Message(bytes.to_vec())),
                _ => {}
            }
            Ok(())
        })
    }

    /// The file as it is written: the same bytes as were read, unless something was changed.
    pub fn bytes(&self) -> Vec<u8> {
        let metadata: Vec<(&str, &str)> = self.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.graph.encode(&self.name, &self.version, &metadata)
    }

    /// The text under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Puts a text under a key.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        match self.metadata.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.metadata.push((key.into(), value.into())),
        }
    }

    /// Takes the text under a key away.
    pub fn remove_metadata(&mut self, key: &str) {
        self.metadata.retain(|(k, _)| k != key);
    }

    /// Shape and values of a float constant; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`OnnxReadError::Piece`] when it is not float, or its values are not as many as its shape says.
    pub fn floats(&self, name: &str) -> Result<Option<Floats>, OnnxReadError> {
        let mut found = None;
        for constant in &self.graph.constants {
            let tensor = TensorView::of(&constant.0)?;
            if tensor.name == name {
                found = Some(tensor);
            }
        }
        let Some(TensorView { shape, data_type, raw, .. }) = found else { return Ok(None) };
        let (chunks, rest) = raw.as_chunks::<4>();
        let values = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        if data_type != FLOAT || !rest.is_empty() || values != Some(chunks.len()) {
            let cause = format!("holds {} bytes of type {data_type} for the float shape {shape:?}", raw.len());
            return Err(OnnxReadError::Piece { name: name.into(), cause });
        }
        Ok(Some((shape, chunks.iter().map(|b| f32::from_le_bytes(*b)).collect())))
    }

    /// Exchanges the values of a float constant; its shape stays.
    ///
    /// # Errors
    /// [`OnnxReadError::Piece`] when there is none, of another size, or when a value is not finite.
    pub fn set_floats(&mut self, name: &str, values: &[f32]) -> Result<(), OnnxReadError> {
        let piece = |cause: String| OnnxReadError::Piece { name: name.into(), cause };
        let (shape, old) = self.floats(name)?.ok_or_else(|| piece("is not there".into()))?;
        if old.len() != values.len() || values.iter().any(|v| !v.is_finite()) {
            return Err(piece(format!("takes {} finite values, {} were given", old.len(), values.len())));
        }
        let mut fresh = Graph::default();
        fresh.floats(name, &shape, values);
        for constant in &mut self.graph.constants {
            if TensorView::of(&constant.0)?.name == name {
                *constant = fresh.constants.swap_remove(0);
                return Ok(());
            }
        }
        Ok(())
    }

    /// All nodes, in order.
    ///
    /// # Errors
    /// [`OnnxReadError::Damaged`].
    pub fn nodes(&self) -> Result<Vec<NodeView>, OnnxReadError> {
        self.graph.nodes.iter().map(|node| NodeView::of(&node.0)).collect()
    }

    /// Takes away every node that writes one of these, the outputs of these names, and every constant that nobody reads then.
    ///
    /// # Errors
    /// [`OnnxReadError::Damaged`].
    pub fn remove(&mut self, outputs: &[&str]) -> Result<(), OnnxReadError> {
        let written = self.nodes()?;
        let mut keep = written.iter().map(|node| !outputs.contains(&node.output.as_str()));
        self.graph.nodes.retain(|_| keep.next().unwrap_or(true));
        let names: Vec<String> = self.graph.outputs.iter().map(|o| name_of(&o.0)).collect::<Result<_, _>>()?;
        let mut keep = names.iter().map(|name| !outputs.contains(&name.as_str()));
        self.graph.outputs.retain(|_| keep.next().unwrap_or(true));
        let read: Vec<String> = self.nodes()?.into_iter().flat_map(|node| node.inputs).collect();
        let names: Vec<String> =
            self.graph.constants.iter().map(|c| TensorView::of(&c.0).map(|t| t.name)).collect::<Result<_, _>>()?;
        let mut keep = names.iter().map(|name| read.contains(name));
        self.graph.constants.retain(|_| keep.next().unwrap_or(true));
        Ok(())
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

/// A constant, as far as it is needed.
struct TensorView<'a> {
    name: String,
    shape: Vec<usize>,
    data_type: u64,
    raw: &'a [u8],
}

impl<'a> TensorView<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, OnnxReadError> {
        let mut tensor = Self { name: String::new(), shape: Vec::new(), data_type: 0, raw: &[] };
        each_field(bytes, |number, field| {
            match (number, field) {
                (1, Field::Integer(side)) => tensor.shape.push(side as usize),
                (2, Field::Integer(data_type)) => tensor.data_type = data_type,
                (8, Field::Bytes(name)) => tensor.name = text_of(name)?,
                (9, Field::Bytes(raw)) => tensor.raw = raw,
                _ => {}
            }
            Ok(())
        })?;
        Ok(tensor)
    }
}

impl NodeView {
    fn of(bytes: &[u8]) -> Result<Self, OnnxReadError> {
        let mut node = Self { operator: String::new(), inputs: Vec::new(), output: String::new() };
        each_field(bytes, |number, field| {
            let Field::Bytes(bytes) = field else { return Ok(()) };
            match number {
                1 => node.inputs.push(text_of(bytes)?),
                2 => node.output = text_of(bytes)?,
                4 => node.operator = text_of(bytes)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }
}

fn name_of(value_info: &[u8]) -> Result<String, OnnxReadError> {
    let mut name = String::new();
    each_field(value_info, |number, field| {
        if let (1, Field::Bytes(text)) = (number, field) {
            name = text_of(text)?;
        }
        Ok(())
    })?;
    Ok(name)
}

fn entry_of(bytes: &[u8]) -> Result<(String, String), OnnxReadError> {
    let mut entry = (String::new(), String::new());
    each_field(bytes, |number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => entry.0 = text_of(text)?,
            (2, Field::Bytes(text)) => entry.1 = text_of(text)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(entry)
}

fn text_of(bytes: &[u8]) -> Result<String, OnnxReadError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| OnnxReadError::Damaged("a name is not UTF-8".into()))
}

/// Goes through the fields of a message. Only the two wire types that this program writes are taken.
fn each_field<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(u64, Field<'a>) -> Result<(), OnnxReadError>,
) -> Result<(), OnnxReadError> {
    let mut at = 0;
    while at < bytes.len() {
        let key = varint(bytes, &mut at)?;
        match key & 7 {
            0 => take(key >> 3, Field::Integer(varint(bytes, &mut at)?))?,
            2 => {
                let length = varint(bytes, &mut at)?;
                let left = bytes.len() - at;
                if length > left as u64 {
                    let cause = format!("a field of {length} bytes begins {left} bytes before the end");
                    return Err(OnnxReadError::Damaged(cause));
                }
                let end = at + length as usize;
                take(key >> 3, Field::Bytes(&bytes[at..end]))?;
                at = end;
            }
            other => return Err(OnnxReadError::Damaged(format!("a field of wire type {other}"))),
        }
    }
    Ok(())
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, OnnxReadError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(|| OnnxReadError::Damaged("a number breaks off at the end".into()))?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(OnnxReadError::Damaged("a number of more than ten bytes".into()))
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
        assert_eq!(file.graph, small());
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
    fn constants_and_nodes_are_found_by_name() {
        let file = OnnxFile::parse(&bytes()).unwrap();
        let (shape, values) = file.floats("w").unwrap().unwrap();
        assert_eq!((shape, &values[..4]), (vec![3, 2], &[1.0, -2.0, 3.5, f32::MIN_POSITIVE][..]));
        assert!(file.floats("nobody").unwrap().is_none());
        let message = file.floats("shape").unwrap_err().to_string();
        assert!(message.contains("`shape` holds 16 bytes of type 7"), "{message}");
        let node = &file.nodes().unwrap()[0];
        assert_eq!((node.operator.as_str(), node.output.as_str(), node.inputs.len()), ("Gemm", "y", 3));
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
        file.remove(&["z"]).unwrap();
        assert_eq!(file.nodes().unwrap().len(), 1);
        assert_eq!((file.graph.outputs.len(), file.graph.constants.len()), (1, 2));
    }

    #[test]
    fn a_file_cut_anywhere_or_with_any_byte_changed_is_refused_or_means_what_it_says_and_never_panics() {
        let whole = bytes();
        for end in 0..whole.len() {
            // Between two entries of the metadata a file may end.
            if let Ok(file) = OnnxFile::parse(&whole[..end]) {
                assert!(file.graph == small() && file.bytes() == whole[..end], "cut at {end}");
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
        let mut model = Message::default();
        model.0.extend([0x08, 8, 0x12, 7]);
        model.0.extend(b"pytorch");
        let message = OnnxFile::parse(&model.0).unwrap_err().to_string();
        assert!(message.contains("its producer is \"pytorch\""), "{message}");
        assert!(OnnxFile::parse(b"").unwrap_err().to_string().contains("nobody"));
        let missing = OnnxFile::read(Path::new("/nowhere/m.onnx")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/m.onnx"), "{missing}");
    }
}
