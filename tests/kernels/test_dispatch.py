"""Which backend serves: the rules of ``backend="auto"`` and of one that is named."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import numpy as np
import pytest

from rlmba import kernels
from rlmba.errors import BackendError
from rlmba.kernels import dispatch

GPU_FIRST = ("triton", "cuda", "cpu", "reference")
BUILT = types.ModuleType("_cuda")
EMULATED = types.SimpleNamespace(emulated=True)


@pytest.fixture
def machine(monkeypatch):
    """Set what there is: GPU, CUDA extension, triton, its interpreter, the compiled CPU code."""

    def set_up(*, gpu=False, cuda=None, triton=True, interpreted=False, core=True):
        monkeypatch.setattr(dispatch, "_gpu", lambda: gpu)
        monkeypatch.setattr(dispatch, "cuda", lambda: cuda)
        monkeypatch.setattr(dispatch, "_triton", lambda: triton)
        monkeypatch.setattr(dispatch, "core", lambda: BUILT if core else None)
        if interpreted:
            monkeypatch.setenv("TRITON_INTERPRET", "1")
        else:
            monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    return set_up


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_never_moves_host_arrays_to_a_gpu(machine, gpu):
    machine(gpu=gpu, cuda=BUILT, interpreted=not gpu)
    assert dispatch.choose("op", "auto", "cpu", GPU_FIRST) == "cpu"
    machine(gpu=gpu, cuda=BUILT, core=False)
    assert dispatch.choose("op", "auto", "cpu", GPU_FIRST) == "reference"


def test_auto_takes_the_first_that_can_run_for_arrays_on_a_gpu(machine):
    machine(gpu=True, cuda=BUILT)
    assert dispatch.choose("op", "auto", "cuda", GPU_FIRST) == "triton"
    assert dispatch.choose("op", "auto", "cuda", ("cuda", "triton", "cpu")) == "cuda"
    machine(gpu=True, cuda=BUILT, triton=False)
    assert dispatch.choose("op", "auto", "cuda", GPU_FIRST) == "cuda"


def test_auto_does_not_copy_from_a_gpu(machine):
    machine(gpu=True, cuda=None, triton=False)
    with pytest.raises(
        BackendError,
        match=r"op: no backend for arrays on 'cuda' \(it has \['cpu', 'cuda', .*move the arrays",
    ):
        dispatch.choose("op", "auto", "cuda", GPU_FIRST)
    machine(gpu=True, cuda=BUILT)
    with pytest.raises(BackendError, match=r"it has \['cpu', 'reference'\]"):
        dispatch.choose("op", "auto", "cuda", ("cpu", "reference"))


@pytest.mark.parametrize(
    ("here", "backend", "available"),
    [
        ({}, "cuda", ["auto", "cpu", "reference"]),
        ({}, "triton", ["auto", "cpu", "reference"]),
        ({"cuda": BUILT}, "cuda", ["auto", "cpu", "reference"]),
        ({"gpu": True, "triton": False}, "triton", ["auto", "cpu", "reference"]),
        ({"gpu": True}, "cuda", ["auto", "triton", "cpu", "reference"]),
        ({"gpu": True, "cuda": BUILT}, "nonsense", ["auto", *GPU_FIRST]),
        ({"core": False}, "cpu", ["auto", "reference"]),
    ],
)
def test_a_backend_that_cannot_serve_says_which_can(machine, here, backend, available):
    machine(**here)
    with pytest.raises(BackendError) as caught:
        dispatch.choose("op", backend, "cpu", GPU_FIRST)
    expected = f"op: backend {backend!r} cannot serve arrays on 'cpu'; available: {available}"
    assert str(caught.value) == expected


def test_cpu_backends_do_not_serve_arrays_on_a_gpu(machine):
    machine(gpu=True, cuda=BUILT)
    for backend in ("cpu", "reference"):
        with pytest.raises(BackendError, match=r"available: \['auto', 'triton', 'cuda'\]"):
            dispatch.choose("op", backend, "cuda", GPU_FIRST)


def test_without_a_gpu_the_interpreter_and_the_emulation_serve(machine):
    machine(interpreted=True)
    assert dispatch.choose("op", "triton", "cpu", GPU_FIRST) == "triton"
    assert not kernels.backends()["cuda"]
    machine(cuda=EMULATED)
    assert dispatch.choose("op", "cuda", "cpu", GPU_FIRST) == "cuda"
    assert not kernels.backends()["triton"]


def instruction_set(limit):
    """What a process of its own uses, and what it says."""
    code = "from rlmba import kernels; print(kernels.instruction_set())"
    env = os.environ | {"RLMBA_MAX_CPU_ISA": limit}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


def test_the_environment_limits_the_instruction_set():
    core = pytest.importorskip("rlmba._core")
    sets = ("generic", "avx2", "avx512")
    for limit in sets[:2]:
        assert instruction_set(limit)[0] == min(limit, core.best_isa(), key=sets.index)
    found, complaint = instruction_set("sse9")
    assert found == ""
    assert "RLMBA_MAX_CPU_ISA: expected one of generic, avx2, avx512, got 'sse9'" in complaint


def test_what_can_run_here():
    found = kernels.backends()
    assert set(found) == {"cpu", "reference", "cuda", "triton"}
    assert found["reference"]


def test_calls_are_recorded_by_the_backend_that_served():
    with kernels.record() as outer:
        kernels.top_k(np.zeros(2), 1)
        with kernels.record() as inner:
            kernels.minmax(np.zeros(2), backend="reference")
        with pytest.raises(BackendError):
            kernels.minmax(np.zeros(2), backend="nonsense")
    assert [c.op for c in outer] == ["top_k", "minmax"]
    assert [(c.op, c.backend) for c in inner] == [("minmax", "reference")]
