"""The records of an MCAP file (https://mcap.dev/spec), as far as a recorded session needs them: read in order, also if the file was cut short."""
from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
CHANNEL, MESSAGE, CHUNK, ATTACHMENT, METADATA, DATA_END = 0x04, 0x05, 0x06, 0x09, 0x0C, 0x0F
_HEAD = struct.Struct("<BQ")


class McapError(ValueError):
    """Not an MCAP file, or a damaged one."""


class Cursor:
    """Takes fields from the bytes of a record, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise McapError(f"a record of {len(self.data)} bytes is too short for what it says it holds")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        return self.take(self.number(4)).decode()

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    def left(self) -> int:
        return len(self.data) - self.at


def heads(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Opcode, place and length of each whole record up to the end of the data; the file is left at the place of the last one."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise McapError("is not an MCAP file")
    at = len(MAGIC)
    while at + _HEAD.size <= size:
        file.seek(at)
        opcode, length = _HEAD.unpack(file.read(_HEAD.size))
        at += _HEAD.size + length
        if at > size:
            return                                         # cut short in this record
        yield opcode, at - length, length
        if opcode == DATA_END:
            return                                         # what follows is an index of what was read


def records_of_chunk(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and body of each record in a chunk."""
    chunk = Cursor(body)
    chunk.take(16)
    size, crc, compression = chunk.number(8), chunk.number(4), chunk.text()
    data = chunk.take(chunk.number(8))
    if compression == "lz4":
        try:
            lz4 = importlib.import_module("lz4.frame")
        except ImportError:
            raise McapError("its chunks are compressed (record.compression = \"lz4\"): pip install lz4") from None
        try:
            data = lz4.decompress(data)
        except RuntimeError as error:
            raise McapError(f"a chunk is damaged: {error}") from None
    elif compression:
        raise McapError(f"its chunks are compressed with {compression}; haltere writes none or lz4")
    if len(data) != size or (crc and zlib.crc32(data) != crc):
        raise McapError("a chunk is damaged: its checksum differs")
    records = Cursor(data)
    while records.left() > 0:
        opcode = records.number(1)
        yield opcode, records.take(records.number(8))
