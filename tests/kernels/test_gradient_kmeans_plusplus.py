from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlmba import _core, kernels
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.gradient_kmeans_plusplus import Factors, draw, reference, spec
from tests.helpers.accelerated import on_gpu
from tests.helpers.d2_law import law_p_value

BACKENDS = ["cpu", "reference", "triton"]


def materialized(a, z, scales=None):
    """The embeddings themselves [N, C * D], in float64."""
    parts = z if isinstance(z, list) else [z]
    if scales is not None:
        parts = [scales[:, m, None] * part for m, part in enumerate(parts)]
    whole = np.concatenate(parts, axis=1).astype(np.float64)
    return (a.astype(np.float64)[:, :, None] * whole[:, None, :]).reshape(len(a), -1)


def sequence_law(x, n):
    """Probability of every ordered sequence from its first row on, straight from the definition."""
    pairs = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    first = int((x**2).sum(axis=1).argmax())
    rest = [i for i in range(len(x)) if i != first]
    law = {}
    for tail in itertools.permutations(rest, n - 1):
        probability, drawn = 1.0, [first]
        for position in tail:
            weights = pairs[:, drawn].min(axis=1)
            if not weights.any():
                weights = np.ones(len(x))
                weights[drawn] = 0
            probability *= weights[position] / weights.sum()
            drawn.append(position)
        law[(first, *tail)] = probability
    assert sum(law.values()) == pytest.approx(1)
    return law


def pools():
    spread = np.random.default_rng(3)
    a = np.array([[0.6, -0.6], [0.2, -0.2], [-0.5, 0.5], [-0.3, 0.3], [0.4, -0.4]])
    z = np.abs(spread.normal(size=(5, 3)))
    yield "spread", a, z, 4
    yield "duplicates", a[[0, 0, 2, 3, 3]], z[[0, 0, 2, 3, 3]], 3
    zero = a.copy()
    zero[[1, 4]] = 0
    yield "zero rows", zero, z, 3
    far = z.copy()
    far[1] = 0
    yield "zero features", a * np.array([[1], [1], [1e-6], [1], [1e-6]]), far, 4
    yield "exhausted", a[[0, 0, 0, 1, 1]], z[[0, 0, 0, 1, 1]], 4


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 64])
@pytest.mark.parametrize(("name", "a", "z", "n"), list(pools()), ids=[p[0] for p in pools()])
class TestLaw:
    def test_compiled(self, name, a, z, n, block):
        def one(seed):
            return draw(Factors(a, [z]), n, seed, None, block_min=block)[0].tolist()

        assert law_p_value(sequence_law(materialized(a, z), n), one, 30_000) > 1e-3

    @pytest.mark.thorough
    def test_reference(self, name, a, z, n, block):
        def one(seed):
            return reference.gradient_kmeans_plusplus(
                Factors(a, [z]), n, seed, None, block_min=block
            )[0].tolist()

        assert law_p_value(sequence_law(materialized(a, z), n), one, 1_000) > 1e-3

    def test_same_stream(self, name, a, z, n, block):
        for seed in range(300):
            ours = draw(Factors(a, [z]), n, seed, None, block_min=block)
            theirs = reference.gradient_kmeans_plusplus(
                Factors(a, [z]), n, seed, None, block_min=block
            )
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-15)


def case(rng, shape, dtype, *, relu=False):
    rows, classes, widths = shape
    a = rng.dirichlet(np.full(classes, 0.3), size=rows)
    a[np.arange(rows), a.argmax(axis=1)] -= 1
    a[rng.random(rows) < 0.1] *= 1e-6
    z = [rng.normal(size=(rows, d)) for d in widths]
    if relu:
        z = [np.maximum(part, 0) for part in z]
    scales = 0.5 + 0.5 * rng.random((rows, len(widths)))
    return a.astype(dtype), [part.astype(dtype) for part in z], scales.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES, ids=str)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("part", [0.1, 1.0])
def test_draws_of_the_reference(rng, product_isa, shape, dtype, scaled, part):
    a, z, scales = case(rng, shape, dtype, relu=scaled)
    n = min(300, max(1, int(part * shape[0])))
    more = {"scales": scales} if scaled else {}
    ours = kernels.gradient_kmeans_plusplus(a, z, n, rng=11, backend="cpu", **more)
    theirs = kernels.gradient_kmeans_plusplus(a, z, n, rng=11, backend="reference", **more)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=spec.RTOL[dtype], atol=1e-14)
    assert ours.distances.dtype == dtype
    assert len(set(ours.indices.tolist())) == n
    x = materialized(a, z, scales if scaled else None)
    norms = np.linalg.norm(x, axis=1)
    assert norms[ours.indices[0]] == pytest.approx(norms.max(), rel=1e-6)
    for j in range(1, min(n, 40)):
        to = np.linalg.norm(x[ours.indices[:j]] - x[ours.indices[j]], axis=1).min()
        assert ours.distances[j] == pytest.approx(to, rel=1e-5, abs=1e-6 * norms.max())


