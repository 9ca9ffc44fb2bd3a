"""Create a project: read the data, draw the validation set, write the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rlmba
from rlmba import annotators, trust
from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.data.media.kept import decoded_bytes
from rlmba.errors import DataError, UsageError
from rlmba.learner.labels import class_names, drawn_validation
from rlmba.learner.query import (
    batch_size,
    initial_size,
    missing_validation,
    validation_size,
)
from rlmba.learner.settings import PREFERRED, environment, load_source, strategy_options
from rlmba.markup import command
from rlmba.progress import announce
from rlmba.project.folder import DECODED, log_own_labels, most_decoded, written_by
from rlmba.runfolder.labels import LabelLog
from rlmba.runfolder.store import RunStore
from rlmba.tracking import require_trackers

__all__ = ["Started", "overrides", "start"]

_PATHS = frozenset({"document_root", "export", "key_file", "path", "truth"})
"""Options of annotators that are paths."""


@dataclass(frozen=True)
class Started:
    """A new project: its folder, and one line per finding or decision."""

    path: Path
    lines: tuple[str, ...]


def overrides(
    *,
    manifest: Path | None = None,
    huggingface: str | None = None,
    classes: Sequence[str] | None = None,
    annotator: str | None = None,
    annotator_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Settings of a new project by key, from the options of `rlmba init`.

    Parameters
    ----------
    manifest, huggingface
        The source of the samples; exactly one of the two.
    classes : sequence of str or None
        Names of the classes; None: those of the labels.
    annotator, annotator_options
        The annotator and its options.

    Raises
    ------
    UsageError
        If there is not exactly one source of samples, or the classes are not two or more distinct names.
    """
    if (manifest is None) == (huggingface is None):
        raise UsageError(
            f"expected --manifest or --huggingface, got {'neither' if manifest is None else 'both'}"
        )
    if classes is not None and (len(set(classes)) < 2 or len(set(classes)) != len(classes)):
        raise UsageError(
            f"--classes: expected two or more distinct names, comma-separated, got {list(classes)}"
        )
    out: dict[str, Any] = dict(PREFERRED)
    if manifest is not None:
        out |= {"dataset": "manifest", "data": manifest}
    else:
        out["dataset"] = "huggingface"
        folder = Path(str(huggingface))
        out |= {"data_root": folder} if folder.is_dir() else {"dataset_options.name": huggingface}
    if classes is not None:
        out["dataset_options.classes"] = list(classes)
    if annotator is not None:
        out["project.annotator"] = annotator
    if annotator_options:
        # Paths on the command line are relative to the working directory, not to the project's folder.
        out["project.annotator_options"] = {
            key: str(Path(value).resolve()) if key in _PATHS and isinstance(value, str) else value
            for key, value in annotator_options.items()
        }
    return out


