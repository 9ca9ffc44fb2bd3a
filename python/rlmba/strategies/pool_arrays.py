"""The arrays that a caller passed to ``rlmba.select``, checked, and the pool made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.ids import as_ids, id_texts, labeled_ids
from rlmba.kernels.common import evidential
from rlmba.kernels.common.arrays import ArrayLike, is_array, require_finite, to_host
from rlmba.strategies import array_inputs
from rlmba.strategies.array_inputs import ByModality, Parts
from rlmba.strategies.base import Strategy
from rlmba.types import LinearHead, PoolOutputs

__all__ = ["PoolArrays"]

_LONE = "features"
"""Name of the only modality if a plain array was passed."""


class PoolArrays:
    """A caller's arrays, checked, in the caller's index space; :meth:`pool` holds the unlabeled rows.

    Parameters
    ----------
    incomplete : bool
        Whether samples outside these rows lack a modality; ``present`` is then never None.
    **arguments
        The arguments of :func:`rlmba.select`.

    Attributes
    ----------
    n : int
        Rows of the caller's arrays.
    names : tuple of str
        Modalities, in the order of the mappings.
    rows : int64 array or None
        The caller's unlabeled rows, ascending; None if all rows are unlabeled.
    joined : bool
        Whether the fused features are the concatenation of the modalities', as ``head`` reads them.
    ids, present, fusion_weights, labeled_features, labels
        As the arguments of :func:`rlmba.select`, or None.
    input_features : Parts
        The argument of :func:`rlmba.select`, by modality.
    labeled_modalities, labeled_present
        As in :class:`~rlmba.types.QueryContext`; None if they were not given.
    """

    def __init__(
        self,
        *,
        features: ByModality | None,
        logits: ByModality | None,
        probabilities: ByModality | None,
        dropout_logits: ArrayLike | None,
        ids: Any,
        present: Any,
        labeled: Any,
        labels: Any,
        fusion_weights: Any,
        head: LinearHead | None = None,
        input_features: ByModality | None = None,
        incomplete: bool = False,
    ) -> None:
        if logits is not None and probabilities is not None:
            raise UsageError("expected logits or probabilities, got both; leave one out")
        self.features = array_inputs.parts(features, "features")
        if probabilities is not None:
            self.logits = array_inputs.parts(probabilities, "probabilities", of_probabilities=True)
        else:
            self.logits = array_inputs.parts(logits, "logits")
        self.dropout: NDArray[Any] | None = None
        if dropout_logits is not None:
            self.dropout = array_inputs.float_array(dropout_logits, "dropout_logits", ndim=3)
        self.input_features = array_inputs.parts(input_features, "input_features")
        self.n = self._size(ids)
        self.ids = None if ids is None else as_ids(ids, self.n)
        self.names = self._names()
        self.present = self._present(present)
        if incomplete and self.present is None:
            self.present = np.ones((self.n, len(self.names)), np.bool_)
        self.fusion_weights = self.numbers(fusion_weights, "fusion_weights")
        widths = [f.shape[1] for f in self.features.modalities.values()]
        self.joined = head is not None and len(widths) > 1 and head.weight.shape[1] == sum(widths)
        self.features = self._fused(self.features)
        self.rows: NDArray[np.int64] | None = None
        self.labeled_modalities: Mapping[str, NDArray[Any]] | None = None
        self.labeled_present: NDArray[np.bool_] | None = None
        self.labeled_features = self._labeled(labeled)
        self.labels = self._labels(labels)

    def _size(self, ids: Any) -> int:
        sizes = {
            name: len(p.arrays()[0])
            for name, p in (
                ("features", self.features),
                ("logits", self.logits),
                ("input_features", self.input_features),
            )
            if p.arrays()
        }
        if self.dropout is not None:
            sizes["dropout_logits"] = self.dropout.shape[1]
        if ids is not None:
            sizes = sizes or {"ids": len(ids)}
        if not sizes:
            raise UsageError("expected a pool, got no array; pass features=, logits= or ids=")
        if len(set(sizes.values())) > 1:
            raise ShapeError(f"expected one row for each sample everywhere, got {sizes} rows")
        return next(iter(sizes.values()))

    def _names(self) -> tuple[str, ...]:
        """Modalities in the order given; features and logits must have the same if both have any."""
        ours, theirs = tuple(self.features.modalities), tuple(self.logits.modalities)
        if ours and theirs and set(ours) != set(theirs):
            lacking = sorted(set(ours) ^ set(theirs))[0]
            where = "logits" if lacking in ours else "features"
            raise UsageError(
                f"{where}: modality {lacking!r} is missing; expected features and logits of the same "
                f"modalities, got {ours} and {theirs}"
            )
        return ours or theirs or tuple(self.input_features.modalities) or (_LONE,)

    def _present(self, given: Any) -> NDArray[np.bool_] | None:
        if given is None:
            return None
        a = _by_name(given, self.names, "present", _array)
        if a.shape != (self.n, len(self.names)) or not np.isin(a, [0, 1]).all():
            raise ShapeError(
                f"present: expected 0 or 1 for {self.n} samples and the modalities {self.names}, "
                f"got dtype {a.dtype} and shape {a.shape}"
            )
        a = a.astype(np.bool_)
        if not a.any(axis=1).all():
            row = int(np.argmin(a.any(axis=1)))
            raise DataError(
                f"present: expected at least one modality for each sample, sample {self.name(row)!r} "
                f"has none of {self.names}; drop it"
            )
        self.features = self._blanked(self.features, a)
        self.logits = self._blanked(self.logits, a)
        return None if a.all() else a

    def _blanked(self, p: Parts, present: NDArray[np.bool_]) -> Parts:
        """Set absent rows to 0, with a copy only if one of them is not finite."""
        clean = dict(p.modalities)
        for j, m in enumerate(self.names):
            absent = ~present[:, j]
            if m in clean and not np.isfinite(clean[m][absent]).all():
                clean[m] = np.where(absent[:, None], clean[m].dtype.type(0), clean[m])
        return Parts(p.fused, clean)

    def _fused(self, p: Parts) -> Parts:
        if p.fused is not None or not p.modalities:
            return p
        ordered = {m: p.modalities[m] for m in self.names}
        return Parts(
            array_inputs.fuse(ordered, self.fusion_weights, self.present, joined=self.joined),
            ordered,
        )

    def _labeled(self, given: Any) -> NDArray[Any] | None:
        if given is None:
            return None
        by_id = labeled_ids(given, self.ids)
        at = array_inputs.as_positions(given if by_id is None else by_id, self.n)
        if at is None:
            p = array_inputs.parts(given, "labeled")
            names = self.names
            if p.fused is None and set(p.modalities) != set(names):
                raise UsageError(
                    f"labeled: expected the modalities {names}, or the key 'mm', "
                    f"got {tuple(p.modalities)}"
                )
            found = p.fused
            ordered = {m: p.modalities[m] for m in names if m in p.modalities}
            if len(ordered) == len(names):
                self.labeled_modalities = ordered
            elif len(names) == 1 and found is not None:
                self.labeled_modalities = {names[0]: found}
            if found is None:
                found = array_inputs.fuse(ordered, self.fusion_weights, None, joined=self.joined)
            require_finite(found, "labeled")
            return found if len(found) else None
        if len(at) == 0:
            return None
        self.rows = np.setdiff1d(np.arange(self.n), at).astype(np.int64)
        if self.features.fused is None:
            return None
        self.labeled_present = None if self.present is None else self.present[at]
        found = np.ascontiguousarray(self.features.fused[at])
        if self.features.modalities:
            self.labeled_modalities = {m: f[at] for m, f in self.features.modalities.items()}
        elif len(self.names) == 1:
            self.labeled_modalities = {self.names[0]: found}
        return found

    def _labels(self, given: Any) -> NDArray[np.int64] | None:
        if given is None:
            return None
        a = _array(given, "labels")
        size = self.n - len(self.rows) if self.rows is not None else None
        if size is None and self.labeled_features is not None:
            size = len(self.labeled_features)
        if a.ndim != 1 or a.dtype.kind not in "iu" or len(a) != (size or 0):
            raise ShapeError(
                f"labels: expected {size or 0} integers, one a labeled sample, "
                f"got dtype {a.dtype} and shape {a.shape}"
                + (
                    ""
                    if a.dtype.kind in "iu"
                    else "; give the numbers of the classes, with .astype(int)"
                )
            )
        return a.astype(np.int64) if size else None

    def numbers(self, given: Any, name: str) -> NDArray[np.float64] | None:
        """One number per modality as float64 [M]; None stays None.

        Parameters
        ----------
        given : array-like [M], or mapping or series by modality, or None
            Numbers without names are in the order of :attr:`names`.
        name : str
            For messages.

        Raises
        ------
        UsageError
            If it contains anything but numbers, or has other names.
        """
        return None if given is None else _by_name(given, self.names, name, evidential.numbers)

    def name(self, row: int) -> str:
        """The name of the sample in ``row`` of the caller's arrays, for messages."""
        return str(row) if self.ids is None else id_texts(self.ids[row : row + 1])[0]

    def row_of(self, row: int) -> int:
        """The caller's row of a pool position."""
        return row if self.rows is None else int(self.rows[row])

    def pool(self, strategy: Strategy, head: LinearHead | None) -> PoolOutputs:
        """The unlabeled rows. Arrays that were not given, or need a copy but are not read, are NaN."""
        needs, rows = strategy.needs | strategy.optional, self.rows
        n = self.n if rows is None else len(rows)

        def taken(a: NDArray[Any] | None, wanted: bool) -> NDArray[Any] | None:
            if a is None or rows is None:
                return a
            return a[rows] if wanted else None

        c = next((a.shape[1] for a in self.logits.arrays()), 0)
        if c == 0 and self.dropout is not None:
            c = self.dropout.shape[2]
        d = 0 if head is None else head.weight.shape[1]

        # NaN that takes no memory: it has the right shape, and a strategy that reads it raises.
        def nothing(p: Parts, width: int) -> NDArray[Any]:
            given = width if p.fused is None else p.fused.shape[1]
            return np.broadcast_to(np.float32(np.nan), (n, given))

        alone = len(self.names) == 1

        def spread(p: Parts, kind: str, absent: NDArray[Any]) -> tuple[Any, dict[str, Any]]:
            wanted = kind in needs, f"modality_{kind}" in needs
            if kind == "features" and self.present is not None:  # needed to complete the fused ones
                wanted = wanted[0], any(wanted)
            fused = taken(p.fused, any(wanted) if alone else wanted[0])
            own = {m: fused if alone else taken(p.modalities.get(m), wanted[1]) for m in self.names}
            by_name = {m: absent if a is None else a for m, a in own.items()}
            return (absent if fused is None else fused), by_name

        fused_features, features = spread(self.features, "features", nothing(self.features, d))
        fused_logits, logits = spread(self.logits, "logits", nothing(self.logits, c))
        dropout = self.dropout
        if dropout is not None and rows is not None:
            dropout = dropout[:, rows] if "dropout" in needs else None
        ids: Any = np.arange(self.n) if self.ids is None else self.ids
        ids = ids if rows is None else ids[rows]
        return PoolOutputs(
            ids=ids if ids.dtype.kind == "U" else np.array(id_texts(ids), dtype=np.str_),
            features=features,
            logits=logits,
            fused_features=fused_features,
            fused_logits=fused_logits,
            present=self.present if self.present is None or rows is None else self.present[rows],
            dropout_logits=dropout,
        )


