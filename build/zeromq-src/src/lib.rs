//! libzmq with CURVE, for `zmq-sys`.
//!
//! Why it exists: `zmq-sys` builds libzmq by `zeromq_src::Build::new().with_libsodium(None).build()`, which has no encryption and no way to ask
//! for it. This crate stands in for its `zeromq-src` (`[patch.crates-io]` in haltere's `Cargo.toml`) and adds the library that was asked for by
//! nobody. What it must never do: need a library of the system, or the network beyond crates.io.

use zeromq_src_plain::LibLocation;

// A library that is not mentioned is not built.
use libsodium_sys as _;

/// As [`zeromq_src_plain::Build`], of which `zmq-sys` uses these three calls.
#[derive(Debug, Default)]
pub struct Build {
    build: zeromq_src_plain::Build,
}

impl Build {
    /// A build with CURVE.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ignores the library it is given: there is one already.
    pub fn with_libsodium(&mut self, _none: Option<LibLocation>) -> &mut Self {
        self
    }

    /// Builds libzmq, and tells Cargo to link it and libsodium. Where `DOCS_RS` says that nothing will be linked, it builds nothing.
    pub fn build(&mut self) {
        println!("cargo::rerun-if-env-changed=DOCS_RS");
        if std::env::var_os("DOCS_RS").is_some() {
            return;
        }
        let libsodium = LibLocation::new(env!("SODIUM_LIB"), env!("SODIUM_INCLUDE"));
        self.build.with_libsodium(Some(libsodium)).build();
    }
}
