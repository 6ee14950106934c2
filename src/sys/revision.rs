//! Which commit the working directory stands at.
//!
//! Why it exists: a recording or a trained model must lead back to the code and the files that made it. What it must never do: fail a
//! run because git is not there.

use std::process::{Command, Stdio};

/// Commit of the working directory, `-dirty` when tracked files were changed; `unknown` without git or outside a checkout.
pub fn git_revision() -> String {
    let Some(commit) = git(&["rev-parse", "--verify", "HEAD"]).filter(|commit| !commit.is_empty()) else {
        return "unknown".into();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    commit + if changed { "-dirty" } else { "" }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
