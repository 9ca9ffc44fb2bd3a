"""Encoders, fusion and heads."""

from __future__ import annotations

from rlmba.models.classifier import (
    Fusion,
    ModelOutput,
    MultimodalClassifier,
    build_classifier,
    fuse,
)
from rlmba.models.cnn import Cnn
from rlmba.models.mlp import Mlp
from rlmba.models.randomness import seeded
from rlmba.models.registry import Encoder, build_encoder, encoder_names, register_encoder
from rlmba.models.sequence import SequenceCnn
from rlmba.models.spectrogram import SpectrogramCnn
from rlmba.models.text import TextTransformer

__all__ = [
    "Cnn",
    "Encoder",
    "Fusion",
    "Mlp",
    "ModelOutput",
    "MultimodalClassifier",
    "SequenceCnn",
    "SpectrogramCnn",
    "TextTransformer",
    "build_classifier",
    "build_encoder",
    "encoder_names",
    "fuse",
    "register_encoder",
    "seeded",
]
