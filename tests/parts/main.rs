//! Single parts held against an oracle: sources, preprocessing, kernels, NWB files. None of them needs the feature `train`.

#[path = "../support/mod.rs"]
mod support;

mod bad_messages;
mod conformance;
mod demo;
mod kernels;
mod limits;
mod nwb_export;
mod nwb_source;
mod placement;
mod preprocess;
mod registration_accuracy;
mod sources;
