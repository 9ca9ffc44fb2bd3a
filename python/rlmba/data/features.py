"""The data set ``features``: read and write a ``.npz`` file of precomputed or raw arrays."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import KINDS, Kind, MultimodalDataset
from rlmba.data.memory import InMemoryDataset
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.reading.arrays import read_npz
from rlmba.storage import atomic_write_bytes

__all__ = ["guess_kind", "load_features", "read_alike", "save_features", "split_of"]

_RESERVED = ("y", "ids", "classes", "present")
_LONG_WAVEFORM = 1000
_DEFAULT_SAMPLE_RATE = 8000.0


def guess_kind(name: str, array: NDArray[Any]) -> Kind:
    """Guess the kind of modality of an array [N, ...] from its shape, dtype and name.

    ========================  ==================  ======================================
    shape                     dtype               kind
    ========================  ==================  ======================================
    [N, D]                    float, 8-bit        features
    [N, T], T >= 1000         16-bit integer      waveform
    [N, D], shorter           16-bit integer      features
    [N, T]                    32 or 64-bit int    tokens
    [N, H, W]                 uint8               image
    [N, T, F]                 other               sequence, or spectrogram if the name
                                                  contains "spec" or "mel"
    four axes                 any                 image ([N, H, W, C] if the last axis
                                                  is 1, 3 or 4, else [N, C, H, W])
    ========================  ==================  ======================================

    Raises
    ------
    DataError
        If the array has another number of axes.
    """
    if array.ndim == 2:
        size = array.dtype.itemsize if array.dtype.kind in "iu" else 0
        if size == 2 and array.shape[1] >= _LONG_WAVEFORM:
            return "waveform"
        return "tokens" if size >= 4 else "features"
    if array.ndim == 3:
        if array.dtype == np.uint8:
            return "image"
        return "spectrogram" if "spec" in name.lower() or "mel" in name.lower() else "sequence"
    if array.ndim == 4:
        return "image"
    raise DataError(
        f"modality {name!r}: expected an array of 2 to 4 axes, got shape {array.shape}; "
        "flatten it, or leave it out with the option modalities"
    )


def load_features(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    split: str = "split",
    kinds: Mapping[str, str] | None = None,
    sample_rate: float = _DEFAULT_SAMPLE_RATE,
    constants: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> InMemoryDataset:
    """Your own arrays: a .npz file with one array per modality, labels and a split.

    Modality arrays are [N, ...], ``y`` is [N] and ``split`` is [N]. Nothing is unpickled.

    Parameters
    ----------
    path : path
        The file. ``y`` holds integers from 0, or -1 if the class is unknown; ``split`` is 0 for training
        samples and 1 for test samples. ``ids`` [N] and ``classes`` [C] are optional. The default ids are
        the file's stem and the row, such as ``wiki-000017``. ``present`` [N, M] (0 or 1) is optional and
        has one column per modality array, in the order of the file.
    modalities : sequence of str, optional
        Arrays to use, in this order. The default is all arrays with two or more axes, in the order of
        the file; arrays with one axis are ignored. List them if a file holds a modality twice, such as
        raw and preprocessed.
    split : str
        The name of the array that holds the split.
    kinds : mapping of modality to kind, optional
        Overrides :func:`guess_kind`.
    sample_rate : float
        Samples per second of waveforms.
    constants : mapping of modality to mapping, optional
        Lists ``mean`` and ``deviation`` of each channel of images, videos, spectrograms and sequences, to
        standardize them with. The default are those of the training samples. A project keeps those it
        started with, so that features of earlier samples stay the same when samples are added.
    reading : mapping, optional
        The ``reading()`` of another such data set. The samples are then read as that data set's were, for
        a network that was trained on it. Only arrays of its modalities are read, and samples lack a
        modality without an array. ``y``, ``split`` and ``classes`` are not read, and no other option has
        an effect.

    Raises
    ------
    DataError
        If the file or its content cannot be used.
    UsageError
        If an option names something that is not in the file.
    """
    path = Path(path)
    arrays = read_npz(path)
    if reading is not None:
        return read_alike(path, arrays, reading)
    for name, meaning in (("y", "labels"), (split, "split")):
        if name not in arrays:
            raise (DataError if name in ("y", "split") else UsageError)(
                f"{path}: expected an array {name!r} ({meaning}), got {sorted(arrays)}; "
                + (
                    "add it to the file"
                    if name == "y"
                    else "add it, or name one with the option split"
                )
            )
    y = arrays["y"]
    n = len(y) if y.ndim else 0
    every = _modality_names(arrays)
    chosen = _chosen(path, modalities, every)
    _check_types(path, arrays, ("y", split, "present", *chosen))
    unknown = sorted(set(kinds or {}) - set(chosen))
    if unknown:
        raise UsageError(f"option kinds: expected modalities of {chosen}, got {unknown}")
    with _naming(path):
        guessed = {
            m: cast("Kind", (kinds or {}).get(m) or guess_kind(m, arrays[m])) for m in chosen
        }
    for m, kind in guessed.items():
        if kind not in KINDS:
            raise UsageError(f"option kinds: expected for {m!r} one of {list(KINDS)}, got {kind!r}")
    ids = arrays.get("ids")
    unknown = y == -1
    if unknown.shape == arrays[split].shape and (lost := unknown & (arrays[split] == 1)).any():
        raise DataError(
            f"{path}: expected a label for every test sample, got -1 in row {int(np.argmax(lost))}; drop the "
            "row, or make it a training sample"
        )
    strange = sorted(set(constants or {}) - set(chosen))
    if strange:
        raise UsageError(f"option constants: expected modalities of {chosen}, got {strange}")
    with _naming(path):
        found = InMemoryDataset(
            path.stem,
            {m: arrays[m] for m in chosen},
            kinds=guessed,
            labels=y,
            classes=_classes(path, arrays.get("classes"), y),
            ids=[f"{path.stem}-{i:06d}" for i in range(n)] if ids is None else ids,
            split=arrays[split],
            present=_present(path, arrays.get("present"), every, chosen),
            sample_rates={m: float(sample_rate) for m, k in guessed.items() if k == "waveform"},
            partial=bool(unknown.any()),
            constants=constants,
        )
    if found.constants:
        found.settled = {"constants": found.constants}
    return found


def save_features(
    path: str | Path,
    dataset: MultimodalDataset,
    features: Mapping[str, NDArray[Any]],
    present: NDArray[np.bool_] | None = None,
) -> None:
    """Write features of a data set's samples to a file for :func:`load_features`.

    Ids, labels, classes and split are those of the data set. An existing file is replaced atomically.

    Parameters
    ----------
    path : path
        A ``.npz`` file; its folder must exist.
    dataset : MultimodalDataset
        The data set of the samples.
    features : mapping of modality to float array [n, D]
        By dataset position.
    present : bool array [n, M] or None
        Which modalities each sample has, columns in the order of ``features``; None: all.

    Raises
    ------
    ShapeError
        If an array has another number of rows, or its name is reserved in such a file.
    StorageError
        If the file cannot be written.
    """
    for name, array in features.items():
        if array.ndim != 2 or len(array) != len(dataset):
            raise ShapeError(
                f"features of {name!r}: expected [{len(dataset)}, D], got shape {array.shape}"
            )
        if name in _RESERVED or name.startswith("split"):
            raise ShapeError(
                f"modality {name!r}: this name is reserved in a file of features; rename the modality"
            )
    arrays = {
        **features,
        "y": dataset.labels,
        "split": split_of(dataset),
        "ids": dataset.ids,
        "classes": np.array(dataset.classes, dtype=np.str_),
    }
    if present is not None:
        arrays["present"] = present
    buffer = io.BytesIO()
    np.savez(buffer, **cast("Any", arrays))
    atomic_write_bytes(path, buffer.getvalue())


def split_of(dataset: MultimodalDataset) -> NDArray[np.uint8]:
    """The split of a data set's samples by position: 0 for training, 1 for test."""
    split = np.zeros(len(dataset), np.uint8)
    split[dataset.test_positions] = 1
    return split


