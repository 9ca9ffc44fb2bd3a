"""The first batch on real features, with near-duplicates, missing modalities and unreadable samples."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba import kernels
from rlmba.data import load_digits, load_features
from rlmba.learner.inputs import prepared
from rlmba.learner.query import first_samples

SEEDS = range(6)


class Pool:
    """Training samples of a real data set, a fifth of them twice, 30 % without one modality, three empty."""

    def __init__(self, dataset, seed, most=1000):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(dataset.train_positions)[:most]
        self.original = np.concatenate([chosen, rng.choice(chosen, most // 5, replace=False)])
        batch = dataset.load(self.original, train=False, generator=None)
        n = len(self.original)
        arrays = {m: a.flatten(1).numpy().astype(np.float32) for m, a in batch.inputs.items()}
        for a in arrays.values():
            a[most:] += 0.05 * a.std(axis=0) * rng.normal(size=a[most:].shape).astype("f4")
        present = np.ones((n, len(arrays)), bool)
        lacking = rng.choice(n, round(0.3 * n), replace=False)
        present[lacking, rng.integers(len(arrays), size=len(lacking))] = False
        present[lacking[:3]] = False
        self.inputs = prepared(np.arange(n), arrays, present)
        self.labels = dataset.labels[self.original]

    def __len__(self):
        return len(self.labels)

    def input_features(self, positions):
        return self.inputs.at(positions)

    def herding(self, n):
        chosen, _ = first_samples(self, np.arange(len(self)), np.empty(0, np.int64), n)
        return chosen

    def top1(self, picked):
        """Share of samples whose class is that of the nearest mean of the picked samples' classes."""
        x = np.concatenate(list(self.inputs.features.values()), axis=1)
        known = np.unique(self.labels[picked])
        means = np.stack([x[picked[self.labels[picked] == c]].mean(axis=0) for c in known])
        gaps = ((x[:, None] - means) ** 2).sum(axis=2)
        return np.mean(known[gaps.argmin(axis=1)] == self.labels)


@pytest.fixture(scope="module", params=["digits", "wiki"])
def pools(request):
    if request.param == "digits":
        dataset = load_digits()
    else:
        dataset = load_features(request.getfixturevalue("real_data") / "wiki.npz")
    return [Pool(dataset, seed) for seed in SEEDS]


def test_near_duplicates_come_up_once_and_unreadable_samples_never(pools):
    for pool in pools:
        picked = pool.herding(20)
        assert len(np.unique(pool.original[picked])) == 20
        assert pool.inputs.present[picked].any(axis=1).all()
    readable = pools[0].inputs.readable
    assert set(pools[0].herding(len(pools[0]))) == set(readable)
    assert len(readable) == len(pools[0]) - 3


def test_a_missing_modality_is_no_distance(pools):
    """It is that of the sample that is nearest by the others, so it adds nothing to their distance."""
    for pool in pools[:2]:
        inputs = pool.inputs
        for column, rows in enumerate(inputs.features.values()):
            has = inputs.present[:, column]
            without = np.flatnonzero(~has & inputs.present.any(axis=1))
            nearest = kernels.min_distance(rows[without], rows[has]).distances
            np.testing.assert_allclose(nearest, 0, atol=1e-3)
    incomplete = np.mean([~p.inputs.present[p.herding(20)].all(axis=1) for p in pools])
    assert incomplete < 0.45  # of 30 % in the pool


def test_herding_teaches_more_than_k_center_and_random(pools):
    figures = {"herding": [], "k-center": [], "random": []}
    for seed, pool in zip(SEEDS, pools, strict=True):
        readable = pool.inputs.readable
        joined = np.concatenate(list(pool.inputs.features.values()), axis=1)[readable]
        figures["herding"].append(pool.top1(pool.herding(20)))
        figures["k-center"].append(pool.top1(readable[kernels.k_center(joined, 20).indices]))
        drawn = np.random.default_rng(seed).permutation(readable)[:20]
        figures["random"].append(pool.top1(drawn))
    mean = {rule: np.mean(values) for rule, values in figures.items()}
    assert mean["herding"] > mean["k-center"] + 0.02, mean
    assert mean["herding"] > mean["random"] + 0.02, mean
