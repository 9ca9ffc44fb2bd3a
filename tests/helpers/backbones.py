"""Encoders that wrap networks of other libraries: modalities, inputs, gradients."""

from __future__ import annotations

import torch

from rlmba.data import Modality
from rlmba.models import build_encoder, seeded

IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
IMAGE = Modality("photo", "image", (3, 64, 64), **IMAGENET)
SMALL = Modality("photo", "image", (3, 32, 32), **IMAGENET)
VIDEO = Modality("clip", "video", (3, 4, 32, 32))
SOUND = Modality("sound", "spectrogram", (1, 65, 64))
WORDS = Modality("words", "tokens", (12,), "int64", vocabulary=99, padding=-1)
TINY = {"weights": "random", "layers": 2, "width": 32, "heads": 2}


def make(name, modality, seed=0, **options):
    """An encoder whose random weights come from a seed."""
    with seeded(seed):
        return build_encoder(name, modality, options)


def sample(modality, n=2, seed=1):
    """A minibatch of a modality, [n, *shape]."""
    generator = torch.Generator().manual_seed(seed)
    if modality.kind == "tokens":
        return torch.randint(2, 90, (n, *modality.shape), generator=generator)
    return torch.randn((n, *modality.shape), generator=generator)


def trained(encoder):
    """Names of the parameters that are not frozen."""
    return {n for n, p in encoder.named_parameters() if p.requires_grad}


def with_gradient(encoder, x):
    """Parameters with a gradient after a backward pass; the deepest gradient must not be zero."""
    with seeded(0):
        encoder(x).square().sum().backward()
    kernel = next(p for p in encoder.parameters() if p.requires_grad and p.ndim > 1 and len(p) > 1)
    assert kernel.grad.any()
    return {n for n, p in encoder.named_parameters() if p.grad is not None}


def texts(lengths, extra=0, seed=1):
    """Texts of given lengths, ending in token 98, padded with -1."""
    x = torch.full((len(lengths), max(lengths) + extra), -1)
    generator = torch.Generator().manual_seed(seed)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randint(2, 90, (length,), generator=generator)
        row[length - 1] = 98
    return x


def colored(seed=0):
    """A ResNet-18 as torchvision builds it, for images of three channels."""
    from torchvision.models import resnet18

    with seeded(seed):
        return resnet18()
