"""Predictions of a run's trained network for new samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data import MultimodalDataset, load_dataset
from rlmba.errors import DataError, UsageError
from rlmba.learner.trained import Trained
from rlmba.method.efda import difficulty, sample_weights
from rlmba.project.network_outputs import NetworkOutputs, allowed_features_folder
from rlmba.tables import Columns, check_target, write_table
from rlmba.training import head_log_probs
from rlmba.types import MULTIMODAL, PoolOutputs

__all__ = ["Summary", "describe_samples", "predict_file", "predictions", "read_new"]

_TEXTS = ("id", "class", "unreadable")

Progress = Callable[[int, int], None]


@dataclass
class Summary:
    """Summary of the file that :func:`predict_file` wrote.

    Attributes
    ----------
    path : path
    classes : int
        Number of classes of the network.
    samples : int
    by_class : dict of class to int
        Number of samples by predicted class.
    unread : list of str
        Ids of samples without a prediction, because no modality could be read.
    partly : int
        Number of samples predicted without a modality that could not be read.
    """

    path: Path
    classes: int = 0
    samples: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    partly: int = 0

    def add(self, columns: Columns) -> None:
        """Count a chunk of rows."""
        self.samples += len(columns["id"])
        for sample, name, note in zip(
            columns["id"], columns["class"], columns["unreadable"], strict=True
        ):
            if name is None:
                self.unread.append(sample)
            else:
                self.by_class[name] = self.by_class.get(name, 0) + 1
                self.partly += note is not None

    def lines(self) -> list[str]:
        """Summary for the terminal."""
        most = sorted(self.by_class.items(), key=lambda item: -item[1])
        more = f", and {len(most) - 10} more classes" if len(most) > 10 else ""
        lines = [
            f"{self.path}: {self.samples:,} samples",
            ", ".join(f"{name} {count:,}" for name, count in most[:10]) + more,
        ]
        if len(self.by_class) == 1 and self.classes > 1 and self.samples - len(self.unread) > 1:
            lines.append(
                f"every sample got the same one of {self.classes} classes; unless all samples are of that "
                "class, the network has not learned to tell the classes apart: label more samples"
            )
        if self.unread:
            some = ", ".join(self.unread[:5]) + (", ..." if len(self.unread) > 5 else "")
            lines.append(
                f"{len(self.unread):,} have no class, because no modality could be read: {some}"
            )
        if self.partly:
            lines.append(
                f"{self.partly:,} were predicted without a modality that could not be read"
            )
        return [line for line in lines if line]


def predict_file(
    folder: Path,
    out: Path,
    *,
    manifest: Path | None = None,
    data: Path | None = None,
    every_class: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Write predictions for new samples, one row per sample, in the order of the samples.

    Parameters
    ----------
    folder : path
        A run folder, or one that :func:`rlmba.project.export.export` wrote.
    out : path
        ``.csv``, ``.jsonl`` or ``.parquet``; written atomically.
    manifest, data : path
        Exactly one of them: the new samples as a manifest, or as a ``.npz`` for a run on arrays.
    every_class : bool
        Also write the probability of each class.
    overwrite : bool
        Replace an existing file at ``out``.
    device : str or None
        "auto", "cpu" or a torch device; None: the run's own setting.
    batch_size : int or None
        Samples per forward pass; None: the run's own setting.
    progress : callable or None
        Called with (samples done, total samples).

    Returns
    -------
    Summary

    Raises
    ------
    RunFolderError
        If the network cannot be loaded; see :meth:`rlmba.learner.Trained.load`.
    UsageError
        If an argument is invalid; raised before any sample is read.
    DataError
        If the new samples cannot be used.
    StorageError
        If the file cannot be written.
    """
    check_target(out, overwrite=overwrite)
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size: expected an integer >= 1, got {batch_size}")
    trained = Trained.load(folder, without_frozen=True)
    dataset = read_new(trained, manifest=manifest, data=data)
    summary = Summary(out, len(trained.classes))

    def counted() -> Iterator[Columns]:
        for columns in predictions(
            trained,
            dataset,
            every_class=every_class,
            device=device,
            batch_size=batch_size,
            features_folder=allowed_features_folder(trained.config, folder),
            progress=progress,
        ):
            summary.add(columns)
            yield columns

    columns = 5 + len(trained.modalities) + every_class * len(trained.classes)
    write_table(out, counted(), guard=True, texts=_TEXTS, size=12 * len(dataset) * columns)
    return summary


def read_new(
    trained: Trained, *, manifest: Path | None = None, data: Path | None = None
) -> MultimodalDataset:
    """Read new samples in the same way as those of the run.

    Raises
    ------
    UsageError
        If neither or both are given, or the run's data set reads the other kind or neither.
    DataError
        If the samples cannot be read, or do not have the network's modalities.
    """
    if (manifest is None) == (data is None):
        raise UsageError("expected --manifest FILE or, for a run on arrays, --data FILE.npz")
    if not trained.reading:
        raise UsageError(
            f"the run's data set {trained.dataset!r} does not say how other files are read; expected a run "
            "on a manifest or on arrays (`features`)"
        )
    arrays = "arrays" in trained.reading
    if arrays and data is None:
        raise UsageError(
            f"the run was on arrays ({trained.dataset!r}); give new ones with --data FILE.npz"
        )
    if not arrays and manifest is None:
        raise UsageError("the run was on a manifest; give a new one with --manifest FILE")
    dataset = load_dataset(
        "features" if arrays else "manifest",
        data=data or manifest,
        options={"reading": trained.reading},
    )
    wanted = [(m.name, m.kind, m.shape, m.dtype) for m in trained.modalities]
    got = [(m.name, m.kind, m.shape, m.dtype) for m in dataset.modalities]
    if wanted != got:
        raise DataError(
            f"{data or manifest}: expected the modalities of the network, {wanted}, got {got}; give samples "
            "with these modalities"
        )
    return dataset


