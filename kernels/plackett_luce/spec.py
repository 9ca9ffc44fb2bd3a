"""Sizes and tolerances for the tests and benches of plackett_luce."""

from __future__ import annotations

SIZES = [(1, 0), (1, 1), (2, 2), (7, 3), (7, 7), (300, 0), (300, 40), (300, 300), (5000, 1000)]
LOG_PROB_TOLERANCE = 1e-12
"""Relative to 1 + |log_prob|, float64."""


def gradient_tolerance(n: int, largest: float) -> float:
    """Absolute tolerance for n draws and logits up to ``largest`` in magnitude.

    A gradient is a sum of at most n probabilities, each of them the exponential of a difference
    between numbers as large as the logits.
    """
    return max(n, 1) * (1e-12 + 1e-15 * largest)
