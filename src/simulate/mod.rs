//! Synthetic flies with known truth.