def predictions(
    trained: Trained,
    dataset: MultimodalDataset,
    *,
    every_class: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    features_folder: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Columns]:
    """Predictions for all samples of a data set, in chunks of rows; see :func:`describe_samples`.

    Rows of a manifest of which nothing could be read come last. Except for the data set itself,
    memory does not grow with the number of samples; see :class:`NetworkOutputs`.

    Parameters
    ----------
    trained : Trained
    dataset : MultimodalDataset
        From :func:`read_new`.
    every_class : bool
        See :func:`describe_samples`.
    device, batch_size
        See :func:`predict_file`.
    features_folder : path or None
        Folder of the stored features; None: the user's cache folder.
    progress : callable or None
        Called with (samples done, total samples).

    Raises
    ------
    UsageError
        If the device cannot be used.
    WorkerError
        If a process that loads data dies.
    """
    every = np.arange(len(dataset), dtype=np.int64)
    names: list[str] = []
    with NetworkOutputs(
        trained,
        dataset,
        device=device,
        batch_size=batch_size,
        features_folder=features_folder,
    ) as network:
        for start in range(0, len(every), network.step):
            positions = every[start : start + network.step]
            left = len(every) - start - len(positions)

            def count(done: int, total: int, left: int = left) -> None:
                if progress is not None:
                    progress(len(every) - left - total + done, len(every))

            outputs = network.of(positions, count)
            listed = None if dataset.present is None else dataset.present[positions]
            rows = describe_samples(trained, outputs, listed, every_class=every_class)
            names = list(rows)
            yield rows
    left_out: Mapping[str, str] = getattr(dataset, "left_out", {})
    if left_out:
        empty = dict.fromkeys(names, [None] * len(left_out))
        yield {**empty, "id": list(left_out), "unreadable": list(left_out.values())}


def describe_samples(
    trained: Trained,
    outputs: PoolOutputs,
    listed: NDArray[np.bool_] | None = None,
    *,
    every_class: bool = False,
) -> Columns:
    """Describe a network's outputs, one row per sample.

    Parameters
    ----------
    trained : Trained
    outputs : PoolOutputs
        The network's outputs for N samples.
    listed : bool array [N, M] or None
        Modalities that the samples should have; ``outputs.present`` are those that could be read.
        None means all.
    every_class : bool
        Add a column with the probability of each class.

    Returns
    -------
    mapping of column to list
        ``id``; ``class``, the most probable one (the first of tied ones); ``probability`` of that
        class, by the run's predictor with the temperature of each head; ``p_<class>``, with sum 1;
        ``difficulty`` U(x), the mean variance of the fused Dirichlet (Eq 3-4) with
        ``trained.weights``; ``weight_<modality>``, the sample's weights with sum 1, 0 for absent
        modalities; ``unreadable``, the modalities that could not be read. Other values are None: a
        sample without any modality has only ``id`` and ``unreadable``.
    """
    log_probs = head_log_probs(
        outputs,
        predictor=trained.config.predictor,
        temperatures=trained.head_temperatures,
    )[MULTIMODAL]
    probabilities = np.exp(log_probs)
    best = log_probs.argmax(axis=1)
    n, m = len(outputs), len(trained.modalities)
    there = np.ones((n, m), np.bool_) if outputs.present is None else outputs.present
    some: NDArray[np.bool_] = np.asarray(there.any(axis=1))
    shares = sample_weights(trained.weights, there)
    hard = np.zeros(n)  # samples without any modality keep 0, which becomes None below
    hard[some] = difficulty(
        outputs if some.all() else outputs.take(np.flatnonzero(some)),
        trained.weights,
        trained.temperatures,
    ).fused

    def numbers(values: NDArray[Any]) -> list[float | None]:
        return [v if ok else None for v, ok in zip(values.tolist(), some, strict=True)]

    names = [trained.classes[i] for i in best.tolist()]
    columns: dict[str, list[Any]] = {
        "id": [str(i) for i in outputs.ids],
        "class": [name if ok else None for name, ok in zip(names, some, strict=True)],
        "probability": numbers(probabilities[np.arange(n), best]),
    }
    if every_class:
        for c, name in enumerate(trained.classes):
            columns[f"p_{name}"] = numbers(probabilities[:, c])
    columns["difficulty"] = numbers(hard)
    for column, modality in enumerate(trained.modalities):
        columns[f"weight_{modality.name}"] = numbers(shares[:, column])
    columns["unreadable"] = _notes(trained, there, listed)
    return columns


def _notes(
    trained: Trained, there: NDArray[np.bool_], listed: NDArray[np.bool_] | None
) -> list[str | None]:
    """The modalities of each sample that could not be read, as text; None if all could."""
    said = np.ones_like(there) if listed is None else listed
    lost = said & ~there
    notes: list[str | None] = [None] * len(there)
    for row in np.flatnonzero(lost.any(axis=1) | ~there.any(axis=1)).tolist():
        gone = [m.name for m, is_lost in zip(trained.modalities, lost[row], strict=True) if is_lost]
        notes[row] = ", ".join(gone) if gone else "no modality"
    return notes
