"""The network: an encoder and a projection for each modality, their fusion, and linear heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rlmba.config import EncoderConfig, EvidentialConfig, ModelConfig
from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.blueprint import Blueprint
from rlmba.models.dropout import SharedDropout
from rlmba.models.fusion import bounded, dirichlet, fuse
from rlmba.models.randomness import seeded
from rlmba.models.registry import build_encoder
from rlmba.types import MULTIMODAL, simplex_weights

__all__ = ["Fusion", "ModelOutput", "MultimodalClassifier", "build_classifier"]

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
    dirichlet: Mapping[str, Tensor] | None = None


class MultimodalClassifier(nn.Module):
    """Modality encoders, projections to width d, their fusion, and M + 1 linear heads.

    Parameters
    ----------
    modalities : sequence of Modality
        One or more modalities with distinct names. All results follow their order.
    n_classes : int
        C >= 2.
    config : ModelConfig
        Width d, dropout, encoders.
    fusion : {"amcb", "adaptive", "uniform", "concat"}
        "concat" concatenates the features. The others combine them convexly by
        :attr:`fusion_weights` and differ only in how these are set.
    evidential : EvidentialConfig or None
        The modality heads output Dirichlet evidence, for the evidential loss. None: they output
        logits of a softmax.
    blueprints : mapping of modality to mapping, or None
        Encoders to build without the weights that they started from; see
        :meth:`~rlmba.models.Encoder.blueprint`.

    Attributes
    ----------
    fusion_weights : float tensor [M]
        w, a buffer that is stored with the weights and never trained. Initially uniform; see
        :meth:`set_fusion_weights`.
    fused_head : torch.nn.Linear or None
        Weight [C, D] and bias [C] of the fused head; None if ``evidential`` excludes it. The fused
        logits are then log alpha_f (Eq 3).
    fused_width : int
        Width D of the fused features.
    evidence : str or None
        The evidence function of the modality heads.

    Notes
    -----
    Dropout is applied only before each linear head, so stochastic passes need only the fused
    features and :meth:`head` in training mode. Initial weights are drawn from torch's global
    generator; :func:`build_classifier` seeds it and restores its state.

    Raises
    ------
    UsageError
        If modality names repeat, or an encoder belongs to no modality or cannot be built.
    """

    fusion_weights: Tensor

    def __init__(
        self,
        modalities: Sequence[Modality],
        n_classes: int,
        config: ModelConfig,
        fusion: Fusion,
        *,
        evidential: EvidentialConfig | None = None,
        blueprints: Mapping[str, Blueprint] | None = None,
    ) -> None:
        super().__init__()
        names = [m.name for m in modalities]
        if not names or len(set(names)) != len(names):
            raise UsageError(
                f"model: expected one or more modalities with distinct names, got {names}"
            )
        if n_classes < 2:
            raise UsageError(f"model: expected at least two classes, got {n_classes}")
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
        # Lists, not ModuleDicts, because a modality's name may contain any character.
        self.encoders = nn.ModuleList(encoders)
        self.projections = nn.ModuleList(projections)
        self.heads = nn.ModuleList(heads)
        self.dropout = SharedDropout(config.dropout)
        self.fused_width = config.width * (len(names) if fusion == "concat" else 1)
        self.evidence = None if evidential is None else evidential.evidence
        has_fused_head = evidential is None or evidential.fused_head
        self.fused_head = nn.Linear(self.fused_width, n_classes) if has_fused_head else None
        self.register_buffer("fusion_weights", torch.full((len(names),), 1.0 / len(names)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
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
        w = simplex_weights(np.asarray(weights), self.names, "fusion weights")
        with torch.no_grad():
            self.fusion_weights.copy_(torch.from_numpy(w))

    def head(self, fused_features: Tensor) -> Tensor:
        """Fused logits [n, C] from fused features [n, D], with dropout in training mode.

        Raises
        ------
        UsageError
            If there is no fused head.
        """
        if self.fused_head is None:
            raise UsageError(
                "expected a fused head, but training.evidential.fused_head is false; set it to true"
            )
        logits: Tensor = self.fused_head(self.dropout(fused_features))
        return logits

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor | None = None) -> ModelOutput:
        """Run every modality and fuse.

        Parameters
        ----------
        inputs : mapping of modality to tensor ``[n, *shape]``
            As in a data set's batch, on the model's device.
        present : bool tensor [n, M] or None
            Missing modalities do not affect the fused features; see :func:`fuse`. Their part of a
            concatenation is zero.

        Under autocast, encoders and projections compute at reduced precision. Fusion and heads stay
        in float32, because they are cheap and their results are compared and ranked.
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
        """Apply fusion and heads to the modalities' features."""
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
        if self.evidence is None:
            return ModelOutput(features, logits, fused, self.head(fused))
        logits = {name: bounded(z, self.evidence) for name, z in logits.items()}
        alphas = dirichlet(logits, self.fusion_weights, present, self.evidence)
        fused_logits = alphas[MULTIMODAL].log() if self.fused_head is None else self.head(fused)
        return ModelOutput(features, logits, fused, fused_logits, alphas)


def _projection(in_features: int, width: int) -> nn.Module:
    """Linear, LayerNorm, ReLU.

    The norm puts all modalities on one scale, so that fusion weights do not depend on the features'
    magnitudes. With the ReLU, heads generalize better from few labels (measured on features of
    images, texts and videos).
    """
    return nn.Sequential(nn.Linear(in_features, width), nn.LayerNorm(width), nn.ReLU())


def build_classifier(
    modalities: Sequence[Modality],
    n_classes: int,
    config: ModelConfig,
    fusion: Fusion,
    *,
    seed: int,
    evidential: EvidentialConfig | None = None,
    blueprints: Mapping[str, Blueprint] | None = None,
) -> MultimodalClassifier:
    """Make a :class:`MultimodalClassifier` on the CPU with initial weights determined by ``seed``.

    The state of torch's global generator is restored.
    """
    with seeded(seed):
        return MultimodalClassifier(
            modalities, n_classes, config, fusion, evidential=evidential, blueprints=blueprints
        )
