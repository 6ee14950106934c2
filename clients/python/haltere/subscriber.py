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

from haltere._age import DEADLINE_S, Age, is_local
from haltere.keys import ClientKeys

# How often a waiting subscriber looks whether the daemon has fallen silent.
_LOOK_MS = 10


@dataclass(frozen=True)
class Advice:
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
    """Decodes lost on the way since the last advice."""
    passed_over: int = 0
    """Decodes that waited and were passed over for this newer one."""


class Subscriber:
    """Receives decodes and says what to do.

        with Subscriber(source="rig1", neutral="resting") as decodes:
            for advice in decodes:
                act(advice.action)

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
        self._age = Age(is_local(endpoint) if same_machine is None else same_machine)
        self._deadline_s, self._last_sign = DEADLINE_S, time.monotonic()
        self._trusted = False
        self._seq: Optional[int] = None

    def receive(self, wait_s: float = 0.01) -> Optional[Advice]:
        """Reads everything that waits, or waits up to `wait_s` for something to read. None: nothing new, the last advice stands."""
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
            return self._advise(*newest, lost, passed_over)
        if self._trusted and time.monotonic() - self._last_sign > self._deadline_s:
            self._trusted = False
            return Advice(self.neutral, False, "daemon silent")
        return None

    def __iter__(self) -> Iterator[Advice]:
        """Every advice, for ever."""
        while True:
            advice = self.receive(_LOOK_MS / 1000)
            if advice is not None:
                yield advice

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

    def _advise(self, header: dict[str, Any], body: bytes, published: float, lost: int, passed_over: int) -> Advice:
        age_s = time.monotonic() - published
        fresh = age_s <= self._deadline_s
        self._trusted = fresh and header["quality"] in self.accept
        if self._trusted:
            self._last_sign = max(self._last_sign, published)
        return Advice(
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
