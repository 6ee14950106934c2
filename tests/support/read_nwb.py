"""Opens an NWB file with pynwb, has it judged, and writes down everything that is in it.

Usage: read_nwb.py FILE.nwb FOLDER    FOLDER gets what.json, and of every series NAME.data (little-endian; frames as (time, y, x)) and
NAME.times (float64).
"""

import json
import pathlib
import sys

import numpy as np
from hdmf.common import DynamicTable
from nwbinspector import inspect_nwbfile
from pynwb import NWBHDF5IO, TimeSeries, validate

path, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir()
what = {
    "errors": [str(error) for error in validate(path=path)],
    "found": [[m.importance.name, m.check_function_name, m.object_name, m.message] for m in inspect_nwbfile(nwbfile_path=path)],
    "series": {},
    "tables": {},
}


def series(one):
    data, kind = np.asarray(one.data), type(one).__name__
    if kind == "TwoPhotonSeries":
        what.setdefault("stored", {})[one.name] = {"chunks": one.data.chunks, "compression": one.data.compression}
        data = np.swapaxes(data, 1, 2)
    np.ascontiguousarray(data).astype(data.dtype.newbyteorder("<")).tofile(folder / f"{one.name}.data")
    np.asarray(one.timestamps).astype("<f8").tofile(folder / f"{one.name}.times")
    what["series"][one.name] = {
        "type": kind,
        "dtype": data.dtype.name,
        "shape": data.shape,
        "unit": one.unit,
        "conversion": float(one.conversion),
        "description": one.description,
        "plane": one.imaging_plane.name if kind == "TwoPhotonSeries" else None,
        "dimension": [int(side) for side in one.dimension] if kind == "TwoPhotonSeries" else None,
    }


def table(one):
    what["tables"][one.name] = {name: [plain(value) for value in one[name][:]] for name in one.colnames}


def plain(value):
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and np.isnan(value) else value


def number(value):
    return None if np.isnan(value) else float(value)


with NWBHDF5IO(path, "r") as io:
    nwb = io.read()
    for one in [*nwb.acquisition.values(), *nwb.processing["behavior"].data_interfaces.values(), *nwb.intervals.values()]:
        if isinstance(one, TimeSeries):
            series(one)
        elif isinstance(one, DynamicTable):
            table(one)
    what["zero_unix_ms"] = round(nwb.session_start_time.timestamp() * 1000)
    what["same_zero"] = nwb.session_start_time == nwb.timestamps_reference_time
    for key in ["identifier", "session_description", "data_collection", "lab", "institution", "experimenter", "session_id"]:
        value = getattr(nwb, key)
        what[key] = list(value) if isinstance(value, tuple) else value
    what["subject"] = {key: value for key, value in nwb.subject.fields.items() if isinstance(value, str)} if nwb.subject else None
    what["planes"] = {
        plane.name: {
            "indicator": plane.indicator,
            "location": plane.location,
            "excitation": number(plane.excitation_lambda),
            "emission": [number(channel.emission_lambda) for channel in plane.optical_channel],
            "spacing": [float(side) for side in plane.grid_spacing] if plane.grid_spacing is not None else None,
            "device": plane.device.description,
        }
        for plane in nwb.imaging_planes.values()
    }
    ids = [one.object_id for one in nwb.objects.values()]
    what["ids_differ"] = len(ids) == len(set(ids))

(folder / "what.json").write_text(json.dumps(what))
