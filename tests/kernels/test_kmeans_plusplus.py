from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.cluster import kmeans_plusplus as sklearn_kmeans_plusplus

from rlmba import _core, kernels
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import d2_sampling, distances
from rlmba.kernels.kmeans_plusplus import reference, seed_centers, spec
from tests.helpers.accelerated import device, on_gpu
from tests.helpers.d2_law import law_p_value

BACKENDS = ["cpu", "reference", "triton"]
DUPLICATES = np.array([[0.0], [0.0], [1.0], [3.0], [3.5], [3.5]])
SPREAD = np.array([[0.0, 0.0], [1.0, 0.2], [0.1, 1.1], [2.0, 2.0], [5.0, 1.0]])
CONSTANT_AFTER_TWO = np.array([[1.0], [1.0], [1.0], [4.0], [4.0]])


def sequence_law(x, k):
    """Probability of every ordered sequence, straight from the definition."""
    pairs = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    law = {}
    for sequence in itertools.permutations(range(len(x)), k):
        probability = 1 / len(x)
        for i in range(1, k):
            drawn = list(sequence[:i])
            weights = pairs[:, drawn].min(axis=1)
            if not weights.any():
                weights = np.ones(len(x))
                weights[drawn] = 0
            probability *= weights[sequence[i]] / weights.sum()
        law[sequence] = probability
    assert sum(law.values()) == pytest.approx(1)
    return law


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [(spec.BLOCK_MIN, spec.BLOCK_MAX), (8, 8)], ids=["plan", "8"])
@pytest.mark.parametrize(
    ("pool", "k"),
    [(DUPLICATES, 3), (SPREAD, 4), (CONSTANT_AFTER_TWO, 4)],
    ids=["duplicates", "spread", "exhausted"],
)
class TestLaw:
    def test_compiled(self, pool, k, blocks):
        def draw(seed):
            return seed_centers(
                pool, k, seed, None, distances.UNBOUNDED, block_min=blocks[0], block_max=blocks[1]
            )[0].tolist()

        assert law_p_value(sequence_law(pool, k), draw, 30_000) > 1e-3

    def test_reference_draws_the_same_stream(self, pool, k, blocks):
        for seed in range(400):
            ours = seed_centers(
                pool, k, seed, None, distances.UNBOUNDED, block_min=blocks[0], block_max=blocks[1]
            )
            theirs = reference.blocked(
                pool, k, seed, None, block_min=blocks[0], block_max=blocks[1]
            )
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-14)
            np.testing.assert_array_equal(ours[2], theirs[2])

    @pytest.mark.thorough
    def test_reference(self, pool, k, blocks):
        def draw(seed):
            return reference.blocked(pool, k, seed, None, block_min=blocks[0], block_max=blocks[1])[
                0
            ].tolist()

        assert law_p_value(sequence_law(pool, k), draw, 4_000) > 1e-3


def test_sequential_form_follows_the_law():
    generator = np.random.default_rng(5)
    law = sequence_law(DUPLICATES, 3)
    draw = lambda seed: reference.sequential(DUPLICATES, 3, generator).tolist()  # noqa: E731
    assert law_p_value(law, draw, 6_000) > 1e-3


def test_blocks_do_reject():
    """The law tests mean nothing unless proposals are refused."""
    refused = 0
    for seed in range(50):
        state = d2_sampling.State(reference.Rows(SPREAD))
        state.extend([0], [np.inf])
        law = d2_sampling.WeightedDraw(state.squared)
        uniforms = np.random.default_rng(seed).random(16)
        proposals = [law.draw(u) for u in uniforms[:8]]
        kept, at_draw, walked = d2_sampling.accept_block(
            state.squared[proposals].tolist(),
            lambda j, some, p=proposals, s=state: s.points.squared(p[j], [p[k] for k in some]),
            uniforms[8:],
            4,
        )
        refused += walked - len(kept)
        assert len({proposals[j] for j in kept}) == len(kept)
        assert kept[0] == 0
        assert at_draw[0] == state.squared[proposals[0]]
    assert refused > 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.parametrize("part", [0.0, 0.1, 1.0])
def test_same_draws_as_the_reference(rng, product_isa, shape, dtype, part):
    x = rng.normal(size=shape).astype(dtype)
    x[rng.random(shape[0]) < 0.3] += 4
    k = min(300, max(1, int(part * shape[0])))
    ours = kernels.kmeans_plusplus(x, k, rng=11, backend="cpu")
    theirs = kernels.kmeans_plusplus(x, k, rng=11, backend="reference")
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_allclose(ours.distances, theirs.distances, rtol=spec.RTOL[dtype])
    assert ours.distances.dtype == dtype
    assert len(set(ours.indices.tolist())) == k
    nearest = kernels.min_distance(x, x[ours.indices], backend="reference")
    np.testing.assert_array_equal(ours.labels, nearest.indices)
    np.testing.assert_array_equal(ours.distances[ours.indices], 0)


