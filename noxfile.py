"""One word for each chore, such as ``nox -s quick`` or ``nox -s lint``; ``nox -l`` lists them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, import directions."""
    session.install(".[dev]")
    session.run(".ci/lint", external=True)


@nox.session
def quick(session: nox.Session) -> None:
    """The quick tests of every room, in less than three minutes; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", "-m", "quick", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite and what it leaves out for time; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", "-m", "thorough or not thorough", *session.posargs)


# What processors without some instructions, and other numbers of threads, would do: the variables limit
# torch's own kernels, oneDNN's, this package's, and OpenMP.
PROCESSORS = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"RLMBA_MAX_CPU_ISA": "generic"},
    {"RLMBA_MAX_CPU_ISA": "avx2"},
    {"RLMBA_MAX_CPU_ISA": "avx512"},
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "3"},
)


@nox.session
def portable(session: nox.Session) -> None:
    """The test suite as other processors would run it, one after the other; arguments go to pytest.

    Without tests of GPU code, and without test_time: it compares a kernel's time, which is limited here,
    with NumPy's, which is not.
    """
    session.install(".[test]")
    chosen = ["-m", "not gpu", "--deselect", "tests/strategies/test_cost.py::test_time"]
    for limits in PROCESSORS:
        session.run("pytest", *chosen, *session.posargs, env=limits)


@nox.session
def docs(session: nox.Session) -> None:
    """Examples in docstrings and docs/, and what docs/ says of the configuration."""
    session.install(".[test]")
    session.run("pytest", "tests/test_docs.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks; results are kept as JSON."""
    session.install(".[bench]")
    session.run("pytest", "bench", *session.posargs)


@nox.session
@nox.parametrize("kind", ["address,undefined", "thread"], ids=["memory", "threads"])
def sanitize(session: nox.Session, kind: str) -> None:
    """The CPU kernels' tests on an extension built with AddressSanitizer and UBSan, or ThreadSanitizer.

    Arguments go to pytest. What Triton or the CUDA emulator serves is left out.
    """
    settings = {
        "cmake.define.RLMBA_SANITIZE": kind,
        "cmake.define.RLMBA_CUDA": "OFF",
        "build-dir": f"build/sanitize-{kind.partition(',')[0]}",
    }
    session.install(".[test]", *(f"--config-settings={k}={v}" for k, v in settings.items()))
    python = ["python"]
    # Threads that wait must not spin: tests have more of them than the machine has cores.
    env = {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"}
    if kind == "thread":
        # GCC's OpenMP runtime synchronizes in ways that ThreadSanitizer does not see. LLVM's serves
        # the same code, and its tool Archer reports every fork, join, barrier and reduction.
        archer = max(Path("/usr/lib").glob("llvm-*/lib/libarcher.so"), default=None)
        if archer is None:
            session.error("libarcher.so was not found: install LLVM's OpenMP runtime (libomp-dev)")
        env["LD_PRELOAD"] = f"{_library('libtsan.so')} {archer.with_name('libomp.so')}"
        env["OMP_TOOL_LIBRARIES"] = str(archer)
        env["TSAN_OPTIONS"] = "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66"
        python = ["setarch", "-R", "python"]  # it needs fixed addresses
    else:
        env["LD_PRELOAD"] = f"{_library('libasan.so')} {_library('libstdc++.so')}"
        env["ASAN_OPTIONS"] = "detect_leaks=0"  # Python and torch keep memory until the end
        env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    options = ["-n", "0", "-m", "not gpu", *(session.posargs or ["tests/kernels"])]
    session.run(*python, "-m", "pytest", *options, env=env, external=True)


def _library(name: str) -> str:
    """Where the compiler keeps one of its libraries."""
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
