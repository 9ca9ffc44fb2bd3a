"""Data sets and settings of a learner from what its user passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig, load_config
from rlmba.data import KINDS, InMemoryDataset, MultimodalDataset
from rlmba.data.features import guess_kind
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.ids import as_ids, id_texts
from rlmba.kernels.common.arrays import is_array, to_host
from rlmba.learner.own_model import SampleList

__all__ = ["Arrays", "arrays_dataset", "sample_list", "settings_of", "with_classes"]

Arrays: TypeAlias = "Mapping[str, Any]"
Labels: TypeAlias = "Sequence[str | int | None] | NDArray[Any] | None"

_BASIS: Mapping[str, Any] = {"fusion": "adaptive", "predictor": "pooled"}
"""What did best on data that it was not tuned on: docs/results.md."""


def settings_of(
    name: str,
    strategy: str,
    seed: int,
    settings: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
) -> RunConfig:
    """The configuration of a learner.

    Raises
    ------
    UsageError
        If a key or a value is wrong.
    """
    given = {} if classes is None else {"dataset_options.classes": [str(c) for c in classes]}
    flags = {**_BASIS, "dataset": name, "strategy": strategy, "seed": seed}
    return load_config(overrides={**flags, **given, **(settings or {})})


def arrays_dataset(
    arrays: Arrays,
    *,
    classes: Sequence[str] | None,
    labels: Labels,
    ids: Sequence[str] | NDArray[Any] | None,
    test: Sequence[bool] | NDArray[Any] | None,
    present: Any,
    kinds: Mapping[str, str] | None,
) -> InMemoryDataset:
    """A data set of arrays; see :meth:`rlmba.ActiveLearner.from_arrays`."""
    if not isinstance(arrays, Mapping) or not arrays:
        raise UsageError(
            "arrays: expected a mapping of modality to array, such as {'image': x1, 'text': x2}, got "
            f"{type(arrays).__name__}"
        )
    found = {str(m): _array(a, f"arrays[{m!r}]") for m, a in arrays.items()}
    lengths = {m: len(a) if a.ndim else 0 for m, a in found.items()}
    n = next(iter(lengths.values()))
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"arrays: expected a row for each sample in all of them, got {lengths}")
    for m, kind in (kinds or {}).items():
        if m not in found or kind not in KINDS:
            raise UsageError(
                f"kinds: expected one of {list(KINDS)} for modalities of {list(found)}, got {kind!r} "
                f"for {m!r}"
            )
    names, numbers = _numbered(labels, classes, n)
    if isinstance(present, Mapping):
        if set(present) != set(found):
            raise UsageError(
                f"present: expected an entry for each of {list(found)}, got {list(present)}"
            )
        present = np.stack([_array(present[m], "present") for m in found], axis=1)
    return InMemoryDataset(
        "arrays",
        found,
        kinds={m: (kinds or {}).get(m) or guess_kind(m, a) for m, a in found.items()},  # type: ignore[misc]
        labels=numbers,
        classes=names,
        ids=_ids(ids, n),
        split=_test(test, numbers, n).astype(np.uint8),
        present=None if present is None else _array(present, "present"),
        partial=True,
    )


def sample_list(
    *,
    n: int | None,
    ids: Sequence[str] | NDArray[Any] | None,
    classes: Sequence[str] | None,
    labels: Labels,
    test: Sequence[bool] | NDArray[Any] | None,
    modalities: Sequence[str] | None,
) -> SampleList:
    """The samples of a user's model; see :meth:`rlmba.ActiveLearner.from_model`."""
    size = n if n is not None else len(ids if ids is not None else ())
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise UsageError(f"n: expected an integer >= 1, got {size!r}")
    if isinstance(modalities, str):
        raise UsageError(f"modalities: expected a list of names, got {modalities!r}")
    names, numbers = _numbered(labels, classes, int(size))
    return SampleList(
        _ids(ids, int(size)),
        classes=names,
        labels=numbers,
        test=_test(test, numbers, int(size)),
        modalities=list(modalities or ["input"]),
    )


def with_classes(dataset: MultimodalDataset, classes: Sequence[str]) -> None:
    """Make ``classes`` the classes of a data set, whose labels keep their names.

    Raises
    ------
    UsageError
        If some label's name is not among them.
    """
    given = check_classes(classes)
    position = {name: c for c, name in enumerate(given)}
    used = np.unique(dataset.labels[dataset.labels >= 0]).tolist()
    if unknown := [dataset.classes[c] for c in used if dataset.classes[c] not in position]:
        raise UsageError(
            f"classes: the data set has labels of {unknown[0]!r}, which is none of {list(given)}"
        )
    table = np.array([*(position.get(name, -1) for name in dataset.classes), -1], dtype=np.int64)
    dataset.classes, dataset.labels = given, table[dataset.labels]


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names as text: two or more, distinct."""
    if isinstance(classes, str):
        raise UsageError(f"classes: expected a list of names, got the text {classes!r}")
    names = tuple(str(c) for c in classes)
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise UsageError(f"classes: expected two distinct names or more, got {list(names)}")
    return names


def _numbered(
    labels: Labels, classes: Sequence[str] | None, n: int
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names, and a position in them for each sample, -1 where it is unknown."""
    given = None if classes is None else check_classes(classes)
    if labels is None:
        return given or (), np.full(n, -1, np.int64)
    said = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(said) != n:
        raise ShapeError(f"labels: expected one for each of the {n} samples, got {len(said)}")
    texts: list[str | None] = []
    for row, label in enumerate(said):
        if label is None or label in (-1, ""):
            texts.append(None)
        elif isinstance(label, str):
            texts.append(label)
        elif isinstance(label, int) and not isinstance(label, bool) and label >= 0:
            if given is not None and label >= len(given):
                raise DataError(
                    f"labels: expected 0 to {len(given) - 1}, or -1 where unknown, got {label} in row {row}"
                )
            texts.append(str(label) if given is None else given[label])
        else:
            raise DataError(
                f"labels: expected class names, class numbers, or None where unknown, got {label!r:.100} in "
                f"row {row}"
            )
    used = {t for t in texts if t is not None}
    names = given if given is not None else _in_order(used)
    if strange := sorted(used - set(names)):
        raise DataError(f"labels: {strange[0]!r} is none of the classes {list(names)}")
    position = {name: c for c, name in enumerate(names)}
    return names, np.array([-1 if t is None else position[t] for t in texts], dtype=np.int64)


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Numbers by value, other names by their letters."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _ids(ids: Sequence[str] | NDArray[Any] | None, n: int) -> NDArray[np.str_]:
    found = np.arange(n) if ids is None else as_ids(ids)
    if len(found) != n:
        raise ShapeError(f"ids: expected one for each of the {n} samples, got {len(found)}")
    return np.array(id_texts(found), dtype=np.str_)


def _test(test: Any, labels: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    if test is None:
        return np.zeros(n, np.bool_)
    mask = _array(test, "test")
    if mask.shape != (n,) or mask.dtype.kind not in "b":
        raise ShapeError(
            f"test: expected a boolean array [{n}], got dtype {mask.dtype} and shape {list(mask.shape)}"
        )
    if (unlabeled := mask & (labels < 0)).any():
        raise DataError(
            f"test: expected labels of all test samples, row {int(np.argmax(unlabeled))} has none; give it "
            "in labels, or leave the sample out of test"
        )
    return mask


def _array(given: Any, name: str) -> NDArray[Any]:
    return to_host(given, name) if is_array(given) else np.asarray(given)
