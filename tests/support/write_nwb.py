"""Writes an NWB file with pynwb, which shares no code with the reader under test.

Usage: write_nwb.py KIND FILE.nwb    Beside it goes FILE.npy: the frames as (channel, time, y, x), float64.
"""

import datetime
import sys

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from pynwb import NWBHDF5IO, NWBFile
from pynwb.image import ImageSeries
from pynwb.ophys import OpticalChannel, TwoPhotonSeries

kind, path = sys.argv[1:3]
random = np.random.default_rng(7)
TIMES, HEIGHT, WIDTH = 23, 20, 30


def frames(dtype, shape=(TIMES, HEIGHT, WIDTH)):
    if np.issubdtype(dtype, np.floating):
        return random.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, size=shape, endpoint=True).astype(dtype)


def turned(movie):
    """(time, y, x, …) as NWB has it: (time, x, y, …)."""
    return np.ascontiguousarray(np.swapaxes(movie, 1, 2))


nwb = NWBFile(
    session_description="written by pynwb",
    identifier=kind,
    session_start_time=datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc),
)
channel = OpticalChannel(name="OpticalChannel", description="a channel", emission_lambda=525.0)
plane = nwb.create_imaging_plane(
    name="plane",
    optical_channel=channel,
    description="a plane",
    device=nwb.create_device(name="scope"),
    excitation_lambda=930.0,
    indicator="GCaMP6s",
    location="VNC",
)


def series(name, data, **more):
    more = {"rate": 30.0, **more} if "timestamps" not in more else more
    return TwoPhotonSeries(name=name, data=data, imaging_plane=plane, unit="n.a.", **more)


truth = None
if kind == "timestamps":
    truth = [frames("u2")]
    # Chunks that cut a frame and hold several, as h5py likes them.
    packed = H5DataIO(turned(truth[0]), chunks=(5, 16, 8), compression="gzip", shuffle=True)
    nwb.add_acquisition(series("Movie", packed, timestamps=1.5 + np.cumsum(0.02 + 0.01 * random.random(TIMES))))
elif kind == "rate":
    truth = [frames("i2")]
    nwb.add_acquisition(series("Movie", turned(truth[0]), rate=20.0, starting_time=2.5))
elif kind == "two":
    truth = [frames("u1"), frames("u1")]
    nwb.add_acquisition(series("Green", turned(truth[0])))
    nwb.add_acquisition(series("Red", turned(truth[1])))
elif kind == "unlike":
    nwb.add_acquisition(series("Green", turned(frames("u1"))))
    nwb.add_acquisition(series("Red", turned(frames("u1"))[:-1]))
elif kind == "float":
    truth = [frames("f4")]
    nwb.add_acquisition(series("Movie", H5DataIO(turned(truth[0]), compression="gzip")))
elif kind == "big":
    truth = [frames("u2")]
    nwb.add_acquisition(series("Movie", turned(truth[0]).astype(">u2")))
elif kind == "rows":
    # Against NWB's order, and saying so.
    truth = [frames("u2")]
    nwb.add_acquisition(series("Movie", truth[0], dimension=[WIDTH, HEIGHT]))
elif kind == "volume":
    volume = frames("u2", (TIMES, HEIGHT, WIDTH, 3))
    truth = [volume[..., 1]]
    nwb.add_acquisition(series("Movie", H5DataIO(turned(volume), chunks=(4, 30, 20, 2), compression="gzip")))
elif kind == "double":
    nwb.add_acquisition(series("Movie", turned(frames("f8"))))
elif kind == "nan":
    nwb.add_acquisition(series("Movie", turned(frames("u1")), timestamps=np.full(TIMES, np.nan)))
elif kind == "external":
    files = ["movie_1.tif", "movie_2.tif"]
    nwb.add_acquisition(series("Movie", None, external_file=files, format="external", starting_frame=[0, 9], num_samples=18))
elif kind == "none":
    nwb.add_acquisition(ImageSeries(name="Camera", data=turned(frames("u1")), rate=30.0, unit="n.a."))
elif kind == "other":
    with h5py.File(path, "w") as file:
        file["matrix"] = np.arange(9)
else:
    sys.exit(f"no kind {kind}")

if kind != "other":
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
if truth is not None:
    np.save(path.removesuffix(".nwb") + ".npy", np.stack(truth).astype("<f8"))