def read_alike(
    path: Path, arrays: Mapping[str, NDArray[Any]], reading: Mapping[str, Any]
) -> InMemoryDataset:
    """Return samples for a network that was trained on other data; see :func:`load_features`.

    Parameters
    ----------
    path : path
        The file of the arrays, or another name for them. It is used in messages and ids.
    arrays : mapping of str to array
        Modalities [n, ...]; optionally ``ids`` [n] and ``present`` [n, M].
    reading : mapping
        The result of ``reading()`` of the training data.

    Raises
    ------
    DataError
        If the arrays do not have the form that the network needs.
    UsageError
        If ``reading`` is damaged.
    """
    wanted = _described(reading)
    there = [m for m in wanted if m in arrays]
    if not there:
        raise DataError(f"{path}: expected an array of {list(wanted)}, got {list(arrays)}")
    lengths = {m: len(arrays[m]) if arrays[m].ndim else 0 for m in there}
    n = lengths[there[0]]
    if len(set(lengths.values())) > 1 or n == 0:
        raise DataError(f"{path}: expected arrays with one row per sample, got {lengths} rows")
    _check_types(path, arrays, ("present", *there))
    given = _present(path, arrays.get("present"), _modality_names(arrays), there)
    present = np.zeros((n, len(wanted)), np.bool_)
    columns = [list(wanted).index(m) for m in there]
    present[:, columns] = True if given is None else given.astype(np.bool_)
    missing = {
        m: np.zeros((n, *w["shape"]), np.int64) for m, w in wanted.items() if m not in arrays
    }
    ids = arrays.get("ids")
    rates = {m: w["sample_rate"] for m, w in wanted.items() if w["sample_rate"] is not None}
    with _naming(path):
        return InMemoryDataset(
            path.stem,
            {m: arrays[m] if m in arrays else missing[m] for m in wanted},
            kinds={m: w["kind"] for m, w in wanted.items()},
            labels=np.full(n, -1),
            classes=(),
            ids=[f"{path.stem}-{i:06d}" for i in range(n)] if ids is None else ids,
            split=np.zeros(n, np.uint8),
            present=None if present.all() else present,
            sample_rates=rates,
            partial=True,
            reading=reading,
        )


