"""Small projects on made manifests, and somebody who fills in their label files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlmba.learner import configure
from rlmba.project.answers import CollectedLabels, collect
from rlmba.project.folder import open_project
from rlmba.project.query import Query, ask
from rlmba.project.starting import overrides, start

NAMES = ("cat", "dog", "owl")
QUICK = (
    "epochs=2",
    "training.min_steps=60",
    "training.learning_rate=1e-2",
    "model.width=16",
    "device=cpu",
    "batch_size=6",
    "initial_labels=9",
    "project.validation_labels=12",
)


def rows_of(
    n: int = 120, *, seed: int = 0, start: int = 0
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of two modalities of features that tell three classes apart, and the truth by id."""
    rng = np.random.default_rng(seed)
    y = rng.integers(len(NAMES), size=n)
    rows, truth = [], {}
    for i, c in enumerate(y):
        id_ = f"s/{start + i:03d}"
        a = rng.normal(size=4) + 2.5 * np.eye(len(NAMES), 4)[c]
        b = rng.normal(size=3) + 1.5 * np.eye(len(NAMES), 3)[c]
        rows.append({"id": id_, "a": a.round(4).tolist(), "b": b.round(4).tolist()})
        truth[id_] = NAMES[c]
    return rows, truth


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def made(
    folder: Path, manifest: Path, *settings: str, classes=NAMES, annotator="file", **more: Any
) -> Path:
    """A new project; its folder."""
    chosen = overrides(manifest=manifest, classes=classes, annotator=annotator, **more)
    start(folder, configure(chosen, settings=[*QUICK, *settings]))
    return folder


def asked(folder: Path) -> Query:
    with open_project(folder) as project:
        return ask(project)


def taken(folder: Path, **options: Any) -> CollectedLabels:
    with open_project(folder) as project:
        return collect(project, **options)


def fill(folder: Path, answers: Mapping[str, str], *, most: int | None = None) -> list[str]:
    """Fill in the label column of ``to_label.csv``; returns the ids answered."""
    path = folder / "to_label.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        fields, rows = list(reader.fieldnames or ()), list(reader)
    done = []
    for row in rows[:most]:
        row["label"] = answers[row["id"]]
        done.append(row["id"])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    return done


def round_of(folder: Path, answers: Mapping[str, str]) -> CollectedLabels:
    """A whole round: ask, fill in, take."""
    assert asked(folder).batch is not None
    fill(folder, answers)
    return taken(folder)
