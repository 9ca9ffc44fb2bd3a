"""The parts of a run that are exported: what the network needs, and nothing about machines or people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.config import EncoderConfig, RunConfig, identity
from rlmba.errors import UsageError
from rlmba.learner.trained import Trained
from rlmba.project.folder import read_project
from rlmba.runfolder.store import read_run, read_selected, read_split
from rlmba.tables import Columns

__all__ = ["labels_of", "shared_document", "shared_history"]

_PATHS = ("data", "data_root", "initial_ids", "round0")


def shared_document(trained: Trained) -> dict[str, Any]:
    """Return a network's description without paths, options of the data set, and texts for annotators.

    The result still describes the same network, and :meth:`rlmba.learner.Trained.load` reads it.
    """
    config = trained.config
    model = config.model.model_copy(
        update={
            "features_folder": None,
            "encoders": {m: _without_paths(e) for m, e in config.model.encoders.items()},
        }
    )
    options = {k: v for k, v in config.strategy_options.items() if k != "policy_file"}
    defaults = RunConfig()
    shared = config.model_copy(
        update={
            **dict.fromkeys(_PATHS),
            "dataset_options": {},
            "strategy_options": options,
            "model": model,
            "training": config.training.model_copy(update={"spill_folder": None}),
            "reward": defaults.reward,
            "project": defaults.project,
            "device": defaults.device,
            "tracking": [],
        }
    )
    return {
        **trained.document,
        "config": shared.model_dump(mode="json"),
        "identity": identity(shared),
    }


def _without_paths(encoder: EncoderConfig) -> EncoderConfig:
    """An encoder's options, with only the names of weight files: the weights themselves are exported."""
    options = {
        k: Path(v).name if isinstance(v, str) and Path(v).is_absolute() else v
        for k, v in encoder.options.items()
    }
    return EncoderConfig(name=encoder.name, **options)


def shared_history(folder: Path) -> dict[str, Any]:
    """Return how a run's network was trained, as JSON values; empty for a folder that is not a run.

    Returns
    -------
    dict
        ``strategy``, ``fusion``, ``seed``; ``measured_on``, "test" or "validation"; and ``curve``, with
        ``labels``, ``top1``, ``nll`` and ``ece`` of the fused head after each round.
    """
    if not (folder / "run.json").exists():
        return {}
    run = read_run(folder)
    tested = all(record.test is not None for record in run.records)
    curve = []
    for record in run.records:
        found = record.validation if record.test is None or not tested else record.test
        head = found.mm
        curve.append({"labels": record.labels, "top1": head.top1, "nll": head.nll, "ece": head.ece})
    return {
        "strategy": run.config.label or run.config.strategy,
        "fusion": run.config.fusion,
        "seed": run.config.seed,
        "measured_on": "test" if tested else "validation",
        "curve": curve,
    }


def labels_of(folder: Path) -> Columns:
    """Return the labeled samples of a run or project, in the order in which they were labeled.

    Returns
    -------
    mapping of column to list
        ``id``; ``label``, the name of the class; ``round``, the round that added the label, None if no
        round did; ``split``, "train" or "validation". For an experiment, the validation set is part of
        the data set, and its labels are not listed.

    Raises
    ------
    UsageError
        If the folder is not a run.
    RunFolderError
        If the folder is damaged.
    """
    if not (folder / "run.json").exists():
        raise UsageError(
            f"--labels: expected the folder of a run or a project, got {folder}, which has no labels; export "
            "the run itself"
        )
    run = read_run(folder)
    names: Mapping[str, str | None]
    rounds: dict[str, int] = {}
    if run.info.get("project"):
        names = read_project(folder).log.current()
        for record in run.records:
            rounds |= dict.fromkeys(read_selected(folder, record.round).ids, record.round)
    else:
        classes, names = run.info.get("classes", []), {}
        for record in run.records:
            found = read_selected(folder, record.round)
            rounds |= dict.fromkeys(found.ids, record.round)
            names |= {i: classes[y] for i, y in zip(found.ids, found.labels, strict=True)}
    kept = [(i, name) for i, name in names.items() if name is not None]
    validation = set(read_split(folder)["validation"])
    return {
        "id": [i for i, _ in kept],
        "label": [name for _, name in kept],
        "round": [rounds.get(i) for i, _ in kept],
        "split": ["validation" if i in validation else "train" for i, _ in kept],
    }
