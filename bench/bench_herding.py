"""herding compared with greedy facility location of other libraries, and its growth with the number of rows.

Facility location with the similarities exp(-D / radius^2) has the same objective. The peers need them
as a dense matrix, so each is run at a size whose matrix fits in memory. scikit-activeml's MaxHerding
computes that matrix itself. The torch form computes it in blocks for every pick. The cover that a peer
reaches is compared with ours in float64.
"""

from __future__ import annotations

import common
import numpy as np
import pytest

from bench.plain import herding_in_blocks
from rlmba import kernels
from rlmba.kernels.herding import spec

SMALL = {"rows": 10_000, "picks": 200}
"""Size of the peers that need a dense matrix."""
TINY = {"rows": 3_000, "picks": 50}
"""Size of the peers that take hours or too much memory at the other size."""


def make(
    rows: int, widths: tuple[int, ...] = spec.BENCH["widths"], seed: int = 0
) -> dict[str, np.ndarray]:
    """Unit rows around 100 centers, by modality, in float32."""
    generator = np.random.default_rng(seed)
    found = {}
    groups = generator.integers(100, size=rows)
    for m, width in enumerate(widths):
        x = generator.standard_normal((100, width), dtype=np.float32)[groups]
        x += np.float32(0.6) * generator.standard_normal((rows, width), dtype=np.float32)
        found[f"m{m}"] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return found


def joined(x: dict[str, np.ndarray]) -> np.ndarray:
    """One matrix with the distances of all modalities in equal parts."""
    return np.concatenate(list(x.values()), axis=1) / np.sqrt(np.float32(len(x)))


def similarities(x: dict[str, np.ndarray], radius: float) -> np.ndarray:
    """Dense float64 kernels of all pairs."""
    z = joined(x).astype(np.float64)
    norms = (z**2).sum(axis=1)
    squared = norms[:, None] + norms[None] - 2 * z @ z.T
    return np.exp(-np.maximum(squared, 0, out=squared) / radius**2)


def group(benchmark, size: dict[str, int]) -> None:
    benchmark.group = f"herding N={size['rows']:,} D=128 n={size['picks']:,}"


@pytest.fixture(scope="module", params=[SMALL, TINY], ids=["small", "tiny"])
def case(request):
    x = make(request.param["rows"])
    ours = kernels.herding(x, request.param["picks"], backend="cpu")
    return request.param, x, ours


def assert_objective(x, picks, ours):
    """Require the same cover of a peer's picks; picks may differ, because float32 orders near ties."""
    k = similarities(x, ours.radius)
    theirs, best = (k[:, np.asarray(p)].max(axis=1).sum() for p in (picks, ours.indices))
    assert theirs == pytest.approx(best, rel=1e-3)


def test_rlmba(benchmark, case):
    size, x, ours = case
    group(benchmark, size)
    benchmark(lambda: kernels.herding(x, size["picks"], backend="cpu"))
    benchmark.extra_info["cover"] = float(ours.gains.sum())


def test_torch_in_blocks(benchmark, case):
    size, x, ours = case
    if size is not TINY:
        pytest.skip("takes hours: run at the smaller size only")
    group(benchmark, size)
    picks = benchmark.pedantic(
        herding_in_blocks, (joined(x), size["picks"], ours.radius), rounds=1, warmup_rounds=0
    )
    assert_objective(x, picks, ours)


def test_apricot(benchmark, case):
    """Its fastest optimizer, lazy greedy in two stages; the time of the dense matrix is included."""
    apricot = pytest.importorskip("apricot")
    size, x, ours = case
    group(benchmark, size)

    def select():
        chosen = apricot.FacilityLocationSelection(
            size["picks"], metric="precomputed", optimizer="two-stage"
        ).fit(similarities(x, ours.radius))
        return chosen.ranking

    assert_objective(x, benchmark.pedantic(select, rounds=1, warmup_rounds=0), ours)


def test_submodlib(benchmark, case):
    submodlib = pytest.importorskip("submodlib")
    size, x, ours = case
    if size is not TINY:
        pytest.skip("its matrix becomes Python lists, which do not fit in memory")
    group(benchmark, size)

    def select():
        function = submodlib.FacilityLocationFunction(
            n=size["rows"], mode="dense", sijs=similarities(x, ours.radius), separate_rep=False
        )
        return [i for i, _ in function.maximize(budget=size["picks"], optimizer="LazyGreedy")]

    assert_objective(x, benchmark.pedantic(select, rounds=1, warmup_rounds=0), ours)


def test_scikit_activeml(benchmark, case):
    pool = pytest.importorskip("skactiveml.pool")
    if not hasattr(pool, "MaxHerding"):
        pytest.skip("requires scikit-activeml 1.0.1 or later")
    size, x, ours = case
    if size is not TINY:
        pytest.skip("every pick reads a dense matrix of all pairs several times")
    group(benchmark, size)
    z = joined(x).astype(np.float64)

    def select():
        strategy = pool.MaxHerding(
            random_state=0, metric="rbf", metric_dict={"gamma": 1 / ours.radius**2}
        )
        return strategy.query(z, np.full(len(z), np.nan), batch_size=size["picks"])

    assert_objective(x, benchmark.pedantic(select, rounds=1, warmup_rounds=0), ours)


RUN = """
import json, sys
import bench_herding as b, common
rows, targets = int(sys.argv[1]), int(sys.argv[2]) or None
both = b.make(rows + 1000)
x, given = ({k: v[part] for k, v in both.items()} for part in (slice(rows), slice(rows, None)))
b.kernels.herding({k: v[:2000] for k, v in x.items()}, 10)
kept = []
size = sum(v.nbytes for v in both.values())
call = lambda: kept.append(b.kernels.herding(x, 1000, labeled=given, targets=targets))
figures = common.peak_of(call, size)
assert len(set(kept[0].indices.tolist())) == 1000
assert (b.np.diff(kept[0].gains) <= 0).all()
print(json.dumps(figures))
"""


@pytest.mark.parametrize(("rows", "targets"), [(spec.BENCH["rows"], None), *spec.GROWTH], ids=str)
def test_growth(benchmark, rows, targets):
    """1,000 picks with 1,000 labeled rows. Memory is the peak during the call, relative to the input."""
    benchmark.group = "herding growth with rows (process start included in the time)"
    figures = common.in_own_process(benchmark, RUN, rows, str(targets or 0))
    if rows >= 40_000:
        assert figures["memory"] < 1.5
