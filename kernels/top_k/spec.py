"""Shapes for the tests and benches of top_k. The answer is exact: there is no tolerance."""

from __future__ import annotations

SIZES = [0, 1, 2, 255, 256, 257, 5000, 100_003]
GPU_SIZES = [1, 2, 129, 4500]
BENCH_SIZES = {"food101": (44_719, 5_000), "large": (10_000_000, 5_000)}
