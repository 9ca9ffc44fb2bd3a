"""transformers networks for text and images: ``bert-base``, or any by hub name or local folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint
from rlmba.models.registry import positive_ints, register_encoder, register_family
from rlmba.models.transformers_build import (
    Tokens,
    build_network,
    checkpointed,
    configuration,
    encoder_of,
    image_constants,
    local_files,
    pixel_options,
    read_config,
    tokenizer_beside,
)
from rlmba.models.weights import RANDOM, Request

__all__ = ["BertBase", "TextNetwork", "TransformersImage", "TransformersText"]

BERT_UNCASED = "bert-base-uncased"

_POOLINGS = ("cls", "mean", "pooler")


class TextNetwork(Backbone):
    """A text network with pooling of its last hidden state."""

    def __init__(
        self,
        modality: Modality,
        request: Request,
        config: Callable[[], Any],
        *,
        pooling: str,
        frozen: bool,
        gradient_checkpointing: bool,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        name = request.encoder
        self.pooling = _checked(pooling)
        built = build_network(request, config, pooler=pooling == "pooler")
        network = built.network
        _single(name, modality, network, "input_ids")
        self.tokens = Tokens(name, modality, network.config)
        # Taken from the whole model, because its encoder's configuration has fewer entries.
        self._configuration = configuration(network)
        self.network = network = encoder_of(network)
        self.finish(name, built.fresh)
        checkpointed(network, name, gradient_checkpointing)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {**super().blueprint(), **self._configuration}

    def features(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, out_features]."""
        given = self.tokens(x)
        out = self.network(**given)
        if self.pooling == "pooler":
            return _pooled(out)
        states: Tensor = out.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        there = given.get("attention_mask", torch.ones_like(given["input_ids"]))
        weights = there.to(states.dtype)[..., None]
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


