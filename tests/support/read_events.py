"""Reads TensorBoard event files without TensorBoard: TFRecord framing, CRC-32C bit by bit, protobuf by hand.

Usage: read_events.py FOLDER. Prints one line for each event: `version TEXT`, `start STEP`, or `scalar STEP TAG VALUE`.
Written from the formats' descriptions, not from haltere's writer, so that both would have to be wrong in the same way.
"""

import os
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unmasked(masked):
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        header = data[at : at + 8]
        (length,) = struct.unpack("<Q", header)
        (of_length,) = struct.unpack("<I", data[at + 8 : at + 12])
        body = data[at + 12 : at + 12 + length]
        (of_body,) = struct.unpack("<I", data[at + 12 + length : at + 16 + length])
        assert len(body) == length, "torn record"
        assert unmasked(of_length) == crc32c(header), "checksum of the length"
        assert unmasked(of_body) == crc32c(body), "checksum of the data"
        yield body
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
        elif kind == 5:
            value, at = struct.unpack("<f", data[at : at + 4])[0], at + 4
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise AssertionError(f"wire type {kind}")
        yield key >> 3, value


def show(event):
    found = dict(fields(event))
    assert 1.6e9 < found[1] < 1e10, f"wall time {found[1]}"
    if 3 in found:
        print("version", found[3].decode())
    if 7 in found:
        assert dict(fields(found[7])) == {1: 1}, "a session log that is no START"
        print("start", found.get(2, 0))
    for number, value in fields(found.get(5, b"")):
        assert number == 1
        entry = dict(fields(value))
        print("scalar", found.get(2, 0), entry[1].decode(), repr(entry[2]))


for name in sorted(os.listdir(sys.argv[1])):
    assert name.startswith("events.out.tfevents."), name
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        for record in records(file.read()):
            show(record)
