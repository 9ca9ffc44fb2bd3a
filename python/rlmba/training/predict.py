"""What a model says of samples, as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.data.base import MultimodalDataset
from rlmba.models.classifier import MultimodalClassifier
from rlmba.types import PoolOutputs

__all__ = ["predict"]


def predict(
    model: MultimodalClassifier,
    dataset: MultimodalDataset,
    positions: NDArray[np.int64],
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> PoolOutputs:
    """Run a model over samples in evaluation mode, without gradients.

    Parameters
    ----------
    model : MultimodalClassifier
        Its mode is as before afterwards.
    dataset : MultimodalDataset
        Gives the batches, not augmented.
    positions : int64 array [N]
        Distinct dataset positions, in the order the outputs shall have; may be empty.
    batch_size : int
        Samples per forward pass.
    progress : callable or None
        Called after every pass with (samples done, samples in all).

    Returns
    -------
    PoolOutputs
        float32 arrays.
    """
    n, d, c = len(positions), model.width, model.n_classes
    features = {m: np.empty((n, d), np.float32) for m in model.names}
    logits = {m: np.empty((n, c), np.float32) for m in model.names}
    fused_features = np.empty((n, model.fused_head.in_features), np.float32)
    fused_logits = np.empty((n, c), np.float32)
    device = model.device
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, n, batch_size):
                rows = slice(start, min(start + batch_size, n))
                batch = dataset.batch(positions[rows], train=False, generator=None)
                inputs = {m: x.to(device) for m, x in batch.inputs.items()}
                present = None if batch.present is None else batch.present.to(device)
                output = model(inputs, present)
                for m in model.names:
                    features[m][rows] = output.features[m].float().cpu().numpy()
                    logits[m][rows] = output.logits[m].float().cpu().numpy()
                fused_features[rows] = output.fused_features.float().cpu().numpy()
                fused_logits[rows] = output.fused_logits.float().cpu().numpy()
                if progress is not None:
                    progress(rows.stop, n)
    finally:
        model.train(training)
    return PoolOutputs(
        ids=dataset.ids[positions],
        features=features,
        logits=logits,
        fused_features=fused_features,
        fused_logits=fused_logits,
        present=None if dataset.present is None else dataset.present[positions],
    )
