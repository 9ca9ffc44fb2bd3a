"""Features of frozen encoders, computed once for every sample and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.models.registry import Encoder
from rlmba.training.feature_store import FeatureStore
from rlmba.training.loading import Loader, worker_deaths
from rlmba.training.predict import requests_of
from rlmba.training.processes import ProcessGroup

__all__ = ["compute_features", "encoder_identity"]

_COMMIT = 512
"""Samples whose features are written together: an interruption loses at most so many."""


def encoder_identity(encoder: Encoder, options: Mapping[str, Any] | None = None) -> str:
    """Checksum (BLAKE2b, 96 bits, hexadecimal) of an encoder's class, options, parameters and buffers."""
    described = f"{type(encoder).__qualname__}\0{sorted((options or {}).items())}"
    digest = hashlib.blake2b(described.encode(), digest_size=12)
    scale = getattr(encoder, "scale", None)
    shift = getattr(encoder, "shift", None)
    extra = {"scale": scale, "shift": shift} if scale is not None else {}
    for key, value in {**encoder.state_dict(), **extra}.items():
        digest.update(f"\0{key}\0{tuple(value.shape)}".encode())
        raw = value.detach().cpu().contiguous()
        digest.update(memoryview(raw.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def compute_features(
    encoders: Mapping[str, Encoder],
    loader: Loader,
    positions: NDArray[np.int64],
    stores: Mapping[str, FeatureStore],
    keys: Mapping[str, Sequence[bytes]],
    *,
    columns: Mapping[str, int],
    batch_size: int,
    group: ProcessGroup,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run every encoder over samples in evaluation mode, and store the features as they come.

    Parameters
    ----------
    encoders : mapping of modality to Encoder
        On the loader's device; they are left in evaluation mode.
    loader : Loader
        Reads the batches, without augmentation.
    positions : int64 array [n]
        Dataset positions of the samples, shared among the processes of ``group``.
    stores : mapping of modality to FeatureStore
    keys : mapping of modality to sequence of bytes
        By dataset position.
    columns : mapping of modality to int
        Columns of the modalities in the data set's ``present``.
    batch_size : int
        Samples per forward pass.
    group : ProcessGroup
        Precision, and the processes.
    progress : callable or None
        Called after every pass with (completed samples, total samples) of this process.

    Raises
    ------
    StorageError
        If the features cannot be written; those that were written before are kept.
    WorkerError
        If a process that loads data dies.
    """
    mine = positions[group.block(len(positions))]
    waiting: list[tuple[NDArray[np.int64], dict[str, NDArray[np.float32]], NDArray[np.bool_]]] = []

    def write() -> None:
        if not waiting:
            return
        rows = np.concatenate([w[0] for w in waiting])
        present = np.concatenate([w[2] for w in waiting])
        for name, store in stores.items():
            there = np.concatenate([w[1][name] for w in waiting])
            store.add([keys[name][i] for i in rows], there, present[:, columns[name]])
        waiting.clear()

    for encoder in encoders.values():
        encoder.eval()
    try:
        with torch.inference_mode(), worker_deaths(loader):
            done = 0
            for batch in loader.stream(requests_of(mine, batch_size)):
                n = len(next(iter(batch.inputs.values())))
                present = np.ones((n, len(loader.dataset.modalities)), np.bool_)
                if batch.present is not None:
                    present = batch.present.cpu().numpy().astype(np.bool_)
                found = {}
                for name, encoder in encoders.items():
                    with group.autocast():
                        found[name] = encoder(batch.inputs[name]).float().cpu().numpy()
                waiting.append((mine[done : done + n], found, present))
                done += n
                if sum(len(w[0]) for w in waiting) >= _COMMIT:
                    write()
                if progress is not None:
                    progress(done, len(mine))
    finally:
        write()
    group.barrier()
