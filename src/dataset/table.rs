//! A table of behaviour, and which part of a file it is.

use ndarray::Array2;

use super::row_clock::RowClock;

/// How many columns a headerless file has.
#[derive(Clone, Debug, PartialEq)]
pub enum Columns {
    /// As the file itself states (`.npy`, CSV).
    Own,
    /// This many, as the user stated.
    Count(usize),
    /// The file has this many rows, from which the columns follow.
    Rows(usize),
    /// These names: they choose among the columns of a CSV, and name those of other files.
    Names(Vec<String>),
}

/// Which of several poses in one file to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pick {
    /// A track of SLEAP, by name or number, or an individual of DeepLabCut.
    pub track: Option<String>,
    /// An array of DeepFly3D.
    pub points: Option<String>,
}

/// Rows of numbers with named columns.
pub struct Table {
    /// `[rows, columns]`.
    pub values: Array2<f32>,
    /// One per column.
    pub names: Vec<String>,
    /// What the file says about the times of its rows.
    pub clock: RowClock,
}

impl Table {
    /// A table that says nothing about its rows.
    pub fn new(values: Array2<f32>, names: Vec<String>) -> Self {
        Self { values, names, clock: RowClock::default() }
    }
}
