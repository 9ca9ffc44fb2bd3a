"""NumPy implementation of :func:`rlmba.kernels.sequential_gcn`, in float64 with an explicit gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays
from rlmba.kernels.graph_propagate import reference as graph
from rlmba.kernels.graph_propagate.spec import ISOLATED
from rlmba.kernels.sequential_gcn import spec

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """Training options; see :func:`rlmba.kernels.sequential_gcn`."""

    epochs: int
    hidden: int
    dropout: float
    learning_rate: float
    weight_decay: float
    unlabeled_weight: float


class Adjacency:
    """A of normalized features, applied in factored form."""

    def __init__(self, features: arrays.Float, affinity: str) -> None:
        x = graph.normalized(features)
        cosine = (x @ x.sum(axis=0)) - (x**2).sum(axis=1)
        limit = isolation_limit(x)
        cosine[np.abs(cosine) <= limit] = 0
        self.affinity = graph.resolve(features, affinity, cosine)
        self.x = x
        if self.affinity == "shifted":
            self.degrees = (len(x) - 1 + cosine) / 2
            self.degrees[np.abs(self.degrees) <= limit] = 0
            self.factor = np.hstack([x, np.ones((len(x), 1))]) / np.sqrt(2)
        else:
            self.degrees = cosine
            self.factor = x
        self.inverse = graph.inverse(self.degrees)
        self.own = (self.factor**2).sum(axis=1)

    def apply(self, h: Matrix) -> Matrix:
        """A h of columns [N, K]."""
        v = self.inverse[:, None] * h
        return np.asarray(self.factor @ (self.factor.T @ v) - self.own[:, None] * v + h)

    def apply_transposed(self, h: Matrix) -> Matrix:
        """A^T h of columns [N, K]."""
        product = self.factor @ (self.factor.T @ h) - self.own[:, None] * h
        return np.asarray(self.inverse[:, None] * product + h)


def isolation_limit(x: Matrix) -> float:
    """The degree below which a row counts as isolated."""
    return float(ISOLATED * np.sqrt((x.sum(axis=0) ** 2).sum()))


def sigmoid(z: Matrix) -> Matrix:
    """1 / (1 + exp(-z)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def sequential_gcn(
    features: arrays.Float,
    labeled: NDArray[np.bool_],
    seed: int,
    options: Options,
    affinity: str,
) -> tuple[Matrix, Matrix, str, Matrix]:
    """Scores [N], hidden features [N, hidden], the affinity used, and logits [N]."""
    arrays.require_finite(features, "features")
    a = Adjacency(features, affinity)
    n, width = features.shape
    size, below = options.hidden, spec.drop_below(options.dropout)
    scale = 1 / (1 - below / spec.LEVELS)
    start_seed, mask_seed = spec.seeds(seed)
    theta = spec.initial_parameters(start_seed, width, size)
    cut = size * width
    moments = np.zeros_like(theta), np.zeros_like(theta)
    propagated = a.apply(a.x)
    pull = np.where(
        labeled, 1 / labeled.sum(), options.unlabeled_weight / max(1, n - labeled.sum())
    )

    def layers(mask: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        first, b1, w2 = (
            theta[:cut].reshape(size, width),
            theta[cut : cut + size],
            theta[cut + size : -1],
        )
        hidden = np.maximum(propagated @ first.T + b1, 0)
        logits = a.apply((hidden * mask) @ w2[:, None])[:, 0] + theta[-1]
        return hidden, logits, w2

    for epoch in range(options.epochs):
        mask = scale * spec.kept(mask_seed, epoch, n, size, below).astype(np.float64)
        hidden, logits, w2 = layers(mask)
        scores = sigmoid(logits)
        r = pull * np.where(labeled, scores - 1, scores)
        g = a.apply_transposed(r[:, None])
        dz = g * w2 * mask * (hidden > 0)
        gradient = np.concatenate(
            [(dz.T @ propagated).ravel(), dz.sum(axis=0), (hidden * mask).T @ g[:, 0], [r.sum()]]
        )
        _adam(theta, gradient, moments, epoch + 1, options)
    hidden, logits, _ = layers(np.ones((n, size)))
    return sigmoid(logits), hidden, a.affinity, logits


def _adam(
    theta: Matrix, gradient: Matrix, moments: tuple[Matrix, Matrix], step: int, options: Options
) -> None:
    gradient = gradient + options.weight_decay * theta
    first, second = moments
    first[:] = spec.BETAS[0] * first + (1 - spec.BETAS[0]) * gradient
    second[:] = spec.BETAS[1] * second + (1 - spec.BETAS[1]) * gradient**2
    size = options.learning_rate / (1 - spec.BETAS[0] ** step)
    root = np.sqrt(second / (1 - spec.BETAS[1] ** step))
    theta -= size * first / (root + spec.EPSILON)
