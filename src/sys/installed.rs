//! Files that come with the program: in `PREFIX/share/haltere` of an installation, or at the top of a checkout.
//!
//! Why it exists: `haltere demo` must find its model wherever it was installed, and ONNX Runtime may lie in the same Python
//! environment. What it must never do: look in a place that came with data (a recording, a session, a model).

use std::path::{Path, PathBuf};

/// What installations put below `PREFIX/share`.
const SHARE: &str = "share/haltere";
/// The folder of a checkout in which cargo builds.
const TARGET: &str = "target";

/// The prefix that this program is installed under: `PREFIX` of `PREFIX/bin/haltere`, links followed. `None` where the system does not
/// say where a program lies.
pub fn prefix() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let program = program.canonicalize().unwrap_or(program);
    program.parent()?.parent().map(Path::to_owned)
}

/// Where `name` (such as `models/fly.toml`) may lie, best first: beside the installed program, at the top of the checkout that it was
/// built in, in the current folder.
pub fn places(name: &Path) -> Vec<PathBuf> {
    below(prefix().as_deref(), name)
}

fn below(prefix: Option<&Path>, name: &Path) -> Vec<PathBuf> {
    let installed = prefix.map(|prefix| prefix.join(SHARE).join(name));
    let built = prefix.filter(|prefix| prefix.ends_with(TARGET)).and_then(Path::parent).map(|top| top.join(name));
    installed.into_iter().chain(built).chain([name.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_a_checkout_and_the_current_folder_are_looked_at_in_this_order() {
        let name = Path::new("models/fly.toml");
        let shown = |prefix: &str| -> Vec<String> {
            below(Some(Path::new(prefix)), name).iter().map(|place| place.display().to_string()).collect()
        };
        assert_eq!(shown("/opt/venv"), ["/opt/venv/share/haltere/models/fly.toml", "models/fly.toml"]);
        assert_eq!(
            shown("/src/haltere/target"),
            ["/src/haltere/target/share/haltere/models/fly.toml", "/src/haltere/models/fly.toml", "models/fly.toml"]
        );
    }
}
