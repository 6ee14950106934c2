"""All of the Python package `haltere` against a running daemon: frames out, decodes in, requests, and the session that was recorded.

    python use_package.py FRAMES DECODES CONTROL KEYS MOVIE SESSIONS

The daemon binds its PULL source, asks for keys and records into SESSIONS. What is not as it must be ends this script with an AssertionError.
"""
import sys
import threading
import time
from pathlib import Path

import numpy as np

from haltere import ClientKeys, Control, ControlError, Publisher, Session, SessionError, Subscriber, share

FRAMES, HZ, LIT = 90, 30.0, 70


def send(endpoint, keys, movie):
    with Publisher(endpoint, source="scope-3", connect=True, push=True, keys=keys) as microscope:
        begin = time.monotonic()
        for number in range(FRAMES):
            time.sleep(max(0.0, begin + number / HZ - time.monotonic()))
            microscope.send(as_it_lies(movie[number % len(movie)], number), number, series="trial-1", channels=["green"], stimulus=number == LIT)
        microscope.end()


def as_it_lies(frame, number):
    """The same picture in other memory: as it is, column by column, or as a part of something larger."""
    return (frame, np.asfortranarray(frame), np.repeat(frame, 2, axis=1)[:, ::2])[number % 3]


def watch(decodes):
    """Every advice until the daemon had nothing to decode any more."""
    all_of_it = []
    for advice in decodes:
        all_of_it.append(advice)
        if advice.header.get("frame") == FRAMES - 1 and not advice.trusted:
            return all_of_it


def damage(path):
    """Of a file that ends in the middle of a chunk, what is whole is read; a flipped bit is noticed."""
    chunks = Session(path)._chunks
    whole, other = path.read_bytes(), path.with_name("other.mcap")
    numbers = list(range(FRAMES))
    for at, length in reversed(chunks):
        if len(numbers) < FRAMES:
            break
        other.write_bytes(whole[: at + length // 2])
        session = Session(other)
        numbers = [frame.number for frame in session.frames()]
        assert not session.complete and numbers == list(range(len(numbers))), numbers
    assert 0 < len(numbers) < FRAMES, numbers
    first, length = chunks[0]
    at = first + length // 2
    other.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        list(Session(other).frames())
    except SessionError as error:
        assert "other.mcap" in str(error), error
    else:
        raise AssertionError("a flipped bit was not noticed")
    other.unlink()


def read(path, movie):
    session = Session(path)
    assert session.complete and session.metadata["model"] == "small", session.metadata
    frames = list(session.frames())
    assert [frame.number for frame in frames] == list(range(FRAMES))
    for frame in frames:
        assert frame.pixels.dtype == np.uint16 and (frame.pixels[0] == movie[frame.number % len(movie)]).all(), frame.number
        assert (frame.source, frame.series, frame.clock, frame.stamp) == ("scope-3", "trial-1", "monotonic", "end")
        assert frame.stimulus == (frame.number == LIT) and frame.valid and frame.t_received_ns >= frame.t_device_ns
    assert [frame.number for frame in frames if frame.series_began] == [0]
    assert [mark["text"] for mark in session.marks()] == ["light on"]
    assert {"model.onnx", "model.toml", "config.toml"} <= set(session.attachments())
    assert "ready" in [event["event"] for event in session.events()] and list(session.status())
    numbers, embeddings = session.embeddings()
    assert (numbers == np.arange(FRAMES)).all() and embeddings.shape == (FRAMES, 128)
    return embeddings


def main():
    frames_at, decodes_at, control_at, keys, movie, sessions = sys.argv[1:]
    movie = np.load(movie)
    keys_of = lambda name: ClientKeys(f"{keys}/{name}.key_secret", f"{keys}/rig.key")
    control = Control(control_at, keys=keys_of("anna"), timeout_s=30.0)
    assert control.status()["received"] == 0
    microscope = threading.Thread(target=send, args=(frames_at, keys_of("scope"), movie))
    with Subscriber(decodes_at, source="scope-3", neutral="resting", keys=keys_of("anna")) as decodes:
        microscope.start()
        advice = watch(decodes)
        microscope.join()
        control.mark("light on")
        try:
            control.request("nonsense")
        except ControlError as error:
            assert "nonsense" in str(error), error
        else:
            raise AssertionError("the daemon took nonsense for a command")
        assert control.status()["accepted"] == FRAMES
        control.shutdown()
    assert advice[0].action == "resting" and advice[0].why in ("warmup", "stale"), advice[0]
    trusted = [each for each in advice if each.trusted]
    assert trusted and all(d.action is None and d.why in ("ok", "degraded") for d in trusted), "this model names no actions"
    assert all(abs(float(np.linalg.norm(d.embedding)) - 1.0) < 1e-3 for d in trusted)
    lit = [each for each in advice if each.header.get("frame") == LIT]
    assert all((d.why, d.header["reason"]) == ("degraded", "stimulus") for d in lit if d.trusted), lit
    assert advice[-1].action == "resting" and not advice[-1].trusted

    deadline = time.monotonic() + 30
    while not (found := list(Path(sessions).glob("*.mcap"))) or not Session(found[0]).complete:
        assert time.monotonic() < deadline, "the session was never closed"
        time.sleep(0.05)
    embeddings = read(found[0], movie)
    seen = {d.header["frame"]: d.embedding for d in trusted}
    assert all((embeddings[number] == embedding).all() for number, embedding in seen.items() if number != LIT)
    damage(found[0])
    try:
        share("models/fly.toml")
    except FileNotFoundError as error:
        assert "without" not in str(error) and "wheel" in str(error), error
    else:
        raise AssertionError("nothing was installed")


main()
