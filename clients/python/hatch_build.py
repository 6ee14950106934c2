"""Adds the program and its files to the wheel, if HALTERE_PREFIX names a folder that scripts/stage.sh has laid out.

Without it the wheel is pure Python. HALTERE_PLATFORM is the platform in the wheel's name. pip puts `bin` and `share` below the prefix of an
environment, where the program looks for its own files.
"""
import os
import sysconfig

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The oldest that the program runs with, see src/encode/runtime.rs.
ONNX_RUNTIME = "onnxruntime>=1.24"


class Program(BuildHookInterface):
    def initialize(self, version, build_data):
        prefix = os.environ.get("HALTERE_PREFIX")
        if not prefix:
            return
        platform = os.environ.get("HALTERE_PLATFORM") or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["dependencies"].append(ONNX_RUNTIME)
        build_data["shared_scripts"][f"{prefix}/bin/haltere"] = "haltere"
        build_data["shared_data"][f"{prefix}/share"] = "share"
