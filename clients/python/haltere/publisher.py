"""The microscope's end: publishes frames in the format of clients/PROTOCOL.md."""
from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional, Union

import numpy as np
import zmq
from numpy.typing import NDArray

from haltere.keys import ClientKeys, ServerKeys

# Frames that may wait for a slow daemon: what waits here is already old.
_QUEUE_FRAMES = 16


class Publisher:
    """Sends frames to a daemon.

    endpoint: `tcp://ADDRESS:PORT` or, on Linux and macOS, `ipc://PATH`; the daemon's `source.endpoint`.
    source: name of the rig, 1 to 64 characters from `[A-Za-z0-9_.-]`.
    connect: connect instead of bind; the daemon's `source.attach` must then be "bind".
    push: PUSH instead of PUB, so that a slow daemon holds the sender back; the daemon's `source.pattern` must then be "pull".
    keys: `ServerKeys` to bind, `ClientKeys` to connect; None sends without encryption.

    Use it in a `with` statement, or call `close`: a program that simply exits may lose its last frames.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:5710",
        *,
        source: str = "rig1",
        connect: bool = False,
        push: bool = False,
        keys: Union[ClientKeys, ServerKeys, None] = None,
    ) -> None:
        if isinstance(keys, ServerKeys if connect else ClientKeys):
            raise ValueError("a publisher that binds takes ServerKeys, one that connects takes ClientKeys")
        self.source = source
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH if push else zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, _QUEUE_FRAMES)
        self._authenticator = keys.put_on(self._socket, self._context) if isinstance(keys, ServerKeys) else None
        if isinstance(keys, ClientKeys):
            keys.put_on(self._socket)
        (self._socket.connect if connect else self._socket.bind)(endpoint)

    def send(
        self,
        frame: NDArray[Any],
        number: Optional[int] = None,
        *,
        timestamp_ns: Optional[int] = None,
        clock: str = "monotonic",
        stamp: str = "end",
        valid: bool = True,
        stimulus: bool = False,
        series: Optional[str] = None,
        animal: Optional[str] = None,
        channels: Optional[Sequence[str]] = None,
        plane: Optional[int] = None,
    ) -> None:
        """Sends one frame: [height, width] or [channels, height, width]; uint8, uint16, int16 or float32.

        number: the frame's number; without it the daemon counts.
        timestamp_ns: when the frame was taken, on the clock named by `clock` (`monotonic`, `unix`, `device`, `ptp`), at the point named by
        `stamp` (`start`, `mid`, `end`). Without it: now, by this machine's monotonic clock.
        valid: False if the frame is worthless; stimulus: True if light went in during it. The daemon then does not learn from it.
        """
        header: dict[str, Any] = {"dtype": str(frame.dtype), "shape": frame.shape, "source": self.source, "stamp": stamp}
        header["timestamp_ns"], header["clock"] = (time.monotonic_ns(), "monotonic") if timestamp_ns is None else (timestamp_ns, clock)
        optional = {"frame": number, "series": series, "animal": animal, "channels": channels, "plane": plane}
        header.update({key: value for key, value in optional.items() if value is not None})
        if not valid:
            header["valid"] = False
        if stimulus:
            header["stimulus"] = True
        self._socket.send_json(header, zmq.SNDMORE)
        self._socket.send(np.ascontiguousarray(frame).data)

    def end(self) -> None:
        """Says that this acquisition is over."""
        self._socket.send_json({"htype": "end", "source": self.source})

    def close(self, wait_s: float = 10.0) -> None:
        """Closes the socket once the last frames are out, but after `wait_s` at the latest."""
        self._socket.close(linger=int(wait_s * 1000))
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()
