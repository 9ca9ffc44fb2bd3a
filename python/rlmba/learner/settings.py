"""The configuration of a run: given settings, and settings derived from the data."""

from __future__ import annotations

import functools
import itertools
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlmba import kernels, trust
from rlmba.config import RunConfig, load_config
from rlmba.data import MultimodalDataset, Pool, load_dataset
from rlmba.data.initial_ids import read_initial_ids
from rlmba.environment import versions
from rlmba.errors import DataError, UnfitError, UsageError
from rlmba.learner.randomness import stream
from rlmba.learner.sizes import require_sizes, unfit
from rlmba.method.reward import check_kind
from rlmba.plugins import short_name
from rlmba.progress import announce
from rlmba.runfolder.code import code_of
from rlmba.runfolder.store import read_run
from rlmba.strategies import create, options

__all__ = [
    "PREFERRED",
    "configure",
    "default_output",
    "environment",
    "load_fitting",
    "load_source",
    "resolve",
    "source_options",
    "strategy_options",
]

_TABLES = ("manifest", "huggingface")

PREFERRED: Mapping[str, str] = {"strategy": "rlmba-h", "fusion": "adaptive", "predictor": "pooled"}
"""Settings where people label: the best on data sets on which they were not tuned (docs/results.md)."""


def configure(
    overrides: Mapping[str, Any],
    *,
    settings: Sequence[str] = (),
    file: Path | None = None,
    preset: str | None = None,
    resume_from: Path | None = None,
) -> RunConfig:
    """The configuration from its sources; when resuming, the stored one updated by them.

    Parameters
    ----------
    overrides : mapping
        Single keys of RunConfig. Relative paths are relative to the working directory.
    settings : sequence of str
        "KEY=VALUE"; these have the highest precedence.
    file : path or None
        A YAML file; its precedence is below ``settings`` and ``overrides``.
    preset : str or None
        A preset instead of the data set's own; it has the lowest precedence.
    resume_from : path or None
        A run folder. If it contains a run, its configuration replaces defaults and presets.

    Raises
    ------
    UsageError
        If a key or value is invalid.
    RunFolderError
        If ``resume_from`` holds a damaged or foreign run.
    TrustError
        If the stored configuration names code that this user has not allowed for the folder.
    """
    base = None
    if resume_from is not None and file is None and (resume_from / "run.json").exists():
        stored = read_run(resume_from).config
        trust.require(resume_from, code_of(stored))
        if not overrides and not settings and preset is None:
            return stored
        base = str(resume_from / "config.yaml"), stored.model_dump(mode="json")
    return load_config(file=file, overrides=overrides, settings=settings, preset=preset, base=base)


def default_output(config: RunConfig, *, resume: bool = False) -> Path:
    """`runs/<dataset>-<strategy>-seed<seed>`; a number is added where that is taken, unless resuming."""
    name = config.data.stem if config.data is not None else short_name(config.dataset)
    base = Path("runs") / f"{name}-{short_name(config.strategy)}-seed{config.seed}"
    if resume or not base.exists():
        return base
    return next(
        p for i in itertools.count(2) if not (p := base.with_name(f"{base.name}-{i}")).exists()
    )


def load_source(config: RunConfig) -> MultimodalDataset:
    """Load the data set that a configuration names, without computing features.

    Raises
    ------
    DataError
        If the data set cannot be used, or is not at the configured path.
    """
    for place, flag in ((config.data, "data"), (config.data_root, "data-root")):
        if place is not None and not place.exists():
            key = flag.replace("-", "_")
            raise DataError(
                f"{place}: no such file or folder; if the data were moved, give the new path with "
                f"--{flag}, or as {key} in a project's config.yaml"
            )
    announce("reading the data")
    return load_dataset(
        config.dataset, data=config.data, data_root=config.data_root, options=source_options(config)
    )


def load_fitting(config: RunConfig) -> MultimodalDataset:
    """Load the data set of an experiment, without computing features, and check that it fits the settings.

    Raises
    ------
    UnfitError
        If classes lack samples, or there are fewer samples than the settings need. The message names
        everything that does not fit; see :func:`rlmba.learner.sizes.require_sizes`.
    DataError
        If the data set cannot be used.
    UsageError
        If samples have no label, or an option is invalid.
    """
    try:
        source = load_source(config)
    except UnfitError as error:
        options = {key.partition(".")[2]: value for key, value in error.settings.items()}
        if not options:
            raise
        changed = config.model_copy(
            update={"dataset_options": {**config.dataset_options, **options}}
        )
        source = load_source(changed)
        raise UnfitError.joined([error, *unfit(changed, source, _given(config, source))]) from error
    require_sizes(config, source, _given(config, source))
    return source


