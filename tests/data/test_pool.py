from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba.data import InMemoryDataset, Pool
from rlmba.errors import DataError, UsageError


def dataset(counts, test=0):
    """Classes of these sizes, shuffled, then ``test`` test samples of class 0."""
    y = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.zeros(test, int)])
    order = np.random.default_rng(5).permutation(sum(counts))
    y[: sum(counts)] = y[order]
    return InMemoryDataset(
        "toy",
        {"x": np.arange(len(y), dtype=np.float32)[:, None]},
        kinds={"x": "features"},
        labels=y,
        classes=[f"c{k}" for k in range(len(counts))],
        ids=[f"s{i:04d}" for i in range(len(y))],
        split=np.arange(len(y)) >= sum(counts),
    )


def create(data, n, seed=0, fraction=0.1, sampling="stratified"):
    return Pool.create(
        data,
        validation_fraction=fraction,
        initial_labels=n,
        initial_sampling=sampling,
        rng=np.random.default_rng(seed),
    )


def check_partition(pool, data):
    parts = [pool.validation, pool.labeled, pool.unlabeled]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    np.testing.assert_array_equal(np.sort(together), data.train_positions)
    assert (np.diff(pool.unlabeled) > 0).all()
    assert len(pool.labels) == len(pool.labeled)


def test_validation_and_initial_labels_are_stratified():
    data = dataset([100, 50, 10, 3, 2], test=9)
    pool = create(data, 20)
    check_partition(pool, data)
    assert np.bincount(data.labels[pool.validation], minlength=5).tolist() == [10, 5, 1, 1, 0]
    np.testing.assert_array_equal(pool.labels, data.labels[pool.labeled])
    counts = np.bincount(pool.labels, minlength=5)
    assert counts.min() == 1
    assert counts.sum() == 20
    assert counts[0] == pytest.approx(20 * 90 / 148, abs=1)
    assert pool.test.tolist() == list(range(165, 174))


def test_a_seed_decides_the_pool():
    data = dataset([40, 40, 40])
    one, same, other = create(data, 9), create(data, 9), create(data, 9, seed=1)
    np.testing.assert_array_equal(one.labeled, same.labeled)
    np.testing.assert_array_equal(one.validation, same.validation)
    assert one.labeled.tolist() != other.labeled.tolist()
    assert one.validation.tolist() != other.validation.tolist()


def test_index_spaces():
    data = dataset([20, 20])
    pool = create(data, 4)
    picks = np.array([5, 0, 11])
    ids = pool.ids_at(picks)
    np.testing.assert_array_equal(ids, data.ids[pool.unlabeled[picks]])
    np.testing.assert_array_equal(pool.pool_positions(ids), picks)
    with pytest.raises(UsageError, match=f"expected 0 to {len(pool.unlabeled) - 1}"):
        pool.ids_at(np.array([len(pool.unlabeled)]))
    with pytest.raises(UsageError, match="got -1"):
        pool.ids_at(np.array([-1]))


def test_labeling_appends_in_order_and_keeps_what_was_annotated():
    data = dataset([20, 20])
    pool = create(data, 4)
    initial = pool.initial_ids.tolist()
    ids = pool.ids_at(np.array([7, 2]))
    wrong = 1 - data.labels[pool.unlabeled[[7, 2]]]
    pool.label(ids, wrong)
    check_partition(pool, data)
    assert pool.labeled_ids.tolist() == [*initial, *ids]
    assert pool.labels[-2:].tolist() == wrong.tolist()
    assert pool.initial_ids.tolist() == initial
    for array in (pool.labeled, pool.labels, pool.unlabeled, pool.validation, pool.test):
        assert not array.flags.writeable


def test_refused_labeling_changes_nothing():
    data = dataset([20, 20], test=2)
    pool = create(data, 4)
    free = pool.ids_at(np.array([0, 1])).tolist()
    before = (pool.labeled.tolist(), pool.unlabeled.tolist())
    for ids, labels, error, message in [
        ([free[0], free[0]], [0, 0], UsageError, "twice"),
        ([free[0], str(pool.labeled_ids[0])], [0, 0], UsageError, "labeled, validation or test"),
        ([free[0], str(pool.validation_ids[0])], [0, 0], UsageError, "validation"),
        ([free[0], str(data.ids[-1])], [0, 0], UsageError, "test"),
        ([free[0], "nobody"], [0, 0], UsageError, "'nobody', which is unknown"),
        (free, [0, 2], DataError, "expected 0 to 1, got 2"),
        (free, [0, -1], DataError, "got -1"),
        (free, [0], DataError, "expected 2 integers"),
        (free, [0.0, 1.0], DataError, "dtype float64"),
    ]:
        with pytest.raises(error, match=message):
            pool.label(ids, labels)
        assert (pool.labeled.tolist(), pool.unlabeled.tolist()) == before


