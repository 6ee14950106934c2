"""What the daemon recorded (`haltere run --record`, a `.mcap` file), and the embeddings that `haltere embed` wrote (`.npy`)."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from haltere import _mcap

StrPath = Union[str, "os.PathLike[str]"]

_HEAD_BYTES = 256
_PIXELS = ("u1", "u2", "i2", "f4")
_CLOCKS = ("monotonic", "unix", "device", "ptp")
_STAMPS = ("start", "mid", "end")
_BEGAN, _HAS_TIME, _HAS_SERIES, _HAS_STAMP, _BIG_ENDIAN, _INVALID, _STIMULUS = 1, 2, 4, 8, 16, 32, 64
_HAS_AGE, _UNPUBLISHED = 1, 2


class SessionError(ValueError):
    """Not a session, or a damaged one."""


@dataclass(frozen=True)
class RecordedFrame:
    """One frame as the daemon received it."""

    number: int
    """The sender's number, or the daemon's count."""
    pixels: NDArray[Any]
    """[channels, height, width]; uint8, uint16, int16 or float32."""
    source: str
    """The rig."""
    series: Optional[str]
    """The acquisition."""
    series_began: bool
    """Is it the first frame of its series?"""
    missing_before: int
    """Frames missing before it, by the sender's numbers."""
    t_received_ns: int
    """When it had arrived, CLOCK_MONOTONIC of the daemon's machine."""
    t_device_ns: Optional[int]
    """The sender's time stamp, on `clock`."""
    clock: Optional[str]
    """monotonic, unix, device or ptp."""
    stamp: Optional[str]
    """Which point of the frame the time stamp marks: start, mid or end."""
    age_ns: Optional[int]
    """Its age at receipt, if it is known."""
    valid: bool
    """False if the sender marked it as worthless."""
    stimulus: bool
    """Did light go in, as the sender says?"""
    published: bool
    """False if it was decoded without its decode being published, because newer frames had arrived."""


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()


def _frame(message: bytes) -> RecordedFrame:
    head = _mcap.Cursor(message)
    if head.take(4) != b"HFRM" or head.number(2) != 1 or head.number(2) != _HEAD_BYTES:
        raise SessionError("a frame has a header of another version")
    pixel_type, flags, clock, stamp = head.number(1), head.number(1), head.number(1), head.number(1)
    shape = tuple(head.number(4) for _ in range(3))
    number, missing, _arrivals, received = (head.number(8) for _ in range(4))
    device = int.from_bytes(head.take(8), "little", signed=True)
    source, series = _text(head.take(64)), _text(head.take(64))
    age, more = head.number(8), head.number(1)
    order = ">" if flags & _BIG_ENDIAN else "<"
    return RecordedFrame(
        number=number,
        pixels=np.frombuffer(message, order + _PIXELS[pixel_type], offset=_HEAD_BYTES).reshape(shape),
        source=source,
        series=series if flags & _HAS_SERIES else None,
        series_began=bool(flags & _BEGAN),
        missing_before=missing,
        t_received_ns=received,
        t_device_ns=device if flags & _HAS_TIME else None,
        clock=_CLOCKS[clock] if flags & _HAS_TIME else None,
        stamp=_STAMPS[stamp] if flags & _HAS_STAMP else None,
        age_ns=age if more & _HAS_AGE else None,
        valid=not flags & _INVALID,
        stimulus=bool(flags & _STIMULUS),
        published=not more & _UNPUBLISHED,
    )


