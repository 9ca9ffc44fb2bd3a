from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rlmba import kernels, strategies
from rlmba.errors import UsageError
from rlmba.experiments import selection
from rlmba.experiments.selection import plain
from rlmba.kernels.sequential_gcn import spec as gcn_spec
from rlmba.types import LinearHead

SMALL = selection.Size(rows=400, classes=7, width=24, batch=30, labeled=20)


def test_a_case_is_as_large_and_as_consistent_as_it_says():
    for size in (SMALL, replace(SMALL, concat=True, passes=3), replace(SMALL, modalities=1)):
        case = selection.make_case(size)
        pool, head = case.pool, case.context.head
        assert pool.fused_features.shape == (400, size.fused_width)
        assert case.context.labeled_features.shape == (20, size.fused_width)
        assert len(pool.modalities) == size.modalities
        x, w, b = (
            np.asarray(a, dtype=np.float64) for a in (pool.fused_features, head.weight, head.bias)
        )
        unit = (len(w.T) + 2) * np.finfo(np.float32).eps  # float32 sums of so many, in any order
        bound = unit * (np.abs(x) @ np.abs(w.T) + np.abs(b))
        assert (np.abs(x @ w.T + b - pool.fused_logits) <= bound).all()
        assert (pool.fused_features >= 0).all()
        assert (pool.dropout_logits is None) == (size.passes == 0)
        again = selection.make_case(size)
        np.testing.assert_array_equal(pool.fused_logits, again.pool.fused_logits)


@pytest.mark.parametrize("name", sorted(selection.PEERS))
def test_every_peer_is_timed_beside_ours(name):
    passes = 4 if name == "bald" else 0
    row = selection.measure(name, size=replace(SMALL, passes=passes), repeats=1)
    assert row.seconds > 0
    assert row.ratio == pytest.approx(row.peer.seconds / row.seconds)
    assert row.paper_seconds is None
    if name in ("bald", "coreset"):
        assert row.same == 1.0
    else:
        assert row.same is None


def test_every_strategy_has_a_size_and_the_paper_its_seconds():
    assert set(selection.PAPER_SECONDS) <= set(strategies.names())
    for name in strategies.names():
        assert any(size.rows == selection.FOOD101.rows for size in selection.sizes(name))


class TestPlainForms:
    """They are what ours are measured beside, so they must do the same thing."""

    def test_k_center(self, rng):
        x, given = rng.normal(size=(300, 8)), rng.normal(size=(10, 8))
        ours = kernels.k_center(x, 40, labeled=given)
        for mode in plain.CDIST_MODES:
            picks, reach = plain.k_center_one_a_pass(x, given, 40, mode)
            np.testing.assert_array_equal(picks, ours.indices)
            np.testing.assert_allclose(reach, ours.distances, rtol=1e-12)

    def test_bald(self, rng):
        z = rng.normal(size=(5, 60, 4))
        np.testing.assert_allclose(plain.bald_difference(z), kernels.bald_score(z), atol=1e-12)

    def test_deepfool(self):
        case = selection.make_case(SMALL)
        features = case.pool.fused_features[:20].astype(np.float64)
        head = LinearHead(
            case.context.head.weight.astype(np.float64), case.context.head.bias.astype(np.float64)
        )
        ours = kernels.deepfool_distance(features @ head.weight.T + head.bias, head.weight)
        lengths, classes = plain.deepfool_iteration(head, features)
        np.testing.assert_allclose(lengths, ours.distances, rtol=1e-6)
        np.testing.assert_array_equal(classes, ours.classes)

    def test_gradients(self):
        case = selection.make_case(replace(SMALL, rows=40))
        residuals = kernels.gradient_residuals(case.pool.fused_logits)
        features = case.pool.fused_features
        x = (residuals[:, :, None] * features[:, None, :]).reshape(40, -1).astype(np.float64)
        first = int((x**2).sum(axis=1).argmax())
        weights = ((x - x[first]) ** 2).sum(axis=1)
        counts = np.zeros(40)
        for seed in range(2000):
            drawn = plain.gradient_one_a_pass(residuals, features, 2, seed)
            assert drawn[0] == first
            counts[drawn[1]] += 1
        expected = 2000 * weights / weights.sum()
        assert ((counts - expected) ** 2 / np.maximum(expected, 1)).sum() < 90  # 39 degrees

    def test_graph_network(self, rng):
        features = np.abs(rng.normal(size=(80, 6)))
        labeled = np.arange(80) < 15
        start, mask_seed = gcn_spec.seeds(3)
        below = gcn_spec.drop_below(0.3)
        scale = 1 / (1 - below / gcn_spec.LEVELS)
        masks = [gcn_spec.kept(mask_seed, e, 80, 128, below) * scale for e in range(30)]
        scores, hidden, logits = plain.dense_gcn(
            features, labeled, gcn_spec.initial_parameters(start, 6, 128), masks
        )
        ours = kernels.sequential_gcn(features, labeled, rng=3, epochs=30)
        np.testing.assert_allclose(ours.scores, scores, atol=1e-9)
        np.testing.assert_allclose(ours.hidden, hidden, atol=1e-9)
        np.testing.assert_allclose(ours.logits, logits, atol=1e-8)


def test_growth_in_a_process_of_its_own():
    row = selection.growth("badge", 2_000)
    assert row["rows"] == 2_000
    assert row["seconds"] > 0
    assert 1 <= row["memory"] < 20
    assert row["microseconds_a_row"] == pytest.approx(row["seconds"] / 2_000 * 1e6)


def test_bench_writes_what_it_shows(tmp_path):
    told = []
    made = selection.run_bench(
        ["badge", "random"],
        rows=500,
        repeats=1,
        peers=False,
        grow=False,
        output=tmp_path / "figures.json",
        told=told.append,
    )
    assert [line.split(":")[0] for line in told] == ["badge", "random"]
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [row["strategy"] for row in found["selections"]] == ["badge", "random"]
    assert found["selections"][0]["size"]["rows"] == 500
    assert found["selections"][0]["seconds"] == made.rows[0].seconds
    assert found["machine"]["cpu"]
    assert made.tables()[0].row_count == 2
    with pytest.raises(UsageError, match="did you mean 'badge'"):
        selection.run_bench(
            ["badg"], rows=None, repeats=1, peers=False, grow=False, output=None, told=told.append
        )