def test_outputs_are_written_wherever_they_were_poisoned(rng):
    x = rng.normal(size=(5000, 6)).astype(np.float32)
    indices = np.full(40, -7, dtype=np.int64)
    squared = np.full(5000, np.nan)
    labels = np.full(5000, -7, dtype=np.int64)
    status = _core.kmeans_plusplus(
        x, 3, -1, spec.BLOCK_MIN, spec.BLOCK_MAX, distances.UNBOUNDED, indices, squared, labels
    )
    assert status == -1
    assert np.isfinite(squared).all()
    assert set(labels.tolist()) == set(range(40))
    assert indices.min() >= 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_pool_draws_distinct_rows(backend):
    x = np.ones((30, 4), np.float32)
    result = kernels.kmeans_plusplus(x, 30, rng=2, backend=backend)
    assert sorted(result.indices.tolist()) == list(range(30))
    assert result.indices.tolist() != list(range(30))
    np.testing.assert_array_equal(result.distances, 0)
    np.testing.assert_array_equal(result.labels, 0)


def test_exhausted_draws_are_uniform():
    x = np.ones((6, 1))
    counts = np.zeros(6)
    for seed in range(6000):
        counts[kernels.kmeans_plusplus(x, 2, rng=seed, first=1).indices[1]] += 1
    assert counts[1] == 0
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_is_kept_and_every_row_can_be_drawn(rng, backend):
    x = rng.normal(size=(60, 3))
    result = kernels.kmeans_plusplus(x, 60, rng=4, first=17, backend=backend)
    assert result.indices[0] == 17
    assert sorted(result.indices.tolist()) == list(range(60))
    np.testing.assert_array_equal(result.indices[result.labels], np.arange(60))
    only = kernels.kmeans_plusplus(x[:1], 1, rng=4, backend=backend)
    assert only.indices.tolist() == only.labels.tolist() == [0]


def test_threads_and_memory_do_not_matter(rng):
    x = rng.normal(size=(20_000, 12)).astype(np.float32)
    threads = kernels.num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            results.append(seed_centers(x, 400, 9, None, distances.UNBOUNDED))
            results.append(seed_centers(x, 400, 9, None, 2 * _core.nearest_scratch(x)))
    finally:
        kernels.set_num_threads(threads)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_common_offset_changes_nothing(rng):
    x = np.round(rng.normal(size=(3000, 20)) * 64).astype(np.float32) / 64
    plain = kernels.kmeans_plusplus(x, 200, rng=3)
    moved = kernels.kmeans_plusplus(x + np.float32(1024), 200, rng=3)
    np.testing.assert_array_equal(plain.indices, moved.indices)
    np.testing.assert_array_equal(plain.labels, moved.labels)
    np.testing.assert_array_equal(plain.distances, moved.distances)


def test_potential_is_that_of_scikit_learn(rng):
    means = rng.normal(size=(30, 8)) * 4
    x = means[rng.integers(30, size=1500)] + rng.normal(size=(1500, 8))
    ours = [(kernels.kmeans_plusplus(x, 25, rng=s).distances ** 2).sum() for s in range(150)]
    theirs = []
    for s in range(150):
        centers, _ = sklearn_kmeans_plusplus(x, 25, n_local_trials=1, random_state=s)
        theirs.append((kernels.min_distance(x, centers).distances ** 2).sum())
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > 1e-3
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_generators_and_kinds(rng):
    x = rng.normal(size=(200, 5)).astype(np.float32)
    same = [kernels.kmeans_plusplus(x, 9, rng=np.random.default_rng(8)).indices for _ in range(2)]
    np.testing.assert_array_equal(*same)
    generator = np.random.default_rng(8)
    first, second = (kernels.kmeans_plusplus(x, 9, rng=generator).indices for _ in range(2))
    assert first.tolist() != second.tolist()
    out = kernels.kmeans_plusplus(torch.from_numpy(x), 9, rng=torch.Generator().manual_seed(1))
    assert isinstance(out.labels, torch.Tensor)
    assert out.indices.dtype == out.labels.dtype == torch.int64
    view = np.zeros((200, 2, 5), np.float32)
    view[:, 1] = x
    np.testing.assert_array_equal(
        kernels.kmeans_plusplus(view[:, 1], 9, rng=5).indices,
        kernels.kmeans_plusplus(x, 9, rng=5).indices,
    )
    whole = kernels.kmeans_plusplus(np.array([[0], [9], [9]]), 2, rng=0, first=0)
    assert whole.distances.dtype == np.float64
    assert whole.distances.tolist() == [0, 0, 0]


def host(result):
    return [torch.as_tensor(part).cpu().numpy() for part in result]


