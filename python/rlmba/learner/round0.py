"""A round 0 that another run has trained, taken over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba.config import RunConfig, deciding, differing, identity, say_differing
from rlmba.data import MultimodalDataset, Pool
from rlmba.errors import RunFolderError, UsageError
from rlmba.models import MultimodalClassifier
from rlmba.runfolder.store import RunView, read_run, read_split
from rlmba.training import load_model
from rlmba.types import TrainingDiagnostics

__all__ = ["Round0", "one_convex", "round0_identity"]

# What begins to matter after round 0 only.
_LATER = (
    "strategy",
    "strategy_options",
    "rounds",
    "batch_size",
    "amcb",
    "reward",
    "predictor",
    "adaptive_penalty",
)
_CONVEX = ("amcb", "adaptive", "uniform")


def one_convex(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration's values with the convex fusions as one: they share the network."""
    return {**values, "fusion": "convex"} if values["fusion"] in _CONVEX else values


def round0_identity(config: RunConfig) -> dict[str, Any]:
    """What decides round 0: runs that agree in it train the same model on the same labels.

    Convex fusions are one here: all of them start with uniform weights.
    """
    return one_convex({k: v for k, v in identity(config).items() if k not in _LATER})


@dataclass(frozen=True)
class Round0:
    """A finished run of no rounds whose model another run starts from.

    Parameters
    ----------
    run : RunView
    """

    run: RunView

    @classmethod
    def find(
        cls, folder: Path, config: RunConfig, dataset: MultimodalDataset, pool: Pool
    ) -> Round0:
        """Read a run folder and see that a run of ``config`` (resolved) would train the same round 0.

        Raises
        ------
        RunFolderError
            If the folder is no run, or its round 0 is not there or no longer there.
        UsageError
            If it was trained by another protocol, on other data, or from other labels.
        """
        run = read_run(folder)
        if not run.records or not _model_file(folder).is_file():
            raise RunFolderError(
                f"round0: {folder} keeps no model of round 0 (only the last round's is kept); make one "
                "with `rlmba run --set rounds=0 --output DIR`"
            )
        if differences := deciding(differing(round0_identity(run.config), round0_identity(config))):
            raise UsageError(
                f"round0: {folder} was trained by another protocol: {say_differing(differences)}; give "
                "one of the same, or leave round0 out"
            )
        if run.info.get("fingerprint") != dataset.fingerprint():
            raise UsageError(
                f"round0: {folder} was trained on other data than {config.dataset!r} holds now "
                "(checksums differ); make it anew"
            )
        split = read_split(folder)
        chosen = {"validation": pool.validation_ids, "initial": pool.initial_ids}
        if any(split[k] != [str(i) for i in ids] for k, ids in chosen.items()):
            raise UsageError(
                f"round0: {folder} started from other samples (split.json differs); make it anew with "
                "this version, or leave round0 out"
            )
        return cls(run)

    def take(self, model: MultimodalClassifier) -> TrainingDiagnostics:
        """Load the weights; returns how their training went.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        """
        load_model(_model_file(self.run.path), model, config=identity(self.run.config))
        return self.run.records[0].training


def _model_file(folder: Path) -> Path:
    return folder / "checkpoints" / "round_000" / "model.safetensors"
