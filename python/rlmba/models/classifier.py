"""The network: an encoder and a projection for each modality, their fusion, and linear heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rlmba.config import EncoderConfig, ModelConfig
from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.blueprint import Blueprint
from rlmba.models.dropout import SharedDropout
from rlmba.models.randomness import seeded
from rlmba.models.registry import build_encoder

__all__ = ["Fusion", "ModelOutput", "MultimodalClassifier", "build_classifier", "fuse"]

Fusion: TypeAlias = Literal["amcb", "adaptive", "uniform", "concat"]


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """One forward pass over n samples.

    ``features`` and ``logits`` map modality to [n, d] and [n, C]; ``fused_features`` is [n, D] (d,
    or M d for concatenation), ``fused_logits`` [n, C].
    """

    features: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    fused_features: Tensor
    fused_logits: Tensor


def fuse(features: Tensor, weights: Tensor, present: Tensor | None = None) -> Tensor:
    """Convex combination f = sum_m w_m f_m.

    Parameters
    ----------
    features : tensor [M, n, d]
        f_m(x).
    weights : tensor [M]
        A point of the simplex.
    present : bool tensor [n, M] or None
        An absent modality of a sample has weight 0 and the rest are renormalized; where all that is
        present has weight 0, what is present counts equally; where nothing is, f is 0.

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


