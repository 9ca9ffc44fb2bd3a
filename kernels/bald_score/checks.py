"""Checks for invalid samples, and the errors that name them."""

from __future__ import annotations

import numpy as np

from rlmba.errors import DataError, NonFiniteError, ShapeError
from rlmba.kernels.bald_score import spec
from rlmba.kernels.common import arrays


def require_passes(shape: tuple[int, ...]) -> None:
    """Raise :class:`ShapeError` unless [K, N, C] has at least one pass and one class."""
    if shape[0] < 1 or shape[2] < 1:
        raise ShapeError(
            f"logits: expected [K, N, C] with at least one pass and one class, got shape {shape}"
        )


def require_valid(passes: arrays.Float, kind: str) -> None:
    """Raise the error for the first invalid sample."""
    bad = ~np.isfinite(passes).all(axis=(0, 2))
    if kind == "probabilities":
        with np.errstate(invalid="ignore"):
            sums = passes.sum(axis=2, dtype=np.float64)
            bad |= ~((np.abs(sums - 1) <= spec.SUM_SLACK) & (passes >= 0).all(axis=2)).all(axis=0)
    if bad.any():
        raise invalid_row(passes, int(np.argmax(bad)))


def invalid_row(passes: arrays.Float, row: int) -> DataError:
    """Return the error for a sample with NaN, infinity or a pass that is not a distribution."""
    x = passes[:, row]
    if not np.isfinite(x).all():
        k, c = np.argwhere(~np.isfinite(x))[0].tolist()
        return NonFiniteError(
            f"logits[{k}, {row}, {c}] is {x[k, c]}: expected finite numbers; "
            f"drop or repair sample {row} (pass {k})",
            row,
        )
    if (x < 0).any():
        k, c = np.argwhere(x < 0)[0].tolist()
        return DataError(
            f"logits[{k}, {row}, {c}] is {x[k, c]}: expected probabilities >= 0 of sample {row} "
            f'(pass {k}); pass kind="logits" if these are logits'
        )
    sums = x.sum(axis=1, dtype=np.float64)
    k = int(np.argmax(np.abs(sums - 1)))
    return DataError(
        f"logits[{k}, {row}] sums to {sums[k]:.6g}: expected probabilities with sum 1 (within "
        f"{spec.SUM_SLACK}) of sample {row} (pass {k}); pass logits, or divide by the sum"
    )
