"""transformers networks for waveforms: wav2vec2, HuBERT, WavLM and others with their inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import register_family
from rlmba.models.transformers_build import (
    build_network,
    checkpointed,
    configuration,
    local_files,
    read_config,
)
from rlmba.models.weights import Request, as_path, from_hub

__all__ = ["TransformersWaveform"]

_RATE = 16_000.0

# Added to the variance by the feature extractor of these networks.
_EPSILON = 1e-7


@register_family("transformers", kinds=["waveform"])
class TransformersWaveform(Backbone):
    """A transformers network, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "waveform", with 16,000 samples per second.
    name : str
        A hub name or a local folder of wav2vec2, HuBERT, WavLM or another network that takes the
        samples themselves. Its features are the mean of its last hidden state over time.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random". None uses those of
        ``name``.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.

    Notes
    -----
    Each waveform is standardized to mean 0 and variance 1, unless the folder's feature extractor
    says that it is not.
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
        encoder = f"transformers:{name}"
        if modality.sample_rate not in (None, _RATE):
            raise UsageError(
                f"encoder {encoder!r}: expected modality {modality.name!r} to have {_RATE:g} samples "
                f"per second, got {modality.sample_rate:g}; set its sample rate to {_RATE:g}"
            )
        request = Request(encoder, modality.name, str(weights or name), "a hub name")
        of_config = request._replace(weights=name, what="configuration")
        built = build_network(request, lambda: read_config(of_config), pooler=False)
        network = built.network
        if network.config.model_type in ("audio-spectrogram-transformer", "clap") or (
            network.main_input_name != "input_values"
        ):
            raise UsageError(
                f"encoder {encoder!r} of {modality.name!r}: {type(network).__name__} does not take "
                "waveforms; use a network such as wav2vec2, HuBERT or WavLM"
            )
        # Masks of SpecAugment are drawn from NumPy's global generator, which nothing here seeds.
        network.config.apply_spec_augment = False
        self.network = network
        blueprint = blueprint_in_use()
        if blueprint is not None:
            self.standardized = bool(blueprint["standardized"])
        else:
            self.standardized = built.source is None or _standardized(built.source)
        self.finish(encoder, built.fresh)
        checkpointed(network, encoder, gradient_checkpointing)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for folders and cached hub names."""
        del modality, options
        return local_files(member[0], weights)

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {
            **super().blueprint(),
            **configuration(self.network),
            "standardized": self.standardized,
        }

    def features(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, out_features]."""
        if self.standardized:
            variance = x.var(dim=1, keepdim=True, unbiased=False)
            x = (x - x.mean(dim=1, keepdim=True)) / torch.sqrt(variance + _EPSILON)
        states: Tensor = self.network(x).last_hidden_state
        return states.mean(dim=1)


def _standardized(source: Request) -> bool:
    """Whether the feature extractor of the weights standardizes each waveform."""
    from transformers import FeatureExtractionMixin

    path = as_path(source.weights)
    if path is not None and not (path / "preprocessor_config.json").is_file():
        return True
    found, _ = from_hub(FeatureExtractionMixin.get_feature_extractor_dict, source)
    return bool(found.get("do_normalize", True))
