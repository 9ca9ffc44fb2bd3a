"""One word for each chore: ``nox -s lint``, ``tests``, ``portable``, ``docs``, ``bench``."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, import directions."""
    session.install(".[dev]")
    session.run(".ci/lint", external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


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
