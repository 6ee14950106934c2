//! The encoder takes no memory on the Rust side once it is open.
//!
//! Method: an allocator that counts the calls of this thread, around 10 and around 1000 steps of both kinds of model; both
//! counts must be 0. What ONNX Runtime takes inside is C++ and not seen here.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use burn::tensor::Device;
use haltere::encode::Encoder;
use haltere::frame::{Shape, Tensor};
use haltere::model::head::NoveltyReference;
use haltere::model::parameters::Parameters;
use haltere::model::{Kind, Model, Provenance};
use haltere::train::export::head::{FittedHead, FittedNovelty};
use haltere::train::export::{Details, seeded_frames, write_with_head};
use haltere::train::{Network, NetworkSpec};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_of_either_kind_of_model_allocates_and_frees_nothing() {
    let mut spec = NetworkSpec::for_input(Shape::new(1, 32, 32));
    (spec.window_frames, spec.labels) = (4, vec!["rest".into(), "walk".into()]);
    let network = Network::new(&spec, 1, &Device::flex()).unwrap();
    let mut prototypes = ndarray::Array2::zeros((1, spec.embedding));
    prototypes[[0, 0]] = 1.0;
    let reference = NoveltyReference { prototypes, thresholds: vec![0.1, 0.2] };
    let novelty = Some(FittedNovelty { reference, measured_on: "nobody".into() });
    let learnt = FittedHead { novelty, ..FittedHead::default() };
    for (kind, name) in [(Kind::Streaming, "streaming"), (Kind::Windowed, "windowed")] {
        let folder = tempfile::tempdir().unwrap();
        let details = Details {
            name: name.into(),
            kind,
            frame_rate_hz: 16.0,
            look_ahead_frames: 0,
            provenance: Provenance::default(),
            preprocess: Parameters::default(),
        };
        let model = Model::load(&write_with_head(&network, &spec, &details, &learnt, folder.path()).unwrap()).unwrap();
        let mut encoder = Encoder::open(&model, None, 1).unwrap();
        let mut embedding = encoder.new_embedding();
        let frames = seeded_frames(spec.input, 3, 5);
        for steps in [10, 1000] {
            let before = CALLS.with(Cell::get);
            for step in 0..steps {
                let frame = &frames[step % 3 * 1024..][..1024];
                encoder.encode(&Tensor::Host(frame), &mut embedding).unwrap();
            }
            encoder.reset();
            assert_eq!(CALLS.with(Cell::get) - before, 0, "{name}, {steps} steps");
        }
        let before = CALLS.with(Cell::get);
        drop(vec![1_u8; 100]);
        assert_eq!(CALLS.with(Cell::get) - before, 2, "the counter counts");
    }
}
