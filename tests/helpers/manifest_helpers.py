"""Helpers for the tests of manifests: a table with every kind of column."""

from __future__ import annotations

import json
import warnings

import numpy as np

from rlmba.data import load_manifest
from rlmba.errors import RlmbaWarning
from rlmba.tables import write_table

N = 12
SMALL = {"image_side": 32, "sample_rate": 4000, "tokens": 8}


def columns(**changes):
    """A table with every kind of column."""
    base = {
        "id": [f"s/{i}" for i in range(N)],
        "Image_Path": [f"{i}.jpg" for i in range(N)],
        "caption": [f"<b>sample</b> number {i}" for i in range(N)],
        "wav": [f"wav/{i}.wav" for i in range(N)],
        "age": [1.5 * i for i in range(N)],
        "weight": [None if i == 3 else float(i % 4) for i in range(N)],
        "emb": [[float(i), -1.0, i * i] for i in range(N)],
        "label": ["cat" if i % 2 else "dog" for i in range(N)],
        "split": ["test" if i >= 9 else "" for i in range(N)],
    }
    return {k: v for k, v in {**base, **changes}.items() if v is not None}


def written(folder, name="m.jsonl", **changes):
    table = columns(**changes)
    path = folder / name
    if path.suffix == ".csv":
        table = {
            k: [json.dumps(x) if isinstance(x, list) else x for x in v] for k, v in table.items()
        }
    write_table(path, table)
    return path


def quiet(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RlmbaWarning)
        return load_manifest(path, **{**SMALL, **options})


def values(dataset, positions=None):
    at = np.arange(len(dataset)) if positions is None else np.asarray(positions)
    return dataset.batch(at, train=False, generator=None)
