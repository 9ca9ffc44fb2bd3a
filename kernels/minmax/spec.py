"""Shapes for the tests and benches of minmax. Backends agree to the last bit: no tolerance."""

from __future__ import annotations

SHAPES = [
    (0,),
    (1,),
    (2,),
    (17,),
    (1000,),
    (200_003,),
    (0, 3),
    (1, 2),
    (40, 2),
    (5001, 3),
    (33, 400),
]
BENCH_SIZE = 10_000_000
GROWTH = [10_000, 100_000, 1_000_000, 10_000_000]
