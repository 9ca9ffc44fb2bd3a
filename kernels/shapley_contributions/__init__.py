"""Shapley values of the modalities for the probability of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, evidential
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.shapley_contributions import reference, spec
from rlmba.kernels.shapley_contributions.plan import CoalitionPlan, exact_plan, sampled_plan

__all__ = ["shapley_contributions"]


@dataclass(frozen=True, eq=False)
class Game:
    """Checked arguments: M parts [N, C] of one float dtype, and the plan of coalitions.

    ``labels`` int64 [N] and ``bias`` float64 [C] are contiguous; ``present`` is bool [N, M], contiguous,
    or None.
    """

    parts: tuple[arrays.Float, ...]
    labels: NDArray[np.int64]
    bias: NDArray[np.float64]
    present: NDArray[np.bool_] | None
    plan: CoalitionPlan

    def require_finite(self) -> None:
        """Raise the error for the first row with NaN or infinity in a part that is read."""
        bad = np.zeros(len(self.labels), dtype=bool)
        for k, part in enumerate(self.parts):
            broken = ~np.isfinite(part).all(axis=1)
            bad |= broken if self.present is None else broken & self.present[:, k]
        if bad.any():
            raise self.invalid_row(int(np.argmax(bad)))

    def invalid_row(self, row: int) -> NonFiniteError:
        """Return the error for a row that holds NaN or infinity."""
        for k, part in enumerate(self.parts):
            there = self.present is None or self.present[row, k]
            if there and not np.isfinite(part[row]).all():
                return arrays.non_finite(part, f"parts[{k}]", row)
        raise AssertionError(f"row {row} is valid")


def _cpu(game: Game) -> NDArray[np.float64]:
    core = dispatch.require_core()
    single = game.parts[0].dtype == np.float32
    kernel = core.shapley_contributions_f32 if single else core.shapley_contributions_f64
    values = np.empty((len(game.labels), len(game.parts)))
    plan = game.plan
    bad = kernel(
        list(game.parts),
        game.labels,
        game.bias,
        game.present,
        plan.parent,
        plan.added,
        plan.modality,
        plan.before,
        plan.after,
        plan.share,
        values,
    )
    if bad >= 0:
        raise game.invalid_row(bad)
    return values


def _classes(labels: arrays.ArrayLike, rows: int, classes: int) -> NDArray[np.int64]:
    y = arrays.to_numpy(labels, "labels")
    if y.dtype.kind not in "iu" or y.shape != (rows,):
        raise ShapeError(
            f"labels: expected integers of shape ({rows},), one class per row, got {y.dtype} {y.shape}"
        )
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(f"labels[{row}] is {y[row]}: expected a class within 0..{classes - 1}")
    return np.ascontiguousarray(y, dtype=np.int64)


def checked_bias(value: Any, classes: int) -> NDArray[np.float64]:
    """``bias`` as finite float64 [C], zeros for None."""
    if value is None:
        return np.zeros(classes)
    b = np.ascontiguousarray(evidential.numbers(value, "bias"))
    if b.shape != (classes,):
        raise ShapeError(f"bias: expected shape ({classes},), got {b.shape}")
    arrays.require_finite(b, "bias")
    return b


def _plan(m: int, rng: Rng) -> CoalitionPlan:
    if m > spec.MAX_MODALITIES:
        raise UsageError(f"parts: expected at most {spec.MAX_MODALITIES} modalities, got {m}")
    if m <= spec.EXACT_MODALITIES:
        return exact_plan(m)
    if rng is None:
        raise UsageError(
            f"rng: expected a generator or a seed to sample permutations of {m} modalities "
            f"(exact up to {spec.EXACT_MODALITIES}), got None; pass rng"
        )
    return sampled_plan(m, seed_from(rng))


def shapley_contributions(
    parts: Sequence[arrays.ArrayLike],
    labels: arrays.ArrayLike,
    *,
    bias: Any = None,
    present: arrays.ArrayLike | None = None,
    rng: Rng = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> Any:
    """Shapley value of each modality for p_y, the softmax probability of class y.

    The logits of a coalition of modalities are the bias plus the sum of its members' parts. A
    missing modality adds zero.

    Parameters
    ----------
    parts : list or tuple of M arrays [N, C]
        What each modality adds to the fused logits of N samples; 1 <= M <= 64, C >= 1, magnitudes up to
        1e300. For a linear head on convexly fused features: w_m f_m @ weight.T. Rows may be strided.
    labels : integer array [N]
        The class y of each sample, within 0..C-1.
    bias : [C] floats, optional
        Logits of the empty coalition; zero by default.
    present : bool array [N, M], optional
        Which modalities a sample has; all by default. The row of a missing modality is not read and
        may hold anything; its value is 0. All values of a sample without any modality are 0.
    rng : int, numpy.random.Generator or torch.Generator, optional
        Used and required only for M > 8: the source of the seed of 128 permutations, which are the
        same for all rows.
    max_memory : int, optional
        Bytes of GPU memory for copies of rows stored in host memory. The result does not depend on
        it. It has no effect on the CPU.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    float64 array [N, M]
        Signed values in [-1, 1]. Up to rounding, their sum over the modalities is p_y with all
        modalities minus p_y with none.

    Raises
    ------
    ShapeError, UsageError
        If the arrays do not fit, or M > 8 and no ``rng`` was passed.
    NonFiniteError
        If a number that is read is NaN or infinite; ``.row`` is the first such row.
    DataError
        If a label is outside 0..C-1; the message names the row.

    Notes
    -----
    For M <= 8 the values are exact and take 2^M probabilities per row. For more modalities they are
    the unbiased mean over sampled permutations, with a standard error of at most 1 / sqrt(128); a
    coalition that occurs in several permutations is evaluated once. Sums are float64 for any dtype
    of ``parts``. The compiled backend processes one row at a time, so its memory in addition to the
    results does not grow with N.

    References
    ----------
    Shapley, "A value for n-person games", 1953; Castro, Gomez and Tejada, "Polynomial calculation of the
    Shapley value based on sampling", 2009.

    Examples
    --------
    >>> import numpy as np
    >>> image, sound = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
    >>> shapley_contributions([image, sound], np.array([0])).round(3)
    array([[0.381, 0.   ]])
    """
    if not isinstance(parts, (list, tuple)) or len(parts) == 0:
        raise UsageError(
            "parts: expected a list or tuple of one or more arrays [N, C], "
            f"got {type(parts).__name__}{' of none' if isinstance(parts, (list, tuple)) else ''}"
        )
    name = dispatch.choose(
        "shapley_contributions",
        backend,
        evidential.device_of(parts),
        ("triton", "cpu", "reference"),
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.shapley_contributions import on_device

        return on_device.shapley_contributions(
            parts,
            labels,
            bias=bias,
            present=present,
            plan=_plan(len(parts), rng),
            exact=len(parts) <= spec.EXACT_MODALITIES,
            max_memory=max_memory,
        )
    floats = evidential.class_rows(parts, [f"parts[{k}]" for k in range(len(parts))])
    n, c = floats[0].shape
    game = Game(
        parts=floats,
        labels=_classes(labels, n, c),
        bias=checked_bias(bias, c),
        present=None if present is None else evidential.presence_mask(present, n, len(parts)),
        plan=_plan(len(parts), rng),
    )
    values = _cpu(game) if name == "cpu" else reference.shapley_contributions(game)
    return arrays.like(values, parts[0])
