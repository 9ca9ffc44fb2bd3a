"""torchvision networks without their classifier: ``resnet101``, ``r2plus1d-18``, or any by name."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import blueprint_in_use
from rlmba.models.registry import register_encoder, register_family
from rlmba.models.weights import (
    RANDOM,
    Request,
    as_path,
    connection_timeout,
    few,
    load_state,
    read_state,
    unwrapped,
)

__all__ = ["AudioResNet18", "R2Plus1D18", "ResNet101", "TorchvisionNetwork"]

# A number of classes that is the width of no other layer; a prime is safe.
_CLASSES = 1009


@functools.cache
def _names() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the networks for images and for videos."""
    from torchvision import models

    return (
        frozenset(models.list_models(module=models)),
        frozenset(models.list_models(module=models.video)),
    )


def _kinds(name: str) -> Sequence[str] | None:
    images, videos = _names()
    if name in images:
        return ("image", "spectrogram")
    return ("video",) if name in videos else None


@register_family("torchvision", kinds=["image", "spectrogram", "video"], find=_kinds)
class TorchvisionNetwork(Backbone):
    """A torchvision classification network up to the input of its last linear layer.

    Parameters
    ----------
    modality : Modality
        Of kind "image" or "spectrogram" for image networks, "video" for video networks. If it does
        not have three channels, the first convolution is replaced. Its weights become the mean over
        the colors times 3 / channels, so that equal channels give the result of a gray image.
    architecture : str
        torchvision's name: "resnet50", "convnext_tiny", "r3d_18", ...
    weights : str
        torchvision's name of weights ("DEFAULT", "IMAGENET1K_V1", ...); a file with the network's
        state dict, with or without the classifier; or "random".
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.

    Notes
    -----
    Named weights and weights from a file are assumed to expect the standardization of torchvision's
    weights for this network.
    """

    def __init__(
        self,
        modality: Modality,
        architecture: str,
        *,
        weights: str = "DEFAULT",
        frozen: bool = False,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        video = modality.kind == "video"
        self.memory_format = torch.channels_last_3d if video else torch.channels_last
        found = None
        if weights != RANDOM and blueprint_in_use() is None:
            request = Request(architecture, modality.name, str(weights), _named(architecture))
            found = _find(architecture, request)
        network, dropped = _build(architecture, modality)
        if modality.shape[0] != 3:
            _set_channels(network, modality.shape[0])
        if found is not None:
            _load(network, architecture, *found, dropped)
            self.set_standardization(*_constants(architecture, weights))
        self.network = network
        self.finish(architecture)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str = "DEFAULT", **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for files and cached weights."""
        from torchvision.models import get_model_weights

        del modality, options
        known = get_model_weights(member[0]).__members__ if member else {}
        path = _cached(known[weights]) if weights in known else Path(weights).expanduser()
        return (path,) if path.is_file() else None

    def features(self, x: Tensor) -> Tensor:
        """Map [n, C, ...] to [n, out_features]."""
        y: Tensor = self.network(x)
        return y


@register_encoder("resnet101", kinds=["image"])
class ResNet101(TorchvisionNetwork):
    """ResNet-101: 2048 averages of its last maps. ImageNet weights by default."""

    def __init__(
        self, modality: Modality, *, weights: str = "IMAGENET1K_V1", frozen: bool = False
    ) -> None:
        super().__init__(modality, "resnet101", weights=weights, frozen=frozen)


@register_encoder("r2plus1d-18", kinds=["video"])
class R2Plus1D18(TorchvisionNetwork):
    """R(2+1)D-18: 512 averages of its last maps. Random weights by default."""

    def __init__(self, modality: Modality, *, weights: str = RANDOM, frozen: bool = False) -> None:
        super().__init__(modality, "r2plus1d_18", weights=weights, frozen=frozen)


@register_encoder("audio-resnet18", kinds=["spectrogram"])
class AudioResNet18(TorchvisionNetwork):
    """ResNet-18 with as many input channels as the spectrogram: 512. Random weights by default."""

    def __init__(self, modality: Modality, *, weights: str = RANDOM, frozen: bool = False) -> None:
        super().__init__(modality, "resnet18", weights=weights, frozen=frozen)


def _build(architecture: str, modality: Modality) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a network of the modality's size without classifier; also return the removed prefixes."""
    from torchvision.models import get_model

    options: dict[str, Any] = {}
    gone: tuple[str, ...] = ()
    if architecture.startswith("vit_"):
        options["image_size"] = _side(architecture, modality)
    elif architecture.startswith("maxvit"):
        options["input_size"] = modality.shape[1:]
    elif architecture in ("googlenet", "inception_v3"):
        # Its auxiliary heads are only used in training on ImageNet.
        options.update(aux_logits=False, init_weights=True)
        gone = ("aux1.", "aux2.", "AuxLogits.")
    try:
        network: nn.Module = get_model(architecture, weights=None, num_classes=_CLASSES, **options)
    except (ValueError, AssertionError) as error:
        raise UsageError(
            f"encoder {architecture!r} cannot take modality {modality.name!r} of shape "
            f"{list(modality.shape)}: {error}"
        ) from error
    (name,) = (
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
        and module.weight.shape[0] == _CLASSES
    )
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, nn.Identity())
    return network, (f"{name}.", *gone)