def test_random_initial_labels_may_lack_a_class():
    pool = create(dataset([300, 1]), 2, sampling="random")
    assert pool.labels.tolist() == [0, 0]


def test_initial_samples_that_the_caller_chooses():
    data = dataset([20, 20, 20])
    empty, drawn = create(data, 5, sampling="herding"), create(data, 5)
    assert len(empty.labeled) == 0
    np.testing.assert_array_equal(empty.validation, drawn.validation)
    ids = empty.unlabeled_ids[[4, 1]].tolist()
    pool = empty.with_initial(data, ids)
    assert pool.initial_ids.tolist() == ids
    np.testing.assert_array_equal(pool.labels, data.labels[pool.labeled])
    assert len(empty.labeled) == 0
    with pytest.raises(UsageError, match="which is labeled, validation or test"):
        empty.with_initial(data, [data.ids[empty.validation[0]]])


def test_impossible_requests():
    data = dataset([20, 20, 20])
    with pytest.raises(UsageError, match=r"expected 3 .* to 54 .*, got 2"):
        create(data, 2)
    with pytest.raises(UsageError, match="got 55"):
        create(data, 55)
    with pytest.raises(UsageError, match="expected 1 to 54"):
        create(data, 55, sampling="random")
    empty = dataset([20, 20, 0])
    with pytest.raises(DataError, match=r"every class, got none of \['c2'\]"):
        create(empty, 5)
    with pytest.raises(DataError, match="three or more training samples"):
        create(dataset([2, 2]), 2)


def test_restore():
    data = dataset([20, 20], test=1)
    pool = create(data, 4)
    pool.label(pool.ids_at(np.array([3])), [1])
    again = Pool.restore(
        data,
        validation_ids=pool.validation_ids,
        labeled_ids=pool.labeled_ids,
        labels=pool.labels,
        n_initial=4,
    )
    for name in ("validation", "labeled", "labels", "unlabeled", "test", "initial_ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pool, name))
    v, lab, y = pool.validation_ids.tolist(), pool.labeled_ids.tolist(), pool.labels.tolist()
    for validation, labeled, labels, message in [
        (["nobody"], lab, y, "'nobody'; the data have changed"),
        ([str(data.ids[-1])], lab, y, "training samples"),
        ([*v, lab[0]], lab, y, "twice"),
        (v, lab, y[:-1], "expected 5 integers"),
        (v, lab, [7, *y[1:]], "got 7"),
    ]:
        with pytest.raises(DataError, match=message):
            Pool.restore(data, validation_ids=validation, labeled_ids=labeled, labels=labels)


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_property_partition_survives_any_labeling(counts, fraction, seed, data):
    if max(counts) < 3:
        counts[0] += 3
    samples = dataset(counts)
    held = [min(max(int(fraction * c + 0.5), 1), c - 1) if c >= 3 else 0 for c in counts]
    rest = sum(counts) - sum(held)
    n = data.draw(st.integers(len(counts), rest))
    pool = create(samples, n, seed=seed, fraction=fraction)
    check_partition(pool, samples)
    assert len(pool.labeled) == n
    assert np.bincount(samples.labels[pool.validation], minlength=len(counts)).tolist() == held
    got = np.bincount(pool.labels, minlength=len(counts))
    available = np.array(counts) - held
    assert (got >= 1).all()
    assert (got <= available).all()
    while len(pool.unlabeled):
        positions = data.draw(
            st.lists(st.integers(0, len(pool.unlabeled) - 1), min_size=1, unique=True)
        )
        before = pool.labeled.tolist()
        ids = pool.ids_at(np.array(positions))
        pool.label(ids, samples.labels[pool.unlabeled[positions]])
        check_partition(pool, samples)
        assert pool.labeled[: len(before)].tolist() == before
        assert pool.labeled_ids[len(before) :].tolist() == ids.tolist()
