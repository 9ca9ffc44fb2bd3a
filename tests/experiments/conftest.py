from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlmba.config import dump_config, load_config
from rlmba.types import Evaluation, HeadMetrics, RoundRecord, TrainingDiagnostics

GRID = (20, 40, 60, 80)


def evaluation(top1: dict[str, float]) -> Evaluation:
    heads = {h: HeadMetrics(top1=v, top1_macro=v - 0.01, nll=1.0, ece=0.1) for h, v in top1.items()}
    return Evaluation(heads=heads, size=100, majority=0.25)


def record(round_: int, labels: int, top1: dict[str, float], *, test: bool = True) -> RoundRecord:
    modalities = [h for h in top1 if h != "mm"]
    share = 1 / len(modalities)
    tilt = {m: share + 0.02 * round_ * (-1) ** i for i, m in enumerate(modalities)}
    return RoundRecord(
        round=round_,
        labels=labels,
        selected=0 if round_ == 0 else 20,
        validation=evaluation({h: v - 0.05 for h, v in top1.items()}),
        test=evaluation(top1) if test else None,
        weights=tilt,
        fusion_weights=dict.fromkeys(modalities, share),
        delta=dict.fromkeys(modalities, -0.1),
        contributions=tilt,
        temperatures=dict.fromkeys(modalities, 1.0),
        training=TrainingDiagnostics(),
        seconds={
            "predict": 0.5,
            "select": 0.25 * round_,
            "train": 2.0,
            "validate": 0.1,
            "policy": 0,
        },
    )


def top1_of(head: int, t: int, seed: int, level: float) -> float:
    """The Top-1 that ``write_run`` gives head number ``head`` (0: mm) in round t."""
    return level + 0.1 * t + 0.02 * seed - 0.15 * head + 0.01 * float(np.sin(seed + t))


@pytest.fixture
def write_run(tmp_path):
    """Write a run folder like `rlmba run`, with figures that are known in closed form."""

    def write(
        name: str,
        *settings: str,
        seed: int = 0,
        grid: tuple[int, ...] = GRID,
        level: float = 0.5,
        heads: tuple[str, ...] = ("mm", "image", "audio"),
        test: bool = True,
        tail: str = "",
        **overrides: object,
    ) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = load_config(overrides={"seed": seed, **overrides}, settings=settings)
        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "run.json").write_text(json.dumps({"format": 1, "rlmba": "test", "seed": seed}))
        lines = []
        for t, labels in enumerate(grid):
            top1 = {head: top1_of(i, t, seed, level) for i, head in enumerate(heads)}
            lines.append(json.dumps(record(t, labels, top1, test=test).to_dict()) + "\n")
        (folder / "rounds.jsonl").write_text("".join(lines) + tail)
        return folder

    return write
