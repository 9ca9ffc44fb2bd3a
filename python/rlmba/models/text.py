"""``text-transformer``: a small transformer over token ids, trained from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["TextTransformer"]


@register_encoder("text-transformer", kinds=["tokens"], default_for=["tokens"])
class TextTransformer(Encoder):
    """Token and position embeddings, pre-norm transformer layers, mean over all tokens but padding.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens": int64 [T]. Padding is ignored. For a text of padding only, the output is
        finite but meaningless.
    width : int
        Embedding width, a multiple of ``heads``.
    layers : int
        Number of transformer layers.
    heads : int
        Number of attention heads.
    dropout : float
        Dropout probability within the layers in training.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width, layers, heads = positive_ints([width, layers, heads], "width, layers, heads")
        if width % heads:
            raise UsageError(
                "encoder text-transformer: expected width to be a multiple of heads, "
                f"got {width} and {heads}"
            )
        if not 0 <= dropout < 1:
            raise UsageError(f"encoder option dropout: expected 0 <= dropout < 1, got {dropout!r}")
        if modality.vocabulary is None:
            raise UsageError(
                f"encoder text-transformer: expected modality {modality.name!r} to state its "
                "vocabulary, got None"
            )
        self.padding = modality.padding
        padding = self.padding if self.padding >= 0 else None
        self.tokens = nn.Embedding(modality.vocabulary, width, padding_idx=padding)
        self.places = nn.Parameter(0.02 * torch.randn(modality.shape[0], width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, out_features]."""
        there = x != self.padding
        # Attention over no tokens is NaN, so an empty text attends to its first padding token.
        attended = there.clone()
        attended[:, 0] |= ~there.any(dim=1)
        x = x.masked_fill(~there, max(self.padding, 0))
        y = self.layers(self.tokens(x) + self.places, src_key_padding_mask=~attended)
        weights = attended.to(y.dtype)[..., None]
        mean: Tensor = self.norm((y * weights).sum(dim=1) / weights.sum(dim=1))
        return mean
