//! Where an ONNX file says that its weights lie: within it, or in files beside it.
//!
//! Why it exists: such a place is a path in a file that may come from anywhere, and ONNX Runtime reads what it names. What it must never do: let
//! a path lead out of the model's folder.

use std::path::{Component, Path};

use prost::Message;

use super::ModelError;

/// Largest ONNX file, bytes: the bound of its format.
const FILE_BYTES_MAX: u64 = 1 << 31;
/// `TensorProto.DataLocation`.
const EXTERNAL: i32 = 1;

/// Refuses a file whose weights lie outside its folder.
///
/// # Errors
/// [`ModelError::External`], or a file that cannot be read or is not an ONNX file.
pub fn refuse_outside(onnx: &Path) -> Result<(), ModelError> {
    let failed = |cause: std::io::Error| ModelError::File { path: onnx.into(), cause };
    let length = std::fs::metadata(onnx).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        let cause = format!("{length} bytes; an ONNX file has at most {FILE_BYTES_MAX}");
        return Err(failed(std::io::Error::other(cause)));
    }
    let bytes = std::fs::read(onnx).map_err(failed)?;
    let file = File::decode(bytes.as_slice())
        .map_err(|cause| failed(std::io::Error::other(format!("not an ONNX file: {cause}"))))?;
    let folder = onnx.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut places = Vec::new();
    file.collect(&mut places);
    places.iter().try_for_each(|place| inside(folder, place)).map_err(|(location, cause)| ModelError::External {
        path: onnx.into(),
        location,
        cause,
    })
}

