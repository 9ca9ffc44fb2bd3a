"""The frozen encoders of a run, which are built only if their weights are needed."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache, cached_property
from importlib import metadata
from typing import Any, NamedTuple, cast

import rlmba
from rlmba.config import ModelConfig, RunConfig
from rlmba.data import MultimodalDataset
from rlmba.database import Database
from rlmba.errors import StorageError
from rlmba.learner.randomness import model_seed
from rlmba.models import Blueprint, Encoder, build_classifier
from rlmba.models.registry import weight_files_of
from rlmba.storage import cache_folder
from rlmba.training import ProcessGroup, encoder_identity

__all__ = ["EncoderFacts", "FrozenEncoders", "chosen_encoder"]

_COLUMNS = "key TEXT PRIMARY KEY, facts TEXT NOT NULL"


class EncoderFacts(NamedTuple):
    """What is known of an encoder without building it.

    Parameters
    ----------
    identity : str
        :func:`rlmba.training.encoder_identity`.
    width : int
        Number of its features.
    blueprint : mapping
        :meth:`rlmba.models.Encoder.blueprint`.
    """

    identity: str
    width: int
    blueprint: Blueprint


class FrozenEncoders:
    """The encoders of a configuration for a data set.

    Facts about encoders whose files of weights are known are remembered in the user's cache folder, by
    name, options, modality, and the files' sizes and times of change.

    Parameters
    ----------
    config : RunConfig
    dataset : MultimodalDataset
    group : ProcessGroup
    """

    def __init__(self, config: RunConfig, dataset: MultimodalDataset, group: ProcessGroup) -> None:
        self._config = config
        self._dataset = dataset
        self._group = group
        self._built: dict[str, Encoder] = {}

    def built(self) -> dict[str, Encoder]:
        """The encoders by modality."""
        if not self._built:
            # Heads are not used, and a project may have no classes yet.
            classes = max(2, len(self._dataset.classes))
            config = self._config
            model = build_classifier(
                self._dataset.modalities,
                classes,
                config.model,
                config.fusion,
                seed=model_seed(config.seed),
            )
            self._group.place(model)
            encoders = (cast("Encoder", encoder) for encoder in model.encoders)
            self._built = dict(zip(model.names, encoders, strict=True))
        return self._built

    @property
    def blueprints(self) -> dict[str, Blueprint]:
        """Blueprints of the encoders by modality."""
        return {m: facts.blueprint for m, facts in self.facts.items()}

    @cached_property
    def facts(self) -> dict[str, EncoderFacts]:
        """Facts by modality, from memory if all are known."""
        keys = {m.name: self._key(m) for m in self._dataset.modalities}
        memo = Database(cache_folder() / "encoders.sqlite", _COLUMNS)
        known: dict[str, Any] = {}
        if all(keys.values()):
            with suppress(StorageError):  # the encoders are built instead
                known = dict(memo.read("key, facts", list(keys.values())))
        if known and all(key in known for key in keys.values()):
            return {m: EncoderFacts(**json.loads(known[str(key)])) for m, key in keys.items()}
        found = {
            m: EncoderFacts(encoder_identity(e, self._chosen(m)[1]), e.out_features, e.blueprint())
            for m, e in self.built().items()
        }
        with suppress(StorageError):
            memo.add((key, json.dumps(found[m]._asdict())) for m, key in keys.items() if key)
        return found

    def _chosen(self, modality: str) -> tuple[str, dict[str, Any]]:
        return chosen_encoder(self._config.model, modality)

    def _key(self, modality: Any) -> str:
        """What decides an encoder's features; "" if not all of it is known."""
        name, options = self._chosen(modality.name)
        files = weight_files_of(name, modality, options)
        if files is None:
            return ""
        try:
            stats = [(str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
        except OSError:
            return ""
        known = [rlmba.__version__, _versions(), name, options, str(modality), stats]
        return json.dumps(known, default=str)


def chosen_encoder(config: ModelConfig, modality: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a modality's encoder."""
    chosen = config.encoders.get(modality)
    return ("auto", {}) if chosen is None else (chosen.name, dict(chosen.options))


@cache
def _versions() -> list[str]:
    """Versions of the libraries that build encoders; another version may compute other features."""
    found = []
    for name in ("torch", "torchvision", "timm", "transformers", "open_clip_torch", "onnxruntime"):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found
