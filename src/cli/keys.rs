//! `haltere keys`: key pairs for encrypted sockets.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::frame::Name;
use crate::sys::exit::ExitCode;
use crate::sys::sockets::KeyPair;

/// `haltere keys`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  haltere keys rig2 --folder /etc/haltere          the daemon's pair
  haltere keys anna                                a pair for a person or program that connects
  mkdir clients && cp anna.key clients/            let that client in
  haltere run --config rig.toml                    with [curve] key = \"rig2.key_secret\", clients = \"clients\"
  haltere watch --endpoint tcp://10.0.0.2:5711 --curve anna.key_secret --server rig2.key

Each pair is two files in the form of pyzmq's certificates. NAME.key holds the public key and may be given to anyone. NAME.key_secret \
holds both; only its owner may read it, and it never needs to leave the machine it was made on.")]
pub struct KeysArgs {
    /// Name of the pair: the daemon's log calls a client by it.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<Name>,
    /// Folder for the files.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
}

/// Makes the pairs and says where they are.
///
/// # Errors
/// A folder that cannot be written, or files that are there already.
pub fn run(args: &KeysArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    for name in &args.names {
        let pair = KeyPair::generate()?;
        let [secret, public] = pair.write(&args.folder, name.as_str())?;
        writeln!(out, "{}: secret, keep it here\n{}: public, {}", secret.display(), public.display(), pair.public())?;
    }
    Ok(ExitCode::Ok)
}
