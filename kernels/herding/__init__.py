"""Greedy herding: pick rows whose neighborhoods cover the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances, modality_rows
from rlmba.kernels.herding import reference
from rlmba.kernels.herding.problem import (
    Problem,
    as_positions,
    as_radius,
    as_utility,
    choose_targets,
    scaled,
)
from rlmba.kernels.tile_radius import SAMPLED_ROWS, neighbor_radius

__all__ = ["Herding", "herding"]

_BACKENDS = ("triton", "cpu", "reference")
_MOST_ROWS = 2**31
"""The compiled backend keeps positions in 32 bits."""


class Herding(NamedTuple):
    """Rows picked by herding.

    ``indices`` int64 [n] in picked order; ``gains`` float64 [n], how much each pick adds to the
    covered utility; ``radius``, the radius of the kernel; ``targets``, the number of rows whose
    cover is counted: N, or fewer if they are a sample and the picks are approximations.
    """

    indices: Any
    gains: Any
    radius: float
    targets: int


def _cpu(
    problem: Problem, n: int, max_memory: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    core = dispatch.require_core()
    rows, labeled = problem.rows, problem.labeled
    labeled.require_finite(core.first_bad_row)
    rows.require_finite(core.first_bad_row)
    sets, groups = rows.groups()
    targets, candidates = problem.targets, problem.candidates
    if groups is not None:
        targets = targets[np.argsort(groups[targets], kind="stable")]
        candidates = candidates[np.argsort(groups[candidates], kind="stable")]
    indices, gains = np.empty(n, dtype=np.int64), np.zeros(n)
    done = (core.herding_f32 if rows.parts[0].dtype == np.float32 else core.herding_f64)(
        list(rows.parts),
        list(labeled.parts),
        rows.weights,
        rows.present,
        labeled.present,
        problem.radius,
        problem.utility,
        groups,
        sets,
        targets,
        candidates,
        distances.UNBOUNDED if max_memory is None else max_memory,
        indices,
        gains,
    )
    if done == core.herding_overflow:
        raise distances.overflow("features")
    return indices[:done], gains[:done]


def _pick(
    problem: Problem, n: int, name: str, max_memory: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if name == "reference":
        return reference.herding(problem, n)
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.herding import on_device

        indices, gains = on_device.herding(problem, n)
    else:
        indices, gains = _cpu(problem, n, max_memory)
    # Once no gain is positive, the lowest positions follow.
    rest = np.setdiff1d(problem.candidates, indices, assume_unique=True)[: n - len(indices)]
    return np.concatenate([indices, rest]), np.concatenate([gains, np.zeros(len(rest))])


def herding(
    features: modality_rows.Features,
    n: int,
    *,
    weights: Any = None,
    labeled: modality_rows.Features | None = None,
    present: arrays.ArrayLike | None = None,
    labeled_present: arrays.ArrayLike | None = None,
    utility: arrays.ArrayLike | None = None,
    radius: float | None = None,
    targets: int | None = None,
    candidates: Any = None,
    max_memory: int | None = None,
    backend: str = "auto",
) -> Herding:
    """Pick ``n`` rows, each the one that adds most to the covered utility (greedy herding).

    A row x is covered by a center j to the degree k(x, j) = exp(-D(x, j) / radius^2), and by
    several to the largest of their degrees, c(x). Each pick maximizes its gain
    sum_x u(x) max(0, k(x, j) - c(x)).

    Parameters
    ----------
    features : array [N, D], or mapping of modality to array [N, D_m]
        Finite real numbers; each array has at least one column. Memory-mapped arrays are read in
        place.
    n : int
        Number of rows to pick, 0 <= n <= the number of candidates.
    weights : [M] floats, or mapping of modality to float, optional
        Weights w_m >= 0 of the modalities in D, uniform by default. Only their ratios matter. A
        modality of weight 0 is ignored.
    labeled : array [L, D] or mapping, like ``features``, optional
        Rows that are centers from the start, such as the labeled samples of active learning. They
        are never returned. Converted to the dtype of ``features``.
    present, labeled_present : bool arrays [N, M] and [L, M], optional
        Which modalities each row has; all by default. Values of the others are ignored.
    utility : array [N], optional
        The worth u >= 0 of covering each row; 1 by default.
    radius : float, optional
        Radius of the kernel, in units of the features. By default
        ``tile_radius(features, L + n)``. With radius 0, a center covers only rows equal to it.
        With an infinite radius, it covers every row that has a modality in common with it.
    targets : int, optional
        If more than this number of rows have a positive utility, only this many of them count:
        evenly spaced ones, at floor(i U / targets) among these U rows. Their gains are multiplied
        by U / targets. The picks are then approximations.
    candidates : integer array [K], optional
        Distinct positions that may be picked; all by default.
    max_memory : int, optional
        Bytes for copies and lists of neighbors, in addition to the input, the results and about 100
        bytes per row (compiled backend). On a GPU it limits only what ``tile_radius`` needs. The
        result does not depend on it.
    backend : {"auto", "triton", "cpu", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    Herding
        ``indices`` int64 [n], distinct positions into ``features`` in picked order; ties go to the
        lowest position. ``gains`` float64 [n] never increase. ``radius`` is the radius that was
        used, and ``targets`` the number of rows whose cover is counted: N, or ``targets`` if they
        were sampled.

    Raises
    ------
    UsageError
        If n is not within 0..K, or a weight, the radius or another option is invalid.
    ShapeError
        If an array has the wrong shape or dtype, modalities differ, or there are 2^31 rows or
        more (compiled backend).
    NonFiniteError
        If a value of a modality that the row has is NaN or infinite; ``.row`` is the first such
        row.
    DataError
        If a utility is negative, a candidate is out of range or repeated, or a distance overflows.

    Notes
    -----
    D(x, x') = sum_m w_m (x_m - x'_m)^2 / sum_m w_m, with squared norms, over the modalities that
    both rows have and whose weight is positive. Rows without a common modality do not cover each
    other: k = 0.

    Distances are sums of (x - x')^2 in float64. The terms of a gain are rounded to multiples of
    2^-51 of the sum of u (rounded up to a power of two), so that their sum is exact in any order,
    and rows with the same terms are ties. Picks are the same on every backend, instruction set and
    number of threads, except where two gains differ by no more than rounding.

    Once all gains are 0, for example when all rows are duplicates of centers or all utilities are
    0, the lowest positions not yet picked follow. No position is picked twice.

    Gains only shrink as rows are picked (the objective is submodular), so the last known gain of a
    row is an upper bound, and only the rows with the largest bounds are evaluated for a pick. The
    N x N matrix of kernels is never stored.

    On a GPU, the candidates with the largest bounds are evaluated together, and the best of them is
    picked if no other candidate's bound comes before it. All rows are copied to the GPU; targets
    are copied once more if they are only some of the rows, and so are candidates. The host reads a
    result for each pick, so a call cannot be captured in a CUDA graph.

    References
    ----------
    Bae et al., "Generalized coverage for more robust low-budget active learning", ECCV 2024, and
    "Uncertainty herding: one active learning method for all label budgets", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0], [9.0]])
    >>> found = herding(x, 2, radius=1.0)
    >>> found.indices, found.gains.round(3)
    (array([1, 3]), array([1.736, 1.   ]))
    >>> herding(x, 1, radius=1.0, labeled=np.array([[1.0]])).indices
    array([3])
    """
    first = modality_rows.first_array(features)
    name = dispatch.choose("herding", backend, arrays.device_of(first), _BACKENDS)
    reader = modality_rows.reader_of(name)
    rows = modality_rows.gather(features, weights, present, reader)
    if name == "cpu" and rows.rows >= _MOST_ROWS:
        raise ShapeError(
            f"features: expected fewer than 2^31 rows on the backend 'cpu', got {rows.rows}; "
            "pick from a part of them"
        )
    given = modality_rows.labeled_rows(labeled, features, rows, labeled_present, reader)
    u = as_utility(utility, rows.rows)
    pool = as_positions(candidates, rows.rows)
    n = arrays.as_count(n, "n", low=0, high=len(pool))
    most = None if targets is None else arrays.as_count(targets, "targets", low=1)
    distances.check_max_memory(max_memory)
    if radius is None:
        radius = neighbor_radius(rows, max(1, given.rows + n), SAMPLED_ROWS, name, max_memory)
    radius = as_radius(radius)
    covered, factor, sampled = choose_targets(u, most)
    u, unit = scaled(u, covered)
    problem = Problem(rows, given, radius, u, covered, pool)
    indices, gains = _pick(problem, n, name, max_memory)
    return Herding(
        reader.like(indices, first),
        reader.like(gains * (unit * factor), first),
        radius,
        len(covered) if sampled else rows.rows,
    )
