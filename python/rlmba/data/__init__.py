"""Data sets and the pool of samples they give."""

from __future__ import annotations

from rlmba.data.base import KINDS, Batch, Kind, Modality, MultimodalDataset
from rlmba.data.digits import load_digits
from rlmba.data.features import load_features
from rlmba.data.memory import InMemoryDataset
from rlmba.data.pool import Pool
from rlmba.data.registry import load_dataset, names, register

__all__ = [
    "KINDS",
    "Batch",
    "InMemoryDataset",
    "Kind",
    "Modality",
    "MultimodalDataset",
    "Pool",
    "load_dataset",
    "load_digits",
    "load_features",
    "names",
    "register",
]

register("digits", load_digits, source="none")
register("features", load_features, source="file")
