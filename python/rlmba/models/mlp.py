"""``mlp``: fully connected layers, for precomputed features and small raw arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["Mlp"]


@register_encoder(
    "mlp",
    kinds=["features", "image", "spectrogram", "sequence"],
    default_for=["features"],
)
class Mlp(Encoder):
    """Linear layers, each with ReLU.

    Parameters
    ----------
    modality : Modality
        Of kind "features"; images, spectrograms and sequences are flattened.
    hidden : sequence of int
        Widths of the layers. If empty, the features are passed on unchanged. The projection that
        follows has a ReLU, so two layers are still learned, which is best with few labels.
    """

    stackable = True

    def __init__(self, modality: Modality, *, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = math.prod(modality.shape)
        for size in positive_ints(hidden, "hidden", empty=True):
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(*layers)
        self.out_features = width

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`: known if the features are passed on unchanged."""
        del modality, member
        return None if options.get("hidden") else ()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, *shape]`` to ``[n, out_features]``."""
        y: Tensor = self.layers(x.flatten(1))
        return y
