"""Adds the program, its model and its configuration to the wheel, if HALTERE_PROGRAM names the program.

Without it the wheel is pure Python. HALTERE_PLATFORM is the platform in the wheel's name. pip puts what is in `shared_data` below the prefix of an environment, where the program looks for it
(`PREFIX/share/haltere` for `PREFIX/bin/haltere`).
"""
import os
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHARED = ["models/fly.toml", "models/fly.onnx", "config", "LICENSE-APACHE", "LICENSE-MIT"]
# The oldest that the program runs with, see src/encode/runtime.rs.
ONNX_RUNTIME = "onnxruntime>=1.24"


class Program(BuildHookInterface):
    def initialize(self, version, build_data):
        program = os.environ.get("HALTERE_PROGRAM")
        if not program:
            return
        top = Path(self.root).parents[1]
        build_data["pure_python"] = False
        platform = os.environ.get("HALTERE_PLATFORM") or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["dependencies"].append(ONNX_RUNTIME)
        build_data["shared_scripts"][str(Path(program).resolve())] = "haltere"
        for name in SHARED:
            build_data["shared_data"][str(top / name)] = f"share/haltere/{name}"
