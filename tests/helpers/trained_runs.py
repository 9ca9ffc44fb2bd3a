"""A small run on arrays of two modalities, and new samples for its network."""

from __future__ import annotations

import numpy as np

from rlmba.config import RunConfig
from rlmba.learner import run

CLASSES = ["low", "mid", "high"]


def arrays(n, seed, *, lacking=0.2):
    """Arrays with three classes and two modalities, of which some samples lack one."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    present = rng.random((n, 2)) >= lacking
    present[~present.any(axis=1)] = True
    return {
        "sound": 7 + 3 * (np.eye(3)[y] * 2 + rng.normal(size=(n, 3))),
        "motion": rng.normal(size=(n, 5, 4)).astype(np.float32) + y[:, None, None],
        "y": y,
        "present": present,
    }


def small_run(root, **settings):
    """Train a run with one round after the first; return its folder."""
    split = (np.arange(120) >= 90).astype(int)
    np.savez(root / "made.npz", **arrays(120, 3), split=split, classes=np.array(CLASSES))
    config = {
        "dataset": "features",
        "data": root / "made.npz",
        "rounds": 1,
        "initial_labels": 12,
        "batch_size": 12,
        "epochs": 3,
        "model": {"width": 12},
        "predictor": "pooled",
        "device": "cpu",
        **settings,
    }
    return run(RunConfig.model_validate(config), root / "run").path


def new_samples(path, n=50, *, lacking=0.2, seed=8):
    """Write new samples without labels; their ids are new, and some samples lack a modality."""
    given = arrays(n, seed, lacking=lacking)
    ids = np.array([f"new {i}, \u00e9 {seed}" for i in range(n)])
    present = {} if lacking == 0 else {"present": given["present"]}
    np.savez(path, sound=given["sound"], motion=given["motion"], ids=ids, **present)
    return path


def shards(pool):
    """Content of the shards of a pool by name."""
    return {p.name: p.read_bytes() for p in sorted(pool.glob("part-*.parquet"))}
