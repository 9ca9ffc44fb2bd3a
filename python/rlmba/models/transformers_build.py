"""Building transformers networks, loading their weights and preparing their inputs."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import flag
from rlmba.models.weights import (
    RANDOM,
    Request,
    as_path,
    cached_file,
    few,
    from_hub,
    load_state,
    read_state,
    unwrapped,
)

__all__ = [
    "Built",
    "Tokens",
    "build_network",
    "checkpointed",
    "class_of",
    "config_of",
    "configuration",
    "encoder_of",
    "image_constants",
    "local_files",
    "part_of",
    "pixel_options",
    "read_config",
    "tokenizer_beside",
]

# Other hub names of the same repository.
_SPELLINGS = {"bert-base-uncased": ("google-bert/bert-base-uncased",)}

_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


class Built(NamedTuple):
    """A transformers network, its parameters without weights, and the folder it came from."""

    network: Any
    fresh: list[nn.Parameter]
    source: Request | None


def build_network(request: Request, config: Callable[[], Any], *, pooler: bool) -> Built:
    """Build a network and load the weights named by ``request.weights``.

    Parameters
    ----------
    request : Request
        Its weights are "random", a file with a state dict, a folder or a hub name.
    config : callable
        Returns the configuration for random weights or weights from a file.
    pooler : bool
        Whether to build the network's own pooling, if it is optional.

    Raises
    ------
    UsageError
        If the weights are unavailable or belong to another network.
    DataError
        If the weights are damaged.

    Notes
    -----
    With a blueprint, the network has the blueprint's configuration and random weights.
    """
    blueprint = blueprint_in_use()
    if blueprint is not None:
        request = request._replace(weights=RANDOM)
        config = partial(config_of, request, blueprint)
    path = None if request.weights == RANDOM else as_path(request.weights)
    if request.weights == RANDOM or (path is not None and path.is_file()):
        found = config()
        cls, options = class_of(found, request, pooler)
        try:
            network = cls(found, **options).float()
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"encoder {request.encoder!r} of {request.modality!r}: {error}"
            ) from error
        if path is None:
            return Built(network, [], None)
        missing, source = _load_file(network, path), None
    else:
        found = read_config(request)
        cls, options = class_of(found, request, pooler)

        def read(name: str, **where: Any) -> Any:
            return cls.from_pretrained(
                name, config=found, output_loading_info=True, **options, **where
            )

        network, report = from_hub(read, request, _SPELLINGS.get(request.weights, ()))
        network = network.float()
        left = [k for k in report["unexpected_keys"] if not _of_a_head(network, k)]
        if left or report["mismatched_keys"]:
            odd = [*left, *(str(k) for k in report["mismatched_keys"])]
            raise UsageError(
                f"weights {request.weights}: expected those of {cls.__name__}, but there are also {few(odd)}"
            )
        missing, source = sorted(report["missing_keys"]), request
    tensors = dict(network.named_parameters(remove_duplicate=False))
    return Built(network, [tensors[k] for k in missing if k in tensors], source)


def local_files(
    name: str, weights: str | None = None, *, inner: bool = False
) -> tuple[Path, ...] | None:
    """Return the files that decide a network; None for random weights, and if they are unknown.

    Parameters
    ----------
    name : str
        A local folder, or a hub name, which is looked for in the hub's cache.
    weights : str or None
        "random", or a folder or hub name that is used instead of ``name``.
    inner : bool
        Whether the files of inner folders belong to the network.
    """
    if weights == RANDOM:
        return None
    source = weights or name
    folder = Path(source).expanduser()
    if not folder.is_dir():
        cached = cached_file(source, "config.json")
        if cached is None:
            return None
        folder = cached.parent
    kinds = (".json", ".safetensors", ".bin")
    found = folder.rglob("*") if inner else folder.iterdir()
    return tuple(sorted(p for p in found if p.suffix in kinds and p.is_file()))


def tokenizer_beside(weights: str, name: str | None) -> str | None:
    """The tokenizer of weights: a folder or hub name has its own, a file has that of ``name``.

    None for random weights.
    """
    if weights == RANDOM:
        return None
    return name if Path(weights).expanduser().is_file() else str(weights)


def read_config(request: Request) -> Any:
    """Read the configuration from a folder, the hub's cache or the hub."""
    from transformers import AutoConfig

    def read(name: str, **where: Any) -> Any:
        # Passed explicitly, because transformers may otherwise ask on the terminal whether to run
        # code.
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **where)

    return _without_code(from_hub(read, request, _SPELLINGS.get(request.weights, ())))


def _without_code(config: Any) -> Any:
    """Remove the name of a repository of kernels, which transformers would download and run."""
    config._attn_implementation = None
    return config


def encoder_of(network: Any) -> Any:
    """Return the encoder of a network with encoder and decoder, or the network itself."""
    return network.get_encoder() if network.config.is_encoder_decoder else network


def configuration(network: Any) -> dict[str, Any]:
    """Return a network's configuration as JSON values, for an encoder's blueprint."""
    return {"transformers": json.loads(network.config.to_json_string(use_diff=False))}


def config_of(request: Request, blueprint: Blueprint) -> Any:
    """Return the configuration that :func:`configuration` described."""
    from transformers import AutoConfig

    known = dict(blueprint.get("transformers") or {})
    try:
        return _without_code(AutoConfig.for_model(known.pop("model_type"), **known))
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"encoder {request.encoder!r} of {request.modality!r}: its configuration is not one that "
            f"this version of transformers can build ({error}); install the one it was made with"
        ) from error


