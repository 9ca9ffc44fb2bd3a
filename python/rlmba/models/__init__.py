"""Encoders, fusion and heads."""

from __future__ import annotations

from rlmba.models.backbone import Backbone
from rlmba.models.blueprint import Blueprint
from rlmba.models.classifier import (
    Fusion,
    ModelOutput,
    MultimodalClassifier,
    build_classifier,
)
from rlmba.models.cnn import Cnn
from rlmba.models.fixed import ImageStatistics, NGrams, SoundStatistics
from rlmba.models.fusion import fuse
from rlmba.models.mlp import Mlp
from rlmba.models.onnx_nets import OnnxFile
from rlmba.models.open_clip_nets import OpenClipImage, OpenClipText
from rlmba.models.packaged_text import AllMiniLM, WordLlama
from rlmba.models.randomness import seeded
from rlmba.models.registry import (
    Encoder,
    EncoderDescription,
    build_encoder,
    describe_encoder,
    encoder_names,
    register_encoder,
    register_family,
)
from rlmba.models.sentence_transformers_nets import SentenceTransformersText
from rlmba.models.sequence import SequenceCnn
from rlmba.models.soundnet import SoundNet
from rlmba.models.spectrogram import SpectrogramCnn
from rlmba.models.standardized import Standardized
from rlmba.models.text import TextTransformer
from rlmba.models.timm_nets import EfficientNetLite0, TimmNetwork
from rlmba.models.torchvision_nets import AudioResNet18, R2Plus1D18, ResNet101, TorchvisionNetwork
from rlmba.models.transformers_audio import TransformersWaveform
from rlmba.models.transformers_nets import BertBase, TransformersImage, TransformersText
from rlmba.models.two_tower import ImageTower, TextTower

__all__ = [
    "AllMiniLM",
    "AudioResNet18",
    "Backbone",
    "BertBase",
    "Blueprint",
    "Cnn",
    "EfficientNetLite0",
    "Encoder",
    "EncoderDescription",
    "Fusion",
    "ImageStatistics",
    "ImageTower",
    "Mlp",
    "ModelOutput",
    "MultimodalClassifier",
    "NGrams",
    "OnnxFile",
    "OpenClipImage",
    "OpenClipText",
    "R2Plus1D18",
    "ResNet101",
    "SentenceTransformersText",
    "SequenceCnn",
    "SoundNet",
    "SoundStatistics",
    "SpectrogramCnn",
    "Standardized",
    "TextTower",
    "TextTransformer",
    "TimmNetwork",
    "TorchvisionNetwork",
    "TransformersImage",
    "TransformersText",
    "TransformersWaveform",
    "WordLlama",
    "build_classifier",
    "build_encoder",
    "describe_encoder",
    "encoder_names",
    "fuse",
    "register_encoder",
    "register_family",
    "seeded",
]
