"""Shapes and tolerances for the tests of gradient_residuals."""

from __future__ import annotations

SHAPES = [(0, 3), (1, 1), (1, 2), (5, 3), (7, 8), (40, 33), (300, 101), (9, 309)]

RTOL = {"float32": 1e-6, "float64": 1e-14}
"""Relative tolerance of every entry; entries below 1e-300 may be 0."""
