//! Small tools without a domain: clock and counters, files written whole, random numbers, a little linear algebra, signals,
//! progress, exit codes.

pub mod assign;
pub mod calendar;
pub mod cholesky;
pub mod clock;
pub mod clock_offset;
pub mod counters;
pub mod csv;
pub mod denormals;
pub mod exit;
pub mod files;
pub mod installed;
pub mod linalg;
pub mod log_lines;
pub mod npy;
pub mod npy_read;
pub mod palette;
pub mod partial_file;
pub mod progress;
pub mod random;
pub mod replace_folder;
pub mod revision;
pub mod schema;
pub mod signals;
pub mod sockets;
pub mod stamp_age;
pub mod statistics;
