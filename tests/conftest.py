from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores, so that more threads would only wait for each other. Libraries read these
    # variables when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and the processes that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import numpy as np
import pytest
import torch

# A busy or emulated processor may take any time for an example.
hypothesis.settings.register_profile("at any speed", deadline=None)
hypothesis.settings.load_profile("at any speed")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported


QUICK_CASES = 3
"""Cases of a parametrized test that ``pytest -m quick`` runs."""


def backend_of(item: pytest.Item) -> str | None:
    """The argument ``backend`` of a test, if it has one."""
    params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    backend = params.get("backend")
    return backend if isinstance(backend, str) else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need: those that need nothing and take little time are ``quick``.

    Of a test with many cases, only the first :data:`QUICK_CASES` are marked.
    """
    cases: Counter[str] = Counter()
    for item in items:
        if backend_of(item) in ("cuda", "triton"):
            item.add_marker("gpu")
        if {"browser", "launch"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
        if {"gpu", "slow", "thorough"} & {mark.name for mark in item.iter_markers()}:
            continue
        function = item.nodeid.partition("[")[0]
        cases[function] += 1
        if cases[function] <= QUICK_CASES:
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def gpu_backends(request, monkeypatch):
    """Make the backend of a test run if it is "cuda" or "triton": on a GPU, emulated or interpreted."""
    backend = backend_of(request.node)
    if backend in ("cuda", "triton"):
        from rlmba.kernels import dispatch
        from tests.helpers import accelerated

        monkeypatch.setattr(dispatch, "cuda", dispatch.cuda)  # restored afterwards
        accelerated.prepare(backend)


@pytest.fixture(autouse=True, scope="session")
def users_settings(tmp_path_factory):
    """Settings of a user who has none: what tests allow folders does not enter the real settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def shared_data_dir() -> Path | None:
    """Real multimodal arrays next to the checkout, or at RLMBA_TEST_DATA; None if there are none."""
    named = os.environ.get("RLMBA_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = shared_data_dir()
    if folder is None:
        pytest.skip(
            "real data sets are not next to this checkout; set RLMBA_TEST_DATA to use a copy"
        )
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def launch():
    """Start processes of one group with the same Python arguments; they end with the test."""
    started = []

    def start(arguments, size=2, **popen):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        for rank in range(size):
            env = os.environ | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, *map(str, arguments)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen(command, env=env, **pipes | popen))
        return started[-size:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, by Playwright; without one the test is skipped."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright; the extra `test` has it"
    )
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no Chromium: expected one of {', '.join(names)} on PATH")
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()
