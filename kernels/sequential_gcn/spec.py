"""Randomness shared by all backends of sequential_gcn, and sizes and tolerances for tests.

Two seeds are derived from the seed that is passed: ``mix64(seed, 0)`` for the initial parameters,
``mix64(seed, 1)`` for dropout (:mod:`rlmba.kernels.common.random`).

Initial parameters are (2 u - 1) / sqrt(outputs of the layer), with the uniform numbers 0, 1, ... of
their seed in the order W1 [D, hidden] row by row, b1, w2 [hidden], b2.

Unit k of row i is dropped in epoch e (from 0) if 16 bits of a 64-bit draw are below round(65536
dropout): bits 16 (k mod 4) and up of draw (e N + i) ceil(hidden / 4) + floor(k / 4). The
probability is thus a multiple of 2^-16, and kept units are divided by exactly one minus it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common.random import mix64, uniform01

LEVELS = 65536
BETAS = (0.9, 0.999)
EPSILON = 1e-8

SHAPES = [(3, 2, 3), (7, 3, 5), (40, 6, 128), (300, 33, 17), (700, 64, 40), (1100, 530, 128)]
BENCH_SHAPES = {"dense": (10_000, 512, 1_000), "food101": (45_719, 512, 1_000)}

# Absolute tolerance of scores after EPOCHS epochs; ten times that for hidden features, relative to
# the largest. Training amplifies rounding, abruptly where a unit's gradient is near 0. After 200
# epochs on 4,000 rows, torch's float32 differs from float64 by 0.004, ours by 0.002 without matrix
# tiles and by 0.009 with them.
EPOCHS = 10
TOLERANCE = {"float32": 5e-5, "float32 on tiles": 1e-3, "float64": 1e-10}


def seeds(seed: int) -> tuple[int, int]:
    """The seeds of the initial parameters and of dropout."""
    first, second = mix64(seed, np.arange(2, dtype=np.uint64))
    return int(first), int(second)


def initial_parameters(seed: int, width: int, hidden: int) -> NDArray[np.float64]:
    """Initial parameters in one float64 vector: W1^T [hidden, D], b1, w2, b2."""
    u = 2 * uniform01(seed, 0, width * hidden + 2 * hidden + 1) - 1
    cut = width * hidden
    first = u[:cut].reshape(width, hidden).T / np.sqrt(hidden)
    return np.concatenate(
        [first.ravel(), u[cut : cut + hidden] / np.sqrt(hidden), u[cut + hidden :]]
    )


def drop_below(dropout: float) -> int:
    """The dropout probability in units of 2^-16."""
    return round(dropout * LEVELS)


def kept(seed: int, epoch: int, rows: int, hidden: int, below: int) -> NDArray[np.bool_]:
    """Which units [rows, hidden] an epoch keeps; ``seed`` is the seed of dropout."""
    draws = -(-hidden // 4)
    counters = np.arange(epoch * rows * draws, (epoch + 1) * rows * draws, dtype=np.uint64)
    bits = mix64(seed, counters)[:, None] >> (np.uint64(16) * np.arange(4, dtype=np.uint64))
    values = (bits & np.uint64(LEVELS - 1)).reshape(rows, 4 * draws)[:, :hidden]
    return np.asarray(values >= below, dtype=np.bool_)
