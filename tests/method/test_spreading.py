"""Classes spread over a graph of neighbors."""

import numpy as np
import pytest

from rlmba.method import spreading
from rlmba.method.spreading import spread_classes


def reference(features, labels, c):
    """The same by dense matrices and sorting."""
    n = len(features)
    k = min(spreading.NEIGHBORS, n - 1)
    squared = ((features[:, None].astype(float) - features[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    near = np.argsort(squared, axis=1)[:, :k]
    mean = np.take_along_axis(squared, near, axis=1).mean()
    w = np.zeros((n, n))
    for row, columns in enumerate(near):
        w[row, columns] = np.exp(-squared[row, columns] / mean)
    w = np.maximum(w, w.T)
    scale = 1 / np.sqrt(w.sum(axis=1))
    s = scale[:, None] * w * scale
    start = np.eye(c + 1)[labels][:, :c]
    start /= np.maximum(start.sum(axis=0), 1)
    found = start
    for _ in range(30):
        found = 0.9 * s @ found + 0.1 * start
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("block", [40, 2**22])
def test_it_equals_the_dense_computation(monkeypatch, block):
    monkeypatch.setattr(spreading, "_BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    labels = np.full(60, -1)
    labels[[3, 9, 20, 41]] = 0, 2, 0, 1
    found = spread_classes(features, labels, 3)
    np.testing.assert_allclose(found, reference(features, labels, 3), atol=1e-5)
    assert found.dtype == np.float32


def test_a_cluster_has_the_class_of_its_label():
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3
    features = (10 * np.eye(3)[y] + rng.normal(size=(90, 3))).astype(np.float32)
    labels = np.full(90, -1)
    labels[:4] = y[:4]  # the first class has two labels
    assert (spread_classes(features, labels, 3).argmax(axis=1) == y).all()


def test_a_sample_that_no_label_reaches_is_of_every_class_alike():
    features = np.repeat(np.array([[0.0], [1000.0]], np.float32), 20, axis=0)
    labels = np.full(40, -1)
    labels[0] = 1
    found = spread_classes(features, labels, 4)
    np.testing.assert_allclose(found[1:20], np.eye(4)[[1] * 19], atol=1e-6)
    np.testing.assert_array_equal(found[20:], 0.25)
    assert spread_classes(features[:1], labels[:1], 2).tolist() == [[0, 1]]
