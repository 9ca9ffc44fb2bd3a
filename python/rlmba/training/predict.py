"""What a model says of samples, as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.models.classifier import MultimodalClassifier
from rlmba.training.loading import Loader
from rlmba.types import PoolOutputs

__all__ = ["fits_beside", "predict"]


def predict(
    model: MultimodalClassifier,
    loader: Loader,
    positions: NDArray[np.int64],
    *,
    batch_size: int,
    keep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PoolOutputs:
    """Run a model over samples in evaluation mode, without gradients.

    Parameters
    ----------
    model : MultimodalClassifier
        Its mode is as before afterwards.
    loader : Loader
        Gives the batches, not augmented, on the model's device.
    positions : int64 array [N]
        Distinct dataset positions, in the order the outputs shall have; may be empty.
    batch_size : int
        Samples per forward pass.
    keep : bool
        Leave the outputs where the model is, as torch tensors.
    progress : callable or None
        Called after every pass with (samples done, samples in all).

    Returns
    -------
    PoolOutputs
        float32 arrays, or tensors with ``keep``.
    """
    n, d, c = len(positions), model.width, model.n_classes
    device = model.device

    def empty(width: int) -> torch.Tensor:
        return torch.empty((n, width), dtype=torch.float32, device=device if keep else "cpu")

    features = {m: empty(d) for m in model.names}
    logits = {m: empty(c) for m in model.names}
    fused_features, fused_logits = empty(model.fused_head.in_features), empty(c)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            blocks = [slice(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
            batches = loader.batches([positions[rows] for rows in blocks])
            for rows, batch in zip(blocks, batches, strict=True):
                output = model(batch.inputs, batch.present)
                for m in model.names:
                    features[m][rows] = output.features[m].float()
                    logits[m][rows] = output.logits[m].float()
                fused_features[rows] = output.fused_features.float()
                fused_logits[rows] = output.fused_logits.float()
                if progress is not None:
                    progress(rows.stop, n)
    finally:
        model.train(training)
    dataset = loader.dataset
    outputs = PoolOutputs(
        ids=dataset.ids[positions],
        features=features,  # type: ignore[arg-type]
        logits=logits,  # type: ignore[arg-type]
        fused_features=fused_features,  # type: ignore[arg-type]
        fused_logits=fused_logits,  # type: ignore[arg-type]
        present=None if dataset.present is None else dataset.present[positions],
    )
    return outputs if keep else outputs.host()


def fits_beside(model: MultimodalClassifier, rows: int) -> bool:
    """Whether the outputs of so many samples take at most half of what the model's GPU has free.

    False on a CPU.
    """
    if model.device.type != "cuda":
        return False
    width = len(model.names) * model.width + model.fused_head.in_features
    values = rows * (width + (len(model.names) + 1) * model.n_classes)
    return 4 * values <= torch.cuda.mem_get_info(model.device)[0] // 2
