"""The outputs of the rules' decisions, as the message `decision` of clients/PROTOCOL.md asks for them.

1. A decision with an output asks for the pulses of its `train`, unless it was published longer ago than `deadline_ms`.
2. "ended" ends what goes on of its rule; so does a decode of quality "stale" or "fail", of every rule.
3. If no heartbeat was published for `deadline_ms`, everything ends.
"""
from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Optional

import zmq

from haltere._age import DEADLINE_S, Age, is_local
from haltere.keys import ClientKeys


@dataclass(frozen=True)
class _Train:
    """The pulses of one decision; times in s, `begin` by this machine's clock."""

    seq: int
    number: int
    begin: float
    width: float
    period: float
    count: int

    def is_over(self, now: float) -> bool:
        return now >= self.begin + (self.count - 1) * self.period + self.width

    def is_on(self, now: float) -> bool:
        return now >= self.begin and not self.is_over(now) and (now - self.begin) % self.period < self.width


class Outputs:
    """Receives decisions and says which rules' outputs are on.

        with Outputs(source="rig1") as outputs:
            while True:
                laser.switch("groom" in outputs.on())

    endpoint: the daemon's `publish.endpoint`.
    source: the rig, exactly.
    keys: if the daemon asks for them.
    same_machine: does the daemon run on this machine? None: as the endpoint shows it.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:5711",
        *,
        source: str = "rig1",
        keys: Optional[ClientKeys] = None,
        same_machine: Optional[bool] = None,
    ) -> None:
        self.source = source
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        if keys is not None:
            keys.put_on(self._socket)
        for kind in ("decision", "decode", "heartbeat"):
            self._socket.subscribe(f"{kind}/{source}")
        self._socket.connect(endpoint)
        self._age = Age(is_local(endpoint) if same_machine is None else same_machine)
        self._deadline_s, self._last_sign = DEADLINE_S, time.monotonic()
        self._trains: dict[str, _Train] = {}
        self.rehearsal: Optional[str] = None
        """What `haltere rehearse` plays; None in an experiment."""

    def on(self, wait_s: float = 0.001) -> set[str]:
        """Reads everything that waits, or waits up to `wait_s` for something to read: the rules whose pulse is on now."""
        wait_ms = int(wait_s * 1000)
        while self._socket.poll(wait_ms):
            wait_ms = 0
            self._read(self._socket.recv_multipart())
        now = time.monotonic()
        if now - self._last_sign > self._deadline_s:
            self._trains.clear()
        self._trains = {rule: train for rule, train in self._trains.items() if not train.is_over(now)}
        return {rule for rule, train in self._trains.items() if train.is_on(now)}

    def decision(self, rule: str) -> Optional[int]:
        """`seq` of the decision whose output goes on; None if none does."""
        train = self._trains.get(rule)
        return None if train is None else train.seq

    def _read(self, parts: list[bytes]) -> None:
        kind, _, source = parts[0].decode().partition("/")
        if source != self.source:                         # a prefix: rig1 also lets rig10 through
            return
        header: dict[str, Any] = json.loads(parts[1])
        self.rehearsal = header.get("rehearsal")
        age_s = self._age.of(header)
        if kind == "heartbeat":
            self._deadline_s = float(header["deadline_ms"]) / 1000
            self._last_sign = max(self._last_sign, time.monotonic() - age_s)
        elif kind == "decode" and header["quality"] in ("stale", "fail"):
            self._trains.clear()
        elif kind == "decision":
            self._follow(header, age_s)

    def _follow(self, header: dict[str, Any], age_s: float) -> None:
        rule, number = str(header["name"]), int(header["number"])
        going_on = self._trains.get(rule)
        if header["what"] == "ended" and going_on is not None and going_on.number <= number:
            del self._trains[rule]
        if header["what"] == "output" and age_s <= self._deadline_s:
            asked = header["train"]
            begin = time.monotonic() - age_s + asked["delay_ms"] / 1000
            width_s, period_s, count = asked["width_ms"] / 1000, asked["period_ms"] / 1000, int(asked["count"])
            self._trains[rule] = _Train(int(header["seq"]), number, begin, width_s, period_s, count)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()
