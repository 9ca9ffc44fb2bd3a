"""A project on real pictures and texts from `rlmba init` to 300 labels, with and without pretrained encoders.

    npm pack emoji-datasource-twitter@16.0.0 && tar xzf emoji-datasource-twitter-16.0.0.tgz
    python -m bench.study_first_labels package [--labels 300] [--seeds 1] [--modes default,from-scratch]
        [--out bench/results/first_labels.json]

The pool is the 1,906 Twemoji pictures (CC BY 4.0) with their names and nine categories; 30 % of them are
the test set. A table of labels answers every batch. Each command runs in a process of its own; its CPU and
wall seconds include the imports. In the mode "random", batches are random; "fixed" has encoders without
weights, as on a machine that has no pretrained ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.common import write_results

MODES = {
    "default": [],
    "from-scratch": ["--from-scratch"],
    "random": ["--set", "strategy=random"],
    "fixed": [
        "--set",
        "model.encoders={image: {name: image-statistics}, text: {name: ngrams}}",
        "--set",
        "model.frozen=true",
    ],
    "from-scratch-random": ["--from-scratch", "--set", "strategy=random"],
}
TEST_SHARE = 0.3


def write_pool(package, folder, seed):
    """Write the manifest, whose test rows alone have labels, and the table with all labels."""
    entries = [
        e
        for e in json.loads((package / "emoji.json").read_text("utf-8"))
        if e["has_img_twitter"] and e["category"] != "Component"
    ]
    test = np.random.default_rng(seed).random(len(entries)) < TEST_SHARE
    rows, truth = [], []
    for entry, held_out in zip(entries, test, strict=True):
        image = package / "img" / "twitter" / "64" / entry["image"]
        split = "test" if held_out else "train"
        label = entry["category"]
        rows.append(
            (entry["unified"], image, entry["name"].lower(), split, label if held_out else "")
        )
        truth.append((entry["unified"], label))
    for path, header, content in (
        (folder / "pool.csv", ("id", "image", "text", "split", "label"), rows),
        (folder / "truth.csv", ("id", "label"), truth),
    ):
        with path.open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([header, *content])
    return len(rows), int(test.sum())


def timed(*command):
    """Run a command of rlmba; return its output and its wall and CPU seconds, imports included."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlmba", *map(str, command)], stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        raise SystemExit(f"rlmba {command[0]} failed:\n{text}")
    seconds = {
        "wall": round(time.perf_counter() - start, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
    }
    return text, seconds


def run_project(folder, options, labels, seed):
    """Run a project up to a number of labels; return its rounds and the seconds of each command."""
    project = folder / "project"
    said, seconds = timed(
        "init",
        project,
        "--manifest",
        folder / "pool.csv",
        "--annotator",
        "oracle",
        "--annotator-option",
        f"truth={folder / 'truth.csv'}",
        "--set",
        f"seed={seed}",
        *options,
    )
    print(said)
    commands = [("init", seconds)]
    rounds = []
    while not rounds or rounds[-1]["labels"] < labels:
        for name in ("next", "collect"):
            said, seconds = timed(name, project)
            commands.append((name, seconds))
        lines = (project / "rounds.jsonl").read_text("utf-8").splitlines()
        if len(lines) == len(rounds):
            raise SystemExit(f"no round was completed:\n{said}")
        rounds = [json.loads(line) for line in lines]
        print(said)
    _, seconds = timed(
        "predict", project, "--out", folder / "predictions.csv", "--manifest", folder / "pool.csv"
    )
    commands.append(("predict", seconds))
    return rounds, commands


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--modes", default="default,from-scratch")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for mode in given.modes.split(","):
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                samples, test = write_pool(given.package.resolve(), folder, seed)
                rounds, commands = run_project(folder, MODES[mode], given.labels, seed)
            curve = [
                {
                    "labels": r["labels"],
                    "top1": r["test"]["heads"]["mm"]["top1"],
                    "macro": r["test"]["heads"]["mm"]["top1_macro"],
                }
                for r in rounds
            ]
            found.append({"mode": mode, "seed": seed, "rounds": curve, "seconds": commands})
            print(mode, seed, *(f"{c['labels']}: {c['top1']:.3f}" for c in curve))
            if given.out:
                write_results(given.out, samples=samples, test=test, runs=found)


if __name__ == "__main__":
    main()
