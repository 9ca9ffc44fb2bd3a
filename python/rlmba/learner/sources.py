"""Data sets and settings of a learner from what its user passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import is_missing
from rlmba.config import RunConfig, load_config
from rlmba.data import KINDS, InMemoryDataset, MultimodalDataset
from rlmba.data.checks import check_ids
from rlmba.data.features import guess_kind
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.ids import not_storable
from rlmba.learner.labels import listed
from rlmba.learner.own_model import SampleList
from rlmba.learner.own_outputs import host_array
from rlmba.learner.settings import PREFERRED
from rlmba.types import MULTIMODAL

__all__ = ["Arrays", "arrays_dataset", "sample_list", "settings_of", "with_classes"]

Arrays: TypeAlias = "Mapping[str, Any]"
Labels: TypeAlias = "Sequence[str | int | None] | NDArray[Any] | None"


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
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(
            f"settings: expected a mapping such as {{'epochs': 5}}, got {settings!r:.100}"
        )
    given = {} if classes is None else {"dataset_options.classes": list(check_classes(classes))}
    (seed,) = listed([seed], "seed")  # NumPy's integers as Python's
    flags = {**PREFERRED, "dataset": name, "strategy": strategy, "seed": seed}
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
    found = {str(m): host_array(a, f"arrays[{m!r}]") for m, a in arrays.items()}
    lengths = {m: len(a) if a.ndim else 0 for m, a in found.items()}
    n = next(iter(lengths.values()))
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"arrays: expected a row for each sample in all of them, got {lengths}")
    if kinds is not None and not isinstance(kinds, Mapping):
        raise UsageError(f"kinds: expected a mapping of modality to kind, got {kinds!r:.100}")
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
        present = np.stack([host_array(present[m], "present") for m in found], axis=1)
    return InMemoryDataset(
        "arrays",
        found,
        kinds={m: (kinds or {}).get(m) or guess_kind(m, a) for m, a in found.items()},  # type: ignore[misc]
        labels=numbers,
        classes=names,
        ids=_ids(ids, n),
        split=_test(test, numbers, n).astype(np.uint8),
        present=None if present is None else host_array(present, "present"),
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
    size = n if n is not None else len(listed(ids, "ids"))
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise UsageError(f"n: expected an integer >= 1, got {size!r}")
    modality_names = [str(m) for m in listed(modalities or ["input"], "modalities")]
    if len(set(modality_names)) < len(modality_names) or {"", MULTIMODAL} & set(modality_names):
        raise UsageError(
            f"modalities: expected distinct names other than '' and {MULTIMODAL!r}, got {modality_names}"
        )
    names, numbers = _numbered(labels, classes, int(size))
    return SampleList(
        _ids(ids, int(size)),
        classes=names,
        labels=numbers,
        test=_test(test, numbers, int(size)),
        modalities=modality_names,
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
    """Class names as text: two or more, distinct; the integers 0 to C-1 stand for themselves.

    Raises
    ------
    UsageError
        If they are anything else. Other integers are ambiguous: an integer label is a position.
    """
    given = listed(classes, "classes")
    names = tuple(str(c) for c in given)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"classes: expected two distinct names or more, got {list(names)}")
    if given != list(range(len(given))) or isinstance(given[0], bool):
        for name in given:
            if not isinstance(name, str) or not_storable(name):
                raise UsageError(
                    f"classes: expected names as text without blanks around them, got {name!r:.100}; an "
                    "integer label is a position in the classes, so other numbers have to be given as "
                    "text, in the labels as well"
                )
    return names


def _numbered(
    labels: Labels, classes: Sequence[str] | None, n: int
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names, and a position in them for each sample, -1 where it is unknown."""
    given = None if classes is None else check_classes(classes)
    if labels is None:
        return given or (), np.full(n, -1, np.int64)
    said = listed(labels, "labels")
    if len(said) != n:
        raise ShapeError(f"labels: expected one for each of the {n} samples, got {len(said)}")
    texts: list[str | None] = []
    for row, label in enumerate(said):
        if is_missing(label) or (isinstance(label, int) and label == -1):
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
    if ids is None:
        return np.arange(n).astype(np.str_)
    found = check_ids(ids if hasattr(ids, "__array__") else listed(ids, "ids"))
    if len(found) != n:
        raise ShapeError(f"ids: expected one for each of the {n} samples, got {len(found)}")
    return found


def _test(test: Any, labels: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    if test is None:
        return np.zeros(n, np.bool_)
    mask = host_array(test, "test")
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
