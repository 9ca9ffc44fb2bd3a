"""Versions, compiled backends and devices of this installation, and what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlmba.errors import UsageError

__all__ = [
    "Backend",
    "Compiled",
    "Device",
    "Environment",
    "Package",
    "Problem",
    "inspect",
    "versions",
]

_IMPORT_NAMES: Mapping[str, str] = {
    "charset-normalizer": "charset_normalizer",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
# Whether their compiled code fits torch, numpy and the libraries of the system shows only on import. The
# others are looked up, as are scikit-learn and matplotlib, since importing them all takes twice as long.
_IMPORTED = frozenset(
    [
        "av",
        "numpy",
        "pillow",
        "pyarrow",
        "safetensors",
        "scipy",
        "torch",
        "torchaudio",
        "torchvision",
        "triton",
    ]
)
_OPTIONAL: Mapping[str, str] = {
    "pyarrow": 'parquet files for rlmba select; pip install "rlmba[parquet]"',
    "triton": "Triton kernels; torch's CUDA builds for Linux bring it",
    "tensorboard": 'tracking with TensorBoard; pip install "rlmba[tensorboard]"',
}


@dataclass(frozen=True)
class Package:
    """A package: its installed ``version`` and the ``problem`` found with it, if any."""

    name: str
    version: str | None
    problem: str | None
    needed: bool


@dataclass(frozen=True)
class Compiled:
    """A compiled extension: ``detail`` says what it offers, or why it cannot be imported."""

    name: str
    available: bool
    detail: str


@dataclass(frozen=True)
class Backend:
    """A backend of the kernels: whether it can run here; ``detail`` says on what, or what it lacks."""

    name: str
    available: bool
    detail: str


@dataclass(frozen=True)
class Device:
    """A GPU as torch sees it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Problem:
    """Something missing or broken and the remedy; without what is not ``needed``, the rest works."""

    what: str
    remedy: str
    needed: bool


@dataclass(frozen=True)
class Environment:
    """The answer of :func:`inspect`."""

    rlmba: str
    python: str
    platform: str
    cores: int
    packages: tuple[Package, ...]
    compiled: tuple[Compiled, ...]
    backends: tuple[Backend, ...]
    devices: tuple[Device, ...]
    torch_cuda: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, numbers and strings, ready for JSON."""
        return asdict(self)

    def problems(self) -> tuple[Problem, ...]:
        """Everything missing or broken; what is needed comes first."""
        return tuple(sorted(self._problems(), key=lambda p: not p.needed))

    def _problems(self) -> Iterator[Problem]:
        for package in self.packages:
            if package.problem is not None:
                remedy = _OPTIONAL.get(
                    package.name,
                    f'pip install --upgrade rlmba "{package.name}", both in one command',
                )
                yield Problem(f"{package.name}: {package.problem}", remedy, package.needed)
        remedies = {
            "_core": "the NumPy reference code is used instead, which is much slower; "
            "reinstall where GCC (g++) is present: pip install .",
            "_cuda": "only GPU kernels need it; put nvcc on PATH and reinstall: "
            "pip install . --config-settings=cmake.define.RLMBA_CUDA=ON",
        }
        for module in self.compiled:
            if not module.available:
                yield Problem(
                    f"{module.name}: {module.detail}", remedies[module.name], needed=False
                )
        if not self.devices:
            yield Problem(
                "no GPU visible to torch",
                "everything runs on the CPU; a GPU needs its driver and a CUDA build of torch",
                needed=False,
            )


def _dependencies() -> list[str]:
    try:
        requirements = importlib.metadata.requires("rlmba") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = [re.match(r"[A-Za-z0-9._-]+", r) for r in requirements if "extra ==" not in r]
    return sorted(m.group().lower() for m in names if m is not None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's model name, or what the platform calls it."""
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - no pathlib for one line
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Look up the versions of Python, rlmba and its dependencies without importing any of them."""
    found = {name: _version(name) for name in ("rlmba", *_dependencies(), *_OPTIONAL)}
    return {
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version is not None},
    }


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check(name: str, needed: bool) -> Package:
    version, module, problem = _version(name), _IMPORT_NAMES.get(name, name), None
    if version is None:
        problem = "not installed"
    elif name not in _IMPORTED:
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            problem = f"version {version} has no module {module}; its installation is incomplete"
    else:
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package may raise anything
            problem = f"version {version} cannot be imported ({_reason(error)})"
    return Package(name, version, problem, needed)


def _core() -> Compiled:
    try:
        from rlmba import _core as module
        from rlmba.kernels import dispatch

        dispatch.core()  # limits the instruction set where that is asked for
    except (ImportError, UsageError) as error:
        return Compiled("_core", False, f"not available ({_reason(error)})")
    return Compiled(
        "_core",
        True,
        f"instruction set {module.isa()} in use, {module.best_isa()} the best here, "
        f"{module.num_threads()} threads",
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _cuda() -> Compiled:
    try:
        module = importlib.import_module("rlmba._cuda")
    except ModuleNotFoundError:
        return Compiled("_cuda", False, "not built")
    except ImportError as error:
        return Compiled("_cuda", False, f"built, but cannot be imported ({_reason(error)})")
    driver = module.driver_version()
    devices = ", ".join(
        "{name} ({0}.{1})".format(*d["capability"], name=d["name"]) for d in module.devices()
    )
    return Compiled(
        "_cuda",
        True,
        f"CUDA runtime {_dotted(module.runtime_version())}, "
        + (f"driver for CUDA {_dotted(driver)}" if driver else "no driver")
        + f", devices: {devices or 'none'}",
    )


def _backends(gpu: bool) -> tuple[Backend, ...]:
    try:
        from rlmba.kernels import dispatch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing extension is reported as such
            found = dispatch.backends()
            lacks = {
                "cpu": [] if found["cpu"] else ["the extension _core"],
                "cuda": [] if dispatch.cuda() else ["the extension _cuda"],
                "triton": [] if _version("triton") else ["the package triton"],
            }
    except Exception:  # numpy or torch is broken, and reported as a package
        return ()
    for name in dispatch.ACCELERATED:
        lacks[name] += [] if gpu else ["a GPU"]
    serves = {"cpu": "compiled code", "reference": "NumPy", "cuda": "GPU", "triton": "GPU"}
    if found["triton"] and not gpu:
        serves["triton"] = "interpreted in Python (TRITON_INTERPRET=1): for tests, slow"
    return tuple(
        Backend(n, ok, serves[n] if ok else "needs " + " and ".join(lacks[n]))
        for n, ok in found.items()
    )


def _devices() -> tuple[tuple[Device, ...], str | None]:
    try:
        import torch

        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except Exception:  # torch is broken, and reported as a package
        return (), None
    return tuple(Device(p.name, p.total_memory) for p in found), torch.version.cuda


def inspect() -> Environment:
    """Check every dependency, load the compiled extensions and ask torch for its devices.

    Dependencies whose compiled code must fit this installation are imported; the others are looked up.
    """
    packages = [_check(name, needed=True) for name in _dependencies()]
    packages += [_check(name, needed=False) for name in _OPTIONAL]
    devices, torch_cuda = _devices()
    return Environment(
        rlmba=_version("rlmba") or "not installed",
        python=sys.version.split()[0],
        platform=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        packages=tuple(packages),
        compiled=(_core(), _cuda()),
        backends=_backends(bool(devices)),
        devices=devices,
        torch_cuda=torch_cuda,
    )
