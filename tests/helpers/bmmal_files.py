"""Run folders like those of BMMAL's code, made from random predictions."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml
from torchmetrics import CalibrationError, ClasswiseWrapper, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

CLASSES, SAMPLES = 4, 120
PREFIXES = {"food101": ("Text", "Image")}


def predictions(seed: int, round_: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [3, n, C] of the fused and the two other heads, and labels [n]; they improve every round."""
    rng = np.random.default_rng([seed, round_])
    y = rng.permutation(np.arange(SAMPLES) % CLASSES)
    logits = rng.normal(size=(3, SAMPLES, CLASSES)).astype(np.float32)
    logits[:, np.arange(SAMPLES), y] += np.array([[1.0], [0.8], [0.3]], np.float32) + 0.5 * round_
    return logits, y


def _collection(prefix: str) -> MetricCollection:
    c = CLASSES
    return MetricCollection(
        {
            "Top-1": MulticlassAccuracy(num_classes=c),
            "F1Score": MulticlassF1Score(num_classes=c),
            "Precision": MulticlassPrecision(num_classes=c),
            "Recall": MulticlassRecall(num_classes=c),
            "AUROC": MulticlassAUROC(num_classes=c),
            "ECE": CalibrationError(n_bins=32, norm="l1", task="multiclass", num_classes=c),
            "accuracy": ClasswiseWrapper(MulticlassAccuracy(num_classes=c, average=None)),
        },
        prefix=prefix,
    )


@cache
def row(seed: int, round_: int, heads: tuple[str, ...]) -> dict[str, float]:
    """Figures of a round by column, in BMMAL's order: heads, then contributions."""
    logits, y = predictions(seed, round_)
    out: dict[str, float] = {}
    for head, z in zip(heads, logits, strict=True):
        figures = _collection(f"{head}/")
        figures.update(torch.softmax(torch.from_numpy(z), dim=-1), torch.from_numpy(y))
        out |= {k: v.item() for k, v in figures.compute().items()}
    share = 0.6 - 0.01 * round_
    out |= {f"{heads[1]}/Contribution": share, f"{heads[2]}/Contribution": 1 - share}
    out |= {f"{heads[1]}/Delta": 0.3, f"{heads[2]}/Delta": 0.2}
    return out | {"query_time": 1e-3 if round_ == 0 else 10.0 + round_ + seed}


def write_bmmal(
    root: Path,
    *,
    dataset: str = "kinetics_sound",
    strategy: str = "bmmal",
    seed: int = 1000,
    rounds: int = 4,
    budget: int = 20,
    name: str | None = None,
    settings: bool = True,
    fuse: str = "concat",
) -> Path:
    """A folder with ``rounds`` rounds; round 0 is a copy of the random strategy's, as BMMAL's readme says."""
    folder = root / (name or f"{dataset}-{strategy}-{seed}")
    m1, m2 = PREFIXES.get(dataset, ("Video", "Audio"))
    rng = np.random.default_rng(seed)
    labeled: list[str] = []
    table: dict[str, dict[str, float]] = {}
    for k in range(rounds):
        version = folder / f"version_{k}"
        version.mkdir(parents=True)
        labeled += [f"id{i:06d}_000001_000011" for i in rng.permutation(10**4)[:budget] + k * 10**4]
        (version / "label.txt").write_text("".join(f"{i}\n" for i in sorted(labeled)))
        table[f"round {k}"] = row(seed, k, ("MM", m1, m2))
        with (version / "al_metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["", *table["round 0"]])
            writer.writerows([name, *values.values()] for name, values in table.items())
        (version / "metrics.csv").write_text("epoch,step\n0,9\n")
        if settings:
            config = {
                "dataset_name": dataset,
                "model_name": "avmodel",
                "manual_seed": seed,
                "query_strategy": "random" if k == 0 else strategy,
                "query_budget": budget,
                "m1": m1,
                "m2": m2,
                "model_params": {"class_num": CLASSES, "fuse": fuse},
            }
            (version / "hparams.yaml").write_text(yaml.safe_dump(config))
    (folder / "task_model.ckpt").write_bytes(b"weights")
    return folder
