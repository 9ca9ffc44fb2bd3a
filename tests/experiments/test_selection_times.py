from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rlmba import strategies
from rlmba.errors import UsageError
from rlmba.experiments import paper, selection_times

SMALL = selection_times.PoolSize(rows=400, classes=7, width=24, batch=30, labeled=20)


def test_a_case_is_as_large_and_as_consistent_as_it_says():
    for size in (SMALL, replace(SMALL, concat=True, passes=3), replace(SMALL, modalities=1)):
        case = selection_times.make_case(size)
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
        again = selection_times.make_case(size)
        np.testing.assert_array_equal(pool.fused_logits, again.pool.fused_logits)


def test_every_strategy_has_a_size_and_the_paper_its_seconds():
    assert set(paper.SECONDS) <= set(strategies.names())
    for name in strategies.names():
        rows = [size.rows for size in selection_times.sizes(name)]
        assert selection_times.FOOD101.rows in rows
    at_full_size = selection_times.SelectionTime("badge", selection_times.FOOD101, 1.0, {})
    assert at_full_size.paper_seconds == 312.84
    assert replace(at_full_size, size=SMALL).paper_seconds is None


def test_bench_writes_what_it_shows(tmp_path):
    announced = []
    made = selection_times.time_selections(
        ["badge", "random"],
        rows=500,
        repeats=1,
        output=tmp_path / "figures.json",
        announce=announced.append,
    )
    assert [line.split(":")[0] for line in announced] == ["badge", "random"]
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [row["strategy"] for row in found["selections"]] == ["badge", "random"]
    assert found["selections"][0]["size"]["rows"] == 500
    assert found["selections"][0]["seconds"] == made.rows[0].seconds
    assert found["machine"]["cpu"]
    assert made.tables()[0].row_count == 2
    with pytest.raises(UsageError, match="did you mean 'badge'"):
        selection_times.time_selections(
            ["badg"], rows=None, repeats=1, output=None, announce=announced.append
        )
