"""Requests to a running daemon, over its control socket."""
from __future__ import annotations

import json
from typing import Any, Optional

import zmq

from haltere.keys import ClientKeys


class ControlError(RuntimeError):
    """The daemon refused a request; the message is its own."""


class Control:
    """Asks a daemon, one request at a time.

    endpoint: the daemon's `control.endpoint`.
    keys: if the daemon asks for them.
    timeout_s: how long to wait for an answer.
    """

    def __init__(self, endpoint: str = "tcp://127.0.0.1:5712", *, keys: Optional[ClientKeys] = None, timeout_s: float = 2.0) -> None:
        self.endpoint, self.keys, self.timeout_s = endpoint, keys, timeout_s

    def request(self, command: str) -> dict[str, Any]:
        """Sends a command of clients/PROTOCOL.md, such as "template reset" or "mark light on", and returns the answer.

        Raises ControlError if the daemon refuses it, and TimeoutError if nobody answers.
        """
        timeout_ms = int(self.timeout_s * 1000)
        # A request that was not answered leaves its socket unusable: each has one of its own.
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDTIMEO, timeout_ms)
            socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            if self.keys is not None:
                self.keys.put_on(socket)
            socket.connect(self.endpoint)
            try:
                socket.send(json.dumps({"command": command}).encode())
                answer: dict[str, Any] = json.loads(socket.recv())
            except zmq.Again:
                raise TimeoutError(
                    f"{self.endpoint}: no answer within {timeout_ms} ms: is `haltere run` running with this `control.endpoint`, "
                    "and does it ask for keys?"
                ) from None
        if not answer.get("ok"):
            raise ControlError(str(answer.get("error", answer)))
        return answer

    def status(self) -> dict[str, Any]:
        """Counters, latencies, model and quality."""
        status: dict[str, Any] = self.request("status")["status"]
        return status

    def mark(self, text: str) -> None:
        """Adds a time-stamped note to the recording."""
        self.request(f"mark {text}")

    def record_start(self) -> dict[str, Any]:
        """Starts a session file in the daemon's `record.folder`."""
        return self.request("record start")

    def record_stop(self) -> dict[str, Any]:
        """Closes it."""
        return self.request("record stop")

    def reset(self) -> None:
        """A new animal: everything learnt is forgotten."""
        self.request("reset")

    def animal(self, name: str) -> dict[str, Any]:
        """This animal comes next; the answer's `saved_state` says whether anything was saved of it."""
        return self.request(f"animal {name}")

    def model(self, path: str) -> dict[str, Any]:
        """Loads another model (a path on the daemon's machine) and switches to it once it is warm."""
        return self.request(f"model {path}")

    def shutdown(self) -> None:
        """The daemon publishes the neutral action and exits."""
        self.request("shutdown")
