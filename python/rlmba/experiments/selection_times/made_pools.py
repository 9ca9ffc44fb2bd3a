"""Synthetic pool outputs of the paper's sizes, on which selections are timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.method.input_space import InputSpace
from rlmba.types import LinearHead, PoolOutputs, QueryContext

__all__ = ["FOOD101", "PoolSize", "SelectionCase", "make_case"]

_BLOCK = 10_000
_SEPARATION = 3.0


@dataclass(frozen=True)
class PoolSize:
    """The shape of a selection.

    Attributes
    ----------
    rows, classes : int
        N samples in the pool, C classes.
    width, modalities : int
        M modalities, each with d features.
    batch : int
        n, the samples to select.
    labeled : int
        L, the samples that are labeled already.
    concat : bool
        Whether the fused features are the concatenation of the modalities' features (M d) instead of
        their mean (d).
    passes : int
        Number of stochastic forward passes in the outputs, K.
    """

    rows: int
    classes: int = 101
    width: int = 512
    modalities: int = 2
    batch: int = 1_000
    labeled: int = 1_000
    concat: bool = False
    passes: int = 0

    def __str__(self) -> str:
        passes = f", {self.passes} passes" if self.passes else ""
        return (
            f"N={self.rows:,} C={self.classes} D={self.fused_width} n={self.batch:,} "
            f"L={self.labeled:,}{passes}"
        )

    @property
    def fused_width(self) -> int:
        """D, the width of the fused features."""
        return self.width * (self.modalities if self.concat else 1)


FOOD101 = PoolSize(rows=44_719)
"""Food101 in the paper: the pool of round 1, with 1,000 labels per round."""


@dataclass(frozen=True, eq=False)
class SelectionCase:
    """The pool outputs and context of one selection to time."""

    size: PoolSize
    pool: PoolOutputs
    context: QueryContext

    @property
    def input_bytes(self) -> int:
        """Size in bytes of the arrays that a strategy may read; an array used twice counts once."""
        pool = self.pool
        arrays = [pool.fused_features, pool.fused_logits, self.context.labeled_features]
        arrays += [*pool.features.values(), *pool.logits.values()]
        arrays += (pool.input_features or {}).values()
        distinct = {id(a): a.nbytes for a in arrays if a is not None}
        return sum(distinct.values())


def make_case(size: PoolSize, *, seed: int = 0) -> SelectionCase:
    """Make float32 outputs that resemble those of a trained model.

    Features are clusters around one mean per class, passed through a ReLU. The modalities of a sample
    share its class and differ in their noise. The fused logits come from a linear head on the fused
    features. Its weights are the class means, scaled so that the logits have a standard deviation of 3.

    Parameters
    ----------
    size : PoolSize
    seed : int
        Seeds all random numbers.
    """
    rng = np.random.default_rng(seed)
    total = size.rows + size.labeled
    classes = rng.integers(size.classes, size=total)
    names = [f"m{k}" for k in range(size.modalities)]
    means = [rng.standard_normal((size.classes, size.width), dtype=np.float32) for _ in names]
    each = [_features(mean, classes, rng) for mean in means]
    if size.modalities == 1:
        fused, weight = each[0], means[0]
    elif size.concat:
        fused, weight = np.concatenate(each, axis=1), np.concatenate(means, axis=1)
    else:
        fused, weight = np.mean(each, axis=0), np.mean(means, axis=0)
    features = [f[: size.rows] for f in each]
    raw = dict(zip(names, each, strict=True))
    inputs = InputSpace.fit(raw).prepare(raw)
    head = _head(weight, fused)
    logits = fused[: size.rows] @ head.weight.T + head.bias
    passes = None
    if size.passes:
        passes = np.stack(
            [
                logits + 0.3 * rng.standard_normal(logits.shape, dtype=np.float32)
                for _ in range(size.passes)
            ]
        )
    pool = PoolOutputs(
        ids=np.arange(size.rows).astype(str),
        features=dict(zip(names, features, strict=True)),
        logits={m: logits + rng.standard_normal(logits.shape, dtype=np.float32) for m in names}
        if size.modalities > 1
        else {names[0]: logits},
        fused_features=fused[: size.rows],
        fused_logits=logits,
        dropout_logits=passes,
        input_features={m: a[: size.rows] for m, a in inputs.items()},
    )
    context = QueryContext(
        rng=np.random.default_rng(seed + 1),
        weights=np.full(size.modalities, 1 / size.modalities),
        labeled_features=fused[size.rows :],
        labels=classes[size.rows :],
        labeled_input_features={m: a[size.rows :] for m, a in inputs.items()},
        head=head,
    )
    return SelectionCase(size, pool, context)


def _features(
    means: NDArray[np.float32], classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    out = np.empty((len(classes), means.shape[1]), dtype=np.float32)
    signal = np.float32(_SEPARATION / np.sqrt(means.shape[1]))
    for begin in range(0, len(out), _BLOCK):
        block = out[begin : begin + _BLOCK]
        rng.standard_normal(dtype=np.float32, out=block)
        block += signal * means[classes[begin : begin + _BLOCK]]
    return np.maximum(out, 0, out=out)


def _head(weight: NDArray[np.float32], fused: NDArray[np.float32]) -> LinearHead:
    """Scale ``weight`` into a head whose logits have mean 0 and standard deviation 3."""
    sample = fused[:2_000] @ weight.T
    scale = np.float32(3 / sample.std())
    return LinearHead(scale * weight, -scale * sample.mean(axis=0))
