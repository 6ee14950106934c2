//! Single parts held against an oracle: sources, preprocessing, kernels, NWB files. None of them needs the feature `train`.

#[path = "../support/mod.rs"]
mod support;

mod bad_messages;
mod behaviour_files;
mod book;
mod conformance;
mod demo;
mod fuzz;
mod info;
mod kernels;
mod light_on_recordings;
mod limits;
mod matlab;
mod nwb_export;
mod nwb_source;
mod placement;
mod preprocess;
mod recordings;
mod recordings_by_vendor;
mod recordings_of_labs;
mod recordings_reported;
mod registration_accuracy;
mod schemas;
mod shown_cases;
mod sources;
mod warm_start;
