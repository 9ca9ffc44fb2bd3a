"""transformers networks for waveforms: wav2vec2, HuBERT, WavLM, AST, CLAP's audio tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.data.manifest.options import set_option
from rlmba.errors import UsageError
from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint, blueprint_in_use
from rlmba.models.registry import register_family
from rlmba.models.sound_inputs import AstInput, ClapInput, SampleInput, sound_input
from rlmba.models.transformers_build import (
    build_network,
    checkpointed,
    class_of,
    config_of,
    configuration,
    local_files,
    read_config,
)
from rlmba.models.weights import RANDOM, Request, as_path, from_hub

__all__ = ["TransformersWaveform"]

_SETTINGS = ("preprocessor_config.json", "processor_config.json")


@register_family("transformers", kinds=["waveform"])
class TransformersWaveform(Backbone):
    """A transformers network, by hub name or local folder.

    Parameters
    ----------
    modality : Modality
        Of kind "waveform", with the network's sample rate: 48,000 samples per second for CLAP, otherwise
        16,000, unless its feature extractor's settings name another one.
    name : str
        A hub name or a local folder. The features are the mean of the last hidden state over time for
        wav2vec2, HuBERT, WavLM and other networks that take the samples themselves; the pooled state
        of an Audio Spectrogram Transformer; and for CLAP, the features of its audio tower after the
        projection into the common space, not scaled to unit length.
    weights : str or None
        Another folder or hub name, a file with a state dict, or "random". None uses those of
        ``name``.
    frozen : bool
        See :class:`~rlmba.models.backbone.Backbone`.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.

    Notes
    -----
    Waveforms are standardized or become mel spectrograms as the folder's feature extractor says
    (``preprocessor_config.json``). A spectrogram has the fixed length that the network was trained with:
    of longer waveforms, the first part is used.
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
        request = Request(encoder, modality.name, str(weights or name), "a hub name")
        blueprint = blueprint_in_use()
        if blueprint is None:
            config, self.settings = _described(request, name)
        else:
            # Checkpoints of earlier versions have this entry instead.
            earlier = {"do_normalize": blueprint.get("standardized", True)}
            config = config_of(request, blueprint)
            self.settings = dict(blueprint.get("extractor", earlier))
        self.input = sound_input(config, self.settings, encoder)
        if modality.sample_rate not in (None, self.input.rate):
            rate = f"{self.input.rate:g}"
            raise UsageError(
                f"encoder {encoder!r}: expected modality {modality.name!r} to have {rate} samples per "
                f"second, got {modality.sample_rate:g}; set its sample rate to {rate}, for a table with "
                f"{set_option('sample_rate', rate)}"
            )
        built = build_network(request, lambda: config, pooler=False)
        self.network = built.network
        if isinstance(self.input, ClapInput):
            self.drop_unused(self.network, encoder)
        else:
            # Masks of SpecAugment are drawn from NumPy's global generator, which nothing here seeds.
            self.network.config.apply_spec_augment = False
        self.finish(encoder, built.fresh)
        checkpointed(self.network, encoder, gradient_checkpointing)

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, weights: str | None = None, **options: Any
    ) -> tuple[Path, ...] | None:
        """See :meth:`rlmba.models.Encoder.weight_files`; known for folders and cached hub names."""
        del modality, options
        return local_files(member[0], weights)

    @classmethod
    def expected_rate(
        cls, *member: str, weights: str | None = None, **options: Any
    ) -> float | None:
        """See :meth:`rlmba.models.Encoder.expected_rate`; reads the settings, but no weights."""
        del options
        name = member[0]
        encoder = f"transformers:{name}"
        request = Request(encoder, "audio", str(weights or name), "a hub name")
        config, settings = _described(request, name)
        return sound_input(config, settings, encoder).rate

    def blueprint(self) -> Blueprint:
        """See :meth:`rlmba.models.Encoder.blueprint`."""
        return {
            **super().blueprint(),
            **configuration(self.network),
            "extractor": self.settings,
        }

    def features(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, out_features]."""
        x = self.input(x)
        out: Tensor
        if isinstance(self.input, SampleInput):
            out = self.network(x).last_hidden_state.mean(dim=1)
        elif isinstance(self.input, AstInput):
            out = self.network(x).pooler_output
        else:
            # The extractor marks one short sound of a batch at random as long, to train the fusion.
            longer = torch.zeros(x.shape[0], 1, dtype=torch.bool, device=x.device)
            pooled = self.network.audio_model(x, is_longer=longer).pooler_output
            out = self.network.audio_projection(pooled)
        return out


def _described(request: Request, name: str) -> tuple[Any, dict[str, Any]]:
    """Read a network's configuration and the settings of its feature extractor, before its weights.

    Raises
    ------
    UsageError
        If they are unavailable, or the network does not take sounds.
    """
    path = None if request.weights == RANDOM else as_path(request.weights)
    if request.weights == RANDOM or (path is not None and path.is_file()):
        request = request._replace(weights=name, what="configuration")
    config = read_config(request)
    network, _ = class_of(config, request, pooler=False)
    if config.model_type != "clap" and network.main_input_name != "input_values":
        raise UsageError(
            f"encoder {request.encoder!r} of {request.modality!r}: {network.__name__} does not take "
            "waveforms; use a network such as wav2vec2, HuBERT, WavLM, AST or CLAP"
        )
    return config, _settings(request)


def _settings(source: Request) -> dict[str, Any]:
    """Read the settings of a feature extractor; none for a folder without them."""
    from transformers import FeatureExtractionMixin

    path = as_path(source.weights)
    if path is not None and not any((path / file).is_file() for file in _SETTINGS):
        return {}
    found, _ = from_hub(FeatureExtractionMixin.get_feature_extractor_dict, source)
    return dict(found)
