"""Which coalitions are evaluated, and how their worths combine to Shapley values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common.random import mix64
from rlmba.kernels.shapley_contributions import spec


@dataclass(frozen=True, eq=False)
class CoalitionPlan:
    """Coalitions as a tree, and the marginal worths to add up.

    Coalition 0 is empty. Coalition c >= 1 is coalition ``parent[c] < c`` plus modality
    ``added[c]``. The value of modality k is the sum of share * (worth[after] - worth[before]) over
    the terms with that k. All arrays are int64 except ``share``, which is float64.
    """

    parent: NDArray[np.int64]
    added: NDArray[np.int64]
    modality: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    share: NDArray[np.float64]

    def members(self) -> list[list[int]]:
        """The modalities of each coalition."""
        found: list[list[int]] = [[]]
        for p, k in zip(self.parent[1:].tolist(), self.added[1:].tolist(), strict=True):
            found.append([*found[p], k])
        return found

    def terms(self) -> tuple[list[int], list[int], list[int], list[float]]:
        """Modality, before, after and share of every term."""
        return (
            self.modality.tolist(),
            self.before.tolist(),
            self.after.tolist(),
            self.share.tolist(),
        )


def exact_plan(m: int) -> CoalitionPlan:
    """All 2^m coalitions; coalition c has the modalities whose bits are set in c."""
    parent, added = [0], [0]
    for c in range(1, 1 << m):
        parent.append(c & (c - 1))
        added.append((c & -c).bit_length() - 1)
    terms = []
    for c in range(1 << m):
        size = c.bit_count()
        for k in range(m):
            if not c >> k & 1:
                share = math.factorial(size) * math.factorial(m - size - 1) / math.factorial(m)
                terms.append((k, c, c | 1 << k, share))
    return _plan(parent, added, terms)


def sampled_plan(m: int, seed: int) -> CoalitionPlan:
    """The coalitions along sampled permutations; each is evaluated once, however often it occurs.

    Permutation j sorts the modalities by draws j m to (j + 1) m of the seed.
    """
    draws = mix64(seed, np.arange(spec.PERMUTATIONS * m, dtype=np.uint64))
    orders = np.argsort(draws.reshape(spec.PERMUTATIONS, m), axis=1, kind="stable")
    parent, added = [0], [0]
    number = {0: 0}
    counts: dict[tuple[int, int, int], int] = {}
    for order in orders.tolist():
        here, at = 0, 0
        for k in order:
            here |= 1 << k
            if here not in number:
                number[here] = len(parent)
                parent.append(at)
                added.append(k)
            step = (k, at, number[here])
            counts[step] = counts.get(step, 0) + 1
            at = number[here]
    terms = [(*step, count / spec.PERMUTATIONS) for step, count in counts.items()]
    return _plan(parent, added, terms)


def _plan(
    parent: list[int], added: list[int], terms: list[tuple[int, int, int, float]]
) -> CoalitionPlan:
    modality, before, after, share = zip(*terms, strict=True)
    return CoalitionPlan(
        np.array(parent, dtype=np.int64),
        np.array(added, dtype=np.int64),
        np.array(modality, dtype=np.int64),
        np.array(before, dtype=np.int64),
        np.array(after, dtype=np.int64),
        np.array(share, dtype=np.float64),
    )
