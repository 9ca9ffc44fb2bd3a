"""Features of frozen encoders, computed once for every sample and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.models.registry import Encoder
from rlmba.training.loading import Loader, worker_deaths
from rlmba.training.predict import requests_of
from rlmba.training.processes import ProcessGroup

__all__ = ["compute_features", "encoder_identity"]

_TOGETHER = 512
"""Samples whose features are passed on together: an interruption loses at most so many."""


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
    needed: Mapping[str, NDArray[np.bool_]],
    keep: Callable[[str, NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]], None],
    *,
    columns: Mapping[str, int],
    batch_size: int,
    group: ProcessGroup,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run encoders over samples in evaluation mode, and pass on the features as they come.

    Parameters
    ----------
    encoders : mapping of modality to Encoder
        On the loader's device; they are left in evaluation mode.
    loader : Loader
        Reads the batches, without augmentation.
    positions : int64 array [n]
        Dataset positions of the samples, shared among the processes of ``group``.
    needed : mapping of modality to bool array [n]
        The samples whose features are needed. An encoder runs only on those of them that have the modality.
    keep : callable
        Called with modality, int64 positions [k], float32 features [k, width] and bool [k], which is False
        where the modality could not be read and the features are zero. Each sample is passed on once, soon
        after it was computed, also if a later one ends with an error.
    columns : mapping of modality to int
        Columns of the modalities in the data set's ``present``.
    batch_size : int
        Samples per forward pass.
    group : ProcessGroup
        Precision, and the processes.
    progress : callable or None
        Called after every batch with (completed samples, total samples) of this process.

    Raises
    ------
    WorkerError
        If a process that loads data dies.
    """
    block = group.block(len(positions))
    mine = positions[block]
    mine_needed = {name: needed[name][block] for name in encoders}
    waiting: dict[str, list[tuple[NDArray[Any], ...]]] = {name: [] for name in encoders}

    def pass_on() -> None:
        for name, parts in waiting.items():
            if parts:
                rows, features, readable = (np.concatenate(p) for p in zip(*parts, strict=True))
                parts.clear()
                keep(name, rows, features, readable)

    for encoder in encoders.values():
        encoder.eval()
    try:
        with torch.inference_mode(), worker_deaths(loader):
            done = kept = 0
            for batch in loader.stream(requests_of(mine, batch_size)):
                n = len(next(iter(batch.inputs.values())))
                present = (
                    None if batch.present is None else batch.present.cpu().numpy().astype(bool)
                )
                for name, encoder in encoders.items():
                    rows = np.flatnonzero(mine_needed[name][done : done + n])
                    if not len(rows):
                        continue
                    readable = (
                        np.ones(len(rows), np.bool_)
                        if present is None
                        else present[rows, columns[name]]
                    )
                    features = np.zeros((len(rows), encoder.out_features), np.float32)
                    if there := rows[readable].tolist():
                        x = batch.inputs[name]
                        with group.autocast():
                            found = encoder(x if len(there) == n else x[there])
                        features[readable] = found.float().cpu().numpy()
                    waiting[name].append((mine[done + rows], features, readable))
                done += n
                if done - kept >= _TOGETHER:
                    pass_on()
                    kept = done
                if progress is not None:
                    progress(done, len(mine))
    finally:
        pass_on()
    group.barrier()