def start(path: Path, config: RunConfig) -> Started:
    """Check the data and create a project's folder.

    Parameters
    ----------
    path : path
        A new or empty folder.
    config : RunConfig
        Its data set provides the samples. Labels in the data set are used.

    Raises
    ------
    UsageError
        If the folder is not empty, or an option of data set, strategy or annotator is invalid.
    DataError
        If the data cannot be used.
    StorageError
        If the folder, or the permissions of its annotator, cannot be written.
    """
    if (path / "run.json").exists():
        raise UsageError(
            f"{path} already holds a project or a run; see `{command('status', path)}`, or give another "
            "folder for a new project"
        )
    who = config.project
    annotators.create(who.annotator, path, who.annotator_options)
    truth = who.annotator_options.get("truth")
    if who.annotator == "oracle" and not (path / str(truth)).is_file():
        raise UsageError(
            f"annotator 'oracle': truth: expected a table of labels, but there is no file {truth}"
        )
    require_trackers(config.tracking)
    chosen = strategy_options(config)
    source = load_source(config)
    _check_encoders(config, source)
    labeled = source.train_positions[source.labels[source.train_positions] >= 0]
    if len(source.train_positions) < 4:
        raise DataError(
            f"expected four samples or more in the pool, got {len(source.train_positions)}; add samples"
        )
    validation = drawn_validation(
        source,
        wanted=validation_size(config, len(source.classes)),
        fraction=config.validation_fraction,
        seed=config.seed,
    )
    initial = np.setdiff1d(labeled, validation, assume_unique=True)
    resolved = config.model_copy(
        update={
            "strategy_options": chosen,
            "dataset_options": {**source.settled, **config.dataset_options},
            "data": config.data and config.data.resolve(),
            "data_root": config.data_root and config.data_root.resolve(),
        }
    )
    info = {
        "rlmba": rlmba.__version__,
        "project": True,
        "dataset": config.dataset,
        "strategy": config.strategy,
        "fusion": config.fusion,
        "seed": config.seed,
    }
    split = {
        "validation": [str(i) for i in source.ids[validation]],
        "initial": [str(i) for i in source.ids[initial]],
    }
    with RunStore.create(
        path, resolved, info=info, environment=environment(), split=split
    ) as store:
        log_own_labels(LabelLog(path / "labels.jsonl"), source)
        # A user who requests an act in the command that creates the folder allows it there.
        own = annotators.acts(who.annotator, path, who.annotator_options)
        if acts := [*own, *written_by(resolved, path)]:
            trust.allow(path, acts)
        lines = [*source.found(), *_decided(source, config, len(initial), len(validation))]
        lines += _kept(path, source, config)
        return Started(store.path, tuple(lines))


def _check_encoders(config: RunConfig, source: MultimodalDataset) -> None:
    """Build the configured encoders once, so that missing weights are an error of `rlmba init`."""
    announce("building encoders")
    for modality in source.modalities:
        if (encoder := config.model.encoders.get(modality.name)) is not None:
            from rlmba.models import build_encoder

            build_encoder(encoder.name, modality, encoder.options)


def _kept(path: Path, source: MultimodalDataset, config: RunConfig) -> list[str]:
    """Where decoded media will be kept and how much, if encoders are trained."""
    size = 0 if config.model.frozen else decoded_bytes(source)
    if not size:
        return []
    kept = min(size, most_decoded(config))
    part = (
        "" if kept == size else f" of {size / 1e6:,.0f}; project.decoded_gigabytes sets the limit"
    )
    return [f"decoded media are kept in {path / DECODED}: about {kept / 1e6:,.0f} MB{part}"]


def _decided(
    source: MultimodalDataset, config: RunConfig, initial: int, validation: int
) -> list[str]:
    """Summary of what the project will do."""
    given = config.dataset_options.get("classes") is not None
    names = list(source.classes) if given else class_names(source)
    n = len(names)
    shown = ", ".join(names[:8]) + (", ..." if n > 8 else "")
    classes = f"classes: {n} ({shown})" if n else "classes: none known yet"
    room = len(source.train_positions) - initial - validation
    lacking = missing_validation(config, n, validation, room)
    if source.validation_positions is not None:
        lacking = int((source.labels[source.validation_positions] < 0).sum())
    cold = max(0, initial_size(config, n) - initial)
    asked = [f"{cold} to start from" if cold else "", f"{lacking} to validate with" * bool(lacking)]
    first = " and ".join(a for a in asked if a)
    start = max(initial, initial_size(config, n))
    batches = (
        f"batches up to {', '.join(map(str, counts[1:]))} labels"
        if (counts := config.counts(n))
        else f"batches of {batch_size(config, n, 1, start)}"
    )
    then = (
        f"then {batches} by {config.strategy} (fusion {config.fusion}, predictor {config.predictor}); "
        f"annotator: {config.project.annotator}"
    )
    return [
        classes + ("" if given else "; new names in labels become classes"),
        f"labels: {initial} to train on, {validation} set aside for validation"
        + (f"; the first batch asks for {first}" if first else ""),
        then,
    ]
