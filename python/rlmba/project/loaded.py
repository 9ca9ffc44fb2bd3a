"""Load a trained network from a folder or the hub, and predict with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlmba.data.features import read_alike
from rlmba.errors import DataError, UsageError
from rlmba.hub import download, is_hub_name
from rlmba.learner.active_learner import Predictions
from rlmba.learner.trained import EXPORTED, WEIGHTS, Trained
from rlmba.project.predict import predictions, read_new

__all__ = ["LoadedModel", "load"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained network that predicts samples in their stored form, and prepares them itself.

    Parameters
    ----------
    trained : Trained
        The network and its description.
    path : path
        The folder that it was loaded from.
    device : str
        "auto", "cpu" or a torch device.
    """

    trained: Trained
    path: Path
    device: str = "auto"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the columns of the probabilities."""
        return self.trained.classes

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(m.name for m in self.trained.modalities)

    def predict(
        self, samples: Mapping[str, ArrayLike] | str | Path, *, batch_size: int | None = None
    ) -> Predictions:
        """Predict the classes of samples.

        Parameters
        ----------
        samples : mapping of modality to array [n, ...], or path
            For a network that was trained on arrays: arrays with the shape and type of the training data,
            or a ``.npz`` file with such arrays. ``ids`` [n] and ``present`` [n, M] are optional, and a
            modality may be missing. For other networks: the path of a manifest with the columns of the
            training data.
        batch_size : int or None
            Samples per forward pass; None: as in the training.

        Raises
        ------
        UsageError
            If the samples are of the wrong kind, or a sample has no readable modality.
        DataError
            If the samples cannot be read, or do not have the network's modalities.
        """
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size: expected an integer >= 1, got {batch_size}")
        rows: dict[str, list[Any]] = {}
        for chunk in predictions(
            self.trained,
            self._read(samples),
            every_class=True,
            device=self.device,
            batch_size=batch_size,
        ):
            for column, values in chunk.items():
                rows.setdefault(column, []).extend(values)
        lost = [i for i, name in zip(rows["id"], rows["class"], strict=True) if name is None]
        if lost:
            raise UsageError(f"sample {lost[0]!r} has no readable modality; leave it out")
        return Predictions(
            np.array(rows["id"], dtype=np.str_),
            self.classes,
            np.stack([np.array(rows[f"p_{name}"], np.float64) for name in self.classes], axis=1),
            np.array(rows["difficulty"], np.float64),
        )

    def _read(self, samples: Mapping[str, ArrayLike] | str | Path) -> Any:
        reading = self.trained.reading
        if not isinstance(samples, Mapping):
            path = Path(samples)
            arrays = path.suffix == ".npz"
            return read_new(
                self.trained, data=path if arrays else None, manifest=None if arrays else path
            )
        if "arrays" not in reading:
            raise UsageError(
                "expected the path of a manifest, because the network was trained on one, got arrays"
            )
        known = {*reading["arrays"], "ids", "present"}
        if unknown := [name for name in samples if name not in known]:
            raise DataError(
                f"expected arrays of {', '.join(self.modalities)}, and optionally ids and present, got "
                f"{unknown[0]!r}"
            )
        return read_alike(
            Path("samples"), {name: np.asarray(a) for name, a in samples.items()}, reading
        )


def load(name: str | Path, *, revision: str | None = None, device: str = "auto") -> LoadedModel:
    """Load a trained network from an exported folder, a run, a project or the Hugging Face hub.

    Only the description and the weights (safetensors) are read. Nothing in the folder is run as code. If
    the network needs encoder classes of your own, you must allow them first (`rlmba trust`).

    Parameters
    ----------
    name : str or path
        An exported folder, the folder of a run or project, or a name on the hub, such as
        ``owner/model``. A folder takes precedence.
    revision : str or None
        For a name on the hub: a branch, a tag or a commit.
    device : str
        "auto", "cpu" or a torch device, for predictions.

    Returns
    -------
    LoadedModel

    Raises
    ------
    UsageError
        If ``name`` is neither a folder nor a model on the hub that can be downloaded.
    RunFolderError
        If the folder contains no network.
    CheckpointError
        If a file is missing or damaged, or another version of rlmba wrote it.
    TrustError
        If the network's encoders are classes that this user has not allowed for the folder.
    """
    path = Path(name)
    if not path.exists():
        text = str(name)
        if not is_hub_name(text):
            raise UsageError(
                f"{text}: expected a folder, or a name on the hub such as owner/model; there is no such "
                "folder here, and no repository can have this name"
            )
        path = download(text, (EXPORTED, WEIGHTS), revision=revision)
    return LoadedModel(Trained.load(path), path, device)
