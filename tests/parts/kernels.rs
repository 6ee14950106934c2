//! The kernels as NVIDIA's compiler sees them, on a machine without a GPU: `kernels.cu` compiles for every architecture that CUDA 13
//! knows, and the PTX that is shipped is what comes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compile(targets: &[&str]) -> Vec<u8> {
    let python: PathBuf = root().join(".venv/bin/python");
    let output = Command::new(python)
        .current_dir(root())
        .args(["tests/support/compile_kernels.py", "src/cuda/kernels.cu"])
        .args(targets)
        .output()
        .expect("`make setup` makes .venv");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_kernel_compiles_to_machine_code_of_turing_ampere_hopper_and_blackwell() {
    compile(&["cubin:sm_75", "cubin:sm_80", "cubin:sm_90", "cubin:sm_120"]);
}

#[test]
fn the_ptx_that_is_shipped_is_made_of_these_kernels() {
    let shipped = std::fs::read(root().join("src/cuda/kernels.ptx")).expect("the file");
    assert!(compile(&["ptx:compute_75"]) == shipped, "run scripts/make-ptx.sh, and commit what it writes");
}
