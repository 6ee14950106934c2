"""Tells the daemon when something happened: marks with times, for its record and for `haltere latency`."""
from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Any, Optional

import zmq

from haltere.keys import ClientKeys


class Inlet:
    """Sends marks with times to the daemon's inlet.

        with Inlet(sender="projector") as inlet:
            inlet.mark("flash")                                # now, by this machine's monotonic clock
            inlet.mark("shown", ns=stamp, clock="device")      # by a clock of your own

    endpoint: the daemon's `inlet.endpoint`.
    sender: your name; the daemon keeps the clocks of senders apart.
    keys: if the daemon asks for them.
    """

    def __init__(self, endpoint: str = "tcp://127.0.0.1:5715", *, sender: str = "inlet", keys: Optional[ClientKeys] = None) -> None:
        self.sender = sender
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        if keys is not None:
            keys.put_on(self._socket)
        self._socket.connect(endpoint)

    def mark(self, name: str, *, ns: Optional[int] = None, clock: str = "monotonic", decision: Optional[int] = None) -> bool:
        """Sends a mark and does not wait. False: nobody takes it, because there is no daemon, or it is far behind.

        ns: when it happened, on `clock`. None: now.
        decision: `seq` of the decision that it acknowledges (`Outputs.decision`).
        """
        if ns is None:
            ns, clock = time.monotonic_ns(), "monotonic"
        said: dict[str, Any] = {"name": name, "from": self.sender, "timestamp_ns": ns, "clock": clock}
        if decision is not None:
            said["decision"] = decision
        try:
            self._socket.send(json.dumps(said).encode(), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Closes the socket; what waits is sent for up to a second."""
        self._socket.close(linger=1000)
        self._context.term()

    def __enter__(self) -> Inlet:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()
