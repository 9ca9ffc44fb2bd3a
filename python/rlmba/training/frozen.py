"""Features of frozen encoders, computed once for every sample of a data set and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch

from rlmba.data.base import MultimodalDataset
from rlmba.data.features import save_features
from rlmba.models.classifier import MultimodalClassifier
from rlmba.models.registry import Encoder
from rlmba.storage import make_folder
from rlmba.training.loading import Loader, worker_deaths
from rlmba.training.predict import requests_of
from rlmba.training.processes import ProcessGroup

__all__ = ["features_name", "frozen_features"]


def features_name(model: MultimodalClassifier, dataset: MultimodalDataset) -> str:
    """File name for these encoders and samples: name of the data set and checksum.

    The checksum (BLAKE2b, 64 bits) covers the data set's fingerprint and the class and weights of
    every encoder, so that changed files or other weights give another name.
    """
    digest = hashlib.blake2b(dataset.fingerprint().encode(), digest_size=8)
    for name, encoder in zip(model.names, model.encoders, strict=True):
        digest.update(f"\0{name}\0{type(encoder).__qualname__}".encode())
        for key, value in encoder.state_dict().items():
            digest.update(f"\0{key}\0{tuple(value.shape)}".encode())
            raw = value.detach().cpu().contiguous()
            digest.update(memoryview(raw.reshape(-1).view(torch.uint8).numpy()))
    return f"{dataset.name}-{digest.hexdigest()}.npz"


def frozen_features(
    model: MultimodalClassifier,
    loader: Loader,
    path: Path,
    *,
    batch_size: int,
    group: ProcessGroup | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run every encoder over every sample in evaluation mode, and write the features.

    Parameters
    ----------
    model : MultimodalClassifier
        Its encoders are used, without projections and heads. Its mode is restored afterwards.
    loader : Loader
        Reads the batches, without augmentation, to the model's device.
    path : path
        The ``.npz`` file to write; see :func:`rlmba.data.features.save_features`. Parent folders
        are created. Rows of missing modalities are zero and marked in ``present``.
    batch_size : int
        Samples per forward pass.
    group : ProcessGroup or None
        Precision, and the processes that share the samples. The main process writes the file.
    progress : callable or None
        Called after every pass with (completed samples, total samples) of this process.

    Raises
    ------
    StorageError
        If the file cannot be written.
    WorkerError
        If a process that loads data dies.
    """
    group = group or ProcessGroup(model.device)
    dataset, n = loader.dataset, len(loader.dataset)
    mine = np.arange(n)[group.block(n)]
    rows = n if group.is_main else len(mine)
    encoders = [cast("Encoder", encoder) for encoder in model.encoders]
    widths = [encoder.out_features for encoder in encoders]
    features = [torch.zeros((rows, w)) for w in widths]
    present = torch.ones((rows, len(widths)), dtype=torch.uint8)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), worker_deaths(loader):
            done = 0
            for batch in loader.stream(requests_of(mine, batch_size)):
                taken = slice(done, done + len(next(iter(batch.inputs.values()))))
                if batch.present is not None:
                    present[taken] = batch.present.to("cpu", torch.uint8)
                for m, (name, encoder) in enumerate(zip(model.names, encoders, strict=True)):
                    with group.autocast():
                        out = encoder(batch.inputs[name])
                    features[m][taken] = out.float().cpu() * present[taken, m, None]
                done = taken.stop
                if progress is not None:
                    progress(done, len(mine))
    finally:
        model.train(training)
    for part in [*features, present]:
        group.gather_rows(part, n)
    if group.is_main:
        make_folder(path.parent)
        there = present.numpy().astype(np.bool_)
        arrays = {m: f.numpy() for m, f in zip(model.names, features, strict=True)}
        save_features(path, dataset, arrays, None if there.all() else there)
    group.barrier()
