"""Features of frozen encoders from the store; those that are not stored are computed and added."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.errors import RlmbaWarning, StorageError
from rlmba.learner.encoders import EncoderFacts
from rlmba.models import Encoder
from rlmba.storage import cache_folder
from rlmba.training import FeatureStore, Loader, ProcessGroup, compute_features

__all__ = ["Encoders", "StoredFeatures"]

_ON_CPU = 32
"""Samples per forward pass on a CPU: larger passes leave its caches and take longer."""


class Encoders(Protocol):
    """Frozen encoders that are built only if they are needed."""

    @property
    def facts(self) -> Mapping[str, EncoderFacts]:
        """What is known of them by modality, in the data set's order; exact once they are built."""

    def built(self) -> Mapping[str, Encoder]:
        """The encoders by modality."""


class StoredFeatures:
    """Features of a data set's samples by frozen encoders, computed once for every sample and encoder.

    Parameters
    ----------
    config : RunConfig
    dataset : MultimodalDataset
    encoders : Encoders
    loader : Loader
        Of the same data set, on the group's device.
    group : ProcessGroup
    batch_size : int
        Samples per forward pass; on a CPU at most 32.
    required : bool
        Whether it is an error if the store cannot be read or written. Otherwise there is a warning, and
        what cannot be read is computed; with several processes it is always an error.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: MultimodalDataset,
        encoders: Encoders,
        loader: Loader,
        group: ProcessGroup,
        *,
        batch_size: int,
        required: bool = True,
    ) -> None:
        self._folder = config.model.features_folder or cache_folder() / "features"
        self._dataset = dataset
        self._encoders = encoders
        self._loader = loader
        self._group = group
        self._batch_size = min(batch_size, _ON_CPU) if group.device.type == "cpu" else batch_size
        self._required = required
        self._keys: Mapping[str, Sequence[bytes]] | None = None
        self._usable = True

    def read(
        self, positions: NDArray[np.int64], progress: Callable[[int, int], None] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Features of samples; all processes of the group call this with the same positions.

        Parameters
        ----------
        positions : int64 array [n]
            Distinct dataset positions.
        progress : callable or None
            Called with (samples done, total samples) while features are computed.

        Returns
        -------
        features : dict of modality to float32 array [n, width]
            Zeros where the modality is missing.
        present : bool array [n, M]
            Whether the sample has the modality and it could be read.

        Raises
        ------
        StorageError
            If the store cannot be read or written, and is required.
        WorkerError
            If a process that loads data dies.
        """
        if self._keys is None:
            self._keys = self._dataset.sample_keys()
        known_of = self._dataset.present
        listed = (
            np.ones((len(positions), len(self._dataset.modalities)), np.bool_)
            if known_of is None
            else known_of[positions]
        )
        facts = self._encoders.facts
        found = {m: self._stored(m, facts[m], positions) for m in facts}
        needed = {m: listed[:, i] & ~found[m][1] for i, m in enumerate(facts)}
        needed = self._group.broadcast(needed if self._group.is_main else None)
        if any(rows.any() for rows in needed.values()):
            built = self._encoders.built()
            if self._encoders.facts != facts:  # another version described them
                return self.read(positions, progress)
            self._compute(built, positions, found, needed, progress)
            if self._group.size > 1:
                found = {m: self._stored(m, facts[m], positions) for m in facts}
        present = np.stack([readable for _, _, readable in found.values()], axis=1) & listed
        return {m: features for m, (features, _, _) in found.items()}, present

    def _compute(
        self,
        built: Mapping[str, Encoder],
        positions: NDArray[np.int64],
        found: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]],
        needed: Mapping[str, NDArray[np.bool_]],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Compute what is needed, add it to the store, and write it into the arrays ``found``."""
        wanted = {m: rows for m, rows in needed.items() if rows.any()}
        rows = np.flatnonzero(np.any(list(wanted.values()), axis=0))
        row_of = np.empty(len(self._dataset), np.int64)
        row_of[positions] = np.arange(len(positions))

        def keep(
            modality: str,
            computed: NDArray[np.int64],
            features: NDArray[np.float32],
            readable: NDArray[np.bool_],
        ) -> None:
            into = row_of[computed]
            found[modality][0][into] = features
            found[modality][1][into] = True
            found[modality][2][into] = readable
            self._add(modality, computed, features, readable)

        for encoder in built.values():
            encoder.to(self._group.device)
        columns = [m.name for m in self._dataset.modalities]
        compute_features(
            {m: built[m] for m in wanted},
            self._loader,
            positions[rows],
            {m: here[rows] for m, here in wanted.items()},
            keep,
            columns={m: columns.index(m) for m in wanted},
            batch_size=self._batch_size,
            group=self._group,
            progress=progress,
        )

    def _stored(
        self, modality: str, facts: EncoderFacts, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """See :meth:`FeatureStore.read`; nothing is known if the store cannot be used."""
        if self._usable:
            try:
                return self._store(facts).read(self._keys_of(modality, positions))
            except StorageError as error:
                self._do_without(error)
        n = len(positions)
        return np.zeros((n, facts.width), np.float32), np.zeros(n, bool), np.zeros(n, bool)

    def _add(
        self,
        modality: str,
        positions: NDArray[np.int64],
        features: NDArray[np.float32],
        readable: NDArray[np.bool_],
    ) -> None:
        if not self._usable:
            return
        store = self._store(self._encoders.facts[modality])
        try:
            store.add(self._keys_of(modality, positions), features, readable)
        except StorageError as error:
            self._do_without(error)

    def _store(self, facts: EncoderFacts) -> FeatureStore:
        precision = "" if self._group.precision == "fp32" else f"-{self._group.precision}"
        return FeatureStore(self._folder, f"{facts.identity}{precision}", facts.width)

    def _keys_of(self, modality: str, positions: NDArray[np.int64]) -> list[bytes]:
        assert self._keys is not None
        keys = self._keys[modality]
        return [keys[i] for i in positions.tolist()]

    def _do_without(self, error: StorageError) -> None:
        if self._required or self._group.size > 1:
            raise error
        self._usable = False
        warnings.warn(
            f"{error}. The features are computed without it, and again next time",
            RlmbaWarning,
            stacklevel=2,
        )
