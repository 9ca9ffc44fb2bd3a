"""Stochastic dropout passes through the fused head."""

from __future__ import annotations

from typing import Any

import torch

from rlmba.errors import UsageError
from rlmba.models.classifier import MultimodalClassifier
from rlmba.models.randomness import seeded

__all__ = ["dropout_logits"]


def dropout_logits(
    model: MultimodalClassifier,
    fused_features: Any,
    passes: int,
    *,
    batch_size: int,
    seed: int,
) -> Any:
    """Compute fused logits from fused features under K random dropout masks.

    Dropout is applied only before each head, so encoders and fusion need not run again. Each sample
    has its own mask in each pass.

    Parameters
    ----------
    model : MultimodalClassifier
        Its mode is restored afterwards.
    fused_features : float array or torch tensor [N, D]
        As returned by :func:`~rlmba.training.predict`.
    passes : int
        K >= 1.
    batch_size : int
        Samples per forward pass. The masks depend on it.
    seed : int
        Determines the masks. The states of torch's global generators are restored afterwards.

    Returns
    -------
    float32 array [K, N, C], or a tensor on the features' device

    Raises
    ------
    UsageError
        If ``passes`` is less than 1.
    """
    if passes < 1:
        raise UsageError(f"dropout_logits: expected at least one pass, got {passes}")
    n = len(fused_features)
    kept = isinstance(fused_features, torch.Tensor)
    place = fused_features.device if kept else "cpu"
    out = torch.empty((passes, n, model.n_classes), dtype=torch.float32, device=place)
    training = model.training
    model.train()
    try:
        with seeded(seed, model.device), torch.inference_mode():
            for start in range(0, n, batch_size):
                rows = slice(start, min(start + batch_size, n))
                given = torch.as_tensor(fused_features[rows])
                given = given.to(model.device, model.fusion_weights.dtype)
                for k in range(passes):
                    out[k, rows] = model.head(given).float()
    finally:
        model.train(training)
    return out if kept else out.numpy()
