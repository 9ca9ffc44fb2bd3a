"""Counter-based random numbers; the NumPy counterpart of ``csrc/include/rlmba/random.hpp``.

The i-th uniform number of a seed is a pure function of (seed, i). All backends use this stream, so
a seed gives the same numbers on each of them, for any block size or thread count.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError

if TYPE_CHECKING:
    import torch

Rng: TypeAlias = "int | np.random.Generator | torch.Generator | None"


def seed_from(rng: Rng) -> int:
    """Return a 64-bit seed from the ``rng`` argument of an operation.

    Parameters
    ----------
    rng : int, numpy.random.Generator, torch.Generator or None
        An int is the seed itself (modulo 2**64). A generator is advanced by one draw. None takes
        fresh entropy from the operating system.

    Raises
    ------
    UsageError
        If ``rng`` is of another type or a negative int.
    """
    if rng is None:
        rng = np.random.default_rng()
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**64, dtype=np.uint64))
    if type(rng).__module__.split(".")[0] == "torch":
        import torch

        generator: Any = rng
        draw: Any = torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device)
        return int(draw.item())
    try:
        seed = operator.index(rng)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            "rng: expected an int, a numpy.random.Generator, a torch.Generator or None, "
            f"got {type(rng).__name__}"
        ) from None
    if seed < 0:
        raise UsageError(f"rng: expected a seed >= 0, got {seed}")
    return seed % 2**64


def mix64(seed: int, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Elementwise SplitMix64 finalizer of ``seed + (counter + 1) * golden ratio``."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def unit_interval(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """float64 in the open interval (0, 1) from the 52 high bits; 53 bits could round up to 1."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def uniform01(seed: int, start: int, count: int) -> NDArray[np.float64]:
    """Uniform numbers ``start`` to ``start + count`` of a seed: float64 in the open interval (0, 1)."""
    return unit_interval(mix64(seed, np.arange(start, start + count, dtype=np.uint64)))
