"""Networks in the format of sentence-transformers: a transformers network and its modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import register_family
from rlmba.models.transformers_build import (
    Tokens,
    build_network,
    checkpointed,
    configuration,
    encoder_of,
    local_files,
    read_config,
    tokenizer_beside,
)
from rlmba.models.weights import RANDOM, Request, as_path, hub_file, load_state, read_state
from rlmba.storage import is_plain_name

__all__ = ["SentenceTransformersText"]

_ACTIVATIONS = ("GELU", "Identity", "ReLU", "SiLU", "Sigmoid", "Tanh")
_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

# Older files have a flag for each pooling.
_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@register_family("sentence-transformers", kinds=["tokens"])
class SentenceTransformersText(Backbone):
    """A network in the format of sentence-transformers, with its own pooling and further modules.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens", tokenized with the tokenizer of the same folder or name.
    name : str
        A local folder, or a hub name; "all-MiniLM-L6-v2" means "sentence-transformers/all-MiniLM-L6-v2".
    weights : str or None
        "random", or None for those of ``name``.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.

    Notes
    -----
    The folder's modules are read as data, and the library is not needed. Prompts are not added to
    the texts.
    """

    def __init__(
        self,
        modality: Modality,
        name: str,
        *,
        weights: str | None = None,
        frozen: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(modality, frozen=frozen)
        encoder = f"sentence-transformers:{name}"
        if weights not in (None, RANDOM):
            raise UsageError(
                f"encoder {encoder!r} of {modality.name!r}: option weights: expected {RANDOM!r} or "
                f"none, got {weights!r}; give the folder as NAME"
            )
        source = Request(encoder, modality.name, _full(name), "a hub name")
        blueprint = blueprint_in_use()
        if blueprint is None:
            path, self.modules_read = _modules(source)
        else:
            path, self.modules_read = "", [(str(k), dict(v)) for k, v in blueprint["modules"]]
        inner = source._replace(
            weights=str(Path(source.weights) / path) if path else source.weights
        )
        request = inner._replace(weights=RANDOM) if weights == RANDOM else inner
        built = build_network(
            request, lambda: read_config(inner._replace(what="configuration")), pooler=False
        )
        self.tokens = Tokens(encoder, modality, built.network.config)
        self._configuration = configuration(built.network)
        self.network = network = encoder_of(built.network)
        loaded = weights is None and blueprint is None
        self.dense = nn.ModuleDict(
            {
                str(i): _dense(source, config, loaded=loaded)
                for i, (kind, config) in enumerate(self.modules_read)
                if kind == "Dense"
            }
        )
        self.finish(encoder, built.fresh)
        checkpointed(network, encoder, gradient_checkpointing)

    @classmethod
    def tokenizer_name(cls, *member: str, weights: str | None = None, **options: Any) -> str | None:
        """See :meth:`rlmba.models.Encoder.tokenizer_name`."""
        del options
        return tokenizer_beside(weights or _full(member[0]), None)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for folders and cached hub names."""
        del modality, options
        return local_files(_full(member[0]), weights, inner=True)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        modules = [[kind, config] for kind, config in self.modules_read]
        return {**super().blueprint(), **self._configuration, "modules": modules}

    def features(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, out_features]."""
        given = self.tokens(x)
        states = self.network(**given).last_hidden_state
        there = given.get("attention_mask", torch.ones_like(given["input_ids"]))
        y: Tensor = states
        for i, (kind, config) in enumerate(self.modules_read):
            if kind == "Pooling":
                modes = _poolings(config)
                y = torch.cat([_pool(states, there, mode) for mode in modes], dim=1)
            elif kind == "Dense":
                y = self.dense[str(i)](y)
            else:
                y = nn.functional.normalize(y, dim=1)
        return y


def _full(name: str) -> str:
    """Return the hub name of a short name; names of folders remain."""
    return name if "/" in name or as_path(name) is not None else f"sentence-transformers/{name}"


def _file(source: Request, name: str) -> Path:
    """Find a file of the folder or the hub's repository."""
    folder = as_path(source.weights)
    if folder is not None:
        if not (folder / name).is_file():
            raise UsageError(
                f"encoder {source.encoder!r} of {source.modality!r}: expected a folder saved by "
                f"sentence-transformers, but {folder / name} does not exist; use transformers:{folder} "
                "for a network without modules.json"
            )
        return folder / name
    return hub_file(source, source.weights, name)


