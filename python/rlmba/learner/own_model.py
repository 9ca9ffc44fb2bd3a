"""A model of the user's own: two functions, ``fit`` and ``outputs``, behind a learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.data import Batch, Modality, MultimodalDataset
from rlmba.errors import UsageError
from rlmba.learner.inputs import InputFeatures, prepared
from rlmba.learner.own_outputs import by_modality, checked_outputs
from rlmba.plugins import blamed
from rlmba.training import load_tensors, save_tensors
from rlmba.types import LinearHead, PoolOutputs, RoundRecord, TrainingDiagnostics

__all__ = ["FitAndOutputs", "OwnModel", "SampleList"]

_WEIGHTS = "own_model.safetensors"


class FitAndOutputs(Protocol):
    """What a model of the user's own offers to a learner. Samples are rows 0 to N-1 of the user's data.

    A model that is a ``torch.nn.Module``, or has ``state_dict`` and ``load_state_dict`` of tensors, is
    saved and loaded with the learner. Any other model is trained again when a learner is loaded.
    """

    def fit(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> object:
        """Train on the labeled samples.

        Parameters
        ----------
        rows : int64 array [L]
            Distinct, in the order of labeling.
        labels : int64 array [L]
            Positions in the classes, 0 to C-1. Some class may have no sample yet.
        """
        ...

    def outputs(self, rows: NDArray[np.int64]) -> Mapping[str, Any]:
        """Features and logits of samples, in the order of ``rows``, without dropout or augmentation.

        NumPy's and torch's global generators are seeded for it, and restored.

        Parameters
        ----------
        rows : int64 array [n]
            Distinct.

        Returns
        -------
        mapping
            ``features`` : array [n, D], or a mapping of modality to array [n, d]; ``logits`` : array [n, C],
            or a mapping of modality to array [n, C] with the fused ones under "mm"; and, where a strategy
            needs them: ``head``, (weight [C, D], bias [C]) of the linear layer behind the fused logits;
            ``dropout_logits`` : array [K, n, C]; ``present`` : bool array [n, M], which modalities a sample
            has. NumPy arrays or torch tensors. Fused features are ``features["mm"]``, or else the
            modalities' features one after another.
        """
        ...


class SampleList(MultimodalDataset):
    """Samples of which only ids, labels and the split are known here; the user's model has the data.

    Parameters
    ----------
    ids : str array [N]
        Distinct.
    classes : sequence of str
    labels : int64 array [N]
        -1 where unknown.
    test : bool array [N]
        Which samples are test samples.
    modalities : sequence of str
        As the model names them.
    name : str
    """

    in_memory = True

    def __init__(
        self,
        ids: NDArray[np.str_],
        *,
        classes: Sequence[str],
        labels: NDArray[np.int64],
        test: NDArray[np.bool_],
        modalities: Sequence[str],
        name: str = "own model",
    ) -> None:
        self.name = name
        self.ids = ids
        self.classes = tuple(classes)
        self.labels = labels
        self.modalities = tuple(Modality(m, "features", (1,)) for m in modalities)
        self.train_positions = np.flatnonzero(~test).astype(np.int64)
        self.test_positions = np.flatnonzero(test).astype(np.int64)
        self.present = None

    def fingerprint(self) -> str:
        """Checksum of the ids, in their order, and of the test samples with their labels."""
        import hashlib

        test = self.test_positions
        known = [f"{p}={self.classes[self.labels[p]]}" for p in test.tolist()]
        text = "\0".join([*self.ids.tolist(), *known]).encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def load(self, *_: Any, **__: Any) -> Batch:
        """There is nothing to load: the user's model reads the samples."""
        raise UsageError("the samples of an own model are read by that model alone")


