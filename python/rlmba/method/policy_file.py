"""A trained policy on disk: a safetensors file that records what it was made for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from rlmba.errors import CheckpointError
from rlmba.method.state import CANDIDATE_FEATURES, STATE_FEATURES
from rlmba.reading.arrays import read_tensors
from rlmba.reading.structured import parse_json
from rlmba.storage import atomic_write_bytes

__all__ = ["FORMAT", "PolicyFile", "read_policy", "write_policy"]

FORMAT = 1

_MAKE = "give a policy.safetensors written by `rlmba train-policy` or by a run with a policy"
_RESTORE = "restore the file or train it again"
_KEYS = ("strategy", "options", "facts", "state_features", "candidate_features", "sha256")


@dataclass(frozen=True)
class _Options:
    """Options that belong to a policy."""

    hidden: int
    sharpness: float


@dataclass(frozen=True, eq=False)
class PolicyFile:
    """The content of a policy file.

    Attributes
    ----------
    strategy : str
        The strategy it draws for.
    options : mapping
        The options that belong to the policy: ``hidden``, ``sharpness``.
    facts : mapping
        How it was trained, for information; JSON can hold it.
    arrays : mapping of name to array
        The network's weights and the statistics that standardize the state.
    """

    strategy: str
    options: Mapping[str, Any]
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def write_policy(path: str | os.PathLike[str], policy: PolicyFile) -> None:
    """Write a policy, completely or not at all.

    Raises
    ------
    StorageError
        If it cannot be written; an existing file is unchanged.
    """
    arrays = {name: np.ascontiguousarray(a) for name, a in policy.arrays.items()}
    metadata = {
        "rlmba_policy": str(FORMAT),
        "strategy": policy.strategy,
        "options": json.dumps(dict(policy.options)),
        "state_features": json.dumps(STATE_FEATURES),
        "candidate_features": json.dumps(CANDIDATE_FEATURES),
        "facts": json.dumps(dict(policy.facts)),
    }
    metadata["sha256"] = _digest(metadata, arrays)
    atomic_write_bytes(path, save(arrays, metadata=metadata))


def read_policy(path: str | os.PathLike[str], *, strategy: str) -> PolicyFile:
    """Read a policy for a strategy.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not a policy, of another format, made for another strategy,
        or by a version with other features of states or candidates.
    """
    path = Path(path)
    metadata, arrays = read_tensors(
        path, "np", what="a policy", advice=_MAKE, error=CheckpointError
    )
    if "rlmba_policy" not in metadata:
        raise CheckpointError(
            f"{path}: expected a policy, got a safetensors file of something else; {_MAKE}"
        )
    if metadata["rlmba_policy"] != str(FORMAT):
        raise CheckpointError(
            f"{path}: policy format {metadata['rlmba_policy']}, this version reads {FORMAT}; train it again"
        )
    if lacking := [key for key in _KEYS if key not in metadata]:
        raise CheckpointError(
            f"{path}: the policy is damaged (it does not state its {lacking[0]}); train it again"
        )

    def parsed(key: str, type_: Any) -> Any:
        place = f"{path}: the policy's {key}"
        return parse_json(
            metadata[key], type_, place, advice=_RESTORE, error=CheckpointError, finite=False
        )

    options = parsed("options", _Options)
    # A manipulated number could request a network that exceeds the memory.
    if not 0 < options.hidden <= sum(a.size for a in arrays.values()):
        raise CheckpointError(
            f"{path}: the policy is damaged (hidden is {options.hidden}, which its weights are not); "
            f"{_RESTORE}"
        )
    policy = PolicyFile(
        metadata["strategy"],
        asdict(options),
        parsed("facts", dict[str, Any]),
        arrays,
    )
    described = {k: parsed(k, list[str]) for k in ("state_features", "candidate_features")}
    digest = metadata.pop("sha256")
    if digest != _digest(metadata, arrays):
        raise CheckpointError(f"{path}: the policy is damaged (checksums differ); {_RESTORE}")
    if policy.strategy != strategy:
        raise CheckpointError(
            f"{path}: expected a policy for strategy {strategy!r}, got one for {policy.strategy!r}, whose "
            f"candidates are others; use --strategy {policy.strategy} or train one for {strategy!r}"
        )
    for key, ours in (
        ("state_features", STATE_FEATURES),
        ("candidate_features", CANDIDATE_FEATURES),
    ):
        if described[key] != list(ours):
            raise CheckpointError(
                f"{path}: the policy reads {key} {described[key]}, this version makes {list(ours)}; "
                "train it again, or use the version that trained it"
            )
    return policy


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"{name} {a.dtype} {a.shape} ".encode())
        digest.update(a.tobytes())
    return digest.hexdigest()
