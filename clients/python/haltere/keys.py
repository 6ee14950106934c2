"""Keys of sockets (CURVE): files made by `haltere keys NAME` or `zmq.auth.create_certificates`."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

Socket = zmq.Socket[Any]
Context = zmq.Context[Any]
StrPath = Union[str, "os.PathLike[str]"]


def _secret(file: StrPath) -> tuple[bytes, bytes]:
    public, secret = zmq.auth.load_certificate(file)
    if secret is None:
        raise ValueError(f"{os.fspath(file)}: holds no secret key; name the file NAME.key_secret that `haltere keys NAME` made")
    return public, secret


@dataclass(frozen=True)
class ClientKeys:
    """Keys of a program that connects to the daemon.

    own: its secret key, `NAME.key_secret`; the daemon must have `NAME.key` in its `curve.clients`.
    server: the daemon's public key, its `.key`.
    """

    own: Path
    server: Path

    def __init__(self, own: StrPath, server: StrPath) -> None:
        object.__setattr__(self, "own", Path(own))
        object.__setattr__(self, "server", Path(server))

    def put_on(self, socket: Socket) -> None:
        """Sets the keys; call it before `connect`."""
        socket.curve_publickey, socket.curve_secretkey = _secret(self.own)
        socket.curve_serverkey, _ = zmq.auth.load_certificate(self.server)


@dataclass(frozen=True)
class ServerKeys:
    """Keys of a microscope that binds its socket and lets daemons connect.

    own: its secret key, `NAME.key_secret`; the daemon has `NAME.key` as `curve.sender`.
    clients: a folder with the public key (`.key`) of each daemon that may connect.
    """

    own: Path
    clients: Path

    def __init__(self, own: StrPath, clients: StrPath) -> None:
        object.__setattr__(self, "own", Path(own))
        object.__setattr__(self, "clients", Path(clients))

    def put_on(self, socket: Socket, context: Context) -> ThreadAuthenticator:
        """Sets the keys; call it before `bind`, and `stop` on what it returns once the socket is closed."""
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        authenticator.configure_curve(domain="*", location=os.fspath(self.clients))
        socket.curve_publickey, socket.curve_secretkey = _secret(self.own)
        socket.curve_server = True
        return authenticator