/// A path that names something below the folder it is relative to.
pub(super) fn stays_inside(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

/// Links are followed: a folder that was unpacked from elsewhere may contain any.
fn inside(folder: &Path, place: &[u8]) -> Result<(), (String, &'static str)> {
    let shown = String::from_utf8_lossy(place).into_owned();
    let refuse = |cause| Err((shown.clone(), cause));
    let Ok(location) = std::str::from_utf8(place).map(Path::new) else { return refuse("is not a path in UTF-8") };
    if place.is_empty() || !stays_inside(location) {
        return refuse("must be relative to the model's folder and must not leave it");
    }
    match (folder.canonicalize(), folder.join(location).canonicalize()) {
        (Ok(folder), Ok(found)) if found.starts_with(&folder) && found.is_file() => Ok(()),
        (Ok(_), Ok(_)) => refuse("is a link that leaves the model's folder, or not a file"),
        _ => refuse("is not there; copy it to where the model is"),
    }
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "20")]
    training: Vec<Training>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Training {
    #[prost(message, optional, tag = "1")]
    initialization: Option<Graph>,
    #[prost(message, optional, tag = "2")]
    algorithm: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    constants: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse: Option<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparses: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Sparse {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external: Vec<Entry>,
    #[prost(int32, optional, tag = "14")]
    location: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", optional, tag = "1")]
    key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    value: Option<Vec<u8>>,
}

impl File {
    /// The places of all weights that are not within the file.
    fn collect(&self, into: &mut Vec<Vec<u8>>) {
        let trainings = self.training.iter().flat_map(|training| [&training.initialization, &training.algorithm]);
        self.graph.iter().chain(trainings.flatten()).for_each(|graph| graph.collect(into));
        for function in &self.functions {
            function.nodes.iter().flat_map(|node| &node.attributes).for_each(|attribute| attribute.collect(into));
            function.attributes.iter().for_each(|attribute| attribute.collect(into));
        }
    }
}

impl Graph {
    fn collect(&self, into: &mut Vec<Vec<u8>>) {
        self.constants.iter().for_each(|tensor| tensor.collect(into));
        self.sparse.iter().for_each(|sparse| sparse.collect(into));
        self.nodes.iter().flat_map(|node| &node.attributes).for_each(|attribute| attribute.collect(into));
    }
}

impl Attribute {
    fn collect(&self, into: &mut Vec<Vec<u8>>) {
        self.tensor.iter().chain(&self.tensors).for_each(|tensor| tensor.collect(into));
        self.graph.iter().chain(&self.graphs).for_each(|graph| graph.collect(into));
        self.sparse.iter().chain(&self.sparses).for_each(|sparse| sparse.collect(into));
    }
}

impl Sparse {
    fn collect(&self, into: &mut Vec<Vec<u8>>) {
        self.values.iter().chain(&self.indices).for_each(|tensor| tensor.collect(into));
    }
}

impl Tensor {
    fn collect(&self, into: &mut Vec<Vec<u8>>) {
        if self.location != Some(EXTERNAL) && self.external.is_empty() {
            return;
        }
        let places = self.external.iter().filter(|entry| entry.key.as_deref() == Some(b"location"));
        let before = into.len();
        into.extend(places.map(|entry| entry.value.clone().unwrap_or_default()));
        if into.len() == before {
            into.push(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(place: &str) -> Tensor {
        let entry = |key: &str, value: &str| Entry { key: Some(key.into()), value: Some(value.into()) };
        Tensor { external: vec![entry("offset", "0"), entry("location", place)], location: Some(EXTERNAL) }
    }

    /// One file for each place in which ONNX can hide a tensor.
    fn files(place: &str) -> Vec<File> {
        let constant = Graph { constants: vec![tensor(place)], ..Graph::default() };
        let sparse = Sparse { values: Some(Tensor::default()), indices: Some(tensor(place)) };
        let attributes = [
            Attribute { tensor: Some(tensor(place)), ..Attribute::default() },
            Attribute { tensors: vec![tensor(place)], ..Attribute::default() },
            Attribute { graph: Some(constant.clone()), ..Attribute::default() },
            Attribute { graphs: vec![constant.clone()], ..Attribute::default() },
            Attribute { sparse: Some(sparse.clone()), ..Attribute::default() },
            Attribute { sparses: vec![sparse.clone()], ..Attribute::default() },
        ];
        let of = |graph: Graph| File { graph: Some(graph), ..File::default() };
        let node = |attribute: &Attribute| Node { attributes: vec![attribute.clone()] };
        let mut files = vec![of(constant.clone()), of(Graph { sparse: vec![sparse], ..Graph::default() })];
        files.extend(attributes.iter().map(|a| of(Graph { nodes: vec![node(a)], ..Graph::default() })));
        let function = Function { nodes: vec![node(&attributes[0])], attributes: Vec::new() };
        files.push(File { functions: vec![function], ..File::default() });
        let training = Training { initialization: None, algorithm: Some(constant) };
        files.push(File { training: vec![training], ..File::default() });
        files
    }

    fn judged(folder: &Path, file: &File) -> Result<(), ModelError> {
        let path = folder.join("model.onnx");
        std::fs::write(&path, file.encode_to_vec()).unwrap();
        refuse_outside(&path)
    }

    #[test]
    fn weights_beside_the_model_are_taken_and_those_elsewhere_refused_wherever_they_are_named() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("model");
        std::fs::create_dir_all(folder.join("parts")).unwrap();
        for file in [folder.join("weights.bin"), folder.join("parts/1.bin"), outside.path().join("secret")] {
            std::fs::write(file, b"1234").unwrap();
        }
        std::os::unix::fs::symlink("../secret", folder.join("link.bin")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
        for place in ["weights.bin", "parts/1.bin"] {
            files(place).iter().for_each(|file| judged(&folder, file).unwrap());
        }
        for place in [
            "../secret",
            "/etc/passwd",
            "parts/../../secret",
            "link.bin",
            "up/secret",
            "missing",
            "",
            "parts",
            "/dev/zero",
        ] {
            for (n, file) in files(place).iter().enumerate() {
                let error = judged(&folder, file).unwrap_err();
                assert!(matches!(&error, ModelError::External { .. }), "{place} in {n}: {error}");
            }
        }
    }

    #[test]
    fn what_is_no_onnx_file_is_refused_and_every_shipped_model_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.onnx"), b"\xff\xff\xff").unwrap();
        assert!(refuse_outside(&folder.path().join("m.onnx")).unwrap_err().to_string().contains("not an ONNX file"));
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "onnx") {
                refuse_outside(&path).unwrap();
            }
        }
    }
}
