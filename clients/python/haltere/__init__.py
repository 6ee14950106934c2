"""haltere from Python: send frames, act on decodes, control the daemon, read what was recorded.

    from haltere import Publisher, Subscriber, Outputs, Inlet, Control, Session

The daemon itself is the program `haltere` (`haltere demo` shows it at work). This package needs pyzmq and numpy and nothing else; it also
runs on a microscope or stimulus PC on which the daemon does not.
"""
from importlib import metadata as _metadata
from pathlib import Path as _Path

from haltere.control import Control, ControlError
from haltere.inlet import Inlet
from haltere.keys import ClientKeys, ServerKeys
from haltere.outputs import Outputs
from haltere.publisher import Publisher
from haltere.session import RecordedFrame, Session, SessionError, read_embeddings
from haltere.subscriber import Advice, Subscriber

__all__ = [
    "Advice", "ClientKeys", "Control", "ControlError", "Inlet", "Outputs", "Publisher", "RecordedFrame", "ServerKeys", "Session", "SessionError", "Subscriber",
    "read_embeddings", "share",
]


def share(name: str) -> _Path:
    """Where a file that was installed with the program lies, as in `share("models/fly.toml")` or `share("config/default.toml")`.

    Raises FileNotFoundError if this package was installed without the program.
    """
    try:
        files = _metadata.files("haltere") or []
    except _metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(f"share/haltere/{name}"):
            return _Path(str(file.locate())).resolve()
    raise FileNotFoundError(f"no {name} was installed with the Python package haltere: install the wheel that holds the program")
