"""Networks of transformers for text and images: ``bert-base``, any by hub name or local folder."""

from __future__ import annotations

from collections.abc import Callable
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
    image_constants,
    pixel_options,
    read_config,
)
from rlmba.models.weights import RANDOM, Request

__all__ = ["BertBase", "TransformersImage", "TransformersText"]

_POOLINGS = ("cls", "mean", "pooler")


class _Text(Backbone):
    """A text network and the pooling of its last hidden state."""

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
        self._configuration = configuration(network)  # of the whole: an encoder's own says less
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        self.network = network
        self.settle(name, built.fresh)
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
class TransformersText(_Text):
    """A text or image network of transformers, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens", tokenized for these weights.
    name : str
        A hub name or a local folder: its configuration is what is built.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random"; None: those of ``name``.
    pooling : {"cls", "mean", "pooler"}
        Of the last hidden state its first token or the mean over tokens that are there; or the
        network's own pooled output. The first token of a decoder has seen nothing of the text.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Keep less for the backward pass and compute it again there.
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


@register_encoder("bert-base", kinds=["tokens"])
class BertBase(_Text):
    """BERT-base: the last hidden state of its first token, 768. bert-base-uncased by default.

    Parameters
    ----------
    layers, width, heads : int or None
        Other sizes than BERT-base's, for random weights only. The vocabulary is the modality's then.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        weights: str = "bert-base-uncased",
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
                f"weights {str(weights)!r}; leave them out, or set weights to {RANDOM!r}"
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


@register_family("transformers", kinds=["image"])
class TransformersImage(Backbone):
    """A text or image network of transformers, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "image". Another size than the weights' is met by interpolating places, where the
        network can.
    name : str
        A hub name or a local folder: its configuration is what is built.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random"; None: those of ``name``.
    pooling : {"cls", "mean", "pooler"} or None
        The class token of the last hidden state, the mean over its places, or the network's own
        pooled output. None: the first of class token, pooled output and mean that it has.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Keep less for the backward pass and compute it again there.
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
        # Whether there is a class token is known once it is built; a pooling layer too many is none
        # of the features' and stays untrained.
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
            self.wants(*constants)
        self.settle(request.encoder, built.fresh)
        checkpointed(network, request.encoder, gradient_checkpointing)

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
    """What is asked for: the weights, and the configuration where they bring none."""
    request = Request(f"transformers:{name}", modality.name, str(weights or name), "a hub name")
    return request, request._replace(weights=name, what="configuration")


def _single(name: str, modality: Modality, network: Any, wanted: str) -> None:
    """Refuse networks that take something else, or several things."""
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
    """The network's own pooled output, flat."""
    pooled = getattr(out, "pooler_output", None)
    if pooled is None:
        raise UsageError("encoder option pooling: the network has no pooler; use 'cls' or 'mean'")
    flat: Tensor = pooled.flatten(1)
    return flat