class MultimodalClassifier(nn.Module):
    """Modality encoders, projections to width d, their fusion, and M + 1 linear heads.

    Parameters
    ----------
    modalities : sequence of Modality
        One or more, distinct names; their order is the order of everything.
    n_classes : int
        C >= 2.
    config : ModelConfig
        Width d, dropout, encoders.
    fusion : {"amcb", "adaptive", "uniform", "concat"}
        "concat" joins the features end to end; the others combine them convexly by
        :attr:`fusion_weights` and differ only in who sets these.
    blueprints : mapping of modality to mapping, or None
        Encoders to build without the weights they once started from: see
        :meth:`~rlmba.models.Encoder.blueprint`.

    Attributes
    ----------
    fusion_weights : float tensor [M]
        w, a buffer: kept with the weights, never trained. Uniform at first; see
        :meth:`set_fusion_weights`.
    fused_head : torch.nn.Linear
        Weight [C, D] and bias [C] of the fused head.

    Notes
    -----
    Dropout acts before each linear head and nowhere else, so stochastic passes can be made from
    fused features alone, by :meth:`head` in training mode. Initial weights are drawn from torch's
    global generator; :func:`build_classifier` seeds it and puts it back.

    Raises
    ------
    UsageError
        If modality names repeat, an encoder is configured for no modality, or cannot be built.
    """

    fusion_weights: Tensor

    def __init__(
        self,
        modalities: Sequence[Modality],
        n_classes: int,
        config: ModelConfig,
        fusion: Fusion,
        *,
        blueprints: Mapping[str, Blueprint] | None = None,
    ) -> None:
        super().__init__()
        names = [m.name for m in modalities]
        if not names or len(set(names)) != len(names):
            raise UsageError(
                f"model: expected one or more modalities of distinct names, got {names}"
            )
        if n_classes < 2:
            raise UsageError(f"model: expected two classes or more, got {n_classes}")
        stray = sorted(set(config.encoders) - set(names))
        if stray:
            raise UsageError(f"model.encoders: expected modalities of {names}, got {stray}")
        self.modalities = tuple(modalities)
        self.names = tuple(names)
        self.n_classes = n_classes
        self.width = config.width
        self.fusion = fusion
        encoders, projections, heads = [], [], []
        for modality in modalities:
            choice = config.encoders.get(modality.name, EncoderConfig())
            encoder = build_encoder(
                choice.name,
                modality,
                choice.options,
                blueprint=(blueprints or {}).get(modality.name),
            )
            encoders.append(encoder)
            projections.append(_projection(encoder.out_features, config.width))
            heads.append(nn.Linear(config.width, n_classes))
        # Lists, not ModuleDicts: a modality's name may hold any character.
        self.encoders = nn.ModuleList(encoders)
        self.projections = nn.ModuleList(projections)
        self.heads = nn.ModuleList(heads)
        self.dropout = SharedDropout(config.dropout)
        fused_width = config.width * (len(names) if fusion == "concat" else 1)
        self.fused_head = nn.Linear(fused_width, n_classes)
        self.register_buffer("fusion_weights", torch.full((len(names),), 1.0 / len(names)))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.fusion_weights.device

    def set_fusion_weights(self, weights: Sequence[float] | np.ndarray) -> None:
        """Set w.

        Parameters
        ----------
        weights : float array [M]
            In the order of the modalities.

        Raises
        ------
        UsageError
            If they are not a point of the simplex (each >= 0, sum 1 within 1e-6).
        """
        w = np.asarray(weights, dtype=np.float64)
        m = len(self.names)
        if w.shape != (m,) or not np.isfinite(w).all() or (w < 0).any() or abs(w.sum() - 1) > 1e-6:
            raise UsageError(
                f"fusion weights: expected {m} numbers >= 0 with sum 1 for {self.names}, got {w}"
            )
        with torch.no_grad():
            self.fusion_weights.copy_(torch.from_numpy(w))

    def head(self, fused_features: Tensor) -> Tensor:
        """Fused logits [n, C] of fused features [n, D]; with dropout in training mode."""
        logits: Tensor = self.fused_head(self.dropout(fused_features))
        return logits

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor | None = None) -> ModelOutput:
        """Run every modality and fuse.

        Parameters
        ----------
        inputs : mapping of modality to tensor ``[n, *shape]``
            As a data set's batch holds them, on the model's device.
        present : bool tensor [n, M] or None
            Absent modalities take no part in the fused features: see :func:`fuse`; in a
            concatenation their part is zero.

        Under autocast the encoders and projections compute at reduced precision; fusion and heads,
        whose work is small and whose numbers are compared and ranked, stay in float32.
        """
        features = {
            name: projection(encoder(inputs[name]))
            for name, encoder, projection in zip(
                self.names, self.encoders, self.projections, strict=True
            )
        }
        if not torch.is_autocast_enabled(self.device.type):
            return self._judge(features, present)
        with torch.autocast(self.device.type, enabled=False):
            return self._judge({m: f.float() for m, f in features.items()}, present)

    def _judge(self, features: dict[str, Tensor], present: Tensor | None) -> ModelOutput:
        """Fusion and heads over the modalities' features."""
        logits = {
            name: head(self.dropout(features[name]))
            for name, head in zip(self.names, self.heads, strict=True)
        }
        if self.fusion == "concat":
            parts = list(features.values())
            if present is not None:
                parts = [f * present[:, m, None] for m, f in enumerate(parts)]
            fused = torch.cat(parts, dim=1)
        else:
            fused = fuse(torch.stack(list(features.values())), self.fusion_weights, present)
        return ModelOutput(features, logits, fused, self.head(fused))


def _projection(in_features: int, width: int) -> nn.Module:
    """Linear, LayerNorm, ReLU.

    The norm puts every modality on one scale, so that the fusion weights weigh what modalities say
    and not how loud they are; with the ReLU the heads generalize better from few labels than
    without, measured on features of images, texts and videos.
    """
    return nn.Sequential(nn.Linear(in_features, width), nn.LayerNorm(width), nn.ReLU())


def build_classifier(
    modalities: Sequence[Modality],
    n_classes: int,
    config: ModelConfig,
    fusion: Fusion,
    *,
    seed: int,
    blueprints: Mapping[str, Blueprint] | None = None,
) -> MultimodalClassifier:
    """Make a :class:`MultimodalClassifier` on the CPU, its initial weights decided by ``seed``.

    The state of torch's global generator is as before.
    """
    with seeded(seed):
        return MultimodalClassifier(modalities, n_classes, config, fusion, blueprints=blueprints)
