"""How old a message is: what subscriber and outputs both judge by."""
from __future__ import annotations

import time
from typing import Any, Optional

# Clocks of two machines drift apart by less than 200 ppm.
LEAK = 1 / 5000
# Until the first heartbeat says what the deadline is.
DEADLINE_S = 1.0


def is_local(endpoint: str) -> bool:
    """Does the endpoint show that the daemon runs on this machine?"""
    return endpoint.startswith(("ipc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:"))


class Age:
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
        leaked = difference if self._least is None else self._least + (now - self._last) * LEAK
        self._least, self._last = min(difference, leaked), now
        return difference - self._least
