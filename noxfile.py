"""One word for each chore: ``nox -s lint``, ``tests``, ``docs``, ``bench``."""

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