@pytest.mark.slow
def test_large_case_against_materialized_distances(rng, product_isa):
    """Enough rows, width and draws for every path of the product form."""
    a, z, _ = case(rng, (600, 5, [530]), np.float32, relu=True)
    ours = kernels.gradient_kmeans_plusplus(a, z[0], 300, rng=5, backend="cpu")
    x = materialized(a, z)
    squared = ((x - x[ours.indices[0]]) ** 2).sum(axis=1)
    for position, distance in zip(ours.indices[1:], ours.distances[1:], strict=True):
        assert distance == pytest.approx(np.sqrt(squared[position]), rel=1e-5)
        assert squared[position] > 0
        squared = np.minimum(squared, ((x - x[position]) ** 2).sum(axis=1))


def test_a_common_offset_of_the_features_is_seen_through(rng):
    """Products of limited precision cannot tell these rows apart; the answer must."""
    a = np.repeat(rng.normal(size=(1, 4)), 400, axis=0).astype(np.float32)
    z = (rng.normal(size=(400, 40)) * 1e-2 + 100).astype(np.float32)
    ours = kernels.gradient_kmeans_plusplus(a, z, 120, rng=1, backend="cpu")
    theirs = kernels.gradient_kmeans_plusplus(a, z, 120, rng=1, backend="reference")
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=1e-6)


def test_huge_and_tiny_values_fall_back_to_exact_distances(rng):
    a, z, _ = case(rng, (300, 5, [33]), np.float32)
    for scale in (np.float32(1e18), np.float32(1e-18)):
        ours = kernels.gradient_kmeans_plusplus(a, z[0] * scale, 60, rng=2, backend="cpu")
        theirs = kernels.gradient_kmeans_plusplus(a, z[0] * scale, 60, rng=2, backend="reference")
        np.testing.assert_array_equal(ours.indices, theirs.indices)


def test_parts_are_their_concatenation(rng):
    a, z, scales = case(rng, (500, 6, [20, 7, 50]), np.float32)
    split = kernels.gradient_kmeans_plusplus(a, z, 90, rng=4, scales=scales)
    whole = np.concatenate([scales[:, m, None] * part for m, part in enumerate(z)], axis=1)
    joined = kernels.gradient_kmeans_plusplus(a, whole, 90, rng=4)
    np.testing.assert_array_equal(split.indices, joined.indices)
    np.testing.assert_array_equal(split.distances, joined.distances)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_drawn_twice_when_all_rows_are_alike(backend):
    a, z = np.full((30, 3), 0.5, np.float32), np.ones((30, 4), np.float32)
    result = kernels.gradient_kmeans_plusplus(a, z, 30, rng=2, backend=backend)
    assert sorted(result.indices.tolist()) == list(range(30))
    assert result.indices[0] == 0
    np.testing.assert_array_equal(result.distances[1:], 0)
    none = kernels.gradient_kmeans_plusplus(0 * a, z, 7, rng=2, backend=backend)
    assert len(set(none.indices.tolist())) == 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_none_one_and_all(rng, backend):
    a, z, _ = case(rng, (24, 4, [6]), np.float32)
    assert kernels.gradient_kmeans_plusplus(a, z, 0, rng=0, backend=backend).indices.shape == (0,)
    one = kernels.gradient_kmeans_plusplus(a, z, 1, rng=0, backend=backend)
    norms = np.linalg.norm(materialized(a, z), axis=1)
    assert one.indices.tolist() == [int(norms.argmax())]
    assert one.distances[0] == pytest.approx(norms.max())
    every = kernels.gradient_kmeans_plusplus(a, z, 24, rng=0, first=17, backend=backend)
    assert every.indices[0] == 17
    assert sorted(every.indices.tolist()) == list(range(24))
    empty = kernels.gradient_kmeans_plusplus(a[:0], z[0][:0], 0, rng=0, backend=backend)
    assert empty.distances.shape == (0,)