def _side(architecture: str, modality: Modality) -> int:
    _, height, width = modality.shape
    if height != width:
        raise UsageError(
            f"encoder {architecture!r} takes square images, but modality {modality.name!r} is "
            f"{height} x {width}; crop it, or use another network"
        )
    return height


def _first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d | nn.Conv3d]:
    return next(
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    )


def _set_channels(network: nn.Module, channels: int) -> None:
    """Change the number of input channels of the first convolution, keeping the weights' scale."""
    name, old = _first_convolution(network)
    new = type(old)(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    # The scale of a convolution's initial weights depends on its outputs, not on its inputs.
    nn.init.normal_(new.weight, 0.0, float(old.weight.detach().std()))
    if old.bias is not None and new.bias is not None:
        nn.init.zeros_(new.bias)
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, new)


def _find(architecture: str, request: Request) -> tuple[dict[str, Tensor], str]:
    """Find the tensors for a name or path; also return their source."""
    from torchvision.models import get_model_weights

    known = get_model_weights(architecture)
    if request.weights not in known.__members__:
        path = as_path(request.weights)
        if path is None or not path.is_file():
            raise request.refuse("no such name and no such file")
        return read_state(path), str(path)
    member = known[request.weights]
    cached = _cached(member)
    if cached.is_file():
        return read_state(cached), str(cached)
    try:
        with connection_timeout():
            return member.get_state_dict(progress=True, check_hash=True, weights_only=True), str(
                member
            )
    except (OSError, RuntimeError) as error:
        raise request.refuse(f"not in {cached.parent}, and cannot be fetched ({error})") from error


def _cached(member: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(member.url).path).name


def _named(architecture: str) -> str:
    from torchvision.models import get_model_weights

    return f"one of {list(get_model_weights(architecture).__members__)}"


def _load(
    network: nn.Module,
    architecture: str,
    state: dict[str, Tensor],
    source: str,
    dropped: tuple[str, ...],
) -> None:
    """Adapt a state dict to the network and load it."""
    if architecture.startswith("densenet"):  # spelled as in its published files
        old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
        state = {old.sub(r"\1\2", key): value for key, value in state.items()}
    state = unwrapped(state, set(network.state_dict()))
    name, convolution = _first_convolution(network)
    has, wanted = state.get(f"{name}.weight"), convolution.weight.shape
    if has is not None and has.ndim == len(wanted) and has.shape[1] == 3 != wanted[1]:
        gray = has.mean(dim=1, keepdim=True) * (3 / wanted[1])
        state = {**state, f"{name}.weight": gray.expand(-1, wanted[1], *gray.shape[2:])}
    if architecture.startswith("vit_"):
        state = _for_size(network, state)
    missing = load_state(network, state, source, spare=lambda key: key.startswith(dropped))
    if missing:
        raise UsageError(
            f"weights {source}: expected those of {architecture}, but they lack {few(missing)}"
        )


def _for_size(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Interpolate a vision transformer's position embeddings if the weights have another size."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    key = "encoder.pos_embedding"
    if key not in state or state[key].shape == network.state_dict()[key].shape:
        return state
    side, patch = network.image_size, network.patch_size
    return dict(interpolate_embeddings(side, patch, dict(state)))


def _constants(architecture: str, weights: str) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of the input that the weights expect."""
    from torchvision.models import get_model_weights

    if architecture in ("googlenet", "inception_v3"):
        # torchvision transforms ImageNet's constants inside these networks if they have weights.
        return [0.5] * 3, [0.5] * 3
    known = get_model_weights(architecture)
    member = known[weights] if weights in known.__members__ else known["DEFAULT"]
    preset = member.transforms()
    return list(preset.mean), list(preset.std)
