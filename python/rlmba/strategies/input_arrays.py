"""Input features from the arrays of a caller of ``rlmba.select``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError, RlmbaWarning, ShapeError, UsageError
from rlmba.method.completing import completed_features
from rlmba.method.input_space import InputSpace
from rlmba.strategies import array_inputs
from rlmba.strategies.array_inputs import ByModality
from rlmba.strategies.pool_arrays import PoolArrays
from rlmba.types import PoolOutputs, QueryContext, require_finite_labeled

__all__ = ["with_input_features"]


def with_input_features(
    pool: PoolOutputs,
    context: QueryContext,
    given: PoolArrays,
    labeled: ByModality | None,
) -> tuple[PoolOutputs, QueryContext]:
    """The pool and the context with input features.

    They are standardized, reduced and completed over the pool and the labeled samples together.

    Parameters
    ----------
    pool, context
        Of the query, made from ``given``.
    given : PoolArrays
        Its ``input_features`` are used; if there are none, its features, with a warning.
    labeled : array or mapping of modality to array, or None
        Input features of labeled samples that are not among the pool's arrays.

    Raises
    ------
    UsageError
        If input features of the labeled samples are required and were not given, were given although
        the labeled samples are among the pool's arrays, or have other modalities.
    ShapeError
        If the labeled samples have other widths than the pool.
    NonFiniteError
        If a value of the pool is NaN or infinite; ``.row`` is the position in the pool's arrays.
    DataError
        If a value of the labeled samples is NaN or infinite.
    """
    source = _by_modality(given.input_features, given.names)
    if not source:
        source = _by_modality(given.features, given.names)
        warnings.warn(
            "the strategy compares samples by what the model reads: expected input_features, got none, so "
            "the features are used instead; pass input_features= if you have them",
            RlmbaWarning,
            stacklevel=3,
        )
    size = given.n
    if given.rows is not None:
        if labeled is not None:
            raise UsageError(
                "labeled_input_features: expected none, because `labeled` names samples of the pool's "
                "arrays, whose input features are used; leave labeled_input_features out"
            )
        at = np.setdiff1d(np.arange(size), given.rows)
        unlabeled, others, there = given.rows, None, given.present
    else:
        at, unlabeled = np.arange(0), np.arange(size)
        others = _labeled(given, labeled)
        there = given.present
        if others is not None:
            rows = len(next(iter(others.values())))
            at = np.arange(size, size + rows)
            if there is not None:
                there = np.concatenate([there, np.ones((rows, len(given.names)), np.bool_)])
            source = {m: _stacked(m, a, others[m]) for m, a in source.items()}
            for m, a in others.items():
                require_finite_labeled(f"labeled_input_features[{m!r}]", a)
    try:
        space = InputSpace.fit(source, present=there)
        made = completed_features(space.prepare(source, present=there), there)
    except NonFiniteError as error:
        raise NonFiniteError(f"sample {given.name(error.row)!r}: {error}", error.row) from error
    found = {m: a[at] for m, a in made.items()} if len(at) else None
    pool = replace(pool, input_features={m: a[unlabeled] for m, a in made.items()})
    return pool, replace(context, labeled_input_features=found)


def _by_modality(p: array_inputs.Parts, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    if p.modalities:
        if set(p.modalities) != set(names):
            raise UsageError(
                f"input_features: expected the modalities {names}, got {tuple(p.modalities)}"
            )
        return {m: p.modalities[m] for m in names}
    if p.fused is None:
        return {}
    if len(names) > 1:
        raise UsageError(
            f"input_features: expected a mapping with an array for each of the modalities {names}, got one "
            "array"
        )
    return {names[0]: p.fused}


def _labeled(given: PoolArrays, labeled: ByModality | None) -> Mapping[str, NDArray[Any]] | None:
    if labeled is not None:
        return _by_modality(array_inputs.parts(labeled, "labeled_input_features"), given.names)
    if given.labeled_features is None:
        return None
    if given.input_features.arrays():
        raise UsageError(
            "labeled_input_features: expected the input features of the labeled samples, got only their "
            "features; pass labeled_input_features="
        )
    if given.labeled_modalities is None:
        raise UsageError(
            f"labeled: expected a mapping of the modalities {given.names}, got only fused features; pass "
            "labeled={modality: [L, d], ...}"
        )
    return given.labeled_modalities


def _stacked(name: str, pool: NDArray[Any], labeled: NDArray[Any]) -> NDArray[Any]:
    if pool.shape[1] != labeled.shape[1]:
        raise ShapeError(
            f"labeled_input_features[{name!r}]: expected width {pool.shape[1]}, as in input_features, got "
            f"shape {labeled.shape}"
        )
    return np.concatenate([pool, labeled])
