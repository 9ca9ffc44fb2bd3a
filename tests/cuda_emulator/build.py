"""Build the CUDA extension for the CPU: its own sources over the emulator's headers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pybind11

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KEPT_SECONDS = 30 * 24 * 3600

FLAGS = [
    "-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
    "-Wno-unknown-pragmas", "-Wno-unused-parameter",
    "-DRLMBA_CUDA_MODULE=_cuda_emulated", "-DRLMBA_CUDA_EMULATED=1",
]  # fmt: skip


def cache_folder() -> Path:
    """Where objects are kept between test runs."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return users / "rlmba-tests" / "cuda_emulated"


def sources() -> list[Path]:
    """Kernels and bindings of the extension, and the emulator's device."""
    found = [*ROOT.glob("kernels/*/*.cu"), *ROOT.glob("csrc/bindings/cuda*.cpp")]
    return [*sorted(found), HERE / "device.cpp"]


def headers() -> list[Path]:
    """Every file that a source may include, except those of Python and pybind11."""
    folders = (ROOT / "csrc", ROOT / "kernels", HERE / "include")
    found = [p for folder in folders for p in folder.rglob("*.*h*") if p.is_file()]
    return sorted(p for p in found if p.suffix in (".cuh", ".h", ".hpp"))


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """Hash of strings and of the names and contents of files."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:32]


def build(folder: Path | None = None, compiler: str = "g++") -> Path:
    """Compile what has changed since the last build.

    Parameters
    ----------
    folder : Path or None
        Where objects and modules are kept, by the hash of everything that decides them: the source, all
        headers, the flags, the compiler, pybind11, Python. What was not used for 30 days is deleted.
        None: :func:`cache_folder`. Several test runs may share it.
    compiler : str
        A C++ compiler with the command line of GCC.

    Returns
    -------
    Path
        The module's file.

    Raises
    ------
    RuntimeError
        If a source does not compile; the message ends with the compiler's output.
    """
    folder = cache_folder() if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    common = digest([*FLAGS, version, pybind11.__version__, suffix, *headers()])
    includes = [HERE / "include", ROOT / "csrc/include", pybind11.get_include()]
    options = [*FLAGS, *(f"-I{x}" for x in includes), f"-isystem{sysconfig.get_paths()['include']}"]

    def compile_one(source: Path) -> Path:
        def command(target: Path) -> list[str]:
            return [compiler, *options, "-x", "c++", "-c", str(source), "-o", str(target)]

        return _made(folder / f"{digest([common, source])}.o", command, source.name)

    with filelock.FileLock(folder / "lock"):
        _forget_the_unused(folder)
        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_one, sources()))
        return _made(
            folder / digest(o.name for o in objects) / f"_cuda_emulated{suffix}",
            lambda target: [compiler, "-shared", *map(str, objects), "-o", str(target)],
            "linking",
        )


def _made(target: Path, command: Callable[[Path], list[str]], what: str) -> Path:
    """Run a command that writes ``target``, unless it is there; it appears only once it is whole."""
    if target.exists():
        os.utime(target)
        return target
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f"{target.name}.unfinished")
    done = subprocess.run(command(unfinished), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}:\n{done.stderr}")
    return unfinished.replace(target)


def _forget_the_unused(folder: Path) -> None:
    for path in folder.rglob("*.*o"):
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink()
