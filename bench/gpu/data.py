"""Arrays of the cases, generated on their device, and float64 results to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assert_close", "assert_distinct", "distances_to", "features", "normal"]

COMPONENTS = 100


def normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int) -> Tensor:
    """Standard normal numbers."""
    generator = torch.Generator(device).manual_seed(seed)
    wide = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    return wide.to(dtype)


def features(rows: int, width: int, device: torch.device, dtype: torch.dtype, seed: int) -> Tensor:
    """Rows distributed like trained features: standard normal around one of 100 centers (s.d. 2)."""
    generator = torch.Generator(device).manual_seed(seed)
    means = 2 * torch.randn(COMPONENTS, width, generator=generator, device=device)
    which = torch.randint(COMPONENTS, (rows,), generator=generator, device=device)
    return (normal((rows, width), device, torch.float32, seed + 1) + means[which]).to(dtype)


def distances_to(x: Tensor, centers: Tensor) -> Tensor:
    """Euclidean distances [n, k] by differences in float64."""
    wide = x.double()
    parts = [wide[begin : begin + 256] for begin in range(0, len(wide), 256)]
    how = "donot_use_mm_for_euclid_dist"
    c = centers.double()
    return torch.cat([torch.cdist(part, c, compute_mode=how) for part in parts])


def assert_close(actual: Tensor, expected: Tensor, *, rtol: float, atol: float, what: str) -> None:
    """Raise AssertionError unless all numbers agree; NaN never agrees."""
    a, e = actual.double(), expected.double().to(actual.device)
    assert a.shape == e.shape, f"{what}: shape {tuple(a.shape)}, expected {tuple(e.shape)}"
    off = (a - e).abs() - (atol + rtol * e.abs())
    assert bool((off <= 0).all()), f"{what}: off by {float((a - e).abs().max()):.3g}"


def assert_distinct(positions: Tensor, n: int, rows: int) -> None:
    """Raise AssertionError unless there are n distinct positions below ``rows``."""
    assert positions.shape == (n,), f"{tuple(positions.shape)} positions, expected {n}"
    assert len(torch.unique(positions)) == n, "a position repeats"
    assert bool(((positions >= 0) & (positions < rows)).all()), "a position out of range"
