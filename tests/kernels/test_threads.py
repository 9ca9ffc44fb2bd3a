"""Threads of the compiled kernels: forks, several callers, exceptions, and their number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rlmba import kernels
from rlmba.kernels import dispatch

ROOT = Path(__file__).parents[2]
SOURCES = ("csrc/bindings/core_threads.cpp", "tests/helpers/threads_check.cpp")

pytestmark = pytest.mark.skipif(dispatch.core() is None, reason="the extension is not available")


@pytest.fixture
def features(rng):
    return rng.normal(size=(3_000, 40)).astype(np.float32)


def chosen(features):
    return kernels.kmeans_plusplus(features, 50, rng=0).indices.tolist()


@pytest.mark.slow
def test_loops_of_the_compiled_code(tmp_path):
    """Chunks, exceptions, loops within loops, callers, forks, and sums: tests/helpers/threads_check.cpp."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    flags = ["-std=c++20", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", "-Icsrc/include"]
    program = tmp_path / "threads_check"
    subprocess.run(["g++", *flags, *SOURCES, "-o", program], cwd=ROOT, check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_forked_process_can_compute():
    code = """
        import os, signal
        import numpy as np
        from rlmba import kernels

        def chosen():
            features = np.random.default_rng(0).normal(size=(3_000, 40)).astype(np.float32)
            return kernels.kmeans_plusplus(features, 50, rng=0).indices.tolist()

        kernels.set_num_threads(3)
        expected = chosen()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if chosen() == expected else 1)
        print(os.waitpid(child, 0)[1])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout == "0\n", done.stderr


def test_several_python_threads_compute_at_once(features, with_threads):
    expected = with_threads(1, lambda: chosen(features))

    def many():
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(chosen, [features] * 12))

    assert with_threads(3, many) == [expected] * 12


def test_the_number_of_threads_may_change_while_others_compute(features, with_threads):
    expected = chosen(features)

    def many():
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(chosen, features) for _ in range(20)]
            for n in range(200):
                kernels.set_num_threads(1 + n % 5)
            return [r.result() for r in running]

    assert with_threads(2, many) == [expected] * 20


@pytest.mark.parametrize(
    ("given", "expected"), [("3", 3), ("2,1", 2), ("0", None), ("no", None), ("", None)]
)
def test_the_environment_gives_the_number_of_threads(given, expected):
    code = "from rlmba import kernels; print(kernels.num_threads())"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": given},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(out) == (expected or len(os.sched_getaffinity(0)))