def class_of(config: Any, request: Request, pooler: bool) -> tuple[Any, dict[str, Any]]:
    """Return the class of the bare network of a configuration, and the options to build it with."""
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        raise UsageError(
            f"encoder {request.encoder!r} of {request.modality!r}: transformers has no bare model for "
            f"{type(config).__name__}; use another network"
        )
    found: Any = MODEL_MAPPING[type(config)]
    cls = found[0] if isinstance(found, list | tuple) else found
    takes = inspect.signature(cls.__init__).parameters
    return cls, {"add_pooling_layer": pooler} if "add_pooling_layer" in takes else {}


def _load_file(network: Any, path: Any) -> list[str]:
    names = set(network.state_dict())
    prefixes = ("module.", "encoder.", "backbone.", "model.", f"{network.base_model_prefix}.")
    state = unwrapped(read_state(path), names, prefixes)
    return load_state(network, state, path, spare=lambda key: _of_a_head(network, key))


def _of_a_head(network: Any, key: str) -> bool:
    """Whether a key unknown to the network belongs to a head on top of it."""
    first = key.removeprefix(f"{network.base_model_prefix}.").split(".")[0]
    return (
        first == "pooler"
        or key.endswith("position_ids")
        or first not in dict(network.named_children())
    )


def part_of(config: Any, part: str) -> Any:
    """Return the text or vision part of a combined configuration, or the configuration itself."""
    return getattr(config, f"{part}_config", config)


class Tokens:
    """Converts a modality's token ids to a network's; checked once, applied to each batch.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens", with a known vocabulary.
    config : transformers configuration
        Configuration of the text network.
    """

    def __init__(self, name: str, modality: Modality, config: Any) -> None:
        size = getattr(config, "vocab_size", None)
        if modality.vocabulary is None or size is None or modality.vocabulary > size:
            raise UsageError(
                f"encoder {name!r}: expected modality {modality.name!r} to state a vocabulary of at "
                f"most {size} tokens, got {modality.vocabulary}; use the tokenizer of these weights"
            )
        longest = getattr(config, "max_position_embeddings", None)
        length = modality.shape[0]
        if isinstance(longest, int) and 0 < longest < length:
            raise UsageError(
                f"encoder {name!r}: expected texts of at most {longest} tokens, but modality "
                f"{modality.name!r} has {length}; cut them"
            )
        self.padding = modality.padding
        pad = getattr(config, "pad_token_id", None)
        self.pad = pad if isinstance(pad, int) and 0 <= pad < size else 0
        # SigLIP reads a text's last position and was trained with attention to the padding before
        # it.
        fixed = str(getattr(config, "model_type", "")).startswith("siglip")
        self.length = longest if fixed and isinstance(longest, int) else None

    def __call__(self, ids: Tensor) -> dict[str, Tensor]:
        """Return ids [n, T] with the network's own padding, and the attention mask."""
        there = ids != self.padding
        ids = ids.masked_fill(~there, self.pad)
        if self.length is not None:
            fill = ids.new_full((ids.shape[0], self.length - ids.shape[1]), self.pad)
            return {"input_ids": torch.cat([ids, fill], dim=1)}
        # Attention over no tokens is NaN, so an empty text attends to its first padding token.
        first = there[:, :1] | ~there.any(dim=1, keepdim=True)
        mask = torch.cat([first, there[:, 1:]], dim=1)
        return {"input_ids": ids, "attention_mask": mask.to(ids.dtype)}


def pixel_options(network: Any, method: Callable[..., Any], modality: Modality) -> dict[str, bool]:
    """Options to pass with images of another size than the network's."""
    size = getattr(part_of(network.config, "vision"), "image_size", None)
    own = (size, size) if isinstance(size, int) else tuple(size or ())
    takes = "interpolate_pos_encoding" in inspect.signature(method).parameters
    return {"interpolate_pos_encoding": True} if takes and own != modality.shape[1:] else {}


def image_constants(built: Built) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and deviation of the images that the weights expect, read from their folder."""
    if built.source is None:
        return None
    from transformers.image_processing_base import ImageProcessingMixin

    path = as_path(built.source.weights)
    files = ("preprocessor_config.json", "processor_config.json")
    found: dict[str, Any] = {}
    if path is None or any((path / file).exists() for file in files):
        # Some models on the hub do not state it.
        with contextlib.nullcontext() if path else contextlib.suppress(UsageError):
            found, _ = from_hub(ImageProcessingMixin.get_image_processor_dict, built.source)
    if found.get("do_normalize") is False:
        return [0.0], [1.0]
    mean, deviation = found.get("image_mean"), found.get("image_std")
    if mean and deviation:
        return mean, deviation
    kind = str(built.network.config.model_type)
    if "siglip" in kind:
        return [0.5], [0.5]
    return _CLIP if "clip" in kind else None


def checkpointed(network: Any, name: str, wanted: bool) -> None:
    """Recompute activations in the backward pass, if requested and if the network is trained."""
    if not flag(wanted, "gradient_checkpointing") or not any(
        p.requires_grad for p in network.parameters()
    ):
        return
    if not network.supports_gradient_checkpointing:
        raise UsageError(
            f"encoder {name!r}: the network has no gradient checkpointing; remove this option"
        )
    network.config.use_cache = False
    # The name changed between versions, and newer versions warn about the old one.
    enable = getattr(network, "activation_checkpointing_enable", None)
    (enable or network.gradient_checkpointing_enable)({"use_reentrant": False})
