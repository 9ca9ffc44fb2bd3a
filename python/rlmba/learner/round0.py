"""Start a run from a round 0 that another run has trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba.config import RunConfig, deciding, differing, identity, say_differing
from rlmba.data import MultimodalDataset, Pool
from rlmba.errors import RunFolderError, UsageError
from rlmba.models import MultimodalClassifier
from rlmba.runfolder.store import RunView, checkpoint_folder, read_run, read_split
from rlmba.training import load_model
from rlmba.types import TrainingDiagnostics

__all__ = ["Round0", "merge_convex_fusions", "round0_identity"]

# Settings that have no effect before the first query.
_LATER = (
    "strategy",
    "strategy_options",
    "rounds",
    "batch_size",
    "budgets",
    "amcb",
    "reward",
    "predictor",
    "adaptive_penalty",
)
_CONVEX = ("amcb", "adaptive", "uniform")


def merge_convex_fusions(values: dict[str, Any]) -> dict[str, Any]:
    """Replace each convex fusion in a configuration's values by one name: they share the network."""
    return {**values, "fusion": "convex"} if values["fusion"] in _CONVEX else values


def round0_identity(config: RunConfig) -> dict[str, Any]:
    """The settings that determine round 0: runs with equal ones train the same model on the same labels.

    ``config`` is resolved. All convex fusions count as the same one, since all of them start with uniform
    weights.
    """
    values = {k: v for k, v in identity(config).items() if k not in _LATER}
    return merge_convex_fusions({**values, "initial_labels": config.label_counts[0]})


@dataclass(frozen=True)
class Round0:
    """A finished run of round 0 alone, whose model another run starts from.

    Parameters
    ----------
    run : RunView
    """

    run: RunView

    @classmethod
    def find(
        cls, folder: Path, config: RunConfig, dataset: MultimodalDataset, pool: Pool
    ) -> Round0:
        """Read a run folder and check that ``config`` (resolved) would train the same round 0.

        Raises
        ------
        RunFolderError
            If the folder is not a run folder, or has no model of round 0 (any more).
        UsageError
            If round 0 was trained with another protocol, on other data, or from other labels.
        """
        run = read_run(folder)
        if not run.records or not _model_file(folder).is_file():
            raise RunFolderError(
                f"round0: expected a model of round 0 in {folder}, found none (a run keeps only the model "
                "of its last round); create one with `rlmba run --set rounds=0 --output DIR`"
            )
        if differences := deciding(differing(round0_identity(run.config), round0_identity(config))):
            raise UsageError(
                f"round0: {folder} was trained with another protocol: {say_differing(differences)}; give "
                "a run with the same protocol, or omit round0"
            )
        if run.info.get("fingerprint") != dataset.fingerprint():
            raise UsageError(
                f"round0: {folder} was trained on data that differ from those of {config.dataset!r} now "
                "(checksums differ); train round 0 again"
            )
        split = read_split(folder)
        chosen = {"validation": pool.validation_ids, "initial": pool.initial_ids}
        if any(split[k] != [str(i) for i in ids] for k, ids in chosen.items()):
            raise UsageError(
                f"round0: {folder} started from other samples (split.json differs); train round 0 again "
                "with this version, or omit round0"
            )
        return cls(run)

    def take(self, model: MultimodalClassifier) -> TrainingDiagnostics:
        """Load the weights into ``model`` and return the diagnostics of their training.

        Raises
        ------
        CheckpointError
            If the checkpoint is damaged.
        """
        load_model(_model_file(self.run.path), model, config=identity(self.run.config))
        return self.run.records[0].training


def _model_file(folder: Path) -> Path:
    return checkpoint_folder(folder, 0) / "model.safetensors"