def same(ours, theirs, rtol=0.0):
    """As drawn elsewhere; rows may lie on a GPU."""
    ours, theirs = host(ours), host(theirs)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[2], theirs[2])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=rtol)
    assert [a.dtype for a in ours] == [a.dtype for a in theirs]


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("n", "width", "k"), [(1, 1, 1), (2, 1, 2), (63, 17, 5), (129, 2, 9)])
def test_gpu_draws_what_the_cpu_draws(rng, poisoned, backend, dtype, n, width, k):
    x = rng.normal(size=(n, width))
    x[rng.random(n) < 0.3] += 4
    x = torch.from_numpy(x).to(getattr(torch, dtype))
    rtol = spec.RTOL.get(dtype, spec.RTOL["float32"])
    first = n - 1 if dtype == "float64" else None
    same(
        kernels.kmeans_plusplus(on_gpu(x), k, rng=11, first=first, backend=backend),
        kernels.kmeans_plusplus(x, k, rng=11, first=first, backend="cpu"),
        rtol,
    )


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("blocks", [(1, 256), (8, 8)], ids=str)
@pytest.mark.parametrize(
    ("pool", "k"),
    [(DUPLICATES, 3), (SPREAD, 4), (CONSTANT_AFTER_TWO, 4)],
    ids=["duplicates", "spread", "exhausted"],
)
def test_gpu_follows_the_stream_of_the_reference(backend, pool, k, blocks):
    """Small blocks and few rows: most proposals are refused."""
    from rlmba.kernels.common.device import Rows
    from rlmba.kernels.kmeans_plusplus.on_device import seed_rows

    x = on_gpu(pool)
    for seed in (0, 7, 2**64 - 1):
        ours = seed_rows(Rows([x], x.device), k, seed, None, blocks=blocks)
        theirs = reference.blocked(pool, k, seed, None, block_min=blocks[0], block_max=blocks[1])
        same(ours, theirs, 1e-14)


@pytest.mark.parametrize("backend", ["triton"])
def test_rows_streamed_to_the_gpu_are_the_same(rng, poisoned, backend):
    x = rng.normal(size=(90, 6)).astype(np.float32)
    whole = kernels.kmeans_plusplus(x, 6, rng=3, backend=backend)
    for chunk in (37, 67):
        memory = 2 * chunk * 6 * 4
        part = kernels.kmeans_plusplus(x, 6, rng=3, max_memory=memory, backend=backend)
        same(part, whole)
    with pytest.raises(UsageError, match="max_memory: expected at least 48 bytes"):
        kernels.kmeans_plusplus(x, 6, rng=3, max_memory=47, backend=backend)


@pytest.mark.parametrize("backend", ["triton"])
def test_blocks_are_launched_without_looking(rng, backend, monkeypatch):
    from rlmba.kernels.common import triton_d2

    reads = []
    read = triton_d2.Draw.read
    monkeypatch.setattr(triton_d2.Draw, "read", lambda draw: reads.append(0) or read(draw))
    x = on_gpu(rng.normal(size=(64, 12)).astype(np.float32))
    kernels.kmeans_plusplus(x, 20, rng=3, backend=backend)
    assert len(reads) <= 2


@pytest.mark.parametrize("backend", ["triton"])
def test_results_lie_where_the_rows_do(rng, backend):
    x = rng.normal(size=(20, 3)).astype(np.float32)
    out = kernels.kmeans_plusplus(on_gpu(x)[::2], 4, rng=1, backend=backend)
    assert all(part.device.type == device().type for part in out)
    given = kernels.kmeans_plusplus(x[::2], 4, rng=1, backend=backend)
    assert isinstance(given.labels, np.ndarray)
    same(out, given)
    with kernels.record() as calls:
        kernels.kmeans_plusplus(x, 2, rng=1, backend=backend)
    assert [call.backend for call in calls] == [backend]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:(overflow|invalid|All-NaN)")
def test_errors(rng, backend):
    x = rng.normal(size=(50, 3)).astype(np.float32)
    with pytest.raises(UsageError, match="k: expected 1 to 50, got 51"):
        kernels.kmeans_plusplus(x, 51, rng=0, backend=backend)
    with pytest.raises(UsageError, match="k: expected 1 to 50, got 0"):
        kernels.kmeans_plusplus(x, 0, rng=0, backend=backend)
    with pytest.raises(UsageError, match="at least one row"):
        kernels.kmeans_plusplus(x[:0], 0, rng=0, backend=backend)
    with pytest.raises(UsageError, match="first: expected 0 to 49"):
        kernels.kmeans_plusplus(x, 2, rng=0, first=50, backend=backend)
    with pytest.raises(UsageError, match="rng"):
        kernels.kmeans_plusplus(x, 2, rng="x", backend=backend)
    with pytest.raises(ShapeError, match="at least one column"):
        kernels.kmeans_plusplus(x[:, :0], 2, rng=0, backend=backend)
    with pytest.raises(DataError, match="overflow"):
        kernels.kmeans_plusplus(x.astype(np.float64) * 1e200, 20, rng=0, backend=backend)
    x[[31, 40], 2] = np.inf
    for k in (1, 20):
        with pytest.raises(NonFiniteError, match=r"x\[31, 2\]"):
            kernels.kmeans_plusplus(x, k, rng=0, backend=backend)