@register_family("transformers", kinds=["tokens"])
class TransformersText(TextNetwork):
    """A transformers network, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens", tokenized for these weights.
    name : str
        A hub name or a local folder, whose configuration is built.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random". None uses those of
        ``name``.
    pooling : {"cls", "mean", "pooler"}
        The first token of the last hidden state, its mean over all tokens but padding, or the
        network's own pooled output. A decoder's first token attends only to itself.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.
    """

    def __init__(
        self,
        modality: Modality,
        name: str,
        *,
        weights: str | None = None,
        pooling: str = "cls",
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        request, config = _requests(name, modality, weights)
        super().__init__(
            modality,
            request,
            lambda: read_config(config),
            pooling=pooling,
            frozen=frozen,
            gradient_checkpointing=gradient_checkpointing,
        )

    @classmethod
    def tokenizer_name(cls, *member: str, weights: str | None = None, **options: Any) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del options
        return tokenizer_beside(weights or member[0], member[0])

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for folders and cached hub names."""
        del modality, options
        return local_files(member[0], weights)


@register_encoder("bert-base", kinds=["tokens"])
class BertBase(TextNetwork):
    """BERT-base: last hidden state of the first token, 768 values. bert-base-uncased by default.

    Parameters
    ----------
    layers, width, heads : int or None
        Sizes other than BERT-base's, for random weights only. The vocabulary is then the
        modality's.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        weights: str = BERT_UNCASED,
        pooling: str = "cls",
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
        given: dict[str, Any] = {k: v for k, v in sizes.items() if v is not None}
        positive_ints(list(given.values()), "layers, width, heads", empty=True)
        if given and weights != RANDOM:
            raise UsageError(
                f"encoder 'bert-base' of {modality.name!r}: layers, width and heads are those of the "
                f"weights {str(weights)!r}; remove these options, or set weights to {RANDOM!r}"
            )
        if width is not None:
            given["intermediate_size"] = 4 * width
        if weights == RANDOM and modality.vocabulary is not None:
            given["vocab_size"] = modality.vocabulary

        def config() -> Any:
            from transformers import BertConfig

            return BertConfig(**given)

        request = Request("bert-base", modality.name, str(weights), "a hub name")
        super().__init__(
            modality,
            request,
            config,
            pooling=pooling,
            frozen=frozen,
            gradient_checkpointing=gradient_checkpointing,
        )

    @classmethod
    def tokenizer_name(
        cls, *member: str, weights: str = BERT_UNCASED, **options: Any
    ) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del member, options
        return tokenizer_beside(weights, BERT_UNCASED)


@register_family("transformers", kinds=["image"])
class TransformersImage(Backbone):
    """A transformers network, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "image". For another size than the weights', position embeddings are interpolated if
        the network supports it.
    name : str
        A hub name or a local folder, whose configuration is built.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random". None uses those of
        ``name``.
    pooling : {"cls", "mean", "pooler"} or None
        The class token of the last hidden state, its mean over positions, or the network's own
        pooled output. None uses the class token, the pooled output or the mean, the first that
        exists.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.
    """

    def __init__(
        self,
        modality: Modality,
        name: str,
        *,
        weights: str | None = None,
        pooling: str | None = None,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        self.pooling = None if pooling is None else _checked(pooling)
        request, config = _requests(name, modality, weights)
        # Whether there is a class token is known only after building. An unused pooling layer does
        # not affect the features and stays untrained.
        built = build_network(
            request, lambda: read_config(config), pooler=pooling in (None, "pooler")
        )
        network = built.network
        _single(request.encoder, modality, network, "pixel_values")
        self.network = network
        self.options = pixel_options(network, network.forward, modality)
        parameters = [n.rpartition(".")[2] for n, _ in network.named_parameters()]
        token = any(n in ("cls_token", "class_token", "class_embedding") for n in parameters)
        if self.pooling == "cls" and not token:
            raise UsageError(
                f"encoder {name!r} of {modality.name!r}: the network has no class token; set pooling "
                "to 'mean' or 'pooler'"
            )
        if token:
            self.pooling = self.pooling or "cls"
        constants = image_constants(built)
        if constants is not None:
            self.set_standardization(*constants)
        self.finish(request.encoder, built.fresh)
        checkpointed(network, request.encoder, gradient_checkpointing)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for folders and cached hub names."""
        del modality, options
        return local_files(member[0], weights)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {**super().blueprint(), **configuration(self.network)}

    def features(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] to [n, out_features]."""
        out = self.network(pixel_values=x, **self.options)
        if self.pooling == "pooler" or (
            self.pooling is None and getattr(out, "pooler_output", None) is not None
        ):
            return _pooled(out)
        states: Tensor = out.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        return states.mean(dim=1) if states.ndim == 3 else states.flatten(2).mean(dim=2)


def _requests(name: str, modality: Modality, weights: str | None) -> tuple[Request, Request]:
    """Requests for the weights and, if they come without one, for the configuration."""
    request = Request(f"transformers:{name}", modality.name, str(weights or name), "a hub name")
    return request, request._replace(weights=name, what="configuration")


def _single(name: str, modality: Modality, network: Any, wanted: str) -> None:
    """Refuse networks that take another kind of input or several inputs."""
    if hasattr(network.config, "text_config") and hasattr(network.config, "vision_config"):
        raise UsageError(
            f"encoder {name!r} of {modality.name!r}: {type(network).__name__} has a tower for text and "
            "one for images; use the encoder two-tower with these weights"
        )
    if network.main_input_name != wanted:
        raise UsageError(
            f"encoder {name!r} takes {network.main_input_name}, but modality {modality.name!r} is "
            f"{modality.kind!r}; use another network"
        )


def _checked(pooling: Any) -> str:
    """Return the option if it is known."""
    if pooling not in _POOLINGS:
        raise UsageError(f"encoder option pooling: expected one of {_POOLINGS}, got {pooling!r}")
    return str(pooling)


def _pooled(out: Any) -> Tensor:
    """Return the network's own pooled output, flattened."""
    pooled = getattr(out, "pooler_output", None)
    if pooled is None:
        raise UsageError("encoder option pooling: the network has no pooler; use 'cls' or 'mean'")
    flat: Tensor = pooled.flatten(1)
    return flat
