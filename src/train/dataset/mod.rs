//! From files on disk to a [`Dataset`](super::data::Dataset).