def _array(given: Any, name: str) -> NDArray[Any]:
    return to_host(given, name) if is_array(given) else np.asarray(given)


def _by_name(
    given: Any, names: tuple[str, ...], name: str, read: Callable[[Any, str], NDArray[Any]]
) -> NDArray[Any]:
    """An array whose last axis is over the modalities, in the order of ``names``.

    A mapping is read by its keys, and a series or table by the names of its entries or columns if they
    are names of modalities. Anything else is in that order already.
    """
    if isinstance(given, Mapping):
        found = [read(value, f"{name}[{key!r}]") for key, value in given.items()]
        a, labels = np.stack(found, axis=-1) if found else np.empty(0), list(given)
    else:
        a, labels = read(given, name), _labels(given)
        if not set(labels) & set(names):
            return a
    if sorted(map(str, labels)) != sorted(names):
        raise UsageError(
            f"{name}: expected one entry for each of the modalities {names}, got entries for {labels}"
        )
    return a[..., [labels.index(m) for m in names]]


def _labels(given: Any) -> list[Any]:
    """The names of a pandas series' entries, or of the columns of a table of any library."""
    for attribute in ("column_names", "columns", "index"):
        labels = getattr(given, attribute, None)
        if labels is not None and not callable(labels):
            return list(labels)
    return []
