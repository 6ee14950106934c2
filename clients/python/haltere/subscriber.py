"""The stimulus controller's end: decodes by the four rules of clients/README.md.

1. Act only on quality "ok" (or "degraded", if you accept it); for anything else take the neutral action.
2. If no heartbeat arrives for `deadline_ms`, take the neutral action.
3. A jump in `seq` means that you lost decodes.
4. Read everything that waits, act on the newest decode only, and refuse one that was published longer ago than `deadline_ms`: a queue of
   decodes is a queue of old decodes.
"""
from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional

import numpy as np
import zmq
from numpy.typing import NDArray

from haltere.keys import ClientKeys

# Clocks of two machines drift apart by less than 200 ppm.
_LEAK = 1 / 5000
# Until the first heartbeat says what the deadline is.
_DEADLINE_S = 1.0
# How often a waiting subscriber looks whether the daemon has fallen silent.
_LOOK_MS = 10


@dataclass(frozen=True)
class Decision:
    """What to do now, and why."""

    action: Optional[str]
    """The decoded action if `trusted` (None if the model names no actions), else the neutral action."""
    trusted: bool
    """May the decode be acted upon?"""
    why: str
    """The decode's quality, "too old" or "daemon silent"."""
    header: dict[str, Any] = field(default_factory=dict)
    """The header of the decode, see clients/PROTOCOL.md; empty if the daemon fell silent."""
    embedding: Optional[NDArray[np.float32]] = None
    """Of the decode."""
    age_s: float = 0.0
    """How long ago the decode was published, s."""
    lost: int = 0
    """Decodes lost on the way since the last decision."""
    passed_over: int = 0
    """Decodes that waited and were passed over for this newer one."""


class _Age:
    """How long ago a message was published, in seconds, by its `t_pub_ns` (CLOCK_MONOTONIC of the daemon's machine).

    On the daemon's machine that is this program's own clock. From another machine, the smallest difference seen so far is that of a
    message that did not wait; every other one is that much older.
    """

    def __init__(self, same_machine: bool) -> None:
        self._same_machine = same_machine
        self._least: Optional[float] = None
        self._last = 0.0

    def of(self, header: dict[str, Any]) -> float:
        now = time.monotonic()
        difference = now - float(header["t_pub_ns"]) / 1e9
        if self._same_machine:
            return difference
        leaked = difference if self._least is None else self._least + (now - self._last) * _LEAK
        self._least, self._last = min(difference, leaked), now
        return difference - self._least


class Subscriber:
    """Receives decodes and says what to do.

        with Subscriber(source="rig1", neutral="resting") as decodes:
            for decision in decodes:
                act(decision.action)

    endpoint: the daemon's `publish.endpoint`.
    source: the rig, exactly.
    neutral: the action to take when no decode can be trusted.
    accept: the qualities to act upon; ("ok",) if a held action could do harm.
    keys: if the daemon asks for them.
    same_machine: does the daemon run on this machine? None: as the endpoint shows it.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:5711",
        *,
        source: str = "rig1",
        neutral: str = "neutral",
        accept: Collection[str] = ("ok", "degraded"),
        keys: Optional[ClientKeys] = None,
        same_machine: Optional[bool] = None,
    ) -> None:
        self.source, self.neutral, self.accept = source, neutral, frozenset(accept)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        if keys is not None:
            keys.put_on(self._socket)
        for kind in ("decode", "heartbeat"):
            self._socket.subscribe(f"{kind}/{source}")    # a prefix: rig1 also lets rig10 through, see `_read`
        self._socket.connect(endpoint)
        local = endpoint.startswith(("ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"))
        self._age = _Age(local if same_machine is None else same_machine)
        self._deadline_s, self._last_sign = _DEADLINE_S, time.monotonic()
        self._trusted = False
        self._seq: Optional[int] = None

    def receive(self, wait_s: float = 0.01) -> Optional[Decision]:
        """Reads everything that waits, or waits up to `wait_s` for something to read. None: nothing new, the last decision stands."""
        newest: Optional[tuple[dict[str, Any], bytes, float]] = None
        lost, passed_over = 0, 0
        wait_ms = int(wait_s * 1000)
        while self._socket.poll(wait_ms):
            wait_ms = 0                                   # from now on only what waits already
            message = self._read(self._socket.recv_multipart())
            if message is None:
                continue
            seq = int(message[0]["seq"])
            # A `seq` that decreased is a daemon that was restarted.
            lost += 0 if self._seq is None or seq <= self._seq else seq - self._seq - 1
            self._seq, passed_over = seq, passed_over + (newest is not None)
            newest = message
        if newest is not None:
            return self._decide(*newest, lost, passed_over)
        if self._trusted and time.monotonic() - self._last_sign > self._deadline_s:
            self._trusted = False
            return Decision(self.neutral, False, "daemon silent")
        return None

    def __iter__(self) -> Iterator[Decision]:
        """Every decision, for ever."""
        while True:
            decision = self.receive(_LOOK_MS / 1000)
            if decision is not None:
                yield decision

    def _read(self, parts: list[bytes]) -> Optional[tuple[dict[str, Any], bytes, float]]:
        """A decode of this source, its embedding and when it was published by this machine's clock; a heartbeat is only noted."""
        kind, _, source = parts[0].decode().partition("/")
        if source != self.source:
            return None
        header: dict[str, Any] = json.loads(parts[1])
        published = time.monotonic() - self._age.of(header)
        if kind == "heartbeat":
            self._deadline_s = float(header["deadline_ms"]) / 1000
            self._last_sign = max(self._last_sign, published)
            return None
        return header, parts[2], published

    def _decide(self, header: dict[str, Any], body: bytes, published: float, lost: int, passed_over: int) -> Decision:
        age_s = time.monotonic() - published
        fresh = age_s <= self._deadline_s
        self._trusted = fresh and header["quality"] in self.accept
        if self._trusted:
            self._last_sign = max(self._last_sign, published)
        return Decision(
            action=header.get("action") if self._trusted else self.neutral,
            trusted=self._trusted,
            why=header["quality"] if fresh else "too old",
            header=header,
            embedding=np.frombuffer(body, dtype="<f4").reshape(header["shape"]),
            age_s=age_s,
            lost=lost,
            passed_over=passed_over,
        )

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()
