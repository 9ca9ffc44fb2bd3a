"""Fusion of the modalities' features, and of their Dirichlet evidence (Eq 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from rlmba.types import MULTIMODAL

__all__ = ["LARGEST_EXP_LOGIT", "bounded", "dirichlet", "fuse"]

LARGEST_EXP_LOGIT = 10.0
"""Upper bound of logits whose evidence is exp(logits), so that loss and gradient stay finite."""


_EVIDENCE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softplus": functional.softplus,
    "exp": torch.exp,
    "relu": functional.relu,
}


def fuse(features: Tensor, weights: Tensor, present: Tensor | None = None) -> Tensor:
    """Convex combination f = sum_m w_m f_m.

    Parameters
    ----------
    features : tensor [M, n, d]
        f_m(x).
    weights : tensor [M]
        A point of the simplex.
    present : bool tensor [n, M] or None
        A missing modality of a sample has weight 0, and the other weights are renormalized. If all
        present modalities have weight 0, they are weighted equally. If no modality is present, f is
        0.

    Returns
    -------
    tensor [n, d]
    """
    if present is None:
        return torch.einsum("m,mnd->nd", weights, features)
    there = present.to(features.dtype)
    w = there * weights
    total = w.sum(dim=1, keepdim=True)
    w = torch.where(total > 0, w / total.clamp_min(1e-30), there / there.sum(1, True).clamp_min(1))
    return torch.einsum("nm,mnd->nd", w, features)


def bounded(logits: Tensor, evidence: str) -> Tensor:
    """Logits within the range of the evidence function; a logit at its bound has no gradient."""
    return logits.clamp(max=LARGEST_EXP_LOGIT) if evidence == "exp" else logits


def dirichlet(
    logits: Mapping[str, Tensor], weights: Tensor, present: Tensor | None, evidence: str
) -> dict[str, Tensor]:
    """Dirichlet parameters of every head.

    Parameters
    ----------
    logits : mapping of modality to tensor [n, C]
        :func:`bounded` logits of the modality heads.
    weights : tensor [M]
        w of Eq 3, a point of the simplex.
    present : bool tensor [n, M] or None
        Missing modalities have weight 0, as in :func:`fuse`.
    evidence : {"softplus", "exp", "relu"}
        The function e: log(1 + exp(z)), exp(z) or max(z, 0).

    Returns
    -------
    dict of head to tensor [n, C]
        "mm": alpha_f = 1 + sum_m w_m (alpha_m - 1) (Eq 3), 1 for a sample without any modality. Then
        the modalities: alpha_m = 1 + e(logits_m).
    """
    found = {m: _EVIDENCE[evidence](z) for m, z in logits.items()}
    fused = fuse(torch.stack(list(found.values())), weights, present)
    return {MULTIMODAL: 1 + fused, **{m: 1 + e for m, e in found.items()}}