class Session:
    """A recorded session. Opening it reads no frames; a file that was cut short is read up to its last whole chunk.

    metadata: what stands in `haltere.session`: model, times, versions.
    complete: False if the daemon was killed while it recorded.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = os.fspath(path)
        self.metadata: dict[str, str] = {}
        self.complete = False
        self._chunks: list[tuple[int, int]] = []
        self._attachments: list[tuple[int, int]] = []
        try:
            self._index()
        except _mcap.McapError as error:
            raise SessionError(f"{self.path}: {error}") from None
        if not self.metadata:
            raise SessionError(f"{self.path}: is an MCAP file but no session of haltere (it has no `haltere.session`)")

    def _index(self) -> None:
        with open(self.path, "rb") as file:
            for opcode, at, length in _mcap.heads(file):
                if opcode == _mcap.CHUNK:
                    self._chunks.append((at, length))
                elif opcode == _mcap.ATTACHMENT:
                    self._attachments.append((at, length))
                elif opcode == _mcap.METADATA:
                    record = _mcap.Cursor(file.read(length))
                    name, pairs = record.text(), _mcap.Cursor(record.take(record.number(4)))
                    found: dict[str, str] = {}
                    while pairs.left() > 0:
                        key = pairs.text()
                        found[key] = pairs.text()
                    if name == "haltere.session":
                        self.metadata.update(found)        # facts may follow in a second record
                    self.complete |= name == "haltere.end"

    def messages(self, topic: str) -> Iterator[tuple[int, bytes]]:
        """Time (UTC, ns) and bytes of each message of a topic (frames, requests, decodes, events, status, marks), in the order of the file."""
        channels: dict[int, str] = {}
        with open(self.path, "rb") as file:
            for at, length in self._chunks:
                file.seek(at)
                try:
                    yield from self._of_chunk(file.read(length), topic, channels)
                except _mcap.McapError as error:
                    raise SessionError(f"{self.path}: {error}") from None

    @staticmethod
    def _of_chunk(body: bytes, topic: str, channels: dict[int, str]) -> Iterator[tuple[int, bytes]]:
        for opcode, data in _mcap.records_of_chunk(body):
            record = _mcap.Cursor(data)
            if opcode == _mcap.CHANNEL:
                number, _schema = record.number(2), record.number(2)
                channels[number] = record.text()
            elif opcode == _mcap.MESSAGE and channels.get(record.number(2)) == topic:
                _sequence, log_time, _published = record.number(4), record.number(8), record.number(8)
                yield log_time, record.rest()

    def _json(self, topic: str) -> Iterator[dict[str, Any]]:
        for _, data in self.messages(topic):
            yield json.loads(data)

    def frames(self) -> Iterator[RecordedFrame]:
        """Every frame that was decoded, with its pixels."""
        return (_frame(data) for _, data in self.messages("frames"))

    def decodes(self) -> Iterator[dict[str, Any]]:
        """The headers of the decodes as published; those of a frame also have `decoded`, see clients/PROTOCOL.md."""
        return self._json("decodes")

    def events(self) -> Iterator[dict[str, Any]]:
        """The events as published."""
        return self._json("events")

    def status(self) -> Iterator[dict[str, Any]]:
        """The status, once a second."""
        return self._json("status")

    def marks(self) -> Iterator[dict[str, Any]]:
        """The notes that were added: `text`, `t_ns` and `unix_ns`."""
        return self._json("marks")

    def requests(self) -> Iterator[dict[str, Any]]:
        """The requests carried out, each with the frame that they preceded."""
        return self._json("requests")

    def embeddings(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Frame numbers [n] and embeddings [n, dimensions] of all decoded frames, bit for bit as they were computed."""
        numbers: list[int] = []
        values: list[NDArray[np.float32]] = []
        for decode in self.decodes():
            if "decoded" in decode:
                numbers.append(decode["frame"])
                values.append(np.asarray(decode["decoded"]["embedding"], dtype=np.float32))
        return np.asarray(numbers, dtype=np.int64), np.stack(values) if values else np.empty((0, 0), dtype=np.float32)

    def attachments(self) -> dict[str, bytes]:
        """The files in it by name: `model.onnx`, `model.toml`, `config.toml`, saved animals."""
        found: dict[str, bytes] = {}
        with open(self.path, "rb") as file:
            for at, length in self._attachments:
                file.seek(at)
                record = _mcap.Cursor(file.read(length))
                record.take(16)
                name, _media_type = record.text(), record.text()
                found[name] = record.take(record.number(8))
        return found


def read_embeddings(path: StrPath) -> NDArray[np.float32]:
    """The embeddings [frames, dimensions] that `haltere embed --out FILE.npy` or `haltere export --to npy` wrote."""
    values: NDArray[np.float32] = np.load(path, allow_pickle=False)
    if values.dtype != np.float32 or values.ndim != 2:
        raise ValueError(f"{os.fspath(path)}: holds {values.dtype} of shape {values.shape}; embeddings are float32 of two axes")
    return values