def test_memory_and_threads_do_not_matter(rng, with_threads):
    a, z, scales = case(rng, (9000, 12, [40, 30]), np.float32)
    least = _core.gradient_scratch(a, 70)
    results = [
        with_threads(
            threads, lambda m=memory: draw(Factors(a, z, scales), 500, 9, None, max_memory=m)
        )
        for threads in (1, 2, 3)
        for memory in (None, 4 * least)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][0], other[0])
        np.testing.assert_array_equal(results[0][1], other[1])
    with pytest.raises(UsageError, match="max_memory: expected at least"):
        kernels.gradient_kmeans_plusplus(a, z, 5, rng=0, max_memory=100)


def test_every_output_is_written(rng, poisoned):
    a, z, _ = case(rng, (400, 3, [5]), np.float32)
    result = kernels.gradient_kmeans_plusplus(a, z, 400, rng=1, backend="cpu")
    assert np.isfinite(result.distances).all()
    assert result.indices.min() == 0


def test_kinds_and_layouts(rng):
    a, z, _ = case(rng, (300, 5, [8]), np.float32)
    plain = kernels.gradient_kmeans_plusplus(a, z[0], 20, rng=3)
    out = kernels.gradient_kmeans_plusplus(torch.from_numpy(a), torch.from_numpy(z[0]), 20, rng=3)
    assert isinstance(out.indices, torch.Tensor)
    assert out.indices.dtype == torch.int64
    np.testing.assert_array_equal(out.indices.numpy(), plain.indices)
    wide = np.zeros((300, 2, 8), np.float32)
    wide[:, 1] = z[0]
    strided = kernels.gradient_kmeans_plusplus(a, wide[:, 1], 20, rng=3)
    np.testing.assert_array_equal(strided.indices, plain.indices)
    half = kernels.gradient_kmeans_plusplus(
        a.astype(np.float16), z[0].astype(np.float16), 20, rng=3
    )
    assert half.distances.dtype == np.float32
    mixed = kernels.gradient_kmeans_plusplus(a.astype(np.float64), z[0], 20, rng=3)
    assert mixed.distances.dtype == np.float64
    same = [
        kernels.gradient_kmeans_plusplus(a, z[0], 20, rng=np.random.default_rng(8)).indices
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*same)


