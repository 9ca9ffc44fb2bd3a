"""Checkpoints: weights as safetensors, written atomically and checked against their configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from rlmba.config import COMPARED, PLACES, deciding, differing
from rlmba.errors import CheckpointError, DataError
from rlmba.reading.arrays import read_tensors
from rlmba.reading.structured import parse_json
from rlmba.storage import atomic_write_bytes

__all__ = [
    "assign_tensors",
    "config_hash",
    "load_model",
    "load_tensors",
    "save_model",
    "save_tensors",
]


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a configuration's canonical JSON; independent of key order."""
    return hashlib.sha256(_canonical(config).encode()).hexdigest()


def save_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], *, config: Mapping[str, Any]
) -> None:
    """Write named tensors with their configuration.

    Parameters
    ----------
    path : path
        The file; replaced atomically.
    tensors : mapping of name to tensor
        On any device.
    config : mapping
        JSON-serializable; stored with its hash in the file's metadata.

    Raises
    ------
    StorageError
        If it cannot be written; an existing file is unchanged.
    """
    plain = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
    metadata = {"config": _canonical(config), "config_hash": config_hash(config)}
    atomic_write_bytes(path, save(plain, metadata=metadata))


def load_tensors(path: str | Path, *, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Read a file of :func:`save_tensors` to the CPU.

    Parameters
    ----------
    path : path
        The file.
    config : mapping
        The configuration that it must have been written with.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or has another configuration; the message names the keys
        that differ.
    """
    metadata, tensors = read_tensors(
        Path(path),
        "pt",
        what="a readable safetensors checkpoint",
        advice="restore the file, or start a new run",
        error=CheckpointError,
    )
    if metadata.get("config_hash") != config_hash(config) and (
        difference := _difference(metadata, config)
    ):
        raise CheckpointError(
            f"{path}: expected a checkpoint of this configuration, got another: {difference}"
        )
    return tensors


def save_model(path: str | Path, model: torch.nn.Module, *, config: Mapping[str, Any]) -> None:
    """Write a model's weights and buffers; see :func:`save_tensors`."""
    save_tensors(path, model.state_dict(), config=config)


def load_model(path: str | Path, model: torch.nn.Module, *, config: Mapping[str, Any]) -> None:
    """Read weights and buffers into a model; see :func:`load_tensors`.

    Raises
    ------
    CheckpointError
        As :func:`load_tensors` and :func:`assign_tensors`. The model is then unchanged.
    """
    assign_tensors(path, model, load_tensors(path, config=config))


def assign_tensors(
    path: str | Path, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Set a model's weights and buffers to tensors that were read from ``path``.

    Raises
    ------
    CheckpointError
        If names, shapes or types differ from the model's, which is then unchanged.
    """
    own = model.state_dict()
    problems = [f"{n} is missing" for n in own if n not in tensors]
    problems += [f"{n} is not the model's" for n in tensors if n not in own]
    both = [(n, tensors[n], own[n]) for n in own if n in tensors]
    problems += [
        f"{n} has shape {tuple(t.shape)}, not {tuple(o.shape)}"
        for n, t, o in both
        if t.shape != o.shape
    ]
    problems += [f"{n} is {t.dtype}, not {o.dtype}" for n, t, o in both if t.dtype != o.dtype]
    if problems:
        raise CheckpointError(f"{path}: expected the weights of this model, but {_some(problems)}")
    model.load_state_dict(tensors)


def _canonical(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)


def _difference(metadata: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """Describe how a checkpoint's configuration differs; "" if only paths to data differ."""
    stored = metadata.get("config")
    if stored is None:
        return "it states none; it was not written by this package"
    try:
        before = parse_json(stored, dict[str, Any], "it", advice="", finite=False)
    except DataError:
        return "its recorded configuration is damaged"
    now = json.loads(_canonical(config))
    if config_hash(before) != metadata.get("config_hash"):
        return "its recorded configuration is damaged"
    # The run's configuration was compared on resuming; its data may have been moved since.
    found = deciding(differing(before, now, absent="absent"), (*PLACES, *COMPARED))
    return _some([f"{key} was {a!r} and is {b!r}" for key, (a, b) in found.items()])


def _some(parts: list[str]) -> str:
    more = f"; and {len(parts) - 4} more" if len(parts) > 4 else ""
    return "; ".join(parts[:4]) + more
