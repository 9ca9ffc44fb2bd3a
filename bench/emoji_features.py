"""Features of the emoji pool by pretrained encoders, as a data set that the other studies read.

    python -m bench.emoji_features package emoji.npz

The samples are those of :mod:`bench.study_first_labels`, which says how to get ``package``: 1,906
pictures by EfficientNet-Lite0, their names by MiniLM, nine categories, 30 % of them for testing.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from bench.study_first_labels import write_pool
from rlmba.learner import configure, write_features

ENCODERS = "{image: {name: efficientnet-lite0}, text: {name: all-minilm-l6-v2}}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pool(given.package.resolve(), folder, 0)
        with (folder / "truth.csv").open(newline="", encoding="utf-8") as f:
            truth = dict(csv.reader(f))
        with (folder / "pool.csv").open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        with (folder / "labeled.csv").open("w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(row | {"label": truth[row["id"]]} for row in rows)
        settings = [f"model.encoders={ENCODERS}", "model.frozen=true", "device=cpu"]
        config = configure(
            {"dataset": "manifest", "data": folder / "labeled.csv"}, settings=settings
        )
        write_features(config, given.out)


if __name__ == "__main__":
    main()