def same(ours, theirs, rtol=0.0):
    """As drawn elsewhere; rows may lie on a GPU."""
    np.testing.assert_array_equal(*(torch.as_tensor(r.indices).cpu() for r in (ours, theirs)))
    ours, theirs = (torch.as_tensor(r.distances).cpu() for r in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-14)
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize(
    ("shape", "n", "dtype", "scaled"),
    [
        ((1, 1, [1]), 1, "float32", False),
        ((63, 3, [4]), 7, "float16", True),
        ((63, 3, [4]), 7, "bfloat16", False),
        ((64, 3, [2, 4]), 5, "float16", False),
        ((64, 3, [2, 4]), 5, "float64", True),
        ((65, 17, [20, 3]), 5, "float64", False),
        ((129, 17, [20, 3]), 70, "float32", True),
    ],
    ids=str,
)
def test_gpu_draws_what_the_cpu_draws(rng, poisoned, backend, shape, n, dtype, scaled):
    a, z, scales = case(rng, shape, np.float64, relu=scaled)
    a, *z, scales = (torch.from_numpy(t).to(getattr(torch, dtype)) for t in (a, *z, scales))
    more = {"scales": scales} if scaled else {}
    theirs = kernels.gradient_kmeans_plusplus(a, z, n, rng=11, backend="cpu", **more)
    more = {name: on_gpu(value) for name, value in more.items()}
    ours = kernels.gradient_kmeans_plusplus(
        on_gpu(a), [on_gpu(part) for part in z], n, rng=11, backend=backend, **more
    )
    same(ours, theirs, spec.RTOL.get(dtype, spec.RTOL["float32"]))


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize(("name", "a", "z", "n"), list(pools()), ids=[p[0] for p in pools()])
def test_gpu_follows_the_stream_of_the_reference(backend, name, a, z, n):
    """Small blocks and few rows: most proposals are refused."""
    from rlmba.kernels.gradient_kmeans_plusplus import on_device

    blocks = (8, 8)
    for seed in (0, 2**63 + 5):
        ours = on_device.draw(on_gpu(a), [on_gpu(z)], None, n, seed, None, blocks=blocks)
        theirs = reference.gradient_kmeans_plusplus(
            Factors(a, [z]), n, seed, None, block_min=blocks[0], block_max=blocks[1]
        )
        np.testing.assert_array_equal(ours[0].cpu(), theirs[0])
        np.testing.assert_allclose(ours[1].cpu() ** 2, theirs[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("scale", [1e18, 1e-18])
def test_gpu_measures_huge_and_tiny_values(rng, backend, scale):
    a, z, _ = case(rng, (64, 5, [9]), np.float32)
    z = z[0] * np.float32(scale)
    ours = kernels.gradient_kmeans_plusplus(a, z, 12, rng=2, backend=backend)
    same(ours, kernels.gradient_kmeans_plusplus(a, z, 12, rng=2, backend="cpu"), 2e-7)


@pytest.mark.parametrize("backend", ["triton"])
def test_gpu_sees_through_a_common_offset(rng, backend):
    a = np.repeat(rng.normal(size=(1, 4)), 64, axis=0).astype(np.float32)
    z = (rng.normal(size=(64, 20)) * 1e-2 + 100).astype(np.float32)
    ours = kernels.gradient_kmeans_plusplus(a, z, 12, rng=1, backend=backend)
    same(ours, kernels.gradient_kmeans_plusplus(a, z, 12, rng=1, backend="cpu"), 2e-7)


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.filterwarnings("ignore:(invalid|All-NaN)")
def test_rows_streamed_to_the_gpu_are_the_same(rng, poisoned, backend):
    a, z, scales = case(rng, (100, 3, [5, 2]), np.float32)
    row = 4 * (3 + 5 + 2 + 2)
    results = [
        kernels.gradient_kmeans_plusplus(
            a, z, 20, rng=3, scales=scales, max_memory=memory, backend=backend
        )
        for memory in (None, 2 * 67 * row)
    ]
    same(*results)
    z[1][91, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"features\[1\]\[91, 1\]"):
        kernels.gradient_kmeans_plusplus(
            a, z, 5, rng=3, scales=scales, max_memory=2 * 67 * row, backend=backend
        )


@pytest.mark.parametrize("backend", ["triton"])
def test_gpu_mixes_dtypes(rng, backend):
    a, z, scales = case(rng, (40, 3, [5, 2]), np.float64)
    z[1] = z[1].astype(np.float32)
    a = a.astype(np.float16)
    ours = kernels.gradient_kmeans_plusplus(a, z, 9, rng=3, backend=backend)
    same(ours, kernels.gradient_kmeans_plusplus(a, z, 9, rng=3, backend="cpu"), 1e-12)
    ours = kernels.gradient_kmeans_plusplus(
        a, z[1], 9, rng=3, scales=scales[:, :1], backend=backend
    )
    theirs = kernels.gradient_kmeans_plusplus(
        a, z[1], 9, rng=3, scales=scales[:, :1], backend="cpu"
    )
    same(ours, theirs, 2e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:(overflow|invalid|All-NaN)")
def test_errors(rng, backend):
    a, z, scales = case(rng, (50, 3, [4, 2]), np.float32)

    def call(a=a, z=z, n=5, **more):
        return kernels.gradient_kmeans_plusplus(a, z, n, **{"rng": 0, "backend": backend, **more})

    with pytest.raises(UsageError, match="n: expected 0 to 50, got 51"):
        call(n=51)
    with pytest.raises(UsageError, match="first: expected 0 to 49"):
        call(first=50)
    with pytest.raises(UsageError, match="at least one part"):
        call(z=[])
    with pytest.raises(UsageError, match="rng"):
        call(rng="x")
    with pytest.raises(ShapeError, match=r"features\[1\]: expected 50 rows"):
        call(z=[z[0], z[1][:9]])
    with pytest.raises(ShapeError, match="features: expected at least one column"):
        call(z=z[0][:, :0])
    with pytest.raises(ShapeError, match=r"scales: expected shape \(50, 2\)"):
        call(scales=scales[:, :1])
    with pytest.raises(DataError, match="overflow"):
        call(a=a.astype(np.float64) * 1e200)
    with pytest.raises(DataError, match="overflow"):  # of finite features times finite scales
        call(z=[part * np.float32(1e30) for part in z], scales=scales * np.float32(1e30))
    broken = [z[0], z[1].copy()]
    broken[1][[31, 40], 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"features\[1\]\[31, 1\]"):
        call(z=broken)
    bad = a.copy()
    bad[7, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"residuals\[7, 0\]"):
        call(a=bad, n=1)
    bad_scales = scales.copy()
    bad_scales[9, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"scales\[9, 1\]"):
        call(scales=bad_scales)
