"""Data sets, and the pool of their samples."""

from __future__ import annotations

from rlmba.data.base import KINDS, Batch, Kind, Modality, MultimodalDataset
from rlmba.data.digits import load_digits
from rlmba.data.features import load_features
from rlmba.data.manifest.huggingface import load_huggingface
from rlmba.data.manifest.load import load_manifest
from rlmba.data.media.loaders import load_food101, load_kineticssound, load_vggsound
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
    "load_food101",
    "load_huggingface",
    "load_kineticssound",
    "load_manifest",
    "load_vggsound",
    "names",
    "register",
]

register("digits", load_digits, source="none")
register("features", load_features, source="file")
register("food101", load_food101, source="folder")
register("huggingface", load_huggingface, source="folder or name")
register("kineticssound", load_kineticssound, source="folder")
register("manifest", load_manifest, source="file")
register("vggsound", load_vggsound, source="folder")
