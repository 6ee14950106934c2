//! Options that name keys, for every subcommand that talks to a daemon.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::config::Attach;
use crate::config::endpoint::Endpoint;
use crate::source::zmq::Access;
use crate::sys::exit::{ExitCode, Failure};
use crate::sys::sockets::{ClientKeys, Clients, Connections, Door, KeyError, KeyPair, PublicKey, ServerKeys};

/// Keys for connecting.
#[derive(Clone, Debug, Default, Args)]
pub struct CurveArgs {
    /// Connect with this secret key (NAME.key_secret, from `haltere keys`) and encrypt; the daemon must have the public one.
    #[arg(long, value_name = "FILE", requires = "server")]
    pub curve: Option<PathBuf>,
    /// Public key of the daemon (its NAME.key): nobody else can pretend to be it.
    #[arg(long, value_name = "FILE", requires = "curve")]
    pub server: Option<PathBuf>,
}

impl CurveArgs {
    /// The keys, if any were given.
    ///
    /// # Errors
    /// A file without its key.
    pub fn keys(&self) -> Result<Option<ClientKeys>, KeyError> {
        let (Some(own), Some(server)) = (&self.curve, &self.server) else { return Ok(None) };
        Ok(Some(ClientKeys { pair: KeyPair::read(own)?, server: PublicKey::read(server)? }))
    }
}

/// Keys for sending frames, which may bind or connect.
#[derive(Clone, Debug, Default, Args)]
pub struct SenderCurveArgs {
    /// Send with this secret key (NAME.key_secret, from `haltere keys`) and encrypt.
    #[arg(long, value_name = "FILE")]
    pub curve: Option<PathBuf>,
    /// Folder with the public keys of those who may receive; with --curve, unless --connect.
    #[arg(long, value_name = "FOLDER", requires = "curve", conflicts_with_all = ["connect", "server"])]
    pub clients: Option<PathBuf>,
    /// Public key of the daemon; with --curve and --connect.
    #[arg(long, value_name = "FILE", requires = "curve", requires = "connect")]
    pub server: Option<PathBuf>,
    /// Bind to an address that other machines can reach without asking for keys: everyone there can receive the frames.
    #[arg(long)]
    pub insecure: bool,
}

impl SenderCurveArgs {
    /// Who may receive at `endpoint`, and who came.
    ///
    /// # Errors
    /// A file without its key, keys that do not fit `attach`, or an open address without `--insecure`.
    pub fn access(&self, endpoint: &Endpoint, attach: Attach) -> anyhow::Result<(Access, Arc<Connections>)> {
        let usage = |what: String| Failure { code: ExitCode::Usage, what };
        let pair = self.curve.as_deref().map(KeyPair::read).transpose()?;
        let connections = Arc::new(Connections::default());
        let door = |keys| Door::new(keys, connections.clone());
        let access = match (pair, &self.clients, &self.server) {
            (None, ..) if attach == Attach::Bind && !endpoint.is_local() => {
                anyhow::ensure!(
                    self.insecure,
                    usage(format!(
                        "--endpoint {endpoint} can be reached from other machines, and without keys everyone there can receive the frames: \
                         pass --curve and --clients, or accept that with --insecure"
                    ))
                );
                eprintln!("{endpoint} can be reached from other machines, without keys or encryption (--insecure)");
                Access { door: door(None), keys: None }
            }
            (None, ..) => Access { door: door(None), keys: None },
            (Some(pair), Some(clients), _) => {
                let clients = Clients::of(clients)?;
                Access { door: door(Some(Arc::new(ServerKeys { pair, clients }))), keys: None }
            }
            (Some(pair), None, Some(server)) => {
                let server = PublicKey::read(server)?;
                Access { door: Door::default(), keys: Some(ClientKeys { pair, server }) }
            }
            (Some(_), None, None) => {
                let with = if attach == Attach::Bind { "--clients FOLDER" } else { "--server FILE" };
                return Err(usage(format!("--curve also needs {with}: whom to trust at the other end")).into());
            }
        };
        Ok((access, connections))
    }
}
