"""What tests need to run the GPU backends, with a GPU or without one.

With a GPU, kernels run there. Without one, Triton's interpreter runs its kernels on the CPU (set by
tests/conftest.py before triton is imported), and the CUDA sources are compiled for the CPU over
``tests/cuda_emulator``. ``RLMBA_REQUIRE_CUDA=1`` makes a missing GPU or CUDA extension a failure.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import pytest
import torch

from rlmba.kernels import dispatch

BACKENDS = ["triton", "cuda"]
"""For ``@pytest.mark.parametrize("backend", ...)``: the fixture ``gpu_backends`` makes them run."""


def required():
    return os.environ.get("RLMBA_REQUIRE_CUDA") == "1"


def missing(what):
    """Skip, or fail where a GPU is required."""
    if required():
        pytest.fail(f"RLMBA_REQUIRE_CUDA=1 but {what}")
    pytest.skip(what)


@functools.cache
def emulated_extension():
    """The CUDA extension compiled for the CPU."""
    from tests.cuda_emulator import build

    spec = importlib.util.spec_from_file_location("_cuda_emulated", build.build())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def device():
    """Where arrays of a GPU test lie."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_gpu(array):
    """A NumPy array as a tensor on the GPU; where there is none, in CPU memory."""
    return torch.as_tensor(array).to(device())


def prepare(backend):
    """Make ``backend`` serve calls, or skip."""
    if torch.cuda.is_available():
        if backend == "cuda" and dispatch.cuda() is None:
            missing("the CUDA extension was not built")
        return
    if required():
        missing("there is no GPU")
    if backend == "cuda":
        module = emulated_extension()
        dispatch.cuda = lambda: module