class OwnModel:
    """A :class:`~rlmba.learner.model.Model` over the user's ``fit`` and ``outputs``.

    Parameters
    ----------
    model : FitAndOutputs
    dataset : SampleList
    features : mapping of modality to array [N, d], or None
        What the samples are compared by without a trained model; None: the first batch is random.
    seed : int
        Seed of the global generators while ``outputs`` runs, for models that draw their own dropout.

    Raises
    ------
    UsageError
        If the model lacks a method.
    ShapeError, DataError
        If the features are no finite numbers [N, d].
    """

    fixed_fusion: ClassVar[bool] = True

    def __init__(
        self,
        model: FitAndOutputs,
        dataset: SampleList,
        features: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        for name in ("fit", "outputs"):
            if not callable(getattr(model, name, None)):
                raise UsageError(
                    f"model: expected an object with the methods fit(rows, labels) and outputs(rows), "
                    f"{type(model).__name__} has no {name}"
                )
        self._model = model
        self._dataset = dataset
        self._head: LinearHead | None = None
        self._seed = seed
        self._fitted = False
        self._names = tuple(m.name for m in dataset.modalities)
        self._features = None
        if features is not None:
            found = by_modality(features, "features", self._names, dataset.ids)
            self._features = {m: found[m] for m in self._names}
        self._inputs: InputFeatures | None = None
        m = len(self._names)
        self._weights: NDArray[np.float64] = np.full(m, 1 / m)

    def set_classes(self, classes: Sequence[str]) -> None:
        """Nothing to do: the next :meth:`fit` brings labels of the new classes."""

    def fit(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: object,  # noqa: ARG002 - our network stops early by it
        *,
        seed: int,
        checkpoint: object = None,  # noqa: ARG002 - our network resumes from it
    ) -> TrainingDiagnostics:
        """Train the user's model; torch's and NumPy's global generators are seeded for it, and restored."""
        self._fitted = False
        with blamed(type(self._model), "fit of the model"), _seeded(seed):
            self._model.fit(positions.copy(), labels.copy())
        self._fitted = True
        return TrainingDiagnostics()

    def predict(
        self,
        positions: NDArray[np.int64],
        *,
        keep_on_device: bool = False,  # noqa: ARG002 - outputs are checked in host memory
    ) -> PoolOutputs:
        """The user's outputs, checked.

        Raises
        ------
        ShapeError, DataError
            If they are not what :meth:`FitAndOutputs.outputs` promises.
        """
        ids = self._dataset.ids[positions]
        with blamed(type(self._model), "outputs of the model"), _seeded(self._seed):
            given = self._model.outputs(positions.copy())
        outputs, self._head = checked_outputs(
            given, ids, self._names, max(2, len(self._dataset.classes))
        )
        return outputs

    def input_features(self, positions: NDArray[np.int64]) -> InputFeatures | None:
        """The features that were passed to compare samples by, in their input space."""
        if self._features is None:
            return None
        if self._inputs is None:
            rows = self._dataset.train_positions
            arrays = {m: a[rows] for m, a in self._features.items()}
            present = np.ones((len(rows), len(arrays)), np.bool_)
            self._inputs = prepared(rows, arrays, present)
        return self._inputs.at(positions)

    def dropout_logits(self, outputs: PoolOutputs, passes: int, *, seed: int) -> Any:  # noqa: ARG002
        """The model's own ``dropout_logits``, of as many passes as it makes."""
        if outputs.dropout_logits is None:
            raise UsageError(
                f"this strategy compares {passes} passes with dropout: expected 'dropout_logits' [K, n, C] "
                "among the outputs of the model, got none; add them, or choose another strategy"
            )
        return outputs.dropout_logits

    def head(self) -> LinearHead | None:
        """The head that the last outputs came with."""
        return self._head

    @property
    def fusion_weights(self) -> NDArray[np.float64]:
        """Uniform: the model fuses in its own way."""
        return self._weights

    def set_fusion_weights(self, weights: NDArray[np.float64]) -> None:
        """Nothing to do: the model fuses in its own way."""

    def save(
        self,
        folder: Path,
        *,
        config: RunConfig,  # noqa: ARG002
        identity: Mapping[str, Any],
        weights: Mapping[str, float],  # noqa: ARG002
        record: RoundRecord,  # noqa: ARG002
    ) -> None:
        """Write the model's ``state_dict``, where it has one and the last :meth:`fit` completed."""
        if self._fitted and (state := self._state()) is not None:
            save_tensors(folder / _WEIGHTS, state, config=identity)

    def restore(self, folder: Path, *, identity: Mapping[str, Any]) -> bool:
        """Load the model's ``state_dict``; False where none was saved, and the model has to be trained."""
        file = folder / _WEIGHTS
        if self._state() is None or not file.exists():
            return False
        state = load_tensors(file, config=identity)
        with blamed(type(self._model), "load_state_dict of the model"):
            self._model.load_state_dict(state)  # type: ignore[attr-defined] # _state saw to that
        self._fitted = True
        return True

    def _state(self) -> dict[str, torch.Tensor] | None:
        if not (hasattr(self._model, "state_dict") and hasattr(self._model, "load_state_dict")):
            return None
        with blamed(type(self._model), "state_dict of the model"):
            state = self._model.state_dict()
        if not isinstance(state, Mapping) or not all(
            isinstance(v, torch.Tensor) for v in state.values()
        ):
            return None
        return {str(k): v.detach().cpu().clone().contiguous() for k, v in state.items()}


class _seeded:  # noqa: N801 - used as a function
    """Global generators seeded within, and as before afterwards: people's training code draws from them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        self._numpy = np.random.get_state()  # noqa: NPY002
        self._torch = torch.get_rng_state()
        np.random.seed(self._seed % 2**32)  # noqa: NPY002
        torch.manual_seed(self._seed)

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self._numpy)  # noqa: NPY002
        torch.set_rng_state(self._torch)
