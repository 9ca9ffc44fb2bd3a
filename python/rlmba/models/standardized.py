"""A frozen encoder with standardized features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlmba.models.blueprint import Blueprint
from rlmba.models.registry import Encoder

__all__ = ["Standardized"]


class Standardized(Encoder):
    """An encoder whose features are standardized as the features that a network was trained on.

    Parameters
    ----------
    encoder : Encoder
    mean, deviation : sequence of float or float32 array, [out_features], or None
        Of each feature. None uses 0 and 1 until they are loaded.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        encoder: Encoder,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        width = encoder.out_features
        self.encoder = encoder
        self.out_features = width
        self.memory_format = encoder.memory_format
        for name, given in (("mean", mean), ("deviation", deviation)):
            values = torch.full((width,), float(name == "deviation"))
            if given is not None:
                values = torch.as_tensor(given, dtype=torch.float32).reshape(width).clone()
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``[n, *modality.shape]`` to ``[n, out_features]``."""
        features: Tensor = self.encoder(x)
        return (features.float() - self.mean) / self.deviation

    def blueprint(self) -> Blueprint:
        """See :meth:`Encoder.blueprint`."""
        return self.encoder.blueprint()