def _given(config: RunConfig, dataset: MultimodalDataset) -> list[str] | None:
    return None if config.initial_ids is None else read_initial_ids(config.initial_ids, dataset)


def source_options(config: RunConfig) -> dict[str, Any]:
    """The options of the data set; a table's texts get the tokenizer of their encoder if none is named."""
    given = dict(config.dataset_options)
    encoder = config.model.encoders.get("text")
    if encoder is None or config.dataset not in _TABLES or given.get("tokenizer"):
        return given
    from rlmba.models.registry import tokenizer_of

    wanted = tokenizer_of(encoder.name, encoder.options)
    return given if wanted is None else {**given, "tokenizer": wanted}


def resolve(config: RunConfig, dataset: MultimodalDataset) -> tuple[RunConfig, Pool]:
    """Fill in the settings that depend on the data, and check the budget before any work is done.

    Returns
    -------
    (RunConfig, Pool)
        The complete configuration, and the pool as it splits it. With ``initial_sampling`` "herding"
        the pool has no labels yet (:func:`rlmba.learner.initial.label_first_batch`).

    Raises
    ------
    UnfitError
        If the initial labels and the batches together exceed the training samples outside the validation
        set; see :func:`rlmba.learner.sizes.require_sizes`.
    UsageError
        If a strategy option is unknown, the strategy needs dropout and the model has none, the reward
        is "siblings", or ``initial_ids`` cannot be read, lacks a class, or does not have
        ``initial_labels`` samples.
    DataError
        If ``initial_ids`` has ids that are not training samples of this data set, or the data
        cannot be split.
    """
    check_kind(config.reward.kind)
    classes = len(dataset.classes)
    chosen = strategy_options(config)
    given = _given(config, dataset)
    require_sizes(config, dataset, given)
    budgets = config.counts(classes)
    first = (budgets[0] if budgets else config.initial_labels) or (
        2 * classes if given is None else len(given)
    )
    pool = Pool.create(
        dataset,
        validation_fraction=config.validation_fraction,
        initial_labels=first,
        initial_sampling=config.initial_sampling,
        rng=stream(config.seed, "split"),
        initial_ids=given,
    )
    resolved = config.model_copy(
        update={
            **_label_counts(config, pool, first, classes),
            "strategy_options": chosen,
            "data": config.data and config.data.resolve(),
            "data_root": config.data_root and config.data_root.resolve(),
            "round0": config.round0 and config.round0.resolve(),
            "initial_ids": config.initial_ids and config.initial_ids.resolve(),
        }
    )
    return resolved, pool


def _label_counts(config: RunConfig, pool: Pool, initial: int, classes: int) -> dict[str, Any]:
    """The keys that say how many labels there are after each round, completed."""
    if budgets := config.counts(classes):
        return {"budgets": list(budgets), "budgets_per_class": None}
    room = len(pool.labeled) + len(pool.unlabeled) - initial
    batch = config.batch_size or 2 * classes
    rounds = min(8, room // batch) if config.rounds is None else config.rounds
    return {"initial_labels": initial, "batch_size": batch, "rounds": rounds}


def strategy_options(config: RunConfig) -> dict[str, Any]:
    """All options of the configured strategy, with defaults filled in.

    Raises
    ------
    UsageError
        If an option is unknown or invalid, or the strategy needs dropout or a fused head and the
        model has none.
    """
    chosen = {**options(config.strategy), **config.strategy_options}
    strategy = create(config.strategy, **chosen)
    heads = config.training.evidential_heads
    if heads is not None and not heads.fused_head and strategy.needs & {"head", "dropout"}:
        raise UsageError(
            f"strategy {config.strategy!r} needs a fused head, but training.evidential.fused_head is "
            "false; set it to true, or choose another strategy"
        )
    if strategy.dropout_passes and config.model.dropout == 0:
        raise UsageError(
            f"strategy {config.strategy!r} compares {strategy.dropout_passes} passes with dropout, but "
            "model.dropout is 0, so all passes would be equal; set model.dropout (the default is 0.1)"
        )
    return chosen


@functools.cache
def _versions() -> dict[str, str]:
    """The versions, looked up once in a process: it may start many runs."""
    return versions()


def environment() -> dict[str, Any]:
    """Versions and hardware that this process uses, for the run folder."""
    return {
        "versions": dict(_versions()),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "kernels": {
            "backends": kernels.backends(),
            "instruction_set": kernels.instruction_set(),
            "threads": kernels.num_threads(),
        },
    }
