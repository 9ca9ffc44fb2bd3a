"""Helpers for the tests of layouts."""

from __future__ import annotations

import csv

SHORT = {"train": 2, "test": 1, "seconds": 0.3}
"""Options of makers of clips: nine short clips."""


def notes(catalogue, words):
    """The only note that contains these words."""
    (line,) = [n for n in catalogue.notes if words in n]
    return line


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def by_id(catalogue):
    return {s.id: s for s in catalogue.samples}


def vgg_list(root, *rows):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
