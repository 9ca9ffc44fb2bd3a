"""Build the CUDA extension for the CPU: its own sources over the emulator's headers."""

from __future__ import annotations

import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def sources() -> list[Path]:
    """Kernels and bindings of the extension, and the emulator's device."""
    found = [*ROOT.glob("kernels/*/*.cu"), *ROOT.glob("csrc/bindings/cuda*.cpp")]
    return [*sorted(found), HERE / "device.cpp"]


def build(folder: Path, compiler: str = "g++") -> Path:
    """Compile into ``folder``; the module's file.

    Raises
    ------
    RuntimeError
        With the compiler's words, if a source does not compile.
    """
    flags = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    flags += ["-Wno-unknown-pragmas", "-Wno-unused-parameter"]
    includes = [HERE / "include", ROOT / "csrc/include", pybind11.get_include()]
    flags += [f"-I{x}" for x in includes] + [f"-isystem{sysconfig.get_paths()['include']}"]
    flags += ["-DRLMBA_CUDA_MODULE=_cuda_emulated", "-DRLMBA_CUDA_EMULATED=1"]

    def compile_one(source: Path) -> str:
        target = folder / f"{source.parent.name}_{source.name}.o"
        command = [compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{source.name}:\n{done.stderr}")
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources()))
    module = folder / f"_cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([compiler, "-shared", *objects, "-o", str(module)], check=True)
    return module