def _json(source: Request, name: str) -> Any:
    path = _file(source, name)
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, but it is damaged: {error}") from error


def _damaged(source: Request, expected: str) -> DataError:
    return DataError(f"weights {source.weights}: expected {expected}; copy the folder again")


def _modules(source: Request) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the folder of the transformers network, and the kinds and settings of other modules."""
    listed = _json(source, "modules.json")
    try:
        found = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in listed]
    except (KeyError, TypeError) as error:
        raise _damaged(source, "modules.json to be a list of modules with type and path") from error
    for path in (path for _, path in found if path):
        if not is_plain_name(path):
            raise _damaged(
                source, f"the paths in modules.json to be names of folders, got {path!r}"
            )
    kinds = [kind for kind, _ in found]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"}:
        raise UsageError(
            f"encoder {source.encoder!r} of {source.modality!r}: expected the modules Transformer, "
            f"Pooling, and then Dense or Normalize, found {kinds}; use another network"
        )
    modules = []
    for kind, path in found[1:]:
        config = {} if kind == "Normalize" else _json(source, f"{path}/config.json")
        if not isinstance(config, dict):
            raise _damaged(source, f"{path}/config.json to contain a JSON object")
        modules.append((kind, {**config, "path": path}))
        if kind == "Pooling" and not _poolings(config):
            raise UsageError(
                f"encoder {source.encoder!r} of {source.modality!r}: expected a pooling of "
                f"{list(_POOLINGS)}, found {config}; use another network"
            )
    return found[0][1], modules


def _poolings(config: dict[str, Any]) -> list[str]:
    """Return the poolings of a module; empty if one is unknown."""
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for mode, key in _FLAGS.items() if config.get(key)]
    modes = [given] if isinstance(given, str) else list(given)
    return modes if set(modes) <= set(_POOLINGS) else []


def _pool(states: Tensor, there: Tensor, mode: str) -> Tensor:
    """Pool hidden states [n, T, D] over the tokens that are not padding, to [n, D]."""
    if mode == "cls":
        return states[:, 0]
    if mode == "max":
        return states.masked_fill(there[..., None] == 0, -torch.inf).amax(dim=1)
    if mode == "lasttoken":
        places = torch.arange(there.shape[1], device=there.device)
        last = (there * places).argmax(dim=1)
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
    weights = there.to(states.dtype)
    if mode == "weightedmean":
        weights = weights * torch.arange(1, there.shape[1] + 1, device=there.device)
    total = weights.sum(dim=1, keepdim=True)
    if mode == "mean_sqrt_len_tokens":
        total = total.sqrt()
    return (states * weights[..., None]).sum(dim=1) / total


def _dense(source: Request, config: dict[str, Any], *, loaded: bool) -> nn.Module:
    """Build a module Dense, and load its weights if ``loaded``."""
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        raise UsageError(
            f"encoder {source.encoder!r} of {source.modality!r}: expected a Dense module without "
            f"residual and with an activation of {list(_ACTIVATIONS)}, found {activation!r}; use "
            "another network"
        )
    sizes: list[Any] = [config.get("in_features"), config.get("out_features")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise _damaged(
            source, f"in_features and out_features of a Dense module to be counts, got {sizes}"
        )
    linear = nn.Linear(sizes[0], sizes[1], bool(config.get("bias", True)))
    module = nn.Sequential(linear, getattr(nn, activation)())
    if loaded:
        try:
            path = _file(source, f"{config['path']}/model.safetensors")
        except UsageError:
            path = _file(source, f"{config['path']}/pytorch_model.bin")
        state = {k.removeprefix("linear."): v for k, v in read_state(path).items()}
        if load_state(linear, state, path, spare=lambda _: False):
            raise UsageError(f"weights {path}: expected linear.weight and linear.bias")
    return module
