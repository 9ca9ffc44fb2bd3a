"""Training on samples without labels, whose classes are guessed."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlmba.models.classifier import ModelOutput

__all__ = ["SOFT_BATCH", "SOFT_WEIGHT", "SoftLabels", "soft_loss"]

SOFT_BATCH = 64
"""Number of samples without labels in every optimizer step, summed over all processes."""
SOFT_WEIGHT = 0.1
"""Weight of their loss against the loss of the labeled minibatch (``bench/study_consistency.py``)."""


class SoftLabels(NamedTuple):
    """Samples without labels: dataset positions int64 [P], class probabilities float32 [P, C]."""

    positions: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def drawn(self, seed: int, step: int) -> NDArray[np.int64]:
        """Rows int64 [:data:`SOFT_BATCH`] of the samples of a step, drawn with replacement."""
        rng = np.random.default_rng([seed, step])
        return rng.integers(len(self.positions), size=SOFT_BATCH)

    def checksum(self) -> str:
        """SHA-256 of the samples and their most probable classes, hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self.positions, np.int64).tobytes())
        digest.update(self.probabilities.argmax(axis=1).astype(np.int64).tobytes())
        return digest.hexdigest()


def soft_loss(output: ModelOutput, probabilities: Tensor, present: Tensor | None) -> Tensor:
    """Cross-entropy with class probabilities, weighted by the largest of them, summed over the heads.

    Parameters
    ----------
    output : ModelOutput
        Outputs for n samples.
    probabilities : float tensor [n, C]
    present : bool tensor [n, M] or None
        A modality head's loss counts the samples that have the modality.

    Returns
    -------
    scalar tensor
        Summed over the samples, and divided by :data:`SOFT_BATCH`.
    """
    target = probabilities * probabilities.max(dim=1, keepdim=True).values
    total = -(target * output.fused_logits.log_softmax(dim=1)).sum()
    for m, logits in enumerate(output.logits.values()):
        each = -(target * logits.log_softmax(dim=1)).sum(dim=1)
        total = total + (each if present is None else each * present[:, m]).sum()
    return total / SOFT_BATCH
