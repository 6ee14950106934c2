//! The other end of the sockets: a stand-in for the microscope, subscribers for people and scripts, and requests to a daemon.

pub mod ask;
pub mod demo;
pub mod latency;
pub mod monitor;
pub mod play;
mod publication;
pub mod state;
mod subscribe;
pub mod watch;
