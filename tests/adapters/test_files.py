"""Plans of selections on files: sizes and what they replace."""

from __future__ import annotations

import numpy as np
import pytest

import rlmba
from rlmba.adapters.files import plan, workload
from rlmba.errors import UsageError

N = 40


@pytest.fixture
def matrix(rng):
    return lambda width, dtype=np.float32: rng.normal(size=(N, width)).astype(dtype)


def test_sizes_of_one_modality(matrix):
    given = {"features": matrix(8), "logits": matrix(3), "dropout_logits": np.ones((5, N, 3), "f4")}
    w = workload(given, 7)
    assert (w.samples, w.batch, w.classes, w.width, w.modalities) == (N, 7, 3, 8, 1)
    assert (w.labeled, w.passes, w.itemsize, w.made) == (0, 5, 4, 0)


def test_sizes_of_several_modalities(matrix):
    logits = {"a": matrix(3), "b": matrix(3), "mm": matrix(3)}
    w = workload({"features": {"a": matrix(8), "b": matrix(8)}, "logits": logits}, 7)
    assert (w.modalities, w.width, w.made) == (2, 8, N * 8 * 4)
    w = workload({"features": {"a": matrix(8), "b": matrix(5)}}, 7)
    assert (w.width, w.made) == (13, N * 13 * 4)
    w = workload({"features": {"a": matrix(8), "b": matrix(5), "mm": matrix(6)}}, 7)
    assert (w.width, w.made) == (6, 0)


def test_what_is_made_on_the_way_in(matrix):
    assert workload({"features": matrix(8, np.float16)}, 1).made == N * 8 * 4
    lacking = np.arange(2 * N).reshape(N, 2) != 3
    given = {"features": {"a": matrix(8), "b": matrix(8)}, "present": lacking}
    assert workload(given, 1).incomplete == 1
    assert workload({"probabilities": matrix(3)}, 1).made == N * 3 * 4
    mask = np.arange(N) < 10
    for labeled in (mask, np.arange(10)):
        w = workload({"features": matrix(8), "labeled": labeled}, 1)
        assert (w.samples, w.labeled, w.made) == (N - 10, 10, N * 8 * 4)
    w = workload({"features": matrix(8), "labeled": matrix(8)[:6]}, 1)
    assert (w.samples, w.labeled, w.made) == (N, 6, 0)
    assert workload({"ids": np.arange(N)}, 1).samples == N
    w = workload({"input_features": {"a": matrix(8), "b": matrix(5)}}, 1)
    assert (w.samples, w.modalities, w.input_width) == (N, 2, 13)
    with pytest.raises(UsageError, match="input_features or ids"):
        workload({"labels": np.arange(3)}, 1)


def test_labeled_files_replace_what_the_pool_calls_labeled(tmp_path, matrix):
    ids = np.array([f"s{i}" for i in range(N)])
    np.savez(
        tmp_path / "pool.npz",
        logits=matrix(3),
        ids=ids,
        labeled=np.arange(5),
        labels=np.zeros(5, dtype=int),
    )
    (tmp_path / "more.txt").write_text("s30\ns31\n")
    out = tmp_path / "b.csv"
    job = plan(tmp_path / "pool.npz", N - 5, strategy="margin", out=out)
    assert sorted(job.run().batch.positions) == list(range(5, N))
    given = {"strategy": "margin", "out": out, "overwrite": True}
    job = plan(tmp_path / "pool.npz", N - 2, labeled=[tmp_path / "more.txt"], **given)
    assert sorted({30, 31} | set(job.run().batch.positions.tolist())) == list(range(N))


def test_input_features_of_files(tmp_path, matrix):
    raw = {"image": matrix(8), "text": matrix(5)}
    np.savez(tmp_path / "pool.npz", **{f"input_features/{m}": a for m, a in raw.items()})
    np.savez(tmp_path / "labeled.npz", **{f"input_features/{m}": a[:4] for m, a in raw.items()})
    given = {"strategy": "rlmba-h", "out": tmp_path / "b.csv", "overwrite": True}
    job = plan(tmp_path / "pool.npz", 3, **given)
    first = rlmba.select("rlmba-h", n=3, input_features=raw)
    np.testing.assert_array_equal(job.run().batch.positions, first.positions)
    job = plan(tmp_path / "pool.npz", 3, labeled=[tmp_path / "labeled.npz"], **given)
    known = {m: a[:4] for m, a in raw.items()}
    later = rlmba.select("rlmba-h", n=3, input_features=raw, labeled_input_features=known)
    np.testing.assert_array_equal(job.run().batch.positions, later.positions)


def test_a_job_without_a_target_does_not_run(tmp_path, matrix):
    np.savez(tmp_path / "pool.npz", logits=matrix(3))
    job = plan(tmp_path / "pool.npz", 3, strategy="margin", dry_run=True)
    with pytest.raises(UsageError, match="--out"):
        job.run()


def test_strategies_without_an_estimate_say_so(tmp_path, matrix, monkeypatch):
    from rlmba.strategies import cost

    np.savez(tmp_path / "pool.npz", logits=matrix(3), y=np.ones(3))
    monkeypatch.setattr(cost, "COSTS", {})
    lines = plan(tmp_path / "pool.npz", 3, strategy="margin", dry_run=True).lines()
    assert lines[1:] == ["not used: y", "estimate for 3 by margin: unknown for this strategy"]
