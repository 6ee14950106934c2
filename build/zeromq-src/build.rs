//! Passes on where libsodium was built: its build script tells only its direct dependents.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for key in ["LIB", "INCLUDE"] {
        // Absent if $SODIUM_LIB_DIR replaces the library that is built here: then the compiler must find the headers by itself.
        let place = std::env::var(format!("DEP_SODIUM_{key}")).or_else(|_| std::env::var("SODIUM_LIB_DIR"));
        println!(
            "cargo::rustc-env=SODIUM_{key}={}",
            place.expect("libsodium-sys-stable says where it built libsodium")
        );
    }
}
