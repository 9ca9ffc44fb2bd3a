"""The plain forms that ours are compared with must do the same thing."""

from __future__ import annotations

import numpy as np

from bench import plain
from rlmba import kernels
from rlmba.kernels.sequential_gcn import spec as gcn_spec
from rlmba.types import LinearHead


def test_k_center(rng):
    x, given = rng.normal(size=(300, 8)), rng.normal(size=(10, 8))
    ours = kernels.k_center(x, 40, labeled=given)
    for mode in plain.CDIST_MODES:
        picks, reach = plain.k_center_one_a_pass(x, given, 40, mode)
        np.testing.assert_array_equal(picks, ours.indices)
        np.testing.assert_allclose(reach, ours.distances, rtol=1e-12)


def test_herding(rng):
    x = rng.normal(size=(300, 5))
    ours = kernels.herding(x, 20, radius=1.5)
    np.testing.assert_array_equal(plain.herding_in_blocks(x, 20, 1.5, block=70), ours.indices)


def test_bald(rng):
    z = rng.normal(size=(5, 60, 4))
    np.testing.assert_allclose(plain.bald_difference(z), kernels.bald_score(z), atol=1e-12)


def test_deepfool(rng):
    features = np.maximum(rng.normal(size=(20, 24)), 0)
    head = LinearHead(rng.normal(size=(7, 24)), rng.normal(size=7))
    ours = kernels.deepfool_distance(features @ head.weight.T + head.bias, head.weight)
    lengths, classes = plain.deepfool_iteration(head, features)
    np.testing.assert_allclose(lengths, ours.distances, rtol=1e-6)
    np.testing.assert_array_equal(classes, ours.classes)


def test_gradients(rng):
    residuals = kernels.gradient_residuals(rng.normal(size=(40, 7)).astype(np.float32))
    features = np.maximum(rng.normal(size=(40, 24)).astype(np.float32), 0)
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


def test_graph_network(rng):
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