def _described(reading: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description of each modality's array in a ``reading()``."""
    try:
        wanted = dict(reading["arrays"])
        for described in wanted.values():
            keys = {"kind", "shape", "sample_rate"}
            if not keys <= set(described) or described["kind"] not in KINDS:
                raise ValueError(f"got {described!r:.60}")
            tuple(map(int, described["shape"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"option reading: expected the reading() of a data set of arrays, got a mapping that lacks or "
            f"damages a part ({error!r}); take it from that data set"
        ) from error
    return wanted


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A block whose errors are prefixed with the file's name."""
    try:
        yield
    except (DataError, UsageError) as error:
        error.args = (f"{path}: {error}",)
        raise


def _check_types(path: Path, arrays: Mapping[str, NDArray[Any]], names: Collection[str]) -> None:
    """Raise if an array does not hold numbers, but for example dates or records."""
    for name in names:
        if name in arrays and arrays[name].dtype.kind not in "biuf":
            raise DataError(
                f"{path}: expected numbers in the array {name!r}, got {arrays[name].dtype}; convert them"
            )


def _modality_names(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """The arrays that may be modalities; arrays of another length are included and refused later."""
    return [
        name
        for name, a in arrays.items()
        if name not in _RESERVED and not name.startswith("split") and a.ndim >= 2
    ]


def _chosen(path: Path, modalities: Sequence[str] | None, every: list[str]) -> list[str]:
    if modalities is None:
        if not every:
            raise DataError(f"{path}: expected at least one modality array [N, ...], got none")
        return every
    if isinstance(modalities, str) or not all(isinstance(m, str) for m in modalities):
        raise UsageError(f"option modalities: expected a list of names, got {modalities!r}")
    unknown = [m for m in modalities if m not in every]
    if unknown or not modalities or len(set(modalities)) != len(modalities):
        raise UsageError(
            f"option modalities: expected distinct names of {every} in {path.name}, "
            f"got {list(modalities)}"
        )
    return list(modalities)


def _classes(path: Path, classes: NDArray[Any] | None, y: NDArray[Any]) -> list[str]:
    """Class names; without an array of names, every class from 0 to the largest label must occur."""
    if classes is not None:
        if classes.ndim != 1 or classes.dtype.kind not in "USiu":
            raise DataError(
                f"{path}: expected classes as a 1-D array of names, got {classes.dtype}"
            )
        return [c.decode() if isinstance(c, bytes) else str(c) for c in classes.tolist()]
    if y.dtype.kind not in "iu" or y.size == 0:
        raise DataError(f"{path}: expected y as integers [N], got dtype {y.dtype}, shape {y.shape}")
    if (y < -1).any():
        at = int(np.argmax(y < -1))
        raise DataError(
            f"{path}: expected labels y from 0 up, or -1 where unknown, got {y[at]} in row {at}"
        )
    values = np.unique(y[y >= 0])
    gaps = np.flatnonzero(values != np.arange(len(values)))
    if len(gaps):
        raise DataError(
            f"{path}: labels y out of range: expected 0 to C-1 with every class present, got "
            f"{values[-1]} for {len(values)} classes, and class {int(gaps[0])} never occurs; "
            "renumber y, or add an array classes with the name of each class"
        )
    return [str(c) for c in range(len(values))]


def _present(
    path: Path, present: NDArray[Any] | None, every: list[str], chosen: list[str]
) -> NDArray[Any] | None:
    if present is None:
        return None
    if present.ndim != 2 or present.shape[1] != len(every):
        raise DataError(
            f"{path}: expected present [N, {len(every)}], with one column for each of {every}, "
            f"got shape {present.shape}"
        )
    return present[:, [every.index(m) for m in chosen]]
