"""Compiles a CUDA file with NVRTC (the PyPI package nvidia-cuda-nvrtc) on a machine that need not have a GPU.

compile_kernels.py FILE ptx:compute_75 cubin:sm_80 ...   compiles for each target; the last PTX is written to standard output.

A warning is an error, and so is a kernel whose registers do not suffice: it would go through memory for them ("spill").
"""
import ctypes
import pathlib
import re
import sys

OPTIONS = ["--fmad=false", "--std=c++17"]


def library():
    for folder in sys.path:
        for path in sorted(pathlib.Path(folder).glob("nvidia/c*/lib/libnvrtc.so.*")):
            # NVRTC asks the loader for its builtins by name; once they are loaded, it finds them.
            for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(str(path))
    sys.exit("no NVRTC: pip install nvidia-cuda-nvrtc (tests/requirements.txt names the version)")


def compiled(nvrtc, source, name, kind, target):
    program = ctypes.c_void_p()
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None))
    options = [f"--gpu-architecture={target}"] + OPTIONS
    if kind == "cubin":
        options.append("--ptxas-options=-v")
    texts = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), texts)
    log = content(nvrtc, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).replace(b"\0", b"").decode()
    # What `-v` adds is no warning; a warning of the assembler is one ("ptxas warning : …").
    told = re.compile(r"ptxas (info\b|\s*\.)")
    words = "\n".join(line for line in log.splitlines() if line.strip() and not told.match(line))
    if words:
        print(f"{target}: {words}", file=sys.stderr)
    check(nvrtc, status)
    if words:
        sys.exit(f"{target}: a warning is an error here")
    spills = re.findall(r"(\d+) bytes spill stores", log)
    if kind == "cubin" and (not spills or any(map(int, spills))):
        sys.exit(f"{target}: registers do not suffice, or the compiler does not say so:\n{log}")
    if kind == "ptx":
        return content(nvrtc, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).rstrip(b"\0")
    return content(nvrtc, program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)


def content(nvrtc, program, size_of, get):
    size = ctypes.c_size_t()
    check(nvrtc, size_of(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    check(nvrtc, get(program, text))
    return text.raw


def check(nvrtc, status):
    if status != 0:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"NVRTC: {nvrtc.nvrtcGetErrorString(status).decode()}")


def main():
    path = pathlib.Path(sys.argv[1])
    nvrtc, source, ptx = library(), path.read_bytes(), b""
    for wanted in sys.argv[2:]:
        kind, target = wanted.split(":")
        code = compiled(nvrtc, source, path.name.encode(), kind, target)
        if not code:
            sys.exit(f"{wanted}: nothing came out")
        ptx = code if kind == "ptx" else ptx
    sys.stdout.buffer.write(ptx)


main()
