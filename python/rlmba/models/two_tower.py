"""``two-tower``: the text tower and the image tower of a CLIP-like network, used as a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint
from rlmba.models.registry import register_encoder
from rlmba.models.transformers_build import (
    Tokens,
    build_network,
    checkpointed,
    configuration,
    image_constants,
    part_of,
    pixel_options,
    read_config,
    tokenizer_beside,
)
from rlmba.models.weights import Request

__all__ = ["ImageTower", "TextTower"]

_DEFAULT = "openai/clip-vit-base-patch32"


class _Tower(Backbone):
    """One tower of a network with ``get_text_features`` and ``get_image_features``.

    Parameters
    ----------
    modality : Modality
        Its kind selects the tower; the other tower is discarded.
    weights : str
        A hub name, a local folder, a file with the network's state dict, or "random".
    config : str or None
        For a file or "random", the folder or hub name with the configuration. None uses that of
        CLIP with 32-pixel patches.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.

    Notes
    -----
    Features are taken after the projection into the common space of both towers and before they are
    scaled to unit length.
    """

    method: str

    def __init__(
        self,
        modality: Modality,
        *,
        weights: str = _DEFAULT,
        config: str | None = None,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        name = "two-tower"
        request = Request(name, modality.name, str(weights), "a hub name")

        def configured() -> Any:
            from transformers import CLIPConfig

            if config is None:
                return CLIPConfig()
            return read_config(request._replace(weights=str(config), what="configuration"))

        built = build_network(request, configured, pooler=True)
        self.network = built.network
        if not hasattr(self.network, self.method):
            raise UsageError(
                f"encoder {name!r} of {modality.name!r}: {type(self.network).__name__} has no "
                f"{self.method}; use the encoder transformers:{weights}"
            )
        self.prepare(name)
        constants = image_constants(built) if modality.kind == "image" else None
        if constants is not None:
            self.set_standardization(*constants)
        self.drop_unused(self.network, name)
        self.finish(name, built.fresh)
        checkpointed(self.network, name, gradient_checkpointing)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {**super().blueprint(), **configuration(self.network)}

    def prepare(self, name: str) -> None:
        """Determine what to pass to the tower."""
        raise NotImplementedError

    def run(self, **inputs: Any) -> Tensor:
        """Features of the tower; some versions of transformers return them with other outputs."""
        method: Callable[..., Any] = getattr(self.network, self.method)
        out = method(**inputs)
        features: Tensor = out if isinstance(out, Tensor) else out.pooler_output
        return features


@register_encoder("two-tower", kinds=["tokens"])
class TextTower(_Tower):
    """The modality's tower of a CLIP-like network, with projection. Both modalities share weights."""

    method = "get_text_features"

    @classmethod
    def tokenizer_name(
        cls, *member: str, weights: str = _DEFAULT, config: str | None = None, **options: Any
    ) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del member, options
        return tokenizer_beside(weights, config or _DEFAULT)

    def prepare(self, name: str) -> None:
        """Check the vocabulary and the length."""
        self.tokens = Tokens(name, self.modality, part_of(self.network.config, "text"))

    def features(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, out_features]."""
        return self.run(**self.tokens(x))


@register_encoder("two-tower", kinds=["image"])
class ImageTower(_Tower):
    """The modality's tower of a CLIP-like network, with projection. Both modalities share weights."""

    method = "get_image_features"

    def prepare(self, name: str) -> None:  # noqa: ARG002 - the text tower's messages need it
        """Check whether position embeddings have to be interpolated."""
        self.options = pixel_options(
            self.network, getattr(self.network, self.method), self.modality
        )

    def features(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] to [n, out_features]."""
        return self.run(pixel_values=x, **self.options)
