from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.errors import BackendError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import device
from rlmba.kernels.graph_propagate import on_device, spec
from tests.helpers import accelerated

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.parametrize("backend", ["triton"]),
]


def assert_as_reference(f, h, backend, affinity="auto"):
    ours = kernels.graph_propagate(f, h, affinity=affinity, backend=backend)
    theirs = kernels.graph_propagate(f, h, affinity=affinity, backend="reference")
    tolerance = spec.TOLERANCE[str(theirs.values.dtype)]
    scale = np.abs(theirs.values).max(initial=1e-30)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(ours.degrees, theirs.degrees, rtol=1e-10, atol=1e-10 * len(f))
    assert ours.values.dtype == theirs.values.dtype
    assert ours.degrees.dtype == np.float64
    assert ours.affinity == theirs.affinity
    return ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("affinity", spec.AFFINITIES)
@pytest.mark.parametrize("shape", [*spec.SHAPES[:4], (15, 127, 2), (16, 128, 1), (17, 129, 3)])
def test_matches_the_dense_adjacency(rng, backend, shape, affinity, dtype):
    n, width, k = shape
    f = rng.normal(size=(n, width)).astype(dtype)
    if affinity == "cosine":
        f = np.abs(f)
    f[n // 2] *= 0
    h = rng.normal(size=(n, k)).astype(dtype)
    assert_as_reference(f, h, backend, affinity)


@pytest.mark.parametrize("chunk", [150, 700])
def test_rows_in_chunks_and_streamed(rng, backend, chunk, monkeypatch):
    f, h = np.abs(rng.normal(size=(70, 9))), rng.normal(size=(70, 4))
    whole = assert_as_reference(f, h, backend)
    monkeypatch.setattr(on_device, "_CHUNK_VALUES", chunk)
    part = assert_as_reference(f, h, backend)
    np.testing.assert_allclose(part.values, whole.values, rtol=1e-13)
    rows = device.Rows
    monkeypatch.setattr(device, "Rows", lambda parts, where: rows(parts, where, 2 * 19 * 9 * 8))
    streamed = assert_as_reference(f, h, backend)
    np.testing.assert_allclose(streamed.values, whole.values, rtol=1e-13)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e300])
def test_the_scale_of_a_row_does_not_matter(rng, backend, scale):
    f = np.abs(np.round(rng.normal(size=(40, 5)) * 64))
    f[:, 0] += 1
    h = rng.normal(size=(40, 2))
    expected = kernels.graph_propagate(f, h, backend="reference").values
    f[::2] *= scale
    exact = 1e-12 if scale != 1e-310 else 1e-6  # denormal numbers are coarse
    ours = kernels.graph_propagate(f, h, backend=backend).values
    np.testing.assert_allclose(ours, expected, rtol=0, atol=exact * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_tensors(rng, backend, dtype):
    wide = torch.from_numpy(np.abs(rng.normal(size=(60, 2, 24)))).to(dtype)
    f, h = wide[:, 1], torch.from_numpy(rng.normal(size=(60, 7))).to(dtype)[:, 2:5]
    where = accelerated.device()
    ours = kernels.graph_propagate(f.to(where), h.to(where), backend=backend)
    expected = kernels.graph_propagate(f.double(), h.double(), backend="reference")
    assert ours.values.dtype == torch.float32
    assert ours.values.device.type == ours.degrees.device.type == where.type
    np.testing.assert_allclose(ours.values.cpu(), expected.values, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.degrees.cpu(), expected.degrees, rtol=1e-12)
    mixed = kernels.graph_propagate(f.to(where), h.double().to(where), backend=backend)
    assert mixed.values.dtype == torch.float64
    np.testing.assert_allclose(mixed.values.cpu(), expected.values, rtol=1e-12)


def test_while_a_graph_is_captured(rng, backend, monkeypatch):
    f, h = torch.from_numpy(rng.normal(size=(30, 4))), torch.from_numpy(rng.normal(size=30))
    expected = kernels.graph_propagate(f, h, affinity="shifted", backend="reference")
    monkeypatch.setattr(device, "capturing", lambda where: True)
    with pytest.raises(UsageError, match="capture"):
        kernels.graph_propagate(f, h, backend=backend)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", None)
        patch.setattr(torch.Tensor, "tolist", None)
        ours = kernels.graph_propagate(f, h, affinity="shifted", backend=backend)
    assert ours.affinity == "shifted"
    np.testing.assert_allclose(ours.values, expected.values, rtol=1e-12)


def test_errors(rng, backend):
    f = np.abs(rng.normal(size=(5, 3)))
    with pytest.raises(ShapeError, match=r"values: expected 5 rows .* \(4,\)"):
        kernels.graph_propagate(f, np.ones(4), backend=backend)
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.graph_propagate(f[:, :0], np.ones(5), backend=backend)
    with pytest.raises(UsageError, match="affinity: expected 'auto', 'cosine' or 'shifted'"):
        kernels.graph_propagate(f, f, affinity="rbf", backend=backend)
    with pytest.raises(BackendError, match="available"):
        kernels.graph_propagate(f, f, backend="cuda")
    both = f.copy()
    both[3, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"features\[3, 1\]"):
        kernels.graph_propagate(both, both, backend=backend)
